//! A response head, as a client reads it: for the examiner and for tests.
//!
//! The server never reads one, so nothing here is on its path.

use thiserror::Error;

/// Most bytes of a response head that are read.
pub const RESPONSE_HEAD_LEN_MAX: usize = 64 * 1024;
/// Most field lines of a response head.
const RESPONSE_FIELDS_MAX: usize = 128;

/// A status line and its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    /// The three digits.
    pub status: u16,
    /// The minor version of HTTP/1.
    pub minor: u8,
    /// Names in lower case with their values, in the order they came.
    pub fields: Vec<(String, Vec<u8>)>,
    /// Bytes up to and with the empty line.
    pub len: usize,
}

/// Why a buffer is no response head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ResponseError {
    /// Not of the grammar.
    #[error("not an HTTP/1 response head: {0}")]
    Malformed(&'static str),
    /// Over [`RESPONSE_HEAD_LEN_MAX`].
    #[error("the response head is over {RESPONSE_HEAD_LEN_MAX} bytes")]
    TooLong,
}

impl ResponseHead {
    /// The value of the first field of this name (lower case), without outer blanks, as text;
    /// bytes above ASCII become replacement characters.
    pub fn field(&self, name: &str) -> Option<String> {
        let (_, value) = self.fields.iter().find(|(known, _)| known == name)?;
        Some(String::from_utf8_lossy(value.trim_ascii()).into_owned())
    }

    /// How many fields have this name (lower case).
    pub fn count(&self, name: &str) -> usize {
        self.fields
            .iter()
            .filter(|(known, _)| known == name)
            .count()
    }
}

/// Reads the response head at the start of a buffer; `None` while it is incomplete.
pub fn parse_response(buffer: &[u8]) -> Result<Option<ResponseHead>, ResponseError> {
    let mut fields = [httparse::EMPTY_HEADER; RESPONSE_FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(&buffer[..buffer.len().min(RESPONSE_HEAD_LEN_MAX)]);
    match parsed {
        Ok(httparse::Status::Complete(len)) => Ok(Some(ResponseHead {
            status: response.code.ok_or(ResponseError::Malformed("no status"))?,
            minor: response
                .version
                .ok_or(ResponseError::Malformed("no version"))?,
            fields: response
                .headers
                .iter()
                .map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()))
                .collect(),
            len,
        })),
        Ok(httparse::Status::Partial) if buffer.len() >= RESPONSE_HEAD_LEN_MAX => {
            Err(ResponseError::TooLong)
        }
        Ok(httparse::Status::Partial) => Ok(None),
        Err(httparse::Error::HeaderName) => Err(ResponseError::Malformed("a field name")),
        Err(httparse::Error::HeaderValue) => Err(ResponseError::Malformed("a field value")),
        Err(httparse::Error::Version) => Err(ResponseError::Malformed("the version")),
        Err(_) => Err(ResponseError::Malformed("the status line or a line end")),
    }
}

/// The value of `Content-Range` in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// First and last byte position, both inclusive; none for `*`.
    pub range: Option<(u64, u64)>,
    /// The whole length; none for `*`.
    pub len: Option<u64>,
}

/// Reads `bytes 0-4/10`, `bytes */10` or `bytes 0-4/*`.
pub fn parse_content_range(value: &str) -> Option<ContentRange> {
    let (range, len) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let len = if len == "*" {
        None
    } else {
        Some(len.parse().ok()?)
    };
    let range = match range.split_once('-') {
        None if range == "*" => None,
        None => return None,
        Some((first, last)) => Some((first.parse().ok()?, last.parse().ok()?)),
    };
    Some(ContentRange { range, len })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_response() {
        let text = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/10\r\n\r\nhello";
        let head = parse_response(text).expect("well formed").expect("whole");
        assert_eq!(
            (head.status, head.minor, head.len),
            (206, 1, text.len() - 5)
        );
        let range = parse_content_range(&head.field("content-range").expect("present"));
        assert_eq!(
            range,
            Some(ContentRange {
                range: Some((0, 4)),
                len: Some(10)
            })
        );
        assert_eq!(parse_response(&text[..40]), Ok(None));
    }

    #[test]
    fn content_ranges() {
        let want = Some(ContentRange {
            range: None,
            len: Some(7),
        });
        assert_eq!(parse_content_range("bytes */7"), want);
        for bad in [
            "",
            "bytes",
            "bytes 1/2",
            "bytes 1-/2",
            "lines 0-1/2",
            "bytes 0-1",
        ] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_response(&bytes);
            let _ = parse_content_range(&String::from_utf8_lossy(&bytes));
        }
    }
}
