//! One worker: an epoll set, its connections, and the turns they take (web-60 to web-66).
//!
//! The loop reads the clocks once per turn. What a connection does is told by its machine; here it
//! is done. Nothing here waits for a peer: a send that would block leaves the rest in `outgoing`
//! and the connection is not read until that is gone.

mod door;

use std::io;
use std::net::{IpAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ahoy_logic::moment::{Deadline, Moment};
use ahoy_logic::web::{
    Body, Connection, Effect, Found, Input, Part, Query, Reply, Wait, Waits, Wall, access_line,
};
use ahoy_wire::web::Status;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use tracing::debug;

use super::Config;
use super::folder::{Folder, Lookup, OpenResource};
use super::log::LogWriter;
use super::outgoing::{Outgoing, Piece, Sent, slice};
use super::slots::{Slots, Token};
use super::socket::{Moved, Socket};
use super::stop::Stop;

/// Most events taken in one turn.
const EVENTS_MAX: usize = 512;
/// Bytes received at once.
const RECEIVE_LEN: usize = 32 * 1024;
/// Most requests that one connection gets answered before the others have their turn.
const TURN_REQUESTS_MAX: usize = 32;
/// Most connections accepted in one turn.
const TURN_ACCEPTS_MAX: usize = 64;
/// How long accepting rests when there is no descriptor for a connection (web-64).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A buffer that grew beyond this, in bytes, is not kept for the next answer.
const KEPT_BUFFER_LEN_MAX: usize = 256 * 1024;

/// Marks the tokens of what is no connection.
const BELL: u32 = u32::MAX;
const LISTENER: u32 = u32::MAX - 1;
const DRAIN: Token = Token {
    index: BELL,
    generation: 0,
};
const NOW: Token = Token {
    index: BELL,
    generation: 1,
};

/// What a server has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted.
    pub connections: u64,
    /// Requests answered, with whatever status.
    pub requests: u64,
    /// Silent connections closed to make room (web-63).
    pub evicted: u64,
}

impl Counts {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            requests: self.requests + other.requests,
            evicted: self.evicted + other.evicted,
        }
    }
}

/// What all workers share.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) config: &'a Config,
    pub(super) listeners: &'a [TcpListener],
    pub(super) connections_max: usize,
    /// Connections of all workers together. The kernel does not share them out evenly, so a limit
    /// for each worker would close connections while there is room.
    pub(super) open: &'a AtomicUsize,
    pub(super) stop: &'a Stop,
}

pub(super) struct Worker<'a> {
    place: Place<'a>,
    epoll: OwnedFd,
    folder: Folder,
    peers: Slots<Peer>,
    waits: Waits,
    origin: Instant,
    now: Moment,
    wall: Wall,
    received: Vec<u8>,
    out: Vec<u8>,
    /// Connections with requests left over from their last turn.
    again: Vec<Token>,
    log: Option<LogWriter>,
    log_lines: Vec<u8>,
    accepting: Accepting,
    drain_by: Option<Moment>,
    over: bool,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    Yes,
    /// No descriptor was left.
    RestingUntil(Moment),
    /// Every place is taken by somebody who is being served.
    WhenThereIsRoom,
    /// The server is stopping.
    Never,
}

/// One connection.
struct Peer {
    socket: Socket,
    addr: IpAddr,
    machine: Connection,
    /// Received and not consumed.
    input: Vec<u8>,
    outgoing: Outgoing,
    /// The peer ended its side.
    ended: bool,
    writing: bool,
    wait: (Wait, Moment),
    answer: Option<Answer>,
    token: Token,
}

