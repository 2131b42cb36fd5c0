//! A tracker that says what it is told, and holders that behave as badly as it takes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What a right holder sends.
pub const CONTENT: &[u8] = b"twenty bytes of file";

/// How a holder behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Right,
    Short,
    Surplus,
    Stalls,
    Refuses,
    Garbage,
}

/// A holder of any file, of the newer generation.
pub struct Holder {
    pub addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Holder {
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming().flatten() {
                serve(manner, &log, stream, &mut kept);
            }
        });
        Self { addr, asked }
    }

    /// How often it was asked.
    pub fn requests(&self) -> usize {
        self.asked.lock().expect("nobody panics").len()
    }

    /// The names that it was asked for, each once.
    pub fn asked(&self) -> Vec<String> {
        let mut names = self.asked.lock().expect("nobody panics").clone();
        names.sort();
        names.dedup();
        names
    }
}

fn serve(
    manner: Manner,
    log: &Mutex<Vec<String>>,
    mut stream: TcpStream,
    kept: &mut Vec<TcpStream>,
) {
    let mut bytes = [0; 300];
    let len = stream.read(&mut bytes).unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
    log.lock()
        .expect("nobody panics")
        .push(text.trim_end().to_owned());
    let header = format!("Content-Length: {}\n", CONTENT.len()).into_bytes();
    let answer = match manner {
        Manner::Right => [&header, CONTENT].concat(),
        Manner::Short | Manner::Stalls => [&header, &CONTENT[..9]].concat(),
        Manner::Surplus => [&header, CONTENT, b"!"].concat(),
        Manner::Refuses => Vec::new(),
        Manner::Garbage => b"Content-Length: -20\nerror".to_vec(),
    };
    let _ = stream.write_all(&answer);
    // A refusal must not be taken for a holder of the older generation that has the file empty,
    // nor garbage for such a file: it waits for the line end.
    let waits = matches!(manner, Manner::Garbage) && !text.ends_with('\n');
    if manner == Manner::Stalls || waits {
        kept.push(stream);
    }
}

/// What a tracker does to whoever has sent it a message.
pub type Answering = fn(TcpStream);

/// A tracker that treats each connection in the next of these ways, and from then on the last.
pub fn changing_tracker(ways: Vec<Answering>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for (number, mut stream) in listener.incoming().flatten().enumerate() {
            let way = ways[number.min(ways.len() - 1)];
            std::thread::spawn(move || {
                let mut bytes = vec![0; 65_536];
                if stream.read(&mut bytes).is_ok_and(|len| len > 0) {
                    way(stream);
                }
            });
        }
    });
    addr
}

/// A tracker of the newer generation.
pub struct Tracker {
    addr: SocketAddr,
    entries: Arc<Mutex<BTreeMap<String, SocketAddr>>>,
}

/// Lists these names with one holder; they stand in the JSON as they are.
pub fn tracker(holder: SocketAddr, names: &[&str]) -> Tracker {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound");
    let entries = names.iter().map(|name| ((*name).to_owned(), holder));
    let entries = Arc::new(Mutex::new(entries.collect::<BTreeMap<_, _>>()));
    let shared = Arc::clone(&entries);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let entries = Arc::clone(&shared);
            std::thread::spawn(move || {
                let mut bytes = vec![0; 65_536];
                // Each message of these small swarms comes in one segment.
                while stream.read(&mut bytes).is_ok_and(|len| len > 0) {
                    let line = directory(&entries.lock().expect("nobody panics"));
                    if stream.write_all(line.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    Tracker { addr, entries }
}

impl Tracker {
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Lists this name with this holder from now on.
    pub fn also(&self, holder: SocketAddr, name: &str) {
        let mut entries = self.entries.lock().expect("nobody panics");
        entries.insert(name.to_owned(), holder);
    }
}

fn directory(entries: &BTreeMap<String, SocketAddr>) -> String {
    let entries = entries.iter().map(|(name, addr)| {
        let (ip, port) = (addr.ip(), addr.port());
        format!("\"{name}\": {{\"ip\": \"{ip}\", \"port\": {port}, \"mtime\": 1771289241}}")
    });
    format!("{{{}}}\n", entries.collect::<Vec<_>>().join(", "))
}
