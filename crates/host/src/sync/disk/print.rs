//! Fingerprints: what `statx` says of a name, as the engine wants it.
//!
//! Nothing here follows a link or reads a file.

use std::os::fd::{AsFd, OwnedFd};

use ahoy_logic::sync::{Found, Print, Time};
use ahoy_wire::sync::{Mtime, Target};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxAttributes, StatxFlags};
use rustix::io::{Errno, Result};
use rustix::time::{ClockId, clock_gettime};

/// A change younger than this could be followed by another one with the same time stamps: the
/// kernel's clock for files ticks every 1 to 10 ms.
const TICK: Time = 20_000_000;

/// Some file systems keep whole seconds, FAT every other one.
const COARSE_TICK: Time = 2 * SECOND + TICK;

const SECOND: Time = 1_000_000_000;

/// The kind of a thing on the disk, as far as sync cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Dir,
    File,
    Link,
    /// A device, socket or pipe, or the root of another file system.
    Foreign,
}

/// One look at one thing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glance {
    pub kind: Kind,
    pub print: Print,
    pub owner: u32,
}

/// The device number that a share lives on.
pub(crate) type Device = (u32, u32);

/// Looks at `name` in `dir` without following it.
pub(crate) fn glance(dir: impl AsFd, name: &[u8], device: Device) -> Result<Glance> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    Ok(Glance::of(&stat(dir, name, flags)?, device))
}

/// Looks at what `fd` holds open.
pub(crate) fn glance_open(fd: impl AsFd, device: Device) -> Result<Glance> {
    Ok(Glance::of(&stat(fd, b"", AtFlags::EMPTY_PATH)?, device))
}

/// The raw answer, birth time included.
pub(crate) fn stat(dir: impl AsFd, name: &[u8], flags: AtFlags) -> Result<Statx> {
    rustix::fs::statx(
        dir,
        name,
        flags,
        StatxFlags::BASIC_STATS | StatxFlags::BTIME,
    )
}

impl Glance {
    fn of(stat: &Statx, device: Device) -> Self {
        let mode = u32::from(stat.stx_mode);
        let same_device = (stat.stx_dev_major, stat.stx_dev_minor) == device;
        let mounted = stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
        let kind = match FileType::from_raw_mode(mode) {
            _ if mounted => Kind::Foreign,
            // Only of directories: overlays give the files of each layer a device of their own.
            FileType::Directory if !same_device => Kind::Foreign,
            FileType::Directory => Kind::Dir,
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Link,
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Kind::Foreign,
        };
        let time = |t: rustix::fs::StatxTimestamp| nanoseconds(timestamp(t));
        let has_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        let has_size = matches!(kind, Kind::File | Kind::Link);
        let (ctime, mtime) = (time(stat.stx_ctime), time(stat.stx_mtime));
        Self {
            kind,
            print: Print {
                inode: stat.stx_ino,
                birth: if has_birth { time(stat.stx_btime) } else { 0 },
                size: if has_size { stat.stx_size } else { 0 },
                mtime: timestamp(stat.stx_mtime),
                ctime,
                mode: stat.stx_mode & 0o7777,
                racy: is_racy(ctime, mtime, now()),
            },
            owner: stat.stx_uid,
        }
    }
}

/// One of a file's times.
fn timestamp(stamp: rustix::fs::StatxTimestamp) -> Mtime {
    Mtime {
        secs: stamp.tv_sec,
        nanos: stamp.tv_nsec,
    }
}

/// Since 1970.
pub(super) fn nanoseconds(time: Mtime) -> Time {
    Time::from(time.secs) * SECOND + Time::from(time.nanos)
}

/// Whether a write right now could leave both times as they are. A write sets both to the
/// clock's tick, so an mtime that is old (or was set by hand) gives the next write away, and so
/// does a change time of a clock that has been set back since. Ticks as long as seconds leave time
/// for more: to remove a file and to give another one its inode number, and its mtime by hand.
fn is_racy(ctime: Time, mtime: Time, now: Time) -> bool {
    let is_coarse = ctime % SECOND == 0;
    let tick = if is_coarse { COARSE_TICK } else { TICK };
    let is_fresh = |time: Time| (now - tick..=now + tick).contains(&time);
    is_fresh(ctime) && (is_coarse || is_fresh(mtime))
}

