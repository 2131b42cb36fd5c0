//! Several engines with folders of their own, and perfect links between them: what is said
//! arrives, what is to be done is done at once. How they behave in bad weather is the simulator's
//! business; here the outcome of one situation is to be told in advance.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ahoy_logic::moment::Moment;
use ahoy_logic::sync::merge::value_of;
use ahoy_logic::sync::{
    Act, Effect, Engine, Identity, Input, LinkId, Look, Outcome, Outgoing, Print, Rights, Row,
    Rules, Sighting, Source, State, Step, Trouble,
};
use ahoy_wire::sync::{Hash, Item, Label, Message, NodeId, Records, RelPath, ReplicaId};

use crate::folder::{Folder, Kind, hash};
use crate::one::path;

/// How long engines that may wait are watched.
const WAITING_TURNS_MAX: u32 = 600;

/// The other end of a link that leads to the test itself.
const STRANGER: usize = usize::MAX;

/// More than any situation here needs; beyond it the engines go round in circles.
const TURNS_MAX: u32 = 20_000;

pub struct Peer {
    pub folder: Folder,
    is_away: bool,
    engine: Option<Engine>,
    nodes: BTreeMap<u64, Row>,
    heard: BTreeMap<ReplicaId, Row>,
    counters: Option<Row>,
    numbers: Option<Row>,
    pub told: Vec<ahoy_logic::sync::Notice>,
}

pub struct Peers {
    pub all: Vec<Peer>,
    links: Vec<(LinkId, usize, usize)>,
    queue: VecDeque<(usize, Input)>,
    now: Moment,
    next_link: u64,
    /// Something may be asked for again and again, because nobody has it or has reported yet what
    /// became of it.
    pub may_wait: bool,
    /// The test itself has said something to somebody.
    has_stranger: bool,
}

impl Peers {
    /// So many machines with empty folders, all of them running, none of them linked.
    pub fn new(count: usize) -> Self {
        let peer = |_| Peer {
            folder: Folder::default(),
            is_away: false,
            engine: None,
            nodes: BTreeMap::new(),
            heard: BTreeMap::new(),
            counters: None,
            numbers: None,
            told: Vec::new(),
        };
        let mut peers = Self {
            all: (0..count).map(peer).collect(),
            links: Vec::new(),
            queue: VecDeque::new(),
            now: Moment::ORIGIN,
            next_link: 0,
            may_wait: false,
            has_stranger: false,
        };
        (0..count).for_each(|index| peers.start(index));
        peers
    }

    pub fn engine(&mut self, index: usize) -> &mut Engine {
        self.all[index].engine.as_mut().expect("it runs")
    }

    /// Starts with what the index remembers, and looks at everything.
    pub fn start(&mut self, index: usize) {
        let who = Identity {
            replica: ReplicaId(index as u64 + 1),
            label: Label::tidy(["a", "b", "c"][index]),
            rights: Rights::Writer,
            run: ReplicaId(index as u64 + 1).in_run(100),
            is_put_back: false,
            floor: 0,
        };
        let peer = &mut self.all[index];
        let rows = peer.nodes.values().chain(peer.heard.values());
        let rows: Vec<Row> = rows
            .chain(&peer.counters)
            .chain(&peer.numbers)
            .cloned()
            .collect();
        peer.engine = Some(Engine::new(who, rows));
        let rules = Input::Rules(peer.folder.rules.clone());
        self.queue.push_back((index, rules));
        self.scan(index);
    }

    /// Its process is killed between two turns, and starts again.
    pub fn crash(&mut self, index: usize) {
        self.queue.retain(|(who, _)| *who != index);
        let links = std::mem::take(&mut self.links).into_iter();
        let (gone, stay) = links.partition(|(_, from, to)| [*from, *to].contains(&index));
        self.links = stay;
        let others: Vec<(LinkId, usize, usize)> = gone;
        for (link, from, _) in others.into_iter().filter(|(_, from, _)| *from != index) {
            self.queue.push_back((from, Input::Closed { link }));
        }
        let parked: Vec<_> = self.all[index].folder.parked().collect();
        for (node, print) in parked {
            self.queue.push_back((index, Input::Parked { node, print }));
        }
        self.start(index);
    }

