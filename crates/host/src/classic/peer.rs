//! The classic peer at work: the machine of `logic::classic`, a tracker's connection, the threads
//! that fetch, and the server of our own files.
//!
//! One thread steps the machine with what the others report; whatever takes time has a thread of
//! its own. The queue of reports is bounded: who reports too fast waits.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ahoy_logic::classic::{
    FetchJob, FetchTrouble, LocalFile, Pace, Peer, PeerEffect, PeerEvent, PeerInput, PeerOptions,
    PeerSnapshot, ServingPort,
};
use ahoy_wire::classic::{FileName, Generation};

use super::fetch::Fetcher;
use super::folder::Folder;
use super::serve::Server;
use super::words;
use crate::clock::Clock;

/// Until the tracker accepts.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Until the tracker takes what we say.
const SEND_MAX: Duration = Duration::from_secs(5);
/// Reports that may wait for the machine.
const REPORTS_MAX: usize = 256;
/// Bytes of the tracker's answer read at once.
const PIECE_BYTES: usize = 64 * 1024;
/// The progress of a fetch is told so often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// At the end, how long fetches may take to give up and clear away.
const STOP_MAX: Duration = Duration::from_secs(2);

/// What a peer needs.
pub struct PeerConfig {
    /// Where the tracker is.
    pub tracker: SocketAddr,
    /// The folder.
    pub folder: Folder,
    /// Where files are served; bound by the caller.
    pub listener: TcpListener,
    /// Times and limits.
    pub options: PeerOptions,
    /// Connections to holders, at most so many each second (classic-38).
    pub connections_per_second: u32,
}

/// What the owner of a peer learns.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerNote {
    /// What the machine says.
    Event(PeerEvent),
    /// A fetch goes on.
    Progress {
        /// Which.
        job: u64,
        /// Bytes that came.
        got: u64,
        /// Of how many, if the holder said so.
        total: Option<u64>,
    },
    /// Another peer got a file of ours.
    Served {
        /// The file.
        name: FileName,
        /// To whom.
        to: SocketAddr,
        /// Its size in bytes.
        bytes: u64,
    },
}

/// Asks a running peer to stop.
#[derive(Clone, Debug)]
pub struct PeerStop(SyncSender<Report>);

/// A peer that is ready to run.
pub struct ClassicPeer {
    config: PeerConfig,
    port: ServingPort,
    reports: (SyncSender<Report>, Receiver<Report>),
}

/// What the threads report to the machine's.
#[derive(Debug)]
enum Report {
    Connected(u64, TcpStream),
    Received(u64, Vec<u8>),
    Lost(u64, Option<io::Error>),
    Fetched(u64, Option<Generation>, Result<LocalFile, FetchTrouble>),
    Progress(u64, u64, Option<u64>),
    Served(FileName, SocketAddr, u64),
    Stop,
}

impl PeerStop {
    /// Asks.
    pub fn stop(&self) {
        // A peer that has ended needs no asking; a full queue is a peer that lives.
        let _ = self.0.send(Report::Stop);
    }
}

impl ClassicPeer {
    /// Nothing is started yet.
    ///
    /// # Errors
    /// If the listener is not bound.
    pub fn new(config: PeerConfig) -> io::Result<Self> {
        let port = ServingPort::new(config.listener.local_addr()?.port());
        let port = port.ok_or(ErrorKind::AddrNotAvailable)?;
        config.listener.set_nonblocking(false)?;
        Ok(Self {
            config,
            port,
            reports: sync_channel(REPORTS_MAX),
        })
    }

    /// A way to stop it, for a handler of signals.
    #[must_use]
    pub fn stop_handle(&self) -> PeerStop {
        PeerStop(self.reports.0.clone())
    }

