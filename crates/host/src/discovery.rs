//! Finds the peers of a share on the local network, by multicast DNS (RFC 6762, RFC 6763).
//!
//! One [`Discovery`] announces one peer of one share and looks out for the others. What it sends
//! means nothing to those who are not in the share ([`ahoy_wire::discovery`]). Whoever is found is
//! a hint where to dial, no more: that it is this peer, and that it may enter, is proved in the
//! session (tracker-52). Where multicast does not work, that is reported once and nothing is found.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ahoy_wire::discovery::{Beacon, SERVICE_TYPE};
use ahoy_wire::peer::PeerId;
use mdns_sd::{
    DaemonEvent, IfKind, Receiver, RecvTimeoutError, ResolvedService, ScopedIp, ServiceDaemon,
    ServiceEvent, ServiceInfo,
};
use ring::rand::{SecureRandom, SystemRandom};

/// The most instances of peers that are remembered; any more are not reported.
pub const INSTANCES_MAX: usize = 256;
/// The most addresses reported for one instance.
pub const ADDRESSES_MAX: usize = 16;
/// The port of multicast DNS.
pub const MDNS_PORT: u16 = 5353;

/// How often the thread looks whether it is to stop.
const STOP_INTERVAL: Duration = Duration::from_millis(200);
/// Saying goodbye may take so long.
const GOODBYE_LIMIT: Duration = Duration::from_millis(500);

/// What discovery needs to know.
#[derive(Clone)]
pub struct DiscoveryConfig {
    /// Who we are.
    pub peer: PeerId,
    /// A secret of the share that is used for nothing else; members recognise each other by it.
    pub key: [u8; 32],
    /// The TCP port on which we can be reached.
    pub port: u16,
    /// Where to announce and to look.
    pub interfaces: Interfaces,
    /// [`MDNS_PORT`], unless in tests: both sides must use the same.
    pub mdns_port: u16,
}

/// The network interfaces that discovery uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interfaces {
    /// All that are up, loopback included, so that two processes on one machine find each other
    /// too.
    #[default]
    All,
    /// The loopback interface alone: nothing leaves the machine.
    Loopback,
}

/// What discovery reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiscoveryEvent {
    /// A peer of our share can perhaps be reached here. Comes again when addresses change.
    Found {
        /// Who it says that it is.
        peer: PeerId,
        /// Where, best first; at most 16, and never none.
        addresses: Vec<SocketAddr>,
    },
    /// A peer said goodbye, or was not heard for as long as its records hold.
    Lost {
        /// Who.
        peer: PeerId,
    },
    /// Multicast does not work here, or not everywhere; reported once. What works goes on.
    Unavailable {
        /// Why.
        reason: String,
    },
}

/// Takes what is reported; called on discovery's own thread.
pub type OnDiscovery = Box<dyn FnMut(DiscoveryEvent) + Send>;

/// A running discovery; ends, with a goodbye to the network, when it is dropped.
pub struct Discovery {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Discovery {
    /// Starts to announce and to look. Never fails: what does not work is reported as
    /// [`DiscoveryEvent::Unavailable`].
    #[must_use]
    pub fn start(config: DiscoveryConfig, on_event: OnDiscovery) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen_stop = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("discovery".to_owned())
            .spawn(move || run(&config, on_event, &seen_stop))
            .inspect_err(|error| tracing::warn!(%error, "no thread for discovery"))
            .ok();
        Self { stop, thread }
    }

    /// Says goodbye and ends; takes about a second at most.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the discovery thread panicked");
        }
    }
}

fn run(config: &DiscoveryConfig, mut on_event: OnDiscovery, stop: &AtomicBool) {
    let mut watch = match Watch::open(config) {
        Ok(watch) => watch,
        Err(reason) => {
            on_event(DiscoveryEvent::Unavailable { reason });
            return;
        }
    };
    if let Some(reason) = missing_interfaces(config.interfaces) {
        watch.trouble_reported = true;
        on_event(DiscoveryEvent::Unavailable { reason });
    }
    while !stop.load(Ordering::Relaxed) {
        if let Some(reason) = watch.trouble() {
            on_event(DiscoveryEvent::Unavailable { reason });
        }
        match watch.browser.recv_timeout(STOP_INTERVAL) {
            Ok(event) => watch
                .hear(config, event)
                .into_iter()
                .for_each(&mut on_event),
            Err(RecvTimeoutError::Timeout) => {}
            // The subscription ends when events come faster than they are taken: start it anew.
            Err(RecvTimeoutError::Disconnected) => match watch.browse_again(stop) {
                Ok(()) => {}
                Err(reason) => {
                    on_event(DiscoveryEvent::Unavailable { reason });
                    break;
                }
            },
        }
    }
    watch.close();
}

