//! What must hold for anything that three people may do to one folder, in any order, with links
//! that come and go and machines that die between any two events.
//!
//! The bytes are a story: each step says who does what, and where, among a handful of names, so
//! that people meet. The engines play it on imagined folders (`peers.rs`, `folder.rs`). Clocks that
//! are wrong, torn writes and power cuts are the simulator's business.

use std::collections::BTreeSet;

use ahoy_logic::sync::State;
use ahoy_wire::sync::RelPath;

use crate::folder::{Folder, Kind};
use crate::peers::Peers;

const MACHINES: usize = 3;
const STEPS_MAX: usize = 96;
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Longer than what travels with its record.
const BIG_BYTES: usize = 70_000;

/// Nobody hangs up, goes round in circles or wants an impossible step. Afterwards all folders are
/// the same; nothing that was written is missing, unless somebody who had it before him changed or
/// removed it; nothing is there that nobody wrote; and what is then deleted stays deleted.
pub fn holds(data: &[u8]) {
    let mut story = Story {
        bytes: data.iter(),
        peers: Peers::new(MACHINES),
        stirred: Default::default(),
        alive: BTreeSet::new(),
        ever: BTreeSet::new(),
    };
    story.peers.may_wait = true;
    for _ in 0..STEPS_MAX {
        if story.step().is_none() {
            break;
        }
    }
    story.end();
}

struct Story<'d> {
    bytes: std::slice::Iter<'d, u8>,
    peers: Peers,
    /// What each user has done since it was last reported.
    stirred: [BTreeSet<String>; MACHINES],
    /// Contents that somebody must still have.
    alive: BTreeSet<Vec<u8>>,
    ever: BTreeSet<Vec<u8>>,
}

