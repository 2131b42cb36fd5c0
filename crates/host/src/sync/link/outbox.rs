//! What is to be sent on a link, before the writer gets to it.
//!
//! Everything here is bounded: small frames by what causes them, messages by number, records by the
//! rooms that the engine is given and by the peer's credit, content by the desk. Nobody who puts
//! something in ever waits.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ahoy_logic::sync::{BATCHES_AHEAD, Outgoing};
use ahoy_wire::sync::{Frame, Message};

use super::desk::{Desk, Piece};

/// Most messages without records that wait to be sent.
const MESSAGES_MAX: usize = 1024;

/// Most batches of records that wait to be sent; the engine keeps to fewer.
const BATCHES_MAX: usize = 8;

/// Most bytes of small frames that wait to be sent: far more than all requests of all ranges.
const URGENT_BYTES_MAX: usize = 1 << 20;

/// More credit than this is not counted.
const CREDIT_MAX: u32 = 1024;

/// The peer takes nothing, or somebody here says too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much waits to be sent to this peer")]
pub struct Full;

/// The queues of one link's outgoing direction.
#[derive(Debug, Default)]
pub struct Outbox {
    state: Mutex<State>,
    /// Something for the writer.
    ready: Condvar,
    /// Something for a clerk.
    asked: Condvar,
}

#[derive(Debug)]
struct State {
    urgent: Vec<u8>,
    pong: bool,
    messages: VecDeque<Message>,
    batches: VecDeque<Batch>,
    credit: u32,
    desk: Desk,
    /// TLS itself has something to say.
    flush: bool,
    ended: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            urgent: Vec::new(),
            pong: false,
            messages: VecDeque::new(),
            batches: VecDeque::new(),
            credit: BATCHES_AHEAD,
            desk: Desk::default(),
            flush: false,
            ended: false,
        }
    }
}

/// Records that the engine wants sent.
#[derive(Debug)]
pub struct Batch {
    /// What the peer may ask for next when it has all of this.
    pub upto: u64,
    /// What is left to send.
    pub items: std::iter::Peekable<std::vec::IntoIter<Outgoing>>,
}

/// One turn of the writer. The parts are sent in this order.
#[derive(Debug)]
pub struct Work {
    /// Frames, encoded.
    pub urgent: Vec<u8>,
    /// Messages.
    pub messages: VecDeque<Message>,
    /// One message of records may be sent: of the batch that is under way, or of this one.
    pub records: Option<Option<Batch>>,
    /// A list of chunks, encoded.
    pub list: Option<Vec<u8>>,
    /// A piece of some file.
    pub piece: Option<Piece>,
}

impl Work {
    /// Whether there is anything in it that a limit makes wait.
    pub fn is_bulk(&self) -> bool {
        self.records.is_some() || self.list.is_some() || self.piece.is_some()
    }
}

impl Outbox {
    /// Queues a small frame. Ends the link if there are far too many: none may be lost.
    pub fn urgent(&self, frame: &Frame) {
        let mut state = self.lock();
        frame.encode(&mut state.urgent);
        state.ended |= state.urgent.len() > URGENT_BYTES_MAX;
        drop(state);
        self.ready.notify_one();
    }

    /// Queues the answer to a ping; one answer is enough for many.
    pub fn pong(&self) {
        self.lock().pong = true;
        self.ready.notify_one();
    }

