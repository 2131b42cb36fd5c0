//! What this machine has asked a peer for: the waiting side of a transfer.
//!
//! A range is asked for in pieces, a few of them ahead, so that the pipe is full and yet a slow
//! disk holds up its own file only: what has come and has not been taken is bounded, for each range
//! and for the link. The reader puts bytes in, the thread that called `fetch` takes them out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ahoy_wire::sync::{Chunk, DATA_BYTES_MAX, Frame, Refusal, Stretch, Wanted};

use super::super::limits::Limits;
use super::super::supply::{Sink, SupplyTrouble};
use super::outbox::Outbox;

/// How much is asked for in one request, in bytes.
const PIECE_BYTES: u64 = 1 << 20;

/// How many pieces of one range are asked for ahead.
const PIECES_AHEAD: usize = 8;

/// Most bytes of all ranges together that are asked for and not yet taken.
const ASKED_BYTES_MAX: u64 = 32 << 20;

/// Most requests of one link that are not answered (`sync-55`).
pub const REQUESTS_MAX: usize = 64;

/// Most lists of chunks among them (`sync-55`).
pub const OUTLINES_MAX: usize = 4;

/// How often [`Pace::answer_within`](super::Pace) a new range may wait for others to get on.
const PATIENCE: u32 = 10;

/// How often [`Pace::answer_within`](super::Pace) a list of chunks may take altogether, as long as
/// anything comes on the link.
const LIST_PATIENCE: u32 = 120;

/// Empty buffers that are kept for the reader.
const SPARE_MAX: usize = 32;

/// The open requests of one link.
#[derive(Debug)]
pub struct Asks {
    state: Mutex<State>,
    /// Some request was answered, or bytes were taken.
    room: Condvar,
    answer_within: Duration,
    limits: Arc<Limits>,
}

#[derive(Debug, Default)]
struct State {
    last_request: u32,
    open: BTreeMap<u32, Ask>,
    asked_bytes: u64,
    outlines: usize,
    ended: bool,
    /// When something of substance last came on this link.
    progress: Option<Instant>,
    spare: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Ask {
    answer: Answer,
    /// Bytes that were asked for and have not been taken.
    untaken: u64,
    /// It is about a list of chunks.
    outline: bool,
    /// Wakes the one thread that waits for this answer.
    news: Arc<Condvar>,
}

#[derive(Debug)]
enum Answer {
    /// Bytes up to `next` have come; those in `here` wait to be taken.
    Content {
        next: u64,
        end: u64,
        here: VecDeque<Vec<u8>>,
        done: bool,
    },
    Outline(Option<Vec<Chunk>>),
    Refused,
}

/// The peer sent what was not asked for; the link ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unasked {
    /// Bytes from another place, or more of them than were asked for.
    #[error("content at {offset} with {len} bytes is not what was asked for")]
    Content {
        /// Where.
        offset: u64,
        /// How many.
        len: usize,
    },
    /// The end before everything was sent.
    #[error("a request ends before its last byte")]
    EarlyEnd,
    /// An answer of the other kind.
    #[error("the answer does not fit the question")]
    Kind,
}

impl Asks {
    pub fn new(answer_within: Duration, limits: Arc<Limits>) -> Self {
        Self {
            state: Mutex::default(),
            room: Condvar::new(),
            answer_within,
            limits,
        }
    }

    /// See [`Link::fetch`](super::Link::fetch).
    pub fn fetch(
        &self,
        outbox: &Outbox,
        wanted: Wanted,
        offset: u64,
        len: u64,
        sink: &mut Sink<'_>,
    ) -> Result<(), SupplyTrouble> {
        let end = offset.checked_add(len).ok_or(SupplyTrouble::NotHere)?;
        let mut pieces = Pieces {
            asks: self,
            outbox,
            open: VecDeque::new(),
            news: Default::default(),
        };
        let mut asked = offset;
        loop {
            while asked < end && pieces.open.len() < PIECES_AHEAD {
                let piece = (end - asked).min(self.limits.ask(PIECE_BYTES));
                if !pieces.ask(wanted, asked, piece)? {
                    break;
                }
                asked += piece;
            }
            let Some(&first) = pieces.open.front() else {
                return Ok(());
            };
            match self.next(first, &pieces.news)? {
                Some((at, bytes)) => {
                    sink(at, &bytes).map_err(|_| SupplyTrouble::Stopped)?;
                    self.recycle(bytes);
                }
                None => {
                    pieces.open.pop_front();
                }
            }
        }
    }

