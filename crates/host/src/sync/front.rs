//! What others see of a running share: its numbers for people, its files for peers.
//!
//! Everything here only looks. The engine is asked under its lock, for a moment; the disk is read
//! through the confined root.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ahoy_logic::sync::merge::value_of;
use ahoy_logic::sync::tree::Goal;
use ahoy_logic::sync::{
    LinkProgress, Notice as Told, Progress, Rights, State as Standing, Withheld,
};
use ahoy_wire::sync::{Chunk, Hash, NodeId, Refusal, RelPath, Stretch, Value, Wanted};
use ahoy_wire::ticket::Ticket;

use super::conductor::{Audience, Mail, Shared};
use super::disk::Root;
use super::exact::Exact;
use super::gate::Gate;
use super::home::{Claim, HomeError};
use super::limits::{Caps, Limits};
use super::link::{LinkSnapshot, Shelf};
use super::links::Links;
use super::scrub::{Progress as Scrubbing, Scrubber};
use super::share::{Event, OnEvent};
use super::status::{
    Amount, Desk, Entry, EntryKind, Meter, Notice, NoticeKind, Notices, Page, Peer, Snapshot,
    State, Traffic,
};

/// One running share, for everybody who wants to know something of it.
pub struct Front {
    pub(super) engine: Shared,
    pub(super) links: OnceLock<Arc<Links>>,
    pub(super) gate: OnceLock<Weak<Gate>>,
    pub(super) scrubber: OnceLock<Arc<Scrubber>>,
    pub(super) claim: Mutex<Claim>,
    pub(super) label: String,
    pub(super) limits: Arc<Limits>,
    pub(super) mail: Mutex<Sender<Mail>>,
    pub(super) on_event: OnEvent,
    started_at_secs: u64,
    view: Mutex<View>,
}

/// What has been shown last, and what is counted on the way.
struct View {
    notices: Notices,
    meter: Meter,
    state: State,
    index_trouble: Option<String>,
    /// Of links that are over: bytes sent and received.
    past: Traffic,
    links: Vec<LinkSnapshot>,
    /// Bytes through the network when the current run of work began.
    run_began_at: Traffic,
    run_files: u64,
    met: Vec<(ahoy_logic::sync::LinkId, String)>,
    tidy: bool,
}