    pub fn stop(&mut self, index: usize) {
        assert!(self.links.is_empty(), "links are taken down first");
        self.all[index].engine = None;
    }

    /// From now on these rules count for its folder; a whole look follows.
    pub fn rule(&mut self, index: usize, text: &str) {
        let (rules, bad) = Rules::parse(text.as_bytes());
        assert_eq!(bad, []);
        self.all[index].folder.rules = rules.clone();
        self.queue.push_back((index, Input::Rules(rules)));
        self.scan(index);
    }

    /// A whole look.
    pub fn scan(&mut self, index: usize) {
        let (sightings, whole) = self.all[index].folder.below(&RelPath::root());
        let seen = Input::Seen {
            sightings,
            whole,
            asked: None,
        };
        self.queue.push_back((index, seen));
        let settled = Input::Settled { whole_tree: true };
        self.queue.push_back((index, settled));
        self.run();
    }

    /// The watcher reports these names of one burst.
    pub fn watch(&mut self, index: usize, paths: &[&str]) {
        self.report(index, paths);
        self.run();
    }

    /// The same, without waiting for what comes of it at a later time.
    pub fn report(&mut self, index: usize, paths: &[&str]) {
        let folder = &self.all[index].folder;
        let mut sightings = Vec::new();
        let mut whole = Vec::new();
        for at in paths {
            sightings.push(sighting(folder, &path(at)));
            if folder
                .at
                .get(&path(at))
                .is_some_and(|e| e.kind == Kind::Dir)
            {
                let (inside, dirs) = folder.below(&path(at));
                sightings.extend(inside);
                whole.extend(dirs);
            }
        }
        let seen = Input::Seen {
            sightings,
            whole,
            asked: None,
        };
        self.queue.push_back((index, seen));
        let settled = Input::Settled { whole_tree: false };
        self.queue.push_back((index, settled));
        for _ in 0..TURNS_MAX {
            match self.queue.pop_front() {
                Some((index, input)) => self.give(index, input),
                None => return,
            }
        }
        panic!("it goes round in circles");
    }

    /// Every file is read again; how many were.
    pub fn scrub(&mut self, index: usize) -> u64 {
        let (mut after, mut count) = (None, 0);
        while let Some(suspect) = self.engine(index).next_suspect(after) {
            after = Some(suspect.node);
            let (path, print) = (suspect.path, suspect.print);
            let folder = &self.all[index].folder;
            if let Some(hash) = folder.read(&path, &print).map(hash) {
                let scrubbed = Input::Scrubbed { path, print, hash };
                self.queue.push_back((index, scrubbed));
                count += 1;
            }
            self.run();
        }
        count
    }

    /// The contents of which the index of a machine says that nodes hold them, or last held them.
    pub fn told_contents(&self, index: usize) -> Vec<Hash> {
        let rows = self.all[index].nodes.values();
        let held = rows.filter_map(|row| match row {
            Row::Node { record, .. } => value_of(record).content(),
            Row::Heard { .. } | Row::Counters { .. } | Row::Numbers(_) => None,
        });
        held.map(|(hash, _)| hash).collect()
    }

    /// The folder of a machine goes away; what it leads to is yet to happen.
    pub fn root_away(&mut self, index: usize) {
        self.all[index].is_away = true;
        self.queue.push_back((index, Input::RootLost));
    }

    pub fn root_back(&mut self, index: usize) {
        self.all[index].is_away = false;
        self.queue.push_back((index, Input::RootBack));
        self.scan(index);
    }

    /// Time passes.
    pub fn tick(&mut self, index: usize) {
        self.queue.push_back((index, Input::Tick));
        self.run();
    }

