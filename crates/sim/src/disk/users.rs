//! What a user does to a disk. Each gives false if it is not possible.

use std::collections::BTreeMap;

use ahoy_wire::sync::{RelPath, Target};

use super::{Content, Disk, Kind};

impl Disk {
    /// Writes a new file, or over one (in place or, as most editors do, by a rename over it).
    pub fn write(&mut self, path: &RelPath, content: Content, in_place: bool) -> bool {
        let old = self.find(path);
        if let Some(old) = old {
            if self.is_dir(old) {
                return false;
            }
            if in_place && matches!(self.inode(old).kind, Kind::File(_)) {
                let (mtime, ctime) = self.stamp();
                let node = self.inode_mut(old);
                node.kind = Kind::File(content);
                node.mtime = mtime;
                node.ctime = ctime;
                node.wet = true;
                self.changed();
                return true;
            }
        }
        let fresh = self.make(Kind::File(content), 0o644, None);
        let done = self.put_in(path, fresh);
        self.changed();
        done
    }

    /// Makes a directory.
    pub fn mkdir(&mut self, path: &RelPath) -> bool {
        self.make_at(path, Kind::Dir(BTreeMap::new()), 0o755)
    }

    /// Makes a link.
    pub fn symlink(&mut self, path: &RelPath, target: Target) -> bool {
        self.make_at(path, Kind::Link(target), 0o777)
    }

    fn make_at(&mut self, path: &RelPath, kind: Kind, mode: u16) -> bool {
        if self.find(path).is_some() {
            return false;
        }
        let fresh = self.make(kind, mode, None);
        let done = self.put_in(path, fresh);
        self.changed();
        done
    }

    /// Changes the mode.
    pub fn chmod(&mut self, path: &RelPath, mode: u16) -> bool {
        let Some(inode) = self.find(path) else {
            return false;
        };
        if matches!(self.inode(inode).kind, Kind::Link(_)) {
            return false;
        }
        let (_, ctime) = self.stamp();
        let node = self.inode_mut(inode);
        node.mode = mode;
        node.ctime = ctime;
        self.changed();
        true
    }

    /// Sets the times to now.
    pub fn touch(&mut self, path: &RelPath) -> bool {
        let Some(inode) = self.find(path) else {
            return false;
        };
        let (mtime, ctime) = self.stamp();
        let node = self.inode_mut(inode);
        (node.mtime, node.ctime) = (mtime, ctime);
        self.changed();
        true
    }

    /// Removes a file, or a directory with everything in it.
    pub fn remove(&mut self, path: &RelPath) -> bool {
        let done = self.take_out(path).is_some();
        self.changed();
        done
    }

    /// Renames, over an existing file if there is one, not over a directory, not into itself.
    pub fn rename(&mut self, from: &RelPath, to: &RelPath) -> bool {
        let inside = [from.as_bytes(), b"/"].concat();
        if from == to || to.as_bytes().starts_with(&inside) {
            return false;
        }
        let Some(inode) = self.find(from) else {
            return false;
        };
        if self
            .find(to)
            .is_some_and(|there| self.is_dir(there) || self.is_dir(inode))
        {
            return false;
        }
        let Some((dir, _)) = to.split() else {
            return false;
        };
        if self.entries(&dir).is_none() {
            return false;
        }
        self.take_out(from);
        self.renamed(inode);
        let done = self.put_in(to, inode);
        self.changed();
        done
    }
}
