//! The end of a partition as the consumer already knows it.

use std::ffi::CString;

use rdkafka::bindings::rd_kafka_get_watermark_offsets;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::IsError as _;

/// The high watermark that came with the last fetch; asks nobody, waits for nothing.
///
/// The safe API has only the variant that asks the broker.
pub(crate) fn cached_end<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: u32,
) -> Option<u64> {
    let topic = CString::new(topic).ok()?;
    let partition = i32::try_from(partition).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client outlives the call because the consumer is borrowed, the name
    // is terminated and only read, and both numbers are written to before it returns.
    #[expect(unsafe_code, reason = "the binding has no safe form")]
    let code = unsafe {
        let client = consumer.client().native_ptr();
        rd_kafka_get_watermark_offsets(
            client,
            topic.as_ptr(),
            partition,
            &raw mut low,
            &raw mut high,
        )
    };
    if code.is_error() { None } else { u64::try_from(high).ok() }
}
