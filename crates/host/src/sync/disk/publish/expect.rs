//! Looking before acting: is the disk as the engine believes, and may we?

use std::os::fd::OwnedFd;
use std::sync::Arc;

use ahoy_logic::sync::{Print, Trouble};
use ahoy_wire::sync::RelPath;
use rustix::fs::AtFlags;
use rustix::io::{Errno, Result as Sys};

use super::super::print::{self, Glance, Kind};
use super::super::raw::{Lease, Quiet};
use super::super::{beneath, litter, stage};
use super::{Publisher, Spot, trouble};

/// What the owner of a directory needs to change names in it.
const WRITABLE: u16 = 0o300;

impl Publisher<'_, '_> {
    pub(super) fn spot(&mut self, path: &RelPath) -> Result<Spot, Trouble> {
        let (dir, fd, name) = self.parents.parent(self.root.fd(), path).map_err(|errno| {
            // Something was mounted over a directory that was here.
            if errno == Errno::XDEV {
                Trouble::Changed
            } else {
                trouble(errno)
            }
        })?;
        Ok(Spot {
            path: path.clone(),
            dir,
            fd,
            name,
        })
    }

    pub(super) fn glance(&self, spot: &Spot) -> Sys<Glance> {
        print::glance(&*spot.fd, spot.name.as_bytes(), self.root.device())
    }

    /// What is at the spot, if that is what the engine believes.
    pub(super) fn expected(&self, spot: &Spot, expect: &Print) -> Result<Glance, Trouble> {
        let there = self.glance(spot).map_err(trouble)?;
        let same = match there.kind {
            Kind::Dir => there.print.same_file(expect),
            Kind::File | Kind::Link => there.print.same(expect),
            Kind::Foreign => false,
        };
        if same {
            Ok(there)
        } else {
            Err(Trouble::Changed)
        }
    }

    /// Keeps writers away from a file while it is looked at and displaced, where that is
    /// possible; an error if there is one already.
    pub(super) fn lease(
        &self,
        spot: &Spot,
        kind: Kind,
        expect: &Print,
    ) -> Result<Option<Lease>, Trouble> {
        if kind != Kind::File {
            return Ok(None);
        }
        let name = spot.name.as_bytes();
        let file = match beneath::open_file(&*spot.fd, name, self.root.device()) {
            Ok(file) => file,
            // Not readable, or being written under a lease of somebody else's.
            Err(Errno::ACCESS | Errno::PERM) => return Ok(None),
            Err(Errno::AGAIN) => return Err(Trouble::InUse),
            Err(Errno::INVAL) => return Err(Trouble::Changed),
            Err(errno) => return Err(trouble(errno)),
        };
        match Lease::take(file) {
            Quiet::Writer => Err(Trouble::InUse),
            Quiet::Unknown => Ok(None),
            Quiet::Held(lease) => {
                let held = print::glance_open(lease.file(), self.root.device()).map_err(trouble)?;
                if held.print.same(expect) {
                    Ok(Some(lease))
                } else {
                    Err(Trouble::Changed)
                }
            }
        }
    }

    /// Notes that a name is about to change, and the mtime that its directory has before.
    pub(super) fn remember(&mut self, spot: &Spot) -> Result<(), Trouble> {
        self.change.touch(&spot.path);
        if !self.dirs.contains_key(&spot.dir) {
            let before = print::glance_open(&*spot.fd, self.root.device()).map_err(trouble)?;
            self.dirs
                .insert(spot.dir.clone(), (Arc::clone(&spot.fd), before.print));
        }
        Ok(())
    }

    /// The same of a name at which something is to be put: its directory must be the one that the
    /// step means. What is put there goes with it, even if it is renamed just now.
    pub(super) fn enter(&mut self, spot: &Spot, within: Option<&Print>) -> Result<(), Trouble> {
        self.remember(spot)?;
        let there = self.dirs.get(&spot.dir).map(|(_, before)| before);
        if let (Some(there), Some(within)) = (there, within)
            && !there.same_file(within)
        {
            return Err(Trouble::Changed);
        }
        Ok(())
    }

    /// The print of what we have put at the spot: the one before, with the change time of now,
    /// unless somebody has changed it since.
    pub(super) fn print_after(&self, spot: &Spot, before: &Print) -> Print {
        match self.glance(spot) {
            Ok(after) if after.print.same_but_ctime(before) => after.print,
            Ok(_) | Err(_) => *before,
        }
    }

    /// A directory that is about to be moved, held: its owner must be able to write to it.
    pub(super) fn own_fd(&self, spot: &Spot, kind: Kind) -> Result<Option<Arc<OwnedFd>>, Trouble> {
        if kind != Kind::Dir {
            return Ok(None);
        }
        let fd = print::hold(&*spot.fd, spot.name.as_bytes()).map_err(trouble)?;
        Ok(Some(Arc::new(fd)))
    }

    /// Does `act`; if permissions are in the way, and the directories are ours, makes them
    /// writable for the moment.
    pub(super) fn writable(
        &mut self,
        dirs: &[Option<(&RelPath, &Arc<OwnedFd>)>],
        act: impl Fn() -> Sys<()>,
    ) -> Sys<()> {
        match act() {
            Err(Errno::ACCESS) => {}
            answer => return answer,
        }
        let mut undo = Vec::new();
        for (path, fd) in dirs.iter().flatten() {
            let Ok(dir) = print::glance_open(&***fd, self.root.device()) else {
                continue;
            };
            let closed = dir.print.mode & WRITABLE != WRITABLE;
            if closed && dir.owner == rustix::process::geteuid().as_raw() {
                let note = litter::note_mode(self.root, path, dir.print.mode)?;
                self.change.touch(path);
                let _ = stage::set_mode(&***fd, dir.print.mode | WRITABLE);
                undo.push((fd, dir.print.mode, note));
            }
        }
        let answer = act();
        for (fd, mode, note) in undo {
            let _ = stage::set_mode(&***fd, mode);
            let _ = rustix::fs::unlinkat(self.root.tmp(), &*note, AtFlags::empty());
        }
        answer
    }
}

/// Whether it is of this kind and untouched; a directory only has to be the same one. The change
/// time may differ: our own renames move it.
pub(super) fn is_as_expected(glance: &Glance, kind: Kind, expect: &Print) -> bool {
    glance.kind == kind
        && match kind {
            Kind::Dir => glance.print.same_file(expect),
            Kind::File | Kind::Link => glance.print.same_but_ctime(expect),
            Kind::Foreign => false,
        }
}