impl Story<'_> {
    fn next(&mut self) -> Option<usize> {
        self.bytes.next().map(|byte| usize::from(*byte))
    }

    fn step(&mut self) -> Option<()> {
        let (what, who) = (self.next()?, self.next()?);
        let other = (who % MACHINES + 1 + who / MACHINES % (MACHINES - 1)) % MACHINES;
        let who = who % MACHINES;
        match what % 16 {
            0 | 1 => self.write(who, what)?,
            2 => self.change(who)?,
            3 => self.chmod(who)?,
            4 | 5 => self.rename(who)?,
            6 => self.remove(who)?,
            7 => self.mkdir(who)?,
            8 => self.link(who)?,
            9 => self.watch(who),
            10 => {
                // Only one of the names is reported, and nobody waits for what comes of it.
                if let Some(at) = self.stirred[who].pop_last() {
                    self.peers.report(who, &[&at]);
                }
            }
            11 => self.peers.scan(who),
            12 => self.peers.link(who, other),
            13 => {
                let turns = self.next()?;
                self.peers.link_for(who, other, turns as u32);
            }
            14 => self.peers.part(),
            _ => self.peers.crash(who),
        }
        Some(())
    }

    // What users do.

    fn folder(&mut self, who: usize) -> &mut Folder {
        &mut self.peers.all[who].folder
    }

    /// Something that is there, if anything is.
    fn pick(&mut self, who: usize, wanted: fn(&Kind) -> bool) -> Option<Option<String>> {
        let choice = self.next()?;
        let there = self.folder(who).at.iter();
        let there: Vec<_> = there.filter(|(_, entry)| wanted(&entry.kind)).collect();
        Some((!there.is_empty()).then(|| there[choice % there.len()].0.display()))
    }

    /// A name in a directory that is there.
    fn spot(&mut self, who: usize) -> Option<String> {
        let name = self.next()?;
        let dir = self.pick(who, |kind| *kind == Kind::Dir)?;
        let name_there = NAMES[name % NAMES.len()];
        Some(
            match dir.filter(|_| (name / NAMES.len()).is_multiple_of(2)) {
                Some(dir) => format!("{dir}/{name_there}"),
                None => name_there.to_owned(),
            },
        )
    }

    fn kind(&mut self, who: usize, at: &str) -> Option<Kind> {
        let entry = self.folder(who).at.get(&path(at));
        entry.map(|entry| entry.kind.clone())
    }

    /// The user changes or removes what he has before him here.
    fn done_with(&mut self, who: usize, at: &str) {
        let inside = format!("{at}/");
        let is_inside = |path: &RelPath| path.as_bytes().starts_with(inside.as_bytes());
        let gone: Vec<Vec<u8>> = self.peers.all[who]
            .folder
            .at
            .iter()
            .filter(|(path, _)| path.as_bytes() == at.as_bytes() || is_inside(path))
            .filter_map(|(_, entry)| content(&entry.kind))
            .collect();
        for bytes in gone {
            self.alive.remove(&bytes);
        }
        self.stirred[who].insert(at.to_owned());
    }

    /// Nobody has written these bytes before.
    fn written(&mut self, bytes: &[u8]) {
        self.alive.insert(bytes.to_vec());
        self.ever.insert(bytes.to_vec());
    }

    fn write(&mut self, who: usize, what: usize) -> Option<()> {
        let at = self.spot(who)?;
        if self.kind(who, &at) == Some(Kind::Dir) {
            return Some(());
        }
        self.done_with(who, &at);
        let mut bytes = format!("{} by {who}", self.ever.len()).into_bytes();
        match what / 16 {
            // What others may write as well: nobody can tell whose it was.
            0..=2 => bytes = b"the same".to_vec(),
            3 => bytes.resize(BIG_BYTES, b'.'),
            _ => {}
        }
        if bytes == b"the same" {
            self.ever.insert(bytes.clone());
        } else {
            self.written(&bytes);
        }
        self.folder(who).write(&at, &bytes);
        Some(())
    }

    fn change(&mut self, who: usize) -> Option<()> {
        let Some(at) = self.pick(who, |kind| matches!(kind, Kind::File(_)))? else {
            return Some(());
        };
        self.done_with(who, &at);
        let more = format!(", {} by {who}", self.ever.len());
        let add = |bytes: &mut Vec<u8>| bytes.extend(more.as_bytes());
        self.folder(who).change(&at, add);
        if let Some(bytes) = self.kind(who, &at).as_ref().and_then(content) {
            self.written(&bytes);
        }
        Some(())
    }

    fn chmod(&mut self, who: usize) -> Option<()> {
        let mode = self.next()?;
        let Some(at) = self.pick(who, |kind| !matches!(kind, Kind::Link(_)))? else {
            return Some(());
        };
        self.folder(who).chmod(&at, [0o600, 0o700, 0o755][mode % 3]);
        self.stirred[who].insert(at);
        Some(())
    }

    fn rename(&mut self, who: usize) -> Option<()> {
        let (from, to) = (self.pick(who, |_| true)?, self.spot(who)?);
        let Some(from) = from.filter(|from| !format!("{to}/").starts_with(&format!("{from}/")))
        else {
            return Some(());
        };
        match (self.kind(who, &from), self.kind(who, &to)) {
            (_, None) => {}
            (_, Some(Kind::Dir)) | (Some(Kind::Dir), _) => return Some(()),
            _ => self.done_with(who, &to),
        }
        self.folder(who).rename(&from, &to);
        self.stirred[who].extend([from, to]);
        Some(())
    }

    fn remove(&mut self, who: usize) -> Option<()> {
        if let Some(at) = self.pick(who, |_| true)? {
            self.done_with(who, &at);
            self.folder(who).remove(&at);
        }
        Some(())
    }

    fn mkdir(&mut self, who: usize) -> Option<()> {
        let at = self.spot(who)?;
        if self.kind(who, &at).is_none() {
            self.folder(who).mkdir(&at);
            self.stirred[who].insert(at);
        }
        Some(())
    }

    fn link(&mut self, who: usize) -> Option<()> {
        let at = self.spot(who)?;
        if self.kind(who, &at) != Some(Kind::Dir) {
            self.done_with(who, &at);
            let target = format!("to {}", self.ever.len());
            self.folder(who).link(&at, &target);
        }
        Some(())
    }

    /// The watcher reports everything that was done.
    fn watch(&mut self, who: usize) {
        let stirred = std::mem::take(&mut self.stirred[who]);
        let names: Vec<&str> = stirred.iter().map(String::as_str).collect();
        self.peers.watch(who, &names);
    }

    // The end.

    fn end(&mut self) {
        self.peers.part();
        for who in 0..MACHINES {
            self.peers.scan(who);
            if self.peers.engine(who).progress().state == State::Emptied {
                self.peers.engine(who).accept_empty();
                self.peers.tick(who);
            }
        }
        for (a, b) in [(0, 1), (1, 2), (2, 0)] {
            self.peers.link(a, b);
        }
        // Whoever waited for what only another one has may need a while to ask again.
        self.peers.may_wait = false;
        self.peers.run();
        let agreed = self.peers.agreed();
        (0..MACHINES).for_each(|who| self.peers.scan(who));
        assert_eq!(self.peers.agreed(), agreed, "another look changes nothing");
        let there = self.peers.all[0].folder.at.values();
        let there: BTreeSet<Vec<u8>> = there.filter_map(|entry| content(&entry.kind)).collect();
        let lost: Vec<_> = self.alive.difference(&there).map(|b| words(b)).collect();
        assert_eq!(lost, [""; 0], "lost; there is {agreed:#?}");
        let invented: Vec<_> = there.difference(&self.ever).map(|b| words(b)).collect();
        assert_eq!(invented, [""; 0], "from nobody");
        self.delete_one();
    }

    /// Somebody deletes one thing, and it stays deleted. With it may go the directories around it
    /// that somebody else had deleted and that stayed only for what was in them (sync-22); its name
    /// may go to what stood beside it (sync-23).
    fn delete_one(&mut self) {
        let Some(Some(at)) = self.pick(0, |_| true) else {
            return;
        };
        self.folder(0).remove(&at);
        let (left, dirs_left) = self.inventory(0);
        self.peers.watch(0, &[&at]);
        let agreed = self.peers.agreed();
        let (stayed, dirs) = self.inventory(0);
        assert_eq!(stayed, left, "{at} was removed: {agreed:#?}");
        let around = at.matches('/').count();
        assert!(
            (dirs_left.saturating_sub(around)..=dirs_left).contains(&dirs),
            "{dirs} directories of {dirs_left}; {at} was removed: {agreed:#?}"
        );
    }

    /// Everything that is no directory, by what it is, and how many directories there are.
    fn inventory(&self, who: usize) -> (Vec<String>, usize) {
        let there = self.peers.all[who].folder.at.values();
        let (dirs, leaves): (Vec<_>, Vec<_>) = there.partition(|entry| entry.kind == Kind::Dir);
        let told = leaves.iter().map(|entry| match &entry.kind {
            Kind::File(bytes) => words(bytes),
            kind @ (Kind::Dir | Kind::Link(_)) => format!("{kind:?}"),
        });
        let mut told: Vec<String> = told.collect();
        told.sort();
        (told, dirs.len())
    }
}

fn path(at: &str) -> RelPath {
    RelPath::parse(at.as_bytes()).expect("made of good names")
}

fn content(kind: &Kind) -> Option<Vec<u8>> {
    match kind {
        Kind::File(bytes) => Some(bytes.clone()),
        Kind::Dir | Kind::Link(_) => None,
    }
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_end_matches('.')
        .to_owned()
}
