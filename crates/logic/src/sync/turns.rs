//! Whose turn it is to be fetched, and from whom.
//!
//! A few files are fetched at a time, a part of them from each peer, in an order that is this
//! machine's own. Machines that join together are to have something to give to each other, and the
//! one that they join is to send little twice: so each of those that lack a file knows which one
//! of them is to fetch it first, and the others take it from that one.

use std::collections::{BTreeMap, BTreeSet};

use ahoy_wire::sync::{NodeId, ReplicaId};

use super::LinkId;

/// Most files that are being fetched from peers at one time.
const FETCHES_MAX: usize = 16;

/// So many of one peer in any case.
const FETCHES_EACH: usize = 4;

/// Where there are several peers, no more is asked of one while so many bytes are on their way from
/// it: the sooner a file is whole, the sooner it can be passed on.
const BYTES_EACH: u64 = 1024 * 1024;

/// What another machine is to fetch first is fetched all the same if fewer than this are under
/// way: that one may be slow, or have no room.
const IDLE_BELOW: usize = 1;

/// How many nodes that wait for their turn are looked at for one whose source has room.
const UNFETCHED_LOOKED_AT: usize = 256;

/// 2^64 over the golden ratio: multiples of it are far from each other.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A peer that may have what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The session with it.
    pub link: LinkId,
    /// Which copy it is, if it has said that.
    pub replica: Option<ReplicaId>,
}

/// The books.
#[derive(Debug, Default)]
pub struct Turns {
    /// Which copy this is.
    me: Option<ReplicaId>,
    /// What waits, in this machine's own order.
    unfetched: BTreeMap<[u8; 16], NodeId>,
    /// The one whose turn it is.
    chosen: Option<NodeId>,
    /// What is being fetched from each peer.
    fetching: BTreeMap<LinkId, UnderWay>,
    /// Which peers have said that they hold a node's version.
    offers: BTreeMap<NodeId, BTreeSet<LinkId>>,
    /// In how many of these sets a peer is.
    offered: BTreeMap<LinkId, usize>,
    refusals: BTreeMap<NodeId, BTreeSet<LinkId>>,
    refused_rounds: BTreeMap<NodeId, u32>,
}

#[derive(Debug, Default, Clone, Copy)]
struct UnderWay {
    files: usize,
    bytes: u64,
}

impl Turns {
    /// Says which copy this is.
    pub fn set_me(&mut self, replica: ReplicaId) {
        self.me = Some(replica);
    }

    /// How many wait.
    pub fn left(&self) -> usize {
        self.unfetched.len()
    }

    /// Those that wait.
    pub fn waiting(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.unfetched.values().copied()
    }

    pub fn wait(&mut self, id: NodeId) {
        let key = self.own_key(id);
        self.unfetched.insert(key, id);
    }

    pub fn stop_waiting(&mut self, id: NodeId) {
        let key = self.own_key(id);
        self.unfetched.remove(&key);
    }

    /// Each machine fetches in an order of its own.
    fn own_key(&self, NodeId(id): NodeId) -> [u8; 16] {
        let order = self
            .me
            .map_or(0, |me| me.0)
            .wrapping_mul(GOLDEN)
            .to_be_bytes();
        std::array::from_fn(|at| id[at] ^ order[at % 8])
    }

    /// It is as it should be.
    pub fn settled(&mut self, id: NodeId) {
        for link in self.offers.remove(&id).unwrap_or_default() {
            if let Some(count) = self.offered.get_mut(&link) {
                *count = count.saturating_sub(1);
            }
        }
        self.refusals.remove(&id);
        self.refused_rounds.remove(&id);
    }

    /// A peer says that it holds this version; `is_wanted` if that is not here.
    pub fn offer(&mut self, id: NodeId, link: LinkId, is_wanted: bool) {
        let is_new = (is_wanted || !self.offers.contains_key(&id))
            && self.offers.entry(id).or_default().insert(link);
        if is_new {
            *self.offered.entry(link).or_insert(0) += 1;
        }
        if let Some(refusals) = self.refusals.get_mut(&id) {
            refusals.remove(&link);
        }
    }

    pub fn refused(&mut self, id: NodeId, link: Option<LinkId>) {
        if let Some(link) = link {
            self.refusals.entry(id).or_default().insert(link);
        }
    }

    /// Everybody has refused this content; asks all of them once more. How often that was so.
    pub fn ask_again(&mut self, id: NodeId) -> u32 {
        self.refusals.remove(&id);
        let rounds = self.refused_rounds.entry(id).or_insert(0);
        *rounds += 1;
        *rounds
    }

    /// A fetch of so many bytes from this peer begins.
    pub fn begin(&mut self, link: LinkId, size: u64) {
        let under_way = self.fetching.entry(link).or_default();
        under_way.files += 1;
        under_way.bytes = under_way.bytes.saturating_add(size);
    }

