//! What the peer has asked this machine for: the serving side of a transfer.
//!
//! The desk takes requests, clerks (threads of their own) open files and cut them into chunks, and
//! the writer fetches one piece after the other, from all contents in turn, the requests for one
//! content in the order in which they came. It does not know which file holds what.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahoy_wire::sync::{Chunk, DATA_BYTES_MAX, Frame, Refusal, Stretch, Wanted};

use super::Link;
use super::asks::{OUTLINES_MAX, REQUESTS_MAX};

/// Most requests taken at one time. Twice of what a peer may have open: cancelled ones do not
/// vanish at once.
const TAKEN_MAX: usize = 2 * REQUESTS_MAX;

/// The same for lists of chunks.
const OUTLINES_TAKEN_MAX: usize = 2 * OUTLINES_MAX;

/// Most files a clerk keeps open for the next request.
const FILES_MAX: usize = 8;

/// How long it keeps them.
const FILES_KEPT: Duration = Duration::from_secs(2);

/// The peer has more open requests than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer has too many open requests")]
pub struct TooMany;

/// The requests of one peer.
#[derive(Debug, Default)]
pub struct Desk {
    taken: usize,
    opens: Tray<(u64, u64)>,
    outlines: Tray<Stretch>,
    streams: VecDeque<Stream>,
    /// Encoded lists of chunks; the next list is not made before the last one has left.
    lists: VecDeque<Vec<u8>>,
    /// Refusals and ends, encoded.
    notes: Vec<u8>,
    ended: bool,
}

/// The requests that wait for one clerk.
#[derive(Debug)]
struct Tray<T> {
    waiting: VecDeque<(u32, Wanted, T)>,
    in_hand: Option<u32>,
    clerk_started: bool,
}

impl<T> Default for Tray<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            in_hand: None,
            clerk_started: false,
        }
    }
}

impl<T> Tray<T> {
    fn next(&mut self) -> Option<(u32, Wanted, T)> {
        let next = self.waiting.pop_front()?;
        self.in_hand = Some(next.0);
        Some(next)
    }

    /// Forgets a request; whether it was here.
    fn cancel(&mut self, request: u32) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|asked| asked.0 != request);
        if self.in_hand == Some(request) {
            self.in_hand = None;
            return true;
        }
        self.waiting.len() < before
    }

    /// What was in hand is ready; whether it is still wanted.
    fn put_down(&mut self, request: u32) -> bool {
        self.in_hand.take_if(|held| *held == request).is_some()
    }
}

/// The requests for one content.
#[derive(Debug)]
struct Stream {
    wanted: Wanted,
    file: Arc<File>,
    parts: VecDeque<Part>,
}

#[derive(Debug)]
struct Part {
    request: u32,
    offset: u64,
    end: u64,
}

/// What the writer sends next of some file.
#[derive(Debug)]
pub struct Piece {
    /// For which request.
    pub request: u32,
    /// From which file.
    pub file: Arc<File>,
    /// From where on.
    pub offset: u64,
    /// How much; at most one data frame.
    pub len: usize,
    /// With this piece the request is done.
    pub last: bool,
}

/// Which clerk is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clerk {
    /// Opens files.
    Opener,
    /// Cuts files into chunks.
    Cutter,
}

impl Desk {
    /// Takes a request for content; answers with a clerk that has to be started for it.
    pub fn ask(
        &mut self,
        request: u32,
        wanted: Wanted,
        offset: u64,
        len: u64,
    ) -> Result<Option<Clerk>, TooMany> {
        if self.taken >= TAKEN_MAX {
            return Err(TooMany);
        }
        self.taken += 1;
        self.opens
            .waiting
            .push_back((request, wanted, (offset, len)));
        let started = std::mem::replace(&mut self.opens.clerk_started, true);
        Ok((!started).then_some(Clerk::Opener))
    }

    /// Takes a request for a list of chunks.
    pub fn ask_outline(
        &mut self,
        request: u32,
        wanted: Wanted,
        stretch: Stretch,
    ) -> Result<Option<Clerk>, TooMany> {
        if self.taken >= TAKEN_MAX || self.outlines.waiting.len() >= OUTLINES_TAKEN_MAX {
            return Err(TooMany);
        }
        self.taken += 1;
        self.outlines.waiting.push_back((request, wanted, stretch));
        let started = std::mem::replace(&mut self.outlines.clerk_started, true);
        Ok((!started).then_some(Clerk::Cutter))
    }

    /// A request is not wanted any more.
    pub fn cancel(&mut self, request: u32) {
        let mut found = self.opens.cancel(request) | self.outlines.cancel(request);
        for stream in &mut self.streams {
            let before = stream.parts.len();
            stream.parts.retain(|part| part.request != request);
            found |= stream.parts.len() < before;
        }
        self.streams.retain(|stream| !stream.parts.is_empty());
        if found {
            self.taken -= 1;
        }
    }

    /// Whether the writer has anything small to send from here.
    pub fn has_notes(&self) -> bool {
        !self.notes.is_empty()
    }

    /// Whether the writer has content or a list to send from here.
    pub fn has_bulk(&self) -> bool {
        !(self.streams.is_empty() && self.lists.is_empty())
    }

