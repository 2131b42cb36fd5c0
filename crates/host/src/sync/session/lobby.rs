//! The lobby: how many connections may be there that have not proved anything yet.
//!
//! Each of them costs a thread and a few buffers for at most the time that a handshake may take, so
//! their number is bounded, overall and for every source. It knows nothing of what they say.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Most connections without proof at one time (`sync-44`).
pub const GUESTS_MAX: usize = 128;

/// Most of them from one source: an IPv4 address, or an IPv6 network of 64 bits.
pub const GUESTS_PER_SOURCE_MAX: usize = 16;

/// Counts who is in it.
#[derive(Debug, Default)]
pub struct Lobby {
    guests: Mutex<BTreeMap<IpAddr, usize>>,
}

/// One connection's place; free again when this is dropped.
#[derive(Debug)]
pub struct Guest {
    lobby: Arc<Lobby>,
    source: IpAddr,
}

impl Lobby {
    /// A place for a connection from `ip`; `None` if there are too many already.
    #[must_use]
    pub fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<Guest> {
        let source = source_of(ip);
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let from_there = guests.get(&source).copied().unwrap_or(0);
        let all: usize = guests.values().sum();
        if from_there >= GUESTS_PER_SOURCE_MAX || all >= GUESTS_MAX {
            return None;
        }
        guests.insert(source, from_there + 1);
        Some(Guest {
            lobby: Arc::clone(self),
            source,
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut guests = self
            .lobby
            .guests
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let left = guests
            .get(&self.source)
            .copied()
            .unwrap_or(0)
            .saturating_sub(1);
        if left == 0 {
            guests.remove(&self.source);
        } else {
            guests.insert(self.source, left);
        }
    }
}

fn source_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            [a, b, c, d, 0, 0, 0, 0].into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_free() {
        let lobby = Arc::new(Lobby::default());
        let near = |i: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, i]);
        let mut guests: Vec<_> = (0..16)
            .map(|i| lobby.enter(near(i)).expect("a place"))
            .collect();
        assert!(lobby.enter(near(99)).is_none(), "one network is one source");
        assert!(lobby.enter(IpAddr::from([127, 0, 0, 1])).is_some());
        guests.pop();
        guests.push(lobby.enter(near(99)).expect("a place came free"));
        for i in 1..=u8::MAX {
            guests.extend(lobby.enter(IpAddr::from([10, 0, 0, i])));
        }
        assert_eq!(guests.len(), GUESTS_MAX);
        guests.clear();
        assert!(lobby.guests.lock().expect("not poisoned").is_empty());
    }
}