    /// See [`Link::outline`](super::Link::outline).
    pub fn outline(
        &self,
        outbox: &Outbox,
        wanted: Wanted,
        stretch: Stretch,
    ) -> Result<Vec<Chunk>, SupplyTrouble> {
        let mut pieces = Pieces {
            asks: self,
            outbox,
            open: VecDeque::new(),
            news: Default::default(),
        };
        let request = pieces.ask_outline(wanted, stretch)?;
        let began = Instant::now();
        let mut state = self.lock();
        loop {
            if state.ended {
                return Err(SupplyTrouble::Ended);
            }
            let ask = state.open.get_mut(&request).ok_or(SupplyTrouble::Ended)?;
            match &mut ask.answer {
                Answer::Outline(Some(chunks)) => return Ok(std::mem::take(chunks)),
                Answer::Refused => return Err(SupplyTrouble::NotHere),
                Answer::Outline(None) | Answer::Content { .. } => {}
            }
            // Cutting a big file takes as long as reading it, and a list may come slowly.
            let progress = state.progress.map_or(began, |at| at.max(began));
            let end = progress + self.answer_within * PATIENCE;
            let latest = began + self.answer_within * LIST_PATIENCE;
            state = wait(&pieces.news, state, end.min(latest))?;
        }
    }

    /// The next bytes of a request, or `None` when it is done and closed.
    fn next(&self, request: u32, news: &Condvar) -> Result<Option<(u64, Vec<u8>)>, SupplyTrouble> {
        let began = Instant::now();
        let mut state = self.lock();
        loop {
            if state.ended {
                return Err(SupplyTrouble::Ended);
            }
            let ask = state.open.get_mut(&request).ok_or(SupplyTrouble::Ended)?;
            match &mut ask.answer {
                Answer::Content {
                    end, here, done, ..
                } => {
                    if let Some(bytes) = here.pop_front() {
                        let at = *end - ask.untaken;
                        ask.untaken -= bytes.len() as u64;
                        state.asked_bytes -= bytes.len() as u64;
                        drop(state);
                        self.room.notify_all();
                        return Ok(Some((at, bytes)));
                    }
                    if *done {
                        state.close(request);
                        drop(state);
                        self.room.notify_all();
                        return Ok(None);
                    }
                }
                Answer::Refused => return Err(SupplyTrouble::NotHere),
                Answer::Outline(_) => return Err(SupplyTrouble::Ended),
            }
            // On a slow link others may have their turn first.
            let patience = began + self.answer_within * PATIENCE;
            let progress = state.progress.map_or(began, |at| at.max(began));
            state = wait(news, state, patience.min(progress + self.answer_within))?;
        }
    }

    /// A buffer for the reader.
    fn recycle(&self, bytes: Vec<u8>) {
        let mut state = self.lock();
        if state.spare.len() < SPARE_MAX && bytes.capacity() <= 2 * DATA_BYTES_MAX {
            state.spare.push(bytes);
        }
    }

    /// Something of substance came, whatever it was about.
    pub fn progress(&self) {
        self.lock().progress = Some(Instant::now());
    }

    /// Whether anybody waits for a list of chunks.
    pub fn awaits_outline(&self) -> bool {
        self.lock().outlines > 0
    }

    /// Up to `most` empty buffers.
    pub fn spare(&self, most: usize) -> Vec<Vec<u8>> {
        let mut state = self.lock();
        let kept = state.spare.len().saturating_sub(most);
        state.spare.split_off(kept)
    }

    /// Takes content that arrived; gives the buffer back if nobody wants it any more.
    pub fn content(
        &self,
        request: u32,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, Unasked> {
        let mut state = self.lock();
        let Some(ask) = state.open.get_mut(&request) else {
            return Ok(Some(bytes));
        };
        match &mut ask.answer {
            Answer::Content {
                next,
                end,
                here,
                done,
            } => {
                let len = bytes.len();
                let fits = !*done && offset == *next && len as u64 <= *end - *next;
                if !fits {
                    return Err(Unasked::Content { offset, len });
                }
                *next += len as u64;
                here.push_back(bytes);
                ask.news.notify_one();
                Ok(None)
            }
            Answer::Outline(_) | Answer::Refused => Err(Unasked::Kind),
        }
    }

    /// A request is done.
    pub fn done(&self, request: u32) -> Result<(), Unasked> {
        let mut state = self.lock();
        let Some(ask) = state.open.get_mut(&request) else {
            return Ok(());
        };
        match &mut ask.answer {
            Answer::Content {
                next, end, done, ..
            } if *next == *end && !*done => {
                *done = true;
                ask.news.notify_one();
                Ok(())
            }
            Answer::Content { .. } => Err(Unasked::EarlyEnd),
            Answer::Outline(_) | Answer::Refused => Err(Unasked::Kind),
        }
    }

    /// A list of chunks has come.
    pub fn chunks(&self, request: u32, chunks: Vec<Chunk>) -> Result<(), Unasked> {
        let mut state = self.lock();
        let Some(ask) = state.open.get_mut(&request) else {
            return Ok(());
        };
        match &mut ask.answer {
            Answer::Outline(answer @ None) => {
                *answer = Some(chunks);
                ask.news.notify_one();
                Ok(())
            }
            Answer::Outline(Some(_)) | Answer::Content { .. } | Answer::Refused => {
                Err(Unasked::Kind)
            }
        }
    }

    /// A request will not be answered. Why makes no difference here: another peer may do.
    pub fn refused(&self, request: u32, _: Refusal) {
        if let Some(ask) = self.lock().open.get_mut(&request) {
            ask.answer = Answer::Refused;
            ask.news.notify_one();
        }
    }

    /// Nothing will come any more.
    pub fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        for ask in state.open.values() {
            ask.news.notify_all();
        }
        drop(state);
        self.room.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&self, bytes: u64, bytes_max: u64) -> bool {
        self.open.len() < REQUESTS_MAX
            && (self.asked_bytes == 0 || self.asked_bytes + bytes <= bytes_max)
    }

