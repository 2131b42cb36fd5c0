//! Confinement by Landlock (`sync-37`): once it is set up, a process that syncs can open nothing
//! but its folders, its own state, and what finding names and times takes. Whatever a peer may
//! bring it to do, the kernel refuses the rest.
//!
//! A second wall behind descriptor-relative paths, not a replacement. Where the kernel has no
//! Landlock, or one that does not know of renames between directories, there is only the first.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, path_beneath_rules,
};
use serde::{Deserialize, Serialize};

/// What is read outside, where it is there: names of hosts (which can change at any time), time
/// zones, and which start of the machine this is. Nothing of the user's.
const READABLE: [&str; 10] = [
    "/etc",
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/zoneinfo",
    "/proc/sys/kernel/random/boot_id",
];

/// The least that is needed: older ones refuse every rename from one directory to another.
const LEAST: ABI = ABI::V2;

/// The most that is asked for, as far as the kernel has it.
const MOST: ABI = ABI::V5;

static LEVEL: OnceLock<Confinement> = OnceLock::new();

/// How far this process is confined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "landlock", rename_all = "snake_case")]
pub enum Confinement {
    /// The kernel refuses everything outside.
    On {
        /// Landlock's version.
        version: u32,
    },
    /// There is only the program's own care.
    Off {
        /// Why.
        reason: String,
    },
}

impl Confinement {
    fn off(reason: impl Into<String>) -> Self {
        Self::Off {
            reason: reason.into(),
        }
    }
}

/// Confines this thread, and all that it starts from now on, to these directories and all below.
/// To be called once, before there are other threads. `state` may be read and written like
/// `folders`.
pub fn confine(folders: &[PathBuf], state: &[PathBuf]) -> Confinement {
    let everything: Vec<&Path> = folders.iter().chain(state).map(PathBuf::as_path).collect();
    let level = restrict(&everything).unwrap_or_else(Confinement::off);
    LEVEL.get_or_init(|| level).clone()
}

/// The user wants none.
pub fn leave_open() -> Confinement {
    let level = || Confinement::off("switched off with --no-landlock");
    LEVEL.get_or_init(level).clone()
}

/// How far this process is confined.
pub fn level() -> Confinement {
    let none = || Confinement::off("this program does not ask for it");
    LEVEL.get().cloned().unwrap_or_else(none)
}

fn restrict(writable: &[&Path]) -> Result<Confinement, String> {
    let words = |error: RulesetError| {
        if matches!(error, RulesetError::HandleAccesses(_)) {
            // The kernel has less than the least.
            "the kernel has no Landlock, or an old one (Linux 5.19 has what is needed)".to_owned()
        } else {
            error.to_string()
        }
    };
    // Nothing is executed here, not even from the folders.
    let all: BitFlags<AccessFs> = AccessFs::from_all(MOST) & !AccessFs::Execute;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules = Vec::new();
    for path in writable {
        let opened = PathFd::new(path).map_err(|error| error.to_string())?;
        rules.push(Ok::<_, RulesetError>(PathBeneath::new(opened, all)));
    }
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(LEAST))
        .map_err(words)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(MOST))
        .and_then(Ruleset::create)
        .and_then(|ruleset| ruleset.add_rules(rules))
        .and_then(|ruleset| ruleset.add_rules(path_beneath_rules(READABLE, read)))
        .and_then(|ruleset| ruleset.restrict_self())
        .map_err(words)?;
    match status.landlock {
        LandlockStatus::Available {
            effective_abi,
            kernel_abi,
        } => {
            let version = kernel_abi.map_or(effective_abi as u32, i32::unsigned_abs);
            Ok(Confinement::On { version })
        }
        LandlockStatus::NotEnabled => Err("Landlock is not enabled in this kernel".to_owned()),
        LandlockStatus::NotImplemented => Err("the kernel has no Landlock".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;

    use super::*;

    /// The test's own thread is confined, and nothing else of this process.
    #[test]
    fn what_is_inside_works_and_what_is_outside_does_not() {
        let inside = tempfile::tempdir().expect("a directory");
        let outside = tempfile::tempdir().expect("a directory");
        let (a, b) = (inside.path().join("a"), inside.path().join("b"));
        fs::create_dir(&a).expect("made");
        fs::create_dir(&b).expect("made");
        fs::write(outside.path().join("secret"), "s").expect("written");
        let thread = std::thread::spawn(move || {
            match restrict(&[inside.path()]) {
                // A kernel that lacks it says so.
                Err(reason) => return assert!(!reason.is_empty()),
                Ok(level) => assert!(matches!(level, Confinement::On { version: 2.. })),
            }
            fs::write(a.join("f"), "content").expect("inside");
            fs::rename(a.join("f"), b.join("g")).expect("between directories");
            fs::hard_link(b.join("g"), a.join("h")).expect("likewise");
            assert_eq!(fs::read(a.join("h")).expect("inside"), b"content");
            fs::remove_file(a.join("h")).expect("inside");
            fs::read("/etc/hosts").expect("names of hosts");
            let refused = |error: std::io::Error| error.kind() == ErrorKind::PermissionDenied;
            let secret = outside.path().join("secret");
            assert!(fs::read(&secret).is_err_and(refused));
            assert!(fs::write(outside.path().join("new"), "").is_err_and(refused));
            assert!(fs::write("/etc/ahoy-was-here", "").is_err_and(refused));
            assert!(fs::remove_file(&secret).is_err_and(refused));
            std::os::unix::fs::symlink(&secret, a.join("link")).expect("inside");
            assert!(fs::read(a.join("link")).is_err_and(refused));
        });
        thread.join().expect("it holds");
    }
}
