//! A peer of a classic swarm as a machine: what to tell the tracker, and what to fetch from whom.
//!
//! ```text
//! away --connect--> connected --look, init--> waiting for the answer --directory--> idle
//!  ^                    |                            |                               |
//!  +---- lost, or no answer, or no directory --------+------- keep-alive or init <---+
//! ```
//!
//! Fetching goes on whatever the tracker does. Serving is no decision and is not here; nor is the
//! disk: what is in the folder comes in, and what is to be fetched goes out.

mod port;
mod wanted;

use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeMap;
use std::collections::VecDeque;

use ahoy_wire::classic::{
    DIRECTORY_BYTES_MAX, Directory, FILES_MAX, FileEntry, FileName, Generation, MESSAGE_BYTES_MAX,
    Mtime, Objects, PeerMessage,
};

use crate::backoff::Backoff;
use crate::moment::{Deadline, Moment};
use crate::tracker::budget::Budget;

pub use port::{
    DownReason, FetchJob, FetchTrouble, LocalFile, Pace, PeerEffect, PeerEvent, PeerInput,
    PeerOptions, PeerReason, PeerSnapshot, ServingPort,
};
use wanted::{Choice, WantedFiles};

/// Room in a message for what stands around a name, in bytes.
const ENTRY_BYTES: usize = 64;

/// A peer; see the module.
#[derive(Debug)]
pub struct Peer {
    options: PeerOptions,
    port: ServingPort,
    tracker: Tracker,
    attempts: u64,
    backoff: Backoff,
    files: BTreeMap<FileName, LocalFile>,
    wanted: WantedFiles,
    /// What is being fetched, by number.
    jobs: BTreeMap<u64, Choice>,
    jobs_total: u64,
    /// What the tracker's answers have shown.
    swarm: Generation,
    /// The owner knows that all is here.
    told_complete: bool,
    fetched_total: u64,
    failed_total: u64,
}

/// How it stands with the tracker.
#[derive(Debug)]
enum Tracker {
    /// No connection; tried again then.
    Away { retry_at: Moment },
    /// An attempt is on its way.
    Connecting,
    /// A connection.
    Connected(Box<Connection>),
}

#[derive(Debug)]
struct Connection {
    own: IpAddr,
    objects: Objects,
    /// What it was told last.
    announced: Option<BTreeMap<FileName, Mtime>>,
    /// The folder is being looked at, and a message follows.
    looking: bool,
    /// Answers that are due, and the moment until which the first must have come.
    unanswered: usize,
    answer_until: Moment,
    next_message: Moment,
    /// For what comes without having been asked for.
    budget: Budget,
}

impl Peer {
    /// A peer that serves its files on `port`; `seed` is for the lots of its waits.
    #[must_use]
    pub fn new(options: PeerOptions, port: ServingPort, seed: u64) -> Self {
        let backoff = Backoff::new(options.retry_first, options.retry_max, seed);
        Self {
            options,
            port,
            tracker: Tracker::Away {
                retry_at: Moment::ORIGIN,
            },
            attempts: 0,
            backoff,
            files: BTreeMap::new(),
            wanted: WantedFiles::default(),
            jobs: BTreeMap::new(),
            jobs_total: 0,
            swarm: Generation::Lines,
            told_complete: false,
            fetched_total: 0,
            failed_total: 0,
        }
    }

    /// Takes one input in and leaves everything that is to be done in `outbox`. Begin with `Due`.
    pub fn handle(&mut self, now: Moment, input: PeerInput<'_>, outbox: &mut VecDeque<PeerEffect>) {
        match input {
            PeerInput::Connected { attempt, own } => self.connected(now, attempt, own, outbox),
            PeerInput::Received { attempt, bytes } => {
                if attempt == self.attempts
                    && let Err(why) = self.receive(now, bytes, outbox)
                {
                    outbox.push_back(PeerEffect::Disconnect);
                    self.lose(now, why, outbox);
                }
            }
            PeerInput::Lost { attempt, error } => {
                if attempt == self.attempts && !matches!(self.tracker, Tracker::Away { .. }) {
                    let why = error.map_or(DownReason::Ended, DownReason::Unreachable);
                    self.lose(now, why, outbox);
                }
            }
            PeerInput::Files(files) => self.looked(now, files, outbox),
            PeerInput::Fetched {
                job,
                spoke,
                outcome,
            } => self.fetched(now, job, spoke, outcome, outbox),
            PeerInput::Due => self.due(now, outbox),
        }
        self.fetch(now, outbox);
    }

