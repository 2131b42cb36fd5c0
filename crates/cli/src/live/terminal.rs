//! A live line for each share on a terminal: the state while all is quiet, a bar on long work.

use std::time::{Duration, Instant};

use ahoy_host::sync::share::Event;
use ahoy_host::sync::status::{Snapshot, State};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::lines::{brought_words, limit_words, notice_words, plain, ticket_words};
use super::{Screen, Shown, Title, qr};
use crate::cmd::{complain, say};
use crate::words::{bytes, count, counted, span};

/// Work that takes less gets no bar.
const PASSING: Duration = Duration::from_millis(500);

pub struct Terminal {
    all: MultiProgress,
    rows: Vec<Row>,
    verbose: bool,
}

struct Row {
    title: Title,
    line: ProgressBar,
    /// Since when there has been something to do.
    busy: Option<Instant>,
    barred: bool,
}

impl Terminal {
    pub fn new(titles: Vec<Title>, verbose: bool) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let row = |title: Title| {
            let line = all.add(ProgressBar::no_length()).with_style(quiet_style());
            line.set_prefix(plain(&title.name));
            Row {
                title,
                line,
                busy: None,
                barred: false,
            }
        };
        let rows = titles.into_iter().map(row).collect();
        Self { all, rows, verbose }
    }

    /// A line above the live ones.
    fn print(&self, number: usize, text: &str) {
        self.all
            .suspend(|| say(&format!("{}: {text}", plain(&self.rows[number].title.name))));
    }

    fn show(&mut self, number: usize, now: &Snapshot) {
        let row = &mut self.rows[number];
        let working = now.state == State::Syncing && now.todo.files > 0;
        row.busy = if working {
            row.busy.or_else(|| Some(Instant::now()))
        } else {
            None
        };
        let barred = row.busy.is_some_and(|since| since.elapsed() >= PASSING);
        if barred != row.barred {
            row.barred = barred;
            row.line
                .set_style(if barred { bar_style() } else { quiet_style() });
        }
        if barred {
            // By bytes if there are many, by files if they are small: each file costs something.
            let weight =
                |amount: ahoy_host::sync::status::Amount| amount.bytes + amount.files * 65_536;
            row.line.set_length(weight(now.done) + weight(now.todo));
            row.line.set_position(weight(now.done));
            row.line.set_message(work_words(now));
        } else {
            row.line.unset_length();
            row.line.set_message(quiet_words(now));
        }
    }
}

impl Screen for Terminal {
    fn started(&mut self, number: usize, snapshot: &Snapshot, ticket: Option<&Shown>) {
        let rights = if snapshot.may_write {
            ""
        } else {
            ", for reading only"
        };
        let (root, label) = (&snapshot.root, plain(&snapshot.label));
        self.print(
            number,
            &format!("syncing {root} as {label}{rights}; Ctrl-C stops"),
        );
        if let Some(words) = limit_words(&snapshot.limits) {
            self.print(number, &words);
        }
        if let Some(ticket) = ticket {
            self.print(number, ticket_words(ticket));
            let (height, width) = console::Term::stdout().size();
            let code = qr::lines(&ticket.text).filter(|(lines, code_width)| {
                *code_width <= usize::from(width) && lines.len() + 4 <= usize::from(height)
            });
            self.all.suspend(|| {
                say(&format!("\n{}\n", ticket.text));
                for line in code.iter().flat_map(|(lines, _)| lines) {
                    say(line);
                }
            });
        }
        self.show(number, snapshot);
    }

    fn event(&mut self, number: usize, event: &Event, snapshot: &dyn Fn() -> Snapshot) {
        match event {
            Event::State(State::Halted { .. }) => {
                let words = plain(&snapshot().state.words());
                self.print(number, &words);
            }
            Event::State(_) => self.show(number, &snapshot()),
            Event::Notice(notice) => self.print(number, &notice_words(notice)),
            Event::Peer { .. } => self.show(number, &snapshot()),
            Event::Brought { path, removed } => {
                if self.verbose {
                    self.print(number, &format!("{} {path}", brought_words(*removed)));
                }
            }
            Event::Stopped { error } => {
                self.rows[number].line.finish_and_clear();
                match error {
                    Some(error) => self.print(number, &format!("stopped: {}", plain(error))),
                    None => self.print(number, "stopped"),
                }
            }
        }
    }

    fn tick(&mut self, number: usize, snapshot: &dyn Fn() -> Snapshot) {
        self.show(number, &snapshot());
    }

    fn stopping(&mut self) {
        self.all
            .suspend(|| say("stopping; Ctrl-C again to leave at once"));
    }

    fn warn(&mut self, text: &str) {
        self.all.suspend(|| complain(text));
    }
}

fn quiet_style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:.bold}  {wide_msg}").expect("a constant template")
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:.bold}  [{bar:24}] {wide_msg}")
        .expect("a constant template")
        .progress_chars("=> ")
}

fn quiet_words(now: &Snapshot) -> String {
    let files = counted(now.files, "file", "files");
    format!(
        "{} · {files}, {} · {}",
        plain(&now.state.words()),
        bytes(now.bytes),
        peer_count(now)
    )
}

fn work_words(now: &Snapshot) -> String {
    let all = now.done.files + now.todo.files;
    let mut text = format!(
        "{}/{} files · {} left · {}/s",
        count(now.done.files),
        count(all),
        bytes(now.todo.bytes),
        bytes(now.bytes_per_second)
    );
    if now.todo.bytes > now.bytes_per_second && now.bytes_per_second > 0 {
        let left = Duration::from_secs(now.todo.bytes / now.bytes_per_second);
        text.push_str(&format!(" · {}", span(left)));
    }
    format!("{text} · {}", peer_count(now))
}

fn peer_count(now: &Snapshot) -> String {
    let connected = now.peers.iter().filter(|peer| peer.connected).count();
    counted(connected as u64, "peer", "peers")
}
