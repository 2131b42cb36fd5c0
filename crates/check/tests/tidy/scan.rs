//! A small, honest scanner: enough of Rust's grammar to tell code from strings and comments, and to
//! find where each function begins and ends. No macros are expanded, no names resolved.

/// A function: its name, and the lines of its first token and of its last brace, from 1.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub first_line: usize,
    pub last_line: usize,
}

/// `source` with the content of every comment, string and character literal blanked out; lines and
/// columns stay where they were.
pub fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        if end == at {
            code.push(bytes[at]);
            at += 1;
        } else {
            let blank = |byte: &u8| if *byte == b'\n' { b'\n' } else { b' ' };
            code.extend(bytes[at..end].iter().map(blank));
            at = end;
        }
    }
    String::from_utf8(code).expect("whole literals were replaced by ASCII")
}

/// All functions that have a body, in the order in which they begin.
pub fn functions(source: &str) -> Vec<Function> {
    let code = code_only(source);
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(place) = code[at..].find("fn ").map(|offset| at + offset) {
        at = place + 3;
        if place > 0 && is_word(bytes[place - 1]) {
            continue;
        }
        let name: String = code[at..]
            .chars()
            .take_while(|c| is_word(*c as u8))
            .collect();
        if name.is_empty() {
            continue; // a function pointer type
        }
        if let Some((_, close)) = body(bytes, at) {
            found.push(Function {
                name,
                first_line: line_of(bytes, place),
                last_line: line_of(bytes, close),
            });
        }
    }
    found
}

/// The braces of the body of the function whose name is at `at`; None for a declaration.
fn body(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut depth = 0_i32;
    let mut open = None;
    for (place, byte) in bytes.iter().enumerate().skip(at) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b';' if depth == 0 && open.is_none() => return None,
            b'{' => {
                if depth == 0 && open.is_none() {
                    open = Some(place);
                }
                depth += 1;
            }
            b'}' => {
                depth -= 1;
                if let Some(open) = open
                    && depth == 0
                {
                    return Some((open, place));
                }
            }
            _ => {}
        }
    }
    None
}

fn line_of(bytes: &[u8], place: usize) -> usize {
    bytes[..place].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where the comment or literal that begins at `at` ends; `at` itself if none begins there.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let inside_word = at > 0 && is_word(bytes[at - 1]);
    if rest.starts_with(b"//") {
        return find(bytes, at, b"\n").unwrap_or(bytes.len());
    }
    if rest.starts_with(b"/*") {
        return block_comment_end(bytes, at);
    }
    if rest[0] == b'"' {
        return quoted_end(bytes, at + 1, b'"');
    }
    if rest[0] == b'\'' {
        return character_end(bytes, at);
    }
    if inside_word {
        return at;
    }
    let prefix = rest
        .iter()
        .take_while(|byte| matches!(byte, b'b' | b'r' | b'c'))
        .count();
    let hashes = rest[prefix..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    let raw = rest[..prefix].contains(&b'r');
    if raw && rest.get(prefix + hashes) == Some(&b'"') {
        let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
        let end = find(bytes, at + prefix + hashes + 1, &close);
        return end.map_or(bytes.len(), |end| end + close.len());
    }
    if prefix > 0 && rest.get(prefix) == Some(&b'"') {
        return quoted_end(bytes, at + prefix + 1, b'"');
    }
    if rest.starts_with(b"b'") {
        return quoted_end(bytes, at + 2, b'\'');
    }
    at
}

fn block_comment_end(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut place) = (0, at);
    while place < bytes.len() {
        if bytes[place..].starts_with(b"/*") {
            depth += 1;
            place += 2;
        } else if bytes[place..].starts_with(b"*/") {
            depth -= 1;
            place += 2;
            if depth == 0 {
                return place;
            }
        } else {
            place += 1;
        }
    }
    bytes.len()
}

fn quoted_end(bytes: &[u8], mut place: usize, quote: u8) -> usize {
    while place < bytes.len() {
        match bytes[place] {
            b'\\' => place += 2,
            byte if byte == quote => return place + 1,
            _ => place += 1,
        }
    }
    bytes.len()
}

/// A character literal has its quote after one character or an escape; a lifetime has none.
fn character_end(bytes: &[u8], at: usize) -> usize {
    if bytes.get(at + 1) == Some(&b'\\') {
        return quoted_end(bytes, at + 1, b'\'');
    }
    let text = String::from_utf8_lossy(&bytes[at + 1..bytes.len().min(at + 5)]).into_owned();
    let width = text.chars().next().map_or(0, char::len_utf8);
    if bytes.get(at + 1 + width) == Some(&b'\'') {
        at + width + 2
    } else {
        at
    }
}

fn find(bytes: &[u8], from: usize, wanted: &[u8]) -> Option<usize> {
    let windows = bytes.get(from..)?.windows(wanted.len());
    windows
        .into_iter()
        .position(|window| window == wanted)
        .map(|offset| from + offset)
}

#[test]
fn strings_and_comments_are_no_code() {
    let source = r###"a "fn x { \" }" b // fn y {
c /* { /* } */ { */ d r#"" } "# e '{' f 'a g b'"' h '\'' i br"{" j"###;
    let code = code_only(source);
    let words: Vec<&str> = code.split_whitespace().collect();
    assert_eq!(
        words,
        ["a", "b", "c", "d", "e", "f", "'a", "g", "h", "i", "j"]
    );
    assert_eq!(code.len(), source.len());
}

#[test]
fn functions_are_found_with_their_lines() {
    let source = r#"trait T {
    fn declared(x: [u8; 2]);
    fn given(&self) {
        f(|| {
        })
    }
}
const fn long<T>(f: fn (u8) -> u8)
where
    T: A,
{
    fn inner() {}
}
"#;
    let spans: Vec<(String, usize, usize)> = functions(source)
        .into_iter()
        .map(|function| (function.name, function.first_line, function.last_line))
        .collect();
    let expected = [("given", 3, 6), ("long", 8, 13), ("inner", 12, 12)];
    assert_eq!(
        spans,
        expected.map(|(name, first, last)| (name.to_owned(), first, last))
    );
}
