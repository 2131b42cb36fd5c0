//! `ahoy tracker` as its user meets it: where it listens, what it prints, how it stops.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Far more than anything takes; only a failing test waits so long.
const LIMIT: Duration = Duration::from_secs(20);

struct Tracker {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Tracker {
    fn start(arguments: &[&str]) -> Self {
        let mut child = ahoy(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary was built");
        let stdout = child.stdout.take().expect("piped");
        let mut tracker = Self {
            child,
            stdout: BufReader::new(stdout),
            address: String::new(),
        };
        let first = tracker.line();
        let from = first
            .find("127.0.0.1")
            .unwrap_or_else(|| panic!("no address: {first}"));
        let rest = &first[from..];
        let end = rest.find(['"', '\n']).unwrap_or(rest.len());
        tracker.address = rest[..end].to_owned();
        tracker
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it prints");
        line
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("our child");
    }

    fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status;
            }
            assert!(Instant::now() < until, "it does not stop");
            std::thread::yield_now();
        }
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ahoy(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ahoy"));
    command.arg("tracker").args(arguments);
    command
}

/// What comes back for some bytes, until the tracker closes or `len` bytes are there.
fn answer(address: &str, bytes: &[u8], len: u64) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    stream.write_all(bytes).expect("writes");
    let mut answer = Vec::new();
    // A reset is an end like any other here.
    let _ = stream.take(len).read_to_end(&mut answer);
    answer
}

#[test]
fn it_says_where_it_listens_answers_its_protocol_alone_and_stops_when_asked() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut tracker = Tracker::start(&["--listen", "127.0.0.1:0", "--timeout", "9"]);
        assert_eq!(answer(&tracker.address, b"GET / HTTP/1.1\r\n\r\n", 99), b"");
        let welcome = answer(&tracker.address, b"AHOY\x01", 26);
        assert_eq!(welcome[..8], *b"AHOY\x01\x81\x00\x12");
        assert_eq!(welcome[24..], [0, 9], "the timeout it was told");
        tracker.signal(signal);
        assert!(tracker.wait().success(), "{signal:?}");
        assert!(tracker.line().ends_with("Stopped\n"));
    }
}

#[test]
fn json_lines_are_json() {
    let mut tracker = Tracker::start(&["--listen", "127.0.0.1:0", "--json", "--verbose"]);
    assert_eq!(answer(&tracker.address, b"\x16\x03\x01", 99), b"");
    let dropped: serde_json::Value = serde_json::from_str(&tracker.line()).expect("JSON");
    assert_eq!(dropped["event"], "dropped");
    assert_eq!(dropped["reason"], "does not speak this protocol");
    tracker.signal(Signal::TERM);
    assert!(tracker.wait().success());
    let stopped: serde_json::Value = serde_json::from_str(&tracker.line()).expect("JSON");
    assert_eq!(stopped["event"], "stopped");
}

#[test]
fn a_port_in_use_and_a_wrong_address_are_said_with_a_hint() {
    let tracker = Tracker::start(&["--listen", "127.0.0.1:0"]);
    let output = ahoy(&["--listen", &tracker.address])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.starts_with("Error: cannot listen on 127.0.0.1:"),
        "{said}"
    );
    assert!(said.contains("\nHint: another program"), "{said}");
    let output = ahoy(&["--listen", "nowhere"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let output = ahoy(&["--timeout", "0"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
}
