//! The one flat folder of a classic peer: looked at, read from, and written to without ever
//! showing half a file.
//!
//! Everything goes by the folder's descriptor and single names, never following a link, so nothing
//! outside can be reached whatever a tracker says (classic-6). What is being written lies in
//! `.ahoy/classic/` and is renamed into its place when it is whole (classic-35); what an earlier
//! run left there is swept. `ahoy share` may serve the same folder: it never looks into `.ahoy`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use ahoy_logic::classic::{FetchTrouble, LocalFile};
use ahoy_wire::classic::{FileName, Mtime};
use ahoy_wire::sync::STATE_DIR;
use rustix::fs::{
    AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, RenameFlags, Timespec, Timestamps,
};
use rustix::io::Errno;

use crate::sync::disk::print::{Device, Glance, Kind};
use crate::sync::disk::{beneath, litter, print, root};

/// Names of the folder that are looked at; more are left out of the swarm.
const NAMES_MAX: usize = 65_536;

/// Where drafts lie in the state directory.
const DRAFTS: &[u8] = b"classic";

/// The folder.
#[derive(Debug)]
pub struct Folder {
    dir: OwnedFd,
    /// Held under a lock, so that nobody else sweeps it.
    drafts: OwnedFd,
    device: Device,
}

/// A file that is being written; deleted unless it is published.
#[derive(Debug)]
pub(super) struct Draft<'f> {
    folder: &'f Folder,
    name: Vec<u8>,
    pub(super) file: File,
}

/// Why a folder cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process serves it already.
    #[error("another ahoy classic serves this folder")]
    Busy,
    /// It is not there, no folder, or cannot be read or written.
    #[error("{0}")]
    System(io::Error),
}

impl From<Errno> for FolderError {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}

