//! A disk in memory: inodes, directories, fingerprints; what `host` does with system calls, done
//! on maps, with the same checks at the same moment. It has no files larger than their name: a
//! content is a number and a claimed size.

mod hands;
mod users;

use std::collections::BTreeMap;

use ahoy_logic::sync::{Act, Found, Print, Sighting, Trouble};
use ahoy_wire::sync::{Hash, Meta, Mtime, Name, NodeId, RelPath, Target};

/// A content: unique number and size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content {
    /// Which one.
    pub token: u64,
    /// As `stat` tells it.
    pub size: u64,
}

impl Content {
    /// What the engine is told of it.
    pub fn hash(&self) -> Hash {
        Hash(
            *blake3::hash(&[self.token.to_le_bytes(), self.size.to_le_bytes()].concat()).as_bytes(),
        )
    }

    /// The bytes of a small one, as they travel with a record.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.token.to_le_bytes().to_vec();
        bytes.resize(self.size as usize, 0);
        bytes
    }

    /// The content whose [`Content::bytes`] these are.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let token = u64::from_le_bytes(bytes.first_chunk::<8>().copied()?);
        Some(Self {
            token,
            size: bytes.len() as u64,
        })
    }
}

/// What an inode is.
#[derive(Debug, Clone, PartialEq, Eq)]
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
}

/// The disk of one machine.
#[derive(Debug, Clone)]
pub struct Disk {
    inodes: BTreeMap<u64, Inode>,
    parked: BTreeMap<NodeId, u64>,
    next: u64,
    ticks: i64,
}

const ROOT: u64 = 1;

impl Default for Disk {
    fn default() -> Self {
        let kind = Kind::Dir(BTreeMap::new());
        let root = Inode {
            kind,
            mode: 0o755,
            mtime: 0,
            ctime: 0,
            birth: 0,
        };
        Self {
            inodes: BTreeMap::from([(ROOT, root)]),
            parked: BTreeMap::new(),
            next: 2,
            ticks: 0,
        }
    }
}

impl Disk {
    /// What people see: every path with what is there and its mode.
    pub fn tree(&self) -> BTreeMap<RelPath, (Kind, u16)> {
        let mut tree = BTreeMap::new();
        let mut stack = vec![(RelPath::root(), ROOT)];
        while let Some((path, at)) = stack.pop() {
            let Kind::Dir(entries) = &self.inodes[&at].kind else {
                continue;
            };
            for (name, inode) in entries {
                let Some(path) = path.join(name) else {
                    continue;
                };
                let node = &self.inodes[inode];
                let kind = match &node.kind {
                    Kind::Dir(_) => Kind::Dir(BTreeMap::new()),
                    kind @ (Kind::File(_) | Kind::Link(_)) => kind.clone(),
                };
                tree.insert(path.clone(), (kind, node.mode));
                stack.push((path, *inode));
            }
        }
        tree
    }

    /// Mtimes of files and links, which are to agree as well.
    pub fn mtimes(&self) -> BTreeMap<RelPath, i64> {
        let leaf = |path: &RelPath| {
            let inode = &self.inodes[&self.find(path)?];
            (!matches!(inode.kind, Kind::Dir(_))).then_some(inode.mtime)
        };
        self.tree()
            .keys()
            .filter_map(|path| Some((path.clone(), leaf(path)?)))
            .collect()
    }

    fn find(&self, path: &RelPath) -> Option<u64> {
        path.names()
            .try_fold(ROOT, |at, name| match &self.inodes[&at].kind {
                Kind::Dir(entries) => entries.get(&name).copied(),
                Kind::File(_) | Kind::Link(_) => None,
            })
    }

    fn print_of(&self, inode: u64) -> Print {
        let node = &self.inodes[&inode];
        Print {
            inode,
            birth: node.birth,
            size: if let Kind::File(content) = node.kind {
                content.size
            } else {
                0
            },
            mtime: Mtime {
                secs: node.mtime,
                nanos: 0,
            },
            ctime: node.ctime,
            mode: node.mode,
            racy: false,
        }
    }

    /// A look at one name.
    pub fn look(&self, dir: &RelPath, name: &Name) -> Found {
        let Some(inode) = dir.join(name).and_then(|path| self.find(&path)) else {
            return Found::Nothing;
        };
        let print = self.print_of(inode);
        match &self.inodes[&inode].kind {
            Kind::Dir(_) => Found::Dir(print),
            Kind::File(_) => Found::File(print),
            Kind::Link(target) => Found::Link(print, target.clone()),
        }
    }

    /// All names of a directory; `None` if it is not there.
    pub fn list(&self, dir: &RelPath) -> Option<Vec<Sighting>> {
        let Kind::Dir(entries) = &self.inodes[&self.find(dir)?].kind else {
            return None;
        };
        let sighting = |name: &Name| Sighting {
            dir: dir.clone(),
            name: name.clone(),
            found: self.look(dir, name),
        };
        Some(entries.keys().map(sighting).collect())
    }

    /// The content of a file with this fingerprint.
    pub fn read(&self, path: &RelPath, print: &Print) -> Option<Content> {
        let inode = self.find(path)?;
        match (&self.inodes[&inode].kind, self.print_of(inode).same(print)) {
            (Kind::File(content), true) => Some(*content),
            _ => None,
        }
    }

    fn entries(&mut self, dir: &RelPath) -> Option<&mut BTreeMap<Name, u64>> {
        let at = self.find(dir)?;
        match &mut self.inodes.get_mut(&at)?.kind {
            Kind::Dir(entries) => Some(entries),
            Kind::File(_) | Kind::Link(_) => None,
        }
    }

    fn tick(&mut self) -> i64 {
        self.ticks += 1;
        self.ticks
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
        let tick = self.tick();
        let inode = self.next;
        self.next += 1;
        let times = i128::from(tick);
        let mtime = mtime.unwrap_or(1_000_000 + tick);
        self.inodes.insert(
            inode,
            Inode {
                kind,
                mode,
                mtime,
                ctime: times,
                birth: times,
            },
        );
        inode
    }

    fn renamed(&mut self, inode: u64) {
        let tick = self.tick();
        self.inodes
            .get_mut(&inode)
            .expect("it was just found")
            .ctime = i128::from(tick);
    }

    /// What is in the parking place.
    pub fn parked(&self) -> Vec<(NodeId, Print)> {
        self.parked
            .iter()
            .map(|(node, inode)| (*node, self.print_of(*inode)))
            .collect()
    }

    /// The contents of the files in a subtree.
    pub fn contents_below(&self, path: &RelPath) -> Vec<Content> {
        let inside = [path.as_bytes(), b"/"].concat();
        self.tree()
            .into_iter()
            .filter(|(at, _)| at == path || at.as_bytes().starts_with(&inside))
            .filter_map(|(_, (kind, _))| match kind {
                Kind::File(content) => Some(content),
                Kind::Dir(_) | Kind::Link(_) => None,
            })
            .collect()
    }
}
