//! Putting something at a free name, or in the place of something else.
//!
//! Two names are exchanged in one step, so that a reader finds the old file or the new one. What
//! comes out is examined, and goes back if it is not what was to be replaced.

use std::time::Instant;

use ahoy_logic::sync::{Print, Trouble};
use ahoy_wire::sync::NodeId;
use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::super::displaced;
use super::super::litter::{self, put_back, rename_free};
use super::super::print::{self, Kind};
use super::super::raw::Lease;
use super::super::stage::{self, Staged};
use super::expect::is_as_expected;
use super::{Publisher, Spot, trouble};

impl Publisher<'_, '_> {
    pub(super) fn put_free(&mut self, spot: &Spot, staged: &Staged) -> Result<(), Trouble> {
        let name = spot.name.as_bytes();
        self.writable(&[Some((&spot.dir, &spot.fd))], || {
            staged.put(&*spot.fd, name)
        })
        .map_err(trouble)
    }

    pub(super) fn put_over(
        &mut self,
        node: NodeId,
        spot: &Spot,
        over: &Print,
        staged: &mut Staged,
    ) -> Result<(), Trouble> {
        let there = self.expected(spot, over)?;
        if there.kind == Kind::Dir {
            return Err(Trouble::Changed);
        }
        let lease = self.lease(spot, there.kind, over)?;
        let swap = litter::swap(node, over, &staged.print);
        staged.rename(swap.clone()).map_err(stage::trouble)?;
        let (tmp, name) = (self.root.tmp(), spot.name.as_bytes());
        let exchanged = self.writable(&[Some((&spot.dir, &spot.fd))], || {
            rustix::fs::renameat_with(tmp, &*swap, &*spot.fd, name, RenameFlags::EXCHANGE)
        });
        match exchanged {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                return self.put_in_two_steps(node, spot, over, staged, lease.as_ref());
            }
            Err(errno) => return Err(trouble(errno)),
        }
        match self.displaced(&swap, there.kind, over, lease.as_ref()) {
            Ok(()) => {
                self.delete_soon(spot, swap, there.kind, over);
                Ok(())
            }
            Err(trouble) => {
                self.exchange_back(node, spot, &swap, staged);
                Err(trouble)
            }
        }
    }

    /// Puts what was displaced back. What comes out is what we had put there, unless somebody
    /// has changed or replaced that at once.
    fn exchange_back(&self, node: NodeId, spot: &Spot, swap: &[u8], staged: &mut Staged) {
        let (tmp, name) = (self.root.tmp(), spot.name.as_bytes());
        let back = rustix::fs::renameat_with(tmp, swap, &*spot.fd, name, RenameFlags::EXCHANGE);
        let ours = print::glance(tmp, swap, self.root.device());
        let ours = ours.ok().filter(|g| g.print.same_but_ctime(&staged.print));
        let aside = litter::aside(node, &staged.print);
        staged.published();
        if let (Ok(()), Some(ours)) = (back, ours)
            && rename_free(tmp, swap, tmp, &aside).is_ok()
        {
            // It was visible, and a program may be on the way to it.
            self.delete_soon(spot, aside, ours.kind, &staged.print);
        } else {
            let _ = put_back(tmp, swap, &*spot.fd, &spot.name);
        }
    }

    /// Deletes something that was taken to `name` in `tmp/`: a file when nobody can be on the way
    /// to it any more.
    pub(super) fn delete_soon(&self, spot: &Spot, name: Vec<u8>, kind: Kind, expect: &Print) {
        if kind != Kind::File {
            let _ = rustix::fs::unlinkat(self.root.tmp(), &*name, AtFlags::empty());
            return;
        }
        self.root.delete_soon(displaced::File {
            name,
            expect: *expect,
            home: spot.path.clone(),
            since: Instant::now(),
        });
    }

    /// Replaces a file where the file system cannot exchange two names. For a moment there is
    /// none: better than a moment in which a new file of the user's could be overwritten.
    pub(super) fn put_in_two_steps(
        &mut self,
        node: NodeId,
        spot: &Spot,
        over: &Print,
        staged: &mut Staged,
        lease: Option<&Lease>,
    ) -> Result<(), Trouble> {
        let there = self.expected(spot, over)?;
        let aside = litter::aside(node, over);
        let (tmp, name) = (self.root.tmp(), spot.name.as_bytes());
        rename_free(&*spot.fd, name, tmp, &aside).map_err(trouble)?;
        let put = self
            .displaced(&aside, there.kind, over, lease)
            .and_then(|()| self.put_free(spot, staged));
        if put.is_ok() {
            self.delete_soon(spot, aside, there.kind, over);
        } else {
            let _ = put_back(tmp, &aside, &*spot.fd, &spot.name);
        }
        put
    }

    /// Whether what has been taken to `name` in `tmp/` is what was expected, and nobody is about
    /// to write to it.
    pub(super) fn displaced(
        &self,
        name: &[u8],
        kind: Kind,
        expect: &Print,
        lease: Option<&Lease>,
    ) -> Result<(), Trouble> {
        let glance = print::glance(self.root.tmp(), name, self.root.device()).map_err(trouble)?;
        if !is_as_expected(&glance, kind, expect) {
            return Err(Trouble::Changed);
        }
        if lease.is_some_and(Lease::is_wanted) {
            Err(Trouble::InUse)
        } else {
            Ok(())
        }
    }
}
