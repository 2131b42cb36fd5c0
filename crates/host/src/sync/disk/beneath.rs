//! Opening things beneath the root of a share, and never anywhere else (`sync-28`).
//!
//! Every path from a peer or from an event comes through here. The kernel resolves it with
//! `openat2` under `RESOLVE_BENEATH | NO_SYMLINKS | NO_MAGICLINKS | NO_XDEV`; where that call is
//! missing, names are opened one by one without following. Either way a link swapped in for a
//! directory, at any moment, ends in an error and not outside.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use ahoy_wire::sync::{Name, RelPath};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

use super::print::{self, Device, Glance, Kind};

/// Directories whose descriptors one piece of work keeps open at a time.
const PARENTS_MAX: usize = 256;

/// Paths are resolved in pieces of at most this many bytes: the kernel takes 4095 at once.
const PIECE_BYTES_MAX: usize = 2048;

/// How often a resolution is tried again when a rename elsewhere disturbed it.
const TRIES_MAX: usize = 64;

/// Opens the directory `path` beneath `root`. `how` is `OFlags::PATH` for work on its names, or
/// `OFlags::RDONLY` to list or sync it.
pub(super) fn open_dir(root: BorrowedFd<'_>, path: &RelPath, how: OFlags) -> Result<OwnedFd> {
    let how = how | OFlags::DIRECTORY;
    let mut rest = path.as_bytes();
    let mut base: Option<OwnedFd> = None;
    while rest.len() > PIECE_BYTES_MAX {
        let cut = rest[..PIECE_BYTES_MAX].iter().rposition(|b| *b == b'/');
        let cut = cut.expect("names are at most 255 bytes long");
        let from = base.as_ref().map_or(root, AsFd::as_fd);
        base = Some(resolve(
            from,
            &rest[..cut],
            OFlags::PATH | OFlags::DIRECTORY,
        )?);
        rest = &rest[cut + 1..];
    }
    let from = base.as_ref().map_or(root, AsFd::as_fd);
    resolve(from, if rest.is_empty() { b"." } else { rest }, how)
}

/// How a file is opened for reading. Without `O_NONBLOCK` a pipe put there by somebody would hold
/// us up for ever.
const READING: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// Opens the regular file `name` in `dir` for reading; `Errno::INVAL` if it is anything else.
pub(crate) fn open_file(dir: impl AsFd, name: &[u8], device: Device) -> Result<OwnedFd> {
    only_file(open_to_read(dir, name)?, device).map(|(fd, _)| fd)
}

/// Opens the regular file `path` beneath `root` for reading, with what it looked like then;
/// `Errno::INVAL` if it is anything else.
pub(super) fn open_file_at(
    root: BorrowedFd<'_>,
    path: &RelPath,
    device: Device,
) -> Result<(OwnedFd, Glance)> {
    let (dir, name) = path.split().ok_or(Errno::INVAL)?;
    let fd = if path.as_bytes().len() <= PIECE_BYTES_MAX && has_openat2() {
        unnoticed(|how| in_one_go(root, path.as_bytes(), how))?
    } else {
        open_to_read(open_dir(root, &dir, OFlags::PATH)?, name.as_bytes())?
    };
    only_file(fd, device)
}

fn open_to_read(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = |how| how | OFlags::CLOEXEC;
    unnoticed(|how| rustix::fs::openat(&dir, name, flags(how), Mode::empty()))
}

/// Opens for reading so that the file's access time stays what it is, where we may: when its user
/// last read it is not ours to say, and noting it costs a write for each file. Only its owner may
/// ask for that.
fn unnoticed(open: impl Fn(OFlags) -> Result<OwnedFd>) -> Result<OwnedFd> {
    match open(READING | OFlags::NOATIME) {
        Err(Errno::PERM) => open(READING),
        answer => answer,
    }
}

fn only_file(fd: OwnedFd, device: Device) -> Result<(OwnedFd, Glance)> {
    let glance = print::glance_open(&fd, device)?;
    match glance.kind {
        Kind::File => Ok((fd, glance)),
        Kind::Dir | Kind::Link | Kind::Foreign => Err(Errno::INVAL),
    }
}

