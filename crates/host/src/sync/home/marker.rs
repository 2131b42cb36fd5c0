//! The marker `.ahoy/share` in a shared folder: which copy of which share the folder is.
//!
//! It holds no secret: whoever may read the folder may read it. As long as it is there, the folder
//! is what it was, wherever it has been moved to; when it is missing, the disk may not be mounted,
//! and nothing that is missing beside it counts as deleted.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ahoy_wire::sync::{ReplicaId, STATE_DIR};
use ahoy_wire::tracker::ShareId;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::{HomeError, file, replica_from_hex, replica_to_hex};

/// Version of the marker.
const VERSION: u32 = 1;

/// What the marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// Which share.
    pub share: ShareId,
    /// Which copy of it.
    pub replica: ReplicaId,
}

/// `.ahoy/share`.
#[derive(Serialize, Deserialize)]
struct OnDisk {
    version: u32,
    share: String,
    replica: String,
}

impl Marker {
    /// The name of the marker inside [`STATE_DIR`].
    pub const NAME: &str = "share";

    /// What the marker in the folder `root` says; `None` if there is none.
    pub fn read(root: &Path) -> Result<Option<Self>, HomeError> {
        let path = Self::path(root);
        match file::read(&path)? {
            Some(bytes) => Self::parse(&bytes, &path).map(Some),
            None => Ok(None),
        }
    }

    /// Reads the content of a marker; `path` is for the messages.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, HomeError> {
        let content: OnDisk =
            serde_json::from_slice(bytes).map_err(|error| HomeError::damaged(path, error))?;
        if content.version > VERSION {
            return Err(HomeError::Newer {
                path: path.to_owned(),
            });
        }
        let share = HEXLOWER.decode(content.share.as_bytes()).ok();
        let share = share
            .and_then(|bytes| bytes.try_into().ok())
            .map(ShareId::new);
        let replica = replica_from_hex(&content.replica);
        match (share, replica) {
            (Some(share), Some(replica)) => Ok(Self { share, replica }),
            (None, _) | (_, None) => Err(HomeError::damaged(path, "it names no share")),
        }
    }

    pub(super) fn write(&self, root: &Path) -> Result<(), HomeError> {
        let dir = state_dir(root);
        file::private_dir(&dir)?;
        let private = PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&dir, private).map_err(HomeError::refused("protect", &dir))?;
        let content = OnDisk {
            version: VERSION,
            share: HEXLOWER.encode(self.share.as_bytes()),
            replica: replica_to_hex(self.replica),
        };
        let bytes = serde_json::to_vec_pretty(&content).expect("texts and numbers always encode");
        file::replace(&Self::path(root), &bytes)
    }

    fn path(root: &Path) -> PathBuf {
        state_dir(root).join(Self::NAME)
    }
}

/// ahoy's own directory in the folder `root`.
pub fn state_dir(root: &Path) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    root.join(std::ffi::OsStr::from_bytes(STATE_DIR))
}
