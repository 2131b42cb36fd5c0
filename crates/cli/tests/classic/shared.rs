//! One folder in a share and in a classic swarm: what either brings goes on into the other.

use std::path::Path;

use crate::swarm::{Folder, Program, ahoy};
use crate::until;

/// A device with a share and a home of its own.
struct Device {
    home: tempfile::TempDir,
}

impl Device {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        Self { home }
    }

    fn command(&self, arguments: &[&str], dir: &Path) -> std::process::Command {
        let mut command = ahoy(arguments);
        command
            .arg(dir)
            .env("AHOY_HOME", self.home.path())
            .env_remove("AHOY_LISTEN");
        command
    }

    fn start(&self, arguments: &[&str], dir: &Path) -> Program {
        let mut command = self.command(arguments, dir);
        command.args(["--json", "--no-mdns", "--listen", "127.0.0.1:0"]);
        Program::start(command)
    }

    fn ticket(&self, dir: &Path) -> String {
        let output = self.command(&["ticket"], dir).output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        text.trim().to_owned()
    }
}

/// Two folders in one share; a peer of the swarm in each, one of them a student's elsewhere.
#[test]
fn what_comes_from_the_swarm_goes_on_into_the_share_and_back() {
    let mut tracker = Program::our_tracker(&[]);
    let port = tracker.port();
    let (here, there) = (Device::new(), Device::new());
    let folders = [(); 3].map(|()| Folder::new());
    let [ours, copy, student] = &folders;
    let mut sharing = here.start(&["share"], &ours.path());
    let ticket = here.ticket(&ours.path());
    let joined = there.start(&["join", &ticket], &copy.path());
    let _peer = Program::our_peer(port, ours, &[]);
    // A student's peer tells what it has when it starts, and never again.
    student.write("from the swarm é", b"by a student", 1_700_000_001);
    let mut students = Program::student_peer("lines", port, student, None);
    until("it goes through the swarm into the share", || {
        copy.has("from the swarm é", b"by a student", 1_700_000_001)
    });
    copy.write("from the share", b"by a device", 1_700_000_002);
    until("it goes through the share into the swarm", || {
        student.has("from the share", b"by a device", 1_700_000_002)
    });
    // A newer version goes the same way, and so it does when both sides fetch it at once.
    let mut second = Program::our_peer(port, copy, &[]);
    students.kill();
    student.write("from the share", b"a newer one", 1_700_000_003);
    let mut students = Program::student_peer("bare", port, student, None);
    until("the newer one is everywhere", || {
        folders
            .iter()
            .all(|folder| folder.has("from the share", b"a newer one", 1_700_000_003))
    });
    copy.write("from the swarm é", b"newer as well", 1_700_000_004);
    until("and back", || {
        folders
            .iter()
            .all(|folder| folder.has("from the swarm é", b"newer as well", 1_700_000_004))
    });
    // Goes on after the share was stopped and is taken up by `sync`.
    sharing.stop();
    second.stop();
    let _sync = here.start(&["sync"], &ours.path());
    students.kill();
    student.write("late", b"late", 1_700_000_005);
    let _students = Program::student_peer("lines", port, student, None);
    until("it arrives at the copy", || {
        copy.has("late", b"late", 1_700_000_005)
    });
    drop(joined);
    for folder in &folders {
        assert_eq!(
            folder.names(),
            ["from the share", "from the swarm é", "late"]
        );
    }
    ours.assert_clean();
}