    fn insert(&mut self, answer: Answer, news: &Arc<Condvar>) -> u32 {
        let (untaken, outline) = match &answer {
            Answer::Content { next, end, .. } => (end - next, false),
            Answer::Outline(_) => (0, true),
            Answer::Refused => (0, false),
        };
        self.asked_bytes += untaken;
        self.outlines += usize::from(outline);
        loop {
            self.last_request = self.last_request.wrapping_add(1);
            if !self.open.contains_key(&self.last_request) {
                break;
            }
        }
        let news = Arc::clone(news);
        let ask = Ask {
            answer,
            untaken,
            outline,
            news,
        };
        self.open.insert(self.last_request, ask);
        self.last_request
    }

    /// Forgets a request; whether its answer is still to come.
    fn close(&mut self, request: u32) -> bool {
        let Some(ask) = self.open.remove(&request) else {
            return false;
        };
        self.asked_bytes -= ask.untaken;
        self.outlines -= usize::from(ask.outline);
        match ask.answer {
            Answer::Content { done, .. } => !done,
            Answer::Outline(chunks) => chunks.is_none(),
            Answer::Refused => false,
        }
    }
}

/// The open requests of one call; cancelled when it ends early.
struct Pieces<'a> {
    asks: &'a Asks,
    outbox: &'a Outbox,
    open: VecDeque<u32>,
    news: Arc<Condvar>,
}

impl Pieces<'_> {
    /// Asks for a piece. Waits for room if none of this call's are on their way; otherwise answers
    /// whether there was room.
    fn ask(&mut self, wanted: Wanted, offset: u64, len: u64) -> Result<bool, SupplyTrouble> {
        let end = Instant::now() + self.asks.answer_within * PATIENCE;
        let bytes_max = self.asks.limits.asked(ASKED_BYTES_MAX);
        let mut state = self.asks.lock();
        while !state.ended && !state.has_room(len, bytes_max) {
            if !self.open.is_empty() {
                return Ok(false);
            }
            state = wait(&self.asks.room, state, end)?;
        }
        if state.ended {
            return Err(SupplyTrouble::Ended);
        }
        let answer = Answer::Content {
            next: offset,
            end: offset + len,
            here: VecDeque::new(),
            done: false,
        };
        let request = state.insert(answer, &self.news);
        drop(state);
        self.open.push_back(request);
        self.outbox.urgent(&Frame::Get {
            request,
            wanted,
            offset,
            len,
        });
        Ok(true)
    }

    fn ask_outline(&mut self, wanted: Wanted, stretch: Stretch) -> Result<u32, SupplyTrouble> {
        let end = Instant::now() + self.asks.answer_within * PATIENCE;
        let mut state = self.asks.lock();
        while !state.ended && (!state.has_room(0, u64::MAX) || state.outlines >= OUTLINES_MAX) {
            state = wait(&self.asks.room, state, end)?;
        }
        if state.ended {
            return Err(SupplyTrouble::Ended);
        }
        let request = state.insert(Answer::Outline(None), &self.news);
        drop(state);
        self.open.push_back(request);
        self.outbox.urgent(&Frame::Outline {
            request,
            wanted,
            stretch,
        });
        Ok(request)
    }
}

impl Drop for Pieces<'_> {
    fn drop(&mut self) {
        let mut state = self.asks.lock();
        let mut unanswered = std::mem::take(&mut self.open);
        unanswered.retain(|request| state.close(*request));
        let ended = state.ended;
        drop(state);
        self.asks.room.notify_all();
        if !ended {
            for request in unanswered {
                self.outbox.urgent(&Frame::Cancel { request });
            }
        }
    }
}

fn wait<'a>(
    news: &Condvar,
    state: MutexGuard<'a, State>,
    end: Instant,
) -> Result<MutexGuard<'a, State>, SupplyTrouble> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(SupplyTrouble::Ended);
    }
    Ok(news
        .wait_timeout(state, left)
        .unwrap_or_else(PoisonError::into_inner)
        .0)
}
