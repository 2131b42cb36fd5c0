//! Frames out of a stream that arrives in pieces of any size.
//!
//! Content is copied once, from the piece into the buffer that the frame hands on; everything else
//! is gathered and decoded when it is whole. No buffer grows ahead of the bytes that have arrived,
//! except for content, which is bounded by [`DATA_BYTES_MAX`](super::DATA_BYTES_MAX).

use super::frame::{
    CHUNKS, DATA, DATA_HEAD_BYTES, Frame, FrameError, HEADER_BYTES, data_head_of, head_of,
};

/// Most empty buffers kept for the next content.
const SPARE_MAX: usize = 16;

/// The decoder of one session's incoming direction.
#[derive(Debug)]
pub struct Intake {
    state: State,
    /// Buffers to put content in.
    spare: Vec<Vec<u8>>,
}

#[derive(Debug)]
enum State {
    Header {
        bytes: [u8; HEADER_BYTES],
        have: usize,
    },
    DataHead {
        bytes: [u8; DATA_HEAD_BYTES],
        have: usize,
        len: usize,
    },
    Data {
        request: u32,
        offset: u64,
        bytes: Vec<u8>,
        missing: usize,
    },
    Payload {
        kind: u8,
        bytes: Vec<u8>,
        missing: usize,
    },
    /// A list of chunks that nobody waits for.
    Skip { missing: usize },
}

const START: State = State::Header {
    bytes: [0; HEADER_BYTES],
    have: 0,
};

impl Default for Intake {
    fn default() -> Self {
        Self {
            state: START,
            spare: Vec::new(),
        }
    }
}

impl Intake {
    /// Takes bytes from the front of `bytes` until a frame is whole or none are left. `None` means
    /// that all were taken and more are needed. Lists of chunks, by far the longest frames, are
    /// passed over unless `chunks_awaited`.
    ///
    /// # Errors
    /// What no honest peer sends; the state after an error is of no use.
    pub fn take(
        &mut self,
        bytes: &mut &[u8],
        chunks_awaited: bool,
    ) -> Result<Option<Frame>, FrameError> {
        loop {
            match &mut self.state {
                State::Header { bytes: head, have } => {
                    if !fill(head, have, bytes) {
                        return Ok(None);
                    }
                    let (kind, len) = head_of(*head)?;
                    self.state = self.begin(kind, len, chunks_awaited)?;
                }
                State::DataHead {
                    bytes: head,
                    have,
                    len,
                } => {
                    if !fill(head, have, bytes) {
                        return Ok(None);
                    }
                    let (head, len) = (*head, *len);
                    self.state = self.begin_content(&head, len);
                }
                State::Data {
                    request,
                    offset,
                    bytes: content,
                    missing,
                } => {
                    if !gather(content, missing, bytes) {
                        return Ok(None);
                    }
                    let frame = Frame::Data {
                        request: *request,
                        offset: *offset,
                        bytes: std::mem::take(content),
                    };
                    self.state = START;
                    return Ok(Some(frame));
                }
                State::Payload {
                    kind,
                    bytes: payload,
                    missing,
                } => {
                    if !gather(payload, missing, bytes) {
                        return Ok(None);
                    }
                    let frame = Frame::decode_payload(*kind, payload);
                    let frame = frame.ok_or(FrameError::Payload(*kind))?;
                    self.state = START;
                    return Ok(Some(frame));
                }
                State::Skip { missing } => {
                    let skipped = bytes.len().min(*missing);
                    *bytes = &bytes[skipped..];
                    *missing -= skipped;
                    if *missing > 0 {
                        return Ok(None);
                    }
                    self.state = START;
                }
            }
        }
    }

    /// Takes a buffer back that came with content, so that the next content needs no new one.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(buffer);
        }
    }

    /// How many more buffers are worth giving back.
    #[must_use]
    pub fn spare_wanted(&self) -> usize {
        SPARE_MAX - self.spare.len()
    }

    fn begin(&self, kind: u8, len: usize, chunks_awaited: bool) -> Result<State, FrameError> {
        Ok(match kind {
            DATA if len > DATA_HEAD_BYTES => State::DataHead {
                bytes: [0; DATA_HEAD_BYTES],
                have: 0,
                len: len - DATA_HEAD_BYTES,
            },
            DATA => return Err(FrameError::Payload(DATA)),
            CHUNKS if !chunks_awaited => State::Skip { missing: len },
            _ => State::Payload {
                kind,
                bytes: Vec::new(),
                missing: len,
            },
        })
    }

    fn begin_content(&mut self, head: &[u8; DATA_HEAD_BYTES], missing: usize) -> State {
        let (request, offset) = data_head_of(head);
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.reserve(missing);
        State::Data {
            request,
            offset,
            bytes,
            missing,
        }
    }
}

