//! Writing a response head: the status line and single fields.
//!
//! Values come from our own code or from types that cannot hold a line break; the one value made
//! from a stranger's bytes, `Location`, is percent-encoded before it comes here.

use std::io::Write as _;

use super::Status;

/// Appends `HTTP/1.1 200 OK` and the line end.
pub fn write_status_line(out: &mut Vec<u8>, status: Status) {
    out.extend_from_slice(b"HTTP/1.1 ");
    let code = status.code();
    let digit = |value: u16| b'0' + (value % 10) as u8;
    out.extend_from_slice(&[digit(code / 100), digit(code / 10), digit(code), b' ']);
    out.extend_from_slice(status.reason().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends `name: value` lines to a head, and its end.
#[derive(Debug)]
pub struct FieldWriter<'a>(pub &'a mut Vec<u8>);

impl FieldWriter<'_> {
    /// One field with a value of plain text.
    pub fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.bytes(name, value.as_bytes())
    }

    /// One field; a control byte in the value is dropped, so no value can start a line.
    pub fn bytes(&mut self, name: &str, value: &[u8]) -> &mut Self {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        self.0
            .extend(value.iter().filter(|&&b| b >= 0x20 && b != 0x7f));
        self.0.extend_from_slice(b"\r\n");
        self
    }

    /// One field with a number.
    pub fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        push_number(self.0, value);
        self.0.extend_from_slice(b"\r\n");
        self
    }

    /// The empty line after the last field.
    pub fn end(&mut self) {
        self.0.extend_from_slice(b"\r\n");
    }
}

/// Appends the value of `Content-Range`: `bytes 0-4/10`, or `bytes */10` for no range
/// (RFC 9110 section 14.4). The range is half open here, inclusive on the wire.
pub fn write_content_range(out: &mut Vec<u8>, range: Option<(u64, u64)>, len: u64) {
    out.extend_from_slice(b"bytes ");
    match range {
        Some((start, end)) => {
            push_number(out, start);
            out.push(b'-');
            push_number(out, end.saturating_sub(1));
        }
        None => out.push(b'*'),
    }
    out.push(b'/');
    push_number(out, len);
}

fn push_number(out: &mut Vec<u8>, value: u64) {
    write!(out, "{value}").expect("a Vec takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_head() {
        let mut out = Vec::new();
        write_status_line(&mut out, Status::PartialContent);
        let mut value = Vec::new();
        write_content_range(&mut value, Some((0, 5)), 10);
        FieldWriter(&mut out)
            .bytes("Content-Range", &value)
            .number("Content-Length", 5)
            .end();
        assert_eq!(
            out,
            b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/10\r\n\
              Content-Length: 5\r\n\r\n"
        );
    }

    #[test]
    fn a_value_cannot_start_a_line() {
        let mut out = Vec::new();
        FieldWriter(&mut out).bytes("Location", b"/a\r\nSet-Cookie: b");
        assert_eq!(out, b"Location: /aSet-Cookie: b\r\n");
    }

    #[test]
    fn unsatisfied_range() {
        let mut value = Vec::new();
        write_content_range(&mut value, None, 0);
        assert_eq!(value, b"bytes */0");
    }
}