/// The answer that is on its way, for the log.
struct Answer {
    line: Option<Vec<u8>>,
    status: Status,
    body_len: u64,
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        place: Place<'a>,
        folder: Folder,
        log: Option<LogWriter>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (bell, token) in [
            (place.stop.drain_bell(), DRAIN),
            (place.stop.now_bell(), NOW),
        ] {
            add(&epoll, bell, token, epoll::EventFlags::IN)?;
        }
        let mut worker = Self {
            place,
            epoll,
            folder,
            peers: Slots::new(),
            waits: Waits::new(place.config.limits),
            origin: Instant::now(),
            now: Moment::ORIGIN,
            wall: Wall::at(0),
            received: vec![0; RECEIVE_LEN],
            out: Vec::new(),
            again: Vec::new(),
            log,
            log_lines: Vec::new(),
            accepting: Accepting::WhenThereIsRoom,
            drain_by: None,
            over: false,
            counts: Counts::default(),
        };
        worker.resume_accepting()?;
        Ok(worker)
    }

    /// Serves until told to stop.
    pub(super) fn run(mut self) -> io::Result<Counts> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        self.read_clocks();
        while !self.over {
            let timeout = self.timeout().map(timespec);
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            self.read_clocks();
            for event in events.drain(..) {
                self.event(Token::from_u64(event.data.u64()))?;
            }
            for token in std::mem::take(&mut self.again) {
                if self.peers.holds(token) {
                    self.serve(token.index);
                }
            }
            while let Some(index) = self.waits.due(self.now) {
                self.due(index);
            }
            self.resume_accepting()?;
            self.flush_log();
            let drained = self
                .drain_by
                .is_some_and(|by| self.peers.len() == 0 || by <= self.now);
            self.over |= drained;
        }
        for index in self.peers.indices() {
            self.close(index);
        }
        self.flush_log();
        Ok(self.counts)
    }

    fn read_clocks(&mut self) {
        self.now = Moment::after_origin(self.origin.elapsed());
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let secs = i64::try_from(unix.as_secs()).unwrap_or(i64::MAX);
        if secs != self.wall.secs {
            self.wall = Wall::at(secs);
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let accept = match self.accepting {
            Accepting::RestingUntil(at) => Some(at),
            Accepting::Yes | Accepting::WhenThereIsRoom | Accepting::Never => None,
        };
        let waits = self.waits.deadline().map(|Deadline { at, .. }| at);
        let next = [accept, waits, self.drain_by].into_iter().flatten().min()?;
        Some(next.wait_from(self.now))
    }

    fn event(&mut self, token: Token) -> io::Result<()> {
        match token {
            NOW => self.over = true,
            DRAIN => self.drain()?,
            Token {
                index: LISTENER,
                generation,
            } => self.accept(generation as usize)?,
            token if self.peers.holds(token) => {
                // An error or a hang-up shows in whichever is tried next.
                let writing = self
                    .peers
                    .get_mut(token.index)
                    .is_some_and(|peer| peer.writing);
                if writing {
                    self.send_more(token.index)
                } else {
                    self.receive(token.index)
                }
            }
            // Closed earlier in this turn.
            _ => {}
        }
        Ok(())
    }

    // ---- turns of one connection -----------------------------------------------------------

    /// Bytes, or the end, may have come.
    fn receive(&mut self, index: u32) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        // A client that sends requests faster than they are answered is not read meanwhile.
        if peer.input.len() >= RECEIVE_LEN {
            self.serve(index);
            return;
        }
        let mut received = std::mem::take(&mut self.received);
        let moved = peer.socket.receive(&mut received);
        match moved {
            Moved::Bytes(len) if peer.input.is_empty() => {
                // The usual case: a request in one piece, read where it lies.
                let consumed = self.process(index, &received[..len]);
                if let Some(peer) = self.peers.get_mut(index) {
                    peer.input.extend_from_slice(&received[consumed..len]);
                }
            }
            Moved::Bytes(len) => peer.input.extend_from_slice(&received[..len]),
            Moved::End => peer.ended = true,
            Moved::Blocked => {}
            Moved::Broken => self.close(index),
        }
        self.received = received;
        if moved != Moved::Blocked {
            self.serve(index);
        }
    }

    /// Works on what was received before, until there is nothing left to do.
    fn serve(&mut self, index: u32) {
        loop {
            let Some(peer) = self.peers.get_mut(index) else {
                return;
            };
            if !peer.input.is_empty() {
                let input = std::mem::take(&mut peer.input);
                let consumed = self.process(index, &input);
                let Some(peer) = self.peers.get_mut(index) else {
                    return;
                };
                peer.input = input;
                peer.input.drain(..consumed);
                if peer.input.is_empty() {
                    peer.input = Vec::new();
                }
            }
            let Some(peer) = self.peers.get_mut(index) else {
                return;
            };
            let hungry = peer.machine.wants_bytes() && peer.outgoing.is_empty();
            if self.again.contains(&peer.token) {
                break;
            }
            if hungry && peer.ended {
                self.advance(index, Input::Ended);
                return;
            }
            // TLS may hold bytes that the socket no longer tells of.
            if !hungry || !peer.socket.is_tls() || peer.ended {
                break;
            }
            let mut received = std::mem::take(&mut self.received);
            let moved = peer.socket.receive(&mut received);
            match moved {
                Moved::Bytes(len) => peer.input.extend_from_slice(&received[..len]),
                Moved::End => peer.ended = true,
                Moved::Blocked => {}
                Moved::Broken => self.close(index),
            }
            self.received = received;
            if moved == Moved::Blocked {
                break;
            }
        }
        self.note_wait(index);
    }

    /// Hands bytes to the machine, request by request; returns how many it is done with.
    fn process(&mut self, index: u32, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        for _ in 0..TURN_REQUESTS_MAX {
            let Some(peer) = self.peers.get_mut(index) else {
                return bytes.len();
            };
            if !peer.machine.wants_bytes() || !peer.outgoing.is_empty() {
                return bytes.len() - rest.len();
            }
            let site = &self.place.config.site;
            let input = Input::Received(rest);
            let step = peer
                .machine
                .handle(self.now, &self.wall, site, input, &mut self.out);
            rest = &rest[step.consumed..];
            if step.effect == Effect::Nothing {
                return bytes.len() - rest.len();
            }
            self.carry_out(index, step.effect);
        }
        if let Some(peer) = self.peers.get_mut(index)
            && !rest.is_empty()
            && peer.outgoing.is_empty()
        {
            self.again.push(peer.token);
        }
        bytes.len() - rest.len()
    }

    /// The socket takes more.
    fn send_more(&mut self, index: u32) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        match peer.outgoing.send(&mut peer.socket) {
            Sent::All => {
                self.watch(index, false);
                self.answered(index);
                self.advance(index, Input::Sent);
                self.serve(index);
            }
            Sent::Some { progress: true } => self.advance(index, Input::Progress),
            Sent::Some { progress: false } => {}
            Sent::Broken => self.close(index),
        }
    }

    fn due(&mut self, index: u32) {
        debug!(index, "a connection reached its time limit");
        self.advance(index, Input::Due);
    }

    /// Gives the machine one input that carries no bytes, and does what it says.
    fn advance(&mut self, index: u32, input: Input<'_>) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let site = &self.place.config.site;
        let step = peer
            .machine
            .handle(self.now, &self.wall, site, input, &mut self.out);
        self.carry_out(index, step.effect);
        self.note_wait(index);
    }

    fn carry_out(&mut self, index: u32, mut effect: Effect) {
        let mut file = None;
        loop {
            effect = match effect {
                Effect::Nothing => return,
                Effect::Find(query) => self.find(index, query, &mut file),
                Effect::List(query) => self.list(index, query),
                Effect::Reply(reply) => match self.reply(index, reply, file.take()) {
                    Sent::All => {
                        self.answered(index);
                        self.tell(index, Input::Sent)
                    }
                    Sent::Some { .. } => {
                        self.watch(index, true);
                        Effect::Nothing
                    }
                    Sent::Broken => Effect::Close,
                },
                Effect::HalfClose => {
                    let Some(peer) = self.peers.get_mut(index) else {
                        return;
                    };
                    peer.socket.half_close();
                    let ended = peer.ended;
                    if ended {
                        self.tell(index, Input::Ended)
                    } else {
                        Effect::Nothing
                    }
                }
                Effect::Close => {
                    self.close(index);
                    return;
                }
            };
        }
    }

    fn tell(&mut self, index: u32, input: Input<'_>) -> Effect {
        let Some(peer) = self.peers.get_mut(index) else {
            return Effect::Nothing;
        };
        let site = &self.place.config.site;
        peer.machine
            .handle(self.now, &self.wall, site, input, &mut self.out)
            .effect
    }

    fn find(
        &mut self,
        index: u32,
        query: Box<Query>,
        file: &mut Option<Rc<OpenResource>>,
    ) -> Effect {
        let lookup = self.folder.find(query.path(), self.now, self.wall.secs);
        let effect = self.tell(index, Input::Found(query, lookup.found()));
        if let Lookup::File(found) = lookup {
            *file = Some(found);
        }
        effect
    }

    fn list(&mut self, index: u32, query: Box<Query>) -> Effect {
        match self.folder.list(query.path()) {
            Ok((entries, truncated)) => self.tell(
                index,
                Input::Found(query, Found::Entries(entries, truncated)),
            ),
            Err(lookup) => self.tell(index, Input::Found(query, lookup.found())),
        }
    }

    /// Sends an answer, as far as the socket takes it.
    fn reply(&mut self, index: u32, reply: Reply, file: Option<Rc<OpenResource>>) -> Sent {
        let Some(peer) = self.peers.get_mut(index) else {
            return Sent::Broken;
        };
        peer.answer = Some(Answer {
            line: reply.line,
            status: reply.status,
            body_len: reply.body_len,
        });
        let mut rest = Outgoing::default();
        match (reply.body, file) {
            (Body::Written, _) => {}
            (Body::File(choice, range), Some(file)) => match file.memory(choice) {
                Some(bytes) => match slice(bytes, &range) {
                    Some(bytes) => self.out.extend_from_slice(bytes),
                    None => return Sent::Broken,
                },
                None => rest.push(Piece::File {
                    file,
                    choice,
                    range,
                }),
            },
            (Body::Parts(choice, parts), Some(file)) => {
                for part in parts {
                    rest.push(match part {
                        Part::Text(bytes) => Piece::Bytes { bytes, sent: 0 },
                        Part::Range(range) => Piece::File {
                            file: file.clone(),
                            choice,
                            range,
                        },
                    });
                }
            }
            // An answer from a file that was not found: the machine never does that.
            (Body::File(..) | Body::Parts(..), None) => return Sent::Broken,
        }
        let moved = peer.socket.send(&self.out, !rest.is_empty());
        let sent = match moved {
            Moved::Bytes(len) => len,
            Moved::Blocked => 0,
            Moved::End | Moved::Broken => return Sent::Broken,
        };
        if sent < self.out.len() {
            let head = Piece::Bytes {
                bytes: self.out[sent..].to_vec(),
                sent: 0,
            };
            rest.push_front(head);
        }
        self.out.clear();
        if self.out.capacity() > KEPT_BUFFER_LEN_MAX {
            self.out = Vec::new();
        }
        peer.outgoing = rest;
        if peer.outgoing.is_empty() && !peer.socket.is_tls() {
            return Sent::All;
        }
        peer.outgoing.send(&mut peer.socket)
    }

    /// Waits for the socket to take more, or to bring more.
    fn watch(&mut self, index: u32, writing: bool) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        if peer.writing == writing {
            return;
        }
        peer.writing = writing;
        let flags = if writing {
            epoll::EventFlags::OUT
        } else {
            epoll::EventFlags::IN
        };
        let data = epoll::EventData::new_u64(peer.token.to_u64());
        if epoll::modify(&self.epoll, peer.socket.as_fd(), data, flags).is_err() {
            self.close(index);
        }
    }

    fn note_wait(&mut self, index: u32) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let wait = peer.machine.wait();
        if wait != peer.wait {
            peer.wait = wait;
            self.waits.start(index, wait.0, wait.1);
        }
    }

    // ---- ends ------------------------------------------------------------------------------

    /// The whole answer is on its way.
    fn answered(&mut self, index: u32) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let Some(answer) = peer.answer.take() else {
            return;
        };
        let left_len = peer.outgoing.len();
        let addr = peer.addr;
        self.counts.requests += 1;
        self.log_answer(addr, &answer, left_len);
    }

    fn close(&mut self, index: u32) {
        self.waits.stop(index);
        let Some(peer) = self.peers.remove(index) else {
            return;
        };
        self.place.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(answer) = &peer.answer {
            self.log_answer(peer.addr, answer, peer.outgoing.len());
        }
    }

    /// One line, with the body bytes that really left (web-66).
    fn log_answer(&mut self, addr: IpAddr, answer: &Answer, left_len: u64) {
        if let (Some(line), Some(_)) = (&answer.line, &self.log) {
            let sent_len = answer.body_len.saturating_sub(left_len);
            let lines = &mut self.log_lines;
            access_line(lines, addr, &self.wall, line, answer.status, sent_len);
        }
    }

    fn flush_log(&mut self) {
        if let (Some(log), false) = (&self.log, self.log_lines.is_empty()) {
            log.write(std::mem::take(&mut self.log_lines));
        }
    }
}

fn add(
    epoll: &OwnedFd,
    source: BorrowedFd<'_>,
    token: Token,
    flags: epoll::EventFlags,
) -> io::Result<()> {
    let data = epoll::EventData::new_u64(token.to_u64());
    Ok(epoll::add(epoll, source, data, flags)?)
}

/// Rounded up to a millisecond: waking a moment early would only mean another turn.
fn timespec(wait: Duration) -> Timespec {
    let wait = wait + Duration::from_micros(999);
    Timespec {
        tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(wait.subsec_millis()) * 1_000_000,
    }
}
