//! `ahoy hello` as its users run it, with Python programs of the course's shape as the other side,
//! and examined by `ahoy check`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longer than anything here should take, short enough to end a broken test.
const PATIENCE: Duration = Duration::from_secs(60);

fn ahoy(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ahoy"));
    command.args(arguments);
    command
}

fn python(script: &str) -> Command {
    let mut command = Command::new("python3");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hello");
    command.args(["-S", "-E"]).arg(format!("{folder}/{script}"));
    command
}

/// A running server, killed when dropped.
struct Server {
    child: Child,
    port: u16,
    stderr: mpsc::Receiver<String>,
}

impl Server {
    /// `ahoy hello server ... IP 0 ...`, listening.
    fn start(ip: &str, options: &[&str]) -> Self {
        let mut command = ahoy(&["hello", "server", ip, "0"]);
        command.args(options);
        Self::run(command)
    }

    /// Any server that says where it listens, last on its first line.
    fn run(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stderr = lines(child.stderr.take().expect("piped"));
        let first = stderr.recv_timeout(PATIENCE).expect("it says where");
        let port = first
            .split(' ')
            .find_map(|word| word.rsplit_once(':')?.1.parse().ok());
        Self {
            port: port.unwrap_or_else(|| panic!("no port in {first:?}")),
            child,
            stderr,
        }
    }

    /// A Python server; its first line on standard output ends with its port.
    fn python(script: &str, lease: &str, idle: &str) -> Self {
        let mut child = python(script)
            .args(["127.0.0.1", "0", lease, idle])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        let stdout = lines(child.stdout.take().expect("piped"));
        let first = stdout.recv_timeout(PATIENCE).expect("it says where");
        let port = first.rsplit(' ').next().and_then(|port| port.parse().ok());
        let stderr = lines(child.stderr.take().expect("piped"));
        Self {
            port: port.expect("a port"),
            child,
            stderr,
        }
    }

    fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    fn port(&self) -> String {
        self.port.to_string()
    }

