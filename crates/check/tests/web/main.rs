//! The web column against servers that run in this process: one that is right, and one for each
//! fault that a first attempt is likely to have. A fault must be found by its own number.

mod server;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use ahoy_check::attempt::Limits;
use ahoy_check::runner::{CaseResult, Verdict, run};
use ahoy_check::web::{Target, column};
use server::{Fault, IDLE_LIMIT, REQUEST_LIMIT, serve};

const LIMITS: Limits = Limits {
    reply_max: Duration::from_millis(5000),
    quiet: Duration::from_millis(150),
    case_max: Duration::from_secs(30),
};

#[test]
fn a_right_server_passes_every_case() {
    let results = examine(Fault::Nothing);
    assert!(results.len() >= 50);
    for result in results {
        assert_eq!(result.verdict, Verdict::Passed, "{}", result.title);
    }
}

#[test]
fn each_wrong_server_fails_by_its_number() {
    let faults = [
        (Fault::NoAllow, "web-4"),
        (Fault::AcceptsNoHost, "web-2"),
        (Fault::AnyVersion, "web-3"),
        (Fault::TakesGarbage, "web-1"),
        (Fault::EndlessHead, "web-5"),
        (Fault::TwoLengths, "web-6"),
        (Fault::BodyIsARequest, "web-7"),
        (Fault::ClosesAlways, "web-9"),
        (Fault::NeverCloses, "web-9"),
        (Fault::LosesPipelined, "web-10"),
        (Fault::HeadWithBody, "web-11"),
        (Fault::LengthTooShort, "web-12"),
        (Fault::NoDate, "web-12"),
        (Fault::DoesNotDecode, "web-20"),
        (Fault::DiesOfBadEscape, "web-20"),
        (Fault::FollowsDotDot, "web-21"),
        (Fault::RedirectsElsewhere, "web-24"),
        (Fault::EverythingIsThere, "web-27"),
        (Fault::NoContentType, "web-30"),
        (Fault::RandomTag, "web-31"),
        (Fault::IgnoresIfNoneMatch, "web-32"),
        (Fault::DateBeatsTag, "web-32"),
        (Fault::IgnoresIfModifiedSince, "web-33"),
        (Fault::IgnoresIfMatch, "web-34"),
        (Fault::NotModifiedWithBody, "web-35"),
        (Fault::IgnoresRange, "web-40"),
        (Fault::RangeOffByOne, "web-40"),
        (Fault::OneRangeOnly, "web-41"),
        (Fault::UnsatisfiableIsWhole, "web-42"),
        (Fault::IgnoresIfRange, "web-43"),
        (Fault::RepeatsRanges, "web-44"),
        (Fault::RangeWithHead, "web-45"),
        (Fault::CodesUnasked, "web-50"),
        (Fault::WaitsForEver, "web-60"),
        (Fault::NeverIdle, "web-61"),
        (Fault::OneAtATime, "web-63"),
    ];
    let mut wrong = Vec::new();
    // A few at a time: a busy machine must not look like a slow server.
    for some in faults.chunks(12) {
        let examinations: Vec<_> = some
            .iter()
            .map(|&(fault, id)| (fault, id, thread::spawn(move || examine(fault))))
            .collect();
        for (fault, id, examination) in examinations {
            let results = examination.join().expect("an examination never crashes");
            let failed = failed(&results);
            if !failed.contains(id) || (failed.len() > 1 && !is_broad(fault)) {
                wrong.push(format!("{fault:?} must fail by {id}, not by {failed:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn failed(results: &[CaseResult]) -> BTreeSet<&'static str> {
    results
        .iter()
        .filter(|result| matches!(result.verdict, Verdict::Failed(_)))
        .map(|result| result.requirement.id)
        .collect()
}

/// Faults that break several requirements at once.
fn is_broad(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::BodyIsARequest
            | Fault::ClosesAlways
            | Fault::NeverCloses
            | Fault::EverythingIsThere
            | Fault::HeadWithBody
            | Fault::IgnoresIfNoneMatch
            | Fault::IgnoresRange
            | Fault::LengthTooShort
            | Fault::LosesPipelined
            | Fault::NotModifiedWithBody
            | Fault::OneAtATime
            | Fault::RandomTag
            | Fault::RangeOffByOne
    )
}

#[test]
fn a_server_that_is_not_there_or_says_nothing_hangs_nothing() {
    let limits = Limits {
        reply_max: Duration::from_millis(50),
        ..LIMITS
    };
    let vacant = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = vacant.local_addr().expect("bound");
    let silent = run(column(&target(addr)), limits, |_| {});
    drop(vacant);
    let absent = run(column(&target(addr)), limits, |_| {});
    for results in [silent, absent] {
        let passed: Vec<_> = results
            .iter()
            .filter(|result| result.verdict == Verdict::Passed)
            .map(|result| result.title.as_str())
            .collect();
        assert!(passed.is_empty(), "{passed:?}");
    }
}

fn examine(fault: Fault) -> Vec<CaseResult> {
    run(column(&target(serve(fault))), LIMITS, |_| {})
}

fn target(addr: std::net::SocketAddr) -> Target {
    Target {
        addr,
        path: "/notes.txt".to_owned(),
        folder: Some("/folder".to_owned()),
        request: Some(REQUEST_LIMIT),
        idle: Some(IDLE_LIMIT),
    }
}
