//! A folder held by this process, ready to be synced: found by its marker, or made a share.
//!
//! Here stand all the checks that must pass before an engine may look at a folder: that it is
//! there and can be written, that it is the folder it claims to be and no copy, that nobody else
//! syncs it, and that no share that is being synced lies in it or around it.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ahoy_logic::tracker::Reserve;
use ahoy_wire::sync::{Capability, ReplicaId, Secret};
use ahoy_wire::ticket::ShareName;
use rustix::fs::Access;

use super::file::{Lock, Locked};
use super::marker::state_dir;
use super::{Home, HomeError, KnownPeer, Marker, ShareRecord, TrackerChoice, file, random};
use crate::sync::index::{Index, IndexError};
use crate::sync::limits::Caps;

/// What is needed to make a folder a copy of a share.
#[derive(Debug, Clone)]
pub struct NewShare {
    /// What this device may do.
    pub capability: Capability,
    /// What the share is called.
    pub name: ShareName,
    /// Where its peers find each other.
    pub tracker: TrackerChoice,
    /// Peers that are known already, such as the inviter.
    pub peers: Vec<KnownPeer>,
}

/// A folder that this process alone may sync, until this is dropped.
#[derive(Debug)]
pub struct Claim {
    /// Its record; change it, then [`Claim::save`].
    pub record: ShareRecord,
    /// It has just become a copy of the share.
    pub fresh: bool,
    /// This copy's own directory in the state directory.
    dir: PathBuf,
    _folder: Lock,
    _state: Lock,
}

impl Claim {
    /// The folder: absolute, without links.
    pub fn root(&self) -> &Path {
        &self.record.root
    }

    /// Opens the index, or makes it the first time.
    pub fn open_index(&mut self) -> Result<Index, OpenError> {
        let opened = Index::open(&self.dir.join("index.db"), self.record.replica)?;
        if !self.record.indexed {
            self.record.indexed = true;
            self.save()?;
        }
        Ok(opened)
    }

    /// Keeps the record, durably.
    pub fn save(&self) -> Result<(), HomeError> {
        self.record.save(&self.dir)
    }
}

/// Why an index could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The index itself.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The record that says that there is one.
    #[error(transparent)]
    Home(#[from] HomeError),
}

impl OpenError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Index(error) => error.hint(),
            Self::Home(error) => error.hint(),
        }
    }
}

impl Home {
    /// Takes hold of `dir`, which is a copy of a share already.
    pub fn resume(&self, dir: &Path) -> Result<Claim, HomeError> {
        let root = self.usable(dir)?;
        match Marker::read(&root)? {
            Some(marker) => self.claim(&root, marker),
            None => {
                self.refuse_lost_marker(&root)?;
                Err(HomeError::NotShared(root))
            }
        }
    }

    /// Takes hold of `dir`, and makes it the first copy of a share of its own if it is not shared
    /// yet. `name` replaces the name that a share has already.
    pub fn share(&self, dir: &Path, name: Option<ShareName>) -> Result<Claim, HomeError> {
        let root = self.usable(dir)?;
        if let Some(marker) = Marker::read(&root)? {
            let mut claim = self.claim(&root, marker)?;
            if let Some(name) = name {
                claim.record.name = name;
                claim.save()?;
            }
            return Ok(claim);
        }
        self.refuse_lost_marker(&root)?;
        let own_name = || root.file_name().unwrap_or_default().to_string_lossy();
        let new = NewShare {
            capability: Capability::ReadWrite(Secret::new(random()?)),
            name: name.unwrap_or_else(|| ShareName::tidy(&own_name())),
            tracker: TrackerChoice::Embedded,
            peers: Vec::new(),
        };
        self.begin(&root, new)
    }

