//! The listening ports of this process, which all its shares have in common.
//!
//! A user opens one port in a firewall, not one for each folder. Peers of every share come in
//! here; so do those who ask the tracker, if a share of this process wants one to run. Who comes
//! for which share is told by the [`Doors`]; nothing is decided here.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use ahoy_logic::tracker::Options;

use super::doors::{Doors, Listening, Other};
use super::links::Links;
use super::share::StartError;
use crate::tracker::TrackerService;

/// Most addresses that are listened at because they were before.
const LISTENERS_MAX: usize = 64;

/// First byte of a connection to a tracker.
const TRACKER_FIRST: u8 = b'A';

/// Ports at work; they are free again when this is dropped.
#[derive(Debug)]
pub struct Ports {
    /// Before `embedded`: the last connections must have somewhere to go.
    listening: Vec<Listening>,
    doors: Arc<Doors>,
    embedded: Arc<Embedded>,
}

/// The tracker of this process, if there is one.
#[derive(Default)]
struct Embedded(Mutex<Option<TrackerService>>);

impl Ports {
    /// Listens at `asked`, where a port that is taken is an error. If nothing is asked for: at all
    /// addresses in `last` that are free, or anywhere.
    ///
    /// # Errors
    /// [`StartError::Listen`] with the address, [`StartError::System`] without threads or random
    /// bytes.
    pub fn open(asked: &[SocketAddr], last: &[Vec<SocketAddr>]) -> Result<Arc<Self>, StartError> {
        let listeners = bind(asked, last)?;
        let doors = Doors::new().map_err(|error| refused(io::Error::other(error)))?;
        let embedded = Arc::new(Embedded::default());
        let tracker = Arc::clone(&embedded);
        let other: Arc<Other> = Arc::new(move |first, stream| tracker.show(first, stream));
        let listen = |listener| Listening::start(listener, Arc::clone(&doors), Arc::clone(&other));
        let listening = listeners.into_iter().map(listen);
        Ok(Arc::new(Self {
            listening: listening.collect::<Result<_, _>>().map_err(refused)?,
            doors,
            embedded,
        }))
    }

    /// Where it listens: at least one address.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listening.iter().map(Listening::address).collect()
    }

    /// The port that peers are told; one that more than one address may have.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.listening.first().map(|it| it.address().port())
    }

    /// Peers of this share can come in until the answer is dropped.
    pub(super) fn serve(self: &Arc<Self>, links: &Arc<Links>) -> Served {
        self.doors.add(Arc::clone(links));
        Served {
            ports: Arc::clone(self),
            links: Arc::clone(links),
        }
    }

    /// Has a tracker answer here, if none does yet.
    pub(super) fn run_tracker(&self) -> io::Result<()> {
        let mut service = self.embedded.lock();
        if service.is_none() {
            let quiet = Box::new(|_| {});
            *service = Some(TrackerService::start(
                Options::default(),
                Vec::new(),
                quiet,
            )?);
        }
        Ok(())
    }
}

/// A share that can be reached.
#[derive(Debug)]
pub(super) struct Served {
    ports: Arc<Ports>,
    links: Arc<Links>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.ports.doors.remove(&self.links);
    }
}

impl Embedded {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<TrackerService>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a connection that is not a peer's to the tracker, if there is one and it is for it.
    fn show(&self, first: u8, stream: TcpStream) {
        let service = self.lock();
        match &*service {
            Some(tracker) if first == TRACKER_FIRST => {
                if tracker.handle_connection(stream).is_err() {
                    tracing::debug!("the tracker is busy");
                }
            }
            Some(_) | None => tracing::debug!("neither a peer nor somebody for the tracker"),
        }
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Embedded(running: {})", self.lock().is_some())
    }
}

fn refused(source: io::Error) -> StartError {
    StartError::System {
        what: "take connections",
        source,
    }
}

/// Binds what the user asked for, or what was used last, or anything.
fn bind(asked: &[SocketAddr], last: &[Vec<SocketAddr>]) -> Result<Vec<TcpListener>, StartError> {
    if !asked.is_empty() {
        return asked.iter().map(listen).collect();
    }
    // Folders that had ports of their own are still looked for there by those who know them.
    let before: BTreeSet<&SocketAddr> = last.iter().flatten().take(LISTENERS_MAX).collect();
    let found: Vec<_> = before
        .into_iter()
        .filter_map(|it| listen(it).ok())
        .collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let anywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let anywhere_v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let listener = listen(&anywhere).or_else(|_| listen(&anywhere_v4))?;
    Ok(vec![listener])
}

fn listen(address: &SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|source| StartError::Listen {
        address: *address,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    #[test]
    fn a_port_that_is_taken_is_an_error_if_it_was_asked_for_and_passed_over_if_not() {
        let [free, other] = {
            let bound = [(); 2].map(|()| TcpListener::bind(local(0)).expect("a port"));
            bound.map(|it| it.local_addr().expect("bound"))
        };
        let holder = TcpListener::bind(local(0)).expect("a port");
        let held = holder.local_addr().expect("bound");
        let error = Ports::open(&[held], &[]).expect_err("it is taken");
        let StartError::Listen { address, source } = &error else {
            panic!("{error:?}")
        };
        assert_eq!((*address, source.kind()), (held, io::ErrorKind::AddrInUse));
        assert!(error.hint().contains("--listen"), "{}", error.hint());
        // Of what was used before, all that is free; without any, a port of the system's.
        let last = [vec![other, free], Vec::new(), vec![held], vec![free]];
        let ports = Ports::open(&[], &last).expect("ports");
        let mut wanted = [free, other];
        wanted.sort();
        assert_eq!(ports.addresses(), wanted);
        let ports = Ports::open(&[], &[vec![held]]).expect("ports");
        assert_ne!(ports.port(), Some(held.port()));
    }

    #[test]
    fn all_that_is_asked_for_is_listened_at() {
        let ports = Ports::open(&[local(0), local(0)], &[]).expect("ports");
        let [first, second] = ports.addresses()[..] else {
            panic!("{ports:?}")
        };
        assert_ne!(first, second);
        for address in [first, second] {
            TcpStream::connect(address).expect("somebody listens");
        }
        drop(ports);
        TcpListener::bind(first).expect("free again");
    }
}
