//! What must hold of the pickle codec for any bytes at all.

use ahoy_wire::pickle::{DecodeError, Decoder, decode, encode};

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
    let again = encode(&value).expect("what was read is within the limits");
    let (value_again, len_again) = decode(&again).expect("what was written can be read");
    assert_eq!(len_again, again.len());
    assert_eq!(value_again.repr().to_string(), value.repr().to_string());
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
