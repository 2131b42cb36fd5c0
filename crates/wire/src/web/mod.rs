//! HTTP/1.1 as `ahoy web` speaks it: request and response heads, and the fields a static file
//! server reads and writes (RFC 9110, RFC 9112).
//!
//! Heads are split by httparse; every field value is read here, into a type that cannot be wrong.
//! What a request means for a file is decided in `logic::web`, not here; there is no state and no
//! clock in this module.

mod coding;
mod date;
mod etag;
mod field;
mod range;
mod request;
mod response;
mod status;

pub use coding::{AcceptEncoding, Coding};
pub use date::{DATE_LEN, HTTP_SECS_MAX, HttpDate};
pub use etag::{ENTITY_TAGS_MAX, EntityTag, TagList};
pub use field::{FieldWriter, write_content_range, write_status_line};
pub use range::{RANGE_SPECS_MAX, RangeError, RangeSpec, parse_ranges};
pub use request::{
    Body, Conditions, FIELDS_MAX, HEAD_LEN_MAX, HeadError, IfRange, Method, Parsed,
    REQUEST_LINE_LEN_MAX, RequestHead, parse_request,
};
pub use response::{
    ContentRange, RESPONSE_HEAD_LEN_MAX, ResponseError, ResponseHead, parse_content_range,
    parse_response,
};
pub use status::Status;
