//! Text from strangers, made fit for a terminal or a log.
//!
//! Names and messages are free text and may hold whatever moves a cursor, clears a screen, turns
//! the direction of writing, or begins a line that looks like ours. That is escaped; everything
//! that is merely unusual (another script, a wide space, a joiner inside a word) is left as it was
//! written. Not for HTML or CSV, which have rules of their own.

use std::borrow::Cow;
use std::fmt::Write;

/// `text` with `\n`, `\r`, `\t`, `\xNN` or `\uNNNN` in place of what must not reach a terminal.
///
/// A backslash stays as it is, so this cannot be undone; it is for eyes only.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unfit) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            _ if !is_unfit(character) => escaped.push(character),
            _ => {
                let code = u32::from(character);
                let written = match character {
                    ..='\u{ff}' => write!(escaped, "\\x{code:02x}"),
                    _ => write!(escaped, "\\u{code:04x}"),
                };
                written.expect("a String takes everything");
            }
        }
    }
    Cow::Owned(escaped)
}

/// JSON text with `\uNNNN` in place of what must not reach a terminal; it stands for the same
/// value.
///
/// Outside its strings, compact JSON has none of these characters.
#[must_use]
pub fn escaped_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(is_unfit) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if is_unfit(character) {
            // All of them have four digits at most.
            let code = u32::from(character);
            write!(escaped, "\\u{code:04x}").expect("a String takes everything");
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// Control characters, separators of lines and paragraphs, and those that turn the direction of
/// the text around them.
#[must_use]
pub fn is_unfit(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_cursor_is_escaped_and_names_are_left() {
        for (text, expected) in [
            ("Alice Brown", "Alice Brown"),
            (
                "Zoë 山田\u{3000}太郎 नि\u{200d}",
                "Zoë 山田\u{3000}太郎 नि\u{200d}",
            ),
            ("C:\\n", "C:\\n"),
            ("a\nConnected: x", "a\\nConnected: x"),
            ("\x1b[2J\x07\r\t\0\x7f", "\\x1b[2J\\x07\\r\\t\\x00\\x7f"),
            ("\u{9b}31m\u{202e}abc\u{2028}", "\\x9b31m\\u202eabc\\u2028"),
        ] {
            assert_eq!(escaped(text), expected);
        }
    }

    #[test]
    fn json_stays_json() {
        let json = "{\"name\":\"a\u{7f}\u{9b}\u{202e}\\n\"}";
        assert_eq!(
            escaped_json(json),
            "{\"name\":\"a\\u007f\\u009b\\u202e\\n\"}"
        );
        assert_eq!(escaped_json("{\"name\":\"Zoë\"}"), "{\"name\":\"Zoë\"}");
    }
}
