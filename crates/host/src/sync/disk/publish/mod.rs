//! Publishing: the moment at which a step changes the user's tree.
//!
//! Each step looks first whether the disk is as the engine believes, then acts with a call that
//! cannot destroy anything, then looks at what it has displaced. What is not as expected is put
//! back. Between the look and the act others can only create, change or rename: all three are
//! noticed afterwards. A program that is about to write to a displaced file is noticed
//! by a lease, or when the file is looked at once more before it is deleted (see
//! [`super::displaced`]).

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ahoy_logic::sync::{Found, Print, Sighting, Trouble};
use ahoy_wire::sync::{Meta, Name, NodeId, RelPath};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

mod displace;
mod expect;

use super::beneath::{self, Parents, is_within};
use super::litter::{self, put_back, rename_free};
use super::print::{self, Kind};
use super::stage::{self, Staged};
use super::world::Change;
use super::{Root, walk};
use expect::is_as_expected;

/// What the caller of a step gets: the print of what is there now, or why nothing was done.
pub(super) type Done = Result<Option<Print>, Trouble>;

/// Publishes steps under the world's lock.
pub(super) struct Publisher<'p, 'w> {
    root: &'p Root,
    change: &'p mut Change<'w>,
    parents: &'p mut Parents,
    /// Directories whose names were changed, as they were before; with the mtime that they are to
    /// have afterwards.
    dirs: BTreeMap<RelPath, (Arc<OwnedFd>, Print)>,
    /// What was changed besides names, to be synced if the batch is small.
    changed: Vec<OwnedFd>,
    /// Something was changed that only a sync of the whole file system makes durable.
    loose: bool,
}

/// Where something is to be put.
#[derive(Clone, Copy)]
pub(super) struct To<'s> {
    pub path: &'s RelPath,
    /// Only into this directory, wherever that is by now; only the file identity is compared. Into
    /// any if `None`.
    pub within: Option<&'s Print>,
}

/// Where something is, its directory opened.
struct Spot {
    path: RelPath,
    dir: RelPath,
    fd: Arc<OwnedFd>,
    name: Name,
}

/// What an error in the user's tree means.
fn trouble(errno: Errno) -> Trouble {
    match errno {
        Errno::NOSPC | Errno::DQUOT => Trouble::Full,
        Errno::EXIST
        | Errno::NOENT
        | Errno::NOTDIR
        | Errno::ISDIR
        | Errno::LOOP
        | Errno::NOTEMPTY
        | Errno::STALE
        | Errno::AGAIN => Trouble::Changed,
        Errno::INVAL => Trouble::Refused("this file system cannot hold such a name".into()),
        Errno::XDEV => Trouble::Refused("nothing can be moved there from this file system".into()),
        _ => Trouble::Refused(print::words(errno)),
    }
}

impl<'p, 'w> Publisher<'p, 'w> {
    pub(super) fn new(
        root: &'p Root,
        change: &'p mut Change<'w>,
        parents: &'p mut Parents,
    ) -> Self {
        Self {
            root,
            change,
            parents,
            dirs: BTreeMap::new(),
            changed: Vec::new(),
            loose: false,
        }
    }

    /// Puts a prepared file or link at `at`: over `over`, or at a free name.
    pub(super) fn put(
        &mut self,
        node: NodeId,
        at: To<'_>,
        over: Option<&Print>,
        staged: &mut Staged,
    ) -> Done {
        let spot = self.spot(at.path)?;
        self.enter(&spot, at.within)?;
        match over {
            None => self.put_free(&spot, staged)?,
            Some(over) => self.put_over(node, &spot, over, staged)?,
        }
        staged.published();
        Ok(Some(self.print_after(&spot, &staged.print)))
    }

    /// Like [`Self::put`], as on a file system that cannot exchange two names.
    #[cfg(test)]
    pub(super) fn put_without_exchange(
        &mut self,
        node: NodeId,
        at: &RelPath,
        over: &Print,
        staged: &mut Staged,
    ) -> Done {
        let spot = self.spot(at)?;
        self.remember(&spot)?;
        let there = self.expected(&spot, over)?;
        let lease = self.lease(&spot, there.kind, over)?;
        self.put_in_two_steps(node, &spot, over, staged, lease.as_ref())?;
        staged.published();
        Ok(Some(self.print_after(&spot, &staged.print)))
    }

