//! `ahoy ls`: what is in a directory of a share, also what is still on its way here.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ahoy_host::sync::exact::Exact;
use ahoy_host::sync::home::Home;
use ahoy_host::sync::status::{Entry, EntryKind, LIST_MAX, Reply, Request, ask};
use anyhow::anyhow;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::status::{find_one, strange, whole_path};
use super::{Hint, complain, say};
use crate::live::hinted;

/// List a directory of a share that is being synced, with what is still on its way here.
#[derive(clap::Args)]
pub struct Args {
    /// The directory or file, in the shared folder; the whole share if not given.
    path: Option<PathBuf>,
    /// Print one JSON object for each entry.
    #[arg(long)]
    json: bool,
}

/// Prints page after page; exit 1 if there is no such path in the share.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let home = Home::from_env().map_err(|error| hinted(error.hint(), error))?;
    let (socket, path) = place(&home, args.path.as_deref())?;
    let mut after = None;
    loop {
        let request = Request::Ls {
            path: path.clone(),
            after,
            limit: LIST_MAX,
        };
        let entries = match ask(&socket, &request)? {
            Reply::Ls { entries } => entries,
            Reply::NoSuchPath => {
                complain(&format!("{path} is not in the share"));
                return Ok(ExitCode::from(1));
            }
            Reply::Refused { reason } => return Err(anyhow!(reason)),
            Reply::Status { .. }
            | Reply::Ticket { .. }
            | Reply::Confirmed { .. }
            | Reply::Scrub { .. }
            | Reply::Limited
            | Reply::Stopping => return Err(strange()),
        };
        for entry in &entries {
            say(&if args.json {
                json!(entry).to_string()
            } else {
                words(entry)
            });
        }
        match entries.last() {
            Some(last) if entries.len() == LIST_MAX => after = Some(last.name.clone()),
            Some(_) | None => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// The socket of the share, and the path inside it. Without a path: the place in the share where
/// the user stands, or else the only share that runs.
fn place(home: &Home, path: Option<&Path>) -> anyhow::Result<(PathBuf, Exact)> {
    let here = path.unwrap_or(Path::new("."));
    let (socket, share) = match (find_one(home, Some(here)), path) {
        (Ok(found), _) => found,
        (Err(_), None) => return Ok((find_one(home, None)?.0, Exact(Vec::new()))),
        (Err(error), Some(_)) => return Err(error),
    };
    let root = PathBuf::from(share.root);
    let whole = whole_path(here);
    let below = whole.strip_prefix(&root).map_err(|_| {
        anyhow!("{} is not below {}", whole.display(), root.display())
            .context(Hint("name a path in the shared folder".into()))
    })?;
    Ok((socket, Exact(below.as_os_str().as_bytes().to_vec())))
}

fn words(entry: &Entry) -> String {
    let (kind, mark) = match entry.kind {
        EntryKind::Directory => ('d', "/"),
        EntryKind::File => ('-', ""),
        EntryKind::Link => ('l', ""),
    };
    let here = if entry.here { "" } else { "  (on its way)" };
    let target = entry
        .target
        .as_ref()
        .map_or_else(String::new, |to| format!(" -> {to}"));
    format!(
        "{kind}{} {:>13} {} {}{mark}{target}{here}",
        mode_words(entry),
        entry.size,
        time_words(entry),
        entry.name
    )
}

fn mode_words(entry: &Entry) -> String {
    if entry.kind == EntryKind::Link {
        return "rwxrwxrwx".into();
    }
    let bit = |n: u32, letter: char| {
        if entry.mode >> n & 1 == 1 {
            letter
        } else {
            '-'
        }
    };
    let special = |at: u32, run: u32, both: char, alone: char| match (
        entry.mode >> at & 1,
        entry.mode >> run & 1,
    ) {
        (1, 1) => both,
        (1, _) => alone,
        _ => bit(run, 'x'),
    };
    [
        bit(8, 'r'),
        bit(7, 'w'),
        special(11, 6, 's', 'S'),
        bit(5, 'r'),
        bit(4, 'w'),
        special(10, 3, 's', 'S'),
        bit(2, 'r'),
        bit(1, 'w'),
        special(9, 0, 't', 'T'),
    ]
    .iter()
    .collect()
}

fn time_words(entry: &Entry) -> String {
    match Timestamp::new(
        entry.mtime_secs,
        i32::try_from(entry.mtime_nanos).unwrap_or(0),
    ) {
        Ok(at) => at
            .to_zoned(TimeZone::system())
            .strftime("%Y-%m-%d %H:%M")
            .to_string(),
        Err(_) => format!("{:>16}", entry.mtime_secs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: EntryKind, mode: u16) -> Entry {
        Entry {
            name: Exact(b"a\x1b".to_vec()),
            kind,
            size: 12,
            mode,
            mtime_secs: 0,
            mtime_nanos: 0,
            target: (kind == EntryKind::Link).then(|| Exact(b"b\n".to_vec())),
            here: false,
        }
    }

    #[test]
    fn modes_look_as_ls_shows_them() {
        let check = |mode, want: &str| assert_eq!(mode_words(&entry(EntryKind::File, mode)), want);
        check(0o644, "rw-r--r--");
        check(0o755, "rwxr-xr-x");
        check(0o4755, "rwsr-xr-x");
        check(0o2640, "rw-r-S---");
        check(0o1777, "rwxrwxrwt");
    }

    #[test]
    fn names_cannot_move_the_cursor() {
        let text = words(&entry(EntryKind::Link, 0));
        assert!(text.ends_with("a\\u{1b} -> b\\n  (on its way)"), "{text}");
        let far = Entry {
            mtime_secs: i64::MAX,
            ..entry(EntryKind::File, 0)
        };
        assert!(words(&far).contains(&i64::MAX.to_string()));
    }
}
