//! The cases for a web server (spec/web.md).
//!
//! They need one file that the server serves, by default whatever `/` is; what they know about it
//! they learn by asking for it first.

mod client;
mod condition;
mod connection;
mod path;
mod range;
mod request;
mod requirements;

use std::net::SocketAddr;
use std::time::Duration;

use crate::attempt::Attempt;
use crate::case::{Case, Column, Failure, Outcome, Requirement};
use client::{Answer, ask};

pub use requirements::*;

/// The server under examination.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it is.
    pub addr: SocketAddr,
    /// The path of a file that it serves.
    pub path: String,
    /// The path of a folder that it serves, without a slash at its end, if there is one.
    pub folder: Option<String>,
    /// How long it lets a request take to arrive, if it says so.
    pub request: Option<Duration>,
    /// How long it keeps a connection without a request, if it says so.
    pub idle: Option<Duration>,
}

/// The column of cases for `target`.
#[must_use]
pub fn column(target: &Target) -> Column {
    let mut column = Column::new("web", target.addr.to_string());
    let groups = [
        request::cases(),
        connection::cases(),
        path::cases(),
        condition::cases(),
        range::cases(),
    ];
    for (requirement, name, script) in groups.into_iter().flatten() {
        let target = target.clone();
        column = column.case(requirement, name, move |attempt| {
            script(&Server {
                attempt,
                target: &target,
            })
        });
    }
    column.cases.extend(connection::slow_cases(target));
    column
}

/// A case before it is bound to a server.
type Entry = (
    &'static Requirement,
    &'static str,
    fn(&Server<'_>) -> Outcome,
);

/// The examined server within one attempt.
struct Server<'a> {
    attempt: &'a Attempt,
    target: &'a Target,
}

impl Server<'_> {
    /// One request on a connection of its own.
    fn ask(&self, request: &str) -> Result<Answer, Failure> {
        ask(self.attempt, self.target.addr, request)
    }

    /// `METHOD PATH HTTP/1.1` with a `Host`, these fields, and `Connection: close`.
    fn request(&self, method: &str, path: &str, fields: &str) -> String {
        let host = self.target.addr;
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n")
    }

    /// `GET` of the known file with these fields.
    fn get(&self, fields: &str) -> Result<Answer, Failure> {
        self.ask(&self.request("GET", &self.target.path, fields))
    }

    /// The known file as it is; the yardstick of most cases.
    fn file(&self) -> Result<Answer, Failure> {
        let answer = self.get("")?;
        answer.expect_status(&format!("GET {}", self.target.path), &[200])?;
        Ok(answer)
    }

    /// The known file, where only a file will do. What a server makes for a folder as it is asked,
    /// a list of its files for instance, has no version and no ranges.
    fn true_file(&self) -> Result<Answer, Failure> {
        let answer = self.file()?;
        let has_version = ["etag", "last-modified"]
            .iter()
            .any(|name| answer.field(name).is_some());
        if self.target.path.ends_with('/') && !has_version {
            let path = &self.target.path;
            let why = format!("{path} is a page made for a folder; name a file with --path");
            return Err(Failure::skipped(why));
        }
        Ok(answer)
    }
}

/// Broken with these words, unless it holds.
fn expect(holds: bool, why: impl Into<String>) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(Failure::broken(why))
    }
}

/// A case that runs beside the usual ones, with patience of its own.
fn slow_case(
    requirement: &'static Requirement,
    name: &'static str,
    patience: Duration,
    target: &Target,
    script: fn(&Server<'_>) -> Outcome,
) -> Case {
    let target = target.clone();
    Case {
        requirement,
        name,
        patience,
        script: Box::new(move |attempt| {
            script(&Server {
                attempt,
                target: &target,
            })
        }),
    }
}
