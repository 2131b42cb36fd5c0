//! HELLO / OK / RESET against golden bytes and any bytes.

#[path = "../../../fuzz/properties/hello.rs"]
mod properties;

use std::net::SocketAddr;

use ahoy_wire::hello::{Fault, HelloId, IdShape, Part, Reply, Request};
use proptest::prelude::*;

fn id(text: &str) -> HelloId {
    text.parse().expect("a good id")
}

fn ok(text: &str, client: &str) -> Reply {
    let client: SocketAddr = client.parse().expect("a good address");
    Reply::Ok {
        id: id(text),
        client,
    }
}

#[test]
fn the_plain_forms_are_exact() {
    let check = |reply: Reply, golden: &str| {
        let mut out = Vec::new();
        reply.encode(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), golden);
    };
    let mut request = Vec::new();
    Request { id: id("0042") }.encode(&mut request);
    assert_eq!(request, b"HELLO 0042");
    check(Reply::Reset { id: id("0042") }, "RESET 0042");
    check(ok("0042", "127.0.0.1:60644"), "OK 0042 127.0.0.1 60644");
    check(ok("1", "203.0.113.250:7"), "OK 1 203.0.113.250 7");
    check(ok("1234", "[::1]:65535"), "OK 1234 ::1 65535");
    check(ok("1234", "[::ffff:10.0.0.9]:80"), "OK 1234 10.0.0.9 80");
}

#[test]
fn requests_as_they_come_in_the_wild() {
    let check = |bytes: &[u8], expected: Result<&str, Fault>| {
        assert_eq!(
            Request::from_whole(bytes).map(|request| request.id.to_string()),
            expected.map(str::to_owned),
            "{}",
            bytes.escape_ascii()
        );
    };
    for good in [
        &b"HELLO 0042"[..],
        b"HELLO 0042\n",
        b"HELLO 0042\r\n",
        b"HELLO 0042\0",
        b"HELLO 0042 and more \xff\x00",
        b"HELLO  0042",
        b"HELLO\t0042 ",
        b"\r\n HELLO 0042",
        b"HELLO 0042\nHELLO 0043\n",
    ] {
        check(good, Ok("0042"));
    }
    check(b"HELLO 42", Ok("42"));
    check(b"HELLO a-b_c", Ok("a-b_c"));
    check(b"", Err(Fault::Empty));
    check(b" \r\n", Err(Fault::Empty));
    check(b"\0\0\0", Err(Fault::Word));
    check(b"HEL", Err(Fault::Cut));
    check(b"HELLO", Err(Fault::Cut));
    check(b"HELLO ", Err(Fault::Cut));
    check(b"HELLO\n0042", Err(Fault::NoId));
    check(b"HELLO \r\n", Err(Fault::NoId));
    check(b"HELLO0042", Err(Fault::Word));
    check(b"hello 0042", Err(Fault::Word));
    check(b"OK 0042 127.0.0.1 5", Err(Fault::Word));
    check(b"HELLO 00\x1b42", Err(Fault::IdByte));
    check("HELLO caf\u{e9}".as_bytes(), Err(Fault::IdByte));
    check(&[&b"HELLO "[..], &[b'x'; 37]].concat(), Err(Fault::LongId));
    check(&[&b"HELLO 7 "[..], &[b'x'; 9000]].concat(), Ok("7"));
    check(&[&[b' '; 510][..], b"HELLO 7"].concat(), Err(Fault::Long));
}

