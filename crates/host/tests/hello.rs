//! The hello server on real loopback sockets, its rules about time once for real, and the client
//! against servers that do as they please.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ahoy_host::drive::{Ending, Sockets};
use ahoy_host::hello::client::{Ask, Failure};
use ahoy_host::hello::serve;
use ahoy_host::{listen, runtime};
use ahoy_logic::hello::{Config, Note, Transport};
use tokio::sync::oneshot;

/// Longer than anything here should take, short enough to end a broken test.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server of ours in a thread of its own.
struct Server {
    port: u16,
    notes: mpsc::Receiver<(Instant, Note)>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Ending>,
}

impl Server {
    fn start(bind: &str, config: Config) -> Self {
        let bind = bind.parse().expect("an address");
        let (listener, datagrams) = listen::pair(bind, 64).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let mut sockets = Sockets::default();
        sockets.listeners.push(listener);
        sockets.datagrams.push(datagrams);
        let (tell, notes) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let on_note = move |note| {
                // A test that has seen enough no longer listens.
                let _ = tell.send((Instant::now(), note));
            };
            let service = serve(config, sockets, on_note, async { drop(stopped.await) });
            runtime::block_on(service)
                .expect("a runtime")
                .expect("sockets")
        });
        Self {
            port,
            notes,
            stop,
            thread,
        }
    }

    fn classic(bind: &str) -> Self {
        Self::start(bind, Config::default())
    }

    fn addr(&self, ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().expect("an address"), self.port)
    }

    fn ask(&self, transport: Transport, id: &str) -> Result<SocketAddr, Failure> {
        ask(self.addr("127.0.0.1"), transport, id)
    }

    /// Waits for the first note that `wanted` says yes to, and when it was told.
    fn noted(&self, wanted: impl Fn(&Note) -> bool) -> Instant {
        loop {
            let (at, note) = self.notes.recv_timeout(PATIENCE).expect("a note comes");
            if wanted(&note) {
                return at;
            }
        }
    }

    fn stop(self) -> Ending {
        let _ = self.stop.send(());
        self.thread.join().expect("the server does not crash")
    }
}

fn ask(server: SocketAddr, transport: Transport, id: &str) -> Result<SocketAddr, Failure> {
    let ask = Ask {
        server,
        transport,
        reply: PATIENCE,
        protect: false,
    };
    ask.once(id.parse().expect("an id"))
}

#[test]
fn one_table_over_both_transports() {
    let server = Server::classic("127.0.0.1:0");
    server.ask(Transport::Udp, "0001").expect("free");
    let again = server.ask(Transport::Tcp, "0001");
    assert!(matches!(again, Err(Failure::Reset)), "{again:?}");
    server.ask(Transport::Tcp, "0002").expect("free");
    let again = server.ask(Transport::Udp, "0002");
    assert!(matches!(again, Err(Failure::Reset)), "{again:?}");
    assert_eq!(server.stop(), Ending::Stopped);
}

