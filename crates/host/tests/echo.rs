//! The loops on real loopback sockets, seen through their smallest service.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ahoy_host::drive::{Ending, Sockets};
use ahoy_host::echo::{client, serve};
use ahoy_host::{listen, runtime};
use ahoy_logic::echo::{Note, Options};
use ahoy_wire::echo::{DATAGRAM_BYTES_MAX, probe};
use tokio::sync::oneshot;

/// Longer than anything here should take, short enough to end a broken test.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server of ours in a thread of its own.
struct Server {
    addr: SocketAddr,
    notes: mpsc::Receiver<Note>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Ending>,
}

impl Server {
    fn start(bind: &str, options: Options) -> Self {
        let bind = bind.parse().expect("a valid address");
        let (listener, datagrams) = listen::pair(bind, 16).expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let sockets = Sockets {
            listeners: vec![listener],
            datagrams: vec![datagrams],
            ..Sockets::default()
        };
        let (tell, notes) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let on_note = move |note| drop(tell.send(note));
            let stopped = async { drop(stopped.await) };
            let service = serve(options, sockets, on_note, stopped);
            runtime::block_on(service)
                .expect("a runtime")
                .expect("sockets")
        });
        Self {
            addr,
            notes,
            stop,
            thread,
        }
    }

    fn note(&self) -> Note {
        self.notes.recv_timeout(PATIENCE).expect("a note comes")
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("valid");
        stream
    }

    fn stop(self) -> Ending {
        let _ = self.stop.send(());
        self.thread.join().expect("the server does not crash")
    }
}

fn round_trip(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(message).expect("it reads");
    let mut back = vec![0; message.len()];
    stream.read_exact(&mut back).expect("it answers");
    assert_eq!(back, message);
}

#[test]
fn many_clients_at_once_and_the_end_of_each() {
    let server = Server::start("127.0.0.1:0", Options::default());
    let mut clients: Vec<TcpStream> = (0..50).map(|_| server.connect()).collect();
    for (number, client) in (0..).zip(&mut clients) {
        round_trip(client, &probe(number, 100));
    }
    for client in &mut clients {
        client.shutdown(Shutdown::Write).expect("open");
        assert_eq!(client.read(&mut [0; 8]).expect("a clean end"), 0);
    }
    let ends = (0..100).map(|_| server.note());
    let ended = ends.filter(|note| {
        matches!(
            note,
            Note::Disconnected {
                received_bytes: 100,
                ..
            }
        )
    });
    assert_eq!(ended.count(), 50);
    assert_eq!(server.stop(), Ending::Stopped);
}

