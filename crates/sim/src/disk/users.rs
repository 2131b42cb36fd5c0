//! What a user does to a disk. Each gives false if it is not possible.

use super::*;

impl Disk {
    /// Writes a new file, or over one (in place or, as most editors do, by a rename over it).
    pub fn write(&mut self, path: &RelPath, content: Content, in_place: bool) -> bool {
        let old = self.find(path);
        if let Some(old) = old {
            if matches!(self.inodes[&old].kind, Kind::Dir(_)) {
                return false;
            }
            if in_place && matches!(self.inodes[&old].kind, Kind::File(_)) {
                let tick = self.tick();
                let node = self.inodes.get_mut(&old).expect("just found");
                node.kind = Kind::File(content);
                node.mtime = 1_000_000 + tick;
                node.ctime = i128::from(tick);
                return true;
            }
        }
        let fresh = self.make(Kind::File(content), 0o644, None);
        self.put_in(path, fresh)
    }

    /// Makes a directory.
    pub fn mkdir(&mut self, path: &RelPath) -> bool {
        if self.find(path).is_some() {
            return false;
        }
        let fresh = self.make(Kind::Dir(BTreeMap::new()), 0o755, None);
        self.put_in(path, fresh)
    }

    /// Makes a link.
    pub fn symlink(&mut self, path: &RelPath, target: Target) -> bool {
        if self.find(path).is_some() {
            return false;
        }
        let fresh = self.make(Kind::Link(target), 0o777, None);
        self.put_in(path, fresh)
    }

    /// Changes the mode.
    pub fn chmod(&mut self, path: &RelPath, mode: u16) -> bool {
        let Some(inode) = self.find(path) else {
            return false;
        };
        if matches!(self.inodes[&inode].kind, Kind::Link(_)) {
            return false;
        }
        let tick = self.tick();
        let node = self.inodes.get_mut(&inode).expect("just found");
        node.mode = mode;
        node.ctime = i128::from(tick);
        true
    }

    /// Removes a file, or a directory with everything in it.
    pub fn remove(&mut self, path: &RelPath) -> bool {
        self.take_out(path).is_some()
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
        if let Some(there) = self.find(to) {
            let is_dir = |inode: u64| matches!(self.inodes[&inode].kind, Kind::Dir(_));
            if is_dir(there) || is_dir(inode) {
                return false;
            }
        }
        let Some((dir, _)) = to.split() else {
            return false;
        };
        if self.entries(&dir).is_none() {
            return false;
        }
        self.take_out(from);
        self.renamed(inode);
        self.put_in(to, inode)
    }
}
