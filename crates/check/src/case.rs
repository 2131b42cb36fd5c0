//! Requirements, cases and columns: what is examined, and in which words.
//!
//! A requirement is a numbered sentence of `spec/*.md`. A case is one script that can show it
//! broken; a requirement may have several. A column is all the cases of one service.

use std::time::Duration;

use crate::attempt::Attempt;

/// How binding a requirement is (RFC 2119).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Breaking it is an error.
    Must,
    /// Breaking it is an error only under `--strict`.
    Should,
}

impl Level {
    /// The word as the specification writes it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
        }
    }
}

/// A numbered sentence of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Its number, such as `echo-3`; the same in spec, code, tests and reports.
    pub id: &'static str,
    /// How binding it is.
    pub level: Level,
    /// What is required, in one sentence.
    pub sentence: &'static str,
}

/// Why a case did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The requirement is broken. The text says what was expected and what happened instead.
    Broken(String),
    /// The case could not be applied here, through no fault of the other side.
    Skipped(String),
}

impl Failure {
    /// The requirement is broken, in these words.
    #[must_use]
    pub fn broken(why: impl Into<String>) -> Self {
        Self::Broken(why.into())
    }

    /// The case does not apply, in these words.
    #[must_use]
    pub fn skipped(why: impl Into<String>) -> Self {
        Self::Skipped(why.into())
    }
}

/// What a case's script ends with.
pub type Outcome = Result<(), Failure>;

/// A script: talks to the other side within the limits of the attempt, and judges.
pub type Script = Box<dyn Fn(&Attempt) -> Outcome + Send + Sync>;

/// One script for one requirement.
pub struct Case {
    /// What it can show broken.
    pub requirement: &'static Requirement,
    /// Tells the cases of one requirement apart; lower case with hyphens.
    pub name: &'static str,
    /// Time this case needs by its nature (a lease that must run out), on top of the usual limit.
    pub patience: Duration,
    /// What to do.
    pub script: Script,
}

impl Case {
    /// The full name: requirement number, slash, case name.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{}/{}", self.requirement.id, self.name)
    }

    /// Whether a user who asked for `wanted` meant this case: by full name or by requirement
    /// number.
    #[must_use]
    pub fn answers_to(&self, wanted: &str) -> bool {
        wanted == self.requirement.id || wanted == self.title()
    }
}

/// All the cases of one service.
pub struct Column {
    /// The service, in its one word: `echo`.
    pub service: &'static str,
    /// Who is examined, as the report names it: an address or a command.
    pub target: String,
    /// The cases in the order in which they run.
    pub cases: Vec<Case>,
}

impl Column {
    /// A column without cases yet.
    #[must_use]
    pub fn new(service: &'static str, target: impl Into<String>) -> Self {
        Self {
            service,
            target: target.into(),
            cases: Vec::new(),
        }
    }

    /// Adds one case.
    #[must_use]
    pub fn case(
        self,
        requirement: &'static Requirement,
        name: &'static str,
        script: impl Fn(&Attempt) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        self.slow_case(requirement, name, Duration::ZERO, script)
    }

    /// Adds one case that by its nature needs `patience` on top of the usual time.
    #[must_use]
    pub fn slow_case(
        mut self,
        requirement: &'static Requirement,
        name: &'static str,
        patience: Duration,
        script: impl Fn(&Attempt) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        self.cases.push(Case {
            requirement,
            name,
            patience,
            script: Box::new(script),
        });
        self
    }
}
