//! One record per node of the tree: where it is, what it is, and which changes led there.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::{Clock, Dot, Name};

/// The lasting name of a file, directory or link: renames change the record, not the id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub [u8; 16]);

impl NodeId {
    /// The share's root directory; it has no record.
    pub const ROOT: Self = Self([0; 16]);

    /// The id of what is created as `name` in `parent` (`sync-11`). Two machines that create the
    /// same path independently mean the same node, so equal files meet instead of colliding. `salt`
    /// is for a path whose first id lives elsewhere by now: the dot of the new creation.
    pub fn created(parent: Self, name: &Name, class: Class, salt: Option<Dot>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("ahoy sync 2026 node created");
        hasher
            .update(&parent.0)
            .update(&[class as u8])
            .update(name.as_bytes());
        if let Some(dot) = salt {
            hasher.update(b"/").update(&dot.count.to_le_bytes());
            hasher.update(&dot.replica.0.to_le_bytes());
        }
        Self::first_half(&hasher)
    }

    /// The id of the copy that keeps the content which lost a conflict over `original`.
    pub fn conflict_copy(original: Self, lost: Dot) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("ahoy sync 2026 conflict copy");
        hasher.update(&original.0).update(&lost.count.to_le_bytes());
        hasher.update(&lost.replica.0.to_le_bytes());
        Self::first_half(&hasher)
    }

    fn first_half(hasher: &blake3::Hasher) -> Self {
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        Self(id)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ROOT {
            return f.write_str("root");
        }
        write!(f, "n{:02x}{:02x}{:02x}", self.0[0], self.0[1], self.0[2])
    }
}

/// BLAKE3 of a file's whole content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// That of no bytes at all.
    pub const EMPTY: Self = Self([
        0xaf, 0x13, 0x49, 0xb9, 0xf5, 0xf9, 0xa1, 0xa6, 0xa0, 0x40, 0x4d, 0xea, 0x36, 0xdc, 0xc9,
        0x49, 0x9b, 0xcb, 0x25, 0xc9, 0xad, 0xc1, 0x12, 0xb7, 0xcc, 0x9a, 0x93, 0xca, 0xe4, 0x1f,
        0x32, 0x62,
    ]);
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{:02x}{:02x}{:02x}", self.0[0], self.0[1], self.0[2])
    }
}

/// Whether a node can have children. It never changes: a directory that becomes a file is the end
/// of one node and the start of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Class {
    /// A directory.
    Dir,
    /// A file or a symbolic link.
    Leaf,
}

/// The name of a device, for people: at most 32 bytes of UTF-8 without control characters.
/// A copy of it shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, Default)]
#[serde(try_from = "String")]
pub struct Label(Arc<str>);

impl Label {
    /// Takes what fits of `text`: control characters, slashes and parentheses become `-`.
    pub fn tidy(text: &str) -> Self {
        let mut label = String::new();
        for c in text.trim().chars() {
            let c = if c.is_control() || matches!(c, '/' | '(' | ')') {
                '-'
            } else {
                c
            };
            if label.len() + c.len_utf8() > 32 {
                break;
            }
            label.push(c);
        }
        Self(if label.is_empty() {
            "unnamed".into()
        } else {
            label.into()
        })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Label {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let tidy = Self::tidy(&text);
        if *tidy.0 == *text {
            Ok(tidy)
        } else {
            Err("not the label of a device")
        }
    }
}

impl Serialize for Label {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        str::serialize(&self.0, serializer)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A modification time: seconds since 1970 (negative before) and nanoseconds below 10^9.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "(i64, u32)", into = "(i64, u32)")]
pub struct Mtime {
    /// Whole seconds.
    pub secs: i64,
    /// The rest, 0 to 999,999,999.
    pub nanos: u32,
}

impl TryFrom<(i64, u32)> for Mtime {
    type Error = &'static str;
    fn try_from((secs, nanos): (i64, u32)) -> Result<Self, Self::Error> {
        if nanos < 1_000_000_000 {
            Ok(Self { secs, nanos })
        } else {
            Err("not a time")
        }
    }
}

impl From<Mtime> for (i64, u32) {
    fn from(time: Mtime) -> Self {
        (time.secs, time.nanos)
    }
}

/// Permission bits and modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Meta {
    /// `st_mode & 0o7777`.
    pub mode: u16,
    /// Modification time.
    pub mtime: Mtime,
}

/// Where a symbolic link points: 1 to 4095 bytes, no NUL; never followed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Target(Box<[u8]>);

impl Target {
    /// Checks `bytes`; `None` if no link can point there.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let fits = (1..4096).contains(&bytes.len()) && !bytes.contains(&0);
        fits.then(|| Self(bytes.into()))
    }

    /// The bytes as `readlink` gives them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Vec<u8>> for Target {
    type Error = &'static str;
    fn try_from(bytes: Vec<u8>) -> Result<Self, Self::Error> {
        Self::new(&bytes).ok_or("not the target of a link")
    }
}

impl From<Target> for Vec<u8> {
    fn from(target: Target) -> Self {
        target.0.into_vec()
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "->{}", self.0.escape_ascii())
    }
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Value {
    /// A directory.
    Dir(Meta),
    /// A regular file.
    File {
        /// Permission bits and modification time.
        meta: Meta,
        /// Length in bytes.
        size: u64,
        /// BLAKE3 of the content.
        hash: Hash,
    },
    /// A symbolic link.
    Link {
        /// Its own modification time.
        mtime: Mtime,
        /// Where it points.
        target: Target,
    },
    /// Deleted. Remembers what it was and which moves the deleter knew of, so that a file which
    /// somebody moved elsewhere at the same time is not taken from under him.
    Gone {
        /// The last value; never `Gone` itself.
        #[serde(deserialize_with = "living")]
        was: Box<Value>,
        /// The place clock at the deletion.
        seen: Clock,
    },
}