    /// Takes hold of `dir` as a copy of the share `new`; makes the folder if it is missing, and
    /// keeps the files that are in it. A copy that holds less than `new` grants gains it.
    pub fn join(&self, dir: &Path, new: NewShare) -> Result<Claim, HomeError> {
        if matches!(dir.symlink_metadata(), Err(error) if error.kind() == ErrorKind::NotFound) {
            std::fs::create_dir_all(dir).map_err(HomeError::refused("create", dir))?;
        }
        let root = self.usable(dir)?;
        let Some(marker) = Marker::read(&root)? else {
            return self.begin(&root, new);
        };
        if marker.share != new.capability.read_key().share_id() {
            return Err(HomeError::OtherShare { root });
        }
        match self.claim(&root, marker) {
            Err(HomeError::StateLost { .. }) => self.begin(&root, new),
            Err(error) => Err(error),
            Ok(mut claim) => {
                claim.gain(new);
                claim.save()?;
                Ok(claim)
            }
        }
    }

    /// The folder `dir` as an absolute path without links, if ahoy can work there.
    fn usable(&self, dir: &Path) -> Result<PathBuf, HomeError> {
        let root = dir.canonicalize().map_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                HomeError::NoFolder(dir.to_owned())
            } else if error.kind() == ErrorKind::NotADirectory {
                HomeError::NotAFolder(dir.to_owned())
            } else {
                HomeError::refused("open", dir)(error)
            }
        })?;
        if !root.is_dir() {
            return Err(HomeError::NotAFolder(root));
        }
        let own = [&self.state, &self.config];
        let own = own
            .into_iter()
            .map(|dir| dir.canonicalize().unwrap_or_else(|_| dir.clone()));
        let state_name = state_dir(Path::new(""));
        if own
            .into_iter()
            .any(|own| own.starts_with(&root) || root.starts_with(&own))
            || root.iter().any(|name| name == state_name)
        {
            return Err(HomeError::OwnState(root));
        }
        if rustix::fs::access(&root, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_err()
        {
            return Err(HomeError::NotWritable(root));
        }
        Ok(root)
    }

    /// Takes hold of a folder with a marker.
    fn claim(&self, root: &Path, marker: Marker) -> Result<Claim, HomeError> {
        let dir = self.share_dir(marker.replica);
        let Some(mut record) = ShareRecord::load(&dir)? else {
            return Err(HomeError::StateLost {
                root: root.to_owned(),
            });
        };
        if record.share_id() != marker.share || record.replica != marker.replica {
            let reason = "it is about another share than the folder says";
            return Err(HomeError::damaged(&dir.join("share.json"), reason));
        }
        let inode = inode(root)?;
        refuse_copy(root, inode, &record)?;
        let folder = self.lock_folder(root)?;
        let state = lock(&dir.join("lock"), &record.root)?;
        if (record.root.as_path(), record.root_inode) != (root, inode) {
            record.root = root.to_owned();
            record.root_inode = inode;
            record.save(&dir)?;
        }
        let claim = Claim {
            record,
            fresh: false,
            dir,
            _folder: folder,
            _state: state,
        };
        // Only what is not there is gone: with an index that just cannot be seen, everything that
        // others have deleted would count as made anew.
        let index = claim.dir.join("index.db");
        let there = index.try_exists();
        if claim.record.indexed && !there.map_err(HomeError::refused("find", &index))? {
            return self.replace_replica(claim);
        }
        Ok(claim)
    }

    /// Makes a folder without a (valid) marker a copy of a share.
    fn begin(&self, root: &Path, new: NewShare) -> Result<Claim, HomeError> {
        file::private_dir(&state_dir(root))?;
        let folder = self.lock_folder(root)?;
        let record = ShareRecord {
            replica: ReplicaId(u64::from_le_bytes(random()?)),
            capability: new.capability,
            name: new.name,
            root: root.to_owned(),
            root_inode: inode(root)?,
            tracker: new.tracker,
            listen: Vec::new(),
            tracker_listen: Vec::new(),
            mdns: true,
            limits: Caps::default(),
            announced: Reserve::default(),
            peers: new.peers,
            indexed: false,
        };
        self.install(record, folder)
    }

    /// The index is gone, and with it the count of this copy's changes: going on under the same
    /// replica id would give old numbers to new changes, which the peers would not take.
    fn replace_replica(&self, lost: Claim) -> Result<Claim, HomeError> {
        tracing::warn!(root = %lost.root().display(), "the index is gone; reading the folder anew");
        let replica = ReplicaId(u64::from_le_bytes(random()?));
        let record = ShareRecord {
            replica,
            indexed: false,
            ..lost.record
        };
        let claim = self.install(record, lost._folder)?;
        std::fs::remove_dir_all(&lost.dir).map_err(HomeError::refused("remove", &lost.dir))?;
        Ok(claim)
    }

    /// The record first, the marker last: a crash in between leaves a record without an index,
    /// which nobody minds.
    fn install(&self, record: ShareRecord, folder: Lock) -> Result<Claim, HomeError> {
        let dir = self.share_dir(record.replica);
        file::private_dir(&dir)?;
        let state = lock(&dir.join("lock"), &record.root)?;
        record.save(&dir)?;
        Marker {
            share: record.share_id(),
            replica: record.replica,
        }
        .write(&record.root)?;
        Ok(Claim {
            record,
            fresh: true,
            dir,
            _folder: folder,
            _state: state,
        })
    }

    /// One process for one folder, and none for folders in each other.
    fn lock_folder(&self, root: &Path) -> Result<Lock, HomeError> {
        let held = lock(&state_dir(root).join("lock"), root)?;
        // After our own lock: of two that start at once, at least one sees the other.
        let nested = |other: &Path| HomeError::Nested {
            root: root.into(),
            other: other.into(),
        };
        for above in root.ancestors().skip(1) {
            if Lock::is_held(&state_dir(above).join("lock")) {
                return Err(nested(above));
            }
        }
        for record in self.records()?.into_iter().flatten() {
            let below = record.root != root && record.root.starts_with(root);
            if below && Lock::is_held(&state_dir(&record.root).join("lock")) {
                return Err(nested(&record.root));
            }
        }
        Ok(held)
    }

    /// A share that was at `root` and has left no marker: its disk may not be mounted.
    fn refuse_lost_marker(&self, root: &Path) -> Result<(), HomeError> {
        for record in self.records()?.into_iter().flatten() {
            if record.indexed && record.root == root {
                return Err(HomeError::MarkerLost {
                    root: root.to_owned(),
                    name: record.name.to_string(),
                    state: self.share_dir(record.replica),
                });
            }
        }
        Ok(())
    }
}

