//! Keeps a peer announced at a tracker, on threads of its own.
//!
//! One thread drives the machine and writes; a second one, new for each attempt, resolves, connects
//! and reads. They meet in a mailbox with a bounded queue, so a tracker that talks too much waits.
//! When the tracker is not there, nothing but the reports changes for the owner.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ahoy_logic::moment::Moment;
use ahoy_logic::tracker::{
    self as logic, AnnouncerOptions, DownReason, Effect, Event, Input, PeerSighting, Signer, Start,
};
use ahoy_wire::peer::PeerId;
use ahoy_wire::tracker::{HoldingSummary, ShareId};
use ring::rand::{SecureRandom, SystemRandom};

use super::verify_signature;

/// The most trackers that one announcer is given; any more are not tried.
pub const TRACKERS_MAX: usize = 8;
/// The longest `host:port`, in bytes: a DNS name has at most 253.
pub const TRACKER_TEXT_LEN_MAX: usize = 264;

/// The most addresses tried in one attempt.
const ADDRESSES_MAX: usize = 16;
/// One address gets so long to accept the connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A tracker that does not read for so long is given up.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// A link thread looks so often whether it is still wanted, if its socket does not say so.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// It is found out again so often where we can be reached, and before each attempt.
const WHEREABOUTS_INTERVAL: Duration = Duration::from_secs(10);
/// Chunks read from the tracker that wait for the machine.
const CHUNKS_MAX: usize = 16;
const CHUNK_BYTES_MAX: usize = 16 * 1024;

/// What an announcer needs to know.
pub struct AnnouncerConfig {
    /// Trackers as `host:port`, tried in this order in each attempt; the first that answers is
    /// used.
    pub trackers: Vec<String>,
    /// In which share.
    pub share: ShareId,
    /// Who we are: the public half of the key behind `sign`.
    pub peer: PeerId,
    /// Our Ed25519 signature over the bytes.
    pub sign: Signer,
    /// Says where we can be reached; asked now and then, as that changes. The first 16 that can be
    /// announced are.
    pub addresses: Whereabouts,
    /// What we hold.
    pub holding: HoldingSummary,
    /// No announcement gets a number that is not above this; see
    /// [`Reserve`](ahoy_logic::tracker::Reserve).
    pub sequence_floor: u64,
    /// Intervals.
    pub options: AnnouncerOptions,
}

/// Says where we can be reached now; called on the announcer's own thread.
pub type Whereabouts = Box<dyn FnMut() -> Vec<SocketAddr> + Send>;

/// Takes what is reported; called on the announcer's own thread. It may call back into the
/// announcer but not stop it.
pub type OnEvent = Box<dyn FnMut(Event) + Send>;

/// How it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnouncerStatus {
    /// The tracker that lists us now.
    pub tracker: Option<SocketAddr>,
    /// Why there was none, the last time.
    pub down: Option<DownReason>,
    /// How long until the next try, if that is being waited for.
    pub retry_in: Option<Duration>,
    /// The number of our last announcement.
    pub sequence: u64,
    /// The peers that are live as far as we know.
    pub peers: Vec<PeerSighting>,
}

/// A running announcer; leaves the share and ends when it is dropped.
pub struct Announcer {
    mailbox: Arc<Mailbox>,
    thread: Option<JoinHandle<()>>,
}

impl Announcer {
    /// Starts to announce. Trackers that cannot be reached are reported, and tried again.
    ///
    /// # Errors
    /// If the system gives no thread or no random bytes.
    pub fn start(config: AnnouncerConfig, on_event: OnEvent) -> io::Result<Self> {
        let mailbox = Arc::new(Mailbox::default());
        let driver = Driver::new(config, on_event, Arc::clone(&mailbox))?;
        let thread = std::thread::Builder::new()
            .name("announcer".to_owned())
            .spawn(move || driver.run())?;
        Ok(Self {
            mailbox,
            thread: Some(thread),
        })
    }

    /// We hold something else now. Announced soon; of several in a short time, the last.
    pub fn update_holding(&self, holding: HoldingSummary) {
        self.mailbox.change(|mail| mail.holding = Some(holding));
    }

    /// Tries now what it would try later: something has changed in the network.
    pub fn retry(&self) {
        self.mailbox.change(|mail| mail.retry = true);
    }

    /// How it stands now.
    #[must_use]
    pub fn status(&self) -> AnnouncerStatus {
        let mail = self.mailbox.lock();
        let mut status = mail.status.clone();
        status.retry_in = mail
            .retry_at
            .map(|at| at.saturating_duration_since(Instant::now()));
        status
    }

    /// Leaves the share and ends, without waiting for the tracker.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.mailbox.change(|mail| mail.stop = true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the announcer's thread panicked");
        }
    }
}

/// What the driver is to look at next; changed by the owner and by the link threads.
#[derive(Default)]
struct Mailbox {
    mail: Mutex<Mail>,
    /// Something was put in.
    filled: Condvar,
    /// The queue was taken out.
    emptied: Condvar,
}