/// Everything that hangs on one mDNS daemon.
struct Watch {
    daemon: ServiceDaemon,
    browser: Receiver<ServiceEvent>,
    monitor: Receiver<DaemonEvent>,
    own_name: String,
    known: Known,
    trouble_reported: bool,
}

impl Watch {
    fn open(config: &DiscoveryConfig) -> Result<Self, String> {
        let text = |error: mdns_sd::Error| error.to_string();
        let daemon = ServiceDaemon::new_with_port(config.mdns_port).map_err(text)?;
        let opened = Self::open_on(&daemon, config);
        opened.inspect_err(|_| shut_down(&daemon))
    }

    fn open_on(daemon: &ServiceDaemon, config: &DiscoveryConfig) -> Result<Self, String> {
        let text = |error: mdns_sd::Error| error.to_string();
        let monitor = daemon.monitor().map_err(text)?;
        let mut service = service(config)?;
        match config.interfaces {
            Interfaces::All => {}
            Interfaces::Loopback => {
                let loopback = vec![IfKind::LoopbackV4, IfKind::LoopbackV6];
                daemon.disable_interface(IfKind::All).map_err(text)?;
                daemon.enable_interface(loopback.clone()).map_err(text)?;
                service.set_interfaces(loopback);
            }
        }
        let own_name = service.get_fullname().to_owned();
        daemon.register(service).map_err(text)?;
        let browser = daemon.browse(SERVICE_TYPE).map_err(text)?;
        Ok(Self {
            daemon: daemon.clone(),
            browser,
            monitor,
            own_name,
            known: Known::default(),
            trouble_reported: false,
        })
    }

    /// The first error of the daemon; later ones are only logged.
    fn trouble(&mut self) -> Option<String> {
        let mut first = None;
        while let Ok(event) = self.monitor.try_recv() {
            if let DaemonEvent::Error(error) = event {
                tracing::debug!(%error, "multicast DNS");
                if !std::mem::replace(&mut self.trouble_reported, true) {
                    first = Some(error.to_string());
                }
            }
        }
        first
    }