impl Front {
    /// A share that has just been opened.
    pub fn new(
        engine: Shared,
        claim: Claim,
        label: String,
        limits: Arc<Limits>,
        mail: Sender<Mail>,
        on_event: OnEvent,
    ) -> Arc<Self> {
        let view = View {
            notices: Notices::default(),
            meter: Meter::new(Instant::now()),
            state: State::Starting,
            index_trouble: None,
            past: Traffic::default(),
            links: Vec::new(),
            run_began_at: Traffic::default(),
            run_files: 0,
            met: Vec::new(),
            tidy: false,
        };
        Arc::new(Self {
            engine,
            links: OnceLock::new(),
            gate: OnceLock::new(),
            scrubber: OnceLock::new(),
            claim: Mutex::new(claim),
            label,
            limits,
            mail: Mutex::new(mail),
            on_event,
            started_at_secs: now_secs(),
            view: Mutex::new(view),
        })
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn claim(&self) -> MutexGuard<'_, Claim> {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the user something that is about the share as a whole.
    pub(super) fn say(&self, text: String) {
        let notice = self
            .view()
            .notices
            .add(now_secs(), NoticeKind::Share, None, text);
        (self.on_event)(Event::Notice(notice));
    }

    pub(super) fn send(&self, mail: Mail) {
        // After the end nobody listens.
        let _ = self.sender().send(mail);
    }

    /// The way to the conductor.
    pub(super) fn sender(&self) -> Sender<Mail> {
        let sender = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        sender.clone()
    }

    /// A ticket with the addresses of now.
    pub fn ticket(&self, read_only: bool) -> Ticket {
        let gate = self.gate.get().and_then(Weak::upgrade);
        Gate::ticket(gate.as_deref(), &self.claim().record, read_only)
    }

    fn links(&self) -> Vec<LinkSnapshot> {
        self.links
            .get()
            .map(|links| links.snapshot())
            .unwrap_or_default()
    }

    fn traffic(view: &View) -> Traffic {
        view.links.iter().fold(view.past, |sum, link| Traffic {
            sent: sum.sent + link.sent_bytes,
            received: sum.received + link.received_bytes,
        })
    }

    fn state(view: &View, progress: &Progress) -> State {
        if let Some(reason) = &view.index_trouble {
            return State::Halted {
                reason: format!("the index cannot be written: {reason}"),
            };
        }
        match progress.state {
            Standing::Starting => return State::Scanning,
            Standing::RootLost => {
                let reason = "the folder or its marker .ahoy/share is not there; nothing is \
                              deleted elsewhere, and sync goes on when it is back";
                return State::Halted {
                    reason: reason.into(),
                };
            }
            Standing::Emptied => {
                let reason = "the folder is empty although files were here; nothing is deleted \
                              elsewhere; put them back, or say `ahoy confirm` if it is meant";
                return State::Halted {
                    reason: reason.into(),
                };
            }
            Standing::Running => {}
        }
        if let Some(Withheld { files, of }) = progress.withheld {
            let reason = format!(
                "{files} of {of} files have disappeared at once; they are not deleted elsewhere; \
                 put them back, or say `ahoy confirm` if it is meant"
            );
            return State::Halted { reason };
        }
        let is_behind = |link: &LinkProgress| link.is_behind || !link.is_heard;
        if progress.nodes_left > 0 || progress.reading > 0 || progress.links.iter().any(is_behind) {
            State::Syncing
        } else if progress.links.is_empty() {
            State::WaitingForPeers
        } else {
            State::InSync
        }
    }

    /// Notes what has changed since the last time, and tells it. What is not durable is not in
    /// sync yet.
    fn refresh(&self, is_durable: bool) {
        let progress = self.engine.lock().progress();
        let links = self.links();
        let mut events = Vec::new();
        let forget_parts = {
            let mut view = self.view();
            let before = Self::traffic(&view);
            view.keep_count_of_ended(&links);
            view.links = links;
            let after = Self::traffic(&view);
            let moved = (after.sent + after.received).saturating_sub(before.sent + before.received);
            view.meter.add(Instant::now(), moved);
            view.news_of_peers(&progress, &mut events);
            let was_busy = view.state == State::Syncing;
            let mut state = Self::state(&view, &progress);
            if state == State::InSync && was_busy && !is_durable {
                state = State::Syncing;
            }
            if !was_busy && state == State::Syncing {
                view.run_began_at = after;
                view.run_files = 0;
                view.tidy = false;
            }
            if state != view.state {
                view.state = state.clone();
                events.push(Event::State(state.clone()));
            }
            let quiet = state == State::InSync && !view.tidy;
            view.tidy |= quiet;
            quiet
        };
        if let Some(gate) = self.gate.get().and_then(Weak::upgrade) {
            gate.holds(&progress);
            if forget_parts {
                gate.forget_parts();
            }
        }
        for event in events {
            (self.on_event)(event);
        }
    }

    fn peers(&self, progress: &Progress, links: &[LinkSnapshot]) -> Vec<Peer> {
        let known = self.claim().record.peers.clone();
        let mut peers: Vec<Peer> = links
            .iter()
            .map(|link| {
                let said = progress.links.iter().find(|p| p.link == link.link);
                Peer {
                    id: link.peer.to_string(),
                    short: link.peer.short().to_string(),
                    label: said.map_or(String::new(), |said| said.label.clone()),
                    address: Some(link.address),
                    connected: true,
                    seen_at_secs: Some(now_secs()),
                    may_write: Some(link.rights == Rights::Writer),
                    behind: said.map(|said| self.engine.lock().behind(said.link)),
                }
            })
            .collect();
        for peer in known {
            let id = peer.id.to_string();
            if peers.iter().all(|connected| connected.id != id) {
                peers.push(Peer {
                    id,
                    short: peer.id.short().to_string(),
                    label: peer.label.as_str().to_owned(),
                    address: peer.addresses.first().copied(),
                    connected: false,
                    seen_at_secs: (peer.seen_at_secs > 0).then_some(peer.seen_at_secs),
                    may_write: None,
                    behind: None,
                });
            }
        }
        peers
    }
}

impl View {
    fn keep_count_of_ended(&mut self, open: &[LinkSnapshot]) {
        for old in &self.links {
            if open.iter().all(|link| link.link != old.link) {
                self.past.sent += old.sent_bytes;
                self.past.received += old.received_bytes;
            }
        }
    }

