//! Where ahoy keeps what is not in the shared folder: who this device is, and one record for each
//! share. Follows the XDG directories, or one directory named by `AHOY_HOME`.
//!
//! ```text
//! config   device-name                         optional: one line instead of the host name
//! state    device.json                         the device's identity
//!          shares/<replica>/share.json         a ShareRecord
//!          shares/<replica>/index.db           the engine's rows
//!          shares/<replica>/lock               one process for one copy of a share
//! runtime  <replica>.sock                      the control socket of a running share
//! DIR      .ahoy/share                         the Marker: which copy of which share DIR is
//!          .ahoy/lock                          one process for one folder
//! ```
//!
//! Nothing here listens, syncs or decides about files; it finds, checks and keeps. Identity stands
//! in the state directory, not in the configuration, because people copy their configuration from
//! machine to machine, and two machines must never be the same device.

mod claim;
mod device;
mod error;
mod file;
mod marker;
mod record;

use std::path::{Path, PathBuf};

use ahoy_wire::sync::ReplicaId;

use crate::sync::keys;

pub use claim::{Claim, NewShare, OpenError};
pub use device::Device;
pub use error::HomeError;
pub use marker::Marker;
pub use record::{KNOWN_PEERS_MAX, KnownPeer, PEER_ADDRESSES_MAX, ShareRecord, TrackerChoice};

/// The environment variable that puts everything under one directory: for tests, and for several
/// devices on one machine.
pub const HOME_VARIABLE: &str = "AHOY_HOME";

/// The directories of one device.
#[derive(Debug, Clone)]
pub struct Home {
    config: PathBuf,
    state: PathBuf,
    /// Where sockets go; the first is for new ones, all are searched.
    runtime: Vec<PathBuf>,
}

impl Home {
    /// The user's own, from the environment.
    pub fn from_env() -> Result<Self, HomeError> {
        if let Some(all) = absolute(HOME_VARIABLE) {
            return Ok(Self::at(&all));
        }
        if std::env::var_os(HOME_VARIABLE).is_some_and(|value| !value.is_empty()) {
            return Err(HomeError::NotAbsolute);
        }
        let user = std::env::home_dir().filter(|dir| dir.is_absolute());
        let or_below_home = |variable, below: &str| {
            let fallback = user.as_ref().map(|dir| dir.join(below));
            absolute(variable).or(fallback).ok_or(HomeError::NoHome)
        };
        let state = or_below_home("XDG_STATE_HOME", ".local/state")?.join("ahoy");
        let uid = rustix::process::getuid().as_raw();
        // A login shell has the variable, a cron job has not: both must find the same sockets.
        let mut runtime: Vec<PathBuf> = absolute("XDG_RUNTIME_DIR")
            .into_iter()
            .chain(Some(PathBuf::from(format!("/run/user/{uid}"))).filter(|dir| dir.is_dir()))
            .map(|dir| dir.join("ahoy"))
            .collect();
        runtime.push(state.join("run"));
        runtime.dedup();
        Ok(Self {
            config: or_below_home("XDG_CONFIG_HOME", ".config")?.join("ahoy"),
            state,
            runtime,
        })
    }

    /// Everything below `dir`, which must be absolute.
    pub fn at(dir: &Path) -> Self {
        Self {
            config: dir.join("config"),
            state: dir.join("state"),
            runtime: vec![dir.join("run")],
        }
    }

    /// The directories in which a running share keeps its own things; they are made if they are not
    /// there.
    pub fn own_dirs(&self) -> Result<Vec<PathBuf>, HomeError> {
        let dirs = vec![
            self.state.clone(),
            self.config.clone(),
            self.runtime[0].clone(),
        ];
        for dir in &dirs {
            file::private_dir(dir)?;
        }
        Ok(dirs)
    }

    /// This device; its identity is made the first time.
    pub fn device(&self) -> Result<Device, HomeError> {
        Device::load_or_make(&self.state, &self.config)
    }

    /// The records of all shares of this device, by replica. A record that cannot be read is an
    /// error of its own place in the list, so that one damaged file does not hide the others.
    pub fn records(&self) -> Result<Vec<Result<ShareRecord, HomeError>>, HomeError> {
        let mut found = Vec::new();
        for name in file::names(&self.shares())? {
            let Some(replica) = name.to_str().and_then(replica_from_hex) else {
                continue;
            };
            match ShareRecord::load(&self.share_dir(replica)) {
                Ok(Some(record)) => found.push(Ok(record)),
                Ok(None) => {}
                Err(error) => found.push(Err(error)),
            }
        }
        Ok(found)
    }

    /// Where a new control socket of `replica` goes; makes the directory.
    pub fn socket_path(&self, replica: ReplicaId) -> Result<PathBuf, HomeError> {
        let dir = &self.runtime[0];
        file::private_dir(dir)?;
        Ok(dir.join(format!("{}.sock", replica_to_hex(replica))))
    }

    /// All control sockets there are, live and stale.
    pub fn sockets(&self) -> Result<Vec<PathBuf>, HomeError> {
        let mut found: Vec<PathBuf> = Vec::new();
        for dir in &self.runtime {
            for name in file::names(dir)? {
                let stem = name.to_str().and_then(|name| name.strip_suffix(".sock"));
                if stem.and_then(replica_from_hex).is_some() {
                    found.push(dir.join(name));
                }
            }
        }
        Ok(found)
    }

    fn shares(&self) -> PathBuf {
        self.state.join("shares")
    }

    fn share_dir(&self, replica: ReplicaId) -> PathBuf {
        self.shares().join(replica_to_hex(replica))
    }
}

/// A directory from the environment; relative ones are ignored, as XDG demands.
fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

fn replica_to_hex(replica: ReplicaId) -> String {
    format!("{:016x}", replica.0)
}

fn replica_from_hex(text: &str) -> Option<ReplicaId> {
    let plain = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    plain
        .then(|| u64::from_str_radix(text, 16).ok().map(ReplicaId))
        .flatten()
}

/// Fresh bytes from the system's generator.
fn random<const N: usize>() -> Result<[u8; N], HomeError> {
    keys::random_bytes().map_err(|keys::NoRandomness| HomeError::NoRandomness)
}
