//! Our tracker and our peer under our own examination, and a student's beside them.

use std::process::Output;

use crate::swarm::{Program, ahoy};

/// Every case, the slow ones too.
#[test]
fn our_tracker_and_our_peer_pass_every_case() {
    let mut tracker = Program::our_tracker(&["--classic-timeout", "3"]);
    let addr = format!("127.0.0.1:{}", tracker.port());
    let report = examine(&["tracker", &addr, "--timeout-ms", "3000"]);
    assert_eq!(report.status.code(), Some(0), "{}", text(&report));
    tracker.stop();
    let report = examine(&[
        "peer",
        "--interval-ms",
        "1000",
        "--",
        env!("CARGO_BIN_EXE_ahoy"),
        "classic",
        "{ip}",
        "{port}",
        "--dir",
        "{dir}",
        "--port",
        "0",
        "--bind",
        "127.0.0.1",
        "--first-sync-ms",
        "100",
        "--interval-ms",
        "300",
    ]);
    assert_eq!(report.status.code(), Some(0), "{}", text(&report));
}

/// A student's tracker breaks a rule here and there: exit code 1, and the rule is named.
#[test]
fn a_students_tracker_is_told_what_is_missing() {
    for generation in ["lines", "bare"] {
        let mut tracker = Program::student_tracker(generation, 0);
        let addr = format!("127.0.0.1:{}", tracker.port());
        let cases = ["classic-4", "classic-5", "classic-11", "classic-14"];
        let mut arguments = vec!["tracker", &addr];
        arguments.extend((generation == "bare").then_some("--bare"));
        arguments.extend(cases.iter().flat_map(|case| ["--case", case]));
        let report = examine(&arguments);
        let said = text(&report);
        assert_eq!(report.status.code(), Some(1), "{said}");
        // It keeps one holder for each file, and so knows of no other.
        assert!(said.contains("FAIL  classic-14/next-holder"), "{said}");
        assert!(said.contains(" 1 failed"), "{said}");
    }
}

fn examine(arguments: &[&str]) -> Output {
    let limits = ["--reply-ms", "5000"];
    let mut command = ahoy(&["check"]);
    let (column, rest) = arguments.split_first().expect("a column");
    command.arg(column).args(limits).args(rest);
    command.output().expect("it runs")
}

fn text(report: &Output) -> String {
    String::from_utf8_lossy(&report.stdout).into_owned()
}