/// hello-9, and what the address in an OK is, for every kind of bind: the client's socket is
/// connected, so it sees no reply that leaves from another address than the one it asked.
#[test]
fn replies_leave_from_where_the_request_came_to() {
    for (bind, via, client) in [
        ("127.0.0.1:0", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0:0", "127.1.2.3", "127.0.0.9"),
        ("[::1]:0", "::1", "::1"),
        ("[::]:0", "::1", "::1"),
        ("[::]:0", "127.0.0.1", "127.0.0.1"),
        ("[::]:0", "127.1.2.3", "127.0.0.9"),
    ] {
        let server = Server::classic(bind);
        let client: IpAddr = client.parse().expect("an address");
        let socket = UdpSocket::bind((client, 0)).expect("a free port");
        socket.connect(server.addr(via)).expect("UDP connects");
        socket.set_read_timeout(Some(PATIENCE)).expect("valid");
        let ours = socket.local_addr().expect("bound");
        for (id, reply) in [
            ("0042", format!("OK 0042 {} {}", ours.ip(), ours.port())),
            ("0042", "RESET 0042".to_owned()),
        ] {
            socket.send(format!("HELLO {id}").as_bytes()).expect("sent");
            let mut bytes = [0; 128];
            let len = socket.recv(&mut bytes).expect("a reply");
            let got = String::from_utf8_lossy(&bytes[..len]);
            assert_eq!(got, reply, "bound to {bind}, asked via {via}");
        }
        let told = ask(server.addr(via), Transport::Tcp, "0043").expect("free");
        let expected = if via == "::1" { "::1" } else { "127.0.0.1" };
        assert_eq!(told.ip().to_string(), expected);
        server.stop();
    }
}

/// A burst that is larger than a batch: each gets exactly its own reply.
#[test]
fn a_thousand_datagrams_at_once_each_get_their_reply() {
    let server = Server::classic("0.0.0.0:0");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.connect(server.addr("127.0.0.1")).expect("connects");
    socket.set_read_timeout(Some(PATIENCE)).expect("valid");
    let port = socket.local_addr().expect("bound").port();
    for hundred in 0..10 {
        let ids = || (0..100).map(|id| format!("{:04}", hundred * 100 + id));
        for id in ids() {
            socket.send(format!("HELLO {id}").as_bytes()).expect("sent");
        }
        for id in ids() {
            let mut bytes = [0; 128];
            let len = socket.recv(&mut bytes).expect("a reply");
            let got = String::from_utf8_lossy(&bytes[..len]);
            assert_eq!(got, format!("OK {id} 127.0.0.1 {port}"));
        }
    }
    server.stop();
}

/// hello-15 for real: the server wakes up when a lease ends, not earlier and hardly later.
#[test]
fn a_lease_ends_in_real_time() {
    let lease = Duration::from_millis(400);
    let server = Server::start(
        "127.0.0.1:0",
        Config {
            lease,
            ..Config::default()
        },
    );
    server.ask(Transport::Udp, "0042").expect("free");
    let granted = server.noted(|note| matches!(note, Note::Granted { .. }));
    let again = server.ask(Transport::Tcp, "0042");
    assert!(matches!(again, Err(Failure::Reset)), "{again:?}");
    let ended = server.noted(|note| matches!(note, Note::Ended { .. }));
    let lasted = ended - granted;
    assert!(lasted >= lease - Duration::from_millis(5), "{lasted:?}");
    server.ask(Transport::Tcp, "0042").expect("free again");
    server.stop();
}

/// hello-18 and hello-21 for real: it ends by itself, sockets closed, in spite of a silent client.
#[test]
fn the_idle_exit_in_real_time() {
    let idle = Duration::from_millis(600);
    let server = Server::start(
        "127.0.0.1:0",
        Config {
            idle: Some(idle),
            ..Config::default()
        },
    );
    let addr = server.addr("127.0.0.1");
    let mut silent = TcpStream::connect(addr).expect("it listens");
    silent.set_read_timeout(Some(PATIENCE)).expect("valid");
    server.ask(Transport::Udp, "0042").expect("free");
    let granted = server.noted(|note| matches!(note, Note::Granted { .. }));
    let idle_at = server.noted(|note| matches!(note, Note::Idle));
    assert!(idle_at - granted >= idle - Duration::from_millis(5));
    let ending = server.thread.join().expect("the server does not crash");
    assert_eq!(ending, Ending::Exited);
    assert_eq!(silent.read(&mut [0]).unwrap_or(0), 0, "it was closed");
    TcpStream::connect(addr).expect_err("the listener is closed");
    // The port is free again, so somebody else may have it by now; but nobody answers a request.
    let late = Ask {
        server: addr,
        transport: Transport::Udp,
        reply: Duration::from_millis(300),
        protect: false,
    };
    let id = "0043".parse().expect("an id");
    late.once(id).expect_err("nobody is there");
}

/// hello-20: the oldest silent client makes room.
#[test]
fn silent_clients_block_nobody() {
    let server = Server::start(
        "127.0.0.1:0",
        Config {
            conns_max: 8,
            ..Config::default()
        },
    );
    let addr = server.addr("127.0.0.1");
    let connect = |_| {
        let stream = TcpStream::connect(addr).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("valid");
        stream
    };
    let mut silent: Vec<_> = (0..100).map(connect).collect();
    server.ask(Transport::Tcp, "0042").expect("served");
    server.ask(Transport::Udp, "0043").expect("served");
    let first = silent[0].read(&mut [0]);
    assert!(matches!(first, Ok(0)), "the oldest was let go: {first:?}");
    server.stop();
}

/// hello-12: whatever the client still sends, it reads the reply and then the end of the stream.
#[test]
fn a_reply_is_not_lost_to_what_the_client_still_sends() {
    let server = Server::classic("127.0.0.1:0");
    for id in 1000..1020 {
        let mut stream = TcpStream::connect(server.addr("127.0.0.1")).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("valid");
        write!(stream, "HELLO {id}").expect("it reads");
        server.noted(|note| matches!(note, Note::Granted { .. }));
        stream.write_all(&[b'x'; 5000]).expect("it still reads");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("no reset");
        assert!(reply.starts_with(&format!("OK {id} 127.0.0.1 ")), "{reply}");
    }
    server.stop();
}

/// One connection to a server that sends `reply` and then does nothing.
fn lazy_server(reply: &'static [u8]) -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client comes");
        stream.set_read_timeout(Some(PATIENCE)).expect("valid");
        let mut request = Vec::new();
        // To the end of the stream: the client must end its side (hello-24).
        stream.read_to_end(&mut request).expect("a request");
        stream.write_all(reply).expect("it reads");
        // Left open until the client closes (hello-25).
        let _ = stream.read(&mut [0]);
        request
    });
    (addr, serving)
}