    /// Puts a prepared directory at the free name `at` and gives it its mode.
    pub(super) fn put_dir(&mut self, at: To<'_>, meta: Meta, staged: &mut Staged) -> Done {
        let spot = self.spot(at.path)?;
        self.enter(&spot, at.within)?;
        let note = if staged.print.mode == meta.mode {
            None
        } else {
            Some(litter::note_mode(self.root, at.path, meta.mode).map_err(stage::trouble)?)
        };
        let put = self.put_free(&spot, staged);
        if put.is_ok() {
            staged.published();
            if note.is_some()
                && let Ok(fd) = print::hold(&*spot.fd, spot.name.as_bytes())
                && let Ok(there) = print::glance_open(&fd, self.root.device())
                && there.print.same_file(&staged.print)
            {
                let _ = stage::set_mode(&fd, meta.mode);
                staged.print.mode = meta.mode;
            }
        }
        if let Some(note) = note {
            let _ = rustix::fs::unlinkat(self.root.tmp(), &*note, AtFlags::empty());
        }
        put?;
        Ok(Some(self.print_after(&spot, &staged.print)))
    }

    /// Renames what is at `from` to the free name `to`.
    pub(super) fn rename(&mut self, from: &RelPath, to: To<'_>, expect: &Print) -> Done {
        if is_within(to.path, from) {
            return Err(Trouble::Changed);
        }
        let (source, target) = (self.spot(from)?, self.spot(to.path)?);
        let there = self.expected(&source, expect)?;
        self.enter(&target, to.within)?;
        self.remember(&source)?;
        let (a, b) = (source.name.as_bytes(), target.name.as_bytes());
        let own = self.own_fd(&source, there.kind)?;
        let dirs = [
            Some((&source.dir, &source.fd)),
            Some((&target.dir, &target.fd)),
            own.as_ref().map(|fd| (from, fd)),
        ];
        self.change.touch_tree(from);
        self.change.touch_tree(to.path);
        self.writable(&dirs, || rename_free(&*source.fd, a, &*target.fd, b))
            .map_err(trouble)?;
        self.parents.forget();
        let after = self.glance(&target);
        if let Ok(after) = after
            && is_as_expected(&after, there.kind, expect)
        {
            return Ok(Some(after.print));
        }
        // Somebody has put something else there in between, and we have moved that.
        let _ = put_back(&*target.fd, b, &*source.fd, &source.name);
        Err(Trouble::Changed)
    }

    /// Removes the file, link or empty directory at `at`.
    pub(super) fn remove(&mut self, node: NodeId, at: &RelPath, expect: &Print) -> Done {
        let spot = self.spot(at)?;
        let there = self.expected(&spot, expect)?;
        if there.kind == Kind::Dir {
            return self.remove_dir(&spot);
        }
        let lease = self.lease(&spot, there.kind, expect)?;
        self.remember(&spot)?;
        let aside = litter::aside(node, expect);
        let (tmp, name) = (self.root.tmp(), spot.name.as_bytes());
        self.writable(&[Some((&spot.dir, &spot.fd))], || {
            rename_free(&*spot.fd, name, tmp, &aside)
        })
        .map_err(trouble)?;
        if let Err(trouble) = self.displaced(&aside, there.kind, expect, lease.as_ref()) {
            let _ = put_back(tmp, &aside, &*spot.fd, &spot.name);
            return Err(trouble);
        }
        self.delete_soon(&spot, aside, there.kind, expect);
        Ok(None)
    }

    fn remove_dir(&mut self, spot: &Spot) -> Done {
        self.remember(spot)?;
        let name = spot.name.as_bytes();
        let removed = self.writable(&[Some((&spot.dir, &spot.fd))], || {
            rustix::fs::unlinkat(&*spot.fd, name, AtFlags::REMOVEDIR)
        });
        self.parents.forget();
        match removed {
            Ok(()) => Ok(None),
            Err(Errno::NOTEMPTY | Errno::EXIST) if self.holds_nothing_shared(spot) => {
                Err(Trouble::Inhabited)
            }
            Err(errno) => Err(trouble(errno)),
        }
    }

    /// Whether a directory that is not empty holds nothing that the engine could know of.
    fn holds_nothing_shared(&self, spot: &Spot) -> bool {
        let Ok(dir) = beneath::open_dir(self.root.fd(), &spot.path, OFlags::RDONLY) else {
            return false;
        };
        let (listing, listed) = walk::list(&dir, &spot.path, self.root.device());
        let rules = self.root.rules();
        let is_out = |name: &Name, is_dir| {
            let path = spot.path.join(name);
            path.is_some_and(|path| rules.ignores(&path, is_dir))
        };
        let foreign = |sighting: &Sighting| match sighting.found {
            Found::Foreign | Found::Unreadable(_) => true,
            Found::Dir(_) => is_out(&sighting.name, true),
            Found::File(_) | Found::Link(..) => is_out(&sighting.name, false),
            Found::Nothing => false,
        };
        listed.is_ok() && listing.sightings.iter().all(foreign)
    }