fn resolve(from: BorrowedFd<'_>, path: &[u8], how: OFlags) -> Result<OwnedFd> {
    if has_openat2() {
        in_one_go(from, path, how)
    } else {
        name_by_name(from, path, how)
    }
}

fn in_one_go(from: BorrowedFd<'_>, path: &[u8], how: OFlags) -> Result<OwnedFd> {
    let within = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let flags = how | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..TRIES_MAX {
        match rustix::fs::openat2(from, path, flags, Mode::empty(), within) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            answer => return answer,
        }
    }
    Err(Errno::AGAIN)
}

/// The same guarantee without `openat2`: no step follows a link, and none can lead upwards
/// because no name of a [`RelPath`] is `..`.
fn name_by_name(from: BorrowedFd<'_>, path: &[u8], how: OFlags) -> Result<OwnedFd> {
    let device = {
        let at = print::stat(from, b"", rustix::fs::AtFlags::EMPTY_PATH)?;
        (at.stx_dev_major, at.stx_dev_minor)
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut here: Option<OwnedFd> = None;
    for name in path.split(|b| *b == b'/') {
        let dir = here.as_ref().map_or(from, AsFd::as_fd);
        let next = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        if name != b"." && print::glance_open(&next, device)?.kind != Kind::Dir {
            return Err(Errno::XDEV);
        }
        here = Some(next);
    }
    let dir = here.ok_or(Errno::NOENT)?;
    if how.contains(OFlags::PATH) {
        return Ok(dir);
    }
    rustix::fs::openat(&dir, c".", how | OFlags::CLOEXEC, Mode::empty())
}

/// Whether the kernel knows `openat2` and lets us use it. Some containers answer EPERM for
/// system calls that they do not know.
fn has_openat2() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(rustix::fs::CWD, c"/", flags, Mode::empty(), resolve).is_ok()
    })
}

/// Descriptors of the directories that one batch of work uses. It lives no longer than the batch:
/// a directory that somebody moves out of the share must not go on being written to.
#[derive(Default)]
pub(super) struct Parents {
    open: HashMap<RelPath, Arc<OwnedFd>>,
}

impl Parents {
    /// The directory `path`, opened now or earlier in this batch.
    pub(super) fn dir(&mut self, root: BorrowedFd<'_>, path: &RelPath) -> Result<Arc<OwnedFd>> {
        if let Some(fd) = self.open.get(path) {
            return Ok(Arc::clone(fd));
        }
        let fd = Arc::new(open_dir(root, path, OFlags::PATH)?);
        if self.open.len() >= PARENTS_MAX {
            self.open.clear();
        }
        self.open.insert(path.clone(), Arc::clone(&fd));
        Ok(fd)
    }

    /// The directory that `path` is in, and its name there; `Errno::INVAL` for the root.
    pub(super) fn parent(
        &mut self,
        root: BorrowedFd<'_>,
        path: &RelPath,
    ) -> Result<(RelPath, Arc<OwnedFd>, Name)> {
        let (dir, name) = path.split().ok_or(Errno::INVAL)?;
        let fd = self.dir(root, &dir)?;
        Ok((dir, fd, name))
    }

    /// Forgets everything: some directory has moved or gone.
    pub(super) fn forget(&mut self) {
        self.open.clear();
    }
}