#[derive(Default)]
struct Mail {
    holding: Option<HoldingSummary>,
    retry: bool,
    stop: bool,
    /// News of the attempt with this number; news of any other are not wanted.
    attempt: u64,
    news: VecDeque<News>,
    status: AnnouncerStatus,
    retry_at: Option<Instant>,
}

/// What a link thread has to say.
enum News {
    Connected(TcpStream, SocketAddr),
    Received(Vec<u8>),
    Failed(Option<String>),
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Mail> {
        // Nobody panics while holding it; and if so, the mail itself is still sound.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Mail)) {
        change(&mut self.lock());
        self.filled.notify_one();
    }

    /// Delivers news of an attempt, waiting for room; false if they are no longer wanted.
    fn deliver(&self, attempt: u64, news: News) -> bool {
        let mut mail = self.lock();
        while mail.attempt == attempt && !mail.stop && mail.news.len() >= CHUNKS_MAX {
            mail = self
                .emptied
                .wait(mail)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if mail.attempt != attempt || mail.stop {
            return false;
        }
        mail.news.push_back(news);
        self.filled.notify_one();
        true
    }

    fn wants(&self, attempt: u64) -> bool {
        let mail = self.lock();
        mail.attempt == attempt && !mail.stop
    }

    /// Waits until there is anything to do, or until the deadline.
    fn wait(&self, deadline: Option<Instant>) -> MutexGuard<'_, Mail> {
        let mut mail = self.lock();
        while !mail.wants_attention() {
            let Some(deadline) = deadline else {
                mail = self
                    .filled
                    .wait(mail)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            mail = self
                .filled
                .wait_timeout(mail, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(mail, _)| mail);
        }
        mail
    }
}

impl Mail {
    fn wants_attention(&self) -> bool {
        self.stop || self.retry || self.holding.is_some() || !self.news.is_empty()
    }
}

/// The machine and what it moves.
struct Driver {
    machine: logic::Announcer,
    /// Where the machine's time begins.
    origin: Instant,
    trackers: Vec<String>,
    whereabouts: Whereabouts,
    /// When it was last asked.
    looked_at: Instant,
    on_event: OnEvent,
    mailbox: Arc<Mailbox>,
    attempt: u64,
    link: Option<TcpStream>,
}

impl Driver {
    fn new(
        mut config: AnnouncerConfig,
        on_event: OnEvent,
        mailbox: Arc<Mailbox>,
    ) -> io::Result<Self> {
        let mut seed = [0; 8];
        SystemRandom::new()
            .fill(&mut seed)
            .map_err(|_| io::Error::other("the system gives no random bytes"))?;
        let start = Start {
            share: config.share,
            me: config.peer,
            addresses: (config.addresses)(),
            holding: config.holding,
            sequence_floor: config.sequence_floor,
            seed: u64::from_ne_bytes(seed),
            signer: config.sign,
            verifier: verify_signature,
        };
        Ok(Self {
            machine: logic::Announcer::new(config.options, Moment::ORIGIN, start),
            origin: Instant::now(),
            trackers: config.trackers.into_iter().take(TRACKERS_MAX).collect(),
            whereabouts: config.addresses,
            looked_at: Instant::now(),
            on_event,
            mailbox,
            attempt: 0,
            link: None,
        })
    }

    fn run(mut self) {
        self.step(Input::Due);
        loop {
            let due = self
                .machine
                .deadline()
                .map(|due| self.origin + due.at.since_origin());
            let mut mail = self.mailbox.wait(due);
            let stop = mail.stop;
            let holding = mail.holding.take();
            let retry = std::mem::take(&mut mail.retry);
            let news = std::mem::take(&mut mail.news);
            let attempt = mail.attempt;
            drop(mail);
            self.mailbox.emptied.notify_all();
            if stop {
                self.step(Input::Stop);
                return;
            }
            if let Some(holding) = holding {
                self.step(Input::Holding(holding));
            }
            if self.looked_at.elapsed() >= WHEREABOUTS_INTERVAL {
                self.look_around();
            }
            if retry {
                self.step(Input::Retry);
            }
            for news in news {
                self.take_news(attempt, news);
            }
            self.step(Input::Due);
        }
    }

    fn take_news(&mut self, attempt: u64, news: News) {
        match news {
            News::Connected(stream, tracker) => {
                if attempt == self.attempt {
                    self.link = Some(stream);
                }
                self.step(Input::Connected { attempt, tracker });
            }
            News::Received(bytes) => self.step(Input::Received {
                attempt,
                bytes: &bytes,
            }),
            News::Failed(error) => {
                if attempt == self.attempt {
                    self.hang_up();
                }
                self.step(Input::Failed { attempt, error });
            }
        }
    }

    /// Finds out where we can be reached now.
    fn look_around(&mut self) {
        self.looked_at = Instant::now();
        let addresses = (self.whereabouts)();
        self.step(Input::Addresses(addresses));
    }

