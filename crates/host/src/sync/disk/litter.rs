//! What lies in the state directory: how it is named, and what a start does about it.
//!
//! | name in `tmp/` | what | at the next start |
//! |---|---|---|
//! | `in-N` | being written, not yet published | deleted |
//! | `part-HASH` | a download | kept for 7 days |
//! | `out-NODE-MARK` | taken out of the tree, about to be deleted | deleted if it is still what MARK says |
//! | `swap-NODE-MARK-FILE` | before the exchange the new file, after it the old one | deleted if it is FILE or still what MARK says |
//! | `mode-N` | a directory that was made writable for a moment | its mode is set back |
//!
//! The names carry the fingerprints, so a start needs no journal to tell the user's bytes from
//! ours. What was changed while it was being taken away is somebody's work: it is listed as a
//! [`Leftover`] and never deleted here.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ahoy_logic::sync::{Print, Time};
use ahoy_wire::sync::{Hash, Mtime, Name, NodeId, RelPath};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::print::{self, Glance, Kind};
use super::{Root, beneath, walk};

/// How long an unfinished download is kept.
const PART_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// How many free names are tried beside a taken one.
const NAMES_MAX: u32 = 1000;

/// Most bytes of a `mode-N` note.
const NOTE_BYTES_MAX: u64 = 8192;

/// A name for something that is about to be written in `tmp/`. The directory was swept when it
/// was locked, so a counter is enough to be unique.
pub(super) fn incoming() -> Vec<u8> {
    format!("in-{:x}", count()).into_bytes()
}

fn count() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Where the content with this hash is downloaded to.
pub(super) fn part(hash: &Hash) -> Vec<u8> {
    format!("part-{}", hex(&hash.0)).into_bytes()
}

/// Where a node is put before it is deleted.
pub(super) fn aside(node: NodeId, expect: &Print) -> Vec<u8> {
    format!("out-{}-{}", hex(&node.0), mark(expect)).into_bytes()
}

/// Where a file lies that is exchanged for an older one.
pub(super) fn swap(node: NodeId, expect: &Print, staged: &Print) -> Vec<u8> {
    let staged = format!("{:x}-{:x}", staged.inode, staged.birth);
    format!("swap-{}-{}-{staged}", hex(&node.0), mark(expect)).into_bytes()
}

/// Where a node is parked.
pub(super) fn parked(node: NodeId) -> Vec<u8> {
    hex(&node.0).into_bytes()
}

/// Creates the file `name` in `tmp/`; it must not be there.
pub(super) fn create(tmp: impl AsFd, name: &[u8]) -> rustix::io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(tmp, name, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Notes in `tmp/` that the directory `path` had `mode` before it was made writable; the answer
/// is the note's name, to be removed when the mode is back.
pub(super) fn note_mode(root: &Root, path: &RelPath, mode: u16) -> rustix::io::Result<Vec<u8>> {
    let name = format!("mode-{:x}", count()).into_bytes();
    let mut note = create(root.tmp(), &name)?;
    let mut text = format!("{mode:o} ").into_bytes();
    text.extend_from_slice(path.as_bytes());
    note.write_all(&text)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(name)
}

/// Something of the user's that a run which was cut short has left in `tmp/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The node that was being removed or replaced.
    pub node: NodeId,
    /// What lies there: not what was to be removed or replaced.
    pub print: Print,
    name: Vec<u8>,
}

impl Root {
    /// Deletes what a run that was cut short has left and what is nobody's work.
    pub(super) fn sweep(&self) {
        for name in names(self.tmp()) {
            let Ok(glance) = print::glance(self.tmp(), &name, self.device()) else {
                continue;
            };
            match Litter::parse(&name) {
                Some(Litter::Incoming) => remove(self.tmp(), &name, glance.kind),
                Some(Litter::Part(_)) if is_old(&glance) => remove(self.tmp(), &name, glance.kind),
                Some(Litter::Mode) => self.set_mode_back(&name),
                Some(Litter::Out(_, expect)) if expect.fits(&glance.print) => {
                    remove(self.tmp(), &name, glance.kind);
                }
                Some(Litter::Swap(_, expect, staged))
                    if expect.fits(&glance.print)
                        || staged == (glance.print.inode, glance.print.birth) =>
                {
                    remove(self.tmp(), &name, glance.kind);
                }
                Some(Litter::Part(_) | Litter::Out(..) | Litter::Swap(..)) | None => {}
            }
        }
    }

    /// What the sweep did not dare to delete: somebody changed it while it was being removed or
    /// replaced, and the process was killed before it could be put back.
    pub fn leftovers(&self) -> Vec<Leftover> {
        let left = names(self.tmp()).into_iter().filter_map(|name| {
            let node = match Litter::parse(&name)? {
                Litter::Out(node, _) | Litter::Swap(node, ..) => node,
                Litter::Incoming | Litter::Part(_) | Litter::Mode => return None,
            };
            let glance = print::glance(self.tmp(), &name, self.device()).ok()?;
            Some(Leftover {
                node,
                print: glance.print,
                name,
            })
        });
        left.collect()
    }

