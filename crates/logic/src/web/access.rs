//! A line of the access log in the common format (web-66):
//! `host - - [21/Nov/2026:08:10:00 +0000] "GET / HTTP/1.1" 200 1024`.

use std::io::Write as _;
use std::net::IpAddr;

use ahoy_wire::web::Status;

use super::reply::Wall;

/// Most bytes of a request line that are kept in the log.
pub(super) const LOGGED_LINE_LEN_MAX: usize = 1024;

/// Appends one line. `sent_len` counts the body bytes that were really sent.
pub fn access_line(
    out: &mut Vec<u8>,
    peer: IpAddr,
    wall: &Wall,
    line: &[u8],
    status: Status,
    sent_len: u64,
) {
    // `Sun, 06 Nov 1994 08:49:37 GMT` holds all the pieces.
    let date = wall.http_date();
    let (day, month, year, time) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
    write!(out, "{peer} - - [{day}/{month}/{year}:{time} +0000] \"")
        .expect("a Vec takes every write");
    for &byte in &line[..line.len().min(LOGGED_LINE_LEN_MAX)] {
        // A line in the log is one request, whatever the client wrote.
        if byte == b'"' || byte == b'\\' || !(0x20..0x7f).contains(&byte) {
            write!(out, "\\x{byte:02x}").expect("a Vec takes every write");
        } else {
            out.push(byte);
        }
    }
    writeln!(out, "\" {} {sent_len}", status.code()).expect("a Vec takes every write");
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn line(request: &[u8]) -> String {
        let mut out = Vec::new();
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        access_line(
            &mut out,
            peer,
            &Wall::at(784_111_777),
            request,
            Status::Ok,
            1024,
        );
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn golden() {
        assert_eq!(
            line(b"GET /a HTTP/1.1"),
            "127.0.0.1 - - [06/Nov/1994:08:49:37 +0000] \"GET /a HTTP/1.1\" 200 1024\n"
        );
    }

    #[test]
    fn nobody_forges_a_line() {
        assert_eq!(
            line(b"GET /\"\r\n\x1b[31m\xff\\ HTTP/1.1"),
            "127.0.0.1 - - [06/Nov/1994:08:49:37 +0000] \
             \"GET /\\x22\\x0d\\x0a\\x1b[31m\\xff\\x5c HTTP/1.1\" 200 1024\n"
        );
        assert!(line(&[b'a'; 9000]).len() < 1200);
    }
}
