//! A folder as a map from paths to what is there, with what the steps of an engine do to it. Real
//! bytes, imagined inodes; nothing here ever fails for reasons of its own. The simulator has the
//! disks that do.

use std::collections::BTreeMap;

use ahoy_logic::sync::{Act, Found, Print, Rules, Sighting, Trouble};
use ahoy_wire::sync::{Hash, Meta, Mtime, NodeId, RelPath, Target};

use crate::one::path;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Dir,
    File(Vec<u8>),
    Link(Target),
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub kind: Kind,
    pub mode: u16,
    pub mtime: i64,
    inode: u64,
    ctime: i128,
}

impl Entry {
    fn print(&self) -> Print {
        let size = match &self.kind {
            Kind::File(bytes) => bytes.len() as u64,
            Kind::Dir | Kind::Link(_) => 0,
        };
        Print {
            inode: self.inode,
            birth: 1,
            size,
            mtime: Mtime {
                secs: self.mtime,
                nanos: 0,
            },
            ctime: self.ctime,
            mode: self.mode,
            racy: false,
        }
    }
}

/// One machine's folder.
#[derive(Debug, Default)]
pub struct Folder {
    pub at: BTreeMap<RelPath, Entry>,
    /// Parked nodes with all that is in them.
    parked: BTreeMap<NodeId, BTreeMap<Vec<u8>, Entry>>,
    ticks: u64,
    /// Nobody goes into what they leave out unasked.
    pub rules: Rules,
}

pub fn hash(bytes: &[u8]) -> Hash {
    Hash(*blake3::hash(bytes).as_bytes())
}

impl Folder {
    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    fn make(&mut self, kind: Kind, mode: u16, mtime: Option<i64>) -> Entry {
        let tick = self.tick();
        Entry {
            kind,
            mode,
            mtime: mtime.unwrap_or(1_000_000 + tick as i64),
            inode: tick,
            ctime: i128::from(tick),
        }
    }

    // What a user does.

    pub fn mkdir(&mut self, at: &str) {
        let made = self.make(Kind::Dir, 0o755, None);
        self.at.insert(path(at), made);
    }

    pub fn link(&mut self, at: &str, target: &str) {
        let target = Target::new(target.as_bytes()).expect("a target");
        let made = self.make(Kind::Link(target), 0o777, None);
        self.at.insert(path(at), made);
    }

    /// Writes as editors do: a new file over the old one, with its mode.
    pub fn write(&mut self, at: &str, bytes: &[u8]) {
        let mode = self.at.get(&path(at)).map_or(0o644, |old| old.mode);
        let made = self.make(Kind::File(bytes.to_vec()), mode, None);
        self.at.insert(path(at), made);
    }

    /// Changes the bytes of a file where they are.
    pub fn change(&mut self, at: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let tick = self.tick();
        let entry = self.at.get_mut(&path(at)).expect("it is there");
        let Kind::File(bytes) = &mut entry.kind else {
            panic!("{at} is no file");
        };
        change(bytes);
        entry.mtime = 1_000_000 + tick as i64;
        entry.ctime = i128::from(tick);
    }

    /// The disk changes bytes under a file, and leaves no trace of it.
    pub fn rot(&mut self, at: &str) {
        let entry = self.at.get_mut(&path(at)).expect("it is there");
        let Kind::File(bytes) = &mut entry.kind else {
            panic!("{at} is no file");
        };
        bytes[0] ^= 1;
    }

    pub fn chmod(&mut self, at: &str, mode: u16) {
        let tick = self.tick();
        let entry = self.at.get_mut(&path(at)).expect("it is there");
        entry.mode = mode;
        entry.ctime = i128::from(tick);
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        let taken = self.take(&path(from));
        self.put(&path(to), taken);
    }

    pub fn remove(&mut self, at: &str) {
        self.take(&path(at));
    }

    /// Takes a subtree out of the folder.
    pub fn take_away(&mut self, at: &str) -> BTreeMap<Vec<u8>, Entry> {
        self.take(&path(at))
    }