    /// Deletes a leftover for good.
    pub fn discard(&self, leftover: &Leftover) -> std::io::Result<()> {
        Ok(rustix::fs::unlinkat(
            self.tmp(),
            &*leftover.name,
            AtFlags::empty(),
        )?)
    }

    /// Puts a leftover back at `to`, or under a free name beside it; answers where.
    pub fn restore(&self, leftover: &Leftover, to: &RelPath) -> std::io::Result<RelPath> {
        let (dir, name) = to.split().ok_or(Errno::INVAL)?;
        let fd = beneath::open_dir(self.fd(), &dir, OFlags::PATH)?;
        let name = put_back(self.tmp(), &leftover.name, &fd, &name)?;
        Ok(dir.join(&name).ok_or(Errno::NAMETOOLONG)?)
    }

    /// The parked nodes, and what lies there for them.
    pub fn parked(&self) -> Vec<(NodeId, Print)> {
        let found = names(self.parked_dir()).into_iter().filter_map(|name| {
            let node = NodeId(unhex(std::str::from_utf8(&name).ok()?)?);
            let glance = print::glance(self.parked_dir(), &name, self.device()).ok()?;
            Some((node, glance.print))
        });
        found.collect()
    }

    /// Deletes the unfinished downloads of content that `keep` does not ask for.
    pub fn forget_parts(&self, keep: &dyn Fn(Hash) -> bool) {
        for name in names(self.tmp()) {
            if matches!(Litter::parse(&name), Some(Litter::Part(hash)) if !keep(hash)) {
                remove(self.tmp(), &name, Kind::File);
            }
        }
    }

    fn set_mode_back(&self, note: &[u8]) {
        let Ok(fd) = beneath::open_file(self.tmp(), note, self.device()) else {
            return;
        };
        let mut text = Vec::new();
        if File::from(fd)
            .take(NOTE_BYTES_MAX)
            .read_to_end(&mut text)
            .is_ok()
            && let Some((path, mode)) = parse_note(&text)
            && let Ok(dir) = beneath::open_dir(self.fd(), &path, OFlags::RDONLY)
        {
            let _ = rustix::fs::fchmod(&dir, Mode::from_raw_mode(u32::from(mode)));
        }
        remove(self.tmp(), note, Kind::File);
    }
}

fn parse_note(text: &[u8]) -> Option<(RelPath, u16)> {
    let space = text.iter().position(|b| *b == b' ')?;
    let mode = u16::from_str_radix(std::str::from_utf8(&text[..space]).ok()?, 8).ok()?;
    Some((RelPath::parse(&text[space + 1..]).ok()?, mode & 0o7777))
}

/// Renames `from` in `tmp` to `name` in `dir`, or to a free name made from it.
pub(super) fn put_back(
    tmp: impl AsFd,
    from: &[u8],
    dir: impl AsFd,
    name: &Name,
) -> rustix::io::Result<Name> {
    for number in 0..NAMES_MAX {
        let name = if number == 0 {
            name.clone()
        } else {
            kept_name(name, number)
        };
        match rename_free(&tmp, from, &dir, name.as_bytes()) {
            Ok(()) => return Ok(name),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EXIST)
}

fn kept_name(name: &Name, number: u32) -> Name {
    let tail = format!(".kept-{number}");
    let room = name.as_bytes().len().min(255 - tail.len());
    let bytes = [&name.as_bytes()[..room], tail.as_bytes()].concat();
    Name::new(&bytes).expect("a name with more at its end is a name of 255 bytes at most")
}

/// Renames to a free name; `Errno::EXIST` if it is taken. Where the file system cannot do that
/// in one step, a second name for the same file does it in two.
pub(super) fn rename_free(
    from_dir: impl AsFd,
    from: &[u8],
    to_dir: impl AsFd,
    to: &[u8],
) -> rustix::io::Result<()> {
    match rustix::fs::renameat_with(&from_dir, from, &to_dir, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        answer => return answer,
    }
    match rustix::fs::linkat(&from_dir, from, &to_dir, to, AtFlags::empty()) {
        Ok(()) => rustix::fs::unlinkat(&from_dir, from, AtFlags::empty()),
        // A directory, or a file system without second names: look, then rename.
        Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS | Errno::MLINK) => {
            let there = print::stat(&to_dir, to, AtFlags::SYMLINK_NOFOLLOW);
            match there {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => rustix::fs::renameat(&from_dir, from, &to_dir, to),
                Err(errno) => Err(errno),
            }
        }
        Err(errno) => Err(errno),
    }
}

