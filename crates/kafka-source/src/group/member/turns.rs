//! Rebalances, answered one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanout::Lane;
use metrics::{counter, gauge};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;

use super::Member;
use crate::group::config::GroupConfig;
use crate::group::context::{Rebalance, assign, unassign};
use crate::group::metrics::{ASSIGNED, OVERDUE, REBALANCES};
use crate::group::places::{Place, offset, resolve};
use crate::group::turn::{Debt, Leaving, Standing, Step};

/// How soon places are looked up again that could not be.
const RETRY: Duration = Duration::from_millis(500);
/// How long the name of the cluster may take, which came with the metadata.
const AT_ONCE: Duration = Duration::from_millis(10);

/// A rebalance that is under way.
pub(super) enum Turn {
    /// Places are looked up, not before this.
    Assigning(TopicPartitionList, Instant),
    GivingBack {
        partitions: TopicPartitionList,
        lanes: Vec<Arc<Lane>>,
        leaving: Leaving,
    },
}

impl Member {
    pub(super) fn take_turn(&mut self) -> Result<(), KafkaError> {
        let now = Instant::now();
        if self.turn.is_none() {
            self.turn = self.context().next_rebalance().map(|wanted| self.begin(wanted, now));
        }
        match self.turn.take() {
            None => Ok(()),
            Some(Turn::Assigning(partitions, at)) if now < at => {
                self.turn = Some(Turn::Assigning(partitions, at));
                Ok(())
            }
            Some(Turn::Assigning(partitions, _)) => self.assign(partitions),
            Some(Turn::GivingBack { partitions, lanes, leaving }) => {
                self.give_back(partitions, lanes, leaving, now)
            }
        }
    }

    fn begin(&mut self, wanted: Rebalance, now: Instant) -> Turn {
        let (kind, turn) = match wanted {
            Rebalance::Assign(partitions) => ("assigned", Turn::Assigning(partitions, now)),
            Rebalance::Revoke { partitions, lost } => {
                let lanes = self.lanes(&partitions);
                self.desk.lock().leave(&lanes);
                let GroupConfig { rebalance_timeout, source, .. } = &self.config;
                let leaving = Leaving::new(lost, now, *rebalance_timeout, source.request_timeout);
                let kind = if lost { "lost" } else { "revoked" };
                (kind, Turn::GivingBack { partitions, lanes, leaving })
            }
        };
        counter!(REBALANCES, "kind" => kind).increment(1);
        let leaving = matches!(turn, Turn::GivingBack { .. });
        (self.turn_at, self.leaving, self.refused) = (now, leaving, false);
        turn
    }

    fn lanes(&mut self, partitions: &TopicPartitionList) -> Vec<Arc<Lane>> {
        let elements = partitions.elements();
        let lanes = elements.iter().filter_map(|partition| {
            let reading =
                self.readings.get(partition.topic(), partition.partition().unsigned_abs());
            reading.map(|reading| reading.lane.clone())
        });
        lanes.collect()
    }

    fn assign(&mut self, partitions: TopicPartitionList) -> Result<(), KafkaError> {
        let (timeout, start) = (self.config.source.request_timeout, &self.config.source.start);
        let consumer = self.poll.consumer();
        let places = match resolve(consumer, &partitions, start, &self.common, timeout) {
            Ok(places) => places,
            Err(error) => {
                let problem =
                    format!("group `{}`: its places are not known: {error}", self.config.group);
                tracing::debug!("{problem}");
                self.common.lock().group = Some(problem);
                self.common.poke();
                self.turn = Some(Turn::Assigning(partitions, Instant::now() + RETRY));
                return Ok(());
            }
        };
        let log = self.log();
        let mut list = TopicPartitionList::with_capacity(places.len());
        for Place { topic, partition, from, .. } in &places {
            list.add_partition_offset(topic, *partition, offset(*from))?;
        }
        assign(self.poll.consumer(), &list)?;
        let mut desk = self.desk.lock();
        for Place { topic, partition, from, committed } in places {
            tracing::debug!(topic, partition, from, committed, "partition assigned");
            let lane = Arc::new(Lane::new(log.clone(), topic, partition.unsigned_abs()));
            self.readings.open(lane.clone(), from);
            desk.open(lane, from, committed);
        }
        drop(desk);
        if self.paused {
            self.poll.consumer().pause(&list)?;
        } else {
            // It may have been halted here before.
            self.poll.consumer().resume(&list)?;
        }
        self.count_assigned();
        if self.common.lock().group.take().is_some() {
            self.common.poke();
        }
        // Where it begins is committed before anything else can happen to it.
        self.commit();
        self.reporter.update(|health| health.caught_up = true);
        Ok(())
    }

    fn give_back(
        &mut self,
        partitions: TopicPartitionList,
        lanes: Vec<Arc<Lane>>,
        mut leaving: Leaving,
        now: Instant,
    ) -> Result<(), KafkaError> {
        self.hear_commit();
        // It may be lost meanwhile.
        leaving.lost |= self.poll.consumer().assignment_lost();
        let standing = {
            let desk = self.desk.lock();
            let debt = match () {
                () if self.refused => Debt::Refused,
                () if self.committing.is_some() => Debt::BeingPaid,
                () if desk.owes(&lanes) => Debt::Owed,
                () => Debt::None,
            };
            Standing { drained: desk.drained(&lanes), debt }
        };
        let step = leaving.step(now, standing);
        let Step::GiveBack { overdue } = step else {
            if step == Step::Commit {
                self.commit();
            }
            self.turn = Some(Turn::GivingBack { partitions, lanes, leaving });
            return Ok(());
        };
        if leaving.lost {
            tracing::warn!(group = self.config.group, count = lanes.len(), "partitions lost");
        } else if overdue {
            counter!(OVERDUE).increment(1);
            tracing::warn!(group = self.config.group, "given back before all of it was accepted");
        }
        if let Err(error) = unassign(self.poll.consumer(), &partitions) {
            tracing::warn!(%error, "partitions were not given back one by one");
            self.poll.consumer().unassign()?;
        }
        self.desk.close(&lanes);
        let mut state = self.common.lock();
        for lane in &lanes {
            self.readings.close(lane);
            state.halted.remove(&**lane);
        }
        drop(state);
        self.common.poke();
        self.count_assigned();
        Ok(())
    }

    fn count_assigned(&mut self) {
        gauge!(ASSIGNED).set(self.readings.iter().count() as f64);
    }

    /// What lanes are named by.
    fn log(&self) -> Arc<str> {
        let given = self.config.source.log_identity.as_deref();
        // It came with the metadata: this does not wait.
        let cluster = || self.poll.consumer().client().fetch_cluster_id(AT_ONCE);
        given.map(str::to_owned).or_else(cluster).unwrap_or_else(|| "kafka".into()).into()
    }
}
