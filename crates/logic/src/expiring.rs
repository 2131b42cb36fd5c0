//! A map whose entries end by themselves: leases, live peers, idle connections, announcements.
//!
//! Entries stand beside a sorted set of their deadlines, so the next one due is known in O(log n)
//! and a sweep costs only what it removes. Iteration is in key order, so that two runs with equal
//! input give equal output. It has no clock and starts no timer: the owner asks for
//! [`deadline`](ExpiringMap::deadline) and calls [`expire_one`](ExpiringMap::expire_one) when that
//! moment has come. A late call changes nothing that anyone can see, because every read takes `now`
//! and treats an entry whose deadline has been reached as absent.

use std::collections::{BTreeMap, BTreeSet};

use crate::moment::Moment;

/// At most `len_max` entries, each with a deadline. An entry lives while `now < deadline`.
#[derive(Clone, Debug)]
pub struct ExpiringMap<K, V> {
    entries: BTreeMap<K, Entry<V>>,
    /// Exactly one pair for each entry; the first pair is the next to end.
    deadlines: BTreeSet<(Moment, K)>,
    len_max: usize,
}

#[derive(Clone, Debug)]
struct Entry<V> {
    value: V,
    deadline: Moment,
}

/// The map holds as many entries as it may; the key was not inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room: {len_max} entries is the limit")]
pub struct Full {
    /// The limit that was reached, in entries.
    pub len_max: usize,
}

impl<K: Ord + Clone, V> ExpiringMap<K, V> {
    /// An empty map that will never hold more than `len_max` entries.
    #[must_use]
    pub fn new(len_max: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            len_max,
        }
    }

    /// Puts `value` under `key` until `deadline` and gives back the value it replaces (which may
    /// have been past its own deadline).
    ///
    /// Entries that are due but not yet swept count towards the limit: sweep before inserting.
    ///
    /// # Errors
    /// [`Full`] if `key` is new and there is no room for it. Nothing has changed then.
    pub fn insert(&mut self, key: K, value: V, deadline: Moment) -> Result<Option<V>, Full> {
        if !self.entries.contains_key(&key) && self.entries.len() >= self.len_max {
            return Err(Full {
                len_max: self.len_max,
            });
        }
        let replaced = self.remove(&key);
        self.deadlines.insert((deadline, key.clone()));
        self.entries.insert(key, Entry { value, deadline });
        self.check();
        Ok(replaced)
    }

    /// The live value under `key`.
    pub fn get(&self, key: &K, now: Moment) -> Option<&V> {
        let entry = self.entries.get(key)?;
        (now < entry.deadline).then_some(&entry.value)
    }

    /// The live value under `key`, to be changed in place; its deadline stays.
    pub fn get_mut(&mut self, key: &K, now: Moment) -> Option<&mut V> {
        let entry = self.entries.get_mut(key)?;
        (now < entry.deadline).then_some(&mut entry.value)
    }

    /// When the entry under `key` ends, if it is alive now.
    pub fn deadline_of(&self, key: &K, now: Moment) -> Option<Moment> {
        let entry = self.entries.get(key)?;
        (now < entry.deadline).then_some(entry.deadline)
    }

    /// Moves the end of a live entry, forwards or back. False if there is no such live entry.
    pub fn renew(&mut self, key: &K, now: Moment, deadline: Moment) -> bool {
        let Some(entry) = self.entries.get_mut(key) else {
            return false;
        };
        if entry.deadline <= now {
            return false;
        }
        let former = std::mem::replace(&mut entry.deadline, deadline);
        self.deadlines.remove(&(former, key.clone()));
        self.deadlines.insert((deadline, key.clone()));
        self.check();
        true
    }

    /// Takes the entry under `key` out, whether it is alive or due.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.deadlines.remove(&(entry.deadline, key.clone()));
        self.check();
        Some(entry.value)
    }

    /// The moment at which the next entry ends; None if the map is empty.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Takes out one entry that is due, the earliest first; None when no more are due.
    ///
    /// Call it in a loop: `while let Some((key, value)) = map.expire_one(now) { .. }`.
    pub fn expire_one(&mut self, now: Moment) -> Option<(K, V)> {
        if self.deadline()? > now {
            return None;
        }
        let (_, key) = self.deadlines.pop_first()?;
        let entry = self.entries.remove(&key)?;
        self.check();
        Some((key, entry.value))
    }

    /// The live entries in key order.
    pub fn iter(&self, now: Moment) -> impl Iterator<Item = (&K, &V)> {
        self.entries
            .iter()
            .filter(move |(_, entry)| now < entry.deadline)
            .map(|(key, entry)| (key, &entry.value))
    }

    /// How many entries are held, those included that are due but not yet swept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is held at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The most entries this map will hold.
    #[must_use]
    pub fn len_max(&self) -> usize {
        self.len_max
    }

    fn check(&self) {
        debug_assert_eq!(
            self.entries.len(),
            self.deadlines.len(),
            "one deadline for each entry"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::ORIGIN + Duration::from_secs(seconds)
    }

    #[test]
    fn an_entry_ends_exactly_at_its_deadline_swept_or_not() {
        let mut map = ExpiringMap::new(4);
        map.insert("a", 1, at(30)).expect("there is room");
        assert_eq!(map.get(&"a", at(29)), Some(&1));
        assert_eq!(map.get(&"a", at(30)), None);
        assert_eq!(map.get_mut(&"a", at(30)), None);
        assert_eq!(map.iter(at(30)).count(), 0);
        assert!(!map.renew(&"a", at(30), at(60)), "the dead are not renewed");
        assert_eq!(map.len(), 1);
        assert_eq!(map.expire_one(at(29)), None);
        assert_eq!(map.expire_one(at(30)), Some(("a", 1)));
        assert!(map.is_empty());
    }

    #[test]
    fn entries_end_in_order_of_their_deadlines() {
        let mut map = ExpiringMap::new(4);
        for (key, end) in [("late", 9), ("soon", 3), ("next", 5)] {
            map.insert(key, (), at(end)).expect("there is room");
        }
        assert_eq!(map.deadline(), Some(at(3)));
        assert!(map.renew(&"soon", at(0), at(7)));
        assert_eq!(map.deadline(), Some(at(5)));
        let ended: Vec<_> = std::iter::from_fn(|| map.expire_one(at(8)))
            .map(|(k, ())| k)
            .collect();
        assert_eq!(ended, ["next", "soon"]);
        assert_eq!(map.deadline_of(&"late", at(8)), Some(at(9)));
    }

    #[test]
    fn replacing_an_entry_replaces_its_deadline() {
        let mut map = ExpiringMap::new(1);
        map.insert("a", 1, at(1)).expect("there is room");
        assert_eq!(map.insert("a", 2, at(5)), Ok(Some(1)));
        assert_eq!(map.expire_one(at(4)), None);
        assert_eq!(map.remove(&"a"), Some(2));
        assert_eq!(map.deadline(), None);
    }

    #[test]
    fn a_full_map_refuses_new_keys_and_keeps_the_old() {
        let mut map = ExpiringMap::new(2);
        map.insert(1, (), at(1)).expect("there is room");
        map.insert(2, (), at(1)).expect("there is room");
        assert_eq!(map.insert(3, (), at(9)), Err(Full { len_max: 2 }));
        assert_eq!(map.insert(2, (), at(9)), Ok(Some(())));
        assert_eq!(
            map.iter(at(0)).map(|(key, ())| *key).collect::<Vec<_>>(),
            [1, 2]
        );
    }
}
