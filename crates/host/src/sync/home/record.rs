//! What this device keeps of one share beside the index: the capability, the folder, and where the
//! others were last seen.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use ahoy_logic::tracker::Reserve;
use ahoy_wire::peer::PeerId;
use ahoy_wire::sync::{Capability, Label, ReadKey, ReplicaId, Secret, WritePublic};
use ahoy_wire::ticket::{ShareName, TrackerAddress};
use ahoy_wire::tracker::ShareId;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::super::limits::Caps;
use super::{HomeError, file, replica_from_hex, replica_to_hex};

/// Version of `share.json`.
const VERSION: u32 = 1;

/// Most peers that are remembered; those seen last are kept.
pub const KNOWN_PEERS_MAX: usize = 256;

/// Most addresses that are remembered of one peer; the first are kept.
pub const PEER_ADDRESSES_MAX: usize = 8;

/// Everything about one copy of a share that is not in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareRecord {
    /// Which copy.
    pub replica: ReplicaId,
    /// What this device may do.
    pub capability: Capability,
    /// What the share is called here.
    pub name: ShareName,
    /// The folder, absolute and without links, where it was last seen.
    pub root: PathBuf,
    /// Its inode number: tells the folder from a copy when both are there.
    pub root_inode: u64,
    /// Where the peers find each other.
    pub tracker: TrackerChoice,
    /// Where it listened last, so that tickets and remembered addresses stay good.
    pub listen: Vec<SocketAddr>,
    /// Where the embedded tracker listened last.
    pub tracker_listen: Vec<SocketAddr>,
    /// Whether it looks for peers on the local network.
    pub mdns: bool,
    /// How fast a process that syncs it may be.
    pub limits: Caps,
    /// A number above all that its announcements have had.
    pub announced: Reserve,
    /// Those who were there, last seen first; at most [`KNOWN_PEERS_MAX`].
    pub peers: Vec<KnownPeer>,
    /// An index has been made: from then on its loss is noticed.
    pub indexed: bool,
}

/// Where the peers of a share find each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrackerChoice {
    /// This process runs a tracker for them.
    Embedded,
    /// These trackers, run by somebody else; none at all if the list is empty.
    Named(Vec<TrackerAddress>),
}

/// A peer that was there once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPeer {
    /// Which device.
    pub id: PeerId,
    /// What it called itself; empty if it has not been met yet.
    pub label: Label,
    /// Where it was reached, best first; at most [`PEER_ADDRESSES_MAX`].
    pub addresses: Vec<SocketAddr>,
    /// When it was last connected, seconds since 1970; 0 if never.
    pub seen_at_secs: u64,
}

impl ShareRecord {
    /// Which share.
    pub fn share_id(&self) -> ShareId {
        self.capability.read_key().share_id()
    }

    /// Adds or replaces what is known of a peer, as the one seen last.
    pub fn remember(&mut self, mut peer: KnownPeer) {
        peer.addresses.truncate(PEER_ADDRESSES_MAX);
        self.peers.retain(|known| known.id != peer.id);
        self.peers.insert(0, peer);
        self.peers.truncate(KNOWN_PEERS_MAX);
    }

    pub(super) fn load(dir: &Path) -> Result<Option<Self>, HomeError> {
        let path = dir.join("share.json");
        let Some(bytes) = file::read(&path)? else {
            return Ok(None);
        };
        let content: OnDisk =
            serde_json::from_slice(&bytes).map_err(|error| HomeError::damaged(&path, error))?;
        if content.version > VERSION {
            return Err(HomeError::Newer { path });
        }
        let record = content.into_record();
        record
            .map(Some)
            .map_err(|field| HomeError::damaged(&path, format!("{field} is wrong")))
    }

    pub(super) fn save(&self, dir: &Path) -> Result<(), HomeError> {
        let content = OnDisk::of(self);
        let bytes = serde_json::to_vec_pretty(&content).expect("texts and numbers always encode");
        file::replace(&dir.join("share.json"), &bytes)
    }
}

