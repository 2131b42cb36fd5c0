//! What must hold of the pickle codec, and of enroll's reading of pickles, for any bytes at all.

use ahoy_wire::enroll::{Greeting, Registration, acknowledges};
use ahoy_wire::pickle::{DecodeError, Decoder, Invalid, Value, decode, encode};

/// Panics if it does not hold for `data`.
pub fn holds(data: &[u8]) {
    let whole = decode(data);
    // The first byte says where the input is cut in two; the answer must be the same.
    let cut = usize::from(data.first().copied().unwrap_or_default()) % (data.len() + 1);
    assert_eq!(format!("{:?}", in_two(data, cut)), format!("{whole:?}"));
    let Ok((value, len)) = whole else {
        return;
    };
    // STOP is the last byte, and nothing behind it matters.
    assert_eq!(data[len - 1], b'.');
    assert_eq!(decode(&data[..len - 1]), Err(DecodeError::Incomplete));
    // What was read can be written, and then reads as the same (floats compared by their text).
    // Only what was near the greatest length, or repeated from the memo, may be too long then.
    match encode(&value) {
        Ok(again) => {
            let (value_again, len_again) = decode(&again).expect("what was written can be read");
            assert_eq!(len_again, again.len());
            assert_eq!(value_again.repr().to_string(), value.repr().to_string());
        }
        Err(invalid) => assert_eq!(invalid, Invalid::TooLong),
    }
    messages(&value);
}

/// Whatever a message of enroll is taken for, it is taken for the same when it is sent on.
fn messages(value: &Value) {
    if let Ok(registration) = Registration::read(value) {
        // One text that stood in several places may not fit when it is written out for each.
        if let Ok(bytes) = registration.encode() {
            let (written, _) = decode(&bytes).expect("what was written can be read");
            assert_eq!(Registration::read(&written), Ok(registration));
        }
    }
    if let Ok(greeting) = Greeting::read(value.clone()) {
        let shown = greeting.value.repr().to_string();
        assert!(!shown.contains(char::is_control), "escaped: {shown:?}");
    }
    let is_number_1 = value.repr().to_string() == "1";
    assert!(acknowledges(value) || !is_number_1);
}

fn in_two(data: &[u8], cut: usize) -> Result<(ahoy_wire::pickle::Value, usize), DecodeError> {
    let mut decoder = Decoder::default();
    let first = decoder.advance(&data[..cut])?;
    if let Some(value) = first.value {
        return Ok((value, first.consumed));
    }
    let second = decoder.advance(&data[first.consumed..])?;
    let value = second.value.ok_or(DecodeError::Incomplete)?;
    Ok((value, first.consumed + second.consumed))
}
