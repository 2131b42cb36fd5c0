//! A disk in memory: inodes, directories, fingerprints; what `host` does with system calls, done
//! on maps, with the same checks at the same moment. It has no files larger than their name: a
//! content is a number and a claimed size.

mod hands;
mod power;
mod users;

use std::collections::{BTreeMap, BTreeSet};

use ahoy_logic::sync::{Found, Print, Sighting};
use ahoy_wire::sync::{Hash, Mtime, Name, NodeId, RelPath, Target};

pub use power::Damage;
use power::Power;

use crate::weather::COARSE_TICK;

/// In the number of a content: a disk has changed it.
const ROTTEN: u64 = 1 << 40;

/// A content: unique number and size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content {
    /// Which one.
    pub token: u64,
    /// As `stat` tells it.
    pub size: u64,
}

impl Content {
    /// The empty one.
    pub const EMPTY: Self = Self { token: 0, size: 0 };

    /// What the engine is told of it.
    pub fn hash(&self) -> Hash {
        if *self == Self::EMPTY {
            return Hash(*blake3::hash(b"").as_bytes());
        }
        Hash(
            *blake3::hash(&[self.token.to_le_bytes(), self.size.to_le_bytes()].concat()).as_bytes(),
        )
    }

    /// What a disk has made of it.
    #[must_use]
    pub fn rotten(self) -> Self {
        let token = self.token | ROTTEN;
        Self { token, ..self }
    }

    /// What it was before a disk has made something else of it.
    #[must_use]
    pub fn sound(self) -> Self {
        let token = if self.is_sound() {
            self.token
        } else {
            self.token ^ ROTTEN
        };
        Self { token, ..self }
    }

    /// Whether no disk has changed it.
    pub fn is_sound(&self) -> bool {
        self.token & !(ROTTEN - 1) != ROTTEN
    }

    /// Whether it is the one of that hash, or was before a disk has changed it.
    pub fn was(&self, hash: Hash) -> bool {
        self.hash() == hash || self.sound().hash() == hash
    }

    /// The bytes of a small one, as they travel with a record.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.token.to_le_bytes().to_vec();
        bytes.resize(self.size as usize, 0);
        bytes
    }

    /// The content whose [`Content::bytes`] these are.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::EMPTY);
        }
        let token = u64::from_le_bytes(bytes.first_chunk::<8>().copied()?);
        Some(Self {
            token,
            size: bytes.len() as u64,
        })
    }
}

/// What an inode is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A directory.
    Dir(BTreeMap<Name, u64>),
    /// A file.
    File(Content),
    /// A link.
    Link(Target),
}

#[derive(Debug, Clone)]
struct Inode {
    kind: Kind,
    mode: u16,
    mtime: i64,
    ctime: i128,
    birth: i128,
    /// Its content is not on the device yet.
    wet: bool,
}

/// How changes are stamped with the time.
#[derive(Debug, Clone, Copy)]
enum Clock {
    /// Each change has a time of its own.
    Counter(i64),
    /// The wall's, in ticks of so many milliseconds.
    Wall { now: i64, tick: i64 },
}

/// What is on the disk at one moment.
#[derive(Debug, Clone)]
struct Image {
    inodes: BTreeMap<u64, Inode>,
    parked: BTreeMap<NodeId, u64>,
}

/// The disk of one machine.
#[derive(Debug, Clone)]
pub struct Disk {
    image: Image,
    next: u64,
    reuses_inodes: bool,
    clock: Clock,
    power: Option<Power>,
    /// A planted fault: what is replaced is not looked at first.
    pub is_careless: bool,
}

const ROOT: u64 = 1;

impl Default for Disk {
    fn default() -> Self {
        let root = Inode {
            kind: Kind::Dir(BTreeMap::new()),
            mode: 0o755,
            mtime: 0,
            ctime: 0,
            birth: 0,
            wet: false,
        };
        Self {
            image: Image {
                inodes: BTreeMap::from([(ROOT, root)]),
                parked: BTreeMap::new(),
            },
            next: 2,
            reuses_inodes: false,
            clock: Clock::Counter(0),
            power: None,
            is_careless: false,
        }
    }
}

impl Disk {
    /// A disk whose clock has ticks, which may lose what was not synced, and may give the numbers
    /// of deleted files again.
    pub fn wild(tick: i64, loses_power: bool, reuses_inodes: bool) -> Self {
        let mut disk = Self {
            clock: Clock::Wall { now: 0, tick },
            reuses_inodes,
            ..Self::default()
        };
        disk.power = loses_power.then(|| Power::new(&disk.image));
        disk
    }