/// `share.json`: plain texts, so that a person can read it and repair it.
#[derive(Serialize, Deserialize)]
struct OnDisk {
    version: u32,
    replica: String,
    name: String,
    capability: CapabilityOnDisk,
    root: RootOnDisk,
    root_inode: u64,
    /// Absent: embedded.
    trackers: Option<Vec<String>>,
    listen: Vec<SocketAddr>,
    tracker_listen: Vec<SocketAddr>,
    mdns: bool,
    #[serde(default)]
    limits: Caps,
    #[serde(default)]
    announced: u64,
    indexed: bool,
    peers: Vec<PeerOnDisk>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CapabilityOnDisk {
    ReadWrite { secret: String },
    ReadOnly { read: String, write: String },
}

/// A path is text nearly always; the other ones are kept exactly too.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum RootOnDisk {
    Text(String),
    Bytes { hex: String },
}

#[derive(Serialize, Deserialize)]
struct PeerOnDisk {
    id: String,
    label: String,
    addresses: Vec<SocketAddr>,
    seen_at_secs: u64,
}

impl OnDisk {
    fn of(record: &ShareRecord) -> Self {
        let capability = match &record.capability {
            Capability::ReadWrite(secret) => CapabilityOnDisk::ReadWrite {
                secret: HEXLOWER.encode(secret.as_bytes()),
            },
            Capability::ReadOnly { read, write } => CapabilityOnDisk::ReadOnly {
                read: HEXLOWER.encode(read.as_bytes()),
                write: HEXLOWER.encode(&write.0),
            },
        };
        let root = match record.root.to_str() {
            Some(text) => RootOnDisk::Text(text.into()),
            None => RootOnDisk::Bytes {
                hex: HEXLOWER.encode(record.root.as_os_str().as_bytes()),
            },
        };
        let trackers = match &record.tracker {
            TrackerChoice::Embedded => None,
            TrackerChoice::Named(list) => Some(list.iter().map(|t| t.as_str().into()).collect()),
        };
        let peers = record.peers.iter().map(|peer| PeerOnDisk {
            id: peer.id.to_string(),
            label: peer.label.as_str().into(),
            addresses: peer.addresses.clone(),
            seen_at_secs: peer.seen_at_secs,
        });
        Self {
            version: VERSION,
            replica: replica_to_hex(record.replica),
            name: record.name.as_str().into(),
            capability,
            root,
            root_inode: record.root_inode,
            trackers,
            listen: record.listen.clone(),
            tracker_listen: record.tracker_listen.clone(),
            mdns: record.mdns,
            limits: record.limits,
            announced: record.announced.get(),
            indexed: record.indexed,
            peers: peers.collect(),
        }
    }

    /// The record, or the name of the field that makes no sense.
    fn into_record(self) -> Result<ShareRecord, &'static str> {
        let capability = match self.capability {
            CapabilityOnDisk::ReadWrite { secret } => {
                Capability::ReadWrite(Secret::new(key(&secret)?))
            }
            CapabilityOnDisk::ReadOnly { read, write } => Capability::ReadOnly {
                read: ReadKey::new(key(&read)?),
                write: WritePublic(key(&write)?),
            },
        };
        let root = match self.root {
            RootOnDisk::Text(text) => PathBuf::from(text),
            RootOnDisk::Bytes { hex } => {
                let bytes = HEXLOWER.decode(hex.as_bytes()).map_err(|_| "the folder")?;
                PathBuf::from(OsString::from_vec(bytes))
            }
        };
        let tracker = match self.trackers {
            None => TrackerChoice::Embedded,
            Some(list) => TrackerChoice::Named(
                list.iter()
                    .map(|t| TrackerAddress::new(t))
                    .collect::<Option<_>>()
                    .ok_or("a tracker")?,
            ),
        };
        let peers = self.peers.into_iter().map(PeerOnDisk::into_peer);
        Ok(ShareRecord {
            replica: replica_from_hex(&self.replica).ok_or("the replica")?,
            capability,
            name: ShareName::new(&self.name).ok_or("the name")?,
            root,
            root_inode: self.root_inode,
            tracker,
            listen: self.listen,
            tracker_listen: self.tracker_listen,
            mdns: self.mdns,
            limits: self.limits,
            announced: Reserve::new(self.announced),
            indexed: self.indexed,
            peers: peers.collect::<Option<_>>().ok_or("a peer")?,
        })
    }
}