#[test]
fn the_client_acts_on_the_reply_and_not_on_the_end() {
    for (reply, expected) in [
        (&b"OK 0042 10.0.0.1 12345"[..], Some("10.0.0.1:12345")),
        (b"OK 0042 10.0.0.1 123", Some("10.0.0.1:123")),
        (b"OK 0042 10.0.0.1 123\r\n", Some("10.0.0.1:123")),
        (b"RESET 0042", None),
        (b"OK 0043 10.0.0.1 12345", None),
        (b"404 Not Found", None),
    ] {
        let (addr, serving) = lazy_server(reply);
        let got = ask(addr, Transport::Tcp, "0042");
        let got = got.ok().map(|addr| addr.to_string());
        assert_eq!(got.as_deref(), expected, "{}", reply.escape_ascii());
        assert_eq!(serving.join().expect("no crash"), b"HELLO 0042");
    }
}

#[test]
fn the_client_waits_as_long_as_it_says() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    for (transport, server) in [
        (Transport::Udp, silent.local_addr().expect("bound")),
        (Transport::Tcp, listener.local_addr().expect("bound")),
    ] {
        let reply = Duration::from_millis(300);
        let started = Instant::now();
        let ask = Ask {
            server,
            transport,
            reply,
            protect: false,
        };
        let outcome = ask.once("0042".parse().expect("an id"));
        assert!(matches!(outcome, Err(Failure::TimedOut(_))), "{outcome:?}");
        assert!(started.elapsed() >= reply - Duration::from_millis(5));
    }
}

#[test]
fn a_late_or_foreign_datagram_is_waited_out() {
    let server = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let addr = server.local_addr().expect("bound");
    let serving = thread::spawn(move || {
        let mut bytes = [0; 128];
        let (_, from) = server.recv_from(&mut bytes).expect("a request");
        for reply in ["", "junk", "RESET 0041", "OK 0042 10.0.0.1 12345"] {
            server.send_to(reply.as_bytes(), from).expect("sent");
        }
    });
    let got = ask(addr, Transport::Udp, "0042").expect("granted");
    assert_eq!(got.to_string(), "10.0.0.1:12345");
    serving.join().expect("no crash");
}

#[test]
fn under_protection_a_lost_reply_is_asked_for_again() {
    let server = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let addr = server.local_addr().expect("bound");
    let serving = thread::spawn(move || {
        let mut bytes = [0; 128];
        let (first, from) = server.recv_from(&mut bytes).expect("a request");
        let (second, again) = server.recv_from(&mut bytes).expect("the same once more");
        assert_eq!((first, from), (second, again), "from the same socket");
        let reply = b"OK 0042 10.0.0.1 12345";
        assert!(second >= reply.len(), "padded");
        server.send_to(reply, from).expect("sent");
    });
    let ask = Ask {
        server: addr,
        transport: Transport::Udp,
        reply: PATIENCE,
        protect: true,
    };
    let got = ask.once("0042".parse().expect("an id")).expect("granted");
    assert_eq!(got.to_string(), "10.0.0.1:12345");
    serving.join().expect("no crash");
}
