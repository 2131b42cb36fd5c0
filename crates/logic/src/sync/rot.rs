//! Silent rot (`sync-36`): bytes that have changed on the disk though nobody wrote them. The host
//! reads files again at leisure and tells what they hold; what that means is decided here.
//!
//! A file whose fingerprint is as it was, but whose bytes are not, has rotted. What is on the disk
//! is then noted for what it is, with the knowledge of the version that it should be. So it is no
//! change by the user, nobody is told of it, and the planner fetches the right bytes from wherever
//! they are.

use ahoy_wire::sync::{Hash, NodeId, RelPath, Value};

use super::engine::{Engine, State};
use super::merge::value_of;
use super::planted::{self, Bug};
use super::{Look, Notice, Print, Synced};

/// A file to be read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// For asking for the next one.
    pub node: NodeId,
    /// Where it is.
    pub path: RelPath,
    /// As it was last seen.
    pub print: Print,
    /// What it held then.
    pub hash: Hash,
}

/// What the reading has come to since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Files that were read again, as far as the engine has been told.
    pub told: u64,
    /// Those that had rotted.
    pub rotten: u64,
}

/// Whether a file that was read holds something else than it did, though its fingerprint, which can
/// be trusted, is as it was.
pub(super) fn is_rot(synced: &Synced, value: &Value, print: &Print) -> bool {
    let is_same = synced.print.same(print) && !synced.print.racy && !print.racy;
    let contents = (synced.value.content(), value.content());
    is_same && matches!(contents, (Some(known), Some(read)) if known != read)
}

/// What is on the disk, with the metadata that it has there: if bytes have rotted, nobody was told
/// of what was changed about them since.
pub(super) fn as_it_stands(synced: &Synced) -> Value {
    match synced.value {
        Value::File { size, hash, .. } => {
            let meta = synced.print.meta();
            Value::File { meta, size, hash }
        }
        Value::Dir(_) | Value::Link { .. } | Value::Gone { .. } => synced.value.clone(),
    }
}

impl Engine {
    /// The next file to be read again; from the beginning if `after` is `None`. Files that are
    /// being worked on are left out.
    pub fn next_suspect(&self, after: Option<NodeId>) -> Option<Suspect> {
        if self.state != State::Running {
            return None;
        }
        self.tree.nodes_after(after).find_map(|(id, node)| {
            let synced = node.synced.as_ref()?;
            let (hash, _) = synced.value.content()?;
            let unsure = self.work.is_busy(id) || self.local.is_missing(id);
            if unsure || self.is_rotten(id) {
                return None;
            }
            Some(Suspect {
                node: id,
                path: self.tree.path(id)?,
                print: synced.print,
                hash,
            })
        })
    }

    /// A file has been read again: with this fingerprint before and after it held this.
    pub(super) fn scrubbed(&mut self, path: &RelPath, print: Print, hash: Hash) {
        self.tally.told += 1;
        let Some((dir, name)) = path.split() else {
            return;
        };
        let at = self.tree.resolve(&dir);
        let at = at.and_then(|dir| self.tree.on_disk(dir, &name));
        let Some(id) = at.filter(|id| self.state == State::Running && !self.work.is_busy(*id))
        else {
            return;
        };
        let synced = self.tree.node(id).and_then(|node| node.synced.clone());
        let Some(synced) = synced else { return };
        let Value::File {
            meta,
            size,
            hash: known,
        } = synced.value
        else {
            return;
        };
        let is_same = synced.print.same(&print) && !print.racy;
        if is_same && synced.print.racy && known == hash {
            // The print was taken too soon after the last write to say much; now it says enough.
            self.refresh_print(id, print);
            return;
        }
        if !is_same || synced.print.racy {
            // An edit like any other, if the eyes have not seen it yet.
            self.look(Look::At(dir, name));
            return;
        }
        if known == hash || self.is_rotten(id) || planted::is(Bug::RotOverlooked) {
            return;
        }
        self.tally.rotten += 1;
        self.rotted.insert(known, hash);
        let reason = "the disk has changed its bytes though nobody wrote it (silent corruption); \
                      they are not sent, and the file is fetched from wherever it is whole";
        self.tell(Notice::Trouble {
            path: path.clone(),
            reason: reason.into(),
        });
        let value = Value::File { meta, size, hash };
        self.tree.set_synced(id, Some(Synced { value, ..synced }));
        self.keep(id);
    }

    /// Whether a file on the disk is known to have rotted, and has not been repaired.
    pub(super) fn is_rotten(&self, id: NodeId) -> bool {
        let Some(node) = self.tree.node(id) else {
            return false;
        };
        // The version that it should be, with the bytes of no version. A user's change, or one that
        // is still to be fetched, has a clock of its own.
        let body = &node.record.body;
        let of_that_version = |synced: &&Synced| synced.body_clock == body.clock;
        let synced = node.synced.as_ref().filter(of_that_version);
        let have = synced.and_then(|synced| synced.value.content());
        let want = value_of(&node.record).content();
        let is_heeded = !self.is_reader() && !planted::is(Bug::RotIsAVersion);
        is_heeded && have.is_some() && want.is_some() && have != want
    }

    /// What a node holds here; if that has rotted, what it held before.
    pub(super) fn version_here(&self, id: NodeId, synced: &Synced) -> Value {
        let node = self.tree.node(id).filter(|_| self.is_rotten(id));
        if let Some(node) = node {
            return value_of(&node.record).clone();
        }
        match synced.value {
            Value::File { meta, size, hash } => {
                let mut rotted = self.rotted.iter();
                let before = rotted.find(|(_, rotten)| **rotten == hash);
                let hash = before.map_or(hash, |(sound, _)| *sound);
                Value::File { meta, size, hash }
            }
            Value::Dir(_) | Value::Link { .. } | Value::Gone { .. } => synced.value.clone(),
        }
    }

    /// What a start finds to have rotted before.
    pub(super) fn remember_rot(&mut self) {
        let open = self.tree.touched().filter(|id| self.is_rotten(*id));
        let hashes = open.filter_map(|id| {
            let (wanted, _) = self.tree.goal_value(id)?.content()?;
            let (held, _) = self.tree.node(id)?.synced.as_ref()?.value.content()?;
            Some((wanted, held))
        });
        self.rotted = hashes.collect();
    }

    /// Files that have rotted and are not repaired yet, at most `most` of them.
    pub fn rotten(&self, most: usize) -> Vec<RelPath> {
        let nodes = self.tree.nodes();
        let rotten = nodes.filter(|(id, _)| self.is_rotten(*id));
        rotten
            .filter_map(|(id, _)| self.tree.path(id))
            .take(most)
            .collect()
    }

    /// What the reading has come to since the start.
    pub fn tally(&self) -> Tally {
        self.tally
    }
}