/// echo-10: the server stops reading from a client that does not read, and loses nothing.
#[test]
fn a_client_that_reads_late_blocks_itself_and_gets_everything() {
    let server = Server::start("127.0.0.1:0", Options::default());
    let mut stream = server.connect();
    stream.set_nonblocking(true).expect("valid");
    let message = probe(1, 64 * 1024 * 1024);
    let mut sent = 0;
    let mut calm_since = Instant::now();
    // Send until nothing has gone for a while: then every buffer between us is full.
    while calm_since.elapsed() < Duration::from_millis(200) {
        match stream.write(&message[sent..]) {
            Ok(len) => {
                sent += len;
                calm_since = Instant::now();
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    assert!(sent < message.len(), "the server must stop reading");
    stream.set_nonblocking(false).expect("valid");
    stream.shutdown(Shutdown::Write).expect("open");
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("a clean end");
    assert!(back == message[..sent], "{} of {sent} bytes", back.len());
    server.stop();
}

/// echo-9
#[test]
fn silence_ends_a_connection() {
    let options = Options {
        idle_max: Duration::from_millis(50),
        ..Options::default()
    };
    let server = Server::start("127.0.0.1:0", options);
    let mut stream = server.connect();
    let peer = stream.local_addr().expect("connected");
    assert_eq!(server.note(), Note::Connected { peer });
    assert_eq!(server.note(), Note::Idle { peer });
    assert_eq!(stream.read(&mut [0; 8]).expect("an end"), 0);
    server.stop();
}

/// Beyond the cap a client waits in the backlog, and is served when another one leaves.
#[test]
fn the_cap_makes_the_next_client_wait_for_its_turn() {
    let options = Options {
        connections_max: 1,
        ..Options::default()
    };
    let server = Server::start("127.0.0.1:0", options);
    let mut first = server.connect();
    round_trip(&mut first, b"first");
    let mut second = server.connect();
    second.write_all(b"second").expect("the backlog takes it");
    second.set_nonblocking(true).expect("valid");
    let early = second.read(&mut [0; 8]).expect_err("not its turn yet");
    assert_eq!(early.kind(), ErrorKind::WouldBlock);
    round_trip(&mut first, b"still first");
    second.set_nonblocking(false).expect("valid");
    drop(first);
    let mut back = [0; 6];
    second.read_exact(&mut back).expect("now it is");
    assert_eq!(&back, b"second");
    server.stop();
}

#[test]
fn stopping_lets_the_open_connections_end_first() {
    let server = Server::start("127.0.0.1:0", Options::default());
    let mut stream = server.connect();
    round_trip(&mut stream, b"before");
    let addr = server.addr;
    let reader = std::thread::spawn(move || stream.read(&mut [0; 8]).expect("a clean end"));
    let started = Instant::now();
    assert_eq!(server.stop(), Ending::Stopped);
    assert_eq!(reader.join().expect("no panic"), 0);
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "nobody kept it waiting"
    );
    let late = TcpStream::connect(addr).expect_err("nobody listens");
    assert_eq!(late.kind(), ErrorKind::ConnectionRefused);
}

/// echo-5: on a wildcard address, the answer leaves from the address that was asked.
#[test]
fn a_datagram_is_answered_from_the_address_it_came_to() {
    for (bind, ask) in [
        ("0.0.0.0:0", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.2"),
        ("127.0.0.3:0", "127.0.0.3"),
        ("[::]:0", "::1"),
        ("[::]:0", "127.0.0.4"),
    ] {
        let server = Server::start(bind, Options::default());
        let ask = SocketAddr::new(ask.parse().expect("an address"), server.addr.port());
        // A connected socket hears nobody else.
        let socket = client::open(ask).expect("a way");
        for len in [0, 1, 1400, DATAGRAM_BYTES_MAX] {
            let message = &probe(1, len)[..len];
            let back = client::exchange_datagram(&socket, message, PATIENCE).expect("an answer");
            assert!(back == message, "{bind} {ask} {len}");
        }
        server.stop();
    }
}

/// echo-7 for datagrams: an answer nobody wants any more harms nobody.
#[test]
fn a_datagram_client_that_vanishes_harms_nobody() {
    let server = Server::start("127.0.0.1:0", Options::default());
    for _ in 0..10 {
        let gone = UdpSocket::bind("127.0.0.1:0").expect("a port");
        gone.send_to(b"bye", server.addr)
            .expect("loopback takes it");
    }
    let socket = client::open(server.addr).expect("a way");
    let back = client::exchange_datagram(&socket, b"hello", PATIENCE).expect("an answer");
    assert_eq!(back, b"hello");
    server.stop();
}

#[test]
fn the_client_brings_everything_back_and_gives_up_on_silence() {
    let server = Server::start("127.0.0.1:0", Options::default());
    let message = probe(1, 3_000_000);
    let mut back = Vec::new();
    let input = std::io::Cursor::new(message.clone());
    let sent = client::exchange_stream(server.addr, input, &mut back, PATIENCE);
    assert_eq!(sent.expect("all of it"), 3_000_000);
    assert!(back == message);
    server.stop();

    let mute = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = mute.local_addr().expect("bound");
    let wait = Duration::from_millis(50);
    let silent = client::exchange_stream(addr, &b"anyone?"[..], &mut back, wait);
    let Err(client::ClientError::Silent { missing_bytes, .. }) = silent else {
        panic!("a mute server is given up");
    };
    assert_eq!(missing_bytes, 7);
}
