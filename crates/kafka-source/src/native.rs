//! Questions that only librdkafka's administration asks, and that the safe binding lacks.
//!
//! Each has options and a queue of its own, and blocks until its one answer is there.

use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::bindings::{
    rd_kafka_AdminOptions_destroy, rd_kafka_AdminOptions_new,
    rd_kafka_AdminOptions_set_request_timeout, rd_kafka_AdminOptions_t, rd_kafka_admin_op_t,
    rd_kafka_event_destroy, rd_kafka_event_t, rd_kafka_queue_destroy, rd_kafka_queue_new,
    rd_kafka_queue_poll, rd_kafka_queue_t, rd_kafka_t,
};
use rdkafka::client::Client;
use rdkafka::error::{IsError as _, KafkaError, RDKafkaErrorCode};

/// How much longer than the request itself its answer is waited for.
const SLACK: Duration = Duration::from_secs(1);

/// What one question and its answer are made of.
pub(crate) struct Question {
    pub(crate) client: *mut rd_kafka_t,
    pub(crate) options: *mut rd_kafka_AdminOptions_t,
    pub(crate) queue: *mut rd_kafka_queue_t,
}

/// Asks by `ask`, which must name exactly these options and this queue, and has `read`
/// make of the answer what outlives it.
///
/// # Errors
/// Those of both, and where no answer came in time.
#[expect(unsafe_code, reason = "the binding has no safe form")]
pub(crate) fn ask<C: ClientContext, T>(
    client: &Client<C>,
    op: rd_kafka_admin_op_t,
    timeout: Duration,
    ask: impl FnOnce(&Question) -> Result<(), KafkaError>,
    read: impl FnOnce(*mut rd_kafka_event_t) -> Result<T, KafkaError>,
) -> Result<T, KafkaError> {
    let failed = KafkaError::AdminOp;
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let patience = timeout.saturating_add(SLACK).as_millis();
    let patience = i32::try_from(patience).unwrap_or(i32::MAX);
    let rk = client.native_ptr();
    // SAFETY: the client is borrowed and outlives everything made of it here; what is made
    // is checked for null and freed once, by its own function, in the reverse order; the
    // answer is read only while it lives.
    unsafe {
        let options = Owned::new(rd_kafka_AdminOptions_new(rk, op), rd_kafka_AdminOptions_destroy)?;
        let none = std::ptr::null_mut();
        let set = rd_kafka_AdminOptions_set_request_timeout(options.ptr(), millis, none, 0);
        if set.is_error() {
            return Err(failed(set.into()));
        }
        let queue = Owned::new(rd_kafka_queue_new(rk), rd_kafka_queue_destroy)?;
        ask(&Question { client: rk, options: options.ptr(), queue: queue.ptr() })?;
        let event = rd_kafka_queue_poll(queue.ptr(), patience);
        let event = NonNull::new(event).ok_or(failed(RDKafkaErrorCode::OperationTimedOut))?;
        let event = Owned { ptr: event, destroy: rd_kafka_event_destroy };
        read(event.ptr())
    }
}

/// What librdkafka made, freed at the end.
pub(crate) struct Owned<T> {
    ptr: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    pub(crate) fn new(
        ptr: *mut T,
        destroy: unsafe extern "C" fn(*mut T),
    ) -> Result<Self, KafkaError> {
        let none = KafkaError::AdminOpCreation("out of memory".into());
        Ok(Self { ptr: NonNull::new(ptr).ok_or(none)?, destroy })
    }

    pub(crate) fn ptr(&self) -> *mut T {
        self.ptr.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    #[expect(unsafe_code, reason = "the binding has no safe form")]
    fn drop(&mut self) {
        // SAFETY: it was made by librdkafka, is freed by the function that belongs to it,
        // and by nobody else.
        unsafe { (self.destroy)(self.ptr.as_ptr()) }
    }
}
