//! Files that have no name yet: what is being written needs none before it is published.
//!
//! A name in `tmp/` that is taken away again at once costs two changes of one directory, for which
//! all writers would wait in turn; and what has no name is gone when the process is. Each costs a
//! descriptor, so there are only so many; and not every file system has them. Who gets none makes
//! a file with a name.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::litter;
use crate::descriptors;

/// Most at one time. Two batches of writing take this many.
const UNNAMED_MAX: usize = 2048;

/// They get this part of the descriptors that the process may have.
const SHARE: usize = 4;

/// How many more there may be; found out when the first one is wanted.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    left: OnceLock<Arc<AtomicUsize>>,
}

/// A file without a name.
#[derive(Debug)]
pub(super) struct Unnamed {
    file: Arc<File>,
    _slot: Slot,
}

#[derive(Debug)]
struct Slot(Arc<AtomicUsize>);

impl Allowance {
    /// A new file on the file system of `tmp`; `None` if that is not to be had.
    pub(super) fn file(&self, tmp: impl AsFd, mode: Mode) -> Option<Unnamed> {
        let left = self.left.get_or_init(|| {
            let most = if can_be_named(&tmp) {
                UNNAMED_MAX.min(descriptors::allowed() / SHARE)
            } else {
                0
            };
            Arc::new(AtomicUsize::new(most))
        });
        let slot = Slot::take(left)?;
        let file = create(tmp, mode).ok()?;
        Some(Unnamed {
            file: Arc::new(file),
            _slot: slot,
        })
    }
}

impl Unnamed {
    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Gives it the free name `name` in `dir`; `Errno::EXIST` if that is taken.
    pub(super) fn link(&self, dir: impl AsFd, name: &[u8]) -> rustix::io::Result<()> {
        link(&self.file, dir, name)
    }
}

impl Slot {
    fn take(left: &Arc<AtomicUsize>) -> Option<Self> {
        let less = |left: usize| left.checked_sub(1);
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .ok()?;
        Some(Self(Arc::clone(left)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Nobody else can open it, whatever its mode says, before it has a name.
fn create(tmp: impl AsFd, mode: Mode) -> rustix::io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(tmp, ".", flags, mode)?.into())
}

/// Whether such files can be made here, and named afterwards: that takes a recent kernel or /proc.
fn can_be_named(tmp: impl AsFd) -> bool {
    let name = litter::incoming();
    let linked = create(&tmp, Mode::RWXU).and_then(|file| link(&file, &tmp, &name));
    linked.is_ok() && rustix::fs::unlinkat(&tmp, &*name, AtFlags::empty()).is_ok()
}

fn link(file: &File, dir: impl AsFd, name: &[u8]) -> rustix::io::Result<()> {
    match rustix::fs::linkat(file, "", &dir, name, AtFlags::EMPTY_PATH) {
        // Before Linux 6.10 only for the privileged.
        Err(Errno::NOENT) => {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::linkat(CWD, path, &dir, name, AtFlags::SYMLINK_FOLLOW)
        }
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_file_gets_its_name_late_and_only_a_free_one() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = File::open(temp.path()).expect("opened");
        let allowance = Allowance::default();
        let unnamed = allowance
            .file(&dir, Mode::RWXU)
            .expect("this file system has them");
        let count = || std::fs::read_dir(temp.path()).expect("listed").count();
        assert_eq!(count(), 0, "not even the one that it was tried with");
        unnamed.file().as_ref().write_all(b"abc").expect("written");
        std::fs::write(temp.path().join("taken"), b"x").expect("written");
        assert_eq!(unnamed.link(&dir, b"taken"), Err(Errno::EXIST));
        unnamed.link(&dir, b"free").expect("named");
        let read = std::fs::read(temp.path().join("free")).expect("there");
        assert_eq!(read, b"abc");
        drop(unnamed);
        let links = std::fs::metadata(temp.path().join("free")).expect("there");
        assert_eq!(links.nlink(), 1);
    }

    #[test]
    fn there_are_only_so_many_and_who_is_done_makes_room() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = File::open(temp.path()).expect("opened");
        let allowance = Allowance::default();
        allowance
            .left
            .set(Arc::new(AtomicUsize::new(2)))
            .expect("not asked for yet");
        let (first, second) = (
            allowance.file(&dir, Mode::RWXU),
            allowance.file(&dir, Mode::RWXU),
        );
        assert!(first.is_some() && second.is_some());
        assert!(allowance.file(&dir, Mode::RWXU).is_none());
        drop(first);
        assert!(allowance.file(&dir, Mode::RWXU).is_some());
    }
}
