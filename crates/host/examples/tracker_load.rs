//! Plays many peers of a tracker, for `bench/tracker/run`: they join, then send keep-alives.
//!
//! `tracker_load PORT PEERS PER_SHARE SECONDS WINDOW BATCH`. Each peer has a connection, a key and,
//! with 200 others, an address of 127.0.0.0/8. It joins one share, in which there are PER_SHARE
//! peers in the end; then it prints one line and waits for a line on standard input. After that at
//! most WINDOW peers at a time have sent BATCH keep-alives in one piece and wait for as many
//! answers. It prints a second line, and keeps the connections until standard input ends. Anything
//! that is no right answer ends it with status 1.

#![expect(
    clippy::disallowed_methods,
    reason = "a measuring program takes its own arguments and looks at the clock"
)]

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ahoy_host::descriptors;
use ahoy_wire::bounded::Bounded;
use ahoy_wire::peer::PeerId;
use ahoy_wire::tracker::{
    Announcement, Challenge, HoldingSummary, PROLOGUE, PROLOGUE_BYTES, PeerAddress, PeerMessage,
    ShareId, TrackerMessage, Ttl, Undecodable,
};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use socket2::{Domain, Protocol, Socket, Type};

/// No answer takes longer.
const SILENT_MAX: Duration = Duration::from_secs(10);
/// Peers that come from one address; a tracker takes 256 unless it is told otherwise.
const PEERS_PER_ADDRESS: usize = 200;
/// Events taken at a time.
const EVENTS_MAX: usize = 512;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tracker_load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let words: Vec<f64> = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    let [port, peers, per_share, seconds, window, batch] = words[..] else {
        return Err(wrong(
            "usage: tracker_load PORT PEERS PER_SHARE SECONDS WINDOW BATCH",
        ));
    };
    descriptors::raise();
    let began = Instant::now();
    let mut swarm = Swarm::join(port as u16, peers as usize, per_share as usize)?;
    println!(
        "joined={} seconds={:.4}",
        peers,
        began.elapsed().as_secs_f64()
    );
    io::stdin().read_line(&mut String::new())?;
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(seconds);
    let answers = swarm.keep_alive(end, window as usize, batch as usize)?;
    let took = began.elapsed().as_secs_f64();
    println!("answers={answers} seconds={took:.4} news={}", swarm.news);
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

/// All peers.
struct Swarm {
    peers: Vec<Peer>,
    epoll: OwnedFd,
    /// Messages about other peers.
    news: u64,
}

/// One peer on its connection.
struct Peer {
    stream: TcpStream,
    /// The beginning of a message.
    partial: Vec<u8>,
    /// Keep-alives without an answer.
    unanswered: usize,
}

impl Swarm {
    /// One after the other, each waits until it is listed.
    fn join(port: u16, peers: usize, per_share: usize) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut swarm = Self {
            peers: Vec::with_capacity(peers),
            epoll,
            news: 0,
        };
        for number in 0..peers {
            let peer = Peer::join(port, number, number / per_share)?;
            peer.stream.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&swarm.epoll, &peer.stream, data, epoll::EventFlags::IN)?;
            swarm.peers.push(peer);
        }
        Ok(swarm)
    }

    /// How many answers came until `end`.
    fn keep_alive(&mut self, end: Instant, window: usize, batch: usize) -> io::Result<u64> {
        let mut request = Vec::new();
        for _ in 0..batch {
            PeerMessage::KeepAlive.encode(&mut request);
        }
        let mut idle: VecDeque<usize> = (0..self.peers.len()).collect();
        let (mut events, mut buffer) = (Vec::with_capacity(EVENTS_MAX), vec![0; 64 * 1024]);
        let (mut answers, mut waiting) = (0, 0);
        while Instant::now() < end {
            while waiting < window
                && let Some(number) = idle.pop_front()
            {
                self.peers[number].ask(&request, batch)?;
                waiting += 1;
            }
            let silent_max = Timespec::try_from(SILENT_MAX).map_err(io::Error::other)?;
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&silent_max))?;
            if events.is_empty() {
                return Err(wrong("the tracker is silent"));
            }
            for event in events.drain(..) {
                let number = event.data.u64() as usize;
                let before = self.peers[number].unanswered;
                self.news += self.peers[number].hear(&mut buffer)?;
                let after = self.peers[number].unanswered;
                answers += (before - after) as u64;
                if before > 0 && after == 0 {
                    idle.push_back(number);
                    waiting -= 1;
                }
            }
        }
        Ok(answers)
    }
}

