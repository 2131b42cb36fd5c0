//! Devices and the `ahoy` processes on them.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use ahoy_host::sync::home::Home;
use ahoy_host::sync::status::{Snapshot, State, running};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::tree::Tree;

/// How long anything may take; generous, because the machine may be busy with other tests.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// How long to wait for the next event before looking again.
const LOOK: Duration = Duration::from_millis(20);

/// A place for devices and folders; removed at the end, unless `AHOY_TEST_KEEP` is set.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let mut dir = tempfile::tempdir().expect("a directory");
        dir.disable_cleanup(std::env::var_os("AHOY_TEST_KEEP").is_some());
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("a mode");
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().expect("a path").join(name)
    }

    /// An empty folder.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).expect("a folder");
        path
    }

    pub fn device(&self, name: &str) -> Device {
        let home = self.path(&format!("home-{name}"));
        fs::create_dir_all(home.join("config")).expect("a directory");
        fs::write(home.join("config/device-name"), name).expect("a file");
        Device { home, user: None }
    }

    /// A device whose `ahoy` runs without privileges, on the folders given; `None` if the tests
    /// themselves run without, and need nobody else.
    pub fn unprivileged(&self, name: &str, folders: &[&Path]) -> Device {
        let mut device = self.device(name);
        if rustix::process::getuid().is_root() {
            device.user = Some(NOBODY);
            let mut all = vec![device.home.clone()];
            all.extend(folders.iter().map(|folder| folder.to_path_buf()));
            while let Some(path) = all.pop() {
                std::os::unix::fs::lchown(&path, Some(NOBODY), Some(NOBODY)).expect("chown");
                if path.symlink_metadata().expect("metadata").is_dir() {
                    all.extend(
                        fs::read_dir(&path)
                            .expect("names")
                            .flatten()
                            .map(|e| e.path()),
                    );
                }
            }
        }
        device
    }
}

const NOBODY: u32 = 65_534;

/// One device: its own identity and state.
#[derive(Clone)]
pub struct Device {
    home: PathBuf,
    user: Option<u32>,
}

impl Device {
    /// `ahoy` on this device.
    pub fn ahoy(&self, args: &[&str]) -> Command {
        let mut binary = PathBuf::from(env!("CARGO_BIN_EXE_ahoy"));
        if let Some(user) = self.user {
            // The target directory may be closed to others.
            let copy = self.home.join("ahoy");
            if !copy.exists() {
                fs::copy(&binary, &copy).expect("a copy of the binary");
                chown(&copy, Some(user), Some(user)).expect("chown");
            }
            binary = copy;
        }
        let mut command = Command::new(binary);
        command
            .args(args)
            .env("AHOY_HOME", &self.home)
            .stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user).gid(user).current_dir("/");
        }
        command
    }

    /// Runs to its end, within the deadline.
    pub fn output(&self, args: &[&str]) -> Output {
        let mut child = self
            .ahoy(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ahoy starts");
        let (sender, receiver) = channel();
        let mut stdout = child.stdout.take().expect("piped");
        let mut stderr = child.stderr.take().expect("piped");
        let errors = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes).map(|_| bytes)
        });
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = sender.send(stdout.read_to_end(&mut bytes).map(|_| bytes));
        });
        let Ok(stdout) = receiver.recv_timeout(DEADLINE) else {
            let _ = child.kill();
            panic!("ahoy {args:?} does not end");
        };
        let stderr = errors.join().expect("no panic").expect("readable");
        let status = child.wait().expect("a status");
        Output {
            status,
            stdout: stdout.expect("readable"),
            stderr,
        }
    }

    /// Runs to its end, which must be this exit code; standard error must be an `Error:` and a
    /// `Hint:` line, and the error must say `says`.
    pub fn refused(&self, args: &[&str], code: i32, says: &str) {
        let output = self.output(args);
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        let lines: Vec<_> = text.lines().collect();
        let [.., error, hint] = lines.as_slice() else {
            panic!("{args:?}: {text}")
        };
        assert!(
            error.starts_with("Error: ") && error.contains(says),
            "{args:?}: {text}"
        );
        assert!(hint.starts_with("Hint: "), "{args:?}: {text}");
    }

    pub fn share(&self, dir: &Path, more: &[&str]) -> Run {
        let mut args = vec!["share", text(dir)];
        args.extend(more);
        Run::start(self, dir, &args)
    }

    pub fn join(&self, ticket: &str, dir: &Path) -> Run {
        Run::start(self, dir, &["join", ticket, text(dir)])
    }

    pub fn sync(&self, dir: &Path) -> Run {
        Run::start(self, dir, &["sync", text(dir)])
    }

    /// One process for several folders; what is asked of it is asked of the first.
    pub fn sync_all(&self, dirs: &[PathBuf]) -> Run {
        let args: Vec<&str> = dirs.iter().map(|dir| text(dir)).collect();
        Run::start(self, &dirs[0], &[&["sync"], &args[..]].concat())
    }

    /// The one share that runs for `dir`, asked over its control socket.
    pub fn status(&self, dir: &Path) -> Option<Snapshot> {
        let found = running(&Home::at(&self.home)).expect("a list");
        let shares = found.into_iter().filter_map(|(_, answer)| answer.ok());
        shares
            .into_iter()
            .find(|share| PathBuf::from(share.root.clone()) == dir)
    }

    /// The directory of everything that belongs to this device.
    pub fn home(&self) -> &Path {
        &self.home
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("the tests use plain paths")
}

