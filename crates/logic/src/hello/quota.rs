//! How many leases each source holds, for `--protect` (hello-35).
//!
//! A source is an IPv4 address, or the /64 of an IPv6 address, since that is what one customer of a
//! provider has at least. It counts leases only; it knows nothing of rates or of time.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// One party, as far as an address can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source(u64);

/// Leases per source. It holds only sources that have a lease, so the table of leases bounds it.
#[derive(Debug, Default)]
pub struct Quota {
    held: BTreeMap<Source, u32>,
}

impl Source {
    /// The party behind an address.
    #[must_use]
    pub fn of(from: SocketAddr) -> Self {
        match from.ip().to_canonical() {
            // Under the prefix of multicast, which is never the source of anything.
            IpAddr::V4(ip) => Self(0xffff << 48 | u64::from(ip.to_bits())),
            IpAddr::V6(ip) => Self((ip.to_bits() >> 64) as u64),
        }
    }
}

impl Quota {
    /// How many leases `source` holds.
    #[must_use]
    pub fn held(&self, source: Source) -> u32 {
        self.held.get(&source).copied().unwrap_or(0)
    }

    /// Counts one more lease of `source`.
    pub fn take(&mut self, source: Source) {
        let held = self.held.entry(source).or_insert(0);
        *held = held.saturating_add(1);
    }

    /// Counts one lease of `source` less; a source without leases is forgotten.
    pub fn give_back(&mut self, source: Source) {
        let Some(held) = self.held.get_mut(&source) else {
            debug_assert!(false, "gave back a lease that was never counted");
            return;
        };
        *held -= 1;
        if *held == 0 {
            self.held.remove(&source);
        }
    }

    /// How many sources hold a lease.
    #[must_use]
    pub fn sources(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().expect("a good address"))
    }

    #[test]
    fn an_address_is_a_source_and_so_is_a_64() {
        assert_eq!(source("10.0.0.9:80"), source("[::ffff:10.0.0.9]:81"));
        assert_ne!(source("10.0.0.9:80"), source("10.0.0.8:80"));
        assert_eq!(source("[2001:db8::1]:1"), source("[2001:db8::ffff:2]:1"));
        assert_ne!(source("[2001:db8::1]:1"), source("[2001:db8:0:1::1]:1"));
        assert_ne!(source("0.0.0.1:1"), source("[::1]:1"));
    }

    #[test]
    fn what_is_given_back_is_forgotten() {
        let mut quota = Quota::default();
        let one = source("10.0.0.9:80");
        quota.take(one);
        quota.take(one);
        assert_eq!(quota.held(one), 2);
        quota.give_back(one);
        quota.give_back(one);
        assert_eq!((quota.held(one), quota.sources()), (0, 0));
    }
}