    /// Waits for it to end by itself; its status and what it printed.
    fn end(mut self) -> (Option<i32>, String, Vec<String>) {
        let mut stdout = String::new();
        let pipe = self.child.stdout.as_mut().expect("piped");
        pipe.read_to_string(&mut stdout).expect("text");
        let status = self.child.wait().expect("it ends");
        (status.code(), stdout, self.stderr.iter().collect())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe as they come.
fn lines(pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    told
}

fn run(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    // A program that has ended does not read; that is not what is tested here.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

/// Standard output with every time of the right form as `<time>`.
fn masked(output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    let mut masked = String::new();
    for line in text.lines() {
        let digits = |it: char| if it.is_ascii_digit() { '0' } else { it };
        match line.rsplit_once(" on ") {
            Some((print, time))
                if time
                    .chars()
                    .map(digits)
                    .eq("0000-00-00 00:00:00.000000".chars()) =>
            {
                masked.push_str(&format!("{print} on <time>\n"));
            }
            _ => masked.push_str(&format!("{line}\n")),
        }
    }
    masked
}

fn examine(arguments: &[&str]) {
    let output = ahoy(arguments).output().expect("it runs");
    let report = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}:\n{report}");
    assert!(report.contains(" accepted; "), "{report}");
    assert!(!report.contains("FAIL"), "{report}");
}

const TIMES: [&str; 4] = ["--lease-ms", "1200", "--idle-ms", "3000"];

#[test]
fn our_server_is_accepted_strictly_and_ends_with_status_0() {
    for (ip, addr) in [("0.0.0.0", "127.0.0.1"), ("::", "[::1]")] {
        let server = Server::start(ip, &TIMES);
        let addr = format!("{addr}:{}", server.port);
        let check = ["check", "hello", &addr, "--strict", "--quiet-ms", "200"];
        examine(&[&check[..], &TIMES].concat());
        let (status, stdout, stderr) = server.end();
        assert_eq!((status, stdout.as_str()), (Some(0), ""));
        assert_eq!(stderr, ["hello: nobody has asked for long enough; ending"]);
    }
}

#[test]
fn our_server_with_protection_is_accepted() {
    let server = Server::start("127.0.0.1", &["--protect", "--quota", "1000"]);
    let addr = server.addr().to_string();
    examine(&[
        "check",
        "hello",
        &addr,
        "--protect",
        "--case",
        "hello-34",
        "--case",
        "hello-36",
    ]);
}

#[test]
fn our_client_is_accepted_strictly() {
    for transport in ["--udp", "--tcp"] {
        let mut check = vec![
            "check",
            "hello-client",
            "--strict",
            "--client-reply-ms",
            "1000",
        ];
        if transport == "--tcp" {
            check.push("--tcp");
        }
        let us = env!("CARGO_BIN_EXE_ahoy");
        check.extend(["--", us, "hello", "client", transport, "--reply-ms", "1000"]);
        examine(&check);
    }
}

/// Its lines reach the examiner although it never flushes them.
#[test]
fn a_course_client_is_heard_at_its_prompts() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hello/client.py");
    for transport in ["udp", "tcp"] {
        let mut check = vec!["check", "hello-client", "--reply-ms", "10000"];
        if transport == "tcp" {
            check.push("--tcp");
        }
        for right in ["hello-28/reset", "hello-29", "hello-30", "hello-31"] {
            check.extend(["--case", right]);
        }
        check.extend(["--", "python3", script, transport]);
        examine(&check);
    }
}

#[test]
fn python_servers_are_accepted_and_grant_our_client() {
    for (script, transport) in [("udp_server.py", "--udp"), ("tcp_server.py", "--tcp")] {
        if transport == "--udp" {
            let server = Server::python(script, "60", "60");
            examine(&["check", "hello", &server.addr().to_string(), transport]);
        }
        // Another one: the examiner's ids are drawn by lot, and this one's must be free.
        let server = Server::python(script, "60", "60");
        let port = server.port();
        let client = ["hello", "client", transport, "HELLO", "127.0.0.1", &port];
        let first = run(ahoy(&[&client[..], &["0042"]].concat()), "");
        let printed = masked(&first);
        assert!(
            printed.starts_with("Connection established 0042 127.0.0.1 "),
            "{printed}"
        );
        assert!(printed.ends_with(" on <time>\n"), "{printed}");
        let second = run(ahoy(&[&client[..], &["0042"]].concat()), "0043\n");
        let printed = masked(&second);
        let start = "Connection Error 0042 on <time>\nConnection established 0043 127.0.0.1 ";
        assert!(printed.starts_with(start), "{printed}");
        assert_eq!(second.status.code(), Some(0));
    }
}

/// It reads one line, so a stranger that sends none keeps it waiting: the examiner says so.
#[test]
fn a_python_server_that_waits_for_a_line_fails_by_that_number() {
    let server = Server::python("tcp_server.py", "60", "5");
    let addr = server.addr().to_string();
    let check = [
        "check", "hello", &addr, "--tcp", "--case", "hello-10", "--format", "json",
    ];
    let output = ahoy(&check).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let verdict = |at: usize| {
        report["cases"][at]["verdict"]
            .as_str()
            .expect("text")
            .to_owned()
    };
    assert_eq!([verdict(0), verdict(1)], ["failed", "passed"]);
}

#[test]
fn python_clients_are_granted_by_our_server() {
    let server = Server::start("127.0.0.1", &[]);
    let port = server.port();
    for (transport, id) in [("udp", "0001"), ("tcp", "0002")] {
        let client = || {
            let mut client = python("client.py");
            client.args([transport, "HELLO", "127.0.0.1", &port, id]);
            client
        };
        let printed = masked(&run(client(), ""));
        let expected = format!("Connection established {id} 127.0.0.1 ");
        assert!(printed.starts_with(&expected), "{printed}");
        let output = run(client(), &format!("{id}\n{id}\n"));
        let error = format!("Connection Error {id} on <time>\n");
        assert_eq!(
            masked(&output),
            error.repeat(3) + "Connection Failure on <time>\n"
        );
    }
}

#[test]
fn the_prints_are_those_of_the_course_byte_for_byte() {
    let server = Server::start("127.0.0.1", &[]);
    let port = server.port();
    let client = |more: &[&str]| {
        let start = ["hello", "client", "HELLO", "127.0.0.1", &port, "0042"];
        ahoy(&[&start[..], more].concat())
    };
    assert_eq!(run(client(&[]), "").status.code(), Some(0));
    let errors = "Connection Error 0042 on <time>\nConnection Error 0042 on <time>\n\
                  Connection Error 0042 on <time>\nConnection Failure on <time>\n";
    let failed = run(client(&[]), "0042\n0042\n0042\n");
    assert_eq!(
        (masked(&failed).as_str(), failed.status.code()),
        (errors, Some(1))
    );
    // Bad ids at the prompt are not tries.
    let corrected = run(client(&[]), "12\nabcd\n0042\n0042\n");
    assert_eq!(masked(&corrected), errors);
    let said = String::from_utf8_lossy(&corrected.stderr);
    assert!(
        said.contains("\"12\" is not an id: it must be four digits"),
        "{said}"
    );
    let ended = run(client(&[]), "");
    let expected = "Connection Error 0042 on <time>\nConnection Failure on <time>\n";
    assert_eq!(
        (masked(&ended).as_str(), ended.status.code()),
        (expected, Some(1))
    );
    let sixty = run(client(&["--preset", "sixty"]), "");
    let expected = "Connection Error 0042\nConnection Failure\n";
    assert_eq!(String::from_utf8_lossy(&sixty.stdout), expected);
}

#[test]
fn misuse_is_said_before_anything_is_sent() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    silent.set_nonblocking(true).expect("valid");
    let port = silent.local_addr().expect("bound").port().to_string();
    for (arguments, wanted) in [
        (["HELLO", "127.0.0.1", &port, "42"], "must be four digits"),
        (["HELLO", "127.0.0.1", &port, "-042"], "must be four digits"),
        (
            ["HOLA", "127.0.0.1", &port, "0042"],
            "the first word must be HELLO",
        ),
        (["HELLO", "127.0.0.1", "70000", "0042"], "70000"),
    ] {
        let output = run(ahoy(&[&["hello", "client"], &arguments[..]].concat()), "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(wanted), "{said}");
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(2), 0),
            "{said}"
        );
    }
    silent.recv(&mut [0]).expect_err("nothing was sent");
}