impl Claim {
    /// Adds what a ticket grants beyond what the record has.
    fn gain(&mut self, new: NewShare) {
        let may_write = |capability: &Capability| match capability {
            Capability::ReadWrite(_) => true,
            Capability::ReadOnly { .. } => false,
        };
        if may_write(&new.capability) && !may_write(&self.record.capability) {
            self.record.capability = new.capability;
        }
        for mut peer in new.peers {
            if let Some(known) = self.record.peers.iter().find(|known| known.id == peer.id) {
                peer.label = known.label.clone();
                peer.seen_at_secs = known.seen_at_secs;
                peer.addresses.extend(&known.addresses);
            }
            self.record.remember(peer);
        }
        if let (TrackerChoice::Named(known), TrackerChoice::Named(told)) =
            (&mut self.record.tracker, new.tracker)
        {
            let unknown: Vec<_> = told.into_iter().filter(|t| !known.contains(t)).collect();
            known.splice(0..0, unknown);
            known.truncate(ahoy_wire::ticket::TRACKERS_MAX);
        }
    }
}

/// A folder that was copied with its marker is not the folder. Where both are there, the recorded
/// place has it, unless only the other one has the recorded inode number.
fn refuse_copy(root: &Path, inode: u64, record: &ShareRecord) -> Result<(), HomeError> {
    let marked = matches!(Marker::read(&record.root), Ok(Some(m)) if m.replica == record.replica);
    let Ok(there) = record.root.metadata() else {
        return Ok(());
    };
    let here = root.metadata().map_err(HomeError::refused("read", root))?;
    let same = (here.dev(), here.ino()) == (there.dev(), there.ino());
    let swapped = inode == record.root_inode && there.ino() != record.root_inode;
    if !marked || same || swapped {
        return Ok(());
    }
    Err(HomeError::Copied {
        root: root.to_owned(),
        original: record.root.clone(),
    })
}

