//! What `parse_request` accepts, refuses, and waits for.

use proptest::prelude::*;

use super::super::Coding;
use super::*;

fn whole(text: &str) -> RequestHead<'_> {
    match parse_request(text.as_bytes()) {
        Ok(Parsed::Complete { head, len }) => {
            assert_eq!(len, text.len(), "{text:?}");
            head
        }
        other => panic!("{text:?}: {other:?}"),
    }
}

fn refused(text: &str) -> HeadError {
    parse_request(text.as_bytes()).expect_err(text)
}

#[test]
fn a_plain_get() {
    let head = whole("GET /a%20b?c HTTP/1.1\r\nHost: localhost:80\r\n\r\n");
    assert_eq!(head.method, Method::Get);
    assert_eq!(head.target, b"/a%20b?c");
    assert_eq!(head.line, b"GET /a%20b?c HTTP/1.1");
    assert_eq!(head.minor, 1);
    assert!(head.persistent);
    assert_eq!(head.body, Body::Length(0));
    assert_eq!(head.ranges, None);
}

#[test]
fn every_field_we_read() {
    let head = whole(
        "HEAD * HTTP/1.1\r\nhOST: [::1]:8080\r\nIf-Match: \"a\"\r\nIf-Match: \"b\"\r\n\
         If-None-Match: *\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         If-Unmodified-Since: never\r\nIf-Range: W/\"x\"\r\nRange: bytes=0-1\r\n\
         Accept-Encoding: gzip;q=0\r\nAccept-Encoding: br\r\nExpect: 100-Continue\r\n\
         Connection: foo, Close\r\nContent-Length: 7\r\nX-Unknown: \u{e9}\r\n\r\n",
    );
    assert_eq!(head.method, Method::Head);
    let tag = |text: &str| EntityTag::parse(text.as_bytes()).expect(text);
    assert_eq!(
        head.conditions.if_match,
        Some(TagList::Tags(vec![tag("\"a\""), tag("\"b\"")]))
    );
    assert_eq!(head.conditions.if_none_match, Some(TagList::Any));
    assert_eq!(
        head.conditions.if_modified_since.map(HttpDate::unix_secs),
        Some(784_111_777)
    );
    assert_eq!(head.conditions.if_unmodified_since, None);
    assert_eq!(head.conditions.if_range, Some(IfRange::Tag(tag("W/\"x\""))));
    assert_eq!(
        head.ranges,
        Some(vec![RangeSpec::From {
            first: 0,
            last: Some(1)
        }])
    );
    assert_eq!(head.accept_encoding.weight(Coding::Br), 1000);
    assert_eq!(head.accept_encoding.weight(Coding::Gzip), 0);
    assert!(head.expects_continue && !head.expects_other);
    assert!(!head.persistent);
    assert_eq!(head.body, Body::Length(7));
}

#[test]
fn persistence() {
    for (text, want) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            false,
        ),
        ("GET / HTTP/1.9\r\nHost: a\r\n\r\n", true),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
        (
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
            false,
        ),
    ] {
        assert_eq!(whole(text).persistent, want, "{text:?}");
    }
}

#[test]
fn refused_lines_and_hosts() {
    for (text, want) in [
        ("GET / HTTP/1.1\r\n\r\n", HeadError::Host),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            HeadError::Host,
        ),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", HeadError::Host),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", HeadError::Host),
        ("GET / HTTP/2.0\r\n\r\n", HeadError::Version),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HeadError::Version),
        ("GET / HTTP/0.9\r\n\r\n", HeadError::Version),
        ("GET /\r\n", HeadError::Malformed("the request line")),
        (
            "GET  / HTTP/1.1\r\n",
            HeadError::Malformed("the request line"),
        ),
        (
            "GET / HTTP/1.1 \r\n",
            HeadError::Malformed("the request line"),
        ),
        ("GET / http/1.1\r\n", HeadError::Malformed("the version")),
        ("GET / HTTP/1.10\r\n", HeadError::Malformed("the version")),
        (
            "GET /\t HTTP/1.1\r\n",
            HeadError::Malformed("the request target"),
        ),
        ("G(T / HTTP/1.1\r\n", HeadError::Malformed("the method")),
        ("\x16\x03\x01\x02", HeadError::Malformed("the method")),
        (
            "\r\n\r\n\r\n\r\n\r\n",
            HeadError::Malformed("empty lines before the request line"),
        ),
    ] {
        assert_eq!(refused(text), want, "{text:?}");
    }
}

