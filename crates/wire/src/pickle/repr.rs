//! How Python prints a value: `str(value)` and `repr(value)`.
//!
//! The console lines of the course come from Python's `print`, so ours have to be formed by the
//! same rules. `repr` also escapes everything that could play tricks with a terminal; a bare text
//! printed with `str` does not, and must be escaped by whoever prints it.

use std::fmt::{self, Display, Formatter, Write};

use super::Value;

/// `str(value)`: a text as it is, anything else as `repr` has it.
impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Value::Str(text) => f.write_str(text),
            Value::None
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Float(_)
            | Value::Bytes(_)
            | Value::List(_)
            | Value::Tuple(_)
            | Value::Dict(_)
            | Value::Set(_)
            | Value::FrozenSet(_) => repr(f, self),
        }
    }
}

impl Value {
    /// `repr(value)`: texts in quotes, everything that does not print escaped.
    #[must_use]
    pub fn repr(&self) -> impl Display {
        fmt::from_fn(move |f| repr(f, self))
    }
}

fn repr(f: &mut Formatter<'_>, value: &Value) -> fmt::Result {
    match value {
        Value::None => f.write_str("None"),
        Value::Bool(true) => f.write_str("True"),
        Value::Bool(false) => f.write_str("False"),
        Value::Int(number) => write!(f, "{number}"),
        Value::Float(number) => float(f, *number),
        Value::Bytes(bytes) => byte_string(f, bytes),
        Value::Str(text) => quoted(f, text),
        Value::List(items) => listed(f, "[", items, "]"),
        Value::Tuple(items) if items.len() == 1 => listed(f, "(", items, ",)"),
        Value::Tuple(items) => listed(f, "(", items, ")"),
        Value::Set(items) if items.is_empty() => f.write_str("set()"),
        Value::Set(items) => listed(f, "{", items, "}"),
        Value::FrozenSet(items) if items.is_empty() => f.write_str("frozenset()"),
        Value::FrozenSet(items) => listed(f, "frozenset({", items, "})"),
        Value::Dict(entries) => {
            f.write_char('{')?;
            for (index, (key, value)) in entries.iter().enumerate() {
                f.write_str(if index > 0 { ", " } else { "" })?;
                repr(f, key)?;
                f.write_str(": ")?;
                repr(f, value)?;
            }
            f.write_char('}')
        }
    }
}

fn listed(f: &mut Formatter<'_>, open: &str, items: &[Value], close: &str) -> fmt::Result {
    f.write_str(open)?;
    for (index, item) in items.iter().enumerate() {
        f.write_str(if index > 0 { ", " } else { "" })?;
        repr(f, item)?;
    }
    f.write_str(close)
}

/// The shortest digits that read back as the same number, as a decimal up to 16 places.
fn float(f: &mut Formatter<'_>, number: f64) -> fmt::Result {
    if number.is_nan() {
        return f.write_str("nan");
    }
    if number.is_infinite() {
        return f.write_str(if number > 0.0 { "inf" } else { "-inf" });
    }
    let shortest = format!("{number:e}");
    // Where two decimals of that length are equally near, Python takes the even one; so does
    // formatting with a fixed number of places, if it still reads back as the number.
    let places = shortest.chars().filter(char::is_ascii_digit).count() - exponent_digits(&shortest);
    let even = format!("{number:.*e}", places - 1);
    let chosen = if even.parse() == Ok(number) {
        even
    } else {
        shortest
    };
    let (sign, unsigned) = match chosen.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", &chosen[..]),
    };
    let (mantissa, exponent) = unsigned.split_once('e').expect("{:e} writes an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    let digits = mantissa.replace('.', "");
    f.write_str(sign)?;
    match exponent {
        0..=15 => {
            let whole = exponent.unsigned_abs() as usize + 1;
            let (before, after) = digits.split_at(whole.min(digits.len()));
            let after = if after.is_empty() { "0" } else { after };
            write!(f, "{before:0<whole$}.{after}")
        }
        -4..0 => {
            let zeros = exponent.unsigned_abs() as usize - 1;
            write!(f, "0.{:0<zeros$}{digits}", "")
        }
        ..-4 => write!(f, "{mantissa}e-{:02}", -exponent),
        _ => write!(f, "{mantissa}e+{exponent:02}"),
    }
}

fn exponent_digits(scientific: &str) -> usize {
    let exponent = scientific.rsplit('e').next().unwrap_or_default();
    exponent.chars().filter(char::is_ascii_digit).count()
}

fn byte_string(f: &mut Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let quote = quote_for(bytes.contains(&b'\''), bytes.contains(&b'"'));
    write!(f, "b{quote}")?;
    for byte in bytes {
        match char::from(*byte) {
            special @ ('\\' | '\'' | '\n' | '\r' | '\t') => escaped(f, special, quote)?,
            printable @ ' '..='~' => f.write_char(printable)?,
            _ => write!(f, "\\x{byte:02x}")?,
        }
    }
    f.write_char(quote)
}

fn quoted(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    let quote = quote_for(text.contains('\''), text.contains('"'));
    f.write_char(quote)?;
    for character in text.chars() {
        let code = u32::from(character);
        match character {
            '\\' | '\'' | '\n' | '\r' | '\t' => escaped(f, character, quote)?,
            _ if prints(character) => f.write_char(character)?,
            ..='\u{ff}' => write!(f, "\\x{code:02x}")?,
            ..='\u{ffff}' => write!(f, "\\u{code:04x}")?,
            _ => write!(f, "\\U{code:08x}")?,
        }
    }
    f.write_char(quote)
}

fn quote_for(has_single: bool, has_double: bool) -> char {
    if has_single && !has_double { '"' } else { '\'' }
}

fn escaped(f: &mut Formatter<'_>, character: char, quote: char) -> fmt::Result {
    match character {
        '\n' => f.write_str("\\n"),
        '\r' => f.write_str("\\r"),
        '\t' => f.write_str("\\t"),
        '\'' if quote == '"' => f.write_char('\''),
        _ => write!(f, "\\{character}"),
    }
}

/// Whether Python's `str.isprintable` holds: neither control, format, separator (but the space),
/// private nor permanently unassigned. Code points that merely have no character yet are taken as
/// printable, which differs from one version of Unicode to the next anyway.
fn prints(character: char) -> bool {
    !character.is_control()
        && !matches!(u32::from(character),
            // Format characters (Cf).
            0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x890..=0x891 | 0x8e2 | 0x180e
            | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x2064 | 0x2066..=0x206f | 0xfeff
            | 0xfff9..=0xfffb | 0x110bd | 0x110cd | 0x13430..=0x1343f | 0x1bca0..=0x1bca3
            | 0x1d173..=0x1d17a | 0xe0001 | 0xe0020..=0xe007f
            // Separators (Zs, Zl, Zp) other than the space.
            | 0xa0 | 0x1680 | 0x2000..=0x200a | 0x2028..=0x2029 | 0x202f | 0x205f | 0x3000
            // Private use (Co) and code points that never become characters.
            | 0xe000..=0xf8ff | 0xf0000..=0x10ffff | 0xfdd0..=0xfdef)
        && u32::from(character) & 0xfffe != 0xfffe
}