impl PeerOnDisk {
    fn into_peer(self) -> Option<KnownPeer> {
        Some(KnownPeer {
            id: self.id.parse().ok()?,
            label: if self.label.is_empty() {
                Label::default()
            } else {
                Label::tidy(&self.label)
            },
            addresses: self.addresses,
            seen_at_secs: self.seen_at_secs,
        })
    }
}

fn key(hex: &str) -> Result<[u8; 32], &'static str> {
    let bytes = HEXLOWER.decode(hex.as_bytes()).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or("the capability")
}

#[cfg(test)]
mod tests {
    use ahoy_logic::limit::Rate;

    use super::*;

    fn record(root: &[u8], capability: Capability, tracker: TrackerChoice) -> ShareRecord {
        ShareRecord {
            replica: ReplicaId(0xfedc_ba98_7654_3210),
            capability,
            name: ShareName::tidy("photos"),
            root: PathBuf::from(OsString::from_vec(root.to_vec())),
            root_inode: u64::MAX,
            tracker,
            listen: vec!["[::]:7447".parse().expect("an address")],
            tracker_listen: Vec::new(),
            mdns: true,
            limits: Caps {
                up: Rate::new(500_000),
                down: None,
            },
            announced: Reserve::new(u64::MAX),
            peers: vec![peer(1), peer(2)],
            indexed: true,
        }
    }

    fn peer(n: u8) -> KnownPeer {
        KnownPeer {
            id: PeerId::new([n; 32]),
            label: if n == 1 {
                Label::default()
            } else {
                Label::tidy("desk")
            },
            addresses: vec!["192.0.2.1:7".parse().expect("an address")],
            seen_at_secs: u64::from(n),
        }
    }

    #[test]
    fn records_come_back_exactly() {
        let write = Capability::ReadWrite(Secret::new([3; 32]));
        let read = Capability::ReadOnly {
            read: ReadKey::new([4; 32]),
            write: WritePublic([5; 32]),
        };
        let named = TrackerChoice::Named(vec![TrackerAddress::new("a:1").expect("an address")]);
        for record in [
            record(b"/home/me/photos", write.clone(), TrackerChoice::Embedded),
            record(b"/mnt/\xff\"\\\n", read, named),
            record(b"/x", write, TrackerChoice::Named(Vec::new())),
        ] {
            let dir = tempfile::tempdir().expect("a directory");
            record.save(dir.path()).expect("saved");
            assert_eq!(ShareRecord::load(dir.path()).expect("read"), Some(record));
        }
    }

    #[test]
    fn damage_is_told_by_field() {
        let dir = tempfile::tempdir().expect("a directory");
        let good = record(
            b"/x",
            Capability::ReadWrite(Secret::new([3; 32])),
            TrackerChoice::Embedded,
        );
        good.save(dir.path()).expect("saved");
        let path = dir.path().join("share.json");
        let text = std::fs::read_to_string(&path).expect("text");
        let check = |from: &str, to: &str, says: &str| {
            assert!(text.contains(from), "{from}");
            std::fs::write(&path, text.replacen(from, to, 1)).expect("a file");
            let error = ShareRecord::load(dir.path())
                .expect_err("it is damaged")
                .to_string();
            assert!(error.contains(says), "{error}");
        };
        check("0303", "03", "the capability is wrong");
        check("fedc", "FEDC", "the replica is wrong");
        check("\"photos\"", "\"\"", "the name is wrong");
        check("500000", "500", "at least 10000");
        check("\"version\": 1", "\"version\": 2", "newer");
        check("{", "", "damaged");
    }

    #[test]
    fn the_peers_seen_last_are_remembered() {
        let secret = Capability::ReadWrite(Secret::new([3; 32]));
        let mut record = record(b"/x", secret, TrackerChoice::Embedded);
        let many: Vec<SocketAddr> = (0..20)
            .map(|n| SocketAddr::from(([127, 0, 0, 1], 7000 + n)))
            .collect();
        record.remember(KnownPeer {
            addresses: many,
            ..peer(2)
        });
        assert_eq!(record.peers.len(), 2);
        assert_eq!(record.peers[0].addresses.len(), PEER_ADDRESSES_MAX);
        for n in 0..=255 {
            record.remember(peer(n));
        }
        assert_eq!(record.peers.len(), KNOWN_PEERS_MAX);
        assert_eq!(record.peers[0].id, PeerId::new([255; 32]));
    }
}
