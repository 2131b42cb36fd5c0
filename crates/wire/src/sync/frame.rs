//! Frames on a session: a kind byte, a length, a payload; every length checked before it is used.
//!
//! `kind u8 | length u32 little-endian | payload`. Messages are postcard; data is raw so that
//! content is copied once.

use super::message::{
    CHUNKS_MAX, Chunk, INLINE_BYTES_MAX, ITEMS_MAX, Message, Refusal, Stretch, Wanted,
};

/// Most content bytes in one data frame.
pub const DATA_BYTES_MAX: usize = 256 * 1024;

/// Longest payload of any frame: one that holds records.
pub const FRAME_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

/// Longest list of chunks: [`CHUNKS_MAX`] entries of at most 21 bytes, and some more.
const CHUNKS_BYTES_MAX: usize = 2 * 1024 * 1024;

pub(super) const HEADER_BYTES: usize = 5;

/// Bytes of a data frame's payload in front of the content: request and offset.
pub(super) const DATA_HEAD_BYTES: usize = 12;

/// Everything that travels on a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// For the engine.
    Message(Message),
    /// Send `len` bytes from `offset` of this content, as data frames that carry `request`.
    Get {
        /// Chosen by the asker.
        request: u32,
        /// Which content.
        wanted: Wanted,
        /// First byte.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// A piece of what was asked for.
    Data {
        /// Of the request.
        request: u32,
        /// Where in the file.
        offset: u64,
        /// 1 to [`DATA_BYTES_MAX`] bytes.
        bytes: Vec<u8>,
    },
    /// All that was asked for has been sent.
    Done {
        /// Of the request.
        request: u32,
    },
    /// It will not be sent.
    Refused {
        /// Of the request.
        request: u32,
        /// Why.
        reason: Refusal,
    },
    /// Send the list of chunks of a part of this content.
    Outline {
        /// Chosen by the asker.
        request: u32,
        /// Which content.
        wanted: Wanted,
        /// Which part of it.
        stretch: Stretch,
    },
    /// The chunks, first to last.
    Chunks {
        /// Of the request.
        request: u32,
        /// At most [`CHUNKS_MAX`].
        chunks: Vec<Chunk>,
    },
    /// Nothing is wanted any more of this request.
    Cancel {
        /// Of the request.
        request: u32,
    },
    /// So many more messages with records may be sent (`sync-52`).
    Credit {
        /// At least 1.
        batches: u32,
    },
    /// I take connections on this port; said once, if at all (`sync-47`).
    Listening {
        /// Not 0.
        port: u16,
    },
    /// Are you there?
    Ping,
    /// I am.
    Pong,
}

/// A frame that no honest peer sends; the session ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than anything of its kind.
    #[error("a frame of kind {kind} with {len} bytes is too long")]
    TooLong {
        /// The kind byte.
        kind: u8,
        /// The length it claims.
        len: usize,
    },
    /// No such kind.
    #[error("unknown frame kind {0}")]
    Unknown(u8),
    /// The payload does not decode, or breaks a bound.
    #[error("a frame of kind {0} does not decode")]
    Payload(u8),
}

/// What the bytes so far amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Framed {
    /// A frame, and how many bytes it took.
    Whole(Frame, usize),
    /// At least this many bytes in all are needed to go on.
    Incomplete(usize),
}

const MESSAGE: u8 = 1;
const GET: u8 = 2;
pub(super) const DATA: u8 = 3;
const DONE: u8 = 4;
const REFUSED: u8 = 5;
const OUTLINE: u8 = 6;
pub(super) const CHUNKS: u8 = 7;
const CANCEL: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const CREDIT: u8 = 11;
const LISTENING: u8 = 12;

/// Longest payload of a frame that holds records: all the inline content that one batch carries.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

fn payload_bytes_max(kind: u8) -> Option<usize> {
    match kind {
        MESSAGE => Some(MESSAGE_BYTES_MAX),
        DATA => Some(DATA_HEAD_BYTES + DATA_BYTES_MAX),
        CHUNKS => Some(CHUNKS_BYTES_MAX),
        GET | DONE | REFUSED | OUTLINE | CANCEL | CREDIT | LISTENING => Some(128),
        PING | PONG => Some(0),
        _ => None,
    }
}

/// The kind and the length of the payload, within the bounds of that kind (`sync-50`).
pub(super) fn head_of(header: [u8; HEADER_BYTES]) -> Result<(u8, usize), FrameError> {
    let [kind, a, b, c, d] = header;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    let most = payload_bytes_max(kind).ok_or(FrameError::Unknown(kind))?;
    if len > most {
        return Err(FrameError::TooLong { kind, len });
    }
    Ok((kind, len))
}

/// The request and the offset.
pub(super) fn data_head_of(head: &[u8; DATA_HEAD_BYTES]) -> (u32, u64) {
    let [a, b, c, d, offset @ ..] = *head;
    (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(offset))
}

