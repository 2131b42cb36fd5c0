//! All nodes of a share, found by id.
//!
//! Ids are drawn at random, so in an ordered map of a million each step of a search is at another
//! place in memory; a table of hashes takes one step. Nobody may rely on the order of such a table:
//! the nodes themselves stand in the order in which they came, and the table has their places.

use std::hash::{BuildHasher, DefaultHasher, Hasher};

use ahoy_wire::sync::NodeId;
use hashbrown::HashTable;

use super::Node;

/// How many nodes are in one piece of memory; 60 KiB or so.
const PIECE: usize = 128;

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
        let seed = Seed(seed);
        let mut places = HashTable::with_capacity(row.len());
        for place in 0..row.len() {
            let hash = |place: &u32| seed.hash_one(id_at(&row, *place));
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
        let hash = |place: &u32| seed.hash_one(id_at(row, *place));
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
        let place = self.places.find(self.seed.hash_one(id), is_it);
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

/// Hashes ids in the same way throughout one run of an engine.
#[derive(Debug, Clone, Copy, Default)]
struct Seed(u64);

impl BuildHasher for Seed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}