    pub fn link(&mut self, a: usize, b: usize) {
        self.connect(a, b);
        self.run();
    }

    /// Links them, and goes so many turns on.
    pub fn link_for(&mut self, a: usize, b: usize, turns: u32) {
        self.connect(a, b);
        self.run_for(turns);
    }

    fn connect(&mut self, a: usize, b: usize) {
        if self
            .links
            .iter()
            .any(|(_, from, to)| (*from, *to) == (a, b))
        {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            let link = LinkId(self.next_link);
            self.next_link += 1;
            self.links.push((link, from, to));
            let rights = Rights::Writer;
            self.queue.push_back((from, Input::Opened { link, rights }));
        }
    }

    /// A link at whose other end the test is, and holds nothing.
    pub fn stranger(&mut self, index: usize) -> LinkId {
        self.has_stranger = true;
        let link = LinkId(self.next_link);
        // Its other half belongs to nobody.
        self.next_link += 2;
        self.links.push((link, index, STRANGER));
        let rights = Rights::Writer;
        self.queue
            .push_back((index, Input::Opened { link, rights }));
        self.run();
        link
    }

    /// The stranger says this, and so many turns pass: whoever asks him for content asks again
    /// and again. Whether the link is still open.
    pub fn hear(&mut self, link: LinkId, message: Message, turns: u32) -> bool {
        let at = self.links.iter().find(|(id, ..)| *id == link);
        if let Some((_, index, _)) = at.copied() {
            self.queue
                .push_back((index, Input::Heard { link, message }));
            self.run_for(turns);
        }
        self.links.iter().any(|(id, ..)| *id == link)
    }

    pub fn part(&mut self) {
        for (link, from, _) in std::mem::take(&mut self.links) {
            self.queue.push_back((from, Input::Closed { link }));
        }
        self.run();
    }

    /// Until nothing is left to be done by anybody, or, if they may wait, nothing but to try
    /// something again later.
    pub fn run(&mut self) {
        let turns = if self.may_wait {
            WAITING_TURNS_MAX
        } else {
            TURNS_MAX
        };
        let before = self.now;
        let is_done = self.run_for(turns);
        let is_waiting = self.now.wait_from(before) > Duration::from_millis(4) * turns;
        assert!(
            is_done || (self.may_wait && is_waiting),
            "it goes round in circles"
        );
    }

    /// So many turns; whether nothing is left to be done.
    pub fn run_for(&mut self, turns: u32) -> bool {
        for _ in 0..turns {
            if let Some((index, input)) = self.queue.pop_front() {
                self.give(index, input);
                continue;
            }
            let engines = self.all.iter().enumerate();
            let due = engines.filter_map(|(index, peer)| {
                let (at, _) = peer.engine.as_ref()?.deadline()?;
                Some((at, index))
            });
            let Some((at, index)) = due.min() else {
                return true;
            };
            self.now = self.now.max(at);
            self.give(index, Input::Tick);
        }
        false
    }

    fn give(&mut self, index: usize, input: Input) {
        self.now = self.now + Duration::from_millis(1);
        let Some(engine) = self.all[index].engine.as_mut() else {
            return;
        };
        engine.take(self.now, input);
        for effect in engine.flush(self.now) {
            self.carry_out(index, effect);
        }
    }

