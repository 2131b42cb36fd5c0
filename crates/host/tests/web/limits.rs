//! Time limits, full houses, and clients that are slow on purpose.

use std::io::ErrorKind;
use std::time::Instant;

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn half_a_request_gets_408_and_silence_gets_silence() {
    let server = Server::start(|config| {
        config.limits.request_max = ms(150);
        config.limits.idle_max = ms(300);
    });
    server.write("a.txt", "a");
    let mut half = server.connect();
    half.write_all(b"GET /a.txt HTTP/1.1\r\nHost")
        .expect("sent");
    let mut silent = server.connect();
    let answer = Answer::read_to_end(&mut half);
    assert_eq!(
        (answer.head.status, answer.field("connection").as_str()),
        (408, "close")
    );
    let mut nothing = Vec::new();
    silent.read_to_end(&mut nothing).expect("an end");
    assert!(nothing.is_empty());
}

/// A request that drips a byte at a time is limited as a whole.
#[test]
fn dripping_does_not_prolong_a_request() {
    let server = Server::start(|config| config.limits.request_max = ms(300));
    let mut slow = server.connect();
    let begun = Instant::now();
    slow.set_read_timeout(Some(ms(20))).expect("a time limit");
    let mut received = Vec::new();
    for byte in b"GET / HTTP/1.1\r\nX-Slow: "
        .iter()
        .chain(std::iter::repeat(&b'x'))
    {
        if slow.write_all(&[*byte]).is_err() {
            break;
        }
        let mut buffer = [0; 1024];
        match slow.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => received.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
        assert!(begun.elapsed() < PATIENCE, "still connected");
    }
    assert!(
        received.starts_with(b"HTTP/1.1 408"),
        "{}",
        received.escape_ascii()
    );
}

#[test]
fn a_client_that_takes_nothing_is_given_up() {
    let server = Server::start(|config| config.limits.stall_max = ms(200));
    server.write("big.bin", vec![1; 30_000_000]);
    let mut stuck = server.connect();
    stuck.write_all(&get_request("/big.bin")).expect("sent");
    // Others are served meanwhile.
    server.write("a.txt", "a");
    assert_eq!(server.get("/a.txt", "").body, b"a");
    wait_until(|| connections_of(&server) == 0);
    let mut received = Vec::new();
    let _ = stuck.read_to_end(&mut received);
    assert!(received.len() < 30_000_000);
}

#[test]
fn a_reader_that_pauses_gets_everything() {
    let server = Server::start(|config| config.limits.stall_max = ms(5000));
    let content = pattern(12_000_000);
    server.write("big.bin", &content);
    let mut stream = server.connect();
    stream.write_all(&get_request("/big.bin")).expect("sent");
    let mut head = [0; 1];
    stream.read_exact(&mut head).expect("it begins");
    // By now the sockets are full.
    server.write("a.txt", "a");
    for _ in 0..20 {
        assert_eq!(server.get("/a.txt", "").body, b"a");
    }
    let mut bytes = head.to_vec();
    let mut buffer = vec![0; 100_000];
    while bytes.len() < content.len() {
        let len = stream.read(&mut buffer).expect("more");
        assert!(len > 0, "cut short");
        bytes.extend_from_slice(&buffer[..len]);
    }
    let start = parse_response(&bytes)
        .expect("well formed")
        .expect("whole")
        .len;
    while bytes.len() < start + content.len() {
        let len = stream.read(&mut buffer).expect("more");
        bytes.extend_from_slice(&buffer[..len]);
    }
    assert!(bytes[start..] == content, "bytes differ");
}

#[test]
fn in_a_full_house_the_longest_silent_one_makes_room() {
    let server = Server::start(|config| config.connections_max = 8);
    server.write("a.txt", "a");
    let mut first = server.connect();
    first.write_all(&get_request("/a.txt")).expect("sent");
    Answer::read_one(&mut first);
    let mut others: Vec<_> = (0..7).map(|_| server.connect()).collect();
    for other in &mut others {
        other.write_all(&get_request("/a.txt")).expect("sent");
        Answer::read_one(other);
    }
    let mut fresh = server.connect();
    fresh.write_all(&get_request("/a.txt")).expect("sent");
    assert_eq!(Answer::read_one(&mut fresh).body, b"a");
    let mut nothing = Vec::new();
    first
        .read_to_end(&mut nothing)
        .expect("closed in good order");
    assert!(nothing.is_empty());
    for other in &mut others {
        other.write_all(&get_request("/a.txt")).expect("still open");
        assert_eq!(Answer::read_one(other).body, b"a");
    }
}

#[test]
fn whoever_is_being_served_keeps_the_place() {
    let server = Server::start(|config| config.connections_max = 2);
    let content = pattern(20_000_000);
    server.write("big.bin", &content);
    let mut served: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for stream in &mut served {
        stream.write_all(&get_request("/big.bin")).expect("sent");
        stream.read_exact(&mut [0]).expect("it begins");
    }
    // It waits in the queue of the kernel.
    let mut third = server.connect();
    third.write_all(&get_request("/big.bin")).expect("sent");
    let mut rest = Vec::new();
    for stream in served {
        let mut stream = stream;
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("half closed");
        stream.read_to_end(&mut rest).expect("the whole file");
        let answer = Answer::whole(&[b"H", rest.as_slice()].concat());
        assert!(answer.body == content);
        rest.clear();
    }
    assert!(Answer::read_one(&mut third).body == content);
}

#[test]
fn requests_sent_ahead_of_their_answers_are_bounded() {
    let server = Server::start(|_| {});
    server.write("a.txt", pattern(2000));
    let mut stream = server.connect();
    let mut sender = stream.try_clone().expect("a handle");
    let count = 3000;
    let sending = std::thread::spawn(move || {
        let request = get_request("/a.txt");
        for _ in 0..count {
            sender.write_all(&request).expect("taken in the end");
        }
    });
    for _ in 0..count {
        assert_eq!(Answer::read_one(&mut stream).body.len(), 2000);
    }
    sending.join().expect("all sent");
}

#[test]
fn several_workers_share_the_work() {
    let server = Server::start(|config| config.workers = 3);
    server.write("a.txt", "a");
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let addr = server.addr;
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(addr).expect("a connection");
                for _ in 0..200 {
                    stream.write_all(&get_request("/a.txt")).expect("sent");
                    assert_eq!(Answer::read_one(&mut stream).body, b"a");
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("served");
    }
    server.stop.drain();
    let counts = server.join();
    assert_eq!((counts.connections, counts.requests), (8, 1600));
}

/// How many descriptors of this process are sockets connected at the server's port.
fn connections_of(server: &Server) -> usize {
    let port = format!(":{:04X}", server.addr.port());
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux");
    let established = |line: &&str| {
        let mut words = line.split_whitespace();
        let local = words.nth(1).unwrap_or_default();
        let state = words.nth(1).unwrap_or_default();
        local.ends_with(&port) && state == "01"
    };
    table.lines().filter(established).count()
}

fn wait_until(done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "it never happened");
        std::thread::yield_now();
    }
}
