//! All links of one share: at most one for each peer, found by number.
//!
//! Two peers that dial each other at the same moment both end up with the same one of the two
//! sessions: that of the smaller peer id (`sync-46`). The engine's effects find their link here,
//! and so does whoever needs content.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use ahoy_logic::sync::{LinkId, Outgoing};
use ahoy_wire::peer::PeerId;
use ahoy_wire::sync::knock::Role;
use ahoy_wire::sync::{Chunk, Message, Stretch, Wanted};

use super::link::{Link, LinkSnapshot, Surroundings};
use super::session::{Membership, Session};
use super::supply::{Sink, Supply, SupplyTrouble};

/// Most links of one share at one time.
pub const LINKS_MAX: usize = 128;

/// News about who is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A peer is connected, by a link that is the only one.
    Opened {
        /// Who.
        peer: PeerId,
        /// Where.
        address: SocketAddr,
        /// Whether this end dialed; only then is the address one to dial again.
        role: Role,
    },
    /// A connected peer says that it takes connections here.
    Listens {
        /// Who.
        peer: PeerId,
        /// Where: the address it was seen at, and the port that it named.
        address: SocketAddr,
    },
    /// A peer is no longer connected.
    Closed {
        /// Who.
        peer: PeerId,
    },
}

/// The links of one share.
pub struct Links {
    around: Surroundings,
    state: Mutex<State>,
    watcher: OnceLock<Box<dyn Fn(Change) + Send + Sync>>,
    this: Weak<Self>,
}

#[derive(Default)]
struct State {
    last: u64,
    open: BTreeMap<LinkId, Arc<Link>>,
    by_peer: BTreeMap<PeerId, LinkId>,
    /// Peers with whom a session that this end dialed is about to be opened.
    reserved: BTreeSet<PeerId>,
    closed: bool,
}

impl State {
    /// The link with this peer. One that is over counts no more, though its threads may still be
    /// on their way out: a session that comes in its place must not wait for them.
    fn with(&self, peer: PeerId) -> Option<Arc<Link>> {
        let link = self.open.get(self.by_peer.get(&peer)?)?;
        link.end().is_none().then(|| Arc::clone(link))
    }
}