#[test]
fn a_stream_is_answered_once_nothing_can_change_the_answer() {
    let check = |bytes: &[u8], expected: Part<&str>| {
        let part = Request::from_part(bytes);
        let shown = match part {
            Part::Whole(request) => Part::Whole(request.id.to_string()),
            Part::Open(request) => Part::Open(request.id.to_string()),
            Part::Incomplete => Part::Incomplete,
            Part::Invalid(fault) => Part::Invalid(fault),
        };
        let expected = match expected {
            Part::Whole(id) => Part::Whole(id.to_owned()),
            Part::Open(id) => Part::Open(id.to_owned()),
            Part::Incomplete => Part::Incomplete,
            Part::Invalid(fault) => Part::Invalid(fault),
        };
        assert_eq!(shown, expected, "{}", bytes.escape_ascii());
    };
    check(b"", Part::Incomplete);
    check(b"HELL", Part::Incomplete);
    check(b"HELLO ", Part::Incomplete);
    check(b"HELLO 004", Part::Open("004"));
    check(b"HELLO 0042", Part::Whole("0042"));
    check(b"HELLO 00421", Part::Open("00421"));
    check(b"HELLO 42\r", Part::Whole("42"));
    check(b"HELLO 42 ", Part::Whole("42"));
    check(b"HOLA", Part::Invalid(Fault::Word));
    check(b"HELLO \n", Part::Invalid(Fault::NoId));
    check(&[b' '; 512], Part::Invalid(Fault::Long));
}

#[test]
fn replies_as_they_come_in_the_wild() {
    let check = |bytes: &[u8], expected: Result<Reply, Fault>| {
        assert_eq!(
            Reply::from_whole(bytes),
            expected,
            "{}",
            bytes.escape_ascii()
        );
    };
    let granted = ok("0042", "127.0.0.1:5000");
    check(b"OK 0042 127.0.0.1 5000", Ok(granted));
    check(b"OK 0042 127.0.0.1 5000\r\n", Ok(granted));
    check(b"OK 0042 127.0.0.1 5000 welcome", Ok(granted));
    check(b"OK 0042 ::ffff:127.0.0.1 5000", Ok(granted));
    check(
        b"OK 0042 fe80::1%eth0 5000\n",
        Ok(ok("0042", "[fe80::1]:5000")),
    );
    check(b"RESET 0042\n", Ok(Reply::Reset { id: id("0042") }));
    check(b"OK 0042", Err(Fault::Cut));
    check(b"OK 0042\n127.0.0.1 5000", Err(Fault::Address));
    check(b"OK 0042 localhost 5000", Err(Fault::Address));
    check(b"OK 0042 127.0.0.1 65536", Err(Fault::Port));
    check(b"OK 0042 127.0.0.1 +5", Err(Fault::Port));
    check(b"RESET", Err(Fault::Cut));
    check(b"RESET\n", Err(Fault::NoId));
    check(b"NO 0042", Err(Fault::Word));
}

#[test]
fn a_reply_without_an_end_is_taken_as_soon_as_it_is_certain() {
    assert!(matches!(
        Reply::from_part(b"OK 0042 127.0.0.1 500"),
        Part::Open(_)
    ));
    for certain in [
        &b"OK 0042 127.0.0.1 50000"[..],
        b"OK 0042 127.0.0.1 6554",
        b"OK 0042 127.0.0.1 500\n",
        b"RESET 0042",
    ] {
        assert!(
            matches!(Reply::from_part(certain), Part::Whole(_)),
            "{}",
            certain.escape_ascii()
        );
    }
    assert!(matches!(Reply::from_part(b"RESET 42"), Part::Open(_)));
}

#[test]
fn ids_are_opaque_and_shapes_are_a_choice() {
    assert_ne!(id("0042"), id("42"));
    assert!(IdShape::FourDigits.admits(&id("0042")));
    for other in ["42", "00042", "004x"] {
        assert!(!IdShape::FourDigits.admits(&id(other)), "{other}");
        assert!(IdShape::Token.admits(&id(other)), "{other}");
    }
    assert_eq!("".parse::<HelloId>(), Err(Fault::NoId));
    assert_eq!("a b".parse::<HelloId>(), Err(Fault::IdByte));
    assert_eq!(
        id("7f3c1a52-58e0-4e0a-9d3c-2f6f3c1a5258").as_str().len(),
        36
    );
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
        properties::holds(&bytes);
    }

    #[test]
    fn nearly_right_bytes(
        text in "[ \r\n\t]{0,3}(HELLO|OK|RESET|HELL)[ \t]{0,2}[!-~]{0,40}[ \t\r\n\0]{0,2}\
                 ([0-9a-f:.%]{0,20} )?[0-9]{0,6}[ -~\r\n\0]{0,8}",
    ) {
        properties::holds(text.as_bytes());
    }
}