    /// Sets the clock on the wall; nothing if every change has a time of its own.
    pub fn set_clock(&mut self, to: i64) {
        if let Clock::Wall { now, .. } = &mut self.clock {
            *now = to;
        }
    }

    /// What people see: every path with what is there and its mode.
    pub fn tree(&self) -> BTreeMap<RelPath, (Kind, u16)> {
        let mut tree = BTreeMap::new();
        let mut stack = vec![(RelPath::root(), ROOT)];
        while let Some((path, at)) = stack.pop() {
            let Kind::Dir(entries) = &self.inode(at).kind else {
                continue;
            };
            for (name, inode) in entries {
                let Some(path) = path.join(name) else {
                    continue;
                };
                let node = self.inode(*inode);
                let kind = match &node.kind {
                    Kind::Dir(_) => Kind::Dir(BTreeMap::new()),
                    Kind::File(content) => Kind::File(*content),
                    Kind::Link(target) => Kind::Link(target.clone()),
                };
                if matches!(kind, Kind::Dir(_)) {
                    stack.push((path.clone(), *inode));
                }
                tree.insert(path, (kind, node.mode));
            }
        }
        tree
    }

    /// Mtimes of files and links, which are to agree as well.
    pub fn mtimes(&self) -> BTreeMap<RelPath, i64> {
        let leaf = |path: &RelPath| {
            let inode = self.inode(self.find(path)?);
            (!matches!(inode.kind, Kind::Dir(_))).then_some(inode.mtime)
        };
        self.tree()
            .keys()
            .filter_map(|path| Some((path.clone(), leaf(path)?)))
            .collect()
    }

    /// The contents of all files, those in the parking place included.
    pub fn contents(&self) -> BTreeSet<Content> {
        let linked = self.image.linked();
        linked
            .into_iter()
            .filter_map(|at| self.content_of(at))
            .collect()
    }

    /// The content of a file.
    pub fn content_at(&self, path: &RelPath) -> Option<Content> {
        self.content_of(self.find(path)?)
    }

    /// The contents of the files in a subtree.
    pub fn contents_below(&self, path: &RelPath) -> Vec<Content> {
        let inside = [path.as_bytes(), b"/"].concat();
        let is_in = |at: &RelPath| at == path || at.as_bytes().starts_with(&inside);
        let files = self
            .tree()
            .into_iter()
            .filter(|(at, _)| path.is_root() || is_in(at));
        files
            .filter_map(|(_, (kind, _))| match kind {
                Kind::File(content) => Some(content),
                Kind::Dir(_) | Kind::Link(_) => None,
            })
            .collect()
    }

    /// What is in the parking place.
    pub fn parked(&self) -> Vec<(NodeId, Print)> {
        let parked = self.image.parked.iter();
        parked
            .map(|(node, inode)| (*node, self.print_of(*inode)))
            .collect()
    }

    /// A look at one name.
    pub fn look(&self, dir: &RelPath, name: &Name) -> Found {
        let Some(inode) = dir.join(name).and_then(|path| self.find(&path)) else {
            return Found::Nothing;
        };
        let print = self.print_of(inode);
        match &self.inode(inode).kind {
            Kind::Dir(_) => Found::Dir(print),
            Kind::File(_) => Found::File(print),
            Kind::Link(target) => Found::Link(print, target.clone()),
        }
    }

    /// All names of a directory; `None` if it is not there.
    pub fn list(&self, dir: &RelPath) -> Option<Vec<Sighting>> {
        let Kind::Dir(entries) = &self.inode(self.find(dir)?).kind else {
            return None;
        };
        let sighting = |name: &Name| Sighting {
            dir: dir.clone(),
            name: name.clone(),
            found: self.look(dir, name),
        };
        Some(entries.keys().map(sighting).collect())
    }

    /// The content of a file with this fingerprint, and the fingerprint as it is now.
    pub fn read(&self, path: &RelPath, print: &Print) -> Option<(Content, Print)> {
        let inode = self.find(path)?;
        let now = self.print_of(inode);
        let content = self.content_of(inode)?;
        now.same(print).then_some((content, now))
    }

    /// Whether the file of that fingerprint, by its number, is what is at `path`.
    pub fn is_at(&self, path: &RelPath, print: &Print) -> bool {
        self.find(path) == Some(print.inode)
    }

