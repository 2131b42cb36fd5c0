//! Ends: gentle ones, late ones and sudden ones.

use std::time::Instant;

use super::*;

#[test]
fn a_drain_finishes_answers_and_closes_the_rest() {
    let server = Server::start(|_| {});
    let content = pattern(12_000_000);
    server.write("big.bin", &content);
    let mut idle = server.connect();
    idle.write_all(&get_request("/missing")).expect("sent");
    Answer::read_one(&mut idle);
    let mut under_way = server.connect();
    under_way.write_all(&get_request("/big.bin")).expect("sent");
    under_way.read_exact(&mut [0]).expect("it begins");
    let mut begun = server.connect();
    begun.write_all(b"GET /missing HTTP/1.1\r\n").expect("sent");
    let addr = server.addr;
    server.stop.drain();

    let mut nothing = Vec::new();
    idle.read_to_end(&mut nothing).expect("closed");
    assert!(nothing.is_empty());
    assert!(TcpStream::connect(addr).is_err(), "nobody new is taken");
    begun.write_all(b"Host: a\r\n\r\n").expect("still there");
    let answer = Answer::read_to_end(&mut begun);
    assert_eq!(
        (answer.head.status, answer.field("connection").as_str()),
        (404, "close")
    );
    let mut rest = b"H".to_vec();
    under_way.read_to_end(&mut rest).expect("the whole file");
    assert!(Answer::whole(&rest).body == content);
    drop((begun, under_way));
    assert_eq!(server.join().requests, 3);
}

#[test]
fn a_request_sent_before_the_bell_is_answered() {
    let server = Server::start(|_| {});
    server.write("a.txt", "a");
    for _ in 0..20 {
        let mut stream = server.connect();
        stream.write_all(&get_request("/a.txt")).expect("sent");
        assert_eq!(Answer::read_one(&mut stream).body, b"a");
    }
    let mut last = server.connect();
    last.write_all(&get_request("/a.txt")).expect("sent");
    server.stop.drain();
    assert_eq!(Answer::read_to_end(&mut last).body, b"a");
}

// web-65.
#[test]
fn a_drain_has_a_deadline() {
    let server = Server::start(|config| config.drain_max = Duration::from_millis(200));
    server.write("big.bin", vec![0; 30_000_000]);
    let mut stuck = server.connect();
    stuck.write_all(&get_request("/big.bin")).expect("sent");
    stuck.read_exact(&mut [0]).expect("it begins");
    let begun = Instant::now();
    server.stop.drain();
    server.join();
    assert!(begun.elapsed() < PATIENCE);
    drop(stuck);
}

// web-65.
#[test]
fn the_second_bell_ends_it_at_once() {
    let server = Server::start(|config| {
        config.drain_max = Duration::from_secs(3600);
        config.workers = 2;
    });
    server.write("big.bin", vec![0; 30_000_000]);
    let mut stuck = server.connect();
    stuck.write_all(&get_request("/big.bin")).expect("sent");
    stuck.read_exact(&mut [0]).expect("it begins");
    server.stop.drain();
    server.stop.now();
    server.join();
    drop(stuck);
}