impl Links {
    /// No links yet.
    #[must_use]
    pub fn new(around: Surroundings) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            around,
            state: Mutex::default(),
            watcher: OnceLock::new(),
            this: Weak::clone(this),
        })
    }

    /// This machine's part in the share.
    #[must_use]
    pub fn membership(&self) -> &Arc<Membership> {
        &self.around.membership
    }

    /// Has `watcher` told of every change from now on; it must not block. The first one stays.
    pub fn watch(&self, watcher: impl Fn(Change) + Send + Sync + 'static) {
        let _ = self.watcher.set(Box::new(watcher));
    }

    /// Whether there is a link with `peer`.
    #[must_use]
    pub fn is_connected(&self, peer: PeerId) -> bool {
        self.lock().with(peer).is_some()
    }

    /// Keeps a place for a session that this end has dialed and that is proved but for the last
    /// message; `None` if there is a link with that peer, or a place kept for one.
    #[must_use]
    pub fn reserve(&self, peer: PeerId) -> Option<Reserved> {
        let links = self.this.upgrade()?;
        let mut state = self.lock();
        let free = !state.closed && state.with(peer).is_none();
        (free && state.reserved.insert(peer)).then(|| Reserved { links, peer })
    }

    /// Begins to use a session; `None` if there is a better one with the same peer, or no room.
    pub fn open(&self, session: Session) -> Option<LinkId> {
        let (peer, role) = (session.peer(), session.role());
        let (link, replaced) = {
            let mut state = self.lock();
            let old = state.with(peer);
            let full = state.open.len() >= LINKS_MAX;
            match &old {
                Some(old) if !(self.prefers(role, peer) || old.role() == role) => {
                    // If the peer dials anew, the old session may be dead without our knowing.
                    old.doubt();
                    return None;
                }
                None if full => return None,
                Some(_) | None => {}
            }
            if state.closed {
                return None;
            }
            state.last += 1;
            let id = LinkId(state.last);
            let link = Link::new(id, session, self.around.clone());
            state.open.insert(id, Arc::clone(&link));
            state.by_peer.insert(peer, id);
            (link, old)
        };
        if let Some(old) = replaced {
            old.hang("another session with the same peer takes its place");
        }
        let (id, address) = (link.id(), link.address());
        tracing::debug!(peer = %peer.short(), %address, ?role, link = id.0, "link opens");
        self.tell(Change::Opened {
            peer,
            address,
            role,
        });
        let links = Weak::clone(&self.this);
        link.on_listening(move |port| {
            if let Some(links) = links.upgrade() {
                let address = SocketAddr::new(address.ip(), port);
                links.tell(Change::Listens { peer, address });
            }
        });
        let links = Weak::clone(&self.this);
        link.run(move || {
            if let Some(links) = links.upgrade() {
                links.forget(id, peer);
            }
        });
        Some(id)
    }

    /// Whether a session in this role with this peer is the one to keep of two (`sync-46`).
    fn prefers(&self, role: Role, peer: PeerId) -> bool {
        let me = self.around.membership.me().id();
        match role {
            Role::Dialer => me < peer,
            Role::Acceptor => peer < me,
        }
    }

    fn forget(&self, id: LinkId, peer: PeerId) {
        let mut state = self.lock();
        state.open.remove(&id);
        let was_current = state.by_peer.get(&peer) == Some(&id);
        if was_current {
            state.by_peer.remove(&peer);
        }
        drop(state);
        if was_current {
            self.tell(Change::Closed { peer });
        }
    }

    fn tell(&self, change: Change) {
        if let Some(watcher) = self.watcher.get() {
            watcher(change);
        }
    }

    /// The link of this number, while it is open.
    #[must_use]
    pub fn link(&self, id: LinkId) -> Option<Arc<Link>> {
        self.lock().open.get(&id).cloned()
    }

    /// See [`Link::say`]; nothing happens if the link is over.
    pub fn say(&self, id: LinkId, message: Message) {
        if let Some(link) = self.link(id) {
            link.say(message);
        }
    }

    /// See [`Link::send`]; nothing happens if the link is over.
    pub fn send(&self, id: LinkId, upto: u64, items: Vec<Outgoing>) {
        if let Some(link) = self.link(id) {
            link.send(upto, items);
        }
    }

    /// See [`Link::accept`]; nothing happens if the link is over.
    pub fn accept(&self, id: LinkId) {
        if let Some(link) = self.link(id) {
            link.accept();
        }
    }

    /// See [`Link::hang`]; nothing happens if the link is over.
    pub fn hang(&self, id: LinkId, reason: &str) {
        if let Some(link) = self.link(id) {
            link.hang(reason);
        }
    }

    /// How all of them stand, in order of their numbers.
    #[must_use]
    pub fn snapshot(&self) -> Vec<LinkSnapshot> {
        let open: Vec<_> = self.lock().open.values().cloned().collect();
        open.iter().map(|link| link.snapshot()).collect()
    }

    /// Ends all links; there will be no more.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let open: Vec<_> = state.open.values().cloned().collect();
        drop(state);
        for link in open {
            link.hang("this share is being closed");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Supply for Links {
    fn fetch(
        &self,
        link: LinkId,
        wanted: Wanted,
        offset: u64,
        len: u64,
        sink: &mut Sink<'_>,
    ) -> Result<(), SupplyTrouble> {
        let link = self.link(link).ok_or(SupplyTrouble::Ended)?;
        link.fetch(wanted, offset, len, sink)
    }

    fn outline(
        &self,
        link: LinkId,
        wanted: Wanted,
        stretch: Stretch,
    ) -> Result<Vec<Chunk>, SupplyTrouble> {
        let link = self.link(link).ok_or(SupplyTrouble::Ended)?;
        link.outline(wanted, stretch)
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.lock().open.values()).finish()
    }
}

/// A place kept for a session; given up when this is dropped.
#[derive(Debug)]
pub struct Reserved {
    links: Arc<Links>,
    peer: PeerId,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.links.lock().reserved.remove(&self.peer);
    }
}