    fn carry_out(&mut self, index: usize, effect: Effect) {
        let peer = &mut self.all[index];
        match effect {
            Effect::Keep(row) => match &row {
                Row::Node { number, .. } => drop(peer.nodes.insert(*number, row)),
                Row::Heard { replica, .. } => drop(peer.heard.insert(*replica, row)),
                Row::Counters { .. } => peer.counters = Some(row),
                Row::Numbers(_) => peer.numbers = Some(row),
            },
            Effect::Say { link, message } => self.say(link, message),
            Effect::Send { link, upto, items } => {
                let folder = &peer.folder;
                let items = items.into_iter().map(|out| item(folder, out)).collect();
                self.say(link, Message::Records(Records { upto, items }));
                self.queue.push_back((index, Input::Room { link }));
            }
            Effect::Accept { .. } => {}
            Effect::Hang { link, reason } => self.hang_up(index, link, &reason),
            Effect::Do(step) => {
                let outcome = self.step(index, &step);
                self.queue
                    .push_back((index, Input::Finished(vec![outcome])));
            }
            Effect::Look { look, ask } => self.look(index, look, ask),
            Effect::Read { path, print } => {
                let input = match peer.folder.read(&path, &print).map(hash) {
                    Some(hash) => Input::Hashed { path, print, hash },
                    None => Input::Unread {
                        path,
                        reason: "it changed".into(),
                        changing: true,
                    },
                };
                self.queue.push_back((index, input));
            }
            Effect::Tell(notice) => peer.told.push(notice),
        }
    }

    /// Nobody who is honest gives a reason to, but who passes on what a liar has made up of this
    /// machine's changes: it takes another number then, and begins anew with everybody (`sync-38`).
    fn hang_up(&mut self, index: usize, link: LinkId, reason: &str) {
        if self.has_stranger && reason == "this machine has got a new name" {
            let ends = [link, other_end(link)];
            for (link, from, _) in self.links.extract_if(.., |(id, ..)| ends.contains(id)) {
                self.queue.push_back((from, Input::Closed { link }));
            }
            return;
        }
        let is_strangers = |(id, _, to): &(LinkId, usize, usize)| *id == link && *to == STRANGER;
        let count = self.links.len();
        self.links.retain(|link| !is_strangers(link));
        assert!(self.links.len() < count, "{index} hangs up: {reason}");
        self.queue.push_back((index, Input::Closed { link }));
    }

    fn say(&mut self, link: LinkId, message: Message) {
        let other = other_end(link);
        if let Some((_, from, _)) = self.links.iter().find(|(id, ..)| *id == other) {
            let input = Input::Heard {
                link: other,
                message,
            };
            self.queue.push_back((*from, input));
        }
    }

    fn look(&mut self, index: usize, look: Look, ask: u64) {
        let folder = &self.all[index].folder;
        let (sightings, whole) = match look {
            Look::At(dir, name) => {
                let at = dir.join(&name).expect("short");
                (vec![sighting(folder, &at)], Vec::new())
            }
            Look::Below(dir) => folder.below(&dir),
        };
        let asked = Some(ask);
        let seen = Input::Seen {
            sightings,
            whole,
            asked,
        };
        self.queue.push_back((index, seen));
        let settled = Input::Settled { whole_tree: false };
        self.queue.push_back((index, settled));
    }

    fn step(&mut self, index: usize, step: &Step) -> Outcome {
        let bytes = match &step.act {
            Act::Write { source, hash, .. } => match source {
                Source::Here(bytes) => Some(bytes.to_vec()),
                Source::Local { from, expect } => self.read(index, from, expect),
                Source::Peer { link, .. } => self.fetch(*link, step.node, *hash),
            },
            Act::MakeDir { .. }
            | Act::MakeLink { .. }
            | Act::SetMeta { .. }
            | Act::Move { .. }
            | Act::Remove { .. }
            | Act::Park { .. }
            | Act::Unpark { .. } => None,
        };
        let folder = &mut self.all[index].folder;
        let result = if step.is_within(|dir| folder.print_at(dir)) {
            folder.act(step.node, &step.act, bytes)
        } else {
            Err(Trouble::Changed)
        };
        if let Err(Trouble::Refused(reason)) = &result {
            panic!("{index} cannot {step:?}: {reason}");
        }
        let job = step.job;
        Outcome { job, result }
    }

