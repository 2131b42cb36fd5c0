//! A hello server for examining the examiner: right, or wrong in one way.
//!
//! It is plain on purpose: a thread for datagrams, a thread for connections, a map of leases, and
//! shares nothing with the real server. Its times are short.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use ahoy_check::hello::Target;

pub const LEASE: Duration = Duration::from_millis(1200);
pub const IDLE: Duration = Duration::from_millis(3000);

/// How often the threads look at the clock.
const POLL: Duration = Duration::from_millis(5);

/// What is wrong with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Nothing,
    NamesItself,
    NeverResets,
    AddsNewline,
    TakesIdsForNumbers,
    TakesWordsForId,
    TakesLineEndForId,
    AnswersTwice,
    AnswersFromRoute,
    WaitsForNewline,
    WaitsForTheEnd,
    ReadsOnce,
    KeepsOpen,
    ClosesWithReset,
    DiesOfEmptyDatagram,
    AnswersJunk,
    DiesOfJunkStream,
    NeverExpires,
    ExpiresEarly,
    RefreshesOnReset,
    TwoTables,
    NeverExits,
    OnlyRequestsRestartIdle,
    OneAtATime,
    SilentKeepsAlive,
}

struct Toy {
    fault: Fault,
    addr: SocketAddr,
    leases: Mutex<HashMap<String, Instant>>,
    heard: Mutex<Instant>,
    open: AtomicUsize,
    dead: AtomicBool,
}

/// Starts a server with one fault; it ends by itself, most often.
pub fn serve(fault: Fault) -> Target {
    // On all addresses the system chooses where a reply leaves from.
    let (listener, socket) = pair(match fault {
        Fault::AnswersFromRoute => Ipv4Addr::UNSPECIFIED,
        _ => Ipv4Addr::LOCALHOST,
    });
    let port = listener.local_addr().expect("bound").port();
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let toy = Arc::new(Toy {
        fault,
        addr,
        leases: Mutex::default(),
        heard: Mutex::new(Instant::now()),
        open: AtomicUsize::new(0),
        dead: AtomicBool::new(false),
    });
    let other = Arc::clone(&toy);
    thread::spawn(move || other.datagrams(&socket));
    thread::spawn(move || toy.connections(&listener));
    Target {
        addr,
        udp: true,
        tcp: true,
        lease: Some(LEASE),
        idle: Some(IDLE),
        protect: false,
    }
}

