//! One record, as librdkafka has it.

use std::borrow::Cow;
use std::ffi::{c_char, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use rdkafka::bindings as sys;
use rdkafka::error::{IsError as _, KafkaError, RDKafkaErrorCode};

use super::event::{NativeEvent, name_of, text_of};

/// One record.
///
/// All of it is borrowed from the whole answer that it came in, which stays in memory as long
/// as this does: copy what is needed, and drop it.
pub(crate) struct Record<'a> {
    message: NonNull<sys::rd_kafka_message_t>,
    partition: u32,
    offset: u64,
    /// Owns the message.
    _event: NativeEvent,
    /// Not to outlive the client.
    _client: PhantomData<&'a ()>,
}

#[expect(unsafe_code, reason = "the bindings have no safe form")]
impl Record<'_> {
    /// The one record of an event.
    pub(super) fn of(event: NativeEvent) -> Result<Self, KafkaError> {
        let bad = KafkaError::MessageConsumption(RDKafkaErrorCode::BadMessage);
        // SAFETY: the event is alive. The message is its own, and lives as long.
        let message = unsafe { sys::rd_kafka_event_message_next(event.as_ptr()) };
        let Some(message) = NonNull::new(message.cast_mut()) else { return Err(bad) };
        // SAFETY: not null, initialized, and nobody writes to it.
        let told = unsafe { message.as_ref() };
        if told.err.is_error() {
            return Err(KafkaError::MessageConsumption(told.err.into()));
        }
        let (Ok(partition), Ok(offset)) = (told.partition.try_into(), told.offset.try_into())
        else {
            return Err(bad);
        };
        Ok(Self { message, partition, offset, _event: event, _client: PhantomData })
    }

    fn native(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: the event owns it, and lives as long as self; nobody writes to it.
        unsafe { self.message.as_ref() }
    }

    /// The topic; empty where its name is not UTF-8, which Kafka does not allow.
    pub(crate) fn topic(&self) -> &str {
        // SAFETY: the message keeps its topic alive, and that its name, which ends with a zero.
        unsafe { name_of(sys::rd_kafka_topic_name(self.native().rkt)) }
    }

    /// The partition.
    pub(crate) fn partition(&self) -> u32 {
        self.partition
    }

    /// The offset.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The key, where it has one, which may be empty.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        let native = self.native();
        // SAFETY: so many bytes, alive as long as the message.
        unsafe { bytes_of(native.key, native.key_len) }
    }

    /// The value; `None` where it has none, which is not the same as an empty one.
    pub(crate) fn payload(&self) -> Option<&[u8]> {
        let native = self.native();
        // SAFETY: so many bytes, alive as long as the message.
        unsafe { bytes_of(native.payload, native.len) }
    }

    /// Milliseconds since 1970, as the producer or the broker wrote them; `None` where the log
    /// is of a time before records had one.
    pub(crate) fn millis(&self) -> Option<i64> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive, and the kind is written before it returns.
        let millis =
            unsafe { sys::rd_kafka_message_timestamp(self.message.as_ptr(), &raw mut kind) };
        let none = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        (kind != none).then_some(millis)
    }

    /// Its headers. Those that cannot be read are none.
    ///
    /// Asked for once: librdkafka unpacks them when it is asked, and where there are none it
    /// finds that out each time.
    pub(crate) fn headers(&self) -> Headers<'_> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is alive; the list that comes back is its own. It is made when it
        // is first asked for: a record stays on one thread.
        let code =
            unsafe { sys::rd_kafka_message_headers(self.message.as_ptr(), &raw mut headers) };
        let headers = NonNull::new(headers).filter(|_| !code.is_error());
        Headers { headers, _record: PhantomData }
    }
}

/// The headers of a record.
#[derive(Clone, Copy)]
pub(crate) struct Headers<'a> {
    headers: Option<NonNull<sys::rd_kafka_headers_t>>,
    /// Whose they are.
    _record: PhantomData<&'a ()>,
}

impl<'a> Headers<'a> {
    /// Names and values, in their order. A name that is not UTF-8 has a mark in place of what
    /// is not; one with a zero in it ends there.
    pub(crate) fn iter(self) -> impl Iterator<Item = (Cow<'a, str>, Option<&'a [u8]>)> {
        (0..).map_while(move |index| self.at(index))
    }

    #[expect(unsafe_code, reason = "the bindings have no safe form")]
    fn at(self, index: usize) -> Option<(Cow<'a, str>, Option<&'a [u8]>)> {
        let (mut name, mut value): (*const c_char, *const c_void) = (ptr::null(), ptr::null());
        let mut size = 0;
        // SAFETY: the list is a record's and alive as long as that is borrowed; what is asked
        // for is written before it returns, where there is a header of this number.
        let code = unsafe {
            sys::rd_kafka_header_get_all(
                self.headers?.as_ptr(),
                index,
                &raw mut name,
                &raw mut value,
                &raw mut size,
            )
        };
        if code.is_error() {
            return None;
        }
        // SAFETY: both belong to the list; the name ends with a zero, the value has this size.
        unsafe { Some((text_of(name), bytes_of(value.cast_mut(), size))) }
    }
}

/// Bytes where there are some; `None` where that is null.
///
/// # Safety
/// Null, or so many bytes that live as long as `'a`, and nobody writes to.
#[expect(unsafe_code, reason = "the bindings have no safe form")]
unsafe fn bytes_of<'a>(bytes: *mut c_void, len: usize) -> Option<&'a [u8]> {
    let bytes = NonNull::new(bytes.cast::<u8>())?;
    // SAFETY: said above.
    Some(unsafe { std::slice::from_raw_parts(bytes.as_ptr(), len) })
}