    fn read(&self, index: usize, at: &RelPath, print: &Print) -> Option<Vec<u8>> {
        let peer = &self.all[index];
        let bytes = peer.folder.read(at, print).filter(|_| !peer.is_away);
        bytes.map(<[u8]>::to_vec)
    }

    fn fetch(&self, link: LinkId, node: NodeId, hash: Hash) -> Option<Vec<u8>> {
        let (_, _, to) = *self.links.iter().find(|(id, ..)| *id == link)?;
        let (at, print) = self.all.get(to)?.engine.as_ref()?.locate(node, hash)?;
        self.read(to, &at, &print)
    }

    /// How many of `d/0`, `d/1`, ... a machine has.
    pub fn count_in_d(&self, index: usize) -> usize {
        let names = self.all[index].folder.at.keys();
        names.filter(|at| at.as_bytes().starts_with(b"d/")).count()
    }

    /// Everything is done, and everybody has the same folder: what it holds.
    pub fn agreed(&mut self) -> Vec<String> {
        for index in 0..self.all.len() {
            let progress = self.engine(index).progress();
            let reasons = self.engine(index).reasons();
            assert_eq!(progress.state, State::Running);
            assert_eq!(progress.nodes_left, 0, "{index} is not done: {reasons:?}");
            assert!(!self.all[index].folder.has_parked());
        }
        let seen: Vec<Vec<String>> = self.all.iter().map(|p| listing(&p.folder)).collect();
        for other in &seen[1..] {
            assert_eq!(&seen[0], other, "two machines differ");
        }
        let times = |peer: &Peer| -> Vec<(RelPath, i64)> {
            let leaves = peer.folder.at.iter().filter(|(_, e)| e.kind != Kind::Dir);
            leaves.map(|(at, e)| (at.clone(), e.mtime)).collect()
        };
        for other in &self.all[1..] {
            assert_eq!(times(&self.all[0]), times(other), "two machines differ");
        }
        seen[0].clone()
    }
}

/// The two halves of a link are made together.
fn other_end(link: LinkId) -> LinkId {
    LinkId(link.0 ^ 1)
}

fn sighting(folder: &Folder, at: &RelPath) -> Sighting {
    let (dir, name) = at.split().expect("not the root");
    let found = folder.found(at);
    Sighting { dir, name, found }
}

fn item(folder: &Folder, out: Outgoing) -> Item {
    let content = out.attach.and_then(|at| match &folder.at.get(&at)?.kind {
        Kind::File(bytes) => Some(bytes.clone().into()),
        Kind::Dir | Kind::Link(_) => None,
    });
    Item {
        record: out.record,
        signature: out.signature,
        content,
    }
}

/// `dir/`, `file=content`, `link>target`, with `@mode` where the mode is not the usual one. The
/// time in the name of a conflict copy is left out: `f (conflict, b, *)`.
pub fn listing(folder: &Folder) -> Vec<String> {
    let line = |(at, entry): (&RelPath, &crate::folder::Entry)| {
        let at = timeless(&at.display());
        let (text, usual) = match &entry.kind {
            Kind::Dir => (format!("{at}/"), 0o755),
            Kind::File(bytes) => (format!("{at}={}", String::from_utf8_lossy(bytes)), 0o644),
            Kind::Link(to) => {
                let to = String::from_utf8_lossy(to.as_bytes()).into_owned();
                (format!("{at}>{to}"), 0o777)
            }
        };
        match entry.mode {
            mode if mode == usual => text,
            mode => format!("{text}@{mode:o}"),
        }
    };
    folder.at.iter().map(line).collect()
}

fn timeless(at: &str) -> String {
    let Some(start) = at.find("(conflict, ") else {
        return at.to_owned();
    };
    let Some(len) = at[start..].find(')') else {
        return at.to_owned();
    };
    let words: Vec<&str> = at[start + 1..start + len].split(", ").collect();
    format!(
        "{}({}, {}, *{}",
        &at[..start],
        words[0],
        words[1],
        &at[start + len..]
    )
}