    /// It has come to its end, one way or another.
    pub fn end(&mut self, link: LinkId, size: u64) {
        if let Some(under_way) = self.fetching.get_mut(&link) {
            under_way.files = under_way.files.saturating_sub(1);
            under_way.bytes = under_way.bytes.saturating_sub(size);
        }
    }

    pub fn link_closed(&mut self, link: LinkId) {
        self.fetching.remove(&link);
        self.offered.remove(&link);
        for links in self.offers.values_mut().chain(self.refusals.values_mut()) {
            links.remove(&link);
        }
    }

    fn under_way(&self) -> usize {
        self.fetching
            .values()
            .map(|under_way| under_way.files)
            .sum()
    }

    fn from(&self, link: LinkId) -> UnderWay {
        self.fetching.get(&link).copied().unwrap_or_default()
    }

    fn offers_in_all(&self, link: LinkId) -> usize {
        self.offered.get(&link).copied().unwrap_or(0)
    }

    fn is_offered(&self, id: NodeId, link: LinkId) -> bool {
        let offers = self.offers.get(&id);
        offers.is_some_and(|offers| offers.contains(&link))
    }

    /// Whether one more fetch from this link leaves the others something to do.
    pub fn may_ask(&self, link: LinkId, open: &[Holder]) -> bool {
        let UnderWay { files, bytes } = self.from(link);
        match open.len() {
            0 | 1 => files < FETCHES_MAX,
            links => files < (FETCHES_MAX / links).max(FETCHES_EACH) && bytes < BYTES_EACH,
        }
    }

    /// Whom to ask: one of those that have said to hold it, or else of those that have not yet said
    /// no. Of them one with room, of those one that does not have everything, since it can give
    /// less to others, and of those the least busy.
    pub fn pick_link(&self, id: NodeId, open: &[Holder]) -> Option<LinkId> {
        self.pick(id, open, self.most_offers(open))
    }

    fn pick(&self, id: NodeId, open: &[Holder], most: usize) -> Option<LinkId> {
        let refusals = self.refusals.get(&id);
        let has_refused = |link: LinkId| refusals.is_some_and(|r| r.contains(&link));
        let links = open.iter().map(|holder| holder.link);
        let willing = links.filter(|link| !has_refused(*link));
        willing.min_by_key(|link| {
            (
                !self.is_offered(id, *link),
                !self.may_ask(*link, open),
                self.offers_in_all(*link) == most,
                self.from(*link).files,
                *link,
            )
        })
    }

    /// How much the peer offers that offers most.
    fn most_offers(&self, open: &[Holder]) -> usize {
        let offers = open.iter().map(|holder| self.offers_in_all(holder.link));
        offers.max().unwrap_or(0)
    }

    /// Whether of all that lack it this machine is to fetch it first. All of them come to the same
    /// answer as long as they see the same peers.
    fn is_ours(&self, id: NodeId, open: &[Holder]) -> bool {
        let lack = open.iter().filter(|it| !self.is_offered(id, it.link));
        let replicas = lack.filter_map(|holder| holder.replica);
        let first = replicas.map(|replica| weight(id, replica)).max();
        first < self.me.map(|me| weight(id, me))
    }

    /// The node whose turn to be fetched it is, if there is room for one: of those whose source has
    /// room, and that are not better left to another machine, which passes them on, one that few
    /// offer. If there is none, a fetch is under way, whose end is the next occasion.
    pub fn take_next(&mut self, open: &[Holder]) -> Option<NodeId> {
        let under_way = self.under_way();
        if under_way >= FETCHES_MAX {
            return None;
        }
        let most = self.most_offers(open);
        // If next to nothing is under way, there is nothing better to do.
        let is_left_to_others = |id: NodeId, link: LinkId| {
            under_way >= IDLE_BELOW && self.offers_in_all(link) == most && !self.is_ours(id, open)
        };
        let can_come = |(_, id): &(&[u8; 16], &NodeId)| {
            let link = self.pick(**id, open, most);
            link.is_none_or(|link| self.may_ask(link, open) && !is_left_to_others(**id, link))
        };
        let first = self.unfetched.iter().take(UNFETCHED_LOOKED_AT);
        let mut first = first.filter(can_come);
        let (key, _) = if open.len() > 1 {
            first.min_by_key(|(_, id)| self.offers.get(id).map_or(0, BTreeSet::len))
        } else {
            first.next()
        }?;
        let key = *key;
        self.chosen = self.unfetched.remove(&key);
        self.chosen
    }

    /// Whether it was this node's turn to be fetched, and there is still room; it is not its turn
    /// any more. Something else may have held the node up since it was chosen.
    pub fn take(&mut self, id: NodeId) -> bool {
        let was_chosen = self.chosen.take_if(|chosen| *chosen == id).is_some();
        was_chosen && self.under_way() < FETCHES_MAX
    }
}

