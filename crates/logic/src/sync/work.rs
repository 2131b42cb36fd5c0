//! The table of nodes that are not yet as they should be; see the states in [`super::plan`].
//! It keeps the books and decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ahoy_wire::sync::{Hash, Mtime, Name, NodeId, RelPath};

use super::turns::Turns;
use super::{Act, JobId, LinkId, Print, Source, Synced};
use crate::moment::Moment;

/// Contents that came with records wait here for their turn, at most this many bytes; what does
/// not fit is fetched later.
const INBOX_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Below this peers may go on sending.
const INBOX_BYTES_ROOM: u64 = 24 * 1024 * 1024;

/// Stands where a fingerprint is not known yet.
pub const NO_PRINT: Print = Print {
    inode: 0,
    birth: 0,
    size: 0,
    mtime: Mtime { secs: 0, nanos: 0 },
    ctime: 0,
    mode: 0,
    racy: true,
};

/// What a finished step makes of a node's synced state.
#[derive(Debug, Clone)]
pub enum After {
    /// This, with the fingerprint that the outcome brings.
    Become(Box<Synced>),
    /// This, taken over from another node, which then has nothing on disk.
    Inherit(NodeId, Box<Synced>),
    /// Nothing is on disk any more.
    Vanish,
}

impl After {
    fn other(&self) -> Option<NodeId> {
        match self {
            Self::Inherit(other, _) => Some(*other),
            Self::Become(_) | Self::Vanish => None,
        }
    }
}

/// A step that is out.
#[derive(Debug)]
pub struct Job {
    /// For which node.
    pub node: NodeId,
    /// The names that it changes.
    pub keys: Vec<(NodeId, Name)>,
    /// What was seen meanwhile of those names, and of others that could be of this node.
    pub sightings: Vec<((NodeId, Name), Option<Print>)>,
    /// Something was seen meanwhile in what stands at one of them, and not believed.
    pub seen_inside: bool,
    /// What it leads to.
    pub after: After,
    /// From which peer it fetches.
    pub fetched: Option<LinkId>,
    /// So many bytes.
    fetched_bytes: u64,
    /// The file of this disk that it copies or takes over, as it was last seen.
    pub donor: Option<(RelPath, Print)>,
    /// Users see it happen.
    pub visible: bool,
    /// It removes a node; if that is a directory that is not empty, what is in it is to be seen.
    pub removes_dir: bool,
    /// It changes the paths of all that is below the node.
    pub moves: bool,
    above: BTreeSet<NodeId>,
}

impl Job {
    /// Notes what was seen at a name last; true.
    fn saw(&mut self, key: (NodeId, Name), print: Option<Print>) -> bool {
        self.sightings.retain(|(seen, _)| *seen != key);
        self.sightings.push((key, print));
        true
    }
}

/// The books.
#[derive(Debug, Default)]
pub struct Work {
    ready: BTreeSet<(u64, NodeId)>,
    waits_on: BTreeMap<NodeId, NodeId>,
    waiters: BTreeMap<NodeId, BTreeSet<NodeId>>,
    later: BTreeSet<(Moment, NodeId)>,
    later_of: BTreeMap<NodeId, Moment>,
    pauses: BTreeMap<NodeId, u32>,
    stranded: BTreeSet<NodeId>,
    /// What is in the parking place, and the index knows nothing of.
    strays: BTreeSet<NodeId>,
    unsourced: BTreeSet<NodeId>,
    /// What waits for its turn to be fetched from a peer.
    pub turns: Turns,
    jobs: BTreeMap<JobId, Job>,
    job_of: BTreeMap<NodeId, JobId>,
    name_jobs: BTreeMap<(NodeId, Name), JobId>,
    below: BTreeMap<NodeId, BTreeSet<JobId>>,
    last_job: u64,
    craving: BTreeMap<NodeId, (Hash, u64)>,
    cravers: BTreeSet<(Hash, NodeId)>,
    bytes_left: u64,
    inbox: BTreeMap<NodeId, (Hash, Arc<[u8]>)>,
    inbox_bytes: u64,
    bad_donors: BTreeMap<NodeId, BTreeMap<RelPath, Print>>,
}

