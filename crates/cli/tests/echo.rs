//! `ahoy echo` and `ahoy check echo` as a user runs them, with Python programs of the course's
//! shape on the other side.

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const AHOY: &str = env!("CARGO_BIN_EXE_ahoy");

/// The courses' server, for more than one client, on a free port that it prints first.
const PYTHON_SERVER: &str = r#"
import socket, threading
def serve(conn, addr):
    with conn:
        print(f"Connected by {addr}", flush=True)
        while True:
            data = conn.recv(1024)
            if not data:
                break
            conn.sendall(data)
with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
    s.bind(("127.0.0.1", 0))
    s.listen()
    print("port", s.getsockname()[1], flush=True)
    while True:
        threading.Thread(target=serve, args=s.accept(), daemon=True).start()
"#;

/// The courses' client, and its datagram sister. Prints its own address and what it received.
const PYTHON_CLIENT: &str = r#"
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
    s.connect((host, port))
    print("Connected by", s.getsockname())
    s.sendall(b"Hello, world")
    print("Received", repr(s.recv(1024)))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.settimeout(20)
    s.sendto(b"\x00\xff", (host, port))
    data, addr = s.recvfrom(2048)
    print("Received", repr(data), addr == (host, port))
"#;

/// A program that runs as long as the test, and the lines it prints.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let stdout = child.stdout.take().expect("piped");
        let lines = BufReader::new(stdout).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("one more line").expect("text")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Our server on a free port, and that port.
fn server(options: &[&str]) -> (Running, String) {
    let mut command = Command::new(AHOY);
    command
        .args(["echo", "server", "--listen", "127.0.0.1:0"])
        .args(options);
    let mut running = Running::start(&mut command);
    let line = running.line();
    let port = line.split([':', ' ']).nth(3).expect("a port").to_owned();
    assert_eq!(line, format!("Listening on 127.0.0.1:{port} (TCP)"));
    assert_eq!(
        running.line(),
        format!("Listening on 127.0.0.1:{port} (UDP)")
    );
    (running, port)
}

