//! Who comes in: accepting, its pauses, making room, and closing the door (web-63 to web-65).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use ahoy_logic::web::{Connection, Input};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags, acceptfrom_with, shutdown, sockopt};
use tracing::warn;

use super::super::outgoing::Outgoing;
use super::super::slots::Token;
use super::super::socket::Socket;
use super::{ACCEPT_PAUSE, Accepting, LISTENER, Peer, TURN_ACCEPTS_MAX, Worker, add};

impl Worker<'_> {
    // ---- accepting -------------------------------------------------------------------------

    pub(super) fn accept(&mut self, which: usize) -> io::Result<()> {
        if self.accepting != Accepting::Yes {
            return Ok(());
        }
        let listener = &self.place.listeners[which];
        let mut made_room = false;
        for _ in 0..TURN_ACCEPTS_MAX {
            let full = self.is_full();
            if full && self.waits.dispensable().is_none() {
                return self.pause_accepting(Accepting::WhenThereIsRoom);
            }
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match acceptfrom_with(listener, flags) {
                Ok((socket, addr)) => {
                    made_room = false;
                    if full {
                        self.make_room();
                    }
                    let addr = addr.and_then(|addr| SocketAddr::try_from(addr).ok());
                    self.welcome(socket, addr);
                }
                Err(Errno::AGAIN) => return Ok(()),
                // The client was gone before we came to it.
                Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO | Errno::PERM) => {}
                // Another worker heard of the stop first, and nobody listens any more.
                Err(Errno::INVAL) => return self.pause_accepting(Accepting::Never),
                // The descriptors of the cache and of a silent client are of more use to a new
                // one. If that does not help, a rest is better than a busy loop (web-64).
                Err(Errno::MFILE | Errno::NFILE) if !made_room => {
                    self.folder.release();
                    made_room = true;
                    self.make_room();
                }
                Err(error) => {
                    warn!(%error, "cannot accept connections just now");
                    let until = self.now + ACCEPT_PAUSE;
                    return self.pause_accepting(Accepting::RestingUntil(until));
                }
            }
        }
        Ok(())
    }

    /// Whether every place of the whole server is taken.
    fn is_full(&self) -> bool {
        self.place.open.load(Ordering::Relaxed) >= self.place.connections_max
    }

    /// Closes the connection that is missed least, if anybody can be missed (web-63).
    pub(super) fn make_room(&mut self) {
        if let Some(index) = self.waits.dispensable() {
            self.counts.evicted += 1;
            self.close(index);
        }
    }

    fn welcome(&mut self, socket: OwnedFd, addr: Option<SocketAddr>) {
        // Only answers that are complete are sent, so there is nothing to wait for more of.
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        let Ok(socket) = Socket::new(socket, self.place.config.tls.as_ref()) else {
            return;
        };
        let machine = Connection::new(self.now);
        let token = self.peers.insert_with(|token| Peer {
            socket,
            addr: addr.map_or(IpAddr::from([0; 4]), |addr| addr.ip().to_canonical()),
            wait: machine.wait(),
            machine,
            input: Vec::new(),
            outgoing: Outgoing::default(),
            ended: false,
            writing: false,
            answer: None,
            token,
        });
        self.counts.connections += 1;
        self.place.open.fetch_add(1, Ordering::Relaxed);
        let Some(peer) = self.peers.get_mut(token.index) else {
            return;
        };
        if add(
            &self.epoll,
            peer.socket.as_fd(),
            token,
            epoll::EventFlags::IN,
        )
        .is_err()
        {
            self.close(token.index);
            return;
        }
        let (wait, since) = peer.wait;
        self.waits.start(token.index, wait, since);
    }

    pub(super) fn pause_accepting(&mut self, until: Accepting) -> io::Result<()> {
        if self.accepting == Accepting::Yes {
            for listener in self.place.listeners {
                epoll::delete(&self.epoll, listener)?;
            }
        }
        self.accepting = until;
        Ok(())
    }

    pub(super) fn resume_accepting(&mut self) -> io::Result<()> {
        let ready = match self.accepting {
            Accepting::Yes | Accepting::Never => false,
            Accepting::RestingUntil(at) => at <= self.now,
            Accepting::WhenThereIsRoom => !self.is_full() || self.waits.dispensable().is_some(),
        };
        if !ready {
            return Ok(());
        }
        for (which, listener) in self.place.listeners.iter().enumerate() {
            let generation = u32::try_from(which).expect("a few listeners");
            // Exclusive: a new connection wakes one worker, not all of them.
            let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
            add(
                &self.epoll,
                listener.as_fd(),
                Token {
                    index: LISTENER,
                    generation,
                },
                flags,
            )?;
        }
        self.accepting = Accepting::Yes;
        Ok(())
    }

    // ---- stopping --------------------------------------------------------------------------

    /// web-65: whoever asked before the bell rang is answered.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        if self.drain_by.is_some() {
            return Ok(());
        }
        self.drain_by = Some(self.now + self.place.config.drain_max);
        epoll::delete(&self.epoll, self.place.stop.drain_bell())?;
        for which in 0..self.place.listeners.len() {
            self.accept(which)?;
        }
        self.pause_accepting(Accepting::Never)?;
        for listener in self.place.listeners {
            // New clients are refused from here on; another worker may have been first.
            let _ = shutdown(listener, Shutdown::Both);
        }
        for index in self.peers.indices() {
            self.advance(index, Input::Stopping);
            if self.peers.get_mut(index).is_some_and(|peer| !peer.writing) {
                self.receive(index);
            }
            self.advance(index, Input::Stop);
        }
        Ok(())
    }
}
