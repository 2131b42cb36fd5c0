//! Those who should not be here: strangers at the port, and holders of a ticket for another share.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ahoy_host::sync::status::State;
use ahoy_wire::sync::{Capability, Secret};
use ahoy_wire::ticket::Ticket;

use crate::harness::{Place, converged_to, pair};
use crate::tree::{Tree, noise, variety};

#[test]
fn random_bytes_on_the_port() {
    let place = Place::new();
    let (mut left, mut right) = pair(&place, variety);
    let status = left.status();
    let mut addresses = status.listen.clone();
    addresses.extend(
        status
            .trackers
            .iter()
            .filter_map(|tracker| tracker.address.parse::<SocketAddr>().ok()),
    );
    for address in addresses {
        for seed in 0..20 {
            let mut stream = TcpStream::connect(address).expect("a connection");
            stream
                .set_write_timeout(Some(Duration::from_secs(5)))
                .expect("a limit");
            stream
                .set_read_timeout(Some(Duration::from_secs(30)))
                .expect("a limit");
            // The other end may hang up in the middle; that is what it should do.
            let _ = stream.write_all(&noise(seed, 10_000));
            let mut answer = Vec::new();
            if seed == 0 {
                let _ = stream.take(1 << 20).read_to_end(&mut answer);
                let name = b"left";
                assert!(
                    !answer.windows(4).any(|four| four == name),
                    "it says who it is"
                );
            }
        }
    }
    fs::write(left.dir.join("after"), "x").expect("a file");
    converged_to(&mut [&mut left, &mut right], |tree| tree.has("after"));
}

#[test]
fn a_ticket_for_another_share_opens_nothing() {
    let place = Place::new();
    let (mut left, right) = pair(&place, variety);
    let mut ticket: Ticket = left.ticket().parse().expect("a ticket");
    ticket.capability = Capability::ReadWrite(Secret::new([7; 32]));
    let before = Tree::read(&left.dir);
    let mut thief = place
        .device("thief")
        .join(&ticket.to_string(), &place.path("c"));
    thief.event("start", |event| event["event"] == "started");
    fs::write(thief.dir.join("planted"), "x").expect("a file");
    thief.until("waiting", |status| {
        status.state == State::WaitingForPeers && status.files == 1
    });
    assert_eq!(Tree::read(&thief.dir).0.len(), 1);
    assert_eq!(Tree::read(&left.dir), before);
    let peers = left.status().peers;
    assert!(peers.iter().all(|peer| peer.label != "thief"), "{peers:?}");
    right.stop();
}