fn lock(path: &Path, root: &Path) -> Result<Lock, HomeError> {
    match Lock::take(path)? {
        Locked::Ours(lock) => Ok(lock),
        Locked::Theirs(owner) => Err(HomeError::Busy {
            root: root.to_owned(),
            owner,
        }),
    }
}

fn inode(root: &Path) -> Result<u64, HomeError> {
    Ok(root
        .metadata()
        .map_err(HomeError::refused("read", root))?
        .ino())
}

#[cfg(test)]
mod tests {
    use ahoy_wire::peer::PeerId;
    use ahoy_wire::sync::{Label, ReadKey, WritePublic};
    use ahoy_wire::ticket::TrackerAddress;

    use super::*;

    /// A device of its own and a place for folders beside its state.
    struct Desk {
        place: tempfile::TempDir,
        home: Home,
    }

    impl Desk {
        fn new() -> Self {
            let place = tempfile::tempdir().expect("a directory");
            let home = Home::at(&place.path().canonicalize().expect("a path").join("home"));
            Self { place, home }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.place.path().canonicalize().expect("a path").join(name)
        }

        fn folder(&self, name: &str) -> PathBuf {
            let path = self.path(name);
            std::fs::create_dir_all(&path).expect("a folder");
            path
        }

        /// A folder that is shared, has an index, and is not held.
        fn shared(&self, name: &str) -> PathBuf {
            let path = self.folder(name);
            let mut claim = self.home.share(&path, None).expect("a share");
            claim.open_index().expect("an index");
            path
        }

        fn error(&self, name: &str) -> HomeError {
            self.home
                .resume(&self.path(name))
                .map(|_| ())
                .expect_err("it must be refused")
        }

        /// `cp -a`, as far as it matters here.
        fn copy(&self, from: &str, to: &str) {
            let (from, to) = (state_dir(&self.path(from)), state_dir(&self.folder(to)));
            std::fs::create_dir(&to).expect("a directory");
            std::fs::copy(from.join("share"), to.join("share")).expect("a copy");
        }
    }

    fn invitation(claim: &Claim) -> NewShare {
        NewShare {
            capability: claim.record.capability.clone(),
            name: claim.record.name.clone(),
            tracker: TrackerChoice::Named(vec![TrackerAddress::new("a:1").expect("an address")]),
            peers: vec![KnownPeer {
                id: PeerId::new([9; 32]),
                label: Label::default(),
                addresses: vec!["192.0.2.1:7".parse().expect("an address")],
                seen_at_secs: 0,
            }],
        }
    }

    #[test]
    fn a_share_is_found_again_by_its_folder() {
        let desk = Desk::new();
        let folder = desk.folder("photos");
        let mut claim = desk.home.share(&folder, None).expect("a share");
        assert!(claim.fresh && claim.record.name.as_str() == "photos");
        claim.open_index().expect("an index");
        let record = claim.record.clone();
        drop(claim);
        let claim = desk.home.resume(&folder).expect("the share");
        assert!(!claim.fresh);
        assert_eq!(claim.record, record);
        drop(claim);
        let name = Some(ShareName::tidy("pictures"));
        let claim = desk.home.share(&folder, name).expect("the share");
        assert_eq!(
            claim.record,
            ShareRecord {
                name: ShareName::tidy("pictures"),
                ..record
            }
        );
    }

