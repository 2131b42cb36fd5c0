//! `ahoy join`: makes a folder one more copy of the share that a ticket opens.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use ahoy_host::sync::home::{Home, KnownPeer, Marker, NewShare, TrackerChoice};
use ahoy_wire::sync::Label;
use ahoy_wire::ticket::{ShareName, TEXT_LEN_MAX, Ticket, TicketError};
use anyhow::{Context, anyhow};

use super::{Hint, Misuse};
use crate::live::{self, TicketWish, hinted};

/// Join a share with a ticket, and keep a folder in sync with it until stopped.
#[derive(clap::Args)]
pub struct Args {
    /// The line that `ahoy share` printed, or `-` to read it from standard input.
    ticket: String,
    /// The folder; made if it is missing. A folder of the share's name, here, if not given.
    dir: Option<PathBuf>,
    #[command(flatten)]
    live: live::Foreground,
}

/// Runs until stopped.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let ticket = read_ticket(&args.ticket)?;
    let home = Home::from_env().map_err(|error| hinted(error.hint(), error))?;
    let dir = match args.dir {
        Some(dir) => dir,
        None => default_dir(&ticket)?,
    };
    let new = NewShare {
        capability: ticket.capability,
        name: ticket.name,
        tracker: TrackerChoice::Named(ticket.trackers.into_vec()),
        peers: vec![KnownPeer {
            id: ticket.inviter,
            label: Label::default(),
            addresses: ticket
                .addresses
                .iter()
                .map(|address| address.socket_addr())
                .collect(),
            seen_at_secs: 0,
        }],
    };
    let mut claim = home
        .join(&dir, new)
        .map_err(|error| hinted(error.hint(), error))?;
    args.live.keep_in(&mut claim)?;
    live::run(&home, vec![claim], &args.live, TicketWish::Nothing)
}

/// The ticket in `text`, or on standard input.
fn read_ticket(text: &str) -> anyhow::Result<Ticket> {
    let mut from_stdin = String::new();
    let text = if text == "-" {
        // Room for line breaks that a mail program has put in.
        let mut limited = std::io::stdin().lock().take(4 * TEXT_LEN_MAX as u64);
        limited
            .read_to_string(&mut from_stdin)
            .context("cannot read the ticket")?;
        &from_stdin
    } else {
        text
    };
    let checked = text.parse::<Ticket>().and_then(|ticket| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        ticket.check_time(now.as_secs()).map(|()| ticket)
    });
    checked.map_err(|error| {
        anyhow!(Misuse(error.to_string())).context(Hint(ticket_hint(&error).into()))
    })
}

fn ticket_hint(error: &TicketError) -> &'static str {
    match error {
        TicketError::Foreign => "it is the line that `ahoy share` prints, from ahoy1 to its end",
        TicketError::Newer { .. } => "use a newer ahoy",
        TicketError::CutShort { .. } | TicketError::TooLong { .. } | TicketError::Mistyped => {
            "copy the whole line that `ahoy share` printed, from ahoy1 to its end"
        }
        TicketError::Senseless | TicketError::Expired => {
            "`ahoy ticket DIR` on a device that is in the share prints a fresh one"
        }
    }
}

/// A folder of the share's name. What is in such a folder by chance is not let into the share.
fn default_dir(ticket: &Ticket) -> anyhow::Result<PathBuf> {
    let dir = PathBuf::from(folder_name(&ticket.name));
    let share = ticket.capability.read_key().share_id();
    let ours = matches!(Marker::read(&dir), Ok(Some(marker)) if marker.share == share);
    if !ours && has_something(&dir) {
        return Err(anyhow!("{} exists already, and something is in it", dir.display()).context(Hint(
            format!(
                "`ahoy join TICKET {0}` lets what is in it into the share; or name another folder",
                dir.display()
            ),
        )));
    }
    Ok(dir)
}

fn has_something(dir: &Path) -> bool {
    match dir.read_dir() {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

/// The share's name as the name of one visible folder here.
fn folder_name(name: &ShareName) -> String {
    let text = ahoy_wire::sync::escape_for_people(name.as_str().as_bytes());
    let text: String = text
        .chars()
        .map(|c| if matches!(c, '/' | '\\') { '-' } else { c })
        .collect();
    let text = text.trim_start_matches(['.', '-', '~', ' ']).trim_end();
    if text.is_empty() {
        "share".into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_cannot_choose_where_it_lands() {
        let check = |name: &str, want: &str| {
            assert_eq!(folder_name(&ShareName::tidy(name)), want, "{name}");
        };
        check("photos", "photos");
        check("my photos 2026", "my photos 2026");
        check("../../etc", "etc");
        check("/etc/passwd", "etc-passwd");
        check(".ssh", "ssh");
        check("..", "share");
        check("-rf", "rf");
        check("~root", "root");
        check("a\u{202e}b", "a-u{202e}b");
    }

    #[test]
    fn every_bad_ticket_has_a_hint() {
        for bad in ["", "photos", "ahoy1abc", "ahoy9abc"] {
            let error = read_ticket(bad).expect_err("not a ticket");
            let text = super::super::explain(&error);
            assert!(
                text.starts_with("Error: ") && text.contains("\nHint: "),
                "{text}"
            );
        }
    }
}
