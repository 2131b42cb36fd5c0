//! The ids in use: an expiring map for leases that all last equally long.
//!
//! It is the one place where a service does not use [`crate::expiring::ExpiringMap`]. Because every
//! lease lasts equally long, the order of granting is the order of ending, so the sorted set of
//! deadlines is a plain ring; and an index of four-byte positions beside it finds an id. A lease
//! costs 64 bytes and its share of the index, reserved once and never exceeded, where the two trees
//! of the general map would take about 230 bytes: that keeps ten thousand leases, every id of four
//! digits, under a mebibyte whatever strangers send (hello-22), and a lookup on the path of every
//! datagram within two cache lines. It does not know why a lease is granted or refused.

use std::hash::Hasher as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ahoy_wire::hello::HelloId;

use crate::moment::Moment;

/// The most leases a table can be made for.
pub const LEASES_MAX: usize = 1 << 20;

/// The way a request came in; the two have separate ports, so it is part of who owns a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A datagram.
    Udp,
    /// A connection.
    Tcp,
}

/// Whose lease it is: the socket that asked. Compact, because the table is full of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    ip: [u8; 16],
    port: [u8; 2],
    transport: Transport,
}

/// One id in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// When the id is free again: from this moment on.
    pub ends: Moment,
    /// The id.
    pub id: HelloId,
    /// Who asked for it.
    pub owner: Owner,
}

/// All leases, in the order in which they end, and an index by id.
pub struct Leases {
    /// Reserved at once for `len_max`; positions wrap around at `len_max`.
    ring: Vec<Lease>,
    head: usize,
    len: usize,
    len_max: usize,
    /// Open addressing with linear probing: a position in the ring plus one; zero is vacant. At
    /// most two thirds of it are ever taken.
    index: Box<[u32]>,
    /// Keyed, so that strangers cannot choose ids that probe one long run.
    keyed: std::hash::DefaultHasher,
}

/// The table holds as many leases as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for another lease")]
pub struct Full;

impl Owner {
    /// The socket `from`, an IPv4 address mapped into IPv6 being the same as the plain one.
    #[must_use]
    pub fn new(from: SocketAddr, transport: Transport) -> Self {
        let ip = match from.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self {
            ip: ip.octets(),
            port: from.port().to_be_bytes(),
            transport,
        }
    }

    /// The address of the owner, plain IPv4 where it is one.
    #[must_use]
    pub fn socket_addr(&self) -> SocketAddr {
        let ip = IpAddr::V6(Ipv6Addr::from(self.ip)).to_canonical();
        SocketAddr::new(ip, u16::from_be_bytes(self.port))
    }

    /// The way the request came in.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }
}

impl Leases {
    /// An empty table for `len_max` leases (at least one, at most [`LEASES_MAX`]). `seed` is secret
    /// and chosen by chance, once per process.
    #[must_use]
    pub fn new(len_max: usize, seed: [u8; 16]) -> Self {
        let len_max = len_max.clamp(1, LEASES_MAX);
        let mut keyed = std::hash::DefaultHasher::new();
        keyed.write(&seed);
        Self {
            ring: Vec::with_capacity(len_max),
            head: 0,
            len: 0,
            len_max,
            index: vec![0; (len_max * 3 / 2 + 1).next_power_of_two()].into_boxed_slice(),
            keyed,
        }
    }

    /// The live lease of `id`.
    #[must_use]
    pub fn find(&self, id: &HelloId, now: Moment) -> Option<&Lease> {
        let position = self.index[self.probe(id)].checked_sub(1)?;
        let lease = &self.ring[position as usize];
        (now < lease.ends).then_some(lease)
    }

    /// Adds a lease of an id that has none; it must end last of all. Sweep before granting: a lease
    /// that is due but not yet swept counts towards the limit, and its id is still taken.
    ///
    /// # Errors
    /// [`Full`] if there is no room. Nothing has changed then.
    pub fn grant(&mut self, lease: Lease) -> Result<(), Full> {
        if self.len == self.len_max {
            return Err(Full);
        }
        debug_assert!(
            self.len == 0 || self.ring[self.position(self.len - 1)].ends <= lease.ends,
            "leases end in the order of their granting"
        );
        let place = self.probe(&lease.id);
        debug_assert_eq!(self.index[place], 0, "the id has no lease");
        let position = self.position(self.len);
        self.index[place] = u32::try_from(position + 1).expect("LEASES_MAX fits");
        if position == self.ring.len() {
            self.ring.push(lease);
        } else {
            self.ring[position] = lease;
        }
        self.len += 1;
        Ok(())
    }

    /// Takes out one lease that is due, the earliest first; None when no more are due.
    pub fn expire_one(&mut self, now: Moment) -> Option<Lease> {
        if self.deadline()? > now {
            return None;
        }
        let lease = self.ring[self.head];
        let place = self.probe(&lease.id);
        debug_assert_eq!(
            self.index[place] as usize,
            self.head + 1,
            "one lease per id"
        );
        self.vacate(place);
        self.head = self.position(1);
        self.len -= 1;
        Some(lease)
    }

