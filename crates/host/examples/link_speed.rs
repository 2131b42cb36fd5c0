//! Measures bulk transfer over one link on loopback: two processes, TLS and all.
//!
//! `link_speed [MIB] [RUNS] [PATH]`: this process serves a cached file, a child fetches it as one
//! range and drops the bytes, or writes them to the fresh file PATH if one is given.

#![expect(
    clippy::disallowed_methods,
    reason = "a measuring program takes its own arguments"
)]

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use ahoy_host::sync::keys::PeerKey;
use ahoy_host::sync::limits::{Caps, Limits};
use ahoy_host::sync::link::{Pace, Port, Shelf, Surroundings};
use ahoy_host::sync::links::Links;
use ahoy_host::sync::session::{HANDSHAKE_LIMIT, Membership, accept, dial};
use ahoy_host::sync::supply::Supply;
use ahoy_logic::sync::{Input, LinkId};
use ahoy_wire::sync::{Capability, Chunk, Hash, NodeId, Refusal, RelPath, Secret, Stretch, Wanted};

const WANTED: Wanted = Wanted {
    node: NodeId([1; 16]),
    hash: Hash([2; 32]),
};

struct Quiet(mpsc::Sender<LinkId>);

impl Port for Quiet {
    fn input(&self, input: Input) {
        if let Input::Closed { link } = input {
            let _ = self.0.send(link);
        }
    }
}

struct OneFile(Option<(File, u64)>);

impl Shelf for OneFile {
    fn open(&self, _: Wanted) -> Result<(File, u64), Refusal> {
        let (file, size) = self.0.as_ref().ok_or(Refusal::NotHere)?;
        Ok((file.try_clone().map_err(|_| Refusal::Unreadable)?, *size))
    }

    fn outline(&self, _: Wanted, _: Stretch) -> Result<Vec<Chunk>, Refusal> {
        Err(Refusal::NotHere)
    }

    fn small(&self, _: &RelPath, _: Hash, _: u64) -> Option<Arc<[u8]>> {
        None
    }
}

fn links(seed: u8, file: Option<(File, u64)>) -> (Arc<Links>, mpsc::Receiver<LinkId>) {
    let capability = Capability::ReadWrite(Secret::new([7; 32]));
    let membership = Membership::new(PeerKey::from_seed([seed; 32]), &capability).expect("keys");
    let (sender, receiver) = mpsc::channel();
    let links = Links::new(Surroundings {
        membership: Arc::new(membership),
        port: Arc::new(Quiet(sender)),
        shelf: Arc::new(OneFile(file)),
        listening_port: None,
        pace: Pace::default(),
        limits: Limits::new(Caps::default()),
    });
    (links, receiver)
}

fn fetch(address: SocketAddr, bytes: u64, path: Option<&str>) {
    let (links, _closed) = links(2, None);
    let session = dial(links.membership(), address, None, |_| true).expect("a session");
    let link = links.open(session).expect("a link");
    let file = path.map(|path| File::create_new(path).expect("a new file"));
    let start = Instant::now();
    let mut got = 0;
    let mut sink = |at: u64, piece: &[u8]| {
        got += piece.len() as u64;
        file.as_ref()
            .map_or(Ok(()), |file| file.write_all_at(piece, at))
    };
    links
        .fetch(link, WANTED, 0, bytes, &mut sink)
        .expect("all of it");
    let took = start.elapsed().as_secs_f64();
    assert_eq!(got, bytes);
    let usage = rustix_cpu_seconds();
    println!(
        "{:.0} MiB/s, {:.0} MB/s, receiver {usage:.2} CPU-s",
        got as f64 / took / 1048576.0,
        got as f64 / took / 1e6
    );
    if let Some(path) = path {
        std::fs::remove_file(path).expect("ours to remove");
    }
    links.close();
}

/// CPU time of this process so far.
fn rustix_cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "fetch") {
        let address = args[1].parse().expect("an address");
        let bytes = args[2].parse().expect("a length");
        return fetch(address, bytes, args.get(3).map(String::as_str));
    }
    let mib: u64 = args.first().map_or(1024, |arg| arg.parse().expect("MiB"));
    let runs: u64 = args.get(1).map_or(5, |arg| arg.parse().expect("runs"));
    let source = std::env::temp_dir().join(format!("link-speed-{}", std::process::id()));
    let mut file = File::create_new(&source).expect("a temporary file");
    let block: Vec<u8> = (0..1 << 20)
        .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    for _ in 0..mib {
        file.write_all(&block).expect("room for the file");
    }
    let file = File::open(&source).expect("just written");
    std::fs::remove_file(&source).expect("ours to remove");
    let (links, closed) = links(1, Some((file, mib << 20)));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    for _ in 0..runs {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["fetch", &address, &(mib << 20).to_string()])
            .args(args.get(2))
            .stdout(Stdio::inherit())
            .spawn()
            .expect("a child");
        let (socket, _) = listener.accept().expect("the child");
        let served = [Arc::clone(links.membership())];
        let (_, session) = accept(
            socket,
            &served,
            links.membership(),
            Instant::now() + HANDSHAKE_LIMIT,
        )
        .expect("a session");
        let before = rustix_cpu_seconds();
        links.open(session).expect("a link");
        child.wait().expect("the child ends");
        closed.recv().expect("the link ends");
        println!("sender {:.2} CPU-s", rustix_cpu_seconds() - before);
    }
}
