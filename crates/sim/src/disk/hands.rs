//! What ahoy does to a disk: each step checks, at its moment, what it is about to replace.

use std::collections::BTreeMap;

use ahoy_logic::sync::{Act, Print, Trouble};
use ahoy_wire::sync::{Meta, Mtime, NodeId, RelPath};

use super::{Content, Disk, Kind};

type Done = Result<Option<Print>, Trouble>;

impl Disk {
    /// What stands at a path.
    pub fn print_at(&self, path: &RelPath) -> Option<Print> {
        self.find(path).map(|inode| self.print_of(inode))
    }

    /// Carries out a step; `bytes` is the content that a write is to put there, which is on the
    /// device by then unless it is `wet`.
    ///
    /// # Errors
    /// Why not; nothing was changed then.
    pub fn act(&mut self, node: NodeId, act: &Act, bytes: Option<Content>, wet: bool) -> Done {
        let done = self.act_now(node, act, bytes);
        if let (Ok(Some(print)), Act::Write { .. }, false) = (&done, act, wet) {
            self.inode_mut(print.inode).wet = false;
        }
        self.changed();
        done
    }

    fn act_now(&mut self, node: NodeId, act: &Act, bytes: Option<Content>) -> Done {
        match act {
            Act::MakeDir { at, meta } => {
                let kind = Kind::Dir(BTreeMap::new());
                self.publish(at, None, kind, *meta)
            }
            Act::MakeLink {
                at,
                target,
                mtime,
                over,
            } => {
                let (mode, mtime) = (0o777, *mtime);
                let kind = Kind::Link(target.clone());
                self.publish(at, over.as_ref(), kind, Meta { mode, mtime })
            }
            Act::Write { at, meta, over, .. } => {
                let content = bytes.ok_or(Trouble::NoSource)?;
                self.publish(at, over.as_ref(), Kind::File(content), *meta)
            }
            Act::SetMeta { at, meta, expect } => self.set_meta(at, *meta, expect),
            Act::Move { from, to, expect } => self.move_to(from, to, expect),
            Act::Remove { at, expect } => {
                let inode = self.expect(at, expect)?;
                if let Kind::Dir(entries) = &self.inode(inode).kind
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
                self.image.parked.insert(node, inode);
                Ok(Some(self.print_of(inode)))
            }
            Act::Unpark { to } => {
                self.free(to)?;
                let inode = self.image.parked.remove(&node).ok_or(Trouble::Changed)?;
                self.renamed(inode);
                self.put_in(to, inode);
                Ok(Some(self.print_of(inode)))
            }
        }
    }

    fn expect(&self, path: &RelPath, want: &Print) -> Result<u64, Trouble> {
        let inode = self.find(path).ok_or(Trouble::Changed)?;
        let print = self.print_of(inode);
        let fits = self.is_careless
            || if self.is_dir(inode) {
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
        let is_dir = |at: u64| self.is_dir(at);
        if self.find(path).is_some() || !self.find(&dir).is_some_and(is_dir) {
            return Err(Trouble::Changed);
        }
        Ok(())
    }

    fn publish(&mut self, at: &RelPath, over: Option<&Print>, kind: Kind, meta: Meta) -> Done {
        match over {
            Some(print) => {
                let there = self.expect(at, print)?;
                if self.is_dir(there) && !self.is_careless {
                    return Err(Trouble::Changed);
                }
            }
            None => self.free(at)?,
        }
        let Mtime { secs, .. } = meta.mtime;
        let fresh = self.make(kind, meta.mode, Some(secs));
        self.put_in(at, fresh);
        Ok(Some(self.print_of(fresh)))
    }

    fn move_to(&mut self, from: &RelPath, to: &RelPath, expect: &Print) -> Done {
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

    fn set_meta(&mut self, at: &RelPath, meta: Meta, expect: &Print) -> Done {
        let inode = self.expect(at, expect)?;
        let (_, ctime) = self.stamp();
        let node = self.inode_mut(inode);
        if !matches!(node.kind, Kind::Link(_)) {
            node.mode = meta.mode;
        }
        node.mtime = meta.mtime.secs;
        node.ctime = ctime;
        Ok(Some(self.print_of(inode)))
    }
}