    /// Runs until it is stopped; `on_note` hears what happens, with the numbers at that moment.
    ///
    /// # Errors
    /// If there are no threads to run on.
    pub fn run(self, on_note: impl FnMut(&PeerNote, &PeerSnapshot)) -> io::Result<()> {
        let Self {
            config,
            port,
            reports: (sender, reports),
        } = self;
        let folder = Arc::new(config.folder);
        let on_served = sender.clone();
        let server = Arc::new(Server::new(
            Arc::clone(&folder),
            config.options.clone(),
            // It must not wait for the machine: a note more or less is no loss.
            Box::new(move |name, to, bytes| {
                let _ = on_served.try_send(Report::Served(name, to, bytes));
            }),
        ));
        let listener = config.listener;
        spawn("classic-accept", move || server.accept(&listener))?;
        let mut seed = [0; 8];
        crate::web::fill_random(&mut seed)?;
        let works = Works {
            tracker: config.tracker,
            folder,
            pace: Arc::new(Mutex::new(Pace::new(config.connections_per_second))),
            clock: Clock::start(),
            file_bytes_max: config.options.file_bytes_max,
            stopped: Arc::new(AtomicBool::new(false)),
            running: Arc::new(AtomicU64::new(0)),
            sender,
            stream: None,
            ended: Vec::new(),
            on_note,
        };
        let peer = Peer::new(config.options, port, u64::from_ne_bytes(seed));
        works.run(peer, &reports)
    }
}

/// What carries the machine's effects out.
struct Works<N> {
    tracker: SocketAddr,
    folder: Arc<Folder>,
    pace: Arc<Mutex<Pace>>,
    clock: Clock,
    file_bytes_max: u64,
    stopped: Arc<AtomicBool>,
    running: Arc<AtomicU64>,
    sender: SyncSender<Report>,
    /// The tracker's connection, and the number of its attempt.
    stream: Option<(u64, TcpStream)>,
    /// What happened on our own thread while effects were carried out.
    ended: Vec<Ended>,
    on_note: N,
}

/// Something that is to be told to the machine as soon as its outbox is empty.
enum Ended {
    Looked(std::collections::BTreeMap<FileName, LocalFile>),
    Lost(u64, io::Error),
    Unfetched(u64, FetchTrouble),
}