    fn inode(&self, at: u64) -> &Inode {
        &self.image.inodes[&at]
    }

    fn inode_mut(&mut self, at: u64) -> &mut Inode {
        let inode = self.image.inodes.get_mut(&at);
        inode.expect("whoever names an inode has just found it")
    }

    fn content_of(&self, at: u64) -> Option<Content> {
        match self.inode(at).kind {
            Kind::File(content) => Some(content),
            Kind::Dir(_) | Kind::Link(_) => None,
        }
    }

    fn is_dir(&self, at: u64) -> bool {
        matches!(self.inode(at).kind, Kind::Dir(_))
    }

    fn find(&self, path: &RelPath) -> Option<u64> {
        path.names()
            .try_fold(ROOT, |at, name| match &self.inode(at).kind {
                Kind::Dir(entries) => entries.get(&name).copied(),
                Kind::File(_) | Kind::Link(_) => None,
            })
    }

    fn print_of(&self, inode: u64) -> Print {
        let node = self.inode(inode);
        Print {
            inode,
            birth: node.birth,
            size: self.content_of(inode).map_or(0, |content| content.size),
            mtime: Mtime {
                secs: node.mtime,
                nanos: 0,
            },
            ctime: node.ctime,
            mode: node.mode,
            racy: self.is_racy(node),
        }
    }

    /// Whether a write right now could leave both times as they are.
    fn is_racy(&self, node: &Inode) -> bool {
        match self.clock {
            Clock::Counter(_) => false,
            Clock::Wall { now, tick } => {
                let stamp = now - now.rem_euclid(tick);
                let is_coarse = tick >= COARSE_TICK.cast_signed();
                // What a clock that has gone back has stamped, the next write gives away.
                node.ctime == i128::from(stamp) && (is_coarse || node.mtime >= stamp)
            }
        }
    }

    fn entries(&mut self, dir: &RelPath) -> Option<&mut BTreeMap<Name, u64>> {
        let at = self.find(dir)?;
        match &mut self.inode_mut(at).kind {
            Kind::Dir(entries) => Some(entries),
            Kind::File(_) | Kind::Link(_) => None,
        }
    }

    /// The times of a change right now: mtime and ctime.
    fn stamp(&mut self) -> (i64, i128) {
        match &mut self.clock {
            Clock::Counter(ticks) => {
                *ticks += 1;
                (1_000_000 + *ticks, i128::from(*ticks))
            }
            Clock::Wall { now, tick } => {
                let stamp = *now - now.rem_euclid(*tick);
                (stamp, i128::from(stamp))
            }
        }
    }

    fn put_in(&mut self, path: &RelPath, inode: u64) -> bool {
        let Some((dir, name)) = path.split() else {
            return false;
        };
        match self.entries(&dir) {
            Some(entries) => {
                entries.insert(name, inode);
                true
            }
            None => false,
        }
    }

    fn take_out(&mut self, path: &RelPath) -> Option<u64> {
        let (dir, name) = path.split()?;
        self.entries(&dir)?.remove(&name)
    }

    fn make(&mut self, kind: Kind, mode: u16, mtime: Option<i64>) -> u64 {
        let (now, ctime) = self.stamp();
        if self.reuses_inodes {
            let linked = self.image.linked();
            self.image.inodes.retain(|inode, _| linked.contains(inode));
            let is_free = |inode: &u64| !self.image.inodes.contains_key(inode);
            self.next = (2..)
                .find(is_free)
                .expect("there is always one more number");
        }
        let inode = self.next;
        self.next += 1;
        let fresh = Inode {
            kind,
            mode,
            mtime: mtime.unwrap_or(now),
            ctime,
            birth: ctime,
            wet: true,
        };
        self.image.inodes.insert(inode, fresh);
        inode
    }

    fn renamed(&mut self, inode: u64) {
        let (_, ctime) = self.stamp();
        self.inode_mut(inode).ctime = ctime;
    }
}

impl Image {
    /// The inodes that have a name or are parked, with all that is in them.
    fn linked(&self) -> BTreeSet<u64> {
        let mut linked = BTreeSet::new();
        let mut stack: Vec<u64> = self.parked.values().copied().collect();
        stack.push(ROOT);
        while let Some(at) = stack.pop() {
            if linked.insert(at)
                && let Kind::Dir(entries) = &self.inodes[&at].kind
            {
                stack.extend(entries.values());
            }
        }
        linked
    }
}
