//! What is still to be sent of one answer, and the sending of it.
//!
//! An answer that fits into the socket at once never gets here: the worker sends it from its own
//! buffer.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use ahoy_logic::web::Choice;

use super::folder::OpenResource;
use super::socket::{Moved, Socket};

/// Most bytes that one connection sends before the others have their turn.
const TURN_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Bytes of a file read at a time for TLS.
const TLS_CHUNK_LEN: usize = 64 * 1024;

/// One piece of an answer.
#[derive(Debug)]
pub(super) enum Piece {
    /// Bytes of ours.
    Bytes { bytes: Vec<u8>, sent: usize },
    /// Bytes of a file.
    File {
        file: Rc<OpenResource>,
        choice: Choice,
        range: Range<u64>,
    },
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Piece::Bytes { bytes, sent } => (bytes.len() - sent) as u64,
            Piece::File { range, .. } => range.end - range.start,
        }
    }
}

/// The rest of an answer, in order.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pieces: VecDeque<Piece>,
}

/// What a turn of sending came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Everything is on its way.
    All,
    /// Something is left; `progress` says whether some of it went.
    Some { progress: bool },
    /// It cannot be finished.
    Broken,
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Appends a piece, unless it is empty.
    pub(super) fn push(&mut self, piece: Piece) {
        if piece.len() > 0 {
            self.pieces.push_back(piece);
        }
    }

    /// Puts a piece before all others.
    pub(super) fn push_front(&mut self, piece: Piece) {
        self.pieces.push_front(piece);
    }

    /// Bytes still to be sent.
    pub(super) fn len(&self) -> u64 {
        self.pieces.iter().map(Piece::len).sum()
    }

    /// Sends as much as the socket takes and the turn allows.
    pub(super) fn send(&mut self, socket: &mut Socket) -> Sent {
        let mut turn_len = 0;
        while let Some(piece) = self.pieces.pop_front() {
            let more = !self.pieces.is_empty();
            let (moved, rest) = send_piece(socket, piece, more, TURN_BYTES_MAX - turn_len);
            if let Some(rest) = rest {
                self.pieces.push_front(rest);
            }
            match moved {
                Moved::Bytes(len) => turn_len += len as u64,
                Moved::Blocked => {
                    return Sent::Some {
                        progress: turn_len > 0,
                    };
                }
                Moved::End | Moved::Broken => return Sent::Broken,
            }
            if turn_len >= TURN_BYTES_MAX && !self.pieces.is_empty() {
                return Sent::Some { progress: true };
            }
        }
        match socket.flush() {
            Moved::Bytes(_) => Sent::All,
            Moved::Blocked => Sent::Some {
                progress: turn_len > 0,
            },
            Moved::End | Moved::Broken => Sent::Broken,
        }
    }
}

/// Sends some of a piece and gives back what is left of it.
fn send_piece(
    socket: &mut Socket,
    piece: Piece,
    more: bool,
    turn_len_max: u64,
) -> (Moved, Option<Piece>) {
    match piece {
        Piece::Bytes { bytes, sent } => {
            let moved = socket.send(&bytes[sent..], more);
            let sent = sent + moved_len(moved);
            let rest = (sent < bytes.len()).then_some(Piece::Bytes { bytes, sent });
            (moved, rest)
        }
        Piece::File {
            file,
            choice,
            range,
        } => {
            let len =
                usize::try_from((range.end - range.start).min(turn_len_max)).unwrap_or(usize::MAX);
            let moved = match (file.memory(choice), file.descriptor(choice)) {
                (Some(bytes), _) => match slice(bytes, &range) {
                    Some(bytes) => socket.send(bytes, more),
                    None => Moved::Broken,
                },
                (None, Some(fd)) if socket.is_tls() => {
                    let mut chunk = [0; TLS_CHUNK_LEN];
                    let len = len.min(TLS_CHUNK_LEN);
                    match rustix::io::pread(fd, &mut chunk[..len], range.start) {
                        Ok(0) => Moved::End,
                        Ok(read) => socket.send(&chunk[..read], more),
                        Err(_) => Moved::Broken,
                    }
                }
                (None, Some(fd)) => socket.send_file(fd, range.start, len),
                (None, None) => Moved::Broken,
            };
            let start = range.start + moved_len(moved) as u64;
            let range = start..range.end;
            let rest = (start < range.end).then_some(Piece::File {
                file,
                choice,
                range,
            });
            (moved, rest)
        }
    }
}

fn moved_len(moved: Moved) -> usize {
    match moved {
        Moved::Bytes(len) => len,
        Moved::Blocked | Moved::End | Moved::Broken => 0,
    }
}

/// The bytes of a range, if they are all there.
pub(super) fn slice<'a>(bytes: &'a [u8], range: &Range<u64>) -> Option<&'a [u8]> {
    let start = usize::try_from(range.start).ok()?;
    let end = usize::try_from(range.end).ok()?;
    bytes.get(start..end)
}
