//! What engines say to each other once a session is proved.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Hash, Label, NodeId, Record, ReplicaId, WriteSignature};

/// Largest file content that travels with its record, bytes.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;

/// Most records in one message.
pub const ITEMS_MAX: usize = 4096;

/// Most chunks in one list: with the longest chunks, a file of 64 GiB or more. What would have more
/// is fetched whole.
pub const CHUNKS_MAX: usize = 1 << 16;

/// Shortest and longest chunk that can be asked for, as a logarithm to base 2.
pub const GRAIN_MIN: u8 = 12;
/// See [`GRAIN_MIN`].
pub const GRAIN_MAX: u8 = 22;

/// The first message each way (`sync-51`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Which copy of the share speaks.
    pub replica: ReplicaId,
    /// The name of the device, for people.
    pub label: Label,
    /// The highest sequence number in its log: who has heard it up to here has caught up.
    pub sequence: u64,
}

/// One record and, for a small file, its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The record.
    pub record: Record,
    /// Proof for readers, who cannot vouch for each other, that a writer made it.
    pub signature: Option<WriteSignature>,
    /// The content, at most [`INLINE_BYTES_MAX`] bytes.
    #[serde(with = "content")]
    pub content: Option<Arc<[u8]>>,
}

/// A batch of records, in the order in which the sender came to hold them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// The sender's sequence number after this batch: what to ask for next time.
    pub upto: u64,
    /// At most [`ITEMS_MAX`].
    pub items: Vec<Item>,
}

/// What engines say to each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Who speaks.
    Hello(Hello),
    /// Send me what came to you after this sequence number of yours.
    Want {
        /// 0 for everything.
        since: u64,
    },
    /// Here are records that I hold, content and all.
    Records(Records),
    /// I hold all that you sent up to here, durably (`sync-54`).
    Holding {
        /// Your sequence number.
        upto: u64,
    },
}

/// A part of a content, and how it is to be cut into chunks (`sync-57`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Its first byte.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// Where the cuts are.
    pub cuts: Cuts,
    /// Logarithm to base 2 of the length of a chunk: [`GRAIN_MIN`] to [`GRAIN_MAX`].
    pub grain: u8,
}

impl Stretch {
    /// Whether it can be asked for: a length, and a list that is not too long.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        (GRAIN_MIN..=GRAIN_MAX).contains(&self.grain)
            && self.len > 0
            && self.offset.checked_add(self.len).is_some()
            && self.len.div_ceil(1 << self.grain) <= CHUNKS_MAX as u64
    }
}

/// Where a content is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cuts {
    /// At equal distances: finds what was written over something of the same length.
    Even,
    /// Where the content says: finds what has moved.
    Content,
}

/// The first half of a chunk's BLAKE3 hash. What is put together by it is verified as a whole
/// (`sync-56`), so this is to be short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChunkHash(pub [u8; 16]);

/// One chunk of a file: its length in bytes and its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Bytes.
    pub len: u32,
    /// Of just these bytes.
    pub hash: ChunkHash,
}

/// Why a request for content was not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// That content is not here (any more).
    NotHere,
    /// It is here but cannot be read.
    Unreadable,
}

/// Names the content that a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The node that held it when its record was sent.
    pub node: NodeId,
    /// BLAKE3 of the whole content.
    pub hash: Hash,
}

/// Content as one run of bytes: the same encoding as a list of bytes, without a step for each.
mod content {
    use std::fmt;
    use std::sync::Arc;

    use serde::de::{Error, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::INLINE_BYTES_MAX;

    struct Content<'a>(&'a [u8]);

    impl Serialize for Content<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }

    pub fn serialize<S: Serializer>(
        content: &Option<Arc<[u8]>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        content.as_deref().map(Content).serialize(serializer)
    }

    struct Held(Arc<[u8]>);

    impl<'de> Deserialize<'de> for Held {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_bytes(Bytes).map(Self)
        }
    }

    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = Arc<[u8]>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {INLINE_BYTES_MAX} bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Arc<[u8]>, E> {
            if bytes.len() > INLINE_BYTES_MAX {
                return Err(E::invalid_length(bytes.len(), &self));
            }
            Ok(bytes.into())
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Arc<[u8]>>, D::Error> {
        Ok(Option::<Held>::deserialize(deserializer)?.map(|held| held.0))
    }
}