impl Value {
    /// The same bytes (or the same target, or both directories), whatever the metadata.
    pub fn same_content(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dir(_), Self::Dir(_)) => true,
            (
                Self::File {
                    size: a, hash: x, ..
                },
                Self::File {
                    size: b, hash: y, ..
                },
            ) => a == b && x == y,
            (Self::Link { target: a, .. }, Self::Link { target: b, .. }) => a == b,
            (Self::Gone { .. }, Self::Gone { .. }) => true,
            (Self::Dir(_) | Self::File { .. } | Self::Link { .. } | Self::Gone { .. }, _) => false,
        }
    }

    /// Whether it is a deletion.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }

    /// The content hash and size of a file.
    pub fn content(&self) -> Option<(Hash, u64)> {
        match self {
            Self::File { hash, size, .. } => Some((*hash, *size)),
            Self::Dir(_) | Self::Link { .. } | Self::Gone { .. } => None,
        }
    }

    /// Whether it fits `class`, a deletion remembers something that was not one, and a file that
    /// has no bytes has their hash.
    pub fn fits(&self, class: Class) -> bool {
        match self {
            Self::Dir(_) => class == Class::Dir,
            Self::Link { .. } => class == Class::Leaf,
            Self::File { size, hash, .. } => {
                class == Class::Leaf && (*size == 0) == (*hash == Hash::EMPTY)
            }
            Self::Gone { was, .. } => !was.is_gone() && was.fits(class),
        }
    }
}

/// Decodes what a deletion remembers. Not by way of [`Value`]: a peer could nest deletions until
/// the stack runs out, long before anybody can look at the value.
fn living<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Box<Value>, D::Error> {
    /// The first variants of [`Value`], in its order.
    #[derive(Deserialize)]
    enum Living {
        Dir(Meta),
        File { meta: Meta, size: u64, hash: Hash },
        Link { mtime: Mtime, target: Target },
    }
    Ok(Box::new(match Living::deserialize(deserializer)? {
        Living::Dir(meta) => Value::Dir(meta),
        Living::File { meta, size, hash } => Value::File { meta, size, hash },
        Living::Link { mtime, target } => Value::Link { mtime, target },
    }))
}

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The changes of place seen so far.
    pub clock: Clock,
    /// The change that put it here.
    pub dot: Dot,
    /// The directory.
    pub parent: NodeId,
    /// The name in it.
    pub name: Name,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Body {
    /// The changes of content or metadata seen so far.
    pub clock: Clock,
    /// The change that made it this.
    pub dot: Dot,
    /// The device that made that change, for the names of conflict copies.
    pub author: Label,
    /// The content.
    pub value: Value,
}

/// A signature by the share's write key over one record (`sync-45`); two halves because serde
/// derives arrays up to 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteSignature(pub [u8; 32], pub [u8; 32]);

/// Everything the peers agree on about one node (`sync-13`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which node.
    pub id: NodeId,
    /// Directory or not.
    pub class: Class,
    /// The node over which this one's first content lost a conflict, if it was born so.
    pub copy_of: Option<NodeId>,
    /// Where it is.
    pub place: Place,
    /// What it holds.
    pub body: Body,
}

impl Record {
    /// Whether its parts fit each other (`sync-14`): a real id, not its own parent, the class of
    /// its value, and each clock with the dot that it claims.
    pub fn is_sound(&self) -> bool {
        self.id != NodeId::ROOT
            && self.place.parent != self.id
            && self.body.value.fits(self.class)
            && self.place.clock.has(self.place.dot)
            && self.body.clock.has(self.body.dot)
    }

    /// The bytes that a write signature covers.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = b"ahoy sync 2026 record\0".to_vec();
        bytes.extend(postcard::to_stdvec(self).expect("records hold nothing postcard refuses"));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_remembers_what_was_there() {
        let meta = Meta {
            mode: 0o644,
            mtime: Mtime::default(),
        };
        let link = Target::new(b"there").expect("a target");
        for was in [
            Value::Dir(meta),
            Value::File {
                meta,
                size: 7,
                hash: Hash([7; 32]),
            },
            Value::Link {
                mtime: Mtime::default(),
                target: link,
            },
        ] {
            let gone = Value::Gone {
                was: Box::new(was),
                seen: Clock::default(),
            };
            let bytes = postcard::to_stdvec(&gone).expect("encodes");
            assert_eq!(postcard::from_bytes(&bytes), Ok(gone));
        }
    }

    #[test]
    fn nothing_has_the_hash_of_nothing() {
        assert_eq!(Hash::EMPTY, Hash(*blake3::hash(b"").as_bytes()));
        let file = |size, hash| Value::File {
            meta: Meta {
                mode: 0o644,
                mtime: Mtime::default(),
            },
            size,
            hash,
        };
        assert!(file(0, Hash::EMPTY).fits(Class::Leaf));
        assert!(file(1, Hash([7; 32])).fits(Class::Leaf));
        assert!(!file(0, Hash([7; 32])).fits(Class::Leaf));
        assert!(!file(1, Hash::EMPTY).fits(Class::Leaf));
    }

    // sync-14.
    #[test]
    fn deletions_of_deletions_end_before_the_stack_does() {
        let nested = vec![3; 8 << 20];
        assert!(postcard::from_bytes::<Value>(&nested).is_err());
    }
}