impl Work {
    // Numbers.

    /// Nodes that are not done.
    pub fn left(&self) -> u64 {
        let waiting = self.waits_on.len() + self.later.len() + self.stranded.len();
        let sourceless = self.unsourced.len() + self.turns.left();
        (self.ready.len() + self.jobs.len() + waiting + sourceless) as u64
    }

    /// Why each node that is not done is not, for people who look for a fault.
    pub fn reasons(&self) -> Vec<String> {
        let ready = self.ready.iter().map(|(_, id)| format!("{id:?} is ready"));
        let busy = self
            .job_of
            .iter()
            .map(|(id, job)| format!("{id:?} is in work, {job:?}"));
        let waits = self
            .waits_on
            .iter()
            .map(|(id, on)| format!("{id:?} waits for {on:?}"));
        let later = self
            .later_of
            .iter()
            .map(|(id, at)| format!("{id:?} waits until {at:?}"));
        let stranded = self
            .stranded
            .iter()
            .map(|id| format!("{id:?} has no directory yet"));
        let sourceless = self
            .unsourced
            .iter()
            .map(|id| format!("{id:?} has no source"));
        let queued = self
            .turns
            .waiting()
            .map(|id| format!("{id:?} waits for a free fetch"));
        let all = ready.chain(busy).chain(waits).chain(later);
        all.chain(stranded)
            .chain(sourceless)
            .chain(queued)
            .collect()
    }

    /// The nodes that are not done.
    pub fn open(&self) -> BTreeSet<NodeId> {
        let ready = self.ready.iter().map(|(_, id)| *id);
        let keyed = self
            .job_of
            .keys()
            .chain(self.waits_on.keys())
            .chain(self.later_of.keys());
        let sets = self.stranded.iter().chain(&self.unsourced);
        let all = ready.chain(keyed.copied()).chain(sets.copied());
        all.chain(self.turns.waiting()).collect()
    }

    /// Content bytes that are still to come.
    pub fn bytes_left(&self) -> u64 {
        self.bytes_left
    }