/// The clock that the file system stamps with.
pub(super) fn now() -> Time {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    Time::from(now.tv_sec) * SECOND + Time::from(now.tv_nsec)
}

/// Looks at `name` in `dir` and tells it in the engine's words; errors are among them.
pub(super) fn find(dir: impl AsFd, name: &[u8], device: Device) -> Found {
    let glance = match glance(&dir, name, device) {
        Ok(glance) => glance,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Found::Nothing,
        Err(error) => return Found::Unreadable(words(error)),
    };
    match glance.kind {
        Kind::Dir => Found::Dir(glance.print),
        Kind::File => Found::File(glance.print),
        Kind::Foreign => Found::Foreign,
        Kind::Link => match link(&dir, name, device) {
            Ok((print, target)) => Found::Link(print, target),
            Err(Errno::NOENT) => Found::Nothing,
            Err(error) => Found::Unreadable(words(error)),
        },
    }
}

/// A link's print and target, both of one inode: the target of a link never changes, so it is
/// enough to hold the link open.
fn link(dir: impl AsFd, name: &[u8], device: Device) -> Result<(Print, Target)> {
    let fd = hold(dir, name)?;
    let glance = glance_open(&fd, device)?;
    if glance.kind != Kind::Link {
        return Err(Errno::AGAIN);
    }
    let target = rustix::fs::readlinkat(&fd, c"", Vec::new())?;
    let target = Target::new(target.as_bytes()).ok_or(Errno::NAMETOOLONG)?;
    Ok((glance.print, target))
}

/// Opens `name` in `dir` only to name it: no reading, no following, no side effects.
pub(super) fn hold(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// The system's words for an error, without Rust's "(os error 13)".
pub(crate) fn words(error: Errno) -> String {
    let text = std::io::Error::from(error).to_string();
    text.split(" (os error").next().unwrap_or(&text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fresh_print_can_hide_a_write() {
        let now = 1_000_600_000_000;
        let whole = 1_000_000_000_000;
        let cases = [
            (now, now, true),
            (now - TICK + 1, now - TICK + 1, true),
            (now, now - 1_000_000_000, false),
            (now - 1_000_000_000, now - 1_000_000_000, false),
            (now + 5, now + 5, true),
            // The clock has gone back since.
            (now + 3_600_000_000_000, now + 3_600_000_000_000, false),
            // Whole seconds: a file system with a coarse clock.
            (whole, whole, true),
            (whole - 1_000_000_000, whole - 1_000_000_000, true),
            (whole - 2_000_000_000, whole - 2_000_000_000, false),
            (whole, whole - 3_000_000_000, true),
        ];
        for (ctime, mtime, racy) in cases {
            assert_eq!(is_racy(ctime, mtime, now), racy, "{ctime} {mtime}");
        }
    }

    #[test]
    fn every_kind_of_thing_is_told_apart() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = std::fs::File::open(temp.path()).expect("opened");
        std::fs::write(temp.path().join("file"), b"abc").expect("written");
        std::fs::create_dir(temp.path().join("dir")).expect("made");
        std::os::unix::fs::symlink("no\u{fffd}where", temp.path().join("link")).expect("made");
        let pipe = temp.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR).expect("made");
        let at = stat(&dir, b"", AtFlags::EMPTY_PATH).expect("there");
        let device = (at.stx_dev_major, at.stx_dev_minor);
        let find = |name: &str| find(&dir, name.as_bytes(), device);
        let Found::File(print) = find("file") else {
            panic!("a file")
        };
        assert_eq!(print.size, 3);
        assert!(print.racy && print.inode != 0);
        assert!(matches!(find("dir"), Found::Dir(print) if print.size == 0));
        let Found::Link(_, target) = find("link") else {
            panic!("a link")
        };
        assert_eq!(target.as_bytes(), "no\u{fffd}where".as_bytes());
        assert_eq!(find("pipe"), Found::Foreign);
        assert_eq!(find("nothing"), Found::Nothing);
        let elsewhere = super::find(&dir, b"dir", (device.0, device.1 + 1));
        assert_eq!(elsewhere, Found::Foreign);
    }
}
