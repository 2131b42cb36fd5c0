//! What has been taken out of the tree lies in `tmp/` for a moment before it is deleted.
//!
//! Opening a file is two moves of the kernel: it finds what the name stands for, then opens what
//! it found. A program that is between the two shows in no lease and in no count. If it stands
//! there while its file is taken out of the tree, it writes to that file after all looks at it.
//! So there is one more look, when every such program has long arrived, and whatever was written
//! to or is open for writing goes back beside its old place (sync-26).

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ahoy_logic::sync::Print;
use ahoy_wire::sync::{Name, RelPath};
use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;

use super::litter::put_back;
use super::raw::{Lease, Quiet};
use super::{Root, beneath, print};

/// For how long a program may stand between finding a file and opening it.
pub(super) const KEPT: Duration = Duration::from_secs(1);

/// Most files kept at one time; one more, and the oldest is looked at and deleted earlier.
const FILES_MAX: usize = 4096;

/// The files that are about to be deleted, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Displaced(Mutex<VecDeque<File>>);

#[derive(Debug)]
pub(super) struct File {
    /// In `tmp/`.
    pub name: Vec<u8>,
    /// As nobody has touched it.
    pub expect: Print,
    /// Where it was in the tree.
    pub home: RelPath,
    /// When it was taken out.
    pub since: Instant,
}

impl Displaced {
    fn lock(&self) -> MutexGuard<'_, VecDeque<File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the next one can be deleted.
    pub(super) fn due(&self) -> Option<Instant> {
        Some(self.lock().front()?.since + KEPT)
    }

    /// The oldest one, if it has been here for long enough at `now`.
    fn take(&self, now: Instant) -> Option<File> {
        self.lock().pop_front_if(|file| file.since + KEPT <= now)
    }

    /// Takes one more; answers the one that must go for it.
    fn add(&self, file: File) -> Option<File> {
        let mut files = self.lock();
        files.push_back(file);
        if files.len() > FILES_MAX {
            files.pop_front()
        } else {
            None
        }
    }
}

impl Root {
    /// Keeps a file that was taken out of the tree until all that could be on the way to it have
    /// arrived.
    pub(super) fn delete_soon(&self, file: File) {
        if let Some(oldest) = self.displaced().add(file) {
            self.let_go(&oldest);
        }
    }

    /// Deletes what has been kept for long enough at `now`, or puts it back beside its place.
    pub(super) fn delete_due(&self, now: Instant) {
        while let Some(file) = self.displaced().take(now) {
            self.let_go(&file);
        }
    }

    fn let_go(&self, file: &File) {
        if !self.delete_untouched(file) {
            // Where that cannot be, it stays, and the next start finds it.
            let _ = self.put_beside(file);
        }
    }

    /// Deletes a file that nobody has written to and nobody can write to any more; answers
    /// whether it was such a one.
    fn delete_untouched(&self, file: &File) -> bool {
        // A lease is held to the end: nobody else opens it for writing until it is gone.
        let lease = match beneath::open_file(self.tmp(), &file.name, self.device()) {
            Ok(fd) => Lease::take(fd),
            Err(Errno::AGAIN) => Quiet::Writer,
            // Not readable: the fingerprint has to be enough.
            Err(_) => Quiet::Unknown,
        };
        let Ok(now) = print::glance(self.tmp(), &file.name, self.device()) else {
            return true;
        };
        let has_writer = match &lease {
            Quiet::Held(lease) => lease.is_wanted(),
            Quiet::Writer => true,
            Quiet::Unknown => false,
        };
        if has_writer || !now.print.same_but_ctime(&file.expect) {
            return false;
        }
        let _ = rustix::fs::unlinkat(self.tmp(), &*file.name, AtFlags::empty());
        true
    }

    /// Puts it back beside its place, or as near to it as there still are directories.
    fn put_beside(&self, file: &File) -> rustix::io::Result<Name> {
        let (mut dir, name) = file.home.split().ok_or(Errno::INVAL)?;
        loop {
            let put = beneath::open_dir(self.fd(), &dir, OFlags::PATH)
                .and_then(|fd| put_back(self.tmp(), &file.name, fd, &name));
            match (put, dir.split()) {
                (Err(_), Some((above, _))) => dir = above,
                (put, _) => return put,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn scene() -> (tempfile::TempDir, Root) {
        let temp = tempfile::tempdir().expect("a directory");
        let root = Root::open(temp.path()).expect("opened");
        (temp, root)
    }

    /// A file that was at `home` until `since`.
    fn displaced(root: &Root, home: &str, since: Instant) -> std::path::PathBuf {
        let name = format!("out-{}", home.replace('/', "-"));
        let at = root.path().join(".ahoy/tmp").join(&name);
        fs::write(&at, b"old").expect("written");
        let glance = print::glance(root.tmp(), name.as_bytes(), root.device()).expect("there");
        root.delete_soon(File {
            name: name.into_bytes(),
            expect: glance.print,
            home: RelPath::parse(home.as_bytes()).expect("a path"),
            since,
        });
        at
    }

    // sync-26.
    #[test]
    fn what_nobody_touches_goes_when_its_time_has_come() {
        let (_temp, root) = scene();
        let start = Instant::now();
        let first = displaced(&root, "a", start);
        let second = displaced(&root, "b", start + KEPT);
        assert_eq!(root.displaced().due(), Some(start + KEPT));
        root.delete_due(start + KEPT - Duration::from_nanos(1));
        assert!(first.exists());
        root.delete_due(start + KEPT);
        assert!(!first.exists() && second.exists());
        root.delete_due(start + 2 * KEPT);
        assert!(!second.exists() && root.displaced().due().is_none());
    }

    // sync-26.
    #[test]
    fn what_was_written_to_late_comes_back() {
        let (temp, root) = scene();
        let start = Instant::now();
        let at = |name: &str| temp.path().join(name);
        fs::write(at("a"), b"new").expect("written");
        fs::create_dir(at("d")).expect("made");
        let late = displaced(&root, "a", start);
        fs::write(&late, b"written late").expect("written");
        let late = displaced(&root, "d/gone/b", start);
        fs::write(&late, b"its directory is gone").expect("written");
        let late = displaced(&root, "c", start);
        let open = fs::OpenOptions::new().append(true).open(&late);
        let mut open = open.expect("opened");
        root.delete_due(start + KEPT);
        open.write_all(b" and on").expect("written");
        let read = |name: &str| fs::read_to_string(at(name)).expect("there");
        assert_eq!(read("a"), "new");
        assert_eq!(read("a.kept-1"), "written late");
        assert_eq!(read("d/b"), "its directory is gone");
        assert_eq!(read("c"), "old and on");
    }

    #[test]
    fn there_is_an_end_to_how_many_are_kept() {
        let (_temp, root) = scene();
        let start = Instant::now();
        let first = displaced(&root, "first", start);
        for number in 1..FILES_MAX {
            displaced(&root, &number.to_string(), start);
        }
        assert!(first.exists());
        displaced(&root, "last", start);
        assert!(!first.exists());
        assert_eq!(root.displaced().lock().len(), FILES_MAX);
    }
}