impl Folder {
    /// Opens the folder at `path`, and sweeps what an earlier run left.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        let state = root::make_dir(&dir, STATE_DIR)?;
        let drafts = root::make_dir(&state, DRAFTS)?;
        match rustix::fs::flock(&drafts, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(FolderError::Busy),
            Err(errno) => return Err(errno.into()),
        }
        let at = print::stat(&dir, b"", AtFlags::EMPTY_PATH)?;
        let device = (at.stx_dev_major, at.stx_dev_minor);
        let folder = Self {
            dir,
            drafts,
            device,
        };
        for name in names(&folder.drafts)? {
            let _ = rustix::fs::unlinkat(&folder.drafts, &*name, AtFlags::empty());
        }
        Ok(folder)
    }

    /// The regular files whose names can be said in the dialect (classic-33).
    pub(super) fn look(&self) -> io::Result<BTreeMap<FileName, LocalFile>> {
        let mut files = BTreeMap::new();
        for name in names(&self.dir)? {
            let name = std::str::from_utf8(&name).ok();
            let Some(name) = name.and_then(|name| FileName::new(name).ok()) else {
                continue;
            };
            if let Ok(Some(file)) = self.local(&name) {
                files.insert(name, file);
            }
        }
        Ok(files)
    }

    /// A file for reading, and what it is; never a link, a pipe or a folder.
    pub(super) fn read(&self, name: &FileName) -> io::Result<(File, LocalFile)> {
        let fd = beneath::open_file(&self.dir, name.as_str().as_bytes(), self.device)?;
        let file = local_file(&print::glance_open(&fd, self.device)?);
        let file = file.ok_or(io::ErrorKind::InvalidInput)?;
        Ok((fd.into(), file))
    }

    /// What an open file is now.
    pub(super) fn again(&self, file: &File) -> io::Result<Option<LocalFile>> {
        Ok(local_file(&print::glance_open(file, self.device)?))
    }

    /// Whether what stands under the name is `expect`, and nothing if that is None (classic-36).
    pub(super) fn is_still(&self, name: &FileName, expect: Option<&LocalFile>) -> bool {
        self.local(name).is_ok_and(|found| found.as_ref() == expect)
    }

    /// A new draft.
    pub(super) fn draft(&self) -> io::Result<Draft<'_>> {
        let name = litter::incoming();
        let file = litter::create(&self.drafts, &name)?;
        Ok(Draft {
            folder: self,
            name,
            file,
        })
    }

    /// What stands under the name; None if nothing does, an error if it is no file.
    fn local(&self, name: &FileName) -> rustix::io::Result<Option<LocalFile>> {
        match print::glance(&self.dir, name.as_str().as_bytes(), self.device) {
            Ok(glance) => local_file(&glance).map(Some).ok_or(Errno::INVAL),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

impl Draft<'_> {
    /// Puts the draft under `name`, with the time `mtime`, if what stands there is `expect`
    /// (classic-34, classic-35, classic-36). The old content is gone only when the new one is
    /// whole and on the disk.
    pub(super) fn publish(
        self,
        name: &FileName,
        mtime: Mtime,
        expect: Option<&LocalFile>,
    ) -> Result<LocalFile, FetchTrouble> {
        let dir = &self.folder.dir;
        let target = name.as_str().as_bytes();
        rustix::fs::fchmod(&self.file, self.mode(target)).map_err(disk)?;
        rustix::fs::futimens(&self.file, &times(mtime)).map_err(disk)?;
        rustix::fs::fsync(&self.file).map_err(disk)?;
        match expect {
            None => match litter::rename_free(&self.folder.drafts, &self.name, dir, target) {
                Err(Errno::EXIST) => return Err(FetchTrouble::Changed),
                done => done.map_err(disk)?,
            },
            Some(expect) => self.replace(name, expect)?,
        }
        let print = print::glance_open(&self.file, self.folder.device).map_err(disk)?;
        local_file(&print).ok_or_else(|| disk(Errno::INVAL))
    }

    /// Exchanges the two, so that the one that was there can be looked at once more before it is
    /// deleted: a change in the last moment brings it back.
    fn replace(&self, name: &FileName, expect: &LocalFile) -> Result<(), FetchTrouble> {
        let (dir, drafts) = (&self.folder.dir, &self.folder.drafts);
        let target = name.as_str().as_bytes();
        let is_expected = |found: rustix::io::Result<Option<LocalFile>>| {
            found.is_ok_and(|found| found.as_ref() == Some(expect))
        };
        if !is_expected(self.folder.local(name)) {
            return Err(FetchTrouble::Changed);
        }
        let exchange =
            || rustix::fs::renameat_with(drafts, &*self.name, dir, target, RenameFlags::EXCHANGE);
        match exchange() {
            Ok(()) => {}
            // A file system that cannot exchange can still replace.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                return rustix::fs::renameat(drafts, &*self.name, dir, target).map_err(disk);
            }
            Err(Errno::NOENT) => return Err(FetchTrouble::Changed),
            Err(errno) => return Err(disk(errno)),
        }
        let former = print::glance(drafts, &self.name, self.folder.device);
        if is_expected(former.map(|former| local_file(&former))) {
            // The draft's name is the old file's now; dropping the draft deletes it.
            return Ok(());
        }
        exchange().map_err(disk)?;
        Err(FetchTrouble::Changed)
    }

    /// A file that is replaced keeps its permissions.
    fn mode(&self, target: &[u8]) -> Mode {
        let former = print::glance(&self.folder.dir, target, self.folder.device);
        let former = former.ok().filter(|former| former.kind == Kind::File);
        former.map_or(Mode::from_raw_mode(0o644), |former| {
            Mode::from_raw_mode(u32::from(former.print.mode & 0o777))
        })
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // After a rename there is nothing under this name.
        let _ = rustix::fs::unlinkat(&self.folder.drafts, &*self.name, AtFlags::empty());
    }
}

fn names(dir: impl AsFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." && names.len() < NAMES_MAX {
            names.push(name);
        }
    }
    Ok(names)
}

fn local_file(glance: &Glance) -> Option<LocalFile> {
    let mtime = glance.print.mtime;
    let secs = mtime.secs.clamp(Mtime::MIN.secs(), Mtime::MAX.secs());
    (glance.kind == Kind::File).then(|| LocalFile {
        mtime: Mtime::from_secs(secs).expect("clamped between the bounds"),
        nanos: mtime.nanos,
        size: glance.print.size,
    })
}

