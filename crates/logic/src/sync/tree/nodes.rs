//! All nodes of a share, found by id.
//!
//! Ids are drawn at random, so in an ordered map of a million each step of a search is at another
//! place in memory; a table of hashes takes one step. Nobody may rely on the order of such a table:
//! the nodes themselves stand in the order in which they came, and the table has their places.

use std::hash::{DefaultHasher, Hasher};

use ahoy_wire::sync::NodeId;
use hashbrown::HashTable;

use super::Node;

/// How many nodes are in one piece of memory; 60 KiB or so.
const PIECE: usize = 128;

/// 2^64 through the golden ratio, as it is used for such steps (Knuth, volume 3, 6.4).
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The nodes; none ever goes.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    row: Row,
    /// Places in the row, by the hash of the id there.
    places: HashTable<u32>,
    seed: Seed,
}

impl Nodes {
    /// These nodes, each with an id of its own. Who chooses ids and does not know `seed` cannot
    /// choose them so that they meet in the table.
    pub(super) fn new(seed: u64, row: Row) -> Self {
        let seed = Seed::new(seed);
        let mut places = HashTable::with_capacity(row.len());
        for place in 0..row.len() {
            let hash = |place: &u32| seed.hash(id_at(&row, *place));
            let place = narrow(place);
            places.insert_unique(hash(&place), place, hash);
        }
        Self { row, places, seed }
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Node> {
        self.place(id).map(|place| self.row.at(place))
    }

    pub(super) fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.place(id).map(|place| self.row.at_mut(place))
    }

    /// Adds a node, or replaces the one of that id.
    pub(super) fn insert(&mut self, node: Node) {
        let id = node.record.id;
        if let Some(place) = self.place(id) {
            *self.row.at_mut(place) = node;
            return;
        }
        let place = narrow(self.row.len());
        self.row.push(node);
        let (row, seed) = (&self.row, self.seed);
        let hash = |place: &u32| seed.hash(id_at(row, *place));
        self.places.insert_unique(hash(&place), place, hash);
    }

    /// All of them, in the order in which they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.from(0)
    }

    /// Those that came after this one; all of them after none, and after one that is not here.
    pub(super) fn after(&self, id: Option<NodeId>) -> impl Iterator<Item = (NodeId, &Node)> {
        let place = id.and_then(|id| self.place(id));
        self.from(place.map_or(0, |place| place + 1))
    }

    fn from(&self, place: usize) -> impl Iterator<Item = (NodeId, &Node)> {
        let rest = (place..self.row.len()).map(|place| self.row.at(place));
        rest.map(|node| (node.record.id, node))
    }

    fn place(&self, id: NodeId) -> Option<usize> {
        let is_it = |place: &u32| id_at(&self.row, *place) == id;
        let place = self.places.find(self.seed.hash(id), is_it);
        place.map(|place| *place as usize)
    }
}

fn id_at(row: &Row, place: u32) -> NodeId {
    row.at(place as usize).record.id
}

fn narrow(place: usize) -> u32 {
    u32::try_from(place).expect("memory ends long before four billion nodes")
}

/// Nodes in a row that grows without moving any: in pieces, all but the last of them full.
#[derive(Debug, Default)]
pub(super) struct Row(Vec<Vec<Node>>);

impl Row {
    pub(super) fn push(&mut self, node: Node) {
        match self.0.last_mut().filter(|piece| piece.len() < PIECE) {
            Some(piece) => piece.push(node),
            None => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(node);
                self.0.push(piece);
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.0.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.0.iter_mut().flatten()
    }

    fn len(&self) -> usize {
        let last = self.0.last().map_or(0, Vec::len);
        self.0.len().saturating_sub(1) * PIECE + last
    }

    fn at(&self, place: usize) -> &Node {
        &self.0[place / PIECE][place % PIECE]
    }

    fn at_mut(&mut self, place: usize) -> &mut Node {
        &mut self.0[place / PIECE][place % PIECE]
    }
}

/// Hashes ids in the same way throughout one run of an engine: by multiply-shift (Dietzfelbinger,
/// 1996), with which any two ids meet as rarely as chance has it, whoever chose them. What is mixed
/// afterwards is for ids that follow one another in equal steps, of which many can meet.
#[derive(Debug, Clone, Copy)]
struct Seed([u128; 3]);

impl Seed {
    fn new(seed: u64) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(seed);
        let mut word = || {
            hasher.write_u8(0);
            u128::from(hasher.finish())
        };
        Self([(); 3].map(|()| word() << 64 | word()))
    }

    fn hash(self, id: NodeId) -> u64 {
        let Self([first, second, offset]) = self;
        let id = u128::from_le_bytes(id.0);
        let (low, high) = (id & u128::from(u64::MAX), id >> 64);
        let sum = offset.wrapping_add(first.wrapping_mul(low));
        let sum = sum.wrapping_add(second.wrapping_mul(high));
        let hash = (sum >> 64) as u64;
        let hash = (hash ^ hash >> 32).wrapping_mul(ODD);
        hash ^ hash >> 32
    }
}

impl Default for Seed {
    fn default() -> Self {
        Self::new(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Ids with a pattern in them spread over a table's places as drawn ones would.
    #[test]
    fn ids_with_a_pattern_do_not_meet() {
        const IDS: u128 = 1 << 12;
        const PLACES: u64 = 1 << 16;
        let patterns: [fn(u128) -> u128; 4] = [
            |n| n,
            |n| n << 64,
            |n| n << 116,
            |n| n << 64 | (u128::from(u64::MAX) - n),
        ];
        for seed in 0..8 {
            let seed = Seed::new(seed);
            for (which, pattern) in patterns.iter().enumerate() {
                let hash = |n: u128| seed.hash(NodeId(pattern(n).to_le_bytes()));
                // The table takes the places from the low bits, and the tags from the high ones.
                let taken = |part: fn(u64) -> u64| {
                    let taken: BTreeSet<u64> = (0..IDS).map(|n| part(hash(n))).collect();
                    taken.len()
                };
                let places = taken(|hash| hash % PLACES);
                // Of drawn ones about 128 meet another.
                assert!(places > 3_700, "pattern {which}: {places} places");
                assert_eq!(taken(|hash| hash >> 57), 128, "pattern {which}: tags");
            }
        }
    }
}