// web-1, web-6.
#[test]
fn refused_fields() {
    for (fields, want) in [
        (
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            HeadError::Framing,
        ),
        (
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            HeadError::Framing,
        ),
        ("Content-Length: 1, 1\r\n", HeadError::Framing),
        ("Content-Length: -1\r\n", HeadError::Framing),
        ("Content-Length: +1\r\n", HeadError::Framing),
        ("Content-Length:\r\n", HeadError::Framing),
        ("Transfer-Encoding: gzip\r\n", HeadError::TransferCoding),
        (
            "Transfer-Encoding: gzip, chunked\r\n",
            HeadError::TransferCoding,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
            HeadError::TransferCoding,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            HeadError::TransferCoding,
        ),
        ("Bad Name: x\r\n", HeadError::Malformed("a header field")),
        ("Name : x\r\n", HeadError::Malformed("a header field")),
        (" folded: x\r\n", HeadError::Malformed("a header field")),
        (
            "A: b\r\n folded\r\n",
            HeadError::Malformed("a header field"),
        ),
        ("A: b\0c\r\n", HeadError::Malformed("a header field")),
        ("no colon\r\n", HeadError::Malformed("a header field")),
    ] {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(refused(&text), want, "{fields:?}");
    }
    assert_eq!(
        refused("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        HeadError::Framing
    );
}

#[test]
fn sizes() {
    let line = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(len));
    whole(&line(REQUEST_LINE_LEN_MAX - 14));
    assert_eq!(
        refused(&line(REQUEST_LINE_LEN_MAX - 13)),
        HeadError::LineTooLong
    );
    let endless = format!("GET /{}", "x".repeat(REQUEST_LINE_LEN_MAX));
    assert_eq!(refused(&endless), HeadError::LineTooLong);

    let fields = |count: usize| "A: b\r\n".repeat(count);
    whole(&format!("GET / HTTP/1.0\r\n{}\r\n", fields(FIELDS_MAX)));
    let more = format!("GET / HTTP/1.0\r\n{}\r\n", fields(FIELDS_MAX + 1));
    assert_eq!(refused(&more), HeadError::FieldsTooLarge);
    let big = format!("GET / HTTP/1.0\r\nA: {}", "b".repeat(HEAD_LEN_MAX));
    assert_eq!(refused(&big), HeadError::FieldsTooLarge);
}

#[test]
fn every_prefix_of_a_request_is_incomplete() {
    let text = "\r\nGET /a HTTP/1.1\r\nHost: a\r\nRange: bytes=0-\r\n\r\n";
    for cut in 0..text.len() {
        assert_eq!(
            parse_request(&text.as_bytes()[..cut]),
            Ok(Parsed::Incomplete),
            "{cut}"
        );
    }
    whole(text);
}

#[test]
fn what_follows_is_left_alone() {
    let text = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\n";
    let Ok(Parsed::Complete { len, .. }) = parse_request(text) else {
        panic!("a request")
    };
    assert_eq!(&text[len..], b"GET /b HTTP/1.1\r\n");
}

#[test]
fn bare_newlines_end_lines_too() {
    // RFC 9112 section 2.2 allows it, and people type requests by hand.
    assert_eq!(whole("GET /a HTTP/1.1\nHost: a\n\n").target, b"/a");
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse_request(&bytes);
    }

    /// Text near the grammar reaches deeper than plain noise.
    #[test]
    fn text_near_the_grammar_gets_an_answer(
        text in "(GET|HEAD|X) /[ -~]{0,20} HTTP/1\\.[01]\r\n\
                 ((Host|Range|If-Match|If-Range|Content-Length|Accept-Encoding|Expect): \
                 [ -~]{0,30}\r?\n){0,6}(\r\n)?"
    ) {
        if let Ok(Parsed::Complete { len, .. }) = parse_request(text.as_bytes()) {
            prop_assert!(len <= text.len());
        }
    }
}
