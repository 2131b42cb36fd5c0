//! Where a content is to come from: a file that is about to go, another file of this disk, what
//! came with a record, a peer; and what becomes of a content that nobody has any more. Fetching is
//! the host's work.

use std::sync::Arc;
use std::time::Duration;

use ahoy_wire::sync::{Hash, NodeId, RelPath, ReplicaId};

use super::engine::Engine;
use super::plan::Verdict;
use super::planted::{self, Bug};
use super::tree::Goal;
use super::turns::Holder;
use super::{Print, Source, Synced};

/// How often the author of a lost content is asked for it before it counts as gone.
const AUTHOR_REFUSALS: u32 = 4;

/// The same of one that was put back from a backup, or on whose disk the content has rotted: it is
/// not its user who has done without it, somebody else can have it, and a machine whose folder is
/// away for a while says no as well. Some twelve minutes.
const AUTHOR_REFUSALS_UNSURE: u32 = 20;

/// How long peers that have all refused a content are left alone with it, at least.
const REFUSAL_PAUSE: Duration = Duration::from_millis(500);

impl Engine {
    /// A file that is about to be removed and has just the content that this node lacks: it was
    /// a rename that nobody recognised.
    pub(super) fn heirloom(&self, id: NodeId) -> Option<(NodeId, Synced, RelPath)> {
        let (hash, _) = self.tree.goal_value(id)?.content()?;
        let free = |other: NodeId| {
            let is_free = self.tree.goal(other) == Goal::Absent
                && !self.work.is_busy(other)
                && !self.local.is_missing(other);
            let (path, _) = is_free.then(|| self.donor(id, other))??;
            let synced = self.tree.node(other)?.synced.clone()?;
            Some((other, synced, path))
        };
        self.tree.holders(hash).find_map(free)
    }

    /// Where `id` can take a content that `other` holds, unless that has failed before.
    fn donor(&self, id: NodeId, other: NodeId) -> Option<(RelPath, Print)> {
        let path = self.tree.path(other)?;
        let print = self.tree.node(other)?.synced.as_ref()?.print;
        let is_bad = self.work.is_bad_donor(id, &path, &print);
        (!is_bad && other != id).then_some((path, print))
    }

    /// Somebody still has to copy the content that `id` is about to lose.
    pub(super) fn needs_content_of(&self, id: NodeId, synced: &Synced) -> Option<NodeId> {
        if planted::is(Bug::ContentNotSaved) {
            return None;
        }
        let (hash, _) = synced.value.content()?;
        // Another file with this content is no excuse: what is known of it may be out of date.
        self.work.cravers(hash).find(|other| *other != id)
    }

    /// Where to get a content: what came along, what is on this disk, what a peer has.
    pub(super) fn source(&mut self, id: NodeId, hash: Hash, size: u64) -> Result<Source, Verdict> {
        if size == 0 && hash == Hash::EMPTY {
            return Ok(Source::Here(Arc::from(&b""[..])));
        }
        let donor = |other: NodeId| Some((other, self.donor(id, other)?));
        let donor = self.tree.holders(hash).find_map(donor);
        if let Some((other, (from, expect))) = donor {
            if self.work.is_busy(other) {
                return Err(self.wait(id, other));
            }
            return Ok(Source::Local { from, expect });
        }
        if let Some(bytes) = self.work.take_content(id, hash) {
            return Ok(Source::Here(bytes));
        }
        if !self.work.turns.take(id) {
            self.work.turns.wait(id);
            return Err(Verdict::Pending);
        }
        let open: Vec<Holder> = self.gossip.holders().collect();
        match self.work.turns.pick_link(id, &open) {
            Some(link) if !self.work.turns.may_ask(link, &open) => {
                self.work.turns.wait(id);
                Err(Verdict::Pending)
            }
            Some(link) => {
                let basis = self.tree.path(id);
                Ok(Source::Peer { link, basis })
            }
            None => {
                if !open.is_empty() {
                    // Everybody has said no, perhaps because the file was being moved just then.
                    let asked = self.work.turns.ask_again(id);
                    if asked >= self.refusals_enough(id, hash) && self.is_orphan(id, hash, &open) {
                        self.give_up(id);
                        return Err(Verdict::Again);
                    }
                    if asked >= AUTHOR_REFUSALS {
                        self.plead(id);
                    }
                    return Err(self.pause(id, REFUSAL_PAUSE));
                }
                self.work.wait_for_source(id);
                Err(Verdict::Pending)
            }
        }
    }

    /// So many refusals by all are enough for who may say that a content is gone.
    fn refusals_enough(&self, id: NodeId, hash: Hash) -> u32 {
        let change = self.tree.node(id).map(|node| node.record.body.dot);
        let is_from_before = change.is_some_and(|dot| self.numbers.is_from_before(dot));
        if is_from_before || self.rotted.contains_key(&hash) {
            AUTHOR_REFUSALS_UNSURE
        } else {
            AUTHOR_REFUSALS
        }
    }

    /// A content that nobody may have any more although a record asks for it. There are two ways
    /// to that: it lost a conflict, or gave way to another version, and its author's user replaced
    /// it before anyone fetched it; or its author deleted it while somebody else, who had an older
    /// version, moved the file.
    ///
    /// Of the first only the author may say that it is gone: a refusal can mean that the file was
    /// not where its machine believed it to be. Of the second a user has seen the content and
    /// deleted it, so that it is enough that the author is here (and has been asked).
    fn is_orphan(&self, id: NodeId, hash: Hash, open: &[Holder]) -> bool {
        let Some(node) = self.tree.node(id) else {
            return false;
        };
        // What has rotted here is no reason to give up what is whole elsewhere.
        if self.tree.holders(hash).next().is_some() || self.is_rotten(id) {
            return false;
        }
        let body = &node.record.body;
        let author = body.dot.replica;
        let is_author = |name: ReplicaId| name.is_kin(author);
        let is_here = |holder: &Holder| holder.replica.is_some_and(is_author);
        let is_mine = self.numbers.is_own(author);
        is_mine || (body.value.is_gone() && open.iter().any(is_here))
    }
}