fn ahoy(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(AHOY)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

fn printed(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn a_python_client_gets_its_bytes_and_the_server_prints_its_line() {
    let (mut server, port) = server(&[]);
    let python = Command::new("python3")
        .args(["-c", PYTHON_CLIENT, "127.0.0.1", &port])
        .output()
        .expect("python3 is installed");
    let (code, said, trouble) = printed(&python);
    assert_eq!(code, Some(0), "{trouble}");
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(
        said[1..],
        ["Received b'Hello, world'", r"Received b'\x00\xff' True"]
    );
    assert_eq!(server.line(), said[0]);
}

#[test]
fn our_client_gets_its_bytes_from_a_python_server() {
    let mut python = Command::new("python3");
    // It prints a traceback for each connection that the examiner tears down.
    python.args(["-c", PYTHON_SERVER]).stderr(Stdio::null());
    let mut server = Running::start(&mut python);
    let port = server.line().replace("port ", "");
    let output = ahoy(
        &["echo", "client", "127.0.0.1", &port, "Hello,", "world"],
        "",
    );
    assert_eq!(
        printed(&output),
        (Some(0), "Hello, world\n".to_owned(), String::new())
    );
    let text = "line\n".repeat(50_000);
    let output = ahoy(&["echo", "client", "127.0.0.1", &port], &text);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == text.as_bytes());
    let output = ahoy(
        &["check", "echo", "--tcp", &format!("127.0.0.1:{port}")],
        "",
    );
    let (code, report, _) = printed(&output);
    assert_eq!(code, Some(0), "{report}");
}

#[test]
fn our_client_and_server_by_datagrams() {
    let (mut server, port) = server(&["--verbose"]);
    let output = ahoy(
        &["echo", "client", "--udp", "127.0.0.1", &port],
        "one\n\nthree\n",
    );
    assert_eq!(
        printed(&output),
        (Some(0), "one\n\nthree\n".to_owned(), String::new())
    );
    let lens: Vec<String> = (0..3)
        .map(|_| {
            server
                .line()
                .rsplit(' ')
                .take(2)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    assert_eq!(lens, ["bytes 3", "bytes 0", "bytes 5"]);
}

#[test]
fn a_term_signal_ends_the_server_with_success() {
    let (mut server, port) = server(&[]);
    let open = std::net::TcpStream::connect(format!("127.0.0.1:{port}")).expect("it listens");
    assert!(server.line().starts_with("Connected by ('127.0.0.1', "));
    kill_process(Pid::from_child(&server.child), Signal::TERM).expect("it runs");
    // Our end closes when its end does.
    let mut open = open;
    assert_eq!(
        std::io::copy(&mut open, &mut std::io::sink()).expect("a clean end"),
        0
    );
    drop(open);
    assert_eq!(server.child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn what_goes_wrong_is_said_with_its_code_and_a_hint() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let (code, _, error) = printed(&ahoy(&["echo", "server", "127.0.0.1", &port], ""));
    assert_eq!(code, Some(3));
    assert!(
        error.starts_with(&format!("Error: cannot listen on 127.0.0.1:{port}: ")),
        "{error}"
    );
    assert!(error.contains("\nHint: choose another port"), "{error}");

    let mute = [
        "echo",
        "client",
        "--wait-ms",
        "50",
        "127.0.0.1",
        &port,
        "hi",
    ];
    let (code, _, error) = printed(&ahoy(&mute, ""));
    assert_eq!(code, Some(1));
    assert_eq!(
        error,
        "Error: nothing came back for 50 ms; 2 bytes are missing\n"
    );

    drop(taken);
    let (code, _, error) = printed(&ahoy(&["echo", "client", "127.0.0.1", &port, "hi"], ""));
    assert_eq!(code, Some(3));
    assert!(
        error.contains("\nHint: start a server: ahoy echo server 127.0.0.1 "),
        "{error}"
    );

    let (code, _, error) = printed(&ahoy(&["echo", "server", "--listen", "nonsense"], ""));
    assert_eq!(code, Some(2), "{error}");
    let (code, _, error) = printed(&ahoy(&["check", "echo", "--case", "echo-3/nothing"], ""));
    assert_eq!(
        (code, error.lines().next()),
        (Some(2), Some("Error: no such case: echo-3/nothing"))
    );
}

#[test]
fn the_examiner_accepts_our_server_and_refuses_one_that_is_not_there() {
    let (_server, port) = server(&["--idle-ms", "1500"]);
    let addr = format!("127.0.0.1:{port}");
    let strict = [
        "check",
        "echo",
        "--strict",
        "--idle-ms",
        "1500",
        "--format",
        "json",
        &addr,
    ];
    let (code, report, _) = printed(&ahoy(&strict, ""));
    assert_eq!(code, Some(0), "{report}");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["accepted"], true);
    assert_eq!(report["counts"]["skipped"], 0);

    let vacant = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = vacant.local_addr().expect("bound").to_string();
    drop(vacant);
    let (code, report, _) = printed(&ahoy(&["check", "echo", "--case", "echo-2", &addr], ""));
    assert_eq!(code, Some(1));
    assert!(report.contains("FAIL  echo-2/single-byte"), "{report}");
}

#[test]
fn a_measurement_has_figures() {
    let (_server, port) = server(&[]);
    let bench = [
        "echo",
        "client",
        "--bench",
        "--json",
        "--seconds",
        "1",
        "127.0.0.1",
        &port,
    ];
    let (code, lines, error) = printed(&ahoy(&bench, ""));
    assert_eq!(code, Some(0), "{error}");
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2);
    for (figures, transport) in lines.iter().zip(["TCP", "UDP"]) {
        assert_eq!(figures["transport"], transport);
        assert!(figures["round_trips"].as_u64() > Some(0), "{figures}");
        let percentiles = &figures["round_trip_ns"];
        assert!(percentiles["p50"].as_u64() > Some(0), "{figures}");
        assert!(
            percentiles["p50"].as_u64() <= percentiles["p99.99"].as_u64(),
            "{figures}"
        );
        assert!(figures["mib_per_s"].as_f64() > Some(0.0), "{figures}");
    }
}
