//! What the hello server says: nothing but its beginning and its end, unless asked for more.
//!
//! Words go to standard error; `--json` events go to standard output, one object a line.

use std::net::SocketAddr;

use ahoy_logic::hello::{Note, Refusal, Transport};
use jiff::Zoned;
use serde_json::{Value, json};

use crate::cmd::{complain, say};

/// How events are told; a copy may go to the loop.
#[derive(Clone, Copy)]
pub(super) struct Log {
    how: How,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Quiet,
    Words,
    Json,
}

impl Log {
    pub fn new(verbose: bool, json: bool) -> Self {
        let how = match (json, verbose) {
            (true, _) => How::Json,
            (false, true) => How::Words,
            (false, false) => How::Quiet,
        };
        Self { how }
    }

    /// Whether anything beyond the beginning and the end is told.
    pub fn wants_notes(self) -> bool {
        self.how != How::Quiet
    }

    pub fn listening(self, addr: SocketAddr, udp: bool, tcp: bool) {
        match self.how {
            How::Json => event(json!({"event": "listening", "addr": addr, "udp": udp, "tcp": tcp})),
            How::Quiet | How::Words => {
                let transports = match (udp, tcp) {
                    (true, true) => "UDP and TCP",
                    (true, false) => "UDP",
                    (false, _) => "TCP",
                };
                complain(&format!("hello: listening on {addr} ({transports})"));
            }
        }
    }

    pub fn ended(self, by_itself: bool) {
        match self.how {
            How::Json => event(json!({"event": "ended", "idle": by_itself})),
            How::Quiet | How::Words if by_itself => {
                complain("hello: nobody has asked for long enough; ending");
            }
            How::Quiet | How::Words => complain("hello: stopped"),
        }
    }

    pub fn note(&mut self, note: &Note) {
        match self.how {
            How::Json => event(as_json(note)),
            How::Words => {
                let time = Zoned::now().strftime("%H:%M:%S%.3f");
                complain(&format!("{time} {}", as_words(note)));
            }
            How::Quiet => {}
        }
    }
}

fn event(mut event: Value) {
    let time = Zoned::now()
        .strftime("%Y-%m-%dT%H:%M:%S%.6f%:z")
        .to_string();
    event["time"] = time.into();
    say(&event.to_string());
}

fn as_words(note: &Note) -> String {
    match note {
        Note::Granted {
            id,
            client,
            transport,
        } => {
            format!("OK {id} to {client} ({})", name(*transport))
        }
        Note::Repeated { id, client } => format!("OK {id} to {client}, again"),
        Note::Refused {
            id,
            client,
            transport,
            why,
        } => {
            let why = match why {
                Refusal::InUse => "in use",
                Refusal::TableFull => "the table of ids is full",
                Refusal::Quota => "the source has as many ids as it may",
                Refusal::ShortRequest => "the request is shorter than the reply would be",
            };
            format!("RESET {id} to {client} ({}): {why}", name(*transport))
        }
        Note::Malformed {
            client,
            transport,
            why,
        } => {
            format!("ignored {client} ({}): {why}", name(*transport))
        }
        Note::Ended { id, client } => format!("{id} of {client} is free again"),
        Note::Overdue { client } => format!("closed {client}: no request in time"),
        Note::Displaced { client } => format!("closed {client}: to make room for others"),
        Note::Idle => "idle".to_owned(),
    }
}

fn as_json(note: &Note) -> Value {
    match note {
        Note::Granted {
            id,
            client,
            transport,
        } => json!({
            "event": "granted", "id": id.as_str(), "client": client, "transport": name(*transport),
        }),
        Note::Repeated { id, client } => json!({
            "event": "repeated", "id": id.as_str(), "client": client,
        }),
        Note::Refused {
            id,
            client,
            transport,
            why,
        } => {
            let why = match why {
                Refusal::InUse => "in-use",
                Refusal::TableFull => "table-full",
                Refusal::Quota => "quota",
                Refusal::ShortRequest => "short-request",
            };
            json!({
                "event": "refused", "id": id.as_str(), "client": client,
                "transport": name(*transport), "why": why,
            })
        }
        Note::Malformed {
            client,
            transport,
            why,
        } => json!({
            "event": "malformed", "client": client, "transport": name(*transport),
            "why": why.to_string(),
        }),
        Note::Ended { id, client } => json!({
            "event": "expired", "id": id.as_str(), "client": client,
        }),
        Note::Overdue { client } => json!({"event": "overdue", "client": client}),
        Note::Displaced { client } => json!({"event": "displaced", "client": client}),
        Note::Idle => json!({"event": "idle"}),
    }
}

fn name(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    }
}
