//! File names and paths inside a share: bytes, as Linux has them, checked once and safe after.

use std::fmt;
use std::sync::{Arc, LazyLock};

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The one directory of a share that belongs to ahoy. A name equal to it is never synced, at any
/// depth, so that a share inside a share keeps its own state to itself.
pub const STATE_DIR: &[u8] = b".ahoy";

/// Longest file name in bytes (Linux NAME_MAX).
const NAME_BYTES_MAX: usize = 255;

/// Longest path below the share's root in bytes (Linux PATH_MAX less room for the root).
pub const PATH_BYTES_MAX: usize = 4096;

/// Why some bytes are not the name of a file in a share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Nothing, or more than 255 bytes.
    #[error("a file name has 1 to 255 bytes, this one has {0}")]
    Length(usize),
    /// `.`, `..`, or a byte that no file name can hold.
    #[error("{0:?} cannot be a file name inside a share")]
    Forbidden(String),
    /// ahoy's own directory.
    #[error("the name .ahoy is kept for ahoy's own state")]
    Reserved,
}

/// One file name: 1-255 bytes, no `/`, no NUL, not `.`, not `..`, not `.ahoy` (`sync-10`). A copy
/// of it shares the bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// Checks `bytes`; the only way to a `Name`.
    pub fn new(bytes: &[u8]) -> Result<Self, BadName> {
        if bytes.is_empty() || bytes.len() > NAME_BYTES_MAX {
            return Err(BadName::Length(bytes.len()));
        }
        if bytes == b"." || bytes == b".." || bytes.iter().any(|b| matches!(b, b'/' | 0)) {
            return Err(BadName::Forbidden(
                String::from_utf8_lossy(bytes).into_owned(),
            ));
        }
        if bytes == STATE_DIR {
            return Err(BadName::Reserved);
        }
        Ok(Self(bytes.into()))
    }

    /// The first of all names in their order: where a walk through a directory's names starts.
    pub fn lowest() -> Self {
        static LOWEST: LazyLock<Name> = LazyLock::new(|| Name([1].into()));
        LOWEST.clone()
    }

    /// The bytes as they are on disk.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Bytes)
    }
}

/// Takes a name's bytes in.
struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1 to {NAME_BYTES_MAX} bytes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<Name, A::Error> {
        let (mut taken, mut len) = ([0; NAME_BYTES_MAX], 0);
        while let Some(byte) = bytes.next_element()? {
            *taken
                .get_mut(len)
                .ok_or_else(|| A::Error::custom(BadName::Length(len + 1)))? = byte;
            len += 1;
        }
        Name::new(&taken[..len]).map_err(A::Error::custom)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        <[u8]>::serialize(&self.0, serializer)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// A path below the share's root: names joined by `/`, or nothing for the root itself.
/// At most [`PATH_BYTES_MAX`] bytes. Holds only checked names, so it cannot leave the root.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RelPath(Vec<u8>);

impl RelPath {
    /// The share's root.
    pub fn root() -> Self {
        Self::default()
    }

    /// Checks every component of `bytes` (`a/b/c`, no leading or trailing slash).
    pub fn parse(bytes: &[u8]) -> Result<Self, BadName> {
        if bytes.is_empty() {
            return Ok(Self::root());
        }
        if bytes.len() > PATH_BYTES_MAX {
            return Err(BadName::Length(bytes.len()));
        }
        for part in bytes.split(|b| *b == b'/') {
            Name::new(part)?;
        }
        Ok(Self(bytes.to_vec()))
    }

    /// This path with one more name; `None` if it would be longer than [`PATH_BYTES_MAX`].
    pub fn join(&self, name: &Name) -> Option<Self> {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.as_bytes().len());
        bytes.extend_from_slice(&self.0);
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name.as_bytes());
        (bytes.len() <= PATH_BYTES_MAX).then_some(Self(bytes))
    }

    /// The directory and the last name; `None` for the root.
    pub fn split(&self) -> Option<(Self, Name)> {
        let name_at = self.0.iter().rposition(|b| *b == b'/').map_or(0, |i| i + 1);
        let name = Name::new(&self.0[name_at..]).ok()?;
        Some((Self(self.0[..name_at.saturating_sub(1)].to_vec()), name))
    }

    /// The names from the root down.
    pub fn names(&self) -> impl Iterator<Item = Name> + '_ {
        self.0
            .split(|b| *b == b'/')
            .filter_map(|part| Name::new(part).ok())
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, without a leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For people: control characters and bytes that are not UTF-8 are escaped.
    pub fn display(&self) -> String {
        escape_for_people(&self.0)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// Printable text for a terminal or a page: nothing in a name may move a cursor or reorder a line.
pub fn escape_for_people(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || is_bidi_control(c) {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Characters that reorder the text around them.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    // sync-10.
    #[test]
    fn what_is_read_is_what_was_written_and_is_checked() {
        for good in [&b"a"[..], b"\xff\xfe", &[b'x'; 255]] {
            let name = Name::new(good).expect("a name");
            let bytes = postcard::to_stdvec(&name).expect("encodes");
            assert_eq!(bytes, postcard::to_stdvec(good).expect("encodes"));
            assert_eq!(postcard::from_bytes(&bytes), Ok(name));
        }
        for bad in [
            &b""[..],
            b"..",
            b"a/b",
            b".ahoy",
            &[b'x'; 256],
            &[b'x'; 5000],
        ] {
            let bytes = postcard::to_stdvec(bad).expect("encodes");
            assert!(postcard::from_bytes::<Name>(&bytes).is_err());
        }
    }

    // sync-10.
    #[test]
    fn names_that_leave_their_directory_are_refused() {
        for bad in [
            &b""[..],
            b".",
            b"..",
            b"a/b",
            b"/",
            b"a\0b",
            b".ahoy",
            &[b'x'; 256],
        ] {
            assert!(
                Name::new(bad).is_err(),
                "{:?}",
                bad.escape_ascii().to_string()
            );
        }
        for good in [
            &b"a"[..],
            b"...",
            b".ahoy2",
            b"\xff\xfe",
            b"new\nline",
            &[b'x'; 255],
        ] {
            assert_eq!(Name::new(good).expect("good name").as_bytes(), good);
        }
    }

    #[test]
    fn paths_split_and_join() {
        let path = RelPath::parse(b"a/b/c").expect("good path");
        let (dir, name) = path.split().expect("not the root");
        assert_eq!((dir.as_bytes(), name.as_bytes()), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(dir.join(&name), Some(path));
        let top = RelPath::parse(b"a")
            .expect("good path")
            .split()
            .expect("not the root");
        assert!(top.0.is_root());
        assert_eq!(RelPath::root().split(), None);
        for bad in [
            &b"/a"[..],
            b"a/",
            b"a//b",
            b"a/../b",
            b".ahoy/x",
            b"x/.ahoy",
        ] {
            assert!(RelPath::parse(bad).is_err());
        }
    }

    #[test]
    fn printed_paths_cannot_move_a_cursor() {
        let path = RelPath::parse(b"\x1b[2J\xff\xe2\x80\xae.txt").expect("a legal name");
        assert_eq!(path.display(), "\\u{1b}[2J\\xff\\u{202e}.txt");
    }
}