/// Whether `path` is `top` or below it.
pub(super) fn is_within(path: &RelPath, top: &RelPath) -> bool {
    let (path, top) = (path.as_bytes(), top.as_bytes());
    top.is_empty()
        || path
            .strip_prefix(top)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// What `path`, which is `from` or below it, is called when `from` has become `to`; `None` if it
/// is elsewhere or would be too long.
pub(super) fn rebase(path: &RelPath, from: &RelPath, to: &RelPath) -> Option<RelPath> {
    if from.is_root() || !is_within(path, from) {
        return None;
    }
    let rest = &path.as_bytes()[from.as_bytes().len()..];
    let rest = if to.is_root() {
        rest.strip_prefix(b"/").unwrap_or(rest)
    } else {
        rest
    };
    RelPath::parse(&[to.as_bytes(), rest].concat()).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn path(text: &[u8]) -> RelPath {
        RelPath::parse(text).expect("a good path")
    }

    /// Both ways to resolve, on one tree.
    fn check(dir: &std::path::Path, inside: &str, want: std::result::Result<(), &[Errno]>) {
        let root = fs::File::open(dir).expect("opened");
        for how in [OFlags::PATH, OFlags::RDONLY] {
            let how = how | OFlags::DIRECTORY;
            let ways = [
                ("openat2", in_one_go(root.as_fd(), inside.as_bytes(), how)),
                (
                    "by name",
                    name_by_name(root.as_fd(), inside.as_bytes(), how),
                ),
            ];
            for (way, got) in ways {
                match (&got, want) {
                    (Ok(_), Ok(())) => {}
                    (Err(error), Err(allowed)) if allowed.contains(error) => {}
                    _ => panic!("{inside} {way}: {got:?}, wanted {want:?}"),
                }
            }
        }
    }

    #[test]
    fn links_lead_nowhere() {
        let outside = tempfile::tempdir().expect("a directory");
        fs::create_dir(outside.path().join("deep")).expect("made");
        let temp = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(temp.path().join("a/b")).expect("made");
        std::os::unix::fs::symlink(outside.path(), temp.path().join("out")).expect("made");
        std::os::unix::fs::symlink("a", temp.path().join("in")).expect("made");
        fs::write(temp.path().join("file"), b"").expect("written");
        check(temp.path(), "a/b", Ok(()));
        check(temp.path(), ".", Ok(()));
        check(temp.path(), "a/none", Err(&[Errno::NOENT]));
        check(temp.path(), "file", Err(&[Errno::NOTDIR]));
        for link in ["out", "out/deep", "in", "in/b"] {
            check(temp.path(), link, Err(&[Errno::LOOP, Errno::NOTDIR]));
        }
    }

    #[test]
    fn the_longest_paths_open() {
        let temp = tempfile::tempdir().expect("a directory");
        let root = fs::File::open(temp.path()).expect("opened");
        let name = [b'n'; 255];
        let mut long = Vec::new();
        let mut here: OwnedFd = root.try_clone().expect("cloned").into();
        while long.len() + 256 <= ahoy_wire::sync::PATH_BYTES_MAX {
            rustix::fs::mkdirat(&here, &name[..], Mode::RWXU).expect("made");
            let next = OFlags::PATH | OFlags::DIRECTORY;
            here = rustix::fs::openat(&here, &name[..], next, Mode::empty()).expect("opened");
            if !long.is_empty() {
                long.push(b'/');
            }
            long.extend_from_slice(&name);
        }
        assert!(long.len() > 4000);
        open_dir(root.as_fd(), &path(&long), OFlags::RDONLY).expect("opened");
    }

    #[test]
    fn paths_below_a_renamed_directory() {
        let cases = [
            ("a/b/c", "a/b", "z", Some("z/c")),
            ("a/b", "a/b", "z/y", Some("z/y")),
            ("a/bc", "a/b", "z", None),
            ("a", "a/b", "z", None),
            ("a/b", "a", "", Some("b")),
            ("a", "", "z", None),
        ];
        for (at, from, to, want) in cases {
            assert_eq!(
                rebase(
                    &path(at.as_bytes()),
                    &path(from.as_bytes()),
                    &path(to.as_bytes())
                ),
                want.map(|want| path(want.as_bytes()))
            );
        }
    }

    #[test]
    fn a_link_or_pipe_is_not_a_file() {
        let temp = tempfile::tempdir().expect("a directory");
        let root = fs::File::open(temp.path()).expect("opened");
        fs::write(temp.path().join("file"), b"x").expect("written");
        std::os::unix::fs::symlink("file", temp.path().join("link")).expect("made");
        let pipe = temp.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR).expect("made");
        let at = print::stat(&root, b"", rustix::fs::AtFlags::EMPTY_PATH).expect("there");
        let device = (at.stx_dev_major, at.stx_dev_minor);
        assert!(open_file(&root, b"file", device).is_ok());
        for other in [&b"link"[..], b"pipe", b"."] {
            assert!(open_file(&root, other, device).is_err());
        }
    }
}