impl<N: FnMut(&PeerNote, &PeerSnapshot)> Works<N> {
    fn run(mut self, mut peer: Peer, reports: &Receiver<Report>) -> io::Result<()> {
        self.step(&mut peer, PeerInput::Due);
        loop {
            let due = peer.deadline();
            let wait = due.map(|due| due.at.wait_from(self.clock.now()));
            let report = match wait {
                Some(wait) => reports.recv_timeout(wait),
                None => reports.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match report {
                Err(RecvTimeoutError::Timeout) => self.step(&mut peer, PeerInput::Due),
                Err(RecvTimeoutError::Disconnected) | Ok(Report::Stop) => break,
                Ok(report) => self.report(&mut peer, report),
            }
        }
        self.stopped.store(true, Ordering::Relaxed);
        self.disconnect();
        let until = Instant::now() + STOP_MAX;
        while self.running.load(Ordering::Acquire) > 0 && Instant::now() < until {
            // Reports are taken so that no thread waits to give one.
            let _ = reports.recv_timeout(Duration::from_millis(10));
        }
        Ok(())
    }

    fn report(&mut self, peer: &mut Peer, report: Report) {
        match report {
            Report::Connected(attempt, stream) => {
                let Ok(own) = stream.local_addr() else {
                    return;
                };
                let own = own.ip().to_canonical();
                self.stream = Some((attempt, stream));
                self.step(peer, PeerInput::Connected { attempt, own });
            }
            Report::Received(attempt, bytes) => {
                let bytes = &bytes[..];
                self.step(peer, PeerInput::Received { attempt, bytes });
            }
            Report::Lost(attempt, error) => {
                let error = error.map(|error| words(&error));
                self.step(peer, PeerInput::Lost { attempt, error });
            }
            Report::Fetched(job, spoke, outcome) => self.step(
                peer,
                PeerInput::Fetched {
                    job,
                    spoke,
                    outcome,
                },
            ),
            Report::Progress(job, got, total) => {
                (self.on_note)(&PeerNote::Progress { job, got, total }, &peer.snapshot());
            }
            Report::Served(name, to, bytes) => {
                (self.on_note)(&PeerNote::Served { name, to, bytes }, &peer.snapshot());
            }
            Report::Stop => {}
        }
    }

    /// Steps the machine and does what it wants, until nothing is left of either.
    fn step(&mut self, peer: &mut Peer, input: PeerInput<'_>) {
        let mut outbox = VecDeque::new();
        peer.handle(self.clock.now(), input, &mut outbox);
        loop {
            while let Some(effect) = outbox.pop_front() {
                self.act(peer, effect);
            }
            let Some(ended) = self.ended.pop() else {
                return;
            };
            let input = match ended {
                Ended::Looked(files) => PeerInput::Files(files),
                Ended::Lost(attempt, error) => PeerInput::Lost {
                    attempt,
                    error: Some(words(&error)),
                },
                Ended::Unfetched(job, why) => PeerInput::Fetched {
                    job,
                    spoke: None,
                    outcome: Err(why),
                },
            };
            peer.handle(self.clock.now(), input, &mut outbox);
        }
    }

    fn act(&mut self, peer: &Peer, effect: PeerEffect) {
        match effect {
            PeerEffect::Connect { attempt } => {
                let (tracker, sender) = (self.tracker, self.sender.clone());
                let started = spawn("classic-tracker", move || {
                    let ended = converse(attempt, tracker, &sender);
                    let _ = sender.send(Report::Lost(attempt, ended.err()));
                });
                if let Err(error) = started {
                    self.ended.push(Ended::Lost(attempt, error));
                }
            }
            PeerEffect::Send(bytes) => {
                let Some((attempt, stream)) = &mut self.stream else {
                    return;
                };
                if let Err(error) = stream.write_all(&bytes) {
                    let attempt = *attempt;
                    self.disconnect();
                    self.ended.push(Ended::Lost(attempt, error));
                }
            }
            PeerEffect::Disconnect => self.disconnect(),
            PeerEffect::Look => {
                let files = self.folder.look();
                match files {
                    Ok(files) => self.ended.push(Ended::Looked(files)),
                    Err(error) => {
                        // A folder that cannot be seen has no files to tell of.
                        tracing::warn!(%error, "cannot look into the folder");
                        self.ended
                            .push(Ended::Looked(std::collections::BTreeMap::new()));
                    }
                }
            }
            PeerEffect::Fetch(job) => {
                let number = job.job;
                if let Err(error) = self.fetch(job) {
                    let why = FetchTrouble::Disk(words(&error));
                    self.ended.push(Ended::Unfetched(number, why));
                }
            }
            PeerEffect::Event(event) => (self.on_note)(&PeerNote::Event(event), &peer.snapshot()),
        }
    }

    fn disconnect(&mut self) {
        if let Some((_, stream)) = self.stream.take() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn fetch(&self, job: FetchJob) -> io::Result<()> {
        let (folder, pace) = (Arc::clone(&self.folder), Arc::clone(&self.pace));
        let (stopped, running) = (Arc::clone(&self.stopped), Arc::clone(&self.running));
        let (clock, file_bytes_max) = (self.clock, self.file_bytes_max);
        let sender = self.sender.clone();
        running.fetch_add(1, Ordering::AcqRel);
        let count = Arc::clone(&running);
        let started = spawn("classic-fetch", move || {
            let told = Mutex::new(Instant::now());
            let progress = |got, total| {
                let mut told = told.lock().expect("nobody panics while telling");
                if told.elapsed() >= PROGRESS_INTERVAL {
                    *told = Instant::now();
                    let _ = sender.try_send(Report::Progress(job.job, got, total));
                }
            };
            let fetcher = Fetcher {
                folder: &folder,
                pace: &pace,
                clock,
                stopped: &stopped,
                file_bytes_max,
                progress: &progress,
            };
            let (spoke, outcome) = fetcher.fetch(&job);
            running.fetch_sub(1, Ordering::AcqRel);
            let _ = sender.send(Report::Fetched(job.job, spoke, outcome));
        });
        if started.is_err() {
            count.fetch_sub(1, Ordering::AcqRel);
        }
        started
    }
}

/// One connection to the tracker, from its attempt to its end.
fn converse(attempt: u64, tracker: SocketAddr, sender: &SyncSender<Report>) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&tracker, CONNECT_MAX)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(SEND_MAX))?;
    let handle = stream.try_clone()?;
    if sender.send(Report::Connected(attempt, handle)).is_err() {
        return Ok(());
    }
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => {
                let report = Report::Received(attempt, buffer[..len].to_vec());
                if sender.send(report).is_err() {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(drop)
}
