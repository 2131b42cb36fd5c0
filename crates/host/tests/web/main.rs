//! The web server's loop over real sockets and a real folder.

mod files;
mod limits;
mod log;
mod stop;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ahoy_host::web::log::AccessLog;
use ahoy_host::web::stop::Stop;
use ahoy_host::web::{Config, Counts, serve};
use ahoy_logic::web::{Limits, Site};
use ahoy_wire::web::{ResponseHead, parse_response};
use tempfile::TempDir;

/// Longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server in this process, over a folder of its own.
struct Server {
    addr: SocketAddr,
    folder: TempDir,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<Counts>>,
}

impl Server {
    fn start(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_with_log(change, None)
    }

    fn start_with_log(change: impl FnOnce(&mut Config), log: Option<AccessLog>) -> Self {
        let folder = TempDir::new().expect("a folder");
        let mut config = Config {
            root: folder.path().to_owned(),
            site: Site {
                listing: true,
                dotfiles: false,
                access_log: log.is_some(),
                boundary_key: [1; 32],
            },
            limits: Limits::default(),
            connections_max: 1000,
            workers: 1,
            // Tests change files and ask at once.
            cache_validity: Duration::ZERO,
            drain_max: Duration::from_secs(10),
            tls: None,
        };
        change(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("bound");
        let stop = Arc::new(Stop::new().expect("descriptors"));
        let bell = stop.clone();
        let thread = std::thread::spawn(move || {
            let counts = serve(&config, vec![listener], log.as_ref(), &bell).expect("it serves");
            log.map(AccessLog::finish);
            counts
        });
        Self {
            addr,
            folder,
            stop,
            thread: Some(thread),
        }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, content).expect("written");
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).expect("a connection");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit");
        stream
            .set_write_timeout(Some(PATIENCE))
            .expect("a time limit");
        stream
    }

    /// `GET` on a connection of its own.
    fn get(&self, path: &str, fields: &str) -> Answer {
        let mut stream = self.connect();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        Answer::read_to_end(&mut stream)
    }

    /// Waits for the server's end after a stop was asked for.
    fn join(mut self) -> Counts {
        let thread = self.thread.take().expect("joined once");
        thread.join().expect("the server did not panic")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.now();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                std::thread::panicking() || ended.is_ok(),
                "the server panicked"
            );
        }
    }
}

#[derive(Debug)]
struct Answer {
    head: ResponseHead,
    body: Vec<u8>,
}

impl Answer {
    /// Everything until the server closes is one answer.
    fn read_to_end(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        stream
            .read_to_end(&mut bytes)
            .expect("an answer, then the end");
        Self::whole(&bytes)
    }

    fn whole(bytes: &[u8]) -> Self {
        let head = parse_response(bytes).expect("well formed").expect("whole");
        Self {
            body: bytes[head.len..].to_vec(),
            head,
        }
    }

    /// Reads one answer and leaves the connection open.
    fn read_one(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("a head");
            bytes.push(byte[0]);
        }
        let head = parse_response(&bytes).expect("well formed").expect("whole");
        let len = head
            .field("content-length")
            .map_or(0, |len| len.parse().expect("a number"));
        let mut body = vec![0; len];
        stream.read_exact(&mut body).expect("a body");
        Self { head, body }
    }

    fn field(&self, name: &str) -> String {
        self.head.field(name).unwrap_or_default()
    }
}

/// A plain request that leaves the connection open.
fn get_request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

/// Bytes in which a shift or a repetition would show.
fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8)
        .collect()
}
