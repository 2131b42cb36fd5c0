//! What `ahoy enroll` prints: the lines of the course, the log, and JSON for machines.
//!
//! Texts come from strangers and are made fit for a terminal here (enroll-22).

use std::net::SocketAddr;

use ahoy_host::enroll::Notice;
use ahoy_host::enroll::client::ClientError;
use ahoy_logic::enroll::Note;
use ahoy_wire::enroll::{Greeting, Registration, Sid};
use ahoy_wire::pickle::Value;
use ahoy_wire::printable::{escaped, escaped_json};
use serde::Serialize;

use crate::cmd::{complain, say};

/// Where a server says what happens.
#[derive(Clone, Copy)]
pub(super) struct Console {
    pub(super) json: bool,
    pub(super) verbose: bool,
    pub(super) idle_ms: u64,
}

impl Console {
    pub(super) fn listening(self, host: &str, port: u16) {
        if self.json {
            say_json(&Event::Listening { host, port });
        } else {
            say(&format!("Listening at {}/{port}", escaped(host)));
        }
    }

    /// Each line in one piece: whoever calls is alone (enroll-20).
    pub(super) fn tell(self, notice: &Notice) {
        if self.json {
            say_json(&Event::of(notice));
            return;
        }
        match notice {
            Notice::Note(Note::Registered { registration, .. }) => say(&connected(registration)),
            Notice::Note(Note::Refused { peer, reason }) => {
                log(*peer, &format!("dropped: {reason}"));
            }
            Notice::Note(Note::Idle { peer }) => {
                let idle_ms = self.idle_ms;
                log(*peer, &format!("dropped: no registration for {idle_ms} ms"));
            }
            Notice::NotKept { peer, error, .. } => {
                log(
                    *peer,
                    &format!("dropped: it could not be recorded: {error}"),
                );
            }
            Notice::Note(Note::Connected { peer }) if self.verbose => log(*peer, "connected"),
            Notice::Note(Note::Disconnected {
                peer,
                registrations,
            }) if self.verbose => {
                log(*peer, &format!("left after {registrations} registrations"));
            }
            Notice::Note(Note::Connected { .. } | Note::Disconnected { .. }) => {}
        }
    }
}

/// The line of the course for a registration (enroll-19), its texts fit for a terminal (enroll-22).
fn connected(registration: &Registration) -> String {
    format!(
        "Connected: Student: {}, Github Username: {}, sid: {}",
        escaped(&registration.student_name),
        escaped(&registration.github_username),
        escaped(&registration.sid.to_string()),
    )
}

fn log(peer: SocketAddr, what: &str) {
    complain(&format!("{}/{}: {}", peer.ip(), peer.port(), escaped(what)));
}

/// What happened, for machines.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Listening {
        host: &'a str,
        port: u16,
    },
    Connected {
        client: SocketAddr,
    },
    Registered {
        client: SocketAddr,
        student_name: &'a str,
        github_username: &'a str,
        sid: JsonSid<'a>,
    },
    Refused {
        client: SocketAddr,
        reason: String,
    },
    Idle {
        client: SocketAddr,
    },
    NotRecorded {
        client: SocketAddr,
        registrations: usize,
        error: &'a str,
    },
    Disconnected {
        client: SocketAddr,
        registrations: u64,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum JsonSid<'a> {
    Number(i128),
    Text(&'a str),
}

impl<'a> Event<'a> {
    fn of(notice: &'a Notice) -> Self {
        match notice {
            Notice::NotKept { peer, count, error } => Self::NotRecorded {
                client: *peer,
                registrations: *count,
                error,
            },
            Notice::Note(note) => match note {
                Note::Connected { peer } => Self::Connected { client: *peer },
                Note::Registered {
                    peer, registration, ..
                } => Self::Registered {
                    client: *peer,
                    student_name: &registration.student_name,
                    github_username: &registration.github_username,
                    sid: match &registration.sid {
                        Sid::Number(number) => JsonSid::Number(*number),
                        Sid::Text(text) => JsonSid::Text(text),
                    },
                },
                Note::Refused { peer, reason } => Self::Refused {
                    client: *peer,
                    reason: reason.to_string(),
                },
                Note::Idle { peer } => Self::Idle { client: *peer },
                Note::Disconnected {
                    peer,
                    registrations,
                } => Self::Disconnected {
                    client: *peer,
                    registrations: *registrations,
                },
            },
        }
    }
}

pub(super) fn say_json(value: &impl Serialize) {
    let json = serde_json::to_string(value).expect("numbers and texts are always JSON");
    say(&escaped_json(&json));
}

/// The line of the course for a greeting (enroll-21).
pub(super) fn connected_to(greeting: &Greeting, host: &str, port: u16) -> String {
    let (greeting, host) = (greeting.value.to_string(), escaped(host));
    let greeting = escaped(&greeting);
    format!("{greeting} has successfully connected to {host}/{port}")
}

/// What became of a registration, for machines.
#[derive(Serialize)]
pub(super) struct Report {
    acknowledged: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<i128>,
    /// As Python prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    greeting: Option<String>,
    /// As Python prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Report {
    pub(super) fn of(outcome: &Result<Value, ClientError>, greeting: Option<&Greeting>) -> Self {
        let repr = |value: &Value| value.repr().to_string();
        Self {
            acknowledged: outcome.is_ok(),
            client_id: greeting.map(|greeting| greeting.client_id),
            greeting: greeting.map(|greeting| repr(&greeting.value)),
            answer: match outcome {
                Ok(answer) | Err(ClientError::Refused { answer }) => Some(repr(answer)),
                Err(_) => None,
            },
            error: outcome.as_ref().err().map(ToString::to_string),
        }
    }
}