/// One free port for both.
fn pair(ip: Ipv4Addr) -> (TcpListener, UdpSocket) {
    loop {
        let listener = TcpListener::bind((ip, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a sound socket");
        let addr = listener.local_addr().expect("bound");
        if let Ok(socket) = UdpSocket::bind(addr) {
            socket.set_read_timeout(Some(POLL)).expect("a sound socket");
            return (listener, socket);
        }
    }
}

impl Toy {
    fn datagrams(&self, socket: &UdpSocket) {
        let mut buffer = [0; 2048];
        while self.lives() {
            let Ok((len, from)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            let bytes = &buffer[..len];
            let reply = self.reply(bytes, from, "udp");
            if reply.is_some() || self.fault != Fault::OnlyRequestsRestartIdle {
                self.restart_idle();
            }
            if bytes.is_empty() && self.fault == Fault::DiesOfEmptyDatagram {
                self.dead.store(true, Ordering::Relaxed);
            }
            let junk = self.fault == Fault::AnswersJunk;
            let reply = reply.or_else(|| junk.then(|| b"ERROR".to_vec()));
            let Some(reply) = reply else { continue };
            let _ = socket.send_to(&reply, from);
            if self.fault == Fault::AnswersTwice {
                let _ = socket.send_to(&reply, from);
            }
        }
    }

    fn connections(self: &Arc<Self>, listener: &TcpListener) {
        while self.lives() {
            let Ok((stream, from)) = listener.accept() else {
                thread::sleep(POLL);
                continue;
            };
            if self.fault != Fault::OnlyRequestsRestartIdle {
                self.restart_idle();
            }
            stream.set_nonblocking(false).expect("a sound socket");
            stream
                .set_read_timeout(Some(4 * IDLE))
                .expect("a sound socket");
            let toy = Arc::clone(self);
            let serving = thread::spawn(move || {
                toy.open.fetch_add(1, Ordering::Relaxed);
                toy.connection(stream, from);
                toy.open.fetch_sub(1, Ordering::Relaxed);
            });
            if self.fault == Fault::OneAtATime {
                let _ = serving.join();
            }
        }
    }

    fn connection(&self, mut stream: TcpStream, from: SocketAddr) {
        let Some(request) = self.read_request(&mut stream) else {
            return;
        };
        let Some(reply) = self.reply(&request, from, "tcp") else {
            if self.fault == Fault::DiesOfJunkStream {
                self.dead.store(true, Ordering::Relaxed);
            }
            return close_gently(&stream);
        };
        self.restart_idle();
        let _ = stream.write_all(&reply);
        match self.fault {
            // With a byte unread, closing resets the connection.
            Fault::ClosesWithReset => {}
            Fault::KeepsOpen => thread::sleep(4 * IDLE),
            _ => close_gently(&stream),
        }
    }

    /// Reads until there is a whole request; None if there is nothing to reply to.
    fn read_request(&self, stream: &mut TcpStream) -> Option<Vec<u8>> {
        if self.fault == Fault::ClosesWithReset {
            return self.peek_request(stream);
        }
        let mut request = Vec::new();
        let mut buffer = [0; 512];
        loop {
            let len = match stream.read(&mut buffer) {
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return None,
            };
            request.extend_from_slice(&buffer[..len]);
            let newline = request.contains(&b'\n');
            let whole = match self.fault {
                Fault::WaitsForNewline => newline,
                Fault::WaitsForTheEnd => false,
                Fault::ReadsOnce => true,
                _ => newline || request.len() >= 10 || !b"HELLO ".starts_with(head(&request)),
            };
            if len == 0 || whole {
                return Some(request);
            }
        }
    }

    fn peek_request(&self, stream: &TcpStream) -> Option<Vec<u8>> {
        let mut buffer = [0; 512];
        let until = Instant::now() + IDLE;
        while Instant::now() < until {
            let len = stream.peek(&mut buffer).ok()?;
            if len == 0 || len >= 8 {
                return Some(buffer[..len].to_vec());
            }
            thread::sleep(POLL);
        }
        None
    }

    fn reply(&self, request: &[u8], from: SocketAddr, table: &str) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(request).ok()?;
        let words = text.strip_prefix("HELLO ")?;
        let id = match self.fault {
            Fault::TakesWordsForId => words.trim(),
            Fault::TakesLineEndForId => words.split(' ').next()?,
            _ => words.split_whitespace().next()?,
        };
        if id.is_empty() {
            return None;
        }
        let mut key = match self.fault {
            Fault::TakesIdsForNumbers => id.trim_start_matches('0').to_owned(),
            _ => id.to_owned(),
        };
        if self.fault == Fault::TwoTables {
            key.push_str(table);
        }
        let granted = self.grant(key);
        let named = match self.fault {
            Fault::NamesItself => self.addr,
            _ => from,
        };
        let end = match self.fault {
            Fault::AddsNewline => "\n",
            _ => "",
        };
        let (ip, port) = (named.ip(), named.port());
        Some(if granted {
            format!("OK {id} {ip} {port}{end}").into_bytes()
        } else {
            format!("RESET {id}{end}").into_bytes()
        })
    }

    fn grant(&self, key: String) -> bool {
        let now = Instant::now();
        let lease = match self.fault {
            Fault::NeverExpires => Duration::from_secs(3600),
            Fault::ExpiresEarly => LEASE / 2,
            _ => LEASE,
        };
        let mut leases = self.leases.lock().expect("nobody panics with it");
        let free = leases.get(&key).is_none_or(|ends| *ends <= now);
        if free || self.fault == Fault::RefreshesOnReset {
            leases.insert(key, now + lease);
        }
        free || self.fault == Fault::NeverResets
    }

    fn lives(&self) -> bool {
        if self.dead.load(Ordering::Relaxed) {
            return false;
        }
        if self.fault == Fault::SilentKeepsAlive && self.open.load(Ordering::Relaxed) > 0 {
            self.restart_idle();
        }
        let limit = match self.fault {
            Fault::NeverExits => 20 * IDLE,
            _ => IDLE,
        };
        self.heard().elapsed() < limit
    }

    fn restart_idle(&self) {
        *self.heard() = Instant::now();
    }

    fn heard(&self) -> MutexGuard<'_, Instant> {
        self.heard.lock().expect("nobody panics with it")
    }
}

/// As much of a request as could be its first word.
fn head(request: &[u8]) -> &[u8] {
    &request[..request.len().min(6)]
}

/// Ends our side, and reads on until the client has ended its own or a little time has passed.
fn close_gently(mut stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
    let mut rest = [0; 512];
    while let Ok(1..) = stream.read(&mut rest) {}
}
