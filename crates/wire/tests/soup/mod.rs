//! Bytes with a chance of being a pickle, for the tests that feed the reader at random.

use proptest::prelude::*;

/// Instructions with fitting arguments, sometimes spoiled.
pub fn soup() -> impl Strategy<Value = Vec<u8>> {
    let bare = prop::sample::select(
        b"(()..0012NNN]]}})aaeeldstu\x85\x86\x87\x88\x89\x8f\x90\x91\x94\x94".to_vec(),
    );
    let piece = prop_oneof![
        10 => bare.prop_map(|byte| vec![byte]),
        2 => any::<u8>().prop_map(|byte| vec![b'K', byte]),
        2 => (0..4u8).prop_map(|entry| vec![b'h', entry]),
        2 => (0..4u8).prop_map(|entry| vec![b'q', entry]),
        2 => "[ -~]{0,9}".prop_map(|text| [&[0x8c, text.len() as u8], text.as_bytes()].concat()),
        1 => "[ -~]{0,9}".prop_map(|text| format!("V{text}\n").into_bytes()),
        1 => "[ -~]{0,9}".prop_map(|text| format!("S'{text}'\n").into_bytes()),
        1 => any::<i64>().prop_map(|number| format!("L{number}L\n").into_bytes()),
        1 => any::<f64>().prop_map(|number| format!("F{number}\n").into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..18)
            .prop_map(|bytes| [&[0x8a, bytes.len() as u8], &bytes[..]].concat()),
        1 => (0..40u8).prop_map(|len| vec![0x95, len, 0, 0, 0, 0, 0, 0, 0]),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| {
        let mut bytes = pieces.concat();
        bytes.push(b'.');
        bytes
    })
}