    /// Sets mode and mtime of what is at `at`; of a link only the mtime.
    pub(super) fn set_meta(&mut self, at: &RelPath, meta: Meta, expect: &Print) -> Done {
        let spot = self.spot(at)?;
        let there = self.expected(&spot, expect)?;
        let lease = self.lease(&spot, there.kind, expect)?;
        let fd = print::hold(&*spot.fd, spot.name.as_bytes()).map_err(trouble)?;
        let held = print::glance_open(&fd, self.root.device()).map_err(trouble)?;
        if !is_as_expected(&held, there.kind, expect) {
            return Err(Trouble::Changed);
        }
        self.change.touch(at);
        if there.kind != Kind::Link && held.print.mode != meta.mode {
            stage::set_mode(&fd, meta.mode).map_err(trouble)?;
        }
        stage::set_mtime_of(&fd, meta.mtime)
            // An older kernel does that only by name: whatever stands there by now.
            .or_else(|_| stage::set_mtime(&*spot.fd, spot.name.as_bytes(), meta.mtime))
            .map_err(trouble)?;
        if let Some((_, before)) = self.dirs.get_mut(at) {
            before.mtime = meta.mtime;
        }
        let after = self.glance(&spot).map_err(trouble)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match lease {
            Some(lease) => lease.file().try_clone().ok(),
            None => rustix::fs::openat(&*spot.fd, spot.name.as_bytes(), flags, Mode::empty()).ok(),
        };
        self.loose |= file.is_none();
        self.changed.extend(file);
        Ok(Some(after.print))
    }

    /// Moves what is at `at` into the parking place.
    pub(super) fn park(&mut self, node: NodeId, at: &RelPath, expect: &Print) -> Done {
        let spot = self.spot(at)?;
        let there = self.expected(&spot, expect)?;
        self.remember(&spot)?;
        let (place, name) = (litter::parked(node), spot.name.as_bytes());
        let lot = self.root.parked_dir();
        let own = self.own_fd(&spot, there.kind)?;
        let dirs = [Some((&spot.dir, &spot.fd)), own.as_ref().map(|fd| (at, fd))];
        self.change.touch_tree(at);
        self.writable(&dirs, || rename_free(&*spot.fd, name, lot, &place))
            .map_err(trouble)?;
        self.parents.forget();
        let parked = print::glance(lot, &place, self.root.device()).map_err(trouble)?;
        if is_as_expected(&parked, there.kind, expect) {
            return Ok(Some(parked.print));
        }
        let _ = put_back(lot, &place, &*spot.fd, &spot.name);
        Err(Trouble::Changed)
    }

    /// Moves a parked node to the free name `to`.
    pub(super) fn unpark(&mut self, node: NodeId, to: To<'_>) -> Done {
        let spot = self.spot(to.path)?;
        let (place, lot) = (litter::parked(node), self.root.parked_dir());
        let parked = print::glance(lot, &place, self.root.device()).map_err(trouble)?;
        self.enter(&spot, to.within)?;
        let own = match parked.kind {
            Kind::Dir => Some(Arc::new(print::hold(lot, &place).map_err(trouble)?)),
            Kind::File | Kind::Link | Kind::Foreign => None,
        };
        let dirs = [
            Some((&spot.dir, &spot.fd)),
            own.as_ref().map(|fd| (to.path, fd)),
        ];
        let name = spot.name.as_bytes();
        self.change.touch_tree(to.path);
        self.writable(&dirs, || rename_free(lot, &place, &*spot.fd, name))
            .map_err(trouble)?;
        Ok(Some(self.print_after(&spot, &parked.print)))
    }

    /// Gives the directories that were changed their mtimes back.
    pub(super) fn restore_mtimes(&mut self) {
        for (fd, before) in self.dirs.values() {
            let now = print::glance_open(&**fd, self.root.device());
            if now.is_ok_and(|now| now.print.mtime != before.mtime) {
                let _ = stage::set_mtime(&**fd, b".", before.mtime);
            }
        }
    }

    /// What the directories that were changed look like now: their change times have moved.
    pub(super) fn changed_dirs(mut self) -> Vec<Sighting> {
        let mut sightings = Vec::new();
        for path in std::mem::take(&mut self.dirs).into_keys() {
            let Some((dir, name)) = path.split() else {
                continue;
            };
            let Ok(parent) = self.parents.dir(self.root.fd(), &dir) else {
                continue;
            };
            let found = walk::found_at(&*parent, &dir, &name, self.root.device());
            if matches!(found, Found::Dir(_)) {
                self.change.touch(&path);
                sightings.push(Sighting { dir, name, found });
            }
        }
        sightings
    }

    /// Makes everything that was changed durable, one by one; answers whether that was possible.
    pub(super) fn sync(&mut self) -> bool {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut done = !std::mem::take(&mut self.loose);
        for file in self.changed.drain(..) {
            done &= rustix::fs::fsync(file).is_ok();
        }
        for (fd, _) in self.dirs.values() {
            let synced =
                rustix::fs::openat(&**fd, c".", flags, Mode::empty()).and_then(rustix::fs::fsync);
            done &= synced.is_ok();
        }
        done
    }
}
