//! Picks cases and runs them, one after the other.
//!
//! One at a time, because an examined server may serve only one client at a time, and because a
//! report must say which case a server died of. Each case runs in a thread of its own; one that
//! outlives its time in spite of all deadlines is reported and left behind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::attempt::{Attempt, Limits};
use crate::case::{Case, Column, Failure, Outcome, Requirement};

/// A thread that has not ended this long after its case's time is given up.
const GRACE: Duration = Duration::from_secs(2);

/// The end of the verdict on a case that was given up: its script ignored all deadlines.
pub const LEFT_BEHIND: &str = ", and was left behind";

/// What came out of one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The requirement held.
    Passed,
    /// The requirement is broken, and how.
    Failed(String),
    /// The case did not apply, and why.
    Skipped(String),
    /// The examiner itself failed; nothing is known about the requirement.
    Error(String),
}

/// One case that ran.
#[derive(Clone, Debug)]
pub struct CaseResult {
    /// What was examined.
    pub requirement: &'static Requirement,
    /// The full name of the case.
    pub title: String,
    /// What came out.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
    /// What was said, one entry a line.
    pub transcript: Vec<String>,
}

/// Names that no case answers to; the user misspelt something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCases(pub Vec<String>);

/// Drops the cases of `column` that none of `wanted` means; with nothing wanted, all stay.
///
/// # Errors
/// [`UnknownCases`] with the names that mean no case.
pub fn select(mut column: Column, wanted: &[String]) -> Result<Column, UnknownCases> {
    let means_none = |name: &&String| !column.cases.iter().any(|case| case.answers_to(name));
    let unknown: Vec<String> = wanted.iter().filter(means_none).cloned().collect();
    if !unknown.is_empty() {
        return Err(UnknownCases(unknown));
    }
    if !wanted.is_empty() {
        let is_wanted = |case: &Case| wanted.iter().any(|name| case.answers_to(name));
        column.cases.retain(is_wanted);
    }
    Ok(column)
}

/// Runs every case of `column`; `each` sees every result as it comes.
pub fn run(column: Column, limits: Limits, mut each: impl FnMut(&CaseResult)) -> Vec<CaseResult> {
    let mut results = Vec::with_capacity(column.cases.len());
    for case in column.cases {
        let result = run_case(case, limits);
        each(&result);
        results.push(result);
    }
    results
}

fn run_case(case: Case, limits: Limits) -> CaseResult {
    let (requirement, title) = (case.requirement, case.title());
    let time_max = limits.case_max + case.patience + GRACE;
    let attempt = Arc::new(Attempt::start(limits, case.patience));
    let (tell, told) = mpsc::sync_channel(1);
    let started = Instant::now();
    let theirs = Arc::clone(&attempt);
    thread::spawn(move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| (case.script)(&theirs)));
        let _ = tell.send(outcome);
    });
    let verdict = match told.recv_timeout(time_max) {
        Ok(Ok(outcome)) => judge(outcome),
        Ok(Err(_panic)) => Verdict::Error("the case itself crashed; this is our fault".to_owned()),
        Err(_) => Verdict::Failed(format!("the case did not end in its time{LEFT_BEHIND}")),
    };
    CaseResult {
        requirement,
        title,
        verdict,
        took: started.elapsed(),
        transcript: attempt.transcript(),
    }
}

fn judge(outcome: Outcome) -> Verdict {
    match outcome {
        Ok(()) => Verdict::Passed,
        Err(Failure::Broken(why)) => Verdict::Failed(why),
        Err(Failure::Skipped(why)) => Verdict::Skipped(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Level;

    const FIRST: Requirement = Requirement {
        id: "toy-1",
        level: Level::Must,
        sentence: "Toys work.",
    };
    const SECOND: Requirement = Requirement {
        id: "toy-2",
        level: Level::Must,
        sentence: "Toys end.",
    };

    fn toys() -> Column {
        Column::new("toy", "here")
            .case(&FIRST, "good", |_| Ok(()))
            .case(&FIRST, "bad", |_| Err(Failure::broken("it fell apart")))
            .case(&SECOND, "crash", |_| panic!("on purpose"))
    }

    fn titles(column: &Column) -> Vec<String> {
        column.cases.iter().map(Case::title).collect()
    }

    #[test]
    fn cases_are_picked_by_number_or_by_name() {
        let pick = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            select(toys(), &names).map(|column| titles(&column))
        };
        assert_eq!(pick(&[]).map(|titles| titles.len()), Ok(3));
        assert_eq!(pick(&["toy-2"]), Ok(vec!["toy-2/crash".to_owned()]));
        assert_eq!(pick(&["toy-1/bad"]), Ok(vec!["toy-1/bad".to_owned()]));
        assert_eq!(
            pick(&["toy-1", "toy-9"]),
            Err(UnknownCases(vec!["toy-9".to_owned()]))
        );
    }

    #[test]
    fn every_case_gets_a_verdict_even_when_one_crashes() {
        let verdicts: Vec<Verdict> = run(toys(), Limits::default(), |_| {})
            .into_iter()
            .map(|result| result.verdict)
            .collect();
        assert_eq!(verdicts[0], Verdict::Passed);
        assert_eq!(verdicts[1], Verdict::Failed("it fell apart".to_owned()));
        assert!(matches!(verdicts[2], Verdict::Error(_)));
    }

    #[test]
    fn a_case_that_never_ends_is_given_up() {
        let limits = Limits {
            case_max: Duration::ZERO,
            ..Limits::default()
        };
        let (_keep, never) = mpsc::channel::<()>();
        let never = std::sync::Mutex::new(never);
        let column = Column::new("toy", "here").case(&FIRST, "endless", move |_| {
            let _ = never.lock().expect("nobody else holds it").recv();
            Ok(())
        });
        let results = run(column, limits, |_| {});
        assert!(matches!(&results[0].verdict, Verdict::Failed(why) if why.contains("its time")));
    }
}
