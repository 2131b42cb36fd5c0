//! The start: deleting what a run that was cut short has left, and finding what is the user's.

use std::fs::File;
use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use ahoy_logic::sync::{Print, Time};
use ahoy_wire::sync::{Hash, NodeId, RelPath};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::litter::{Litter, put_back, unhex};
use super::print::{self, Glance, Kind};
use super::{Root, beneath, walk};

/// How long an unfinished download is kept.
const PART_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Most bytes of a `mode-N` note.
const NOTE_BYTES_MAX: u64 = 8192;

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

    /// Deletes the unfinished downloads of content that `keep` does not ask for and that is not
    /// being brought in right now.
    pub fn forget_parts(&self, keep: &dyn Fn(Hash) -> bool) {
        // Held to the end: whoever begins to bring one in waits until it is deleted.
        let busy = self.busy();
        let unwanted = |hash: &Hash| !busy.contains(hash) && !keep(*hash);
        for name in names(self.tmp()) {
            if matches!(Litter::parse(&name), Some(Litter::Part(hash)) if unwanted(&hash)) {
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

    use super::super::litter::tests::some_print;
    use super::super::litter::{aside, note_mode, part, swap};
    use super::*;

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