/// A process that shares, joins or syncs one folder, with `--json`.
pub struct Run {
    pub device: Device,
    pub dir: PathBuf,
    child: Child,
    lines: Receiver<Value>,
    events: Vec<Value>,
    errors: Option<std::thread::JoinHandle<String>>,
}

/// What a process prints, line by line; what is not JSON comes as a text.
pub fn json_lines(stdout: ChildStdout) -> Receiver<Value> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let value = serde_json::from_str(&line);
            let value = value.unwrap_or_else(|_| Value::String(line.clone()));
            if sender.send(value).is_err() {
                return;
            }
        }
    });
    lines
}

impl Run {
    fn start(device: &Device, dir: &Path, args: &[&str]) -> Self {
        let mut args = args.to_vec();
        args.extend(["--json", "--verbose", "--no-mdns"]);
        // A share that is resumed listens where it did before, so that others find it again.
        if args[0] != "sync" && !args.contains(&"--listen") {
            args.extend(["--listen", "127.0.0.1:0"]);
        }
        let mut child = device
            .ahoy(&args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ahoy starts");
        let lines = json_lines(child.stdout.take().expect("piped"));
        let mut stderr = child.stderr.take().expect("piped");
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let (device, dir) = (device.clone(), dir.to_owned());
        Self {
            device,
            dir,
            child,
            lines,
            events: Vec::new(),
            errors: Some(errors),
        }
    }

    /// Takes in what has been printed, waiting a little for the next line. Whether it goes on.
    fn listen(&mut self, wait: Duration) -> bool {
        match self.lines.recv_timeout(wait) {
            Ok(event) => self.events.push(event),
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        self.events.extend(self.lines.try_iter());
        true
    }

    /// The first event, already seen or to come, for which `wanted` says yes.
    pub fn event(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = self.events.iter().find(|event| wanted(event)) {
                return found.clone();
            }
            let goes_on = self.listen(LOOK);
            if !goes_on || Instant::now() > deadline {
                let errors = self.end_with(Signal::KILL).1;
                panic!(
                    "no {what} from {}; events {:#?}\n{errors}",
                    self.dir.display(),
                    self.events
                );
            }
        }
    }

    /// The ticket that it printed.
    pub fn ticket(&mut self) -> String {
        let event = self.event("ticket", |event| event["event"] == "ticket");
        event["ticket"].as_str().expect("a text").to_owned()
    }

    /// How many files have been brought or removed in this run, as far as has been told.
    pub fn brought(&self) -> usize {
        let brought = |event: &&Value| event["event"] == "brought";
        self.events.iter().filter(brought).count()
    }

    /// Waits until `enough`, which is asked again after every event.
    pub fn wait(&mut self, what: &str, enough: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !enough(self) {
            let goes_on = self.listen(LOOK);
            if !goes_on || Instant::now() > deadline {
                let errors = self.end_with(Signal::KILL).1;
                panic!(
                    "{} waited in vain for {what}; last {:#?}\n{errors}",
                    self.dir.display(),
                    self.events.last()
                );
            }
        }
    }

    /// How it stands, as soon as it answers.
    pub fn status(&mut self) -> Snapshot {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = self.device.status(&self.dir) {
                return found;
            }
            let goes_on = self.listen(LOOK);
            if !goes_on || Instant::now() > deadline {
                let errors = self.end_with(Signal::KILL).1;
                panic!(
                    "{} does not answer; {:#?}\n{errors}",
                    self.dir.display(),
                    self.events
                );
            }
        }
    }