    /// And puts it in again.
    pub fn put_back(&mut self, at: &str, taken: BTreeMap<Vec<u8>, Entry>) {
        self.put(&path(at), taken);
    }

    // What a look finds.

    pub fn found(&self, at: &RelPath) -> Found {
        match self.at.get(at) {
            None => Found::Nothing,
            Some(entry) => match &entry.kind {
                Kind::Dir => Found::Dir(entry.print()),
                Kind::File(_) => Found::File(entry.print()),
                Kind::Link(target) => Found::Link(entry.print(), target.clone()),
            },
        }
    }

    /// Everything in a directory and below, directories before what is in them; what the rules
    /// leave out only if the directory itself is left out.
    pub fn below(&self, dir: &RelPath) -> (Vec<Sighting>, Vec<RelPath>) {
        let mut whole = Vec::new();
        if self.is_dir(dir) {
            whole.push(dir.clone());
        }
        let mut sightings = Vec::new();
        let all = self.rules.ignores(dir, true);
        for (at, entry) in self.at.iter().filter(|(at, _)| is_below(at, dir)) {
            let (dir, name) = at.split().expect("no root in there");
            if !all && self.rules.ignores(&dir, true) {
                continue;
            }
            if entry.kind == Kind::Dir && (all || !self.is_out(at)) {
                whole.push(at.clone());
            }
            let found = self.found(at);
            sightings.push(Sighting { dir, name, found });
        }
        (sightings, whole)
    }

    pub fn read(&self, at: &RelPath, print: &Print) -> Option<&[u8]> {
        let entry = self.at.get(at)?;
        match &entry.kind {
            Kind::File(bytes) if entry.print().same(print) => Some(bytes),
            Kind::File(_) | Kind::Dir | Kind::Link(_) => None,
        }
    }

    fn is_out(&self, at: &RelPath) -> bool {
        self.rules.ignores(at, self.is_dir(at))
    }

    fn is_dir(&self, at: &RelPath) -> bool {
        at.is_root() || self.at.get(at).is_some_and(|e| e.kind == Kind::Dir)
    }

    /// A subtree, by what comes after its path.
    fn take(&mut self, at: &RelPath) -> BTreeMap<Vec<u8>, Entry> {
        let tick = self.tick();
        let paths: Vec<RelPath> = self.at.keys().cloned().collect();
        let inside = |p: &&RelPath| *p == at || is_below(p, at);
        let mut taken = BTreeMap::new();
        for path in paths.iter().filter(inside) {
            let rest = path.as_bytes()[at.as_bytes().len()..].to_vec();
            taken.insert(rest, self.at.remove(path).expect("listed"));
        }
        if let Some(top) = taken.get_mut(&b""[..]) {
            top.ctime = i128::from(tick);
        }
        taken
    }

    fn put(&mut self, at: &RelPath, taken: BTreeMap<Vec<u8>, Entry>) {
        for (rest, entry) in taken {
            let bytes = [at.as_bytes(), &rest].concat();
            let path = RelPath::parse(&bytes).expect("a path");
            self.at.insert(path, entry);
        }
    }

    // What an engine wants done.

    fn expect(&self, at: &RelPath, want: &Print) -> Result<Print, Trouble> {
        let entry = self.at.get(at).ok_or(Trouble::Changed)?;
        let fits = match entry.kind {
            Kind::Dir => entry.print().same_file(want),
            Kind::File(_) | Kind::Link(_) => entry.print().same(want),
        };
        fits.then(|| entry.print()).ok_or(Trouble::Changed)
    }

    fn free(&self, at: &RelPath) -> Result<(), Trouble> {
        let (dir, _) = at.split().ok_or(Trouble::Changed)?;
        let is_free = !self.at.contains_key(at) && self.is_dir(&dir);
        is_free.then_some(()).ok_or(Trouble::Changed)
    }

    fn publish(
        &mut self,
        at: &RelPath,
        over: Option<&Print>,
        made: (Kind, u16, Mtime),
    ) -> Result<Option<Print>, Trouble> {
        match over {
            Some(print) => drop(self.expect(at, print)?),
            None => self.free(at)?,
        }
        let entry = self.make(made.0, made.1, Some(made.2.secs));
        let print = entry.print();
        self.at.insert(at.clone(), entry);
        Ok(Some(print))
    }