    /// The next moment at which `Due` is wanted.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline<PeerReason>> {
        let due = |at, reason| Some(Deadline { at, reason });
        let tracker = match &self.tracker {
            Tracker::Away { retry_at } => due(*retry_at, PeerReason::Retry),
            Tracker::Connecting => None,
            Tracker::Connected(connection) if connection.unanswered > 0 => {
                due(connection.answer_until, PeerReason::Answer)
            }
            Tracker::Connected(connection) if connection.looking => None,
            Tracker::Connected(connection) => due(connection.next_message, PeerReason::KeepAlive),
        };
        let has_slot = self.jobs.len() < self.options.fetches_max;
        let next_try = self.wanted.next_try().filter(|_| has_slot);
        let fetch = next_try.and_then(|at| due(at, PeerReason::Fetch));
        Deadline::earlier(tracker, fetch)
    }

    /// The peer in numbers.
    #[must_use]
    pub fn snapshot(&self) -> PeerSnapshot {
        PeerSnapshot {
            is_up: matches!(self.tracker, Tracker::Connected(_)),
            files: self.files.len(),
            wanted: self.wanted.len(),
            fetching: self.jobs.len(),
            fetched_total: self.fetched_total,
            failed_total: self.failed_total,
        }
    }

    fn due(&mut self, now: Moment, outbox: &mut VecDeque<PeerEffect>) {
        match &mut self.tracker {
            Tracker::Away { retry_at } if *retry_at <= now => {
                self.attempts += 1;
                self.tracker = Tracker::Connecting;
                let attempt = self.attempts;
                outbox.push_back(PeerEffect::Connect { attempt });
            }
            Tracker::Connected(connection) if connection.unanswered > 0 => {
                if connection.answer_until <= now {
                    // classic-41.
                    outbox.push_back(PeerEffect::Disconnect);
                    self.lose(now, DownReason::Silent, outbox);
                }
            }
            Tracker::Connected(connection) => {
                if connection.next_message <= now && !connection.looking {
                    connection.looking = true;
                    outbox.push_back(PeerEffect::Look);
                }
            }
            Tracker::Away { .. } | Tracker::Connecting => {}
        }
    }

    fn connected(
        &mut self,
        now: Moment,
        attempt: u64,
        own: IpAddr,
        outbox: &mut VecDeque<PeerEffect>,
    ) {
        if attempt != self.attempts || !matches!(self.tracker, Tracker::Connecting) {
            return;
        }
        self.tracker = Tracker::Connected(Box::new(Connection {
            own,
            objects: Objects::new(DIRECTORY_BYTES_MAX),
            announced: None,
            looking: true,
            unanswered: 0,
            answer_until: now,
            next_message: now + self.options.first_sync,
            budget: Budget::new(now),
        }));
        outbox.push_back(PeerEffect::Event(PeerEvent::Up));
        outbox.push_back(PeerEffect::Look);
    }

    /// The folder has been looked at: now the tracker is told, if it is there (classic-30).
    fn looked(
        &mut self,
        now: Moment,
        mut files: BTreeMap<FileName, LocalFile>,
        outbox: &mut VecDeque<PeerEffect>,
    ) {
        files.retain(|name, _| !self.options.is_excluded(name));
        self.files = files;
        let (announced, left_out) = self.announcement();
        let Tracker::Connected(connection) = &mut self.tracker else {
            return;
        };
        if !std::mem::take(&mut connection.looking) {
            return;
        }
        let is_news = connection.announced.as_ref() != Some(&announced);
        let entry = |(name, mtime): (&FileName, &Mtime)| FileEntry {
            name: name.clone(),
            mtime: *mtime,
        };
        let message = PeerMessage {
            port: self.port,
            files: is_news.then(|| announced.iter().map(entry).collect()),
            left_out: 0,
        };
        let is_first = connection.announced.is_none();
        if is_news {
            outbox.push_back(PeerEffect::Event(PeerEvent::Announced {
                files: announced.len(),
                left_out,
            }));
            connection.announced = Some(announced);
        }
        if connection.unanswered == 0 {
            connection.answer_until = now + self.options.answer_max;
        }
        connection.unanswered += 1;
        connection.next_message = if is_first {
            now + self.options.first_sync
        } else {
            now + self.options.interval
        };
        outbox.push_back(PeerEffect::Send(message.encode()));
    }

    /// What can be told of the files, within the maxima of a message (classic-9).
    fn announcement(&self) -> (BTreeMap<FileName, Mtime>, usize) {
        let mut bytes = ENTRY_BYTES;
        let told = self.files.iter().take(FILES_MAX).take_while(|(name, _)| {
            // Each byte of a name is at most six of its escape.
            bytes += name.as_str().len() * 6 + ENTRY_BYTES;
            bytes <= MESSAGE_BYTES_MAX
        });
        let told = told.map(|(name, file)| (name.clone(), file.mtime));
        let told: BTreeMap<FileName, Mtime> = told.collect();
        let left_out = self.files.len() - told.len();
        (told, left_out)
    }

    fn receive(
        &mut self,
        now: Moment,
        bytes: &[u8],
        outbox: &mut VecDeque<PeerEffect>,
    ) -> Result<(), DownReason> {
        let Tracker::Connected(connection) = &mut self.tracker else {
            return Ok(());
        };
        let own = SocketAddr::new(connection.own, self.port.get());
        connection.objects.push(bytes);
        // classic-40.
        while let Some(object) = connection
            .objects
            .next_object()
            .map_err(DownReason::Unframed)?
        {
            if connection.unanswered == 0 {
                if !connection.budget.pay(now, 1) {
                    return Err(DownReason::TooFast);
                }
                continue;
            }
            let directory = Directory::decode(object).map_err(DownReason::Invalid)?;
            connection.unanswered -= 1;
            connection.answer_until = now + self.options.answer_max;
            self.backoff.reset();
            for (name, holder) in &directory.files {
                let have = self.files.get(name).map(|file| file.mtime);
                let is_newer = have.is_none_or(|have| have < holder.mtime);
                let has_room = have.is_some() || self.files.len() + self.wanted.len() < FILES_MAX;
                // classic-31, classic-32, classic-33.
                if is_newer && has_room && holder.addr != own && !self.options.is_excluded(name) {
                    self.wanted.list(now, name, *holder);
                    self.told_complete = false;
                }
            }
        }
        self.swarm = if connection.objects.lines() {
            Generation::Lines
        } else {
            Generation::Bare
        };
        let files = &self.files;
        self.wanted
            .prune(now, |name| files.get(name).map(|file| file.mtime));
        self.tell_complete(outbox);
        Ok(())
    }

    /// The tracker is gone; what is known of the swarm stays (classic-39).
    fn lose(&mut self, now: Moment, why: DownReason, outbox: &mut VecDeque<PeerEffect>) {
        let retry_in = self.backoff.wait();
        self.tracker = Tracker::Away {
            retry_at: now + retry_in,
        };
        outbox.push_back(PeerEffect::Event(PeerEvent::Down { why, retry_in }));
    }

    fn fetched(
        &mut self,
        now: Moment,
        job: u64,
        spoke: Option<Generation>,
        outcome: Result<LocalFile, FetchTrouble>,
        outbox: &mut VecDeque<PeerEffect>,
    ) {
        let Some(choice) = self.jobs.remove(&job) else {
            return;
        };
        let (name, holder) = (choice.name.clone(), choice.holder);
        let event = match &outcome {
            Ok(file) => {
                self.fetched_total += 1;
                self.files.insert(name.clone(), *file);
                PeerEvent::Fetched {
                    job,
                    name,
                    holder,
                    bytes: file.size,
                }
            }
            Err(why) => {
                self.failed_total += 1;
                PeerEvent::Failed {
                    job,
                    name,
                    holder,
                    why: why.clone(),
                }
            }
        };
        outbox.push_back(PeerEffect::Event(event));
        // A time that the disk did not take would have the file fetched for ever.
        let not_taken = FetchTrouble::Disk("the time of the file".to_owned());
        let trouble = match &outcome {
            Ok(file) => (file.mtime < choice.mtime).then_some(&not_taken),
            Err(why) => Some(why),
        };
        self.wanted.ended(now, &choice, spoke, trouble);
        let files = &self.files;
        self.wanted
            .prune(now, |name| files.get(name).map(|file| file.mtime));
        self.tell_complete(outbox);
    }

    /// Starts what can be started (classic-38).
    fn fetch(&mut self, now: Moment, outbox: &mut VecDeque<PeerEffect>) {
        while self.jobs.len() < self.options.fetches_max {
            let Some(choice) = self.wanted.choose(now) else {
                return;
            };
            self.jobs_total += 1;
            let job = self.jobs_total;
            let Choice {
                name,
                holder,
                mtime,
                proven,
            } = choice.clone();
            outbox.push_back(PeerEffect::Event(PeerEvent::Fetching {
                job,
                name: name.clone(),
                holder,
            }));
            outbox.push_back(PeerEffect::Fetch(FetchJob {
                job,
                expect: self.files.get(&name).copied(),
                name,
                holder,
                mtime,
                // classic-57.
                first: proven.unwrap_or(self.swarm),
                proven,
                bare_swarm: self.swarm == Generation::Bare,
            }));
            self.jobs.insert(job, choice);
        }
    }

    fn tell_complete(&mut self, outbox: &mut VecDeque<PeerEffect>) {
        if self.wanted.len() == 0 && !self.told_complete {
            self.told_complete = true;
            let files = self.files.len();
            outbox.push_back(PeerEffect::Event(PeerEvent::Complete { files }));
        }
    }
}

#[cfg(test)]
mod tests;
