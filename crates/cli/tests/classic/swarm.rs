//! Folders and programs of a swarm under test.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use crate::LIMIT;

/// A file that takes a while, in bytes.
pub const LARGE_BYTES: usize = 50_000_000;

/// Names and sizes of what a peer brings along: nothing, one byte, a buffer, many.
pub const SAMPLES: [(&str, usize); 5] = [
    ("empty file", 0),
    ("one.bin", 1),
    ("8192.bin", 8192),
    ("a note.txt", 300_000),
    ("Übergröße, naïve (1).bin", 12_345),
];

/// Bytes that look like no text, the same for each seed.
pub fn content(seed: u64, len: usize) -> Vec<u8> {
    ahoy_wire::echo::probe(seed, len.max(8))[..len].to_vec()
}

/// Whether all folders have the samples of all these owners, and nothing else.
pub fn swarm_of(folders: &[Folder], owners: &[&str]) -> bool {
    let all = owners.len() * SAMPLES.len();
    folders.iter().all(|folder| {
        folder.shared() == all && owners.iter().all(|whose| folder.has_samples(whose))
    })
}

/// A folder of a peer.
pub struct Folder {
    temp: tempfile::TempDir,
}

impl Folder {
    pub fn new() -> Self {
        let temp = tempfile::tempdir().expect("a directory");
        fs::create_dir(temp.path().join("shared")).expect("made");
        Self { temp }
    }

    pub fn path(&self) -> PathBuf {
        self.temp.path().join("shared")
    }

    /// Puts a file there at once, with its time.
    pub fn write(&self, name: &str, bytes: &[u8], secs: u64) {
        let draft = self.temp.path().join("draft");
        fs::write(&draft, bytes).expect("written");
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
        let file = File::options().write(true).open(&draft).expect("opened");
        file.set_modified(time).expect("set");
        fs::rename(&draft, self.path().join(name)).expect("renamed");
    }

    pub fn has(&self, name: &str, bytes: &[u8], secs: i64) -> bool {
        let path = self.path().join(name);
        fs::metadata(&path)
            .is_ok_and(|meta| meta.mtime() == secs && meta.len() == bytes.len() as u64)
            && fs::read(&path).is_ok_and(|read| read == bytes)
    }

    pub fn write_samples(&self, whose: &str) {
        for (number, (name, len)) in (0..).zip(SAMPLES) {
            let bytes = content(number + whose.len() as u64, len);
            self.write(&format!("{whose}{name}"), &bytes, 1_771_289_241 + number);
        }
    }

    pub fn has_samples(&self, whose: &str) -> bool {
        (0..).zip(SAMPLES).all(|(number, (name, len))| {
            let bytes = content(number + whose.len() as u64, len);
            self.has(
                &format!("{whose}{name}"),
                &bytes,
                1_771_289_241 + number as i64,
            )
        })
    }

    /// How many files a swarm would see.
    pub fn shared(&self) -> usize {
        let entries = fs::read_dir(self.path()).expect("there");
        let entries = entries.map(|entry| entry.expect("readable"));
        entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
            .filter(|entry| !entry.file_name().to_string_lossy().ends_with(".part"))
            .count()
    }

    /// The names of all files, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).expect("there");
        let entries = entries.map(|entry| entry.expect("readable"));
        let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        let names = files.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// How many drafts lie in the state directory.
    pub fn drafts(&self) -> usize {
        fs::read_dir(self.path().join(".ahoy/classic")).map_or(0, Iterator::count)
    }

    /// Nothing half done anywhere.
    pub fn assert_clean(&self) {
        crate::until("the drafts are gone", || self.drafts() == 0);
        let parts = fs::read_dir(self.path()).expect("there").filter(|entry| {
            let name = entry.as_ref().expect("readable").file_name();
            name.to_string_lossy().contains(".part")
        });
        assert_eq!(parts.count(), 0);
    }
}

/// A running program; killed when dropped.
pub struct Program {
    child: Child,
    lines: Receiver<String>,
    port: u16,
}

impl Program {
    pub fn our_tracker(more: &[&str]) -> Self {
        let arguments = ["tracker", "--listen", "127.0.0.1:0", "--per-source", "100"];
        Self::start(ahoy(&[&arguments[..], more].concat()))
    }

    pub fn our_tracker_at(port: u16) -> Self {
        Self::start(ahoy(&["tracker", "--listen", &format!("127.0.0.1:{port}")]))
    }

    pub fn our_peer(tracker: u16, folder: &Folder, more: &[&str]) -> Self {
        let (port, dir) = (tracker.to_string(), folder.path());
        let dir = dir.to_str().expect("ours is UTF-8");
        let arguments = [
            "classic",
            "127.0.0.1",
            &port,
            "--dir",
            dir,
            "--port",
            "0",
            "--bind",
            "127.0.0.1",
            "--first-sync-ms",
            "100",
            "--interval-ms",
            "100",
        ];
        Self::start(ahoy(&[&arguments[..], more].concat()))
    }

    pub fn student_peer(way: &str, tracker: u16, folder: &Folder, pace: Option<u32>) -> Self {
        let mut command = python("peer.py", &[way, "127.0.0.1", &tracker.to_string()]);
        command.arg(folder.path());
        command.args(pace.map(|pace| pace.to_string()));
        Self::start(command)
    }

    pub fn student_tracker(way: &str, port: u16) -> Self {
        Self::start(python("tracker.py", &[way, &port.to_string()]))
    }

    pub fn start(mut command: Command) -> Self {
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.expect("it starts");
        let stdout = child.stdout.take().expect("piped");
        let mut program = Self {
            child,
            lines: listen(stdout),
            port: 0,
        };
        // Ours says it in the middle of its first line, the others at its end.
        let first = program.line();
        let digits = match first.split_once(" on port ") {
            Some((_, rest)) => rest.split(' ').next(),
            None => first.trim_end().rsplit([':', ' ']).next(),
        };
        program.port = digits.unwrap_or_default().parse().unwrap_or(0);
        program
    }

    /// The port that its first line names.
    pub fn port(&mut self) -> u16 {
        assert_ne!(self.port, 0, "it says where it listens");
        self.port
    }

    pub fn line(&self) -> String {
        self.lines.recv_timeout(LIMIT).expect("it prints")
    }

    pub fn wait_for(&mut self, part: &str) {
        while !self.line().contains(part) {}
    }

    /// The most memory that it has had, in KiB.
    pub fn memory_peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let digits = line.and_then(|line| line.split_whitespace().next());
        digits
            .and_then(|digits| digits.parse().ok())
            .expect("a number")
    }

    /// Ends it as the system would.
    pub fn stop(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("our child");
        assert!(self.child.wait().expect("our child").success());
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill(&mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Our program.
pub fn ahoy(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ahoy"));
    command.args(arguments);
    command
}

fn python(script: &str, arguments: &[&str]) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/classic")
        .join(script);
    let mut command = Command::new("python3");
    command.arg(path).args(arguments);
    command
}

/// Reads on for as long as it prints, so that it never waits for us.
fn listen(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
