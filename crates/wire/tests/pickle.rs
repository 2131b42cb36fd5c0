//! The pickle codec by itself: known bytes, every refusal by its name, and what a stream does to
//! it.
//!
//! Python is asked in `pickle_python.rs`; memory is measured in `pickle_bombs.rs`.

mod soup;

use ahoy_wire::pickle::{
    Advance, DEPTH_MAX, DecodeError, Decoder, Invalid, PICKLE_LEN_MAX, VALUES_MAX, Value, decode,
    encode,
};
use proptest::prelude::*;
use soup::soup;

const REQUEST: &[u8] =
    b"\x80\x04\x95\x48\0\0\0\0\0\0\0}\x94(\x8c\x0cstudent_name\x94\x8c\x0bAlice Brown\x94\
      \x8c\x0fgithub_username\x94\x8c\x06abrown\x94\x8c\x03sid\x94J\x15\xcd\x5b\x07u.";

fn text(text: &str) -> Value {
    Value::from(text)
}

fn request() -> Value {
    Value::Dict(vec![
        (text("student_name"), text("Alice Brown")),
        (text("github_username"), text("abrown")),
        (text("sid"), Value::Int(123_456_789)),
    ])
}

fn invalid(bytes: &[u8]) -> Invalid {
    match decode(bytes) {
        Err(DecodeError::Invalid(invalid)) => invalid,
        other => panic!("{bytes:?}: {other:?}"),
    }
}

#[test]
fn known_bytes_are_read_and_written() {
    let id = Value::Dict(vec![(text("clientid"), Value::Int(60_644))]);
    for (value, bytes) in [
        (request(), REQUEST),
        (
            id,
            b"\x80\x04\x95\x12\0\0\0\0\0\0\0}\x94\x8c\x08clientid\x94M\xe4\xecs.",
        ),
        (Value::Int(1), b"\x80\x04K\x01."),
    ] {
        assert_eq!(encode(&value).as_deref(), Ok(bytes));
        assert_eq!(decode(bytes), Ok((value, bytes.len())));
    }
}

#[test]
fn one_pickle_ends_at_stop_and_the_rest_is_left() {
    let stream = [REQUEST, b"\x80\x04K\x01.", b"\xff garbage"].concat();
    assert_eq!(decode(&stream), Ok((request(), REQUEST.len())));
    let mut decoder = Decoder::default();
    let first = decoder.advance(&stream).expect("the first is right");
    assert_eq!(first.consumed, REQUEST.len());
    let second = decoder
        .advance(&stream[first.consumed..])
        .expect("the second too");
    assert_eq!(
        second,
        Advance {
            consumed: 5,
            value: Some(Value::Int(1))
        }
    );
    assert!(decoder.advance(&stream[first.consumed + 5..]).is_err());
}

#[test]
fn every_proper_prefix_is_incomplete_never_invalid() {
    for len in 0..REQUEST.len() {
        assert_eq!(
            decode(&REQUEST[..len]),
            Err(DecodeError::Incomplete),
            "{len}"
        );
    }
}