    /// Nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.left() == 0
    }

    /// Steps that are out.
    pub fn steps_out(&self) -> usize {
        self.jobs.len()
    }

    /// Whether peers may send more. If nothing moves they may: what is missing may come with it.
    pub fn has_room(&self) -> bool {
        self.inbox_bytes < INBOX_BYTES_ROOM || self.jobs.is_empty()
    }

    // Ready, waiting, later.

    pub fn make_ready(&mut self, id: NodeId, number: u64) {
        if self.job_of.contains_key(&id) || self.later_of.contains_key(&id) {
            return;
        }
        self.stop_waiting(id);
        self.ready.insert((number, id));
    }

    pub fn next_ready(&mut self) -> Option<NodeId> {
        self.ready.pop_first().map(|(_, id)| id)
    }

    pub fn is_waiting(&self, id: NodeId) -> bool {
        self.waits_on.contains_key(&id)
    }

    pub fn wait(&mut self, id: NodeId, on: NodeId) {
        self.stop_waiting(id);
        self.waits_on.insert(id, on);
        self.waiters.entry(on).or_default().insert(id);
    }

    pub fn strand(&mut self, id: NodeId) {
        self.stranded.insert(id);
    }

    pub fn wait_for_source(&mut self, id: NodeId) {
        self.unsourced.insert(id);
    }

    fn stop_waiting(&mut self, id: NodeId) {
        if let Some(on) = self.waits_on.remove(&id)
            && let Some(waiters) = self.waiters.get_mut(&on)
        {
            waiters.remove(&id);
            if waiters.is_empty() {
                self.waiters.remove(&on);
            }
        }
        self.stranded.remove(&id);
        self.unsourced.remove(&id);
        self.turns.stop_waiting(id);
    }

    pub fn take_waiters(&mut self, on: NodeId) -> BTreeSet<NodeId> {
        let waiters = self.waiters.remove(&on).unwrap_or_default();
        for id in &waiters {
            self.waits_on.remove(id);
        }
        waiters
    }

    /// The nodes from `on` along the waiting to `id`, if that is where it leads; `id` comes first.
    pub fn circle(&self, id: NodeId, on: NodeId) -> Option<Vec<NodeId>> {
        let mut circle = vec![id];
        let mut at = on;
        while at != id {
            if circle.len() > self.waits_on.len() + 1 {
                return None;
            }
            circle.push(at);
            at = *self.waits_on.get(&at)?;
        }
        Some(circle)
    }

    pub fn later(&mut self, id: NodeId, at: Moment) {
        self.stop_waiting(id);
        self.hurry(id);
        self.later.insert((at, id));
        self.later_of.insert(id, at);
    }

    /// Whatever made it wait for a moment is no longer so.
    pub fn hurry(&mut self, id: NodeId) {
        if let Some(at) = self.later_of.remove(&id) {
            self.later.remove(&(at, id));
        }
    }

    pub fn next_retry(&self) -> Option<Moment> {
        self.later.first().map(|(at, _)| *at)
    }

    /// The nodes whose moment has come.
    pub fn take_late(&mut self, now: Moment) -> Vec<NodeId> {
        let mut late = Vec::new();
        while let Some(&(at, id)) = self.later.first()
            && at <= now
        {
            self.later.pop_first();
            self.later_of.remove(&id);
            late.push(id);
        }
        late
    }

    pub fn next_pause(&mut self, id: NodeId, first: Duration, most: Duration) -> Duration {
        let pauses = self.pauses.entry(id).or_insert(0);
        *pauses = (*pauses + 1).min(20);
        first.saturating_mul(1 << (*pauses - 1)).min(most)
    }

    pub fn pauses(&self, id: NodeId) -> u32 {
        self.pauses.get(&id).copied().unwrap_or(0)
    }

    pub fn forget_pauses(&mut self, id: NodeId) {
        self.pauses.remove(&id);
    }

    /// It is as it should be.
    pub fn settled(&mut self, id: NodeId) {
        self.stop_waiting(id);
        self.hurry(id);
        self.pauses.remove(&id);
        self.turns.settled(id);
        self.bad_donors.remove(&id);
        self.drop_content(id);
    }

    // What stands in the parking place unknown.

    pub fn note_stray(&mut self, id: NodeId) {
        self.strays.insert(id);
    }

    pub fn is_stray(&self, id: NodeId) -> bool {
        self.strays.contains(&id)
    }

    /// It stands somewhere again; true if it was a stray.
    pub fn settle_stray(&mut self, id: NodeId) -> bool {
        self.strays.remove(&id)
    }

    /// Those for which something can be done now.
    pub fn idle_strays(&self) -> Vec<NodeId> {
        let is_idle = |id: &&NodeId| !self.is_busy(**id) && !self.later_of.contains_key(id);
        self.strays.iter().filter(is_idle).copied().collect()
    }

    // Steps.

    pub fn begin(
        &mut self,
        node: NodeId,
        keys: Vec<(NodeId, Name)>,
        act: &Act,
        above: BTreeSet<NodeId>,
        after: After,
    ) -> JobId {
        self.stop_waiting(node);
        self.last_job += 1;
        let id = JobId(self.last_job);
        let (fetched, fetched_bytes) = match act {
            Act::Write { source, size, .. } => match source {
                Source::Peer { link, .. } => (Some(*link), *size),
                Source::Here(_) | Source::Local { .. } => (None, 0),
            },
            Act::MakeDir { .. }
            | Act::MakeLink { .. }
            | Act::SetMeta { .. }
            | Act::Move { .. }
            | Act::Remove { .. }
            | Act::Park { .. }
            | Act::Unpark { .. } => (None, 0),
        };
        let job = Job {
            node,
            sightings: Vec::new(),
            seen_inside: false,
            fetched,
            fetched_bytes,
            donor: donor(act, &after),
            visible: matches!(
                act,
                Act::Write { .. } | Act::MakeLink { .. } | Act::MakeDir { .. } | Act::Remove { .. }
            ),
            removes_dir: matches!(act, Act::Remove { .. }),
            moves: !matches!(
                act,
                Act::Write { .. } | Act::MakeLink { .. } | Act::SetMeta { .. }
            ),
            above,
            keys,
            after,
        };
        if let Some(other) = job.after.other() {
            self.stop_waiting(other);
            self.job_of.insert(other, id);
        }
        if let Some(link) = fetched {
            self.turns.begin(link, job.fetched_bytes);
        }
        for key in &job.keys {
            self.name_jobs.insert(key.clone(), id);
        }
        for dir in &job.above {
            self.below.entry(*dir).or_default().insert(id);
        }
        self.job_of.insert(node, id);
        self.jobs.insert(id, job);
        id
    }

    pub fn end(&mut self, id: JobId) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        self.job_of.remove(&job.node);
        if let Some(other) = job.after.other() {
            self.job_of.remove(&other);
        }
        for key in &job.keys {
            if self.name_jobs.get(key) == Some(&id) {
                self.name_jobs.remove(key);
            }
        }
        for dir in &job.above {
            if let Some(jobs) = self.below.get_mut(dir) {
                jobs.remove(&id);
                if jobs.is_empty() {
                    self.below.remove(dir);
                }
            }
        }
        if let Some(link) = job.fetched {
            self.turns.end(link, job.fetched_bytes);
        }
        Some(job)
    }

    pub fn is_busy(&self, id: NodeId) -> bool {
        self.job_of.contains_key(&id)
    }

    pub fn is_name_busy(&self, dir: NodeId, name: &Name) -> bool {
        self.name_jobs.contains_key(&(dir, name.clone()))
    }

    /// A step is out that changes where this directory is, or makes or removes it.
    pub fn is_moving(&self, id: NodeId) -> bool {
        self.job_of
            .get(&id)
            .and_then(|job| self.jobs.get(job))
            .is_some_and(|job| job.moves)
    }

    /// A node that is being worked on somewhere below this directory.
    pub fn busy_below(&self, dir: NodeId) -> Option<NodeId> {
        let job = self.below.get(&dir)?.first()?;
        self.jobs.get(job).map(|job| job.node)
    }

    /// What could be this node was seen at a name. True if a step for the node is out, at whose end
    /// the name is looked at again.
    pub fn note_elsewhere(&mut self, id: NodeId, dir: NodeId, name: &Name, print: Print) -> bool {
        let job = self.job_of.get(&id).and_then(|job| self.jobs.get_mut(job));
        job.is_some_and(|job| job.saw((dir, name.clone()), Some(print)))
    }

    /// Something was seen at a name. True if a step there is out, so that it says nothing yet.
    pub fn note_sighting(&mut self, dir: NodeId, name: &Name, print: Option<Print>) -> bool {
        let key = (dir, name.clone());
        let job = self
            .name_jobs
            .get(&key)
            .and_then(|job| self.jobs.get_mut(job));
        job.is_some_and(|job| job.saw(key, print))
    }

    /// What was seen at names at which steps are out.
    pub fn sightings_of_steps(&self) -> impl Iterator<Item = Print> + '_ {
        let sightings = self.jobs.values().flat_map(|job| &job.sightings);
        sightings.filter_map(|(_, print)| *print)
    }

    /// Something was seen in a directory at this name that is not known to be there. True if a step
    /// there is out, which may be about to bring it.
    pub fn note_inside(&mut self, dir: NodeId, name: &Name) -> bool {
        let job = self.name_jobs.get(&(dir, name.clone()));
        let job = job.and_then(|job| self.jobs.get_mut(job));
        let Some(job) = job else { return false };
        job.seen_inside = true;
        true
    }

    // Contents.

    /// Notes which content a node lacks.
    pub fn crave(&mut self, id: NodeId, content: Option<(Hash, u64)>) {
        if self.craving.get(&id).copied() == content {
            return;
        }
        if let Some((hash, size)) = self.craving.remove(&id) {
            self.cravers.remove(&(hash, id));
            self.bytes_left -= size;
        }
        if let Some((hash, size)) = content {
            self.craving.insert(id, (hash, size));
            self.cravers.insert((hash, id));
            self.bytes_left = self.bytes_left.saturating_add(size);
        }
    }

    /// The nodes that lack this content.
    pub fn cravers(&self, hash: Hash) -> impl Iterator<Item = NodeId> + '_ {
        let from = (hash, NodeId([0; 16]));
        self.cravers
            .range(from..)
            .take_while(move |entry| entry.0 == hash)
            .map(|entry| entry.1)
    }

    pub fn craves(&self, hash: Hash) -> bool {
        self.cravers(hash).next().is_some()
    }

    pub fn hand_in(&mut self, id: NodeId, hash: Hash, bytes: Arc<[u8]>) {
        self.drop_content(id);
        let len = bytes.len() as u64;
        if self.inbox_bytes + len <= INBOX_BYTES_MAX {
            self.inbox_bytes += len;
            self.inbox.insert(id, (hash, bytes));
        }
    }

    pub fn take_content(&mut self, id: NodeId, hash: Hash) -> Option<Arc<[u8]>> {
        let (have, bytes) = self.drop_content(id)?;
        (have == hash).then_some(bytes)
    }

    fn drop_content(&mut self, id: NodeId) -> Option<(Hash, Arc<[u8]>)> {
        let content = self.inbox.remove(&id)?;
        self.inbox_bytes -= content.1.len() as u64;
        Some(content)
    }

    /// A copy from another file of this disk went wrong: take it from elsewhere, unless that file
    /// turns out to be somewhere else, or another one by now.
    pub fn donor_is_bad(&mut self, job: &Job) {
        if let Some((path, print)) = job.donor.clone() {
            let bad = self.bad_donors.entry(job.node).or_default();
            bad.insert(path, print);
        }
    }

    pub fn is_bad_donor(&self, id: NodeId, path: &RelPath, print: &Print) -> bool {
        let bad = self.bad_donors.get(&id).and_then(|bad| bad.get(path));
        bad == Some(print)
    }

    // Sources.

    /// A peer says that it holds this version.
    pub fn offer(&mut self, id: NodeId, link: LinkId) {
        let is_wanted = self.craving.contains_key(&id);
        self.turns.offer(id, link, is_wanted);
    }

    /// A link is new: whatever lacks a source may find it there.
    pub fn take_unsourced(&mut self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.unsourced)
    }
}

