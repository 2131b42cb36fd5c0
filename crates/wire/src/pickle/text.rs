//! The arguments of protocol 0, which are lines of text: numbers, quoted and escaped strings.
//!
//! Every function gets the line without its newline and answers None if it is malformed. Decimal
//! only: CPython's reader also takes `0x10` here, but no writer makes that.

use super::graph::Node;

/// The argument of INT: an integer, or the two spellings that mean True and False.
pub(super) fn int(line: &[u8]) -> Option<Node> {
    match line {
        b"00" => Some(Node::Bool(false)),
        b"01" => Some(Node::Bool(true)),
        _ => number(line).map(Node::Int),
    }
}

/// The argument of LONG: an integer, with or without the `L` that Python 2 put behind it.
pub(super) fn long(line: &[u8]) -> Option<i128> {
    number(line.strip_suffix(b"L").unwrap_or(line))
}

/// The argument of FLOAT: what `repr` prints of a float.
pub(super) fn float(line: &[u8]) -> Option<f64> {
    str::from_utf8(line).ok()?.trim_ascii().parse().ok()
}

/// The argument of GET and PUT: a number that cannot be negative.
pub(super) fn decimal(line: &[u8]) -> Option<u64> {
    str::from_utf8(line).ok()?.trim_ascii().parse().ok()
}

fn number(line: &[u8]) -> Option<i128> {
    str::from_utf8(line).ok()?.trim_ascii().parse().ok()
}

/// The argument of UNICODE, which CPython calls raw-unicode-escape: Latin-1 except for `\uXXXX`
/// and `\UXXXXXXXX`. A backslash that begins neither stands for itself.
pub(super) fn raw_unicode(line: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let digits = match (byte, after.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            (b'\\', Some(b'\\')) => {
                // A pair of backslashes is two characters and hides a `u` behind it.
                text.push_str("\\\\");
                rest = &after[1..];
                continue;
            }
            _ => {
                text.push(char::from(byte));
                continue;
            }
        };
        let (code, after) = hex(&after[1..], digits)?;
        text.push(char::from_u32(code)?);
        rest = after;
    }
    Some(text)
}

/// The argument of STRING: what Python 2's `repr` prints of a `str`, quotes included.
pub(super) fn quoted(line: &[u8]) -> Option<Vec<u8>> {
    let quote = *line.first().filter(|byte| b"'\"".contains(byte))?;
    let mut rest = line.get(1..)?.strip_suffix(&[quote])?;
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (&escape, after) = after.split_first()?;
        rest = after;
        let byte = match escape {
            b'\\' | b'\'' | b'"' => escape,
            b'a' => 0x07,
            b'b' => 0x08,
            b't' => b'\t',
            b'n' => b'\n',
            b'v' => 0x0b,
            b'f' => 0x0c,
            b'r' => b'\r',
            b'x' => {
                let (code, after) = hex(after, 2)?;
                rest = after;
                u8::try_from(code).ok()?
            }
            b'0'..=b'7' => {
                let (code, after) = octal(escape, after);
                rest = after;
                code
            }
            _ => {
                bytes.push(b'\\');
                escape
            }
        };
        bytes.push(byte);
    }
    Some(bytes)
}

/// Exactly `digits` hexadecimal digits, and what follows them.
fn hex(bytes: &[u8], digits: usize) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_at_checked(digits)?;
    let code = number.iter().try_fold(0u32, |code, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        Some(code << 4 | digit)
    })?;
    Some((code, rest))
}

/// One to three octal digits, the first already taken; as in Python only eight bits are kept.
fn octal(first: u8, mut rest: &[u8]) -> (u8, &[u8]) {
    let mut code = u32::from(first - b'0');
    for _ in 0..2 {
        let Some((digit @ b'0'..=b'7', after)) = rest.split_first() else {
            break;
        };
        code = code * 8 + u32::from(digit - b'0');
        rest = after;
    }
    ((code & 0xff) as u8, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal_and_signed() {
        assert_eq!(long(b"-12L"), Some(-12));
        assert_eq!(long(b"12"), Some(12));
        for wrong in [&b""[..], b"L", b"0x10", b"1_0", b"1 2", b"\xff"] {
            assert_eq!(long(wrong), None, "{wrong:?}");
        }
        assert_eq!(decimal(b"-1"), None);
        assert_eq!(float(b"1e999"), Some(f64::INFINITY));
        assert_eq!(float(b""), None);
    }

    #[test]
    fn escapes_that_break_off_are_malformed() {
        for wrong in [
            &b"\\u12"[..],
            b"\\U0000004",
            b"\\uzzzz",
            b"\\ud800",
            b"\\U00110000",
        ] {
            assert_eq!(raw_unicode(wrong), None, "{wrong:?}");
        }
        assert_eq!(
            raw_unicode(b"a\\b\xe9\\u2713\\"),
            Some("a\\b\u{e9}\u{2713}\\".into())
        );
        for wrong in [&b""[..], b"'", b"'a", b"'a\"", b"a", b"'\\'", b"'\\x1'"] {
            assert_eq!(quoted(wrong), None, "{wrong:?}");
        }
        assert_eq!(
            quoted(b"'\\x41\\101\\0\\q\\n'"),
            Some(b"AA\0\\q\n".to_vec())
        );
    }
}
