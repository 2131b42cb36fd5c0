//! The table of leases of hello: granted, looked up, and run out.

use std::net::SocketAddr;
use std::time::Duration;

use ahoy_logic::hello::{Lease, Leases, Owner, Transport};
use ahoy_logic::moment::Moment;
use ahoy_wire::hello::HelloId;

use crate::measured;

/// Leases; every id of four digits.
pub const LEASES: usize = 10_000;

/// Every id is granted and looked up, then half of them run out and are granted again.
pub fn run() {
    let from = SocketAddr::from(([192, 0, 2, 1], 4_242));
    let owner = Owner::new(from, Transport::Udp);
    let ids: Vec<HelloId> = (0..LEASES)
        .map(|n| HelloId::new(format!("{n:04}").as_bytes()).expect("an id"))
        .collect();
    let at = |ms: usize| Moment::ORIGIN + Duration::from_millis(ms as u64);
    let lease = |id: &HelloId, granted_ms: usize| Lease {
        ends: at(granted_ms + LEASES),
        id: *id,
        owner,
    };
    let table = Leases::new(LEASES, [9; 16]);
    let (table, found) = measured((table, &ids[..]), |(mut table, ids)| {
        let mut found = 0;
        for (n, id) in ids.iter().enumerate() {
            found += usize::from(table.find(id, at(n)).is_none());
            table.grant(lease(id, n)).expect("there is room");
        }
        for id in ids {
            found += usize::from(table.find(id, at(0)).is_some());
        }
        let half = LEASES + LEASES / 2;
        while table.expire_one(at(half)).is_some() {}
        for (n, id) in ids[..LEASES / 2].iter().enumerate() {
            table.grant(lease(id, half + n)).expect("there is room");
        }
        (table, found)
    });
    assert_eq!((table.len(), found), (LEASES - 1, 2 * LEASES));
}