/// Fills a small fixed array; whether it is full.
fn fill(array: &mut [u8], have: &mut usize, bytes: &mut &[u8]) -> bool {
    let taken = bytes.len().min(array.len() - *have);
    array[*have..*have + taken].copy_from_slice(&bytes[..taken]);
    *have += taken;
    *bytes = &bytes[taken..];
    *have == array.len()
}

/// Gathers what is missing; whether nothing is missing any more.
fn gather(buffer: &mut Vec<u8>, missing: &mut usize, bytes: &mut &[u8]) -> bool {
    let taken = bytes.len().min(*missing);
    buffer.extend_from_slice(&bytes[..taken]);
    *missing -= taken;
    *bytes = &bytes[taken..];
    *missing == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::frame::Framed;
    use super::super::{Chunk, ChunkHash, Cuts, Hash, Message, NodeId, Refusal, Stretch, Wanted};
    use super::*;

    fn frames() -> Vec<Frame> {
        let wanted = Wanted {
            node: NodeId([1; 16]),
            hash: Hash([2; 32]),
        };
        let chunk = Chunk {
            len: 5,
            hash: ChunkHash([3; 16]),
        };
        let stretch = Stretch {
            offset: 1 << 20,
            len: 1 << 30,
            cuts: Cuts::Content,
            grain: 16,
        };
        vec![
            Frame::Ping,
            Frame::Message(Message::Want { since: 1 << 40 }),
            Frame::Get {
                request: 7,
                wanted,
                offset: 9,
                len: u64::MAX,
            },
            Frame::Data {
                request: 7,
                offset: 1 << 33,
                bytes: (0..2000).map(|i| i as u8).collect(),
            },
            Frame::Chunks {
                request: 8,
                chunks: vec![chunk; 3],
            },
            Frame::Refused {
                request: 9,
                reason: Refusal::NotHere,
            },
            Frame::Credit { batches: 1 },
            Frame::Listening { port: 7447 },
            Frame::Data {
                request: 8,
                offset: 0,
                bytes: vec![1],
            },
            Frame::Outline {
                request: 1,
                wanted,
                stretch,
            },
            Frame::Done { request: 7 },
            Frame::Cancel { request: 7 },
            Frame::Pong,
        ]
    }

    fn encoded(frames: &[Frame]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        bytes
    }

    fn take_all<'a>(
        pieces: impl Iterator<Item = &'a [u8]>,
        chunks_awaited: bool,
    ) -> Result<Vec<Frame>, FrameError> {
        let mut intake = Intake::default();
        let mut out = Vec::new();
        for mut piece in pieces {
            while let Some(frame) = intake.take(&mut piece, chunks_awaited)? {
                out.push(frame);
            }
            assert!(piece.is_empty(), "everything is taken");
        }
        Ok(out)
    }

    #[test]
    fn pieces_of_any_size_make_the_same_frames() {
        let bytes = encoded(&frames());
        for size in [1, 2, 3, 5, 16, 17, 1000, bytes.len()] {
            assert_eq!(take_all(bytes.chunks(size), true), Ok(frames()), "{size}");
        }
    }

    #[test]
    fn lists_that_nobody_waits_for_are_passed_over() {
        let mut want = frames();
        want.retain(|frame| !matches!(frame, Frame::Chunks { .. }));
        let bytes = encoded(&frames());
        assert_eq!(take_all(bytes.chunks(7), false), Ok(want));
    }

    // sync-50.
    #[test]
    fn rules_are_checked_before_bytes_are_gathered() {
        let check = |bytes: &[u8], want| {
            assert_eq!(take_all(bytes.chunks(1), true), Err(want), "{bytes:?}");
        };
        check(&[3, 12, 0, 0, 0], FrameError::Payload(3));
        check(&[99, 0, 0, 0, 0], FrameError::Unknown(99));
        let len = u32::MAX as usize;
        check(
            &[1, 255, 255, 255, 255],
            FrameError::TooLong { kind: 1, len },
        );
        check(&[9, 1, 0, 0, 0], FrameError::TooLong { kind: 9, len: 1 });
        check(&[11, 1, 0, 0, 0, 0], FrameError::Payload(11));
    }

    proptest! {
        #[test]
        fn takes_what_decode_takes(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..80),
            kind in 0u8..14,
            size in 1usize..20,
        ) {
            // A likely kind and a short length, so that payloads are reached.
            if bytes.len() >= 5 {
                bytes[0] = kind;
                bytes[1] &= 0x3f;
                bytes[2..5].fill(0);
            }
            let piecewise = take_all(bytes.chunks(size), true);
            match Frame::decode(&bytes) {
                Ok(Framed::Whole(frame, _)) => {
                    if let Ok(frames) = piecewise {
                        prop_assert_eq!(&frames[0], &frame);
                    }
                }
                Ok(Framed::Incomplete(_)) => {
                    if let Ok(frames) = piecewise {
                        prop_assert!(frames.is_empty());
                    }
                }
                Err(_) => prop_assert!(piecewise.is_err()),
            }
        }
    }
}
