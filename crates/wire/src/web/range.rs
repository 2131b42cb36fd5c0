//! The `Range` field (RFC 9110 section 14.1): what was asked, not yet what the file has.

use thiserror::Error;

/// Most ranges read from one field. RFC 9110 section 14.2 lets a server ignore more.
pub const RANGE_SPECS_MAX: usize = 32;

/// One member of a byte range set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeSpec {
    /// `first-` or `first-last`, both inclusive byte positions from 0.
    From {
        /// First byte.
        first: u64,
        /// Last byte; none means to the end.
        last: Option<u64>,
    },
    /// `-len`: the last `len` bytes.
    Suffix(u64),
}

/// Why a `Range` is to be ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RangeError {
    /// Not in `bytes`.
    #[error("a range unit other than bytes")]
    Unit,
    /// Not of the grammar, or a last byte before the first.
    #[error("not a byte range set")]
    Malformed,
    /// More than [`RANGE_SPECS_MAX`].
    #[error("more than {RANGE_SPECS_MAX} ranges")]
    TooMany,
}

/// Reads a `Range` field value. Positions too large for 64 bits are read as the largest.
pub fn parse_ranges(value: &[u8]) -> Result<Vec<RangeSpec>, RangeError> {
    let equals = value
        .iter()
        .position(|&b| b == b'=')
        .ok_or(RangeError::Malformed)?;
    if !value[..equals].trim_ascii().eq_ignore_ascii_case(b"bytes") {
        return Err(RangeError::Unit);
    }
    let mut specs = Vec::new();
    for part in value[equals + 1..].split(|&b| b == b',') {
        let part = part.trim_ascii();
        if part.is_empty() {
            continue;
        }
        if specs.len() == RANGE_SPECS_MAX {
            return Err(RangeError::TooMany);
        }
        specs.push(parse_spec(part)?);
    }
    if specs.is_empty() {
        Err(RangeError::Malformed)
    } else {
        Ok(specs)
    }
}

fn parse_spec(part: &[u8]) -> Result<RangeSpec, RangeError> {
    let dash = part
        .iter()
        .position(|&b| b == b'-')
        .ok_or(RangeError::Malformed)?;
    let (left, right) = (&part[..dash], &part[dash + 1..]);
    if left.is_empty() {
        return Ok(RangeSpec::Suffix(digits(right)?));
    }
    let first = digits(left)?;
    let last = if right.is_empty() {
        None
    } else {
        Some(digits(right)?)
    };
    if last.is_some_and(|last| last < first) {
        return Err(RangeError::Malformed);
    }
    Ok(RangeSpec::From { first, last })
}

fn digits(text: &[u8]) -> Result<u64, RangeError> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(RangeError::Malformed);
    }
    Ok(text.iter().fold(0_u64, |value, digit| {
        value
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let from = |first, last| RangeSpec::From { first, last };
        for (text, want) in [
            ("bytes=0-499", Ok(vec![from(0, Some(499))])),
            ("BYTES=9500-", Ok(vec![from(9500, None)])),
            ("bytes=-500", Ok(vec![RangeSpec::Suffix(500)])),
            (
                "bytes= 0-0 ,, -1",
                Ok(vec![from(0, Some(0)), RangeSpec::Suffix(1)]),
            ),
            (
                "bytes=0-99999999999999999999999",
                Ok(vec![from(0, Some(u64::MAX))]),
            ),
            ("bytes=5-4", Err(RangeError::Malformed)),
            ("bytes=", Err(RangeError::Malformed)),
            ("bytes=-", Err(RangeError::Malformed)),
            ("bytes=a-b", Err(RangeError::Malformed)),
            ("bytes=0x1-2", Err(RangeError::Malformed)),
            ("bytes=+1-2", Err(RangeError::Malformed)),
            ("bytes 0-1", Err(RangeError::Malformed)),
            ("lines=0-1", Err(RangeError::Unit)),
        ] {
            assert_eq!(parse_ranges(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn too_many_ranges_are_refused() {
        let at_most = format!("bytes={}", "0-0,".repeat(RANGE_SPECS_MAX));
        assert_eq!(
            parse_ranges(at_most.as_bytes()).map(|s| s.len()),
            Ok(RANGE_SPECS_MAX)
        );
        let more = format!("bytes={}", "0-0,".repeat(RANGE_SPECS_MAX + 1));
        assert_eq!(parse_ranges(more.as_bytes()), Err(RangeError::TooMany));
    }
}