    /// A peer is worth telling of when it has said its name, and when it goes.
    fn news_of_peers(&mut self, progress: &Progress, events: &mut Vec<Event>) {
        let links = &self.links;
        let short = |id| {
            links
                .iter()
                .find(|l| l.link == id)
                .map(|l| l.peer.short().to_string())
        };
        for link in progress.links.iter().filter(|link| link.replica.is_some()) {
            if self.met.iter().all(|(id, _)| *id != link.link) {
                let short = short(link.link).unwrap_or_default();
                self.met.push((link.link, short.clone()));
                events.push(Event::Peer {
                    short,
                    label: link.label.clone(),
                    connected: true,
                });
            }
        }
        self.met.retain(|(id, short)| {
            let stays = progress.links.iter().any(|link| link.link == *id);
            if !stays {
                let (short, label) = (short.clone(), String::new());
                events.push(Event::Peer {
                    short,
                    label,
                    connected: false,
                });
            }
            stays
        });
    }
}

impl Desk for Front {
    fn snapshot(&self) -> Snapshot {
        let progress = self.engine.lock().progress();
        let links = self.links();
        let peers = self.peers(&progress, &links);
        let (gate, record) = (
            self.gate.get().and_then(Weak::upgrade),
            self.claim().record.clone(),
        );
        let mut view = self.view();
        view.keep_count_of_ended(&links);
        view.links = links;
        let traffic = Self::traffic(&view);
        let since = |now: u64, then: u64| now.saturating_sub(then);
        Snapshot {
            name: record.name.to_string(),
            root: Exact::from(record.root.as_path()),
            replica: format!("{:016x}", record.replica.0),
            device: gate
                .as_ref()
                .map_or(String::new(), |gate| gate.me().to_string()),
            label: self.label.clone(),
            process: std::process::id(),
            started_at_secs: self.started_at_secs,
            may_write: record.capability.write_seed().is_some(),
            state: Self::state(&view, &progress),
            files: progress.census.files + progress.census.links,
            directories: progress.census.dirs,
            bytes: progress.census.bytes,
            todo: Amount {
                files: progress.nodes_left + progress.reading,
                bytes: progress.bytes_left,
            },
            done: Amount {
                files: view.run_files,
                bytes: since(traffic.received, view.run_began_at.received),
            },
            bytes_per_second: view.meter.rate(Instant::now()),
            peers,
            trackers: gate
                .as_ref()
                .map(|gate| gate.trackers())
                .unwrap_or_default(),
            listen: gate.map(|gate| gate.listening()).unwrap_or_default(),
            notices: view.notices.all(),
            traffic,
            limits: self.limits.caps(),
            niceness: crate::priority::niceness(),
            confinement: crate::confine::level(),
        }
    }

    fn limit(&self, limits: Caps) -> Result<(), HomeError> {
        self.limits.set(limits);
        let mut claim = self.claim();
        claim.record.limits = limits;
        claim.save()
    }

    fn list(&self, page: &Page) -> Option<Vec<Entry>> {
        let engine = self.engine.lock();
        let tree = engine.tree();
        let mut at = NodeId::ROOT;
        let mut names: Vec<_> = page.path.names().collect();
        names.reverse();
        while let Some(name) = names.pop() {
            let found = tree
                .wanted_in_dir(at)
                .find(|id| matches!(tree.goal(*id), Goal::At(_, goal) if goal == name))?;
            if names.is_empty() && !tree.node(found)?.is_dir() {
                return Some(
                    entry(tree, found)
                        .into_iter()
                        .map(|(_, entry)| entry)
                        .collect(),
                );
            }
            at = found;
        }
        let mut entries: Vec<_> = tree
            .wanted_in_dir(at)
            .filter_map(|id| entry(tree, id))
            .filter(|(name, _)| page.after.as_ref().is_none_or(|after| name > after))
            .collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.truncate(page.limit);
        Some(entries.into_iter().map(|(_, entry)| entry).collect())
    }

    fn ticket(&self, read_only: bool) -> String {
        Front::ticket(self, read_only).to_string()
    }

    fn confirm(&self) -> bool {
        let waits = {
            let progress = self.engine.lock().progress();
            progress.withheld.is_some() || progress.state == Standing::Emptied
        };
        self.send(Mail::Confirm);
        waits
    }

    fn scrub(&self, bytes_per_second: Option<u64>) -> std::io::Result<Scrubbing> {
        let scrubber = self.scrubber.get();
        let scrubber = scrubber.ok_or_else(|| std::io::Error::other("it is just starting"))?;
        if let Some(rate) = bytes_per_second {
            scrubber.start(rate)?;
        }
        Ok(scrubber.progress())
    }