    fn browse_again(&mut self, stop: &AtomicBool) -> Result<(), String> {
        while !stop.load(Ordering::Relaxed) {
            match self.daemon.browse(SERVICE_TYPE) {
                Ok(browser) => {
                    self.browser = browser;
                    return Ok(());
                }
                Err(mdns_sd::Error::Again) => std::thread::sleep(STOP_INTERVAL),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    fn hear(&mut self, config: &DiscoveryConfig, event: ServiceEvent) -> Vec<DiscoveryEvent> {
        if let ServiceEvent::ServiceResolved(service) = event {
            recognise(config, &service).map_or_else(Vec::new, |(peer, addresses)| {
                self.known.found(service.fullname, peer, addresses)
            })
        } else if let ServiceEvent::ServiceRemoved(_, fullname) = event {
            self.known.lost(&fullname)
        } else {
            Vec::new()
        }
    }

    fn close(self) {
        if let Ok(goodbye) = self.daemon.unregister(&self.own_name) {
            // If it does not come through, the others wait until our records are too old.
            let _ = goodbye.recv_timeout(GOODBYE_LIMIT);
        }
        shut_down(&self.daemon);
    }
}

fn shut_down(daemon: &ServiceDaemon) {
    match daemon.shutdown() {
        Ok(done) => {
            // Nothing depends on the answer; waiting keeps the thread from outliving us for long.
            let _ = done.recv_timeout(GOODBYE_LIMIT);
        }
        Err(error) => tracing::debug!(%error, "multicast DNS is already down"),
    }
}

/// The daemon says nothing when there is no interface to speak on, and takes up any that comes
/// later.
fn missing_interfaces(wanted: Interfaces) -> Option<String> {
    let interfaces = match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces,
        Err(error) => return Some(format!("cannot list the network interfaces: {error}")),
    };
    let mut up = interfaces.iter().filter(|interface| interface.is_oper_up());
    let found = match wanted {
        Interfaces::All => up.any(|interface| !interface.is_loopback()),
        Interfaces::Loopback => up.any(if_addrs::Interface::is_loopback),
    };
    (!found).then(|| match wanted {
        Interfaces::All => "no network interface is up; only this machine is searched".to_owned(),
        Interfaces::Loopback => "the loopback interface is down".to_owned(),
    })
}

/// What we announce: a beacon, and the machine's addresses as they come and go.
fn service(config: &DiscoveryConfig) -> Result<ServiceInfo, String> {
    let mut salt = [0; 16];
    SystemRandom::new()
        .fill(&mut salt)
        .map_err(|_| "the system gives no random bytes")?;
    let beacon = Beacon::seal(&config.key, salt, config.peer, config.port);
    let instance = beacon.instance();
    let host = format!("ahoy-{instance}.local.");
    let properties = beacon.properties();
    ServiceInfo::new(
        SERVICE_TYPE,
        &instance,
        &host,
        "",
        config.port,
        &properties[..],
    )
    .map(ServiceInfo::enable_addr_auto)
    .map_err(|error| error.to_string())
}

/// A peer of our share, not ourselves, and where it can be reached.
fn recognise(
    config: &DiscoveryConfig,
    service: &ResolvedService,
) -> Option<(PeerId, Vec<SocketAddr>)> {
    let beacon = Beacon::from_properties(|key| {
        service
            .get_property_val(key)?
            .and_then(|value| str::from_utf8(value).ok())
    })?;
    let peer = beacon.open(&config.key, service.port)?;
    let mut addresses: Vec<_> = service
        .addresses
        .iter()
        .filter_map(|ip| dialable(ip, service.port))
        .collect();
    addresses.sort_by_key(|address| (rank(address.ip()), *address));
    addresses.truncate(ADDRESSES_MAX);
    (peer != config.peer && !addresses.is_empty()).then_some((peer, addresses))
}

fn dialable(ip: &ScopedIp, port: u16) -> Option<SocketAddr> {
    let plain = ip.to_ip_addr();
    if plain.is_unspecified() || plain.is_multicast() || port == 0 {
        return None;
    }
    if let ScopedIp::V6(v6) = ip
        && v6.addr().is_unicast_link_local()
    {
        let scope = v6.scope_id().index;
        return (scope != 0).then(|| SocketAddrV6::new(*v6.addr(), port, 0, scope).into());
    }
    Some(SocketAddr::new(plain, port))
}

/// Lower is better: what works from other machines before what works on this one only.
fn rank(ip: IpAddr) -> u8 {
    match ip {
        ip if ip.is_loopback() => 3,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => 2,
        IpAddr::V6(_) => 1,
        IpAddr::V4(_) => 0,
    }
}

/// Which instances stand for which peers: a peer that was started anew has two for a while.
#[derive(Default)]
struct Known {
    instances: BTreeMap<String, (PeerId, Vec<SocketAddr>)>,
}

impl Known {
    fn found(
        &mut self,
        fullname: String,
        peer: PeerId,
        addresses: Vec<SocketAddr>,
    ) -> Vec<DiscoveryEvent> {
        if self.instances.len() >= INSTANCES_MAX && !self.instances.contains_key(&fullname) {
            return Vec::new();
        }
        let place = (peer, addresses.clone());
        if self.instances.insert(fullname, place.clone()).as_ref() == Some(&place) {
            return Vec::new();
        }
        vec![DiscoveryEvent::Found { peer, addresses }]
    }

    fn lost(&mut self, fullname: &str) -> Vec<DiscoveryEvent> {
        let Some((peer, _)) = self.instances.remove(fullname) else {
            return Vec::new();
        };
        if self.instances.values().any(|(other, _)| *other == peer) {
            return Vec::new();
        }
        vec![DiscoveryEvent::Lost { peer }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u8) -> PeerId {
        PeerId::new([number; 32])
    }

    fn at(text: &str) -> Vec<SocketAddr> {
        vec![text.parse().expect("an address")]
    }

    #[test]
    fn a_peer_that_was_started_anew_is_lost_only_with_its_last_instance() {
        let mut known = Known::default();
        let found = DiscoveryEvent::Found {
            peer: peer(1),
            addresses: at("10.0.0.1:1"),
        };
        assert_eq!(
            known.found("old".to_owned(), peer(1), at("10.0.0.1:1")),
            [found]
        );
        assert_eq!(known.found("old".to_owned(), peer(1), at("10.0.0.1:1")), []);
        let moved = DiscoveryEvent::Found {
            peer: peer(1),
            addresses: at("10.0.0.1:2"),
        };
        assert_eq!(
            known.found("new".to_owned(), peer(1), at("10.0.0.1:2")),
            [moved]
        );
        assert_eq!(known.lost("old"), []);
        assert_eq!(known.lost("new"), [DiscoveryEvent::Lost { peer: peer(1) }]);
        assert_eq!(known.lost("new"), []);
    }

    #[test]
    fn instances_are_bounded() {
        let mut known = Known::default();
        for number in 0..INSTANCES_MAX + 9 {
            known.found(number.to_string(), peer(1), at("10.0.0.1:1"));
        }
        assert_eq!(known.instances.len(), INSTANCES_MAX);
    }

    #[test]
    fn addresses_that_reach_further_come_first() {
        let mut ips: Vec<IpAddr> = ["127.0.0.1", "fe80::1", "fd00::1", "::1", "10.0.0.1"]
            .map(|text| text.parse().expect("an address"))
            .to_vec();
        ips.sort_by_key(|ip| (rank(*ip), *ip));
        let shown: Vec<_> = ips.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["10.0.0.1", "fd00::1", "fe80::1", "127.0.0.1", "::1"]
        );
    }
}