    #[test]
    fn one_folder_is_held_once() {
        let desk = Desk::new();
        let folder = desk.shared("a");
        let _held = desk.home.resume(&folder).expect("the share");
        let HomeError::Busy { owner, .. } = desk.error("a") else {
            panic!("must be busy")
        };
        assert_eq!(owner, format!("process {}", std::process::id()));
        let other = Desk::new();
        let error = other
            .home
            .share(&folder, None)
            .map(|_| ())
            .expect_err("unknown there");
        assert!(matches!(error, HomeError::StateLost { .. }), "{error}");
    }

    #[test]
    fn a_moved_folder_is_the_same_and_a_copy_is_not() {
        let desk = Desk::new();
        desk.shared("a");
        std::fs::rename(desk.path("a"), desk.path("b")).expect("moved");
        let claim = desk.home.resume(&desk.path("b")).expect("the share");
        assert_eq!(claim.record.root, desk.path("b"));
        drop(claim);
        desk.copy("b", "c");
        let HomeError::Copied { original, .. } = desk.error("c") else {
            panic!("it is a copy")
        };
        assert_eq!(original, desk.path("b"));
        // The two change places: the inode number tells which is which.
        std::fs::rename(desk.path("b"), desk.path("d")).expect("moved");
        std::fs::rename(desk.path("c"), desk.path("b")).expect("moved");
        assert!(desk.home.resume(&desk.path("d")).is_ok());
        assert!(matches!(desk.error("b"), HomeError::Copied { .. }));
        // The original is gone for good: the copy is all there is.
        std::fs::remove_dir_all(desk.path("d")).expect("removed");
        assert!(desk.home.resume(&desk.path("b")).is_ok());
    }

    #[test]
    fn a_missing_marker_or_record_is_told() {
        let desk = Desk::new();
        let folder = desk.shared("a");
        let record = desk
            .home
            .records()
            .expect("records")
            .remove(0)
            .expect("a record");
        std::fs::remove_file(folder.join(".ahoy/share")).expect("removed");
        assert!(matches!(desk.error("a"), HomeError::MarkerLost { .. }));
        let again = desk.home.share(&folder, None).map(|_| ());
        assert!(matches!(again, Err(HomeError::MarkerLost { .. })));
        let folder = desk.shared("b");
        std::fs::write(folder.join(".ahoy/share"), "{}").expect("a file");
        assert!(matches!(desk.error("b"), HomeError::Damaged { .. }));
        let folder = desk.shared("c");
        for entry in std::fs::read_dir(desk.home.shares()).expect("records") {
            let path = entry.expect("an entry").path();
            if path != desk.home.share_dir(record.replica) {
                std::fs::remove_dir_all(path).expect("removed");
            }
        }
        assert!(matches!(desk.error("c"), HomeError::StateLost { .. }));
        assert!(desk.error("c").hint().contains("join TICKET"));
        desk.folder("d");
        assert!(matches!(desk.error("d"), HomeError::NotShared(_)));
        assert!(desk.home.share(&folder, None).is_err());
    }

    #[test]
    fn a_lost_index_makes_a_new_replica() {
        let desk = Desk::new();
        let folder = desk.shared("a");
        let before = desk.home.resume(&folder).expect("the share").record.clone();
        let dir = desk.home.share_dir(before.replica);
        std::fs::remove_file(dir.join("index.db")).expect("removed");
        let mut claim = desk.home.resume(&folder).expect("the share");
        assert_ne!(claim.record.replica, before.replica);
        assert_eq!(claim.record.capability, before.capability);
        claim.open_index().expect("an index");
        let after = claim.record.clone();
        drop(claim);
        assert!(!dir.exists());
        assert_eq!(desk.home.resume(&folder).expect("the share").record, after);
    }