    /// Queues a message without records.
    pub fn say(&self, message: Message) -> Result<(), Full> {
        let mut state = self.lock();
        if state.messages.len() >= MESSAGES_MAX {
            return Err(Full);
        }
        state.messages.push_back(message);
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Queues records.
    pub fn send(&self, upto: u64, items: Vec<Outgoing>) -> Result<(), Full> {
        let mut state = self.lock();
        if state.batches.len() >= BATCHES_MAX {
            return Err(Full);
        }
        state.batches.push_back(Batch {
            upto,
            items: items.into_iter().peekable(),
        });
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// The peer takes so many more messages with records.
    pub fn credit(&self, batches: u32) {
        let mut state = self.lock();
        state.credit = state.credit.saturating_add(batches).min(CREDIT_MAX);
        drop(state);
        self.ready.notify_one();
    }

    /// TLS has something to say.
    pub fn flush(&self) {
        self.lock().flush = true;
        self.ready.notify_one();
    }

    /// Nothing more will be sent.
    pub fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.desk.end();
        drop(state);
        self.ready.notify_all();
        self.asked.notify_all();
    }

    /// What to send next; blocks until there is something, `None` when the link is over.
    /// `under_way`: a batch has been begun. Records, lists and content wait until `bulk_from`, if
    /// that is given; a piece has at most `piece` bytes.
    pub fn work(&self, under_way: bool, bulk_from: Option<Instant>, piece: usize) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if state.ended {
                return None;
            }
            let held = bulk_from.map_or(Duration::ZERO, |from| {
                from.saturating_duration_since(Instant::now())
            });
            let records = state.credit > 0 && (under_way || !state.batches.is_empty());
            let bulk = records || state.desk.has_bulk();
            let small = state.flush
                || state.pong
                || !state.urgent.is_empty()
                || !state.messages.is_empty()
                || state.desk.has_notes();
            if bulk && held.is_zero() {
                return Some(self.take(&mut state, Some((records, under_way, piece))));
            }
            if small {
                return Some(self.take(&mut state, None));
            }
            state = if bulk {
                let waited = self.ready.wait_timeout(state, held);
                waited.unwrap_or_else(PoisonError::into_inner).0
            } else {
                let waited = self.ready.wait(state);
                waited.unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    /// Everything small, and of what may have to wait one message, list and piece, if `bulk` says
    /// that it need not: whether records may be sent, whether they are under way, and how long a
    /// piece may be.
    fn take(&self, state: &mut State, bulk: Option<(bool, bool, usize)>) -> Work {
        state.flush = false;
        let mut urgent = std::mem::take(&mut state.urgent);
        urgent.append(&mut state.desk.notes());
        if std::mem::take(&mut state.pong) {
            Frame::Pong.encode(&mut urgent);
        }
        let messages = std::mem::take(&mut state.messages);
        let Some((records, under_way, piece)) = bulk else {
            return Work {
                urgent,
                messages,
                records: None,
                list: None,
                piece: None,
            };
        };
        let list = state.desk.list();
        if list.is_some() {
            self.asked.notify_all();
        }
        let records = records.then(|| {
            state.credit -= 1;
            if under_way {
                None
            } else {
                state.batches.pop_front()
            }
        });
        Work {
            urgent,
            messages,
            records,
            list,
            piece: state.desk.piece(piece),
        }
    }

    /// Changes the desk, and wakes whom that concerns.
    pub fn with_desk<R>(&self, change: impl FnOnce(&mut Desk) -> R) -> R {
        let mut state = self.lock();
        let answer = change(&mut state.desk);
        let has_work = state.desk.has_notes() || state.desk.has_bulk();
        drop(state);
        if has_work {
            self.ready.notify_one();
        }
        self.asked.notify_all();
        answer
    }

    /// Waits until `look` finds something at the desk; `None` if `limit` passes before that.
    pub fn clerk_waits<R>(
        &self,
        limit: Option<Duration>,
        mut look: impl FnMut(&mut Desk) -> Option<R>,
    ) -> Option<R> {
        let mut state = self.lock();
        match limit {
            None => loop {
                if let Some(found) = look(&mut state.desk) {
                    return Some(found);
                }
                state = self
                    .asked
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            },
            Some(limit) => {
                let mut found = None;
                let waited = self.asked.wait_timeout_while(state, limit, |state| {
                    found = look(&mut state.desk);
                    found.is_none()
                });
                drop(waited);
                found
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