#[test]
fn whatever_could_execute_is_refused_by_name() {
    let cases: [(&[u8], &str); 17] = [
        (b"cos\nsystem\n(S'true'\ntR.", "GLOBAL"),
        (
            b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
            "STACK_GLOBAL",
        ),
        (b"NNR.", "REDUCE"),
        (b"N}b.", "BUILD"),
        (b"(S'true'\nios\nsystem\n.", "INST"),
        (b"(No.", "OBJ"),
        (b"\x80\x02N)\x81.", "NEWOBJ"),
        (b"\x80\x04N)}\x92.", "NEWOBJ_EX"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02\x83\x01\0.", "EXT2"),
        (b"\x80\x02\x84\x01\0\0\0.", "EXT4"),
        (b"Pname\n.", "PERSID"),
        (b"NQ.", "BINPERSID"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x05N\x98.", "READONLY_BUFFER"),
        // The refusal comes as soon as the instruction does, whatever may follow.
        (b"c", "GLOBAL"),
        (b"P", "PERSID"),
    ];
    for (bytes, expected) in cases {
        let refusal = invalid(bytes);
        let Invalid::Refused { name, .. } = refusal else {
            panic!("{expected}: {refusal:?}");
        };
        assert_eq!(name, expected);
    }
    assert_eq!(
        invalid(b"\x80\x04N\x93").to_string(),
        "refused STACK_GLOBAL at byte 3: only plain data is read, nothing is ever executed"
    );
}

#[test]
fn bytes_that_are_no_pickle_are_invalid() {
    let invalid_ones: [(&[u8], Invalid); 12] = [
        (b"\x80\x06N.", Invalid::Protocol { version: 6 }),
        (b"HELLO", Invalid::Unknown { byte: b'H', at: 0 }),
        (b"N\xff", Invalid::Unknown { byte: 0xff, at: 1 }),
        (
            b".",
            Invalid::Stack {
                name: "STOP",
                at: 0,
            },
        ),
        (
            b"N(.",
            Invalid::Stack {
                name: "STOP",
                at: 2,
            },
        ),
        (
            b"(N\x86.",
            Invalid::Stack {
                name: "TUPLE2",
                at: 2,
            },
        ),
        (
            b"N(Ne.",
            Invalid::Stack {
                name: "APPENDS",
                at: 3,
            },
        ),
        (
            b"}(Nu.",
            Invalid::Stack {
                name: "SETITEMS",
                at: 3,
            },
        ),
        (b"h\x07.", Invalid::MemoMissing { index: 7 }),
        (b"}]Ns.", Invalid::Unhashable { type_name: "list" }),
        (
            b"\x8c\x01\xff.",
            Invalid::Argument {
                name: "SHORT_BINUNICODE",
                at: 0,
            },
        ),
        (b"\x8f(}\x90.", Invalid::Unhashable { type_name: "dict" }),
    ];
    for (bytes, expected) in invalid_ones {
        assert_eq!(invalid(bytes), expected, "{bytes:?}");
    }
}

#[test]
fn a_pickle_fills_its_frame_exactly() {
    let framed = |len: u64, body: &[u8]| [b"\x80\x04\x95", &len.to_le_bytes()[..], body].concat();
    let whole = Ok((Value::Int(1), 14));
    assert_eq!(decode(&framed(3, b"K\x01.")), whole);
    assert_eq!(
        decode(&framed(2, b"K\x01.")),
        whole,
        "STOP may stand outside"
    );
    assert_eq!(
        invalid(&framed(4, b"K\x01.")),
        Invalid::Frame,
        "stops inside"
    );
    assert_eq!(
        invalid(&framed(1, b"K\x01.")),
        Invalid::Frame,
        "crosses the end"
    );
    let nested = framed(20, b"\x95\x01\0\0\0\0\0\0\0N.");
    assert_eq!(invalid(&nested), Invalid::Frame, "a frame in a frame");
}

#[test]
fn a_lost_byte_is_noticed_and_not_waited_for() {
    let whole = encode(&request()).expect("short");
    for lost in 11..whole.len() - 1 {
        let mut bytes = whole.clone();
        bytes.remove(lost);
        assert!(
            matches!(decode(&bytes), Err(DecodeError::Invalid(_))),
            "byte {lost}"
        );
    }
}

#[test]
fn a_remembered_container_is_what_it_became() {
    // The inner list is referred to first and filled afterwards; both places show the filling.
    let bytes = b"](]\x94h\x00K\x07ae.";
    let inner = Value::List(vec![Value::Int(7)]);
    let outer = Value::List(vec![inner.clone(), inner]);
    assert_eq!(decode(bytes), Ok((outer, bytes.len())));
}

#[test]
fn a_key_that_is_set_twice_keeps_its_place_and_gets_the_later_value() {
    let bytes = b"}(\x88K\x01K\x05K\x06K\x01K\x02G\x3f\xf0\0\0\0\0\0\0K\x03u.";
    let expected = Value::Dict(vec![
        (Value::Bool(true), Value::Int(3)),
        (Value::Int(5), Value::Int(6)),
    ]);
    assert_eq!(decode(bytes), Ok((expected, bytes.len())));
}

#[test]
fn the_writer_keeps_the_limits_of_the_reader() {
    let mut deep = Value::None;
    for _ in 0..DEPTH_MAX {
        deep = Value::List(vec![deep]);
    }
    let bytes = encode(&deep).expect("as deep as allowed");
    assert_eq!(decode(&bytes), Ok((deep.clone(), bytes.len())));
    assert_eq!(encode(&Value::Tuple(vec![deep])), Err(Invalid::TooDeep));
    let wide = Value::List(vec![Value::None; VALUES_MAX]);
    assert_eq!(encode(&wide), Err(Invalid::TooManyValues));
    let overhead = encode(&text(&"x".repeat(300))).expect("short").len() - 300;
    let longest = text(&"x".repeat(PICKLE_LEN_MAX - overhead));
    let bytes = encode(&longest).expect("as long as allowed");
    assert_eq!(decode(&bytes), Ok((longest, PICKLE_LEN_MAX)));
    assert_eq!(
        encode(&text(&"x".repeat(PICKLE_LEN_MAX))),
        Err(Invalid::TooLong)
    );
}

proptest! {
    /// Any bytes: an answer, the same one whole or in pieces, and no byte used twice or skipped.
    #[test]
    fn pieces_make_no_difference(
        bytes in soup(),
        cuts in prop::collection::vec(1..40usize, 1..30),
    ) {
        let whole = decode(&bytes);
        let mut decoder = Decoder::default();
        let mut buffer = Vec::new();
        let mut rest = &bytes[..];
        let mut done = 0;
        let mut cuts = cuts.iter().cycle();
        let pieced = loop {
            let (piece, after) = rest.split_at(rest.len().min(*cuts.next().expect("endless")));
            buffer.extend_from_slice(piece);
            rest = after;
            match decoder.advance(&buffer) {
                Ok(Advance { consumed, value: Some(value) }) => break Ok((value, done + consumed)),
                Ok(Advance { consumed, value: None }) => {
                    done += consumed;
                    buffer.drain(..consumed);
                }
                Err(invalid) => break Err(DecodeError::Invalid(invalid)),
            }
            if rest.is_empty() {
                break Err(DecodeError::Incomplete);
            }
        };
        prop_assert_eq!(format!("{whole:?}"), format!("{pieced:?}"));
    }

    /// What was read can be written, and reads back as the same.
    #[test]
    fn what_is_read_can_be_written(bytes in soup()) {
        if let Ok((value, len)) = decode(&bytes) {
            prop_assert!(len <= bytes.len());
            let again = encode(&value).expect("within the limits");
            let (value_again, len_again) = decode(&again).expect("what is written can be read");
            prop_assert_eq!(format!("{value:?}"), format!("{value_again:?}"));
            prop_assert_eq!(len_again, again.len());
        }
    }
}