    #[test]
    fn an_index_that_cannot_be_seen_is_not_lost() {
        let desk = Desk::new();
        let folder = desk.shared("a");
        let before = desk.home.resume(&folder).expect("the share").record.clone();
        let index = desk.home.share_dir(before.replica).join("index.db");
        let aside = index.with_file_name("aside");
        std::fs::rename(&index, &aside).expect("renamed");
        // A link in a circle: to ask whether it is there is an error.
        std::os::unix::fs::symlink("index.db", &index).expect("linked");
        let refused = desk.home.resume(&folder).expect_err("nobody can tell");
        assert!(matches!(refused, HomeError::Refused { .. }), "{refused}");
        std::fs::rename(&aside, &index).expect("renamed");
        let after = desk.home.resume(&folder).expect("the share").record.clone();
        assert_eq!(after.replica, before.replica, "nothing was given up");
    }

    #[test]
    fn joining_makes_resumes_and_refuses() {
        let (desk, other) = (Desk::new(), Desk::new());
        let origin = desk
            .home
            .share(&desk.folder("photos"), None)
            .expect("a share");
        let path = other.path("deep/photos");
        let mut joined = other.home.join(&path, invitation(&origin)).expect("joined");
        assert!(joined.fresh && path.is_dir());
        assert_ne!(joined.record.replica, origin.record.replica);
        assert_eq!(joined.record.share_id(), origin.record.share_id());
        joined.open_index().expect("an index");
        let replica = joined.record.replica;
        drop(joined);
        let again = other
            .home
            .join(&path, invitation(&origin))
            .expect("resumed");
        assert!(!again.fresh && again.record.replica == replica);
        assert_eq!(again.record.peers.len(), 1);
        let stranger = other.shared("mine");
        let refused = other.home.join(&stranger, invitation(&origin)).map(|_| ());
        assert!(
            matches!(refused, Err(HomeError::OtherShare { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn a_better_ticket_gives_more_rights_and_a_lesser_one_takes_none() {
        let (desk, other) = (Desk::new(), Desk::new());
        let origin = desk
            .home
            .share(&desk.folder("photos"), None)
            .expect("a share");
        let whole = invitation(&origin);
        let read = origin.record.capability.read_key();
        let less = Capability::ReadOnly {
            read: ReadKey::new(*read.as_bytes()),
            write: WritePublic([1; 32]),
        };
        let path = other.path("photos");
        let lesser = NewShare {
            capability: less.clone(),
            ..whole.clone()
        };
        let capability_after = |new: &NewShare| {
            other
                .home
                .join(&path, new.clone())
                .expect("joined")
                .record
                .capability
                .clone()
        };
        assert_eq!(capability_after(&lesser), less);
        assert_eq!(capability_after(&whole), whole.capability);
        assert_eq!(capability_after(&lesser), whole.capability);
    }

    #[test]
    fn folders_in_one_another_are_not_synced_at_once() {
        let desk = Desk::new();
        let inner = desk.shared("a/b");
        let outer = desk.shared("a");
        let held = desk.home.resume(&inner).expect("the share");
        let HomeError::Nested { other, .. } = desk.error("a") else {
            panic!("nested")
        };
        assert_eq!(other, inner);
        drop(held);
        let _held = desk.home.resume(&outer).expect("the share");
        let HomeError::Nested { other, .. } = desk.error("a/b") else {
            panic!("nested")
        };
        assert_eq!(other, outer);
    }

    #[test]
    fn folders_that_cannot_be_shared() {
        let desk = Desk::new();
        desk.shared("a");
        std::fs::write(desk.path("file"), "").expect("a file");
        assert!(matches!(desk.error("missing"), HomeError::NoFolder(_)));
        assert!(matches!(desk.error("file"), HomeError::NotAFolder(_)));
        assert!(matches!(desk.error("file/x"), HomeError::NotAFolder(_)));
        assert!(matches!(desk.error("a/.ahoy"), HomeError::OwnState(_)));
        assert!(matches!(
            desk.error("home/state/shares"),
            HomeError::OwnState(_)
        ));
        assert!(matches!(desk.error("home"), HomeError::OwnState(_)));
        let root = desk.home.share(Path::new("/"), None).map(|_| ());
        assert!(matches!(root, Err(HomeError::OwnState(_))));
    }
}