    /// Waits until it stands so.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let now = self.status();
            if wanted(&now) {
                return now;
            }
            assert!(Instant::now() < deadline, "not {what}: {now:#?}");
            self.listen(LOOK);
        }
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, as a power cut would.
    pub fn kill(mut self) {
        self.end_with(Signal::KILL);
    }

    /// SIGTERM; it must end in order and with code 0.
    pub fn stop(mut self) {
        let (status, errors) = self.end_with(Signal::TERM);
        assert_eq!(status.code(), Some(0), "{}: {errors}", self.dir.display());
        assert!(!errors.contains("panicked"), "{errors}");
    }

    fn end_with(&mut self, signal: Signal) -> (ExitStatus, String) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32)
            && self.child.try_wait().expect("a status").is_none()
        {
            kill_process(pid, signal).expect("a signal");
        }
        let deadline = Instant::now() + DEADLINE;
        while self.listen(LOOK) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                panic!("{} does not stop", self.dir.display());
            }
        }
        let status = self.child.wait().expect("a status");
        (
            status,
            self.errors
                .take()
                .map(|e| e.join().expect("no panic"))
                .unwrap_or_default(),
        )
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until all say that they are in sync and all folders are the same; gives what is in them.
pub fn converged(runs: &mut [&mut Run]) -> Tree {
    converged_to(runs, |_| true)
}

/// Waits until all are the same, in sync, and as `wanted`.
pub fn converged_to(runs: &mut [&mut Run], wanted: impl Fn(&Tree) -> bool) -> Tree {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let states: Vec<State> = runs.iter_mut().map(|run| run.status().state).collect();
        let trees: Vec<Tree> = runs.iter().map(|run| Tree::read(&run.dir)).collect();
        let same = trees.iter().all(|tree| *tree == trees[0]);
        if same && states.iter().all(|state| *state == State::InSync) && wanted(&trees[0]) {
            let mut trees = trees;
            return trees.swap_remove(0);
        }
        if Instant::now() > deadline {
            let differences = trees[0].differences(trees.last().expect("at least one"));
            let stand: Vec<_> = runs.iter_mut().map(|run| run.status()).collect();
            let said: Vec<_> = runs
                .iter_mut()
                .map(|run| run.end_with(Signal::KILL).1)
                .collect();
            panic!(
                "no convergence: {states:?}; first against last: {differences:#?}; {stand:#?}\n{}",
                said.join("\n--\n")
            );
        }
        for run in runs.iter_mut() {
            assert!(
                run.listen(LOOK),
                "{} ended: {:#?}",
                run.dir.display(),
                run.events.last()
            );
        }
    }
}

/// Two devices with the folders `a` and `b`, in sync with what `fill` puts into `a`.
pub fn pair(place: &Place, fill: impl Fn(&Path)) -> (Run, Run) {
    let a = place.folder("a");
    fill(&a);
    let mut left = place.device("left").share(&a, &[]);
    let ticket = left.ticket();
    let mut right = place.device("right").join(&ticket, &place.path("b"));
    converged(&mut [&mut left, &mut right]);
    (left, right)
}
