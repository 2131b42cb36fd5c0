//! `ahoy share`, `join` and `sync` as a user runs them: several folders on one port, and folders
//! and ports that somebody else has already.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const AHOY: &str = env!("CARGO_BIN_EXE_ahoy");

/// Longer than anything here takes on a busy machine; only a failing test waits for it.
const LONG: Duration = Duration::from_secs(120);

/// Options of everything that listens here: nobody outside is to hear of it.
const QUIET: [&str; 4] = ["--json", "--no-mdns", "--listen", "127.0.0.1:0"];

/// One device: a home of its own, and folders in it.
struct Device {
    dir: tempfile::TempDir,
}

impl Device {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self { dir }
    }

    fn ahoy(&self, args: &[&str]) -> Command {
        let mut command = Command::new(AHOY);
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("AHOY_HOME", self.dir.path().join("home"))
            .env_remove("AHOY_LISTEN")
            .stdin(Stdio::null());
        command
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// A folder with one file in it.
    fn folder(&self, name: &str, file: &str) {
        std::fs::create_dir(self.path(name)).expect("a folder");
        std::fs::write(self.path(name).join(file), file).expect("a file");
    }

    /// Makes the folder a share and stops again.
    fn make_share(&self, name: &str) {
        let mut sharing = self.start(&["share", name]);
        sharing.next("started");
        sharing.end();
    }

    fn start(&self, args: &[&str]) -> Running {
        Running::start(self.ahoy(args).args(QUIET))
    }

    /// Runs it to the end, which comes by itself.
    fn output(&self, args: &[&str]) -> Output {
        self.ahoy(args).output().expect("it runs")
    }

    fn ticket(&self, folder: &str) -> String {
        let output = self.output(&["ticket", folder]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout)
            .expect("text")
            .trim()
            .to_owned()
    }
}

/// A program that runs as long as the test, and what it says.
struct Running {
    child: Child,
    said: Receiver<Value>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, said) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).expect("one object a line");
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        Self { child, said }
    }

    /// The next object about this event, past all others.
    fn next(&mut self, event: &str) -> Value {
        loop {
            let said = self.said.recv_timeout(LONG).expect("it says something");
            if said["event"] == event {
                return said;
            }
        }
    }

    /// Asks it to end, as a terminal does, and waits.
    fn end(mut self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::INT).expect("it runs");
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status:?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a file of this name that holds its name.
fn arrives(running: &mut Running, folder: &Path, file: &str) {
    while !std::fs::read(folder.join(file)).is_ok_and(|bytes| bytes == file.as_bytes()) {
        running.said.recv_timeout(LONG).expect("something happens");
    }
}

fn refused(output: &Output, error: &str, hint: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    let mut lines = text.lines();
    let said = (
        lines.next().unwrap_or_default(),
        lines.next().unwrap_or_default(),
    );
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(
        said.0.starts_with("Error: ") && said.0.contains(error),
        "{text}"
    );
    assert!(
        said.1.starts_with("Hint: ") && said.1.contains(hint),
        "{text}"
    );
}

#[test]
fn several_folders_share_one_port_and_each_meets_its_own_peers() {
    let (one, other) = (Device::new(), Device::new());
    for name in ["music", "letters"] {
        one.folder(name, &format!("of {name}"));
        one.make_share(name);
    }
    let mut both = one.start(&["sync", "-v", "music", "letters"]);
    let listen = |started: &Value| started["status"]["listen"].clone();
    let first = listen(&both.next("started"));
    let second = listen(&both.next("started"));
    assert_eq!(first, second);
    assert_eq!(first.as_array().map(Vec::len), Some(1), "{first}");
    // Each of them meets its own peers there, and nothing gets into the other folder.
    for name in ["music", "letters"] {
        let ticket = one.ticket(name);
        let copy = format!("{name} copy");
        let mut joined = other.start(&["join", "-v", &ticket, &copy]);
        arrives(&mut joined, &other.path(&copy), &format!("of {name}"));
        let back = format!("back to {name}");
        std::fs::write(other.path(&copy).join(&back), &back).expect("a file");
        arrives(&mut both, &one.path(name), &back);
        joined.end();
        let files = std::fs::read_dir(other.path(&copy)).expect("a folder");
        assert_eq!(files.count(), 3, "two files and .ahoy");
    }
    // Two copies of one share in the same process find each other on their own port, which is the
    // one of before: that is where the ticket says that somebody is.
    let ticket = one.ticket("music");
    let mut joined = one.start(&["join", &ticket, "second"]);
    joined.next("started");
    joined.end();
    both.end();
    let late = one.path("music").join("late");
    std::fs::write(late, "late").expect("a file");
    let folders = ["music", "letters", "second", "-v", "--json", "--no-mdns"];
    let mut all = Running::start(one.ahoy(&["sync"]).args(folders));
    arrives(&mut all, &one.path("second"), "late");
    all.end();
}

#[test]
fn a_folder_that_is_being_synced_is_refused_and_left_alone() {
    let device = Device::new();
    device.folder("docs", "a");
    let mut sharing = device.start(&["share", "docs"]);
    sharing.next("started");
    for verb in ["sync", "share"] {
        let again = device.output(&[verb, "docs"]);
        refused(&again, "is syncing", "`ahoy status` shows it");
    }
    // The first one goes on, and when it ends the folder is free.
    assert!(device.ticket("docs").starts_with("ahoy1"));
    sharing.end();
    let mut again = device.start(&["sync", "docs"]);
    again.next("started");
    // One that is held does not keep another one from starting.
    device.folder("more", "b");
    device.make_share("more");
    let mut beside = Running::start(
        device
            .ahoy(&["sync", "docs", "more"])
            .args(QUIET)
            .stderr(Stdio::null()),
    );
    let started = beside.next("started");
    assert_eq!(started["share"], "more");
    again.end();
}

#[test]
fn a_port_that_is_taken_is_said_with_what_to_do() {
    let device = Device::new();
    device.folder("docs", "a");
    device.make_share("docs");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    for dirs in [&["docs"][..], &["docs", "docs2"]] {
        let mut command = device.ahoy(&["sync"]);
        command.args(dirs).args(["--no-mdns", "--listen", &address]);
        let output = command.output().expect("it runs");
        if dirs.len() == 1 {
            refused(&output, &format!("cannot listen on {address}"), "--listen");
        } else {
            assert_eq!(output.status.code(), Some(3), "{output:?}");
        }
    }
    // A port that was only remembered is given up for another one.
    let mut before = Running::start(&mut device.ahoy(&["sync", "docs", "--json", "--no-mdns"]));
    let started = before.next("started");
    let listen = started["status"]["listen"][0].clone();
    before.end();
    let listen: std::net::SocketAddr = listen.as_str().expect("text").parse().expect("address");
    let Ok(_held) = TcpListener::bind(listen) else {
        return;
    };
    let mut after = Running::start(&mut device.ahoy(&["sync", "docs", "--json", "--no-mdns"]));
    let started = after.next("started");
    assert_ne!(started["status"]["listen"][0], listen.to_string());
    after.end();
}
