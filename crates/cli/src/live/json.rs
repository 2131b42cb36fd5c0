//! One JSON object per line, for programs. Every object has `event`, `share` (the name) and `root`.

use ahoy_host::sync::share::Event;
use ahoy_host::sync::status::Snapshot;
use serde_json::{Value, json};

use super::{Screen, Shown, Title};
use crate::cmd::{complain, say};

pub struct Json {
    titles: Vec<Title>,
    verbose: bool,
}

impl Json {
    pub fn new(titles: Vec<Title>, verbose: bool) -> Self {
        Self { titles, verbose }
    }

    fn say(&self, number: usize, event: &str, mut fields: Value) {
        let Title { name, root } = &self.titles[number];
        fields["event"] = event.into();
        fields["share"] = name.as_str().into();
        fields["root"] = json!(root);
        say(&fields.to_string());
    }
}

impl Screen for Json {
    fn started(&mut self, number: usize, snapshot: &Snapshot, ticket: Option<&Shown>) {
        self.say(number, "started", json!({"status": snapshot}));
        if let Some(Shown { text, read_only }) = ticket {
            self.say(
                number,
                "ticket",
                json!({"ticket": text, "read_only": read_only}),
            );
        }
    }

    fn event(&mut self, number: usize, event: &Event, snapshot: &dyn Fn() -> Snapshot) {
        match event {
            Event::State(state) => {
                let mut fields = json!(state);
                let now = snapshot();
                fields["files"] = now.files.into();
                fields["bytes"] = now.bytes.into();
                fields["peers"] = now.peers.iter().filter(|p| p.connected).count().into();
                self.say(number, "state", fields);
            }
            Event::Notice(notice) => self.say(number, "notice", json!(notice)),
            Event::Peer {
                short,
                label,
                connected,
            } => {
                let fields = json!({"peer": short, "label": label, "connected": connected});
                self.say(number, "peer", fields);
            }
            Event::Brought { path, removed } => {
                if self.verbose {
                    self.say(number, "brought", json!({"path": path, "removed": removed}));
                }
            }
            Event::Stopped { error } => self.say(number, "stopped", json!({"error": error})),
        }
    }

    fn tick(&mut self, _number: usize, _snapshot: &dyn Fn() -> Snapshot) {}

    fn stopping(&mut self) {}

    fn warn(&mut self, text: &str) {
        complain(text);
    }
}
