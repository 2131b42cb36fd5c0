//! What lies in the state directory, and how it is named.
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
//! ours. The start itself is in [`super::sweep`].

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use ahoy_logic::sync::{Print, Time};
use ahoy_wire::sync::{Hash, Mtime, Name, NodeId, RelPath};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::Root;
use super::print;

/// How many free names are tried beside a taken one.
const NAMES_MAX: u32 = 1000;

/// A name for something that is about to be written in `tmp/`. The directory was swept when it
/// was locked, so a counter is enough to be unique.
pub(crate) fn incoming() -> Vec<u8> {
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
pub(crate) fn create(tmp: impl AsFd, name: &[u8]) -> rustix::io::Result<File> {
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
pub(crate) fn rename_free(
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
pub(super) enum Litter {
    Incoming,
    Part(Hash),
    Mode,
    Out(NodeId, Mark),
    Swap(NodeId, Mark, (u64, Time)),
}

impl Litter {
    pub(super) fn parse(name: &[u8]) -> Option<Self> {
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
pub(super) struct Mark {
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

    pub(super) fn fits(&self, print: &Print) -> bool {
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; N];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn some_print() -> Print {
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
}