    /// The moment at which the next lease ends; None if there is none.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        (self.len > 0).then(|| self.ring[self.head].ends)
    }

    /// How many leases are held, those included that are due but not yet swept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no lease is held at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The memory that the table has reserved, in bytes. It never changes.
    #[must_use]
    pub fn reserved_bytes(&self) -> usize {
        self.ring.capacity() * size_of::<Lease>() + size_of_val(&*self.index)
    }

    /// Where in the ring the lease stands that is `order` leases behind the first.
    fn position(&self, order: usize) -> usize {
        (self.head + order) % self.len_max
    }

    /// Where in the index `id` stands, or where it would.
    fn probe(&self, id: &HelloId) -> usize {
        let mut place = self.home(id);
        while let Some(position) = self.index[place].checked_sub(1) {
            if self.ring[position as usize].id == *id {
                break;
            }
            place = self.after(place);
        }
        place
    }

    fn home(&self, id: &HelloId) -> usize {
        let mut hasher = self.keyed.clone();
        hasher.write(id.as_bytes());
        // The upper bits would do as well; the index is far smaller than either half.
        (hasher.finish() as usize) & (self.index.len() - 1)
    }

    fn after(&self, place: usize) -> usize {
        (place + 1) & (self.index.len() - 1)
    }

    /// Empties a place and moves back whatever had only come to stand behind it by probing.
    fn vacate(&mut self, place: usize) {
        let mask = self.index.len() - 1;
        let mut hole = place;
        let mut next = self.after(place);
        while let Some(position) = self.index[next].checked_sub(1) {
            let home = self.home(&self.ring[position as usize].id);
            let steps_from_home = next.wrapping_sub(home) & mask;
            let steps_from_hole = next.wrapping_sub(hole) & mask;
            if steps_from_home >= steps_from_hole {
                self.index[hole] = self.index[next];
                hole = next;
            }
            next = self.after(next);
        }
        self.index[hole] = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::ORIGIN + Duration::from_secs(seconds)
    }

    fn lease(id: &str, ends: u64) -> Lease {
        let from = SocketAddr::from(([127, 0, 0, 1], 5000));
        Lease {
            ends: at(ends),
            id: id.parse().expect("a good id"),
            owner: Owner::new(from, Transport::Udp),
        }
    }

    #[test]
    fn a_lease_ends_exactly_at_its_deadline_swept_or_not() {
        let mut leases = Leases::new(2, [0; 16]);
        leases.grant(lease("0042", 30)).expect("there is room");
        let id = "0042".parse().expect("a good id");
        assert!(leases.find(&id, at(29)).is_some());
        assert!(leases.find(&id, at(30)).is_none());
        assert_eq!(leases.expire_one(at(29)), None);
        assert_eq!(leases.expire_one(at(30)), Some(lease("0042", 30)));
        assert!(leases.is_empty());
    }

    #[test]
    fn a_full_table_refuses_and_keeps_what_it_has() {
        let mut leases = Leases::new(2, [0; 16]);
        leases.grant(lease("1", 30)).expect("there is room");
        leases.grant(lease("2", 31)).expect("there is room");
        assert_eq!(leases.grant(lease("3", 32)), Err(Full));
        assert_eq!(leases.len(), 2);
        assert!(leases.expire_one(at(30)).is_some());
        leases.grant(lease("3", 32)).expect("there is room again");
    }

    #[test]
    fn every_id_of_four_digits_fits_into_a_mebibyte() {
        let mut leases = Leases::new(10_000, [7; 16]);
        let before = leases.reserved_bytes();
        for number in 0..10_000 {
            let id = format!("{number:04}");
            leases.grant(lease(&id, 30)).expect("there is room");
        }
        assert_eq!(size_of::<Lease>(), 64);
        assert_eq!(leases.reserved_bytes(), before);
        assert!(before < 1 << 20, "{before} bytes");
    }

    #[test]
    fn an_owner_is_a_socket_of_one_transport() {
        let plain: SocketAddr = "10.0.0.9:80".parse().expect("an address");
        let mapped: SocketAddr = "[::ffff:10.0.0.9]:80".parse().expect("an address");
        let udp = Owner::new(plain, Transport::Udp);
        assert_eq!(udp, Owner::new(mapped, Transport::Udp));
        assert_ne!(udp, Owner::new(plain, Transport::Tcp));
        assert_eq!(udp.socket_addr(), plain);
    }

    proptest! {
        /// Against a map that is too simple to be wrong; few ids and a small table, so that runs
        /// of probes, deletions in their middle and wraps of the ring are common.
        #[test]
        fn behaves_like_a_plain_map(
            steps in proptest::collection::vec((0_u8..40, 0_u64..4), 0..400),
            seed in any::<[u8; 16]>(),
        ) {
            const TTL: u64 = 9;
            let mut leases = Leases::new(16, seed);
            let mut model = BTreeMap::new();
            let mut now = 0;
            for (id, wait) in steps {
                now += wait;
                model.retain(|_, ends| now < *ends);
                while leases.expire_one(at(now)).is_some() {}
                let wanted = lease(&id.to_string(), now + TTL);
                let found = leases.find(&wanted.id, at(now)).map(|lease| lease.ends);
                prop_assert_eq!(found, model.get(&id).map(|ends| at(*ends)));
                if found.is_none() {
                    let granted = leases.grant(wanted);
                    prop_assert_eq!(granted.is_ok(), model.len() < 16);
                    if granted.is_ok() {
                        model.insert(id, now + TTL);
                    }
                }
                prop_assert_eq!(leases.len(), model.len());
                prop_assert_eq!(leases.deadline(), model.values().min().map(|ends| at(*ends)));
            }
        }
    }
}