fn times(mtime: Mtime) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.secs(),
            tv_nsec: 0,
        },
    }
}

fn disk(errno: Errno) -> FetchTrouble {
    FetchTrouble::Disk(print::words(errno))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn name(text: &str) -> FileName {
        FileName::new(text).expect("a name")
    }

    fn time(secs: i64) -> Mtime {
        Mtime::from_secs(secs).expect("a time")
    }

    fn write(
        folder: &Folder,
        text: &str,
        expect: Option<&LocalFile>,
    ) -> Result<LocalFile, FetchTrouble> {
        let mut draft = folder.draft().expect("a draft");
        draft.file.write_all(text.as_bytes()).expect("written");
        draft.publish(&name("a"), time(1_771_289_241), expect)
    }

    fn drafts(path: &Path) -> usize {
        fs::read_dir(path.join(".ahoy/classic"))
            .expect("there")
            .count()
    }

    /// classic-34, classic-35.
    #[test]
    fn a_draft_becomes_a_file_with_its_time_and_leaves_nothing() {
        let temp = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(temp.path()).expect("opened");
        let first = write(&folder, "one", None).expect("published");
        assert_eq!(
            (first.mtime, first.nanos, first.size),
            (time(1_771_289_241), 0, 3)
        );
        let path = temp.path().join("a");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
        write(&folder, "three", Some(&first)).expect("replaced");
        assert_eq!(fs::read(&path).expect("there"), b"three");
        let meta = fs::metadata(&path).expect("there");
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_771_289_241, 0));
        assert_eq!(meta.mode() & 0o777, 0o640);
        drop(folder.draft().expect("a draft"));
        assert_eq!(drafts(temp.path()), 0);
        assert_eq!(folder.look().expect("looked").len(), 1);
    }

    /// classic-36.
    #[test]
    fn what_was_changed_meanwhile_stays() {
        let temp = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(temp.path()).expect("opened");
        let first = write(&folder, "one", None).expect("published");
        let path = temp.path().join("a");
        assert_eq!(
            write(&folder, "two", None),
            Err(FetchTrouble::Changed),
            "it is there now"
        );
        fs::write(&path, "my own").expect("written");
        assert_eq!(
            write(&folder, "two", Some(&first)),
            Err(FetchTrouble::Changed)
        );
        assert_eq!(fs::read(&path).expect("there"), b"my own");
        fs::remove_file(&path).expect("removed");
        assert_eq!(
            write(&folder, "two", Some(&first)),
            Err(FetchTrouble::Changed)
        );
        assert!(!path.exists());
        assert_eq!(drafts(temp.path()), 0);
    }

    /// classic-33, classic-6.
    #[test]
    fn only_files_are_seen_and_links_lead_nowhere() {
        let temp = tempfile::tempdir().expect("a directory");
        fs::create_dir(temp.path().join("folder")).expect("made");
        fs::write(temp.path().join("file"), "x").expect("written");
        symlink("/etc/passwd", temp.path().join("link")).expect("linked");
        let folder = Folder::open(temp.path()).expect("opened");
        let seen: Vec<_> = folder.look().expect("looked").into_keys().collect();
        assert_eq!(seen, [name("file")]);
        for other in ["link", "folder", "none"] {
            assert!(folder.read(&name(other)).is_err(), "{other}");
        }
        let draft = folder.draft().expect("a draft");
        let result = draft.publish(&name("link"), time(1), None);
        assert_eq!(result, Err(FetchTrouble::Changed));
        assert_eq!(folder.read(&name("file")).expect("read").1.size, 1);
    }

    #[test]
    fn one_process_serves_it_and_sweeps_what_was_left() {
        let temp = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(temp.path()).expect("opened");
        assert!(matches!(Folder::open(temp.path()), Err(FolderError::Busy)));
        fs::write(temp.path().join(".ahoy/classic/in-7"), "half").expect("written");
        drop(folder);
        Folder::open(temp.path()).expect("free again");
        assert_eq!(drafts(temp.path()), 0);
    }
}