    fn stop(&self) {
        self.send(Mail::Stop);
    }
}

fn entry(
    tree: &ahoy_logic::sync::tree::Tree,
    id: NodeId,
) -> Option<(ahoy_wire::sync::Name, Entry)> {
    let node = tree.node(id)?;
    let Goal::At(_, name) = tree.goal(id) else {
        return None;
    };
    let value = value_of(&node.record);
    let (kind, size, mode, mtime, target) = match value {
        Value::Dir(meta) => (EntryKind::Directory, 0, meta.mode, meta.mtime, None),
        Value::File { meta, size, .. } => (EntryKind::File, *size, meta.mode, meta.mtime, None),
        Value::Link { mtime, target } => (
            EntryKind::Link,
            0,
            0,
            *mtime,
            Some(Exact(target.as_bytes().to_vec())),
        ),
        Value::Gone { .. } => return None,
    };
    let here = node
        .synced
        .as_ref()
        .is_some_and(|synced| synced.value.same_content(value));
    let entry = Entry {
        name: Exact::from(&name),
        kind,
        size,
        mode,
        mtime_secs: mtime.secs,
        mtime_nanos: mtime.nanos,
        target,
        here,
    };
    Some((name, entry))
}

/// The conductor's listener.
pub struct Ear(pub Arc<Front>);

impl Audience for Ear {
    fn notice(&self, told: Told) {
        if let Told::Brought { path, removed } = &told {
            self.0.view().run_files += 1;
            (self.0.on_event)(Event::Brought {
                path: Exact::from(path),
                removed: *removed,
            });
            return;
        }
        let notice: Option<Notice> = self.0.view().notices.tell(now_secs(), &told);
        if let Some(notice) = notice {
            (self.0.on_event)(Event::Notice(notice));
        }
    }

    fn warn(&self, text: String) {
        self.0.say(text);
    }

    fn index_trouble(&self, reason: Option<String>) {
        self.0.view().index_trouble = reason;
        self.0.refresh(false);
    }

    fn turn(&self, is_durable: bool) {
        self.0.refresh(is_durable);
    }
}

/// The folder's content, for peers.
pub struct FolderShelf {
    /// Knows which file holds what.
    pub engine: Shared,
    /// Reads it.
    pub root: Arc<Root>,
}

impl FolderShelf {
    fn path(&self, wanted: Wanted) -> Result<RelPath, Refusal> {
        let found = self.engine.lock().locate(wanted.node, wanted.hash);
        found.map(|(path, _)| path).ok_or(Refusal::NotHere)
    }
}

impl Shelf for FolderShelf {
    fn open(&self, wanted: Wanted) -> Result<(File, u64), Refusal> {
        let path = self.path(wanted)?;
        let file = self.root.open_for_serving(&path).map_err(refusal)?;
        let size = file.metadata().map_err(refusal)?.len();
        Ok((file, size))
    }

    fn outline(&self, wanted: Wanted, stretch: Stretch) -> Result<Vec<Chunk>, Refusal> {
        let path = self.path(wanted)?;
        let chunks = self.root.outline_of(&path, &stretch).map_err(refusal)?;
        chunks.ok_or(Refusal::NotHere)
    }

    fn small(&self, path: &RelPath, hash: Hash, size: u64) -> Option<Arc<[u8]>> {
        if let Some(content) = self.root.read_before(hash) {
            return Some(content);
        }
        let file = self.root.open_for_serving(path).ok()?;
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        file.read_exact_at(&mut bytes, 0).ok()?;
        (*blake3::hash(&bytes).as_bytes() == hash.0).then(|| bytes.into())
    }
}

fn refusal(error: std::io::Error) -> Refusal {
    if error.kind() == std::io::ErrorKind::NotFound {
        Refusal::NotHere
    } else {
        Refusal::Unreadable
    }
}

/// Seconds since 1970, for display only.
pub(super) fn now_secs() -> u64 {
    since_1970().as_secs()
}

/// Since 1970 by this machine's clock, which may be wrong; 0 before.
pub(super) fn since_1970() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

/// Addresses under which this machine can be reached at `port`: what others can use first,
/// loopback last.
pub(super) fn own_addresses(bound: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = Vec::new();
    for bound in bound {
        if !bound.ip().is_unspecified() {
            found.push(*bound);
            continue;
        }
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        for interface in interfaces {
            let ip = interface.ip();
            let link_local = match ip {
                std::net::IpAddr::V4(ip) => ip.is_link_local(),
                std::net::IpAddr::V6(ip) => ip.is_unicast_link_local(),
            };
            if !link_local && (bound.is_ipv6() || ip.is_ipv4()) {
                found.push(SocketAddr::new(ip, bound.port()));
            }
        }
    }
    found.sort_by_key(|address| (address.ip().is_loopback(), address.is_ipv6()));
    found.dedup();
    found
}