    /// Nothing is in the directory at this path.
    fn empty(&self, at: &RelPath) -> Result<(), Trouble> {
        let is_within = |other: &&RelPath| other.split().is_some_and(|(dir, _)| dir == *at);
        let within: Vec<&RelPath> = self.at.keys().filter(is_within).collect();
        if within.is_empty() {
            return Ok(());
        }
        let none_shared = within.into_iter().all(|other| self.is_out(other));
        Err(if none_shared {
            Trouble::Inhabited
        } else {
            Trouble::Changed
        })
    }

    pub fn print_at(&self, path: &RelPath) -> Option<Print> {
        self.at.get(path).map(Entry::print)
    }

    /// Carries out a step; `bytes` is the content that a write is to put there.
    pub fn act(
        &mut self,
        node: NodeId,
        act: &Act,
        bytes: Option<Vec<u8>>,
    ) -> Result<Option<Print>, Trouble> {
        match act {
            Act::MakeDir { at, meta } => self.publish(at, None, (Kind::Dir, meta.mode, meta.mtime)),
            Act::MakeLink {
                at,
                target,
                mtime,
                over,
            } => {
                let made = (Kind::Link(target.clone()), 0o777, *mtime);
                self.publish(at, over.as_ref(), made)
            }
            Act::Write {
                at,
                meta,
                hash: wanted,
                over,
                ..
            } => {
                let bytes = bytes.ok_or(Trouble::NoSource)?;
                if hash(&bytes) != *wanted {
                    return Err(Trouble::Corrupt);
                }
                let made = (Kind::File(bytes), meta.mode, meta.mtime);
                self.publish(at, over.as_ref(), made)
            }
            Act::SetMeta { at, meta, expect } => self.set_meta(at, *meta, expect),
            Act::Move { from, to, expect } => {
                self.expect(from, expect)?;
                self.free(to)?;
                if is_below(to, from) {
                    return Err(Trouble::Refused("a directory into itself".into()));
                }
                let taken = self.take(from);
                self.put(to, taken);
                Ok(self.at.get(to).map(Entry::print))
            }
            Act::Remove { at, expect } => {
                self.expect(at, expect)?;
                self.empty(at)?;
                self.at.remove(at);
                Ok(None)
            }
            Act::Park { at, expect } => {
                self.expect(at, expect)?;
                let taken = self.take(at);
                let print = taken.get(&b""[..]).map(Entry::print);
                self.parked.insert(node, taken);
                Ok(print)
            }
            Act::Unpark { to } => {
                self.free(to)?;
                let taken = self.parked.remove(&node).ok_or(Trouble::Changed)?;
                self.put(to, taken);
                Ok(self.at.get(to).map(Entry::print))
            }
        }
    }

    fn set_meta(
        &mut self,
        at: &RelPath,
        meta: Meta,
        want: &Print,
    ) -> Result<Option<Print>, Trouble> {
        self.expect(at, want)?;
        let tick = self.tick();
        let entry = self.at.get_mut(at).ok_or(Trouble::Changed)?;
        if !matches!(entry.kind, Kind::Link(_)) {
            entry.mode = meta.mode;
        }
        entry.mtime = meta.mtime.secs;
        entry.ctime = i128::from(tick);
        Ok(Some(entry.print()))
    }

    pub fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// What a start finds in the parking place.
    pub fn parked(&self) -> impl Iterator<Item = (NodeId, Print)> + '_ {
        let top = |parked: &BTreeMap<Vec<u8>, Entry>| parked.get(&b""[..]).map(Entry::print);
        self.parked
            .iter()
            .filter_map(move |(node, parked)| Some((*node, top(parked)?)))
    }
}

fn is_below(path: &RelPath, dir: &RelPath) -> bool {
    let inside = [dir.as_bytes(), b"/"].concat();
    dir.is_root() || path.as_bytes().starts_with(&inside)
}