    /// Refusals and ends, encoded, to be sent at once.
    pub fn notes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.notes)
    }

    /// A list of chunks, encoded.
    pub fn list(&mut self) -> Option<Vec<u8>> {
        self.lists.pop_front()
    }

    /// The next piece of content, at most `most` bytes: every content in turn.
    pub fn piece(&mut self, most: usize) -> Option<Piece> {
        let mut stream = self.streams.pop_front()?;
        let part = stream.parts.front_mut()?;
        let len = (part.end - part.offset).min(most.min(DATA_BYTES_MAX) as u64);
        let last = part.offset + len == part.end;
        let piece = Piece {
            request: part.request,
            file: Arc::clone(&stream.file),
            offset: part.offset,
            len: usize::try_from(len).expect("at most one data frame"),
            last,
        };
        part.offset += len;
        if last {
            stream.parts.pop_front();
            self.taken -= 1;
        }
        if !stream.parts.is_empty() {
            self.streams.push_back(stream);
        }
        Some(piece)
    }

    /// The file turned out to be shorter, or cannot be read: no more pieces of this request.
    pub fn fail(&mut self, piece: &Piece, reason: Refusal) {
        if !piece.last {
            self.cancel(piece.request);
        }
        Frame::Refused {
            request: piece.request,
            reason,
        }
        .encode(&mut self.notes);
    }

    /// The link is over: the clerks go home.
    pub fn end(&mut self) {
        self.ended = true;
        self.streams.clear();
    }

    fn refuse(&mut self, request: u32, reason: Refusal) {
        Frame::Refused { request, reason }.encode(&mut self.notes);
        self.taken -= 1;
    }

    fn opened(
        &mut self,
        (request, wanted, (offset, len)): (u32, Wanted, (u64, u64)),
        file: Result<(Arc<File>, u64), Refusal>,
    ) {
        if !self.opens.put_down(request) {
            return;
        }
        let (file, size) = match file {
            Ok(file) => file,
            Err(reason) => return self.refuse(request, reason),
        };
        let Some(end) = offset.checked_add(len).filter(|end| *end <= size) else {
            return self.refuse(request, Refusal::NotHere);
        };
        if len == 0 {
            Frame::Done { request }.encode(&mut self.notes);
            self.taken -= 1;
            return;
        }
        let part = Part {
            request,
            offset,
            end,
        };
        match self
            .streams
            .iter_mut()
            .find(|stream| stream.wanted == wanted)
        {
            Some(stream) => stream.parts.push_back(part),
            None => self.streams.push_back(Stream {
                wanted,
                file,
                parts: [part].into(),
            }),
        }
    }

    fn outlined(&mut self, request: u32, chunks: Result<Vec<Chunk>, Refusal>) {
        if !self.outlines.put_down(request) {
            return;
        }
        match chunks {
            Ok(chunks) => {
                let mut list = Vec::new();
                Frame::Chunks { request, chunks }.encode(&mut list);
                self.lists.push_back(list);
                self.taken -= 1;
            }
            Err(reason) => self.refuse(request, reason),
        }
    }
}

/// Starts a clerk for the link. It goes home when the link ends.
pub fn start(clerk: Clerk, link: &Arc<Link>) {
    let worker = Arc::clone(link);
    let (name, work): (_, fn(&Link)) = match clerk {
        Clerk::Opener => ("link-opener", open_files),
        Clerk::Cutter => ("link-cutter", cut_files),
    };
    let builder = std::thread::Builder::new().name(name.to_owned());
    if let Err(error) = builder.spawn(move || work(&worker)) {
        link.hang(&format!("no thread for serving content: {error}"));
    }
}

fn open_files(link: &Link) {
    let mut files: VecDeque<(Wanted, Arc<File>, u64)> = VecDeque::new();
    let mut kept_until = Instant::now();
    loop {
        let wait =
            (!files.is_empty()).then(|| kept_until.saturating_duration_since(Instant::now()));
        let asked = link.outbox.clerk_waits(wait, |desk| {
            if desk.ended {
                Some(None)
            } else {
                desk.opens.next().map(Some)
            }
        });
        let asked = match asked {
            Some(Some(asked)) => asked,
            Some(None) => return,
            None => {
                files.clear();
                continue;
            }
        };
        let wanted = asked.1;
        let known = files.iter().position(|(held, ..)| *held == wanted);
        let file = match known.and_then(|at| files.remove(at)) {
            Some((_, file, size)) => Ok((file, size)),
            None => link
                .around
                .shelf
                .open(wanted)
                .map(|(file, size)| (Arc::new(file), size)),
        };
        if let Ok((file, size)) = &file {
            files.push_front((wanted, Arc::clone(file), *size));
            files.truncate(FILES_MAX);
            kept_until = Instant::now() + FILES_KEPT;
        }
        link.outbox.with_desk(|desk| desk.opened(asked, file));
    }
}

fn cut_files(link: &Link) {
    loop {
        let asked = link.outbox.clerk_waits(None, |desk| {
            if desk.ended {
                Some(None)
            } else if desk.lists.is_empty() {
                desk.outlines.next().map(Some)
            } else {
                None
            }
        });
        let Some(Some((request, wanted, stretch))) = asked else {
            return;
        };
        let chunks = link.around.shelf.outline(wanted, stretch);
        link.outbox.with_desk(|desk| desk.outlined(request, chunks));
    }
}
