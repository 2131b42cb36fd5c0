//! The access log says what really happened.

use std::sync::{Arc, Mutex, PoisonError};

use super::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// web-66.
#[test]
fn one_line_for_each_answer() {
    let lines = Lines::default();
    let log = AccessLog::start(lines.clone()).expect("a thread");
    let server = Server::start_with_log(|_| {}, Some(log));
    server.write("a.txt", "0123456789");
    server.write("big.bin", vec![0; 30_000_000]);
    server.get("/a.txt", "");
    server.get("/a.txt", "Range: bytes=0-2\r\n");
    server.get("/missing\"%0a", "");
    let mut nonsense = server.connect();
    nonsense.write_all(b"\x16\x03\x01").expect("sent");
    assert_eq!(Answer::read_to_end(&mut nonsense).head.status, 400);
    // Given up by the client after a little.
    let mut cut = server.connect();
    cut.write_all(&get_request("/big.bin")).expect("sent");
    cut.read_exact(&mut [0; 10]).expect("it begins");
    drop(cut);
    server.stop.drain();
    server.join();

    let text = String::from_utf8(
        lines
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone(),
    );
    let text = text.expect("ASCII");
    let shown: Vec<_> = text
        .lines()
        .map(|line| {
            assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
            line.split_once("] ").expect("a date").1
        })
        .collect();
    assert_eq!(
        shown[..4],
        [
            "\"GET /a.txt HTTP/1.1\" 200 10",
            "\"GET /a.txt HTTP/1.1\" 206 3",
            "\"GET /missing\\x22%0a HTTP/1.1\" 404 14",
            "\"\\x16\\x03\\x01\" 400 16",
        ]
    );
    let sent = shown[4]
        .strip_prefix("\"GET /big.bin HTTP/1.1\" 200 ")
        .expect("the last line");
    let sent: usize = sent.parse().expect("a number");
    assert!((10..30_000_000).contains(&sent), "{sent}");
    assert_eq!(shown.len(), 5);
}