impl Peer {
    fn join(port: u16, number: usize, share: usize) -> io::Result<Self> {
        let mut peer = Self {
            stream: connect(port, number / PEERS_PER_ADDRESS)?,
            partial: Vec::new(),
            unanswered: 0,
        };
        peer.stream.write_all(&PROLOGUE)?;
        let mut prologue = [0; PROLOGUE_BYTES];
        peer.stream.read_exact(&mut prologue)?;
        let TrackerMessage::Welcome { challenge, .. } = peer.wait()? else {
            return Err(wrong("no welcome"));
        };
        let mut announcement = Vec::new();
        announce(number, share, challenge)?.encode(&mut announcement);
        peer.stream.write_all(&announcement)?;
        loop {
            match peer.wait()? {
                TrackerMessage::Announced { .. } | TrackerMessage::Changed { .. } => {}
                TrackerMessage::Peers { last: true, .. } => return Ok(peer),
                TrackerMessage::Peers { last: false, .. } => {}
                TrackerMessage::Refused { refusal, .. } => return Err(io::Error::other(refusal)),
                TrackerMessage::Welcome { .. }
                | TrackerMessage::Alive
                | TrackerMessage::Gone { .. } => return Err(wrong("a message out of turn")),
            }
        }
    }

    /// The next message, waited for.
    fn wait(&mut self) -> io::Result<TrackerMessage> {
        let mut buffer = [0; 4096];
        loop {
            match TrackerMessage::decode(&self.partial) {
                Ok((message, len)) => {
                    self.partial.drain(..len);
                    return Ok(message);
                }
                Err(Undecodable::Incomplete { .. }) => {}
                Err(Undecodable::Invalid(invalid)) => return Err(io::Error::other(invalid)),
            }
            match self.stream.read(&mut buffer)? {
                0 => return Err(wrong("the tracker closed a connection")),
                len => self.partial.extend_from_slice(&buffer[..len]),
            }
        }
    }

    fn ask(&mut self, request: &[u8], batch: usize) -> io::Result<()> {
        self.unanswered = batch;
        match self.stream.write(request)? {
            len if len == request.len() => Ok(()),
            _ => Err(wrong("the tracker does not read")),
        }
    }

    /// Reads once, and counts the answers and the messages about others, of which it gives the
    /// number.
    fn hear(&mut self, buffer: &mut [u8]) -> io::Result<u64> {
        let len = match self.stream.read(buffer) {
            Ok(0) => return Err(wrong("the tracker closed a connection")),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(&buffer[..len]);
        let (mut rest, mut news) = (&joined[..], 0);
        loop {
            match TrackerMessage::decode(rest) {
                Ok((message, len)) => {
                    rest = &rest[len..];
                    match message {
                        TrackerMessage::Alive if self.unanswered > 0 => self.unanswered -= 1,
                        TrackerMessage::Changed { .. } => news += 1,
                        TrackerMessage::Alive
                        | TrackerMessage::Welcome { .. }
                        | TrackerMessage::Announced { .. }
                        | TrackerMessage::Peers { .. }
                        | TrackerMessage::Gone { .. }
                        | TrackerMessage::Refused { .. } => return Err(wrong("not an answer")),
                    }
                }
                Err(Undecodable::Incomplete { .. }) => break,
                Err(Undecodable::Invalid(invalid)) => return Err(io::Error::other(invalid)),
            }
        }
        self.partial = rest.to_vec();
        Ok(news)
    }
}

fn connect(port: u16, address: usize) -> io::Result<TcpStream> {
    let [.., high, low] = (address as u32 + 2).to_be_bytes();
    let here = SocketAddr::from((Ipv4Addr::new(127, 0, high, low), 0));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&here.into())?;
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(SILENT_MAX))?;
    Ok(socket.into())
}

/// What a peer with two addresses and a version mark says of itself.
fn announce(number: usize, share: usize, challenge: Challenge) -> io::Result<PeerMessage> {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
    let key = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|why| wrong(&why.to_string()))?;
    let peer: [u8; 32] = key
        .public_key()
        .as_ref()
        .try_into()
        .map_err(io::Error::other)?;
    let addresses = ["192.0.2.1:7447", "[2001:db8::1]:7447"];
    let addresses = addresses.iter().filter_map(|text| text.parse().ok());
    let signed = Announcement {
        challenge,
        share: ShareId::new(*blake3::hash(&share.to_be_bytes()).as_bytes()),
        peer: PeerId::new(peer),
        sequence: 1,
        ttl: Ttl::from_seconds(3600).ok_or_else(|| wrong("no ttl"))?,
        holding: HoldingSummary::default(),
        addresses: Bounded::truncated(addresses.filter_map(PeerAddress::new)),
    }
    .sign(|bytes| {
        let signature = key.sign(bytes);
        signature
            .as_ref()
            .try_into()
            .expect("an Ed25519 signature has 64 bytes")
    });
    Ok(PeerMessage::Announce(signed))
}