impl Frame {
    /// Decodes the first frame of `bytes`. Never allocates more than the bytes that are there.
    pub fn decode(bytes: &[u8]) -> Result<Framed, FrameError> {
        if bytes.len() < HEADER_BYTES {
            return Ok(Framed::Incomplete(HEADER_BYTES));
        }
        let (kind, len) = head_of([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4]])?;
        let end = HEADER_BYTES + len;
        if bytes.len() < end {
            return Ok(Framed::Incomplete(end));
        }
        let payload = &bytes[HEADER_BYTES..end];
        let frame = Self::decode_payload(kind, payload).ok_or(FrameError::Payload(kind))?;
        Ok(Framed::Whole(frame, end))
    }

    pub(super) fn decode_payload(kind: u8, payload: &[u8]) -> Option<Self> {
        Some(match kind {
            MESSAGE => Self::Message(bounded(exactly(payload)?)?),
            GET => {
                let (request, wanted, offset, len) = exactly(payload)?;
                Self::Get {
                    request,
                    wanted,
                    offset,
                    len,
                }
            }
            DATA => {
                let (head, bytes) = payload.split_first_chunk()?;
                let (request, offset) = data_head_of(head);
                if bytes.is_empty() {
                    return None;
                }
                Self::Data {
                    request,
                    offset,
                    bytes: bytes.to_vec(),
                }
            }
            DONE => Self::Done {
                request: exactly(payload)?,
            },
            REFUSED => {
                let (request, reason) = exactly(payload)?;
                Self::Refused { request, reason }
            }
            OUTLINE => {
                let (request, wanted, stretch) = exactly(payload)?;
                Self::Outline {
                    request,
                    wanted,
                    stretch: Some(stretch).filter(Stretch::is_sound)?,
                }
            }
            CHUNKS => {
                let (request, chunks): (u32, Vec<Chunk>) = exactly(payload)?;
                if chunks.len() > CHUNKS_MAX {
                    return None;
                }
                Self::Chunks { request, chunks }
            }
            CANCEL => Self::Cancel {
                request: exactly(payload)?,
            },
            CREDIT => {
                let batches = exactly(payload)?;
                if batches == 0 {
                    return None;
                }
                Self::Credit { batches }
            }
            LISTENING => {
                let port = exactly(payload)?;
                if port == 0 {
                    return None;
                }
                Self::Listening { port }
            }
            PING => Self::Ping,
            PONG => Self::Pong,
            _ => return None,
        })
    }

    /// Appends the frame to `out`.
    ///
    /// # Panics
    /// Never for frames within the bounds that the fields name.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Message(message) => put(out, MESSAGE, message),
            Self::Get {
                request,
                wanted,
                offset,
                len,
            } => {
                put(out, GET, &(request, wanted, offset, len));
            }
            Self::Data {
                request,
                offset,
                bytes,
            } => {
                Self::encode_data_header(*request, *offset, bytes.len(), out);
                out.extend_from_slice(bytes);
            }
            Self::Done { request } => put(out, DONE, request),
            Self::Refused { request, reason } => put(out, REFUSED, &(request, reason)),
            Self::Outline {
                request,
                wanted,
                stretch,
            } => put(out, OUTLINE, &(request, wanted, stretch)),
            Self::Chunks { request, chunks } => put(out, CHUNKS, &(request, chunks)),
            Self::Cancel { request } => put(out, CANCEL, request),
            Self::Credit { batches } => put(out, CREDIT, batches),
            Self::Listening { port } => put(out, LISTENING, port),
            Self::Ping => put_header(out, PING, 0),
            Self::Pong => put_header(out, PONG, 0),
        }
    }

    /// Appends the head of a data frame whose `len` content bytes the caller appends itself.
    pub fn encode_data_header(request: u32, offset: u64, len: usize, out: &mut Vec<u8>) {
        put_header(out, DATA, DATA_HEAD_BYTES + len);
        out.extend_from_slice(&request.to_le_bytes());
        out.extend_from_slice(&offset.to_le_bytes());
    }
}

fn put_header(out: &mut Vec<u8>, kind: u8, len: usize) {
    out.push(kind);
    let len = u32::try_from(len).expect("payloads are bounded far below 4 GiB");
    out.extend_from_slice(&len.to_le_bytes());
}

fn put<T: serde::Serialize>(out: &mut Vec<u8>, kind: u8, payload: &T) {
    let start = out.len();
    put_header(out, kind, 0);
    *out = postcard::to_extend(payload, std::mem::take(out))
        .expect("frames hold nothing postcard refuses");
    let len = u32::try_from(out.len() - start - HEADER_BYTES)
        .expect("payloads are bounded far below 4 GiB");
    out[start + 1..start + HEADER_BYTES].copy_from_slice(&len.to_le_bytes());
}

/// Decodes `payload` if it is one value and nothing else.
fn exactly<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(payload).ok()?;
    rest.is_empty().then_some(value)
}

/// The message, if its counts and lengths are within the named bounds.
fn bounded(message: Message) -> Option<Message> {
    if let Message::Records(records) = &message {
        let fits = records.items.len() <= ITEMS_MAX
            && records.items.iter().all(|item| {
                item.content
                    .as_ref()
                    .is_none_or(|c| c.len() <= INLINE_BYTES_MAX)
            });
        if !fits {
            return None;
        }
    }
    Some(message)
}
