//! One peer asks another for a file: a name goes there, the file comes back.
//!
//! The newer generation asks with a line and gets `Content-Length: <n>` and a line end before the
//! bytes (classic-50); the older one asks with the bare name and gets the bare bytes (classic-51).

use super::Generation;
use super::name::FileName;

/// The longest request, in bytes: a name of 255 bytes, each escaped, in quotes.
pub const REQUEST_BYTES_MAX: usize = 2048;

/// The longest line before a file, in bytes.
pub const HEADER_BYTES_MAX: usize = 64;

/// The longest file that is believed in, in bytes: 16 TiB, the most that ext4 takes.
pub const FILE_BYTES_MAX: u64 = 1 << 44;

/// A request for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRequest {
    /// How it was asked, and so how it is to be answered.
    pub generation: Generation,
    /// The name; where it can be read in two ways, the more literal one first. Empty if it is no
    /// name at all (classic-6).
    pub names: Vec<FileName>,
}

/// What the beginning of an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// It could still become a header.
    Incomplete,
    /// The header; the file follows.
    Length {
        /// The file's length in bytes, at most [`FILE_BYTES_MAX`].
        file_bytes: u64,
        /// The header's own length in bytes.
        header_bytes: usize,
    },
    /// Something else.
    Absent,
}

impl FileRequest {
    /// The bytes that ask for `name`.
    #[must_use]
    pub fn encode(name: &FileName, generation: Generation) -> Vec<u8> {
        let mut bytes = name.as_str().as_bytes().to_vec();
        match generation {
            Generation::Lines => bytes.push(b'\n'),
            Generation::Bare => {}
        }
        bytes
    }
}

/// Reads a request from what has arrived; None if more is to be waited for. `ended` says that
/// nothing more comes: the stream has ended, or was silent for long enough (classic-52).
#[must_use]
pub fn read_request(bytes: &[u8], ended: bool) -> Option<FileRequest> {
    let line = bytes.iter().position(|byte| *byte == b'\n');
    let is_whole = line.is_some() || ended || bytes.len() >= REQUEST_BYTES_MAX;
    if !is_whole {
        return None;
    }
    let generation = match line {
        Some(_) => Generation::Lines,
        None => Generation::Bare,
    };
    let text = &bytes[..line.unwrap_or(bytes.len())];
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let names = std::str::from_utf8(text).map(names_in).unwrap_or_default();
    Some(FileRequest { generation, names })
}

/// The line before a file of `file_bytes` bytes.
#[must_use]
pub fn header(file_bytes: u64) -> Vec<u8> {
    format!("Content-Length: {file_bytes}\n").into_bytes()
}

/// Reads the line before a file, in any case and with any blanks.
#[must_use]
pub fn read_header(bytes: &[u8]) -> Header {
    const WORD: &[u8] = b"content-length:";
    let word = &bytes[..bytes.len().min(WORD.len())];
    if !word.eq_ignore_ascii_case(&WORD[..word.len()]) {
        return Header::Absent;
    }
    let Some(line) = bytes
        .iter()
        .take(HEADER_BYTES_MAX)
        .position(|b| *b == b'\n')
    else {
        return if bytes.len() < HEADER_BYTES_MAX {
            Header::Incomplete
        } else {
            Header::Absent
        };
    };
    let digits = bytes.get(WORD.len()..line).unwrap_or_default().trim_ascii();
    let number = std::str::from_utf8(digits)
        .ok()
        .filter(|text| !text.starts_with('+'));
    match number.and_then(|text| text.parse().ok()) {
        Some(file_bytes) if file_bytes <= FILE_BYTES_MAX => Header::Length {
            file_bytes,
            header_bytes: line + 1,
        },
        Some(_) | None => Header::Absent,
    }
}

/// The text as a name, and as a JSON string, as some peers send it (classic-55).
fn names_in(text: &str) -> Vec<FileName> {
    let quoted: Option<String> = serde_json::from_str(text).ok();
    let readings = [Some(text.to_owned()), quoted];
    let names = readings.into_iter().flatten();
    names.filter_map(|name| FileName::new(&name).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(bytes: &[u8], ended: bool) -> Option<(Generation, Vec<String>)> {
        let request = read_request(bytes, ended)?;
        let names = request.names.iter().map(|name| name.as_str().to_owned());
        Some((request.generation, names.collect()))
    }

    /// classic-50, classic-51, classic-52, classic-55.
    #[test]
    fn a_request_is_read_in_both_generations() {
        let lines = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            Some((Generation::Lines, names))
        };
        let bare = |names: &[&str]| lines(names).map(|(_, names)| (Generation::Bare, names));
        for ended in [false, true] {
            assert_eq!(asked(b"a b.txt\n", ended), lines(&["a b.txt"]));
            assert_eq!(asked("é.txt\r\nrest".as_bytes(), ended), lines(&["é.txt"]));
            assert_eq!(asked(br#""caf\u00e9""#, ended).is_some(), ended);
        }
        assert_eq!(asked(b"\"a\"\n", false), lines(&["\"a\"", "a"]));
        assert_eq!(asked(b"a", false), None);
        assert_eq!(asked(b"a", true), bare(&["a"]));
        assert_eq!(asked(b"", true), bare(&[]));
        for unfit in ["../a", "/etc/passwd", "..", "a\0"] {
            assert_eq!(asked(unfit.as_bytes(), true), bare(&[]), "{unfit}");
        }
        assert_eq!(asked(&[b'x'; REQUEST_BYTES_MAX], false), bare(&[]));
        let name = FileName::new("a b").expect("a name");
        assert_eq!(FileRequest::encode(&name, Generation::Lines), b"a b\n");
        assert_eq!(FileRequest::encode(&name, Generation::Bare), b"a b");
    }

    /// classic-50.
    #[test]
    fn a_header_is_told_from_a_file() {
        let length = |file_bytes, header_bytes| Header::Length {
            file_bytes,
            header_bytes,
        };
        assert_eq!(header(300_000), b"Content-Length: 300000\n");
        for (text, expected) in [
            ("Content-Length: 300000\nxyz", length(300_000, 23)),
            ("content-length:0\r\n", length(0, 18)),
            ("Content-Length: 17592186044416\n", length(1 << 44, 31)),
            ("Content-Length: 17592186044417\n", Header::Absent),
            ("Content-Length: -1\n", Header::Absent),
            ("Content-Length: +1\n", Header::Absent),
            ("Content-Length: \n", Header::Absent),
            ("Content-Length\n: 3", Header::Absent),
            ("", Header::Incomplete),
            ("Cont", Header::Incomplete),
            ("Content-Length: 12", Header::Incomplete),
            ("Contents", Header::Absent),
            ("\u{0}\u{1}", Header::Absent),
        ] {
            assert_eq!(read_header(text.as_bytes()), expected, "{text:?}");
        }
        let long = format!("Content-Length: {}", " ".repeat(80));
        assert_eq!(read_header(long.as_bytes()), Header::Absent);
    }
}