/// What a name in `tmp/` says.
#[derive(Debug, PartialEq, Eq)]
enum Litter {
    Incoming,
    Part(Hash),
    Mode,
    Out(NodeId, Mark),
    Swap(NodeId, Mark, (u64, Time)),
}

impl Litter {
    fn parse(name: &[u8]) -> Option<Self> {
        let (kind, rest) = std::str::from_utf8(name).ok()?.split_once('-')?;
        let mut words = rest.split('-');
        let litter = match kind {
            "in" => return Some(Self::Incoming),
            "mode" => return Some(Self::Mode),
            "part" => Self::Part(Hash(unhex(words.next()?)?)),
            "out" => Self::Out(NodeId(unhex(words.next()?)?), Mark::parse(&mut words)?),
            "swap" => Self::Swap(
                NodeId(unhex(words.next()?)?),
                Mark::parse(&mut words)?,
                (number(words.next()?)?, time(words.next()?)?),
            ),
            _ => return None,
        };
        words.next().is_none().then_some(litter)
    }
}

/// A fingerprint without the change time, as it stands in a name.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    inode: u64,
    birth: Time,
    size: u64,
    mtime: Mtime,
    mode: u16,
}

fn mark(print: &Print) -> String {
    let Mtime { secs, nanos } = print.mtime;
    let Print {
        inode,
        birth,
        size,
        mode,
        ..
    } = print;
    format!("{inode:x}-{birth:x}-{size:x}-{secs:x}-{nanos:x}-{mode:x}")
}

impl Mark {
    fn parse<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        Some(Self {
            inode: number(words.next()?)?,
            birth: time(words.next()?)?,
            size: number(words.next()?)?,
            mtime: Mtime {
                secs: number(words.next()?)?.cast_signed(),
                nanos: number(words.next()?)?.try_into().ok()?,
            },
            mode: number(words.next()?)?.try_into().ok()?,
        })
    }

    fn fits(&self, print: &Print) -> bool {
        (self.inode, self.birth, self.size) == (print.inode, print.birth, print.size)
            && (self.mtime, self.mode) == (print.mtime, print.mode)
    }
}

fn number(word: &str) -> Option<u64> {
    u64::from_str_radix(word, 16).ok()
}

fn time(word: &str) -> Option<Time> {
    Some(u128::from_str_radix(word, 16).ok()?.cast_signed())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; N];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(bytes)
}

fn names(dir: BorrowedFd<'_>) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    // A descriptor of our own: listing moves the position of the one it reads from.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened: rustix::io::Result<OwnedFd> = rustix::fs::openat(dir, c".", flags, Mode::empty());
    if let Ok(own) = opened {
        let _ = walk::each_name(&own, |name| names.push(name.to_vec()));
    }
    names
}

fn is_old(glance: &Glance) -> bool {
    let age = print::now() - Time::from(glance.print.mtime.secs) * 1_000_000_000;
    age > PART_AGE_MAX.as_nanos().cast_signed()
}