/// How much a machine has a claim to fetch a node first: as good as drawn by lot, and the same
/// wherever it is worked out.
fn weight(NodeId(id): NodeId, replica: ReplicaId) -> u64 {
    let id = u128::from_le_bytes(id);
    let mut mixed = (id as u64).wrapping_mul(GOLDEN) ^ ((id >> 64) as u64);
    mixed ^= replica.copy().0.wrapping_mul(GOLDEN);
    // The end of splitmix64.
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: u64) -> Vec<NodeId> {
        let node = |n: u64| {
            let bytes = n.wrapping_mul(0x5851_F42D_4C95_7F2D).to_be_bytes();
            NodeId(std::array::from_fn(|at| bytes[at % 8]))
        };
        (1..=count).map(node).collect()
    }

    fn holder(number: u64) -> Holder {
        Holder {
            link: LinkId(number),
            replica: Some(ReplicaId(number)),
        }
    }

    fn turns(me: u64, nodes: &[NodeId]) -> Turns {
        let mut turns = Turns::default();
        turns.set_me(ReplicaId(me));
        nodes.iter().for_each(|id| turns.wait(*id));
        turns
    }

    #[test]
    fn each_machine_fetches_in_an_order_of_its_own() {
        let nodes = nodes(100);
        let order = |me| {
            let mut turns = turns(me, &nodes);
            std::iter::from_fn(|| turns.take_next(&[holder(9)])).collect::<Vec<NodeId>>()
        };
        let orders: Vec<Vec<NodeId>> = (1..=4).map(order).collect();
        for (number, one) in orders.iter().enumerate() {
            let mut all = one.clone();
            all.sort_unstable();
            let mut sorted = nodes.clone();
            sorted.sort_unstable();
            assert_eq!(all, sorted, "every node has its turn once");
            for other in &orders[..number] {
                let same = one[..10].iter().filter(|id| other[..10].contains(id));
                assert!(same.count() < 5, "the first ten are much the same");
            }
        }
        let mut nothing = Turns::default();
        assert_eq!(nothing.take_next(&[holder(9)]), None);
        assert!(nothing.may_ask(LinkId(9), &[holder(9)]));
    }

    #[test]
    fn what_few_offer_is_fetched_first() {
        let nodes = nodes(40);
        let mut turns = turns(1, &nodes);
        for (number, id) in nodes.iter().enumerate() {
            turns.offer(*id, LinkId(8), true);
            if number % 2 == 0 {
                turns.offer(*id, LinkId(9), true);
            }
        }
        let open = [holder(8), holder(9)];
        let taken: Vec<NodeId> = std::iter::from_fn(|| turns.take_next(&open)).collect();
        let is_rare = |id: &NodeId| {
            nodes
                .iter()
                .position(|it| it == id)
                .is_some_and(|n| n % 2 == 1)
        };
        assert_eq!(taken.len(), 40);
        assert!(taken[..20].iter().all(is_rare) && !taken[20..].iter().any(is_rare));
        // The turn is one node's, and once.
        let last = taken[39];
        assert!(!turns.take(taken[0]));
        assert!(turns.take(last) && !turns.take(last));
    }

    /// Four machines join a fifth that has everything: what they take from it differs.
    #[test]
    fn machines_that_join_together_share_the_work() {
        let (nodes, seed) = (nodes(200), holder(9));
        let mut taken = BTreeMap::new();
        for me in 1..=4 {
            let mut turns = turns(me, &nodes);
            for id in &nodes {
                turns.offer(*id, seed.link, true);
            }
            let others = (1..=4).filter(|other| *other != me).map(holder);
            let open: Vec<Holder> = others.chain([seed]).collect();
            // As long as something is under way, what is another's part is left to that one.
            (0..IDLE_BELOW).for_each(|_| turns.begin(seed.link, 1));
            for id in std::iter::from_fn(|| turns.take_next(&open)) {
                assert_eq!(taken.insert(id, me), None, "two machines fetch {id:?}");
            }
            let rest = turns.left();
            assert!((130..170).contains(&rest), "{rest} are left to others");
            // What another one has got comes from there.
            let other = open[0].link;
            let theirs = turns.waiting().next().expect("some are left");
            turns.offer(theirs, other, true);
            assert_eq!(turns.pick_link(theirs, &open), Some(other));
            assert_eq!(turns.take_next(&open), Some(theirs));
            // And nothing waits for ever for a machine that does not fetch its part.
            (0..IDLE_BELOW).for_each(|_| turns.end(seed.link, 1));
            let all = std::iter::from_fn(|| turns.take_next(&open)).count();
            assert_eq!(all, rest - 1);
        }
        assert_eq!(taken.len(), nodes.len(), "each is somebody's part");
    }
}
