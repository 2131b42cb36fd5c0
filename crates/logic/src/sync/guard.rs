//! The guard before deletes in great number (`sync-35`): who loses more than half of a share at
//! once has more likely slipped than tidied up. What has disappeared then is not told to anybody
//! before the user says that it was meant; everything else goes on.
//!
//! A mass of files disappears one by one. So that the first of them are not told before the mass
//! is seen, a deletion in a large share waits until nothing else has disappeared for a moment.

use std::collections::BTreeSet;
use std::time::Duration;

use ahoy_wire::sync::{NodeId, Value};

use super::engine::{Engine, State};
use super::{Effect, Notice};
use crate::moment::Moment;

/// Shares with more files than this are guarded.
const GUARDED_FILES_MIN: u64 = 100;

/// Nothing else has disappeared for this long: that was all.
const QUIET: Duration = Duration::from_millis(100);

/// Deletions one after the other are told after this long, though they do not end.
const PATIENCE: Duration = Duration::from_secs(1);

/// The same two where more than one in [`MANY_PART`] files are on their way out.
const QUIET_OF_MANY: Duration = Duration::from_secs(1);
const PATIENCE_WITH_MANY: Duration = Duration::from_secs(60);
const MANY_PART: u64 = 20;

/// Deletions that are further apart than this do not belong together.
const APART: Duration = Duration::from_secs(2);

/// What the guard knows.
#[derive(Debug, Default)]
pub struct Guard {
    run: Option<Run>,
    withheld: Option<Withheld>,
    /// The user has said that what is missing is meant to be.
    is_confirmed: bool,
    /// Nodes that are missing and about which there would be something to be done.
    waiting: BTreeSet<NodeId>,
}

/// Deletions that belong together.
#[derive(Debug)]
struct Run {
    /// Files of the share when it began.
    files: u64,
    /// Nodes from this number on have come since: who makes files and deletes them again has not
    /// lost anything of the share.
    newer: u64,
    /// Files that were there when it began, and whose deletion has been told.
    told: BTreeSet<NodeId>,
    /// Since when something has been waiting to be told.
    since: Moment,
    /// When something was last found missing.
    latest: Moment,
}

/// Deletions that wait for the user's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withheld {
    /// Files that have disappeared.
    pub files: u64,
    /// Of so many.
    pub of: u64,
}

impl Guard {
    /// What waits for the user's word.
    pub fn withheld(&self) -> Option<Withheld> {
        self.withheld
    }

    /// Whether a missing node has to wait for the user's word.
    pub fn holds(&mut self, id: NodeId) -> bool {
        let is_withheld = self.withheld.is_some();
        if is_withheld {
            self.waiting.insert(id);
        }
        is_withheld
    }

    /// The user's word for what is missing now, or will be found missing by the first look.
    pub fn confirm(&mut self) {
        self.is_confirmed = true;
        self.withheld = None;
    }
}

impl Engine {
    /// The user says that what has disappeared is meant to be gone: the files of a folder that was
    /// found empty, or a great part of the share at once. False if nothing waits for that word.
    pub fn confirm(&mut self) -> bool {
        if self.state == State::Emptied {
            self.accept_empty();
            return true;
        }
        if self.local.guard.withheld.is_none() {
            return false;
        }
        self.local.guard.confirm();
        self.release();
        // They are looked for once more.
        self.local.missing.suspect_all();
        self.ask_for_suspects();
        true
    }

    /// Something has just been found missing.
    pub(super) fn guard_miss(&mut self) {
        let files = self.tree.census().files;
        let now = self.now;
        match &mut self.local.guard.run {
            Some(run) if now < run.latest + APART || self.local.missing.len() > 1 => {
                run.latest = now;
                if self.local.missing.len() <= 1 {
                    run.since = now;
                }
            }
            run => {
                *run = (files > GUARDED_FILES_MIN).then(|| Run {
                    files,
                    newer: self.tree.next_number(),
                    told: BTreeSet::new(),
                    since: now,
                    latest: now,
                });
            }
        }
    }

    /// Whether what is confirmed to be gone may be told now.
    pub(super) fn may_bury(&mut self) -> bool {
        if self.local.missing.is_empty() {
            self.guard_rest();
            return true;
        }
        if self.is_reader() || self.local.guard.is_confirmed {
            return true;
        }
        let Some(mut run) = self.local.guard.run.take() else {
            return true;
        };
        let may = self.may_tell(&mut run);
        self.local.guard.run = Some(run);
        may
    }

    fn may_tell(&mut self, run: &mut Run) -> bool {
        let is_withheld = self.local.guard.withheld.is_some();
        if !is_withheld && self.now < self.guard_due(run) {
            return false;
        }
        let gone = self.files_gone();
        let number = |id: &NodeId| self.tree.node(*id).map(|node| node.number);
        let old = |id: &NodeId| number(id).is_some_and(|number| number < run.newer);
        let lost: Vec<NodeId> = gone.iter().copied().filter(old).collect();
        let is_half = |told: usize| (lost.len() + told) as u64 * 2 > run.files;
        if is_half(run.told.len()) {
            // Some may have been put back since.
            run.told.retain(|id| !self.tree.is_on_disk(*id));
        }
        if is_withheld || is_half(run.told.len()) {
            let (files, of) = (gone.len() as u64, run.files);
            self.local.guard.withheld = Some(Withheld { files, of });
            if !is_withheld {
                self.out.push(Effect::Tell(Notice::Vanished { files, of }));
            }
            return false;
        }
        run.told.extend(lost);
        run.since = self.now;
        true
    }

    /// Nothing is missing (any more).
    pub(super) fn guard_rest(&mut self) {
        let guard = &mut self.local.guard;
        guard.withheld = None;
        if self.state == State::Running {
            guard.is_confirmed = false;
        }
        self.release();
    }

    fn release(&mut self) {
        for id in std::mem::take(&mut self.local.guard.waiting) {
            self.touch(id);
        }
    }

    fn guard_due(&self, run: &Run) -> Moment {
        let many = self.local.missing.len() as u64 * MANY_PART > run.files;
        let (quiet, patience) = match many {
            true => (QUIET_OF_MANY, PATIENCE_WITH_MANY),
            false => (QUIET, PATIENCE),
        };
        (run.latest + quiet).min(run.since + patience)
    }

    /// When [`Engine::may_bury`] can give another answer by itself.
    pub(super) fn guard_deadline(&self) -> Option<Moment> {
        let guard = &self.local.guard;
        let waits = self.state == State::Running
            && guard.withheld.is_none()
            && !guard.is_confirmed
            && self.local.missing.confirmed().next().is_some();
        let run = guard.run.as_ref().filter(|_| waits)?;
        Some(self.guard_due(run))
    }

    /// Files that are confirmed to be gone, with all that was in directories that are.
    fn files_gone(&self) -> Vec<NodeId> {
        let mut stack: Vec<NodeId> = self.local.missing.confirmed().collect();
        let mut met = BTreeSet::new();
        let mut files = Vec::new();
        while let Some(id) = stack.pop() {
            let synced = self.tree.node(id).and_then(|node| node.synced.as_ref());
            let Some(synced) = synced.filter(|_| met.insert(id)) else {
                continue;
            };
            match synced.value {
                Value::File { .. } => files.push(id),
                Value::Dir(_) => stack.extend(self.tree.in_dir(id).map(|(_, child)| child)),
                Value::Link { .. } | Value::Gone { .. } => {}
            }
        }
        files
    }
}
