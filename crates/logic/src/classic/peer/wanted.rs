//! What is to be fetched, from whom, and when to try again.
//!
//! A wanted file has up to four known holders: the one that the directory lists, and those that it
//! listed before, as long as what they have is newer than what is here. A holder that fails is left
//! alone for a while that doubles; the others go on (classic-37).

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::time::Duration;

use ahoy_wire::classic::{FileName, Generation, Holder, Mtime};

use super::port::FetchTrouble;
use crate::moment::Moment;

/// Holders that are remembered for one file.
const CANDIDATES_MAX: usize = 4;
/// A holder that no directory has listed for so long is forgotten.
const CANDIDATE_AGE_MAX: Duration = Duration::from_secs(180);
/// Files fetched from one holder at a time; from one that has just failed, 1.
const FETCHES_PER_HOLDER_MAX: usize = 4;
/// Holders that are remembered.
const HOLDERS_MAX: usize = 16_384;
/// The first wait after a failure.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest wait after failures.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// The files that are wanted, and their holders.
#[derive(Debug, Default)]
pub(super) struct WantedFiles {
    files: BTreeMap<FileName, Wanted>,
    holders: BTreeMap<SocketAddr, HolderState>,
    /// When something that must wait now may be tried.
    next_try: Option<Moment>,
}

#[derive(Debug, Default)]
struct Wanted {
    candidates: Vec<Candidate>,
    running: bool,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    addr: SocketAddr,
    mtime: Mtime,
    seen: Moment,
    wait: Wait,
}

#[derive(Clone, Copy, Debug, Default)]
struct HolderState {
    running: usize,
    wait: Wait,
    spoke: Option<Generation>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Wait {
    failures: u32,
    until: Moment,
}

/// What to fetch next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub name: FileName,
    pub holder: SocketAddr,
    pub mtime: Mtime,
    pub proven: Option<Generation>,
}

impl WantedFiles {
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) fn next_try(&self) -> Option<Moment> {
        self.next_try
    }

    /// A directory lists this holder of a file that is absent here or older.
    pub(super) fn list(&mut self, now: Moment, name: &FileName, holder: Holder) {
        let wanted = self.files.entry(name.clone()).or_default();
        let known = wanted.candidates.iter().position(|c| c.addr == holder.addr);
        let mut candidate = Candidate {
            addr: holder.addr,
            mtime: holder.mtime,
            seen: now,
            wait: Wait::default(),
        };
        if let Some(known) = known {
            let former = wanted.candidates.remove(known);
            if former.mtime == candidate.mtime {
                candidate.wait = former.wait;
            }
        }
        // The listed one first, then those listed before.
        wanted.candidates.insert(0, candidate);
        wanted.candidates.truncate(CANDIDATES_MAX);
    }

    /// Keeps only what is still wanted: `have` says when the file here was last changed.
    pub(super) fn prune(&mut self, now: Moment, have: impl Fn(&FileName) -> Option<Mtime>) {
        self.files.retain(|name, wanted| {
            let have = have(name);
            wanted.candidates.retain(|candidate| {
                let is_newer = have.is_none_or(|have| have < candidate.mtime);
                is_newer && now - candidate.seen < CANDIDATE_AGE_MAX
            });
            wanted.running || !wanted.candidates.is_empty()
        });
        let wait_max = RETRY_MAX * 2;
        self.holders.retain(|_, holder| {
            holder.running > 0 || holder.spoke.is_some() || now < holder.wait.until + wait_max
        });
    }

    /// The next file that can be fetched now; it counts as being fetched from here on.
    pub(super) fn choose(&mut self, now: Moment) -> Option<Choice> {
        let mut next_try: Option<Moment> = None;
        for (name, wanted) in &mut self.files {
            if wanted.running {
                continue;
            }
            let mut best: Option<Candidate> = None;
            for candidate in &wanted.candidates {
                let holder = self
                    .holders
                    .get(&candidate.addr)
                    .copied()
                    .unwrap_or_default();
                let until = candidate.wait.until.max(holder.wait.until);
                if now < until {
                    next_try = Some(next_try.map_or(until, |next| next.min(until)));
                    continue;
                }
                let failed = holder.wait.failures > 0;
                let running_max = if failed { 1 } else { FETCHES_PER_HOLDER_MAX };
                if holder.running >= running_max {
                    continue;
                }
                let rank = |c: &Candidate| (c.wait.failures, std::cmp::Reverse(c.mtime));
                if best
                    .as_ref()
                    .is_none_or(|best| rank(candidate) < rank(best))
                {
                    best = Some(*candidate);
                }
            }
            if let Some(candidate) = best {
                wanted.running = true;
                let name = name.clone();
                let holder = self.holders.entry(candidate.addr).or_default();
                holder.running += 1;
                return Some(Choice {
                    name,
                    holder: candidate.addr,
                    mtime: candidate.mtime,
                    proven: holder.spoke,
                });
            }
        }
        self.next_try = next_try;
        None
    }

    /// A chosen file has been fetched, or not.
    pub(super) fn ended(
        &mut self,
        now: Moment,
        choice: &Choice,
        spoke: Option<Generation>,
        trouble: Option<&FetchTrouble>,
    ) {
        let many = self.holders.len() > HOLDERS_MAX;
        if let Some(holder) = self.holders.get_mut(&choice.holder) {
            holder.running = holder.running.saturating_sub(1);
            holder.spoke = spoke.or(holder.spoke);
            match trouble {
                // One that serves a single client at a time may also look as if it had gone.
                Some(
                    FetchTrouble::Unreachable(_) | FetchTrouble::Stalled | FetchTrouble::Uncertain,
                ) => holder.wait.fail(now),
                Some(
                    FetchTrouble::Missing
                    | FetchTrouble::Short { .. }
                    | FetchTrouble::Surplus { .. }
                    | FetchTrouble::Nothing
                    | FetchTrouble::TooLong
                    | FetchTrouble::Changed
                    | FetchTrouble::Disk(_),
                ) => {}
                None => holder.wait = Wait::default(),
            }
            if many && holder.running == 0 {
                self.holders.remove(&choice.holder);
            }
        }
        let Some(wanted) = self.files.get_mut(&choice.name) else {
            return;
        };
        wanted.running = false;
        if trouble.is_some() {
            let candidates = wanted.candidates.iter_mut();
            for candidate in candidates.filter(|c| c.addr == choice.holder) {
                candidate.wait.fail(now);
            }
        }
    }
}

impl Wait {
    fn fail(&mut self, now: Moment) {
        let doubled = RETRY_FIRST.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(60));
        self.failures = self.failures.saturating_add(1).min(16);
        self.until = now + doubled.min(RETRY_MAX);
    }
}
