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
use crate::group::places::{Place, Unknown, list, offset, resolve};
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
        let elements = partitions.elements();
        let names = elements.iter().map(|given| (given.topic(), given.partition()));
        let (places, unknown) = match resolve(consumer, names, start, &self.common, timeout) {
            Ok(resolved) => resolved,
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
        drop(elements);
        // The group is answered for all of them; those that are not known are not fetched, and
        // nothing that comes of them is taken, until they are opened.
        let mut list = TopicPartitionList::with_capacity(partitions.count());
        let mut late = TopicPartitionList::new();
        for Place { topic, partition, from, .. } in &places {
            list.add_partition_offset(topic, *partition, offset(*from))?;
        }
        for Unknown { topic, partition, .. } in &unknown {
            list.add_partition_offset(topic, *partition, offset(0))?;
            late.add_partition(topic, *partition);
        }
        assign(self.poll.consumer(), &list)?;
        if self.paused {
            self.poll.consumer().pause(&list)?;
        } else {
            // It may have been halted here before.
            self.poll.consumer().resume(&list)?;
            self.poll.consumer().pause(&late)?;
        }
        self.open(places);
        let mut state = self.common.lock();
        let told = state.group.take().is_some() || !unknown.is_empty();
        state.late.round += 1;
        state.late.partitions.extend(unknown.into_iter().map(|late| (late.topic, late.partition)));
        drop(state);
        if told {
            self.common.poke();
        }
        self.tell_caught_up();
        Ok(())
    }

    /// Begins partitions that are assigned.
    fn open(&mut self, places: Vec<Place>) {
        let log = self.log();
        let mut desk = self.desk.lock();
        for Place { topic, partition, from, committed } in places {
            tracing::debug!(topic, partition, from, committed, "partition assigned");
            let lane = Arc::new(Lane::new(log.clone(), topic, partition.unsigned_abs()));
            self.readings.open(lane.clone(), from);
            desk.open(lane, from, committed);
        }
        drop(desk);
        self.count_assigned();
        // Where it begins is committed before anything else can happen to it.
        self.commit();
    }

    /// Begins partitions of which it was not known where, once it is.
    pub(super) fn open_late(&mut self) -> Result<(), KafkaError> {
        if self.turn.is_some() {
            return Ok(());
        }
        let found = std::mem::take(&mut self.common.lock().late.found);
        if found.is_empty() {
            return Ok(());
        }
        let begun: Vec<_> =
            found.iter().map(|p| (p.topic.clone(), p.partition.unsigned_abs(), p.from)).collect();
        self.open(found);
        for (topic, partition, from) in begun {
            let Some(reading) = self.readings.get(&topic, partition) else { continue };
            let lane = reading.lane.clone();
            self.begin_again(&lane, from)?;
            if !self.paused {
                self.poll.consumer().resume(&list([(&*lane, from)])?)?;
            }
        }
        self.common.poke();
        self.tell_caught_up();
        Ok(())
    }

    fn tell_caught_up(&self) {
        let state = self.common.lock();
        if state.late.partitions.is_empty() && state.late.found.is_empty() {
            self.reporter.update(|health| health.caught_up = true);
        }
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
        let elements = partitions.elements();
        let stays = |topic: &str, id: i32| {
            !elements.iter().any(|gone| gone.topic() == topic && gone.partition() == id)
        };
        state.late.round += 1;
        state.late.partitions.retain(|(topic, id)| stays(topic, *id));
        state.late.found.retain(|place| stays(&place.topic, place.partition));
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