fn remove(dir: BorrowedFd<'_>, name: &[u8], kind: Kind) {
    let flags = if kind == Kind::Dir {
        AtFlags::REMOVEDIR
    } else {
        AtFlags::empty()
    };
    let _ = rustix::fs::unlinkat(dir, name, flags);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn some_print() -> Print {
        Print {
            inode: 77,
            birth: 1_700_000_000_123_456_789,
            size: 5,
            mtime: Mtime {
                secs: -3,
                nanos: 999_999_999,
            },
            ctime: 1,
            mode: 0o4755,
            racy: false,
        }
    }

    #[test]
    fn names_say_what_they_mean() {
        let (node, print) = (NodeId([0xab; 16]), some_print());
        let staged = Print {
            inode: 78,
            birth: 2,
            ..print
        };
        let Some(Litter::Out(said, mark)) = Litter::parse(&aside(node, &print)) else {
            panic!("an aside")
        };
        assert!(said == node && mark.fits(&print) && !mark.fits(&staged));
        let name = swap(node, &print, &staged);
        assert!(name.len() <= 255);
        let Some(Litter::Swap(said, mark, file)) = Litter::parse(&name) else {
            panic!("a swap")
        };
        assert!(said == node && mark.fits(&print) && file == (78, 2));
        let hash = Hash([9; 32]);
        assert_eq!(Litter::parse(&part(&hash)), Some(Litter::Part(hash)));
        assert_eq!(Litter::parse(&incoming()), Some(Litter::Incoming));
        for odd in [
            &b"out-zz-1"[..],
            b"part-00",
            b"swap-",
            b"x",
            b"part-\xff",
            b"out",
        ] {
            assert_eq!(Litter::parse(odd), None);
        }
        let mut longer = aside(node, &print);
        longer.extend_from_slice(b"-1");
        assert_eq!(Litter::parse(&longer), None);
    }

    /// A root whose `tmp/` holds what `fill` puts there, opened anew.
    fn reopened(temp: &std::path::Path, fill: impl FnOnce(&Root, &std::path::Path)) -> Root {
        let root = Root::open(temp).expect("opened");
        fill(&root, &temp.join(".ahoy/tmp"));
        drop(root);
        Root::open(temp).expect("opened again")
    }

    fn names_in(dir: &std::path::Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("listed");
        let name = |e: std::io::Result<fs::DirEntry>| {
            e.expect("an entry")
                .file_name()
                .into_string()
                .expect("our names are text")
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn a_start_deletes_what_is_nobodys_work() {
        let temp = tempfile::tempdir().expect("a directory");
        let tmp = temp.path().join(".ahoy/tmp");
        let node = NodeId([1; 16]);
        let root = reopened(temp.path(), |root, tmp| {
            fs::write(tmp.join("in-1"), b"half").expect("written");
            fs::create_dir(tmp.join("in-2")).expect("made");
            fs::write(tmp.join("a"), b"removed").expect("written");
            let at = |name: &str| {
                print::glance(root.tmp(), name.as_bytes(), root.device())
                    .expect("there")
                    .print
            };
            let name = String::from_utf8(aside(node, &at("a"))).expect("text");
            fs::rename(tmp.join("a"), tmp.join(name)).expect("moved");
            fs::write(tmp.join("b"), b"new").expect("written");
            let name = String::from_utf8(swap(node, &some_print(), &at("b"))).expect("text");
            fs::rename(tmp.join("b"), tmp.join(name)).expect("moved");
            fs::write(tmp.join("c"), b"old").expect("written");
            let name = String::from_utf8(swap(node, &at("c"), &some_print())).expect("text");
            fs::rename(tmp.join("c"), tmp.join(name)).expect("moved");
            fs::write(
                tmp.join(String::from_utf8(part(&Hash([7; 32]))).expect("text")),
                b"p",
            )
            .expect("written");
        });
        let part = String::from_utf8(part(&Hash([7; 32]))).expect("text");
        assert_eq!(names_in(&tmp), [part]);
        assert!(root.leftovers().is_empty());
        root.forget_parts(&|hash| hash == Hash([7; 32]));
        assert_eq!(names_in(&tmp).len(), 1);
        root.forget_parts(&|_| false);
        assert!(names_in(&tmp).is_empty());
    }

    #[test]
    fn an_old_part_goes() {
        let temp = tempfile::tempdir().expect("a directory");
        let name = String::from_utf8(part(&Hash([7; 32]))).expect("text");
        let _root = reopened(temp.path(), |_, tmp| {
            let file = File::create(tmp.join(&name)).expect("made");
            let week = std::time::SystemTime::now() - PART_AGE_MAX - Duration::from_secs(60);
            file.set_modified(week).expect("set");
        });
        assert!(names_in(&temp.path().join(".ahoy/tmp")).is_empty());
    }

    #[test]
    fn what_somebody_changed_meanwhile_is_kept_and_can_be_restored() {
        let temp = tempfile::tempdir().expect("a directory");
        let node = NodeId([1; 16]);
        let root = reopened(temp.path(), |_, tmp| {
            for name in [
                aside(node, &some_print()),
                swap(node, &some_print(), &some_print()),
            ] {
                let name = String::from_utf8(name).expect("text");
                fs::write(tmp.join(name), b"somebody's").expect("written");
            }
        });
        let left = root.leftovers();
        assert_eq!(
            left.iter().map(|l| l.node).collect::<Vec<_>>(),
            [node, node]
        );
        let to = RelPath::parse(b"file").expect("a path");
        fs::write(temp.path().join("file"), b"another").expect("written");
        let at = root.restore(&left[0], &to).expect("restored");
        assert_eq!(at.as_bytes(), b"file.kept-1");
        assert_eq!(
            fs::read(temp.path().join("file.kept-1")).expect("read"),
            b"somebody's"
        );
        root.discard(&left[1]).expect("discarded");
        assert!(root.leftovers().is_empty());
        assert_eq!(
            fs::read(temp.path().join("file")).expect("read"),
            b"another"
        );
    }

    #[test]
    fn a_directory_made_writable_for_a_moment_gets_its_mode_back() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().expect("a directory");
        fs::create_dir(temp.path().join("d")).expect("made");
        let _root = reopened(temp.path(), |root, _| {
            note_mode(root, &RelPath::parse(b"d").expect("a path"), 0o555).expect("noted");
        });
        let mode = fs::metadata(temp.path().join("d"))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o555);
        assert!(names_in(&temp.path().join(".ahoy/tmp")).is_empty());
    }
}