#[test]
fn a_port_in_use_is_an_error_with_a_hint() {
    let server = Server::start("127.0.0.1", &[]);
    let port = server.port();
    for only in [&["--udp"][..], &["--tcp"], &[]] {
        let second = run(
            ahoy(&[&["hello", "server", "127.0.0.1", &port], only].concat()),
            "",
        );
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        assert_eq!(second.status.code(), Some(3), "{said}");
        let expected = format!("Error: cannot listen on 127.0.0.1:{port}: ");
        assert!(
            said.starts_with(&expected) && said.contains("\nHint: "),
            "{said}"
        );
    }
}

#[test]
fn events_are_lines_of_json() {
    let server = Server::start("127.0.0.1", &["--verbose", "--lease-ms", "200"]);
    drop(server);
    let mut command = ahoy(&[
        "hello",
        "server",
        "--json",
        "127.0.0.1",
        "0",
        "--idle-ms",
        "700",
    ]);
    command.args(["--lease-ms", "200"]).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let events = lines(child.stdout.take().expect("piped"));
    let next = || -> Value {
        let line = events.recv_timeout(PATIENCE).expect("an event");
        serde_json::from_str(&line).expect("an object")
    };
    let listening = next();
    assert_eq!(listening["event"], "listening");
    let addr: SocketAddr = listening["addr"]
        .as_str()
        .and_then(|addr| addr.parse().ok())
        .expect("an address");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    for request in ["HELLO 0042", "HELLO 0042", "junk"] {
        socket.send_to(request.as_bytes(), addr).expect("sent");
    }
    let told: Vec<Value> = (0..6).map(|_| next()).collect();
    let kinds: Vec<_> = told
        .iter()
        .map(|it| it["event"].as_str().unwrap_or(""))
        .collect();
    assert_eq!(
        kinds,
        [
            "granted",
            "refused",
            "malformed",
            "expired",
            "idle",
            "ended"
        ]
    );
    assert_eq!(told[0]["id"], "0042");
    assert_eq!(told[1]["why"], "in-use");
    assert_eq!(told[5]["idle"], true);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn sigterm_ends_the_server_with_status_0() {
    let server = Server::start("127.0.0.1", &[]);
    let _silent = TcpStream::connect(server.addr()).expect("it listens");
    kill_process(Pid::from_child(&server.child), Signal::TERM).expect("it runs");
    let (status, _, stderr) = server.end();
    assert_eq!(
        (status, stderr),
        (Some(0), vec!["hello: stopped".to_owned()])
    );
}

/// Its log has gone, as with `2>&1 | head -1`; its clients have not.
#[test]
fn nobody_reading_the_log_stops_nobody() {
    let mut child = ahoy(&["hello", "server", "--verbose", "127.0.0.1", "0"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut first = String::new();
    let mut log = BufReader::new(child.stderr.take().expect("piped"));
    log.read_line(&mut first).expect("it says where");
    drop(log);
    let port: u16 = first
        .split(' ')
        .find_map(|word| word.rsplit_once(':')?.1.parse().ok())
        .expect("a port");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("possible");
    for id in ["0001", "0002", "0003"] {
        let request = format!("HELLO {id}");
        let server = (Ipv4Addr::LOCALHOST, port);
        socket.send_to(request.as_bytes(), server).expect("sent");
        let mut reply = [0; 128];
        let (len, _) = socket.recv_from(&mut reply).expect("a reply");
        assert!(reply[..len].starts_with(format!("OK {id} ").as_bytes()));
    }
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

/// With few descriptors, many silent clients, and a fresh one.
#[test]
fn want_of_descriptors_stops_nobody() {
    let mut command = Command::new("sh");
    let script = "ulimit -n 64 && exec \"$0\" hello server 127.0.0.1 0";
    command.args(["-c", script, env!("CARGO_BIN_EXE_ahoy")]);
    let server = Server::run(command);
    let connect = |_| TcpStream::connect(server.addr()).expect("it listens");
    let silent: Vec<TcpStream> = (0..300).map(connect).collect();
    let port = server.port();
    for (transport, id) in [("--tcp", "0042"), ("--udp", "0043")] {
        let client = [
            "hello",
            "client",
            transport,
            "HELLO",
            "127.0.0.1",
            &port,
            id,
        ];
        let output = run(ahoy(&client), "");
        assert_eq!(output.status.code(), Some(0), "{}", masked(&output));
    }
    drop(silent);
}

/// hello-22: a million datagrams, each from an address of its own and for an id of its own.
#[test]
fn a_million_sources_grow_the_server_by_less_than_a_mebibyte() {
    const SOURCES: u32 = 1_000_000;
    const WINDOW: u32 = 128;
    let server = Server::start("127.0.0.1", &["--udp"]);
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id()));
        let status = status.expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<i64>().ok());
        kib.expect("a number")
    };
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
    socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .expect("valid");
    let mut asked = 0;
    let mut answered = 0;
    let mut ask_all = |until: u32| {
        while asked < until {
            for number in asked..(asked + WINDOW).min(until) {
                send_from(&socket, server.addr(), number);
            }
            let sent = WINDOW.min(until - asked);
            asked += sent;
            // What was lost on the way is not waited for.
            let mut reply = [0; 128];
            answered += (0..sent)
                .take_while(|_| socket.recv(&mut reply).is_ok())
                .count();
        }
        answered
    };
    ask_all(1000);
    let before = resident();
    let answered = ask_all(SOURCES);
    let grown_kib = resident() - before;
    assert!(
        answered > SOURCES as usize * 9 / 10,
        "only {answered} were served"
    );
    assert!(grown_kib < 1024, "it grew by {grown_kib} KiB");
}

/// Sends a request for an id of its own, as if from an address of its own, to loopback.
fn send_from(socket: &UdpSocket, to: SocketAddr, number: u32) {
    use std::os::fd::AsRawFd as _;
    let SocketAddr::V4(to) = to else {
        unreachable!("the server is at an IPv4 address")
    };
    let source = u32::from(Ipv4Addr::new(127, 1, 0, 0)) + number;
    let info = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr {
            s_addr: source.to_be(),
        },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let request = format!("HELLO {number:x}");
    let parts = [std::io::IoSlice::new(request.as_bytes())];
    let control = [ControlMessage::Ipv4PacketInfo(&info)];
    let (fd, flags) = (socket.as_raw_fd(), MsgFlags::empty());
    sendmsg(fd, &parts, &control, flags, Some(&SockaddrIn::from(to))).expect("loopback takes it");
}