/// The file of this disk that a step copies or takes over for another node.
fn donor(act: &Act, after: &After) -> Option<(RelPath, Print)> {
    match (act, after) {
        (Act::Write { source, .. }, _) => match source {
            Source::Local { from, expect } => Some((from.clone(), *expect)),
            Source::Here(_) | Source::Peer { .. } => None,
        },
        (
            Act::Move { from, expect, .. }
            | Act::SetMeta {
                at: from, expect, ..
            }
            | Act::Park { at: from, expect },
            After::Inherit(..),
        ) => Some((from.clone(), *expect)),
        (
            Act::MakeDir { .. }
            | Act::MakeLink { .. }
            | Act::SetMeta { .. }
            | Act::Move { .. }
            | Act::Remove { .. }
            | Act::Park { .. }
            | Act::Unpark { .. },
            _,
        ) => None,
    }
}

/// A name that can stand anywhere for a node that has none.
pub fn orphan_name(id: NodeId) -> Name {
    let hex: String = id.0.iter().map(|b| format!("{b:02x}")).collect();
    Name::new(format!("recovered {hex}").as_bytes()).expect("letters and digits")
}

/// The same; each attempt is another, as somebody may have taken it.
pub fn stray_name(id: NodeId, attempt: u32) -> Name {
    match attempt {
        0 => orphan_name(id),
        more => {
            let plain = orphan_name(id);
            let more = format!(", {more}");
            let name = [plain.as_bytes(), more.as_bytes()].concat();
            Name::new(&name).expect("letters, digits and a comma")
        }
    }
}
