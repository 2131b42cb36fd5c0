//! Discovery for real: several instances on the loopback interface, on a port of their own.

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use ahoy_host::discovery::{Discovery, DiscoveryConfig, DiscoveryEvent, Interfaces};
use ahoy_wire::peer::PeerId;

/// Far more than it takes; only a failing test waits so long.
const LIMIT: Duration = Duration::from_secs(20);

/// A port that nobody uses, so that neither this machine's own mDNS nor another test is heard.
fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("there are free ports");
    socket.local_addr().expect("bound").port()
}

fn peer(number: u8) -> PeerId {
    PeerId::new([number; 32])
}

fn start(mdns_port: u16, number: u8, share: u8) -> (Discovery, Receiver<DiscoveryEvent>) {
    let (sender, events) = channel();
    let config = DiscoveryConfig {
        peer: peer(number),
        key: [share; 32],
        port: 7000 + u16::from(number),
        interfaces: Interfaces::Loopback,
        mdns_port,
    };
    // The receiver may be gone before the last events come.
    let on_event = Box::new(move |event| drop(sender.send(event)));
    (Discovery::start(config, on_event), events)
}

fn wait_found(events: &Receiver<DiscoveryEvent>, wanted: PeerId) -> Vec<SocketAddr> {
    let until = Instant::now() + LIMIT;
    loop {
        match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(DiscoveryEvent::Found { peer, addresses }) if peer == wanted => return addresses,
            Ok(event) => assert!(!matches!(event, DiscoveryEvent::Lost { .. }), "{event:?}"),
            Err(error) => panic!("{wanted} was not found: {error}"),
        }
    }
}

#[test]
fn members_find_each_other_and_hear_the_goodbye_and_strangers_find_nobody() {
    let port = free_port();
    let (_first, first_events) = start(port, 1, 7);
    let (second, second_events) = start(port, 2, 7);
    let (_stranger, stranger_events) = start(port, 3, 8);
    for (events, number) in [(&first_events, 2), (&second_events, 1)] {
        let addresses = wait_found(events, peer(number));
        assert!(!addresses.is_empty());
        for address in addresses {
            assert!(address.ip().is_loopback(), "{address}");
            assert_eq!(address.port(), 7000 + u16::from(number));
        }
    }
    second.stop();
    let until = Instant::now() + LIMIT;
    loop {
        match first_events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(DiscoveryEvent::Lost { peer: lost }) => {
                assert_eq!(lost, peer(2));
                break;
            }
            Ok(DiscoveryEvent::Found { peer: found, .. }) => assert_eq!(found, peer(2)),
            Ok(DiscoveryEvent::Unavailable { reason }) => eprintln!("trouble: {reason}"),
            Err(error) => panic!("no goodbye was heard: {error}"),
        }
    }
    let heard: Vec<_> = stranger_events
        .try_iter()
        .filter(|event| !matches!(event, DiscoveryEvent::Unavailable { .. }))
        .collect();
    assert_eq!(heard, []);
}

#[test]
fn stopping_is_quick_even_when_nobody_is_there() {
    let (alone, events) = start(free_port(), 1, 7);
    let before = Instant::now();
    alone.stop();
    assert!(
        before.elapsed() < Duration::from_secs(5),
        "{:?}",
        before.elapsed()
    );
    // The sender is gone with the thread.
    let last = std::iter::from_fn(|| Some(events.recv_timeout(LIMIT))).find(Result::is_err);
    assert_eq!(last, Some(Err(RecvTimeoutError::Disconnected)));
}
