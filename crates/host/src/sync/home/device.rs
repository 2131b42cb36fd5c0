//! Who this device is: a secret seed, made once and kept for ever, and a name for people.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ahoy_wire::sync::Label;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::{HomeError, file, random};
use crate::sync::keys::DeviceSeed;

/// Version of `device.json`.
const VERSION: u32 = 1;

/// This device.
#[derive(Clone)]
pub struct Device {
    /// What its keys are made of, one for each share; never leaves this machine.
    pub seed: DeviceSeed,
    /// What people call it: the first line of `device-name` in the configuration, or the host
    /// name.
    pub label: Label,
}

/// `device.json`.
#[derive(Serialize, Deserialize)]
struct OnDisk {
    version: u32,
    seed: String,
}

impl Device {
    pub(super) fn load_or_make(state: &Path, config: &Path) -> Result<Self, HomeError> {
        file::private_dir(state)?;
        let path = state.join("device.json");
        let seed = match file::read(&path)? {
            Some(bytes) => parse(&path, &bytes)?,
            None => make(&path)?,
        };
        Ok(Self {
            seed: DeviceSeed::new(seed),
            label: label(config)?,
        })
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// Makes an identity, or takes the one that another process made in the same moment.
fn make(path: &Path) -> Result<[u8; 32], HomeError> {
    let seed = random()?;
    let content = OnDisk {
        version: VERSION,
        seed: HEXLOWER.encode(&seed),
    };
    let bytes = serde_json::to_vec_pretty(&content).expect("texts and numbers always encode");
    if file::create(path, &bytes)? {
        return Ok(seed);
    }
    let bytes = file::read(path)?;
    parse(
        path,
        &bytes.ok_or_else(|| HomeError::damaged(path, "it vanished"))?,
    )
}

fn parse(path: &Path, bytes: &[u8]) -> Result<[u8; 32], HomeError> {
    keep_private(path)?;
    let content: OnDisk =
        serde_json::from_slice(bytes).map_err(|error| HomeError::damaged(path, error))?;
    if content.version > VERSION {
        return Err(HomeError::Newer {
            path: path.to_owned(),
        });
    }
    let seed = HEXLOWER.decode(content.seed.as_bytes()).ok();
    seed.and_then(|seed| seed.try_into().ok())
        .ok_or_else(|| HomeError::damaged(path, "the seed is not 64 hexadecimal digits"))
}

/// Takes away what a careless copy gave to others.
fn keep_private(path: &Path) -> Result<(), HomeError> {
    let mode = path
        .metadata()
        .map_err(HomeError::refused("read", path))?
        .permissions()
        .mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    tracing::warn!(path = %path.display(), "others could read the device's key; not any more");
    let private = PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, private).map_err(HomeError::refused("protect", path))
}

fn label(config: &Path) -> Result<Label, HomeError> {
    let chosen = file::read(&config.join("device-name"))?.unwrap_or_default();
    let chosen = String::from_utf8_lossy(&chosen)
        .lines()
        .next()
        .unwrap_or("")
        .trim()
        .to_owned();
    if !chosen.is_empty() {
        return Ok(Label::tidy(&chosen));
    }
    let system = rustix::system::uname();
    Ok(Label::tidy(&system.nodename().to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use ahoy_wire::peer::PeerId;
    use ahoy_wire::sync::ReplicaId;

    use super::super::Home;
    use super::*;

    fn id(home: &Home) -> PeerId {
        home.device()
            .expect("a device")
            .seed
            .peer_key(ReplicaId(1))
            .id()
    }

    #[test]
    fn the_identity_is_made_once_and_only_the_user_can_read_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::at(dir.path());
        let first = home.device().expect("a device");
        assert_eq!(id(&home), first.seed.peer_key(ReplicaId(1)).id());
        let state = dir.path().join("state");
        let mode = |path: &Path| path.metadata().expect("a file").permissions().mode() & 0o7777;
        assert_eq!(mode(&state), 0o700);
        assert_eq!(mode(&state.join("device.json")), 0o600);
        let left: Vec<_> = file::names(&state).expect("names");
        assert_eq!(left, ["device.json"]);
        std::fs::set_permissions(state.join("device.json"), PermissionsExt::from_mode(0o644))
            .expect("a mode");
        home.device().expect("a device");
        assert_eq!(mode(&state.join("device.json")), 0o600);
        assert!(!format!("{first:?}").contains("seed"));
    }

    #[test]
    fn many_who_start_at_once_are_one_device() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::at(dir.path());
        let seeds: Vec<_> = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..8).map(|_| scope.spawn(|| id(&home))).collect();
            handles
                .into_iter()
                .map(|handle| handle.join().expect("no panic"))
                .collect()
        });
        assert!(seeds.iter().all(|seed| *seed == seeds[0]));
    }

    #[test]
    fn the_name_is_the_chosen_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::at(dir.path());
        std::fs::create_dir(dir.path().join("config")).expect("a directory");
        std::fs::write(dir.path().join("config/device-name"), "my (old) laptop\n").expect("a file");
        assert_eq!(
            home.device().expect("a device").label.as_str(),
            "my -old- laptop"
        );
    }

    #[test]
    fn damage_and_newer_versions_are_told() {
        let check = |content: &str, newer: bool| {
            let dir = tempfile::tempdir().expect("a directory");
            std::fs::create_dir(dir.path().join("state")).expect("a directory");
            std::fs::write(dir.path().join("state/device.json"), content).expect("a file");
            let error = Home::at(dir.path())
                .device()
                .expect_err("it must be refused");
            assert_eq!(matches!(error, HomeError::Newer { .. }), newer, "{error}");
            assert_eq!(
                matches!(error, HomeError::Damaged { .. }),
                !newer,
                "{error}"
            );
        };
        check("", false);
        check("{\"version\":1,\"seed\":\"abc\"}", false);
        check("{\"version\":2,\"seed\":\"abc\"}", true);
    }
}
