//! `ahoy web` as a user meets it: the program itself, with curl and Python on the other side.

mod crowd;
mod tools;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program, serving a folder of its own at a port of its own.
struct Served {
    child: Child,
    addr: SocketAddr,
    folder: TempDir,
}

impl Served {
    fn start(options: &[&str]) -> Self {
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("notes.txt"), "0123456789").expect("written");
        let mut child = Command::new(env!("CARGO_BIN_EXE_ahoy"))
            .args(["web", "--listen", "127.0.0.1:0"])
            .args(options)
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut line).expect("its first line");
        let addr = line
            .trim()
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or_default();
        let addr = addr
            .parse()
            .unwrap_or_else(|_| panic!("no address in {line:?}"));
        child.stdout = Some(stdout.into_inner());
        Self {
            child,
            addr,
            folder,
        }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join(name), content).expect("written");
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Asks it to stop, and says how it ended and what it had printed since its first line.
    fn stop(mut self) -> (ExitStatus, String) {
        kill_process(self.pid(), Signal::TERM).expect("it runs");
        let mut printed = String::new();
        let mut stdout = self.child.stdout.take().expect("piped");
        stdout.read_to_string(&mut printed).expect("text");
        (wait_for(&mut self.child), printed)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("our child") {
            return status;
        }
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::yield_now();
    }
}

/// Runs a program to its end and gives its standard output; it must succeed.
fn output(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stderr}",
        output.status
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// One request on a connection of its own; the whole answer.
fn ask(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).expect("a connection");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a time limit");
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn it_says_where_it_serves_and_what_it_did() {
    let served = Served::start(&[]);
    assert!(ask(served.addr, "/notes.txt").ends_with("\r\n\r\n0123456789"));
    ask(served.addr, "/missing");
    let (status, printed) = served.stop();
    assert_eq!(status.code(), Some(0));
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), 3, "{printed}");
    // Two connections write theirs in either order.
    for wanted in [
        "\"GET /notes.txt HTTP/1.1\" 200 10",
        "\"GET /missing HTTP/1.1\" 404 14",
    ] {
        let has = lines[..2].iter().any(|line| line.ends_with(wanted));
        assert!(has, "{printed}");
    }
    assert_eq!(lines[2], "Stopped after 2 requests on 2 connections");
}

// web-65.
#[test]
fn a_stop_lets_a_download_finish() {
    let served = Served::start(&["--access-log", "off"]);
    let len = 20_000_000;
    served.write("big.bin", vec![b'x'; len]);
    let mut stream = TcpStream::connect(served.addr).expect("a connection");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a time limit");
    stream
        .write_all(b"GET /big.bin HTTP/1.0\r\n\r\n")
        .expect("sent");
    stream.read_exact(&mut [0]).expect("it begins");
    let pid = served.pid();
    kill_process(pid, Signal::TERM).expect("it runs");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the rest");
    assert!(
        rest.len() > len && rest.ends_with(b"xxx"),
        "{} bytes",
        rest.len()
    );
    let mut served = served;
    assert_eq!(wait_for(&mut served.child).code(), Some(0));
}

#[test]
fn mistakes_are_explained() {
    let folder = TempDir::new().expect("a folder");
    let vacant = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = vacant.local_addr().expect("bound").to_string();
    let folder = folder.path().to_str().expect("plain").to_owned();
    for (args, code, error) in [
        (
            vec!["/no/such/folder", "--listen", "127.0.0.1:0"],
            3,
            "cannot serve /no/such/folder",
        ),
        (vec![&folder, "--listen", &taken], 3, "cannot listen at"),
        (vec![&folder, "--listen", "nonsense"], 2, "is no address"),
        (vec![&folder, "--cert", "x.pem"], 2, "--key"),
        (
            vec![&folder, "--cert", "/dev/null", "--key", "/dev/null"],
            3,
            "cannot serve HTTPS",
        ),
        (vec![&folder, "--idle", "0"], 2, "seconds"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_ahoy"))
            .arg("web")
            .args(&args)
            .output()
            .expect("it starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(error), "{args:?}: {stderr}");
        assert!(
            code == 2 || stderr.contains("\nHint: "),
            "{args:?}: {stderr}"
        );
    }
}

#[test]
fn our_own_examiner_accepts_it() {
    let served = Served::start(&["--request", "1", "--idle", "1.5", "--access-log", "off"]);
    fs::create_dir(served.path().join("sub")).expect("a folder");
    served.write(
        "page.html",
        "<!doctype html><title>A page</title>".repeat(50),
    );
    let report = output(
        Command::new(env!("CARGO_BIN_EXE_ahoy"))
            .args([
                "check",
                "web",
                &served.addr.to_string(),
                "--path",
                "/page.html",
            ])
            .args([
                "--folder",
                "/sub",
                "--request-ms",
                "1000",
                "--idle-ms",
                "1500",
            ])
            .args(["--reply-ms", "10000", "--strict"]),
    );
    assert!(
        report.contains("accepted; ") && report.contains(" 0 failed"),
        "{report}"
    );
    assert!(!report.contains("skip"), "{report}");
}

/// As the README says it, with nothing but the address of a folder without an index.html.
#[test]
fn our_own_examiner_takes_a_listing_for_what_it_is() {
    let served = Served::start(&["--access-log", "off"]);
    let addr = served.addr.to_string();
    let report = output(Command::new(env!("CARGO_BIN_EXE_ahoy")).args(["check", "web", &addr]));
    assert!(
        report.contains("accepted; ") && report.contains(" 0 failed"),
        "{report}"
    );
    let told = "/ is a page made for a folder; name a file with --path";
    assert!(report.contains(told), "{report}");
}
