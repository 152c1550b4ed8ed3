//! librdkafka's queue and events, each freed when it is dropped.

use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_int};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::client::Client;
use rdkafka::error::{IsError as _, RDKafkaErrorCode};
use rdkafka::{ClientContext, TopicPartitionList};

/// A consumer's queue: one more handle on what the client has anyway.
pub(super) struct Queue(NonNull<sys::rd_kafka_queue_t>);

// SAFETY: librdkafka locks its queues itself, any thread may poll and free a handle.
#[expect(unsafe_code, reason = "a pointer is sent nowhere by itself")]
unsafe impl Send for Queue {}

#[expect(unsafe_code, reason = "the bindings have no safe form")]
impl Queue {
    /// `None` where the client has no group.
    ///
    /// It has to be dropped before the client is.
    pub(super) fn of<C: ClientContext>(client: &Client<C>) -> Option<Self> {
        // SAFETY: the client is alive while it is borrowed. What comes back is ours to free.
        NonNull::new(unsafe { sys::rd_kafka_queue_get_consumer(client.native_ptr()) }).map(Self)
    }

    pub(super) fn poll(&self, wait: Duration) -> Option<NativeEvent> {
        let millis = c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the queue is freed with self and not before. The event is ours to free.
        let event = unsafe { sys::rd_kafka_queue_poll(self.0.as_ptr(), millis) };
        NonNull::new(event).map(NativeEvent)
    }

    /// Commits; what came of it is an event of this queue.
    ///
    /// `client` has to be the one that this is a queue of.
    #[allow(dead_code, reason = "only a group commits")]
    pub(super) fn commit<C: ClientContext>(
        &self,
        client: &Client<C>,
        offsets: &TopicPartitionList,
    ) -> Result<(), RDKafkaErrorCode> {
        // SAFETY: client, list and queue are alive while they are borrowed; the list is copied.
        // Without a callback nothing of ours is kept.
        let code = unsafe {
            sys::rd_kafka_commit_queue(
                client.native_ptr(),
                offsets.ptr(),
                self.0.as_ptr(),
                None,
                ptr::null_mut(),
            )
        };
        if code.is_error() { Err(code.into()) } else { Ok(()) }
    }

    /// How many events wait in it.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        // SAFETY: as for poll.
        unsafe { sys::rd_kafka_queue_length(self.0.as_ptr()) }
    }
}

#[expect(unsafe_code, reason = "the bindings have no safe form")]
impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: it is ours, and freed once.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// What an event is about.
pub(super) enum Kind {
    Record,
    Error,
    Other,
}

/// One event.
pub(super) struct NativeEvent(NonNull<sys::rd_kafka_event_t>);

#[expect(unsafe_code, reason = "the bindings have no safe form")]
impl NativeEvent {
    pub(super) fn as_ptr(&self) -> *mut sys::rd_kafka_event_t {
        self.0.as_ptr()
    }

    /// librdkafka's number of what it is.
    pub(super) fn number(&self) -> c_int {
        // SAFETY: the event is alive.
        unsafe { sys::rd_kafka_event_type(self.as_ptr()) }
    }

    pub(super) fn kind(&self) -> Kind {
        match self.number() {
            sys::RD_KAFKA_EVENT_FETCH => Kind::Record,
            sys::RD_KAFKA_EVENT_ERROR => Kind::Error,
            _ => Kind::Other,
        }
    }

    pub(super) fn error(&self) -> Option<RDKafkaErrorCode> {
        // SAFETY: the event is alive; events of any kind have a code.
        let code = unsafe { sys::rd_kafka_event_error(self.as_ptr()) };
        code.is_error().then(|| code.into())
    }

    /// Whether an error means the end of the client. Only of [`Kind::Error`].
    pub(super) fn is_fatal(&self) -> bool {
        matches!(self.kind(), Kind::Error)
            // SAFETY: the event is alive, and an error: of others the field is not set.
            && unsafe { sys::rd_kafka_event_error_is_fatal(self.as_ptr()) } != 0
    }

    /// What an error says.
    pub(super) fn reason(&self) -> Cow<'_, str> {
        // SAFETY: the event is alive, and so is its text, which ends with a zero; it is
        // never null.
        let text = unsafe { sys::rd_kafka_event_error_string(self.as_ptr()) };
        // SAFETY: as above.
        unsafe { text_of(text) }
    }

    /// Which partition and offset an error is of.
    pub(super) fn place(&self) -> Option<Place> {
        // SAFETY: the event is alive. What comes back is a copy that is ours to free.
        NonNull::new(unsafe { sys::rd_kafka_event_topic_partition(self.as_ptr()) }).map(Place)
    }
}

#[expect(unsafe_code, reason = "the bindings have no safe form")]
impl Drop for NativeEvent {
    fn drop(&mut self) {
        // SAFETY: it is ours, and freed once; what was borrowed from it is gone.
        unsafe { sys::rd_kafka_event_destroy(self.as_ptr()) }
    }
}

/// A partition, and an offset in it.
pub(crate) struct Place(NonNull<sys::rd_kafka_topic_partition_t>);

#[expect(unsafe_code, reason = "the bindings have no safe form")]
impl Place {
    fn native(&self) -> &sys::rd_kafka_topic_partition_t {
        // SAFETY: it is ours, initialized, and freed with self.
        unsafe { self.0.as_ref() }
    }

    /// The topic; empty where its name is not UTF-8, which Kafka does not allow.
    pub(crate) fn topic(&self) -> &str {
        // SAFETY: the name is alive as long as self, and ends with a zero.
        unsafe { name_of(self.native().topic) }
    }

    /// The partition.
    pub(crate) fn partition(&self) -> u32 {
        // It tells of partitions that exist.
        self.native().partition.unsigned_abs()
    }

    /// The offset, where it is one.
    pub(crate) fn offset(&self) -> Option<u64> {
        self.native().offset.try_into().ok()
    }
}

#[expect(unsafe_code, reason = "the bindings have no safe form")]
impl Drop for Place {
    fn drop(&mut self) {
        // SAFETY: it is ours, and freed once.
        unsafe { sys::rd_kafka_topic_partition_destroy(self.0.as_ptr()) }
    }
}

/// What librdkafka says, whatever it is made of; nothing where that is null.
///
/// # Safety
/// Either null, or a text that ends with a zero and lives as long as `'a`.
#[expect(unsafe_code, reason = "the bindings have no safe form")]
pub(super) unsafe fn text_of<'a>(text: *const c_char) -> Cow<'a, str> {
    if text.is_null() {
        return Cow::Borrowed("");
    }
    // SAFETY: said above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy()
}

/// A topic's name; empty where it is none.
///
/// # Safety
/// As of [`text_of`].
#[expect(unsafe_code, reason = "the bindings have no safe form")]
pub(super) unsafe fn name_of<'a>(name: *const c_char) -> &'a str {
    if name.is_null() {
        return "";
    }
    // SAFETY: said above.
    unsafe { CStr::from_ptr(name) }.to_str().unwrap_or_default()
}