    /// Gives the machine one input, and does what it wants.
    fn step(&mut self, input: Input<'_>) {
        let mut outbox = Vec::new();
        let now = Moment::after_origin(self.origin.elapsed());
        self.machine.handle(now, input, &mut outbox);
        let (mut broken, mut wants_look) = (None, false);
        for effect in outbox {
            match effect {
                Effect::Connect { attempt } => {
                    self.publish_status();
                    self.connect(attempt);
                    wants_look = true;
                }
                Effect::Send(bytes) => {
                    if let Some(link) = &mut self.link
                        && let Err(error) = link.write_all(&bytes)
                    {
                        broken = Some(format!("writing to the tracker: {error}"));
                    }
                }
                Effect::Disconnect => self.hang_up(),
                Effect::Event(event) => {
                    self.publish_status();
                    (self.on_event)(event);
                }
            }
        }
        if wants_look {
            // While that attempt is under way, so this does not go deeper either.
            self.look_around();
        }
        if let Some(error) = broken {
            self.hang_up();
            // Sends nothing, so this does not go deeper.
            self.step(Input::Failed {
                attempt: self.attempt,
                error: Some(error),
            });
        }
    }

    fn connect(&mut self, attempt: u64) {
        self.hang_up();
        self.attempt = attempt;
        {
            let mut mail = self.mailbox.lock();
            mail.attempt = attempt;
            mail.news.clear();
        }
        let (trackers, mailbox) = (self.trackers.clone(), Arc::clone(&self.mailbox));
        let spawned = std::thread::Builder::new()
            .name("announcer-link".to_owned())
            .spawn(move || run_link(attempt, &trackers, &mailbox));
        if let Err(error) = spawned {
            self.mailbox
                .deliver(attempt, News::Failed(Some(format!("no thread: {error}"))));
        }
    }

    /// Ends the current connection; its link thread finds out and goes.
    fn hang_up(&mut self) {
        if let Some(link) = self.link.take() {
            // It may be gone already, which is as well.
            let _ = link.shutdown(Shutdown::Both);
        }
    }

    fn publish_status(&self) {
        let logic::AnnouncerStatus {
            tracker,
            down,
            retry_at,
            sequence,
            peers,
        } = self.machine.status();
        let mut mail = self.mailbox.lock();
        mail.retry_at = retry_at.map(|at| self.origin + at.since_origin());
        mail.status = AnnouncerStatus {
            tracker,
            down,
            retry_in: None,
            sequence,
            peers,
        };
    }
}

/// Resolves, connects and reads, until there is nothing more to read or nobody wants it.
fn run_link(attempt: u64, trackers: &[String], mailbox: &Mailbox) {
    let end = match connect_any(trackers) {
        Ok((stream, tracker)) => read_all(attempt, stream, tracker, mailbox).err(),
        Err(error) => Some(error),
    };
    mailbox.deliver(attempt, News::Failed(end));
}

fn connect_any(trackers: &[String]) -> Result<(TcpStream, SocketAddr), String> {
    let mut failures = Vec::new();
    let mut tried = 0;
    for tracker in trackers {
        if tracker.len() > TRACKER_TEXT_LEN_MAX {
            failures.push("a tracker's name is too long".to_owned());
            continue;
        }
        let addresses = match tracker.to_socket_addrs() {
            Ok(addresses) => addresses,
            Err(error) => {
                failures.push(format!("cannot find {tracker}: {error}"));
                continue;
            }
        };
        for address in addresses.take(ADDRESSES_MAX.saturating_sub(tried)) {
            tried += 1;
            match connect(address) {
                Ok(stream) => return Ok((stream, address)),
                Err(error) => failures.push(format!("cannot reach {address}: {error}")),
            }
        }
    }
    if failures.is_empty() {
        failures.push("no tracker is known".to_owned());
    }
    Err(failures.join("; "))
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_LIMIT)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(WRITE_LIMIT))?;
    stream.set_read_timeout(Some(LOOK_INTERVAL))?;
    Ok(stream)
}

/// Nothing came for a while, which says nothing about what will come.
fn is_no_end(error: &io::Error) -> bool {
    let kind = error.kind();
    [
        io::ErrorKind::WouldBlock,
        io::ErrorKind::TimedOut,
        io::ErrorKind::Interrupted,
    ]
    .contains(&kind)
}

/// Reads until the end; Ok when the tracker closed, or nobody wants the rest.
fn read_all(
    attempt: u64,
    mut stream: TcpStream,
    tracker: SocketAddr,
    mailbox: &Mailbox,
) -> Result<(), String> {
    let writer = stream.try_clone().map_err(|error| error.to_string())?;
    if !mailbox.deliver(attempt, News::Connected(writer, tracker)) {
        return Ok(());
    }
    let mut chunk = vec![0; CHUNK_BYTES_MAX];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(len) => {
                if !mailbox.deliver(attempt, News::Received(chunk[..len].to_vec())) {
                    return Ok(());
                }
            }
            Err(error) if is_no_end(&error) => {
                if !mailbox.wants(attempt) {
                    return Ok(());
                }
            }
            Err(error) => return Err(format!("reading from the tracker: {error}")),
        }
    }
}
