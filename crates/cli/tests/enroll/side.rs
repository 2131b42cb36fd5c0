//! The programs on either side of a test: our own command, and Python's as students write them.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes, even on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);

/// A server: it runs until the test ends.
pub struct Server {
    process: Child,
    lines: Receiver<String>,
    pub port: u16,
}

impl Server {
    /// `ahoy enroll server 127.0.0.1 0` with these options.
    pub fn ahoy(options: &[&str]) -> Self {
        let mut command = ahoy(&["enroll", "server", "127.0.0.1", "0"]);
        command.args(options);
        Self::start(command)
    }

    /// The same under a limit on the size of files, which stands for a full disk.
    pub fn ahoy_on_a_small_disk(options: &[&str]) -> Self {
        let script = "trap '' XFSZ; ulimit -f 2; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_ahoy")]);
        command
            .args(["enroll", "server", "127.0.0.1", "0"])
            .args(options);
        Self::start(command)
    }

    /// The course's server of lab 3 with these two expressions.
    pub fn python(greeting: &str, ack: &str) -> Self {
        let mut command = python("server.py");
        command.args(["1", greeting, ack]);
        Self::start(command)
    }

    /// The course's server of lab 4.
    pub fn python_for_many() -> Self {
        let mut command = python("server.py");
        command.args(["N", "{'clientid': port}", "1"]);
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let stdout = BufReader::new(process.stdout.take().expect("piped"));
        let (tell, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines() {
                let Ok(line) = line else { return };
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let mut server = Self {
            process,
            lines,
            port: 0,
        };
        let first = server.line();
        let port = match first.strip_prefix("Listening at 127.0.0.1/") {
            Some(port) => port.to_owned(),
            None => {
                let event: serde_json::Value = serde_json::from_str(&first).expect("JSON");
                assert_eq!(event["event"], "listening");
                event["port"].to_string()
            }
        };
        server.port = port.parse().expect("a port");
        server
    }

    /// The next line on its standard output.
    pub fn line(&self) -> String {
        self.lines.recv_timeout(LONG).expect("another line")
    }

    /// The most memory that it ever had, in KiB.
    pub fn memory_peak_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let digits = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
        digits.expect("a peak in kB").parse().expect("digits")
    }

    /// Ends it as the system would, and gives back what it wrote on standard error and on standard
    /// output since the last line that was asked for.
    pub fn end(mut self) -> (String, Vec<String>) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).expect("it runs");
        let log = rest(self.process.stderr.take().expect("piped"));
        let status = self.process.wait().expect("ends");
        assert_eq!(status.code(), Some(0));
        (log, self.lines.iter().collect())
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.process.kill().expect("runs");
        self.process.wait().expect("ends");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn rest(mut pipe: ChildStderr) -> String {
    let mut text = String::new();
    pipe.read_to_string(&mut text).expect("UTF-8");
    text
}

/// Our command, free of the environment's options.
pub fn ahoy(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ahoy"));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"AHOY_") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

/// `ahoy enroll client` for Alice at `port`, with these options.
pub fn client(port: u16, options: &[&str]) -> Output {
    client_named("Alice Brown", port, options)
}

/// The same for somebody else.
pub fn client_named(name: &str, port: u16, options: &[&str]) -> Output {
    let port = port.to_string();
    let place = ["enroll", "client", "127.0.0.1", &port];
    let who = [
        "--name",
        name,
        "--github-username",
        "abrown",
        "--sid",
        "123456789",
    ];
    let mut command = ahoy(&place);
    command.args(who).args(options);
    command.output().expect("runs")
}

/// One of the Python programs beside this file.
pub fn python(program: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/enroll");
    let path: PathBuf = folder.join(program);
    let mut command = Command::new("python3");
    command.arg(path);
    command
}

/// Runs it to its end: its standard output.
pub fn run(command: &mut Command) -> String {
    let output = command.output().expect("python3 is needed for this test");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The texts of an output.
pub fn texts(output: &Output) -> (&str, &str, Option<i32>) {
    (
        str::from_utf8(&output.stdout).expect("UTF-8"),
        str::from_utf8(&output.stderr).expect("UTF-8"),
        output.status.code(),
    )
}
