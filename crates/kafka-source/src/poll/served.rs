//! Events that are for the context alone.

use std::ffi::c_int;
use std::ptr;
use std::slice;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as sys;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;

use super::Poll;
use super::event::{NativeEvent, text_of};

impl<C: ConsumerContext + 'static> Poll<C> {
    /// Tells the context.
    ///
    /// A token for OAUTHBEARER is not asked for here: librdkafka fetches it itself
    /// (`sasl.oauthbearer.method=oidc`).
    pub(super) fn serve(&self, event: &NativeEvent) {
        match event.number() {
            sys::RD_KAFKA_EVENT_LOG => self.log(event),
            sys::RD_KAFKA_EVENT_STATS => self.statistics(event),
            sys::RD_KAFKA_EVENT_REBALANCE => self.rebalance(event),
            sys::RD_KAFKA_EVENT_OFFSET_COMMIT => self.committed(event),
            number => tracing::debug!(number, "an event of librdkafka was passed over"),
        }
    }

    fn log(&self, event: &NativeEvent) {
        let (mut facility, mut line) = (ptr::null(), ptr::null());
        let mut level: c_int = 0;
        // SAFETY: the event is alive, and all three are written where it is a line of the log.
        #[expect(unsafe_code, reason = "the binding has no safe form")]
        let (code, facility, line) = unsafe {
            let code = sys::rd_kafka_event_log(
                event.as_ptr(),
                &raw mut facility,
                &raw mut line,
                &raw mut level,
            );
            (code, text_of(facility), text_of(line))
        };
        if code == 0 {
            let level = log_level(level);
            self.consumer().context().log(level, facility.trim(), line.trim());
        }
    }

    fn statistics(&self, event: &NativeEvent) {
        // SAFETY: the event is alive, and statistics: its text is, too.
        #[expect(unsafe_code, reason = "the binding has no safe form")]
        let json = unsafe { text_of(sys::rd_kafka_event_stats(event.as_ptr())) };
        self.consumer().context().stats_raw(json.as_bytes());
    }

    /// The context has to answer, by assigning or unassigning: the default does.
    fn rebalance(&self, event: &NativeEvent) {
        // SAFETY: the event is alive; events of any kind have a code.
        #[expect(unsafe_code, reason = "the binding has no safe form")]
        let code = unsafe { sys::rd_kafka_event_error(event.as_ptr()) };
        let mut partitions = partitions(event);
        self.consumer().context().rebalance(self.consumer(), code, &mut partitions);
    }

    fn committed(&self, event: &NativeEvent) {
        let result = event.error().map_or(Ok(()), |code| Err(KafkaError::ConsumerCommit(code)));
        self.consumer().context().commit_callback(result, &partitions(event));
    }
}

/// The partitions of an event, copied: rust-rdkafka's own list frees what it is made of.
#[expect(unsafe_code, reason = "the bindings have no safe form")]
fn partitions(event: &NativeEvent) -> TopicPartitionList {
    let copied = TopicPartitionList::new();
    // SAFETY: the event is alive, and so is its list, of so many elements; there may be none.
    let told = unsafe {
        let list = sys::rd_kafka_event_topic_partition_list(event.as_ptr());
        match list.as_ref() {
            Some(list) if !list.elems.is_null() => {
                slice::from_raw_parts(list.elems, usize::try_from(list.cnt).unwrap_or(0))
            }
            _ => &[],
        }
    };
    for place in told {
        // SAFETY: both lists are alive, and only the copy is written to. The name ends with a
        // zero and is copied. What comes back is the element that was added, never null, and
        // not used beyond the next addition.
        unsafe {
            let list = copied.ptr();
            let copy = sys::rd_kafka_topic_partition_list_add(list, place.topic, place.partition);
            let epoch = sys::rd_kafka_topic_partition_get_leader_epoch(place);
            (*copy).offset = place.offset;
            (*copy).err = place.err;
            sys::rd_kafka_topic_partition_set_leader_epoch(copy, epoch);
        }
    }
    copied
}

/// syslog's number of a level.
fn log_level(number: c_int) -> RDKafkaLogLevel {
    use RDKafkaLogLevel::{Alert, Critical, Debug, Emerg, Error, Info, Notice, Warning};
    match number {
        ..=0 => Emerg,
        1 => Alert,
        2 => Critical,
        3 => Error,
        4 => Warning,
        5 => Notice,
        6 => Info,
        7.. => Debug,
    }
}
