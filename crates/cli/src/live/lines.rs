//! Plain lines, for logs: what lasts is said once, what passes within a second is not.

use std::time::{Duration, Instant};

use ahoy_host::sync::limits::Caps;
use ahoy_host::sync::share::Event;
use ahoy_host::sync::status::{Notice, NoticeKind, Snapshot, State};
use ahoy_logic::limit::Rate;
use ahoy_wire::sync::escape_for_people;

use super::{Screen, Shown, Title};
use crate::cmd::{complain, say};
use crate::words::{bytes, count, counted};

/// Work that takes less is not worth a line.
const PASSING: Duration = Duration::from_secs(1);

/// Between two lines about the same long work.
const PROGRESS: Duration = Duration::from_secs(10);

pub struct Lines {
    shares: Vec<Told>,
    verbose: bool,
}

/// What has been said about one share.
struct Told {
    title: Title,
    said: Option<State>,
    /// A state that has not been said yet, and since when it lasts.
    pending: Option<(State, Instant)>,
    progress: Instant,
}

impl Lines {
    pub fn new(titles: Vec<Title>, verbose: bool) -> Self {
        let now = Instant::now();
        let share = |title| Told {
            title,
            said: None,
            pending: None,
            progress: now,
        };
        Self {
            shares: titles.into_iter().map(share).collect(),
            verbose,
        }
    }

    fn say(&self, number: usize, text: &str) {
        say(&format!(
            "{}: {text}",
            plain(&self.shares[number].title.name)
        ));
    }

    fn say_state(&mut self, number: usize, state: State, now: &Snapshot) {
        let text = match &state {
            State::InSync | State::WaitingForPeers => {
                let (files, size) = (counted(now.files, "file", "files"), bytes(now.bytes));
                format!("{}, {files}, {size}", state.words())
            }
            State::Starting | State::Scanning | State::Syncing | State::Halted { .. } => {
                plain(&state.words())
            }
        };
        self.say(number, &text);
        let share = &mut self.shares[number];
        share.said = Some(state);
        share.pending = None;
        share.progress = Instant::now();
    }
}

impl Screen for Lines {
    fn started(&mut self, number: usize, snapshot: &Snapshot, ticket: Option<&Shown>) {
        let rights = if snapshot.may_write {
            ""
        } else {
            ", for reading only"
        };
        self.say(
            number,
            &format!(
                "syncing {} as {}{rights}",
                snapshot.root,
                plain(&snapshot.label)
            ),
        );
        if let Some(words) = limit_words(&snapshot.limits) {
            self.say(number, &words);
        }
        if let Some(ticket) = ticket {
            self.say(number, ticket_words(ticket));
            say(&ticket.text);
        }
    }

    fn event(&mut self, number: usize, event: &Event, snapshot: &dyn Fn() -> Snapshot) {
        match event {
            Event::State(state) => {
                let settled = match state {
                    State::InSync | State::WaitingForPeers | State::Halted { .. } => true,
                    State::Starting | State::Scanning | State::Syncing => false,
                };
                let share = &mut self.shares[number];
                let waits = share
                    .pending
                    .as_ref()
                    .is_some_and(|(pending, _)| pending == state);
                if share.said.as_ref() == Some(state) {
                    share.pending = None;
                } else if settled {
                    self.say_state(number, state.clone(), &snapshot());
                } else if !waits {
                    share.pending = Some((state.clone(), Instant::now()));
                }
            }
            Event::Notice(notice) => self.say(number, &notice_words(notice)),
            Event::Peer {
                short,
                label,
                connected,
            } => {
                self.say(number, &peer_words(short, label, *connected));
            }
            Event::Brought { path, removed } => {
                if self.verbose {
                    self.say(number, &format!("{} {path}", brought_words(*removed)));
                }
            }
            Event::Stopped { error: None } => self.say(number, "stopped"),
            Event::Stopped { error: Some(error) } => {
                self.say(number, &format!("stopped: {}", plain(error)));
            }
        }
    }

    fn tick(&mut self, number: usize, snapshot: &dyn Fn() -> Snapshot) {
        let share = &self.shares[number];
        if let Some((state, since)) = &share.pending
            && since.elapsed() >= PASSING
        {
            let state = state.clone();
            self.say_state(number, state, &snapshot());
        } else if share.said == Some(State::Syncing) && share.progress.elapsed() >= PROGRESS {
            self.say(number, &progress_words(&snapshot()));
            self.shares[number].progress = Instant::now();
        }
    }

    fn stopping(&mut self) {
        say("stopping");
    }

    fn warn(&mut self, text: &str) {
        complain(text);
    }
}

/// What a ticket is good for.
pub fn ticket_words(ticket: &Shown) -> &'static str {
    if ticket.read_only {
        "this ticket lets another device in, for reading only:"
    } else {
        "this ticket lets another device in:"
    }
}

/// A notice, with its path.
pub fn notice_words(notice: &Notice) -> String {
    let kind = match notice.kind {
        NoticeKind::Conflict => "conflict",
        NoticeKind::Trouble => "trouble",
        NoticeKind::Emptied => "emptied",
        NoticeKind::NotSent => "not sent",
        NoticeKind::Share => "note",
    };
    match &notice.path {
        Some(path) => format!("{kind}: {path}: {}", plain(&notice.text)),
        None => format!("{kind}: {}", plain(&notice.text)),
    }
}

/// A peer came or went.
pub fn peer_words(short: &str, label: &str, connected: bool) -> String {
    let what = if connected {
        "connected to"
    } else {
        "no longer connected to"
    };
    format!("{what} {} ({})", plain(label), plain(short))
}

/// What became of a file.
pub fn brought_words(removed: bool) -> &'static str {
    if removed { "removed" } else { "brought" }
}

/// The limits on the process; `None` without any.
pub fn limit_words(limits: &Caps) -> Option<String> {
    let words = |rate: Option<Rate>, way| {
        rate.map(|rate| format!("{}/s {way}", bytes(rate.bytes_per_second())))
    };
    let both: Vec<_> = [words(limits.up, "up"), words(limits.down, "down")]
        .into_iter()
        .flatten()
        .collect();
    (!both.is_empty()).then(|| format!("limited to {}", both.join(", ")))
}

/// How far long work has come.
pub fn progress_words(now: &Snapshot) -> String {
    let all = now.done.files + now.todo.files;
    format!(
        "{} of {}, {} left, {}/s",
        count(now.done.files),
        counted(all, "file", "files"),
        bytes(now.todo.bytes),
        bytes(now.bytes_per_second),
    )
}

/// Text from elsewhere, fit for a terminal.
pub fn plain(text: &str) -> String {
    escape_for_people(text.as_bytes())
}
