//! What is missing, and how sure that is: found by node, and by what is to be done about it, so
//! that nobody goes through all that is missing for the few of whom there is news.

use std::collections::{BTreeMap, BTreeSet};

use ahoy_wire::sync::NodeId;

/// How sure it is that something is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Missing {
    Suspected,
    /// A look with this number was asked for.
    Asked(u64),
    Confirmed,
}

/// All that is missing.
#[derive(Debug, Default)]
pub(super) struct Absent {
    states: BTreeMap<NodeId, Missing>,
    /// The same, in the order of the states.
    sorted: BTreeSet<(Missing, NodeId)>,
}

impl Absent {
    pub fn get(&self, id: NodeId) -> Option<Missing> {
        self.states.get(&id).copied()
    }

    pub fn len(&self) -> usize {
        self.states.len()
    }

    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Notes how sure it is. True if it was not known to be missing.
    pub fn note(&mut self, id: NodeId, state: Missing) -> bool {
        let before = self.states.insert(id, state);
        if let Some(before) = before {
            self.sorted.remove(&(before, id));
        }
        self.sorted.insert((state, id));
        before.is_none()
    }

    pub fn remove(&mut self, id: NodeId) {
        if let Some(state) = self.states.remove(&id) {
            self.sorted.remove(&(state, id));
        }
    }

    /// Only those stay.
    pub fn retain(&mut self, stays: impl Fn(NodeId) -> bool) {
        self.states.retain(|id, _| stays(*id));
        self.sorted.retain(|(_, id)| stays(*id));
    }

    /// Nothing is any surer than that.
    pub fn suspect_all(&mut self) {
        for state in self.states.values_mut() {
            *state = Missing::Suspected;
        }
        let suspected = self.states.keys().map(|id| (Missing::Suspected, *id));
        self.sorted = suspected.collect();
    }

    /// What has not been asked for, or has been with a look up to this one.
    pub fn to_ask(&self, answered: u64) -> impl Iterator<Item = (NodeId, Missing)> + '_ {
        let last = Missing::Asked(answered);
        let asked = self.sorted.iter().take_while(move |it| it.0 <= last);
        asked.map(|(state, id)| (*id, *state))
    }

    /// What is gone.
    pub fn confirmed(&self) -> impl Iterator<Item = NodeId> + '_ {
        let first = (Missing::Confirmed, NodeId::ROOT);
        self.sorted.range(first..).map(|(_, id)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_found_by_how_sure_that_is() {
        let id = |n| NodeId([n; 16]);
        let mut absent = Absent::default();
        assert!(absent.note(id(1), Missing::Suspected));
        assert!(absent.note(id(2), Missing::Suspected));
        assert!(!absent.note(id(2), Missing::Asked(7)));
        assert!(absent.note(id(3), Missing::Confirmed));
        assert!(absent.note(id(4), Missing::Asked(9)));
        let to_ask = |absent: &Absent, answered| -> Vec<NodeId> {
            absent.to_ask(answered).map(|(id, _)| id).collect()
        };
        assert_eq!(to_ask(&absent, 6), [id(1)]);
        assert_eq!(to_ask(&absent, 8), [id(1), id(2)]);
        assert_eq!(absent.confirmed().collect::<Vec<_>>(), [id(3)]);
        absent.note(id(2), Missing::Confirmed);
        absent.remove(id(3));
        assert_eq!(absent.confirmed().collect::<Vec<_>>(), [id(2)]);
        absent.suspect_all();
        assert_eq!(to_ask(&absent, 0), [id(1), id(2), id(4)]);
        absent.retain(|it| it == id(4));
        assert_eq!((absent.len(), absent.get(id(2))), (1, None));
        assert_eq!(to_ask(&absent, 0), [id(4)]);
    }
}
