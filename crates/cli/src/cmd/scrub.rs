//! `ahoy scrub`: reads a folder again, to find and repair what the disk has changed by itself.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ahoy_host::sync::home::Home;
use ahoy_host::sync::scrub::Progress;
use ahoy_host::sync::status::{Reply, Request, ask};
use anyhow::anyhow;

use super::status::{find_one, strange};
use super::{complain, say};
use crate::live::hinted;
use crate::live::lines::plain;
use crate::words::{bytes, count, counted};

/// Between two questions how far it is.
const POLL: Duration = Duration::from_millis(200);

/// How long repairs may take after the reading, as long as some come.
const REPAIR_WAIT: Duration = Duration::from_secs(20);

/// Read all files of a folder that is being synced again, and repair from other devices what the
/// disk has changed by itself; exit 1 if there was any of that.
///
/// Edits are told from silent corruption by their traces. Corrupt bytes are never sent to other
/// devices; a copy of them is kept in .ahoy/damaged.
#[derive(clap::Args)]
pub struct Args {
    /// The folder, or one inside it; needed if several are being synced.
    dir: Option<PathBuf>,
    /// Read this many MiB per second; 0 for as fast as it goes.
    #[arg(long, value_name = "MIB", default_value_t = 50)]
    rate: u32,
    /// Print one JSON object when it is done.
    #[arg(long)]
    json: bool,
}

/// Starts it, or joins one that goes on, and waits for the end.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let home = Home::from_env().map_err(|error| hinted(error.hint(), error))?;
    let (socket, share) = find_one(&home, args.dir.as_deref())?;
    let start = Request::Scrub {
        bytes_per_second: Some(u64::from(args.rate) << 20),
    };
    let mut progress = question(&socket, &start)?;
    let look = Request::Scrub {
        bytes_per_second: None,
    };
    let is_watched = !args.json && std::io::stderr().is_terminal();
    while progress.running {
        if is_watched {
            show(&progress);
        }
        std::thread::sleep(POLL);
        progress = question(&socket, &look)?;
    }
    if is_watched {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    progress = wait_for_repairs(&socket, &look, progress)?;
    if args.json {
        say(&serde_json::to_string(&progress)?);
    } else {
        report(&plain(&share.name), &progress);
    }
    Ok(ExitCode::from(u8::from(
        progress.rotten > 0 || !progress.unrepaired.is_empty(),
    )))
}

fn question(socket: &Path, request: &Request) -> anyhow::Result<Progress> {
    match ask(socket, request)? {
        Reply::Scrub { scrub } => Ok(scrub),
        Reply::Refused { reason } => Err(anyhow!(reason)),
        Reply::Status { .. }
        | Reply::Ls { .. }
        | Reply::NoSuchPath
        | Reply::Ticket { .. }
        | Reply::Confirmed { .. }
        | Reply::Limited
        | Reply::Stopping => Err(strange()),
    }
}

fn wait_for_repairs(
    socket: &Path,
    look: &Request,
    mut progress: Progress,
) -> anyhow::Result<Progress> {
    let mut since = Instant::now();
    while !progress.unrepaired.is_empty() && since.elapsed() < REPAIR_WAIT {
        std::thread::sleep(POLL);
        let next = question(socket, look)?;
        if next.unrepaired.len() < progress.unrepaired.len() {
            since = Instant::now();
        }
        progress = next;
    }
    Ok(progress)
}

fn show(progress: &Progress) {
    let line = format!(
        "{} of {}, {} of {}",
        count(progress.files + progress.skipped),
        counted(progress.files_all, "file", "files"),
        bytes(progress.bytes),
        bytes(progress.bytes_all),
    );
    // Only decoration.
    let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
}

/// How much of the share was read; all of it, if no other number is named.
fn read_words(progress: &Progress) -> String {
    let all = counted(progress.files_all, "file", "files");
    let size = bytes(progress.bytes);
    if progress.files < progress.files_all {
        format!("{} of {all} read, {size}", count(progress.files))
    } else {
        // Some may have come since it began.
        let read = counted(progress.files, "file", "files");
        format!("{read} read, {size}")
    }
}

fn report(name: &str, progress: &Progress) {
    say(&format!("{name}: {}", read_words(progress)));
    if progress.skipped > 0 {
        let skipped = counted(progress.skipped, "file", "files");
        say(&format!("{name}: {skipped} being changed or unreadable"));
    }
    let read_or_skipped = progress.files + progress.skipped;
    if read_or_skipped < progress.files_all {
        let left_out = counted(progress.files_all - read_or_skipped, "file", "files");
        say(&format!(
            "{name}: {left_out} left out: being brought in, noted or repaired just now"
        ));
    }
    let left = progress.unrepaired.len() as u64;
    if progress.rotten > 0 {
        let rotten = counted(progress.rotten, "file had", "files had");
        let repaired = count(progress.rotten.saturating_sub(left));
        say(&format!(
            "{name}: {rotten} rotted, {repaired} repaired; the damaged bytes are in .ahoy/damaged"
        ));
    }
    for path in &progress.unrepaired {
        complain(&format!("{name}: {path} is not repaired yet"));
    }
    if left > 0 {
        complain("Hint: it is repaired as soon as a device that has it whole is connected");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_read_is_not_counted_as_read() {
        let progress = |files, files_all| Progress {
            files,
            files_all,
            bytes: 1024,
            skipped: files_all - files,
            ..Progress::default()
        };
        assert_eq!(read_words(&progress(51, 51)), "51 files read, 1.0 KiB");
        assert_eq!(
            read_words(&progress(50, 51)),
            "50 of 51 files read, 1.0 KiB"
        );
        let grown = Progress {
            files_all: 50,
            ..progress(51, 51)
        };
        assert_eq!(read_words(&grown), "51 files read, 1.0 KiB");
        assert_eq!(read_words(&progress(0, 1)), "0 of 1 file read, 1.0 KiB");
    }
}
