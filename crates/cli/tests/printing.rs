//! Verbs that serve, with a full pipe that nobody reads as their standard output and error: they go
//! on serving, and they end when they are asked to.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, PipeReader, PipeWriter, Read, Write, pipe};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc::O_NONBLOCK;
use rustix::process::{Pid, Signal, kill_process};

/// Far more than anything takes; only a failing test waits so long.
const LIMIT: Duration = Duration::from_secs(30);

/// A program whose output and errors go into one pipe.
struct Program {
    child: Child,
    lines: BufReader<PipeReader>,
    /// Keeps the pipe open, and fills it.
    writer: PipeWriter,
    home: tempfile::TempDir,
}

impl Program {
    /// `ahoy` with these words; `DIR` stands for an empty folder.
    fn start(words: &[&str]) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let folder = home.path().join("folder");
        std::fs::create_dir(&folder).expect("a folder");
        let folder = folder.to_str().expect("plain");
        let (reader, writer) = pipe().expect("a pipe");
        let end = || OwnedFd::from(writer.try_clone().expect("a descriptor"));
        let child = Command::new(env!("CARGO_BIN_EXE_ahoy"))
            .args(words.iter().map(|word| word.replace("DIR", folder)))
            .env("AHOY_HOME", home.path())
            .stdin(Stdio::null())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("the binary was built");
        Self {
            child,
            lines: BufReader::new(reader),
            writer,
            home,
        }
    }

    /// Reads on until a line has these words in it, and gives what follows them.
    fn words_after(&mut self, words: &str) -> String {
        loop {
            let mut line = String::new();
            let len = self.lines.read_line(&mut line).expect("text");
            assert!(len > 0, "it does not say {words:?}");
            if let Some((_, rest)) = line.split_once(words) {
                return rest.to_owned();
            }
        }
    }

    /// As above, the number that follows.
    fn port_after(&mut self, words: &str) -> u16 {
        let rest = self.words_after(words);
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|it| it.parse().ok()).expect("a port")
    }

    /// From now on nobody reads, and there is no room for one byte.
    fn fill(&self) {
        // Opened anew, so that only this end of the pipe does not wait.
        let path = format!("/proc/self/fd/{}", self.writer.as_raw_fd());
        let mut options = OpenOptions::new();
        let mut end: File = options
            .write(true)
            .custom_flags(O_NONBLOCK)
            .open(path)
            .expect("our own pipe");
        for piece in [4096, 1] {
            let error = loop {
                if let Err(error) = end.write(&[b'.'; 4096][..piece]) {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
        }
    }

    fn ends_well(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("our child");
        let until = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                break status;
            }
            assert!(Instant::now() < until, "it does not end");
            std::thread::park_timeout(Duration::from_millis(5));
        };
        assert!(status.success(), "{status}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a server answers to some bytes, until it closes or the limit is over.
fn answer(port: u16, bytes: &[u8], len: u64) -> Vec<u8> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    stream.write_all(bytes).expect("it reads");
    let mut answer = Vec::new();
    // A reset is an end like any other here.
    let _ = stream.take(len).read_to_end(&mut answer);
    answer
}

#[test]
fn a_tracker_ends() {
    let mut it = Program::start(&["tracker", "--listen", "127.0.0.1:0", "--verbose"]);
    let port = it.port_after("127.0.0.1:");
    it.fill();
    for _ in 0..3 {
        assert_eq!(answer(port, b"\x16\x03\x01", 99), b"");
    }
    it.ends_well();
}

/// So much is said here that the room for what waits is full as well.
#[test]
fn a_hello_server_goes_on_and_ends() {
    let words = "hello server 127.0.0.1 0 --udp --json --lease-ms 1";
    let mut it = Program::start(&words.split(' ').collect::<Vec<_>>());
    let port = it.port_after("127.0.0.1:");
    it.fill();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    socket
        .connect((Ipv4Addr::LOCALHOST, port))
        .expect("a place");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit");
    let mut reply = [0; 512];
    // Few enough at a time for the room that a socket has for them.
    for batch in 0..90 {
        for number in 0..100 {
            let request = format!("HELLO {:04}", batch * 100 + number);
            socket.send(request.as_bytes()).expect("it is taken");
        }
        for _ in 0..100 {
            let len = socket.recv(&mut reply).expect("it goes on");
            assert!(reply[..len].starts_with(b"OK "));
        }
    }
    it.ends_well();
}

#[test]
fn an_echo_server_goes_on_and_ends() {
    let mut it = Program::start(&["echo", "server", "127.0.0.1", "0", "--tcp", "-v"]);
    let port = it.port_after("127.0.0.1:");
    it.fill();
    for _ in 0..3 {
        assert_eq!(answer(port, b"hello", 5), b"hello");
    }
    it.ends_well();
}

#[test]
fn an_enroll_server_goes_on_and_ends() {
    let mut it = Program::start(&["enroll", "server", "127.0.0.1", "0", "--verbose"]);
    let port = it.port_after("127.0.0.1/");
    it.fill();
    for _ in 0..3 {
        assert_eq!(answer(port, b"", 1).len(), 1, "it greets");
    }
    it.ends_well();
}

#[test]
fn a_web_server_with_an_access_log_goes_on_and_ends() {
    let mut it = Program::start(&["web", "DIR", "--listen", "127.0.0.1:0"]);
    let port = it.port_after("127.0.0.1:");
    it.fill();
    for _ in 0..3 {
        let answer = answer(port, b"GET / HTTP/1.0\r\n\r\n", 12);
        assert_eq!(answer, b"HTTP/1.1 200");
    }
    it.ends_well();
}

#[test]
fn a_classic_peer_ends() {
    // Its tracker is away, of which it tells again and again.
    let words = "classic 127.0.0.1 1 --dir DIR --port 0 --bind 127.0.0.1";
    let mut it = Program::start(&words.split(' ').collect::<Vec<_>>());
    it.port_after("on port ");
    it.fill();
    it.ends_well();
}

#[test]
fn a_share_ends() {
    for form in ["--verbose", "--json"] {
        let words = format!("share DIR --no-mdns --listen 127.0.0.1:0 {form}");
        let mut it = Program::start(&words.split(' ').collect::<Vec<_>>());
        // The ticket is said once all is set up.
        it.words_after("ahoy1");
        it.fill();
        let file = it.home.path().join("folder/file");
        std::fs::write(file, "something to tell of").expect("a file");
        it.ends_well();
    }
}
