//! What ahoy does to a disk: each step checks, at its moment, what it is about to replace.

use super::*;

impl Disk {
    fn expect(&self, path: &RelPath, want: &Print) -> Result<u64, Trouble> {
        let inode = self.find(path).ok_or(Trouble::Changed)?;
        let print = self.print_of(inode);
        let is_dir = matches!(self.inodes[&inode].kind, Kind::Dir(_));
        let fits = if is_dir {
            print.same_file(want)
        } else {
            print.same(want)
        };
        if fits {
            Ok(inode)
        } else {
            Err(Trouble::Changed)
        }
    }

    fn free(&self, path: &RelPath) -> Result<(), Trouble> {
        let (dir, _) = path.split().ok_or(Trouble::Changed)?;
        let is_dir = |at: u64| matches!(self.inodes[&at].kind, Kind::Dir(_));
        if self.find(path).is_some() || !self.find(&dir).is_some_and(is_dir) {
            return Err(Trouble::Changed);
        }
        Ok(())
    }

    fn publish(
        &mut self,
        at: &RelPath,
        over: Option<&Print>,
        kind: Kind,
        mode: u16,
        mtime: Mtime,
    ) -> Result<Option<Print>, Trouble> {
        match over {
            Some(print) => self.expect(at, print).map(|_| ())?,
            None => self.free(at)?,
        }
        let fresh = self.make(kind, mode, Some(mtime.secs));
        self.put_in(at, fresh);
        Ok(Some(self.print_of(fresh)))
    }

    /// Carries out a step; `bytes` is the content that a write is to put there.
    pub fn act(
        &mut self,
        node: NodeId,
        act: &Act,
        bytes: Option<Content>,
    ) -> Result<Option<Print>, Trouble> {
        match act {
            Act::MakeDir { at, meta } => {
                let kind = Kind::Dir(BTreeMap::new());
                self.publish(at, None, kind, meta.mode, meta.mtime)
            }
            Act::MakeLink {
                at,
                target,
                mtime,
                over,
            } => self.publish(at, over.as_ref(), Kind::Link(target.clone()), 0o777, *mtime),
            Act::Write {
                at,
                meta,
                hash,
                over,
                ..
            } => {
                let content = bytes.ok_or(Trouble::NoSource)?;
                if content.hash() != *hash {
                    return Err(Trouble::Corrupt);
                }
                self.publish(
                    at,
                    over.as_ref(),
                    Kind::File(content),
                    meta.mode,
                    meta.mtime,
                )
            }
            Act::SetMeta { at, meta, expect } => self.set_meta(at, *meta, expect),
            Act::Move { from, to, expect } => {
                let inode = self.expect(from, expect)?;
                self.free(to)?;
                if to.as_bytes().starts_with(&[from.as_bytes(), b"/"].concat()) {
                    return Err(Trouble::Refused("a directory into itself".into()));
                }
                self.take_out(from);
                self.renamed(inode);
                self.put_in(to, inode);
                Ok(Some(self.print_of(inode)))
            }
            Act::Remove { at, expect } => {
                let inode = self.expect(at, expect)?;
                if let Kind::Dir(entries) = &self.inodes[&inode].kind
                    && !entries.is_empty()
                {
                    return Err(Trouble::Changed);
                }
                self.take_out(at);
                Ok(None)
            }
            Act::Park { at, expect } => {
                let inode = self.expect(at, expect)?;
                self.take_out(at);
                self.renamed(inode);
                self.parked.insert(node, inode);
                Ok(Some(self.print_of(inode)))
            }
            Act::Unpark { to } => {
                self.free(to)?;
                let inode = self.parked.remove(&node).ok_or(Trouble::Changed)?;
                self.renamed(inode);
                self.put_in(to, inode);
                Ok(Some(self.print_of(inode)))
            }
        }
    }

    fn set_meta(
        &mut self,
        at: &RelPath,
        meta: Meta,
        expect: &Print,
    ) -> Result<Option<Print>, Trouble> {
        let inode = self.expect(at, expect)?;
        let tick = self.tick();
        let node = self.inodes.get_mut(&inode).expect("just found");
        if !matches!(node.kind, Kind::Link(_)) {
            node.mode = meta.mode;
        }
        node.mtime = meta.mtime.secs;
        node.ctime = i128::from(tick);
        Ok(Some(self.print_of(inode)))
    }
}
