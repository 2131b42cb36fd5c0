//! `ahoy status`: how the shares of this device stand, asked over their control sockets.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ahoy_host::confine::Confinement;
use ahoy_host::sync::home::{Home, ShareRecord};
use ahoy_host::sync::status::{Snapshot, Traffic, running};
use anyhow::anyhow;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::{Hint, complain, explain, say};
use crate::live::hinted;
use crate::live::lines::{limit_words, notice_words, plain, progress_words};
use crate::words::{bytes, counted};

/// A process with this niceness has stepped back for everybody.
const NICENESS_BACKGROUND: i32 = 19;

/// Notices that are shown; `--json` has all.
const NOTICES_SHOWN: usize = 5;

/// Say how the shared folders of this device stand; exit 1 if none is being synced.
#[derive(clap::Args)]
pub struct Args {
    /// Only this folder, or the one it is inside.
    dir: Option<PathBuf>,
    /// Print one JSON object with everything that is known.
    #[arg(long)]
    json: bool,
}

/// Prints all shares: those that run, then those that do not.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let home = Home::from_env().map_err(|error| hinted(error.hint(), error))?;
    let found = find(&home, args.dir.as_deref())?;
    let asleep = asleep(&home, args.dir.as_deref(), &found)?;
    if args.json {
        let awake = found.iter().map(|(_, share)| json!(share));
        let asleep = asleep.iter().map(|record| {
            json!({
                "name": record.name.as_str(),
                "root": ahoy_host::sync::exact::Exact::from(record.root.as_path()),
                "state": "not_running",
            })
        });
        let shares: Vec<_> = awake.chain(asleep).collect();
        say(&json!({ "shares": shares }).to_string());
    } else {
        for (_, share) in &found {
            print(share);
        }
        for record in &asleep {
            say(&format!("{}  not running", plain(record.name.as_str())));
            say(&format!(
                "  folder     {}",
                plain(&record.root.to_string_lossy())
            ));
        }
        if found.is_empty() && asleep.is_empty() {
            say("no shared folders");
        }
    }
    Ok(if found.is_empty() {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

/// The shares that run, with their sockets; only the one around `dir` if given. Those that give no
/// answer are reported on standard error.
pub fn find(home: &Home, dir: Option<&Path>) -> anyhow::Result<Vec<(PathBuf, Snapshot)>> {
    let all = running(home).map_err(|error| hinted(error.hint(), error))?;
    let wanted = dir.map(whole_path);
    let mut found = Vec::new();
    for (socket, answer) in all {
        match answer {
            Ok(share) if is_wanted(wanted.as_deref(), &PathBuf::from(share.root.clone())) => {
                found.push((socket, share));
            }
            Ok(_) => {}
            Err(error) => complain(explain(&error.into()).trim_end()),
        }
    }
    found.sort_by(|(_, a), (_, b)| (&a.name, &a.root).cmp(&(&b.name, &b.root)));
    Ok(found)
}

/// The one share around `dir`, or the only one that runs.
pub fn find_one(home: &Home, dir: Option<&Path>) -> anyhow::Result<(PathBuf, Snapshot)> {
    let mut found = find(home, dir)?;
    if found.len() > 1 {
        // Of folders inside each other, the innermost.
        found.sort_by_key(|(_, share)| std::cmp::Reverse(share.root.0.len()));
        if dir.is_none() {
            let roots: Vec<_> = found
                .iter()
                .map(|(_, share)| share.root.to_string())
                .collect();
            let hint = Hint(format!("name one: {}", roots.join(", ")));
            return Err(anyhow!("several folders are being synced").context(hint));
        }
    }
    if let Some(first) = found.into_iter().next() {
        return Ok(first);
    }
    let (what, hint) = match dir {
        Some(dir) => (
            format!("{} is in no folder that is being synced", dir.display()),
            "`ahoy status` lists those that are".to_owned(),
        ),
        None => (
            "no folder is being synced".to_owned(),
            "start with `ahoy share DIR`, `ahoy join TICKET` or `ahoy sync DIR`".to_owned(),
        ),
    };
    Err(anyhow!(what).context(Hint(hint)))
}

/// A running share did not answer what it was asked.
pub fn strange() -> anyhow::Error {
    anyhow!("the running ahoy answers strangely").context(Hint("is it another version?".into()))
}

/// Absolute and without links, as far as it exists.
pub fn whole_path(path: &Path) -> PathBuf {
    if let Ok(whole) = path.canonicalize() {
        return whole;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if parent.as_os_str().is_empty() => {
            whole_path(Path::new(".")).join(name)
        }
        (Some(parent), Some(name)) => whole_path(parent).join(name),
        (None, _) | (_, None) => path.to_owned(),
    }
}

/// Records of shares that do not run.
fn asleep(
    home: &Home,
    dir: Option<&Path>,
    found: &[(PathBuf, Snapshot)],
) -> anyhow::Result<Vec<ShareRecord>> {
    let wanted = dir.map(whole_path);
    let mut asleep = Vec::new();
    for record in home
        .records()
        .map_err(|error| hinted(error.hint(), error))?
    {
        match record {
            Ok(record) => {
                let awake = found
                    .iter()
                    .any(|(_, s)| s.replica == format!("{:016x}", record.replica.0));
                if !awake && record.indexed && is_wanted(wanted.as_deref(), &record.root) {
                    asleep.push(record);
                }
            }
            Err(error) => complain(explain(&hinted(error.hint(), error)).trim_end()),
        }
    }
    Ok(asleep)
}

fn is_wanted(wanted: Option<&Path>, root: &Path) -> bool {
    wanted.is_none_or(|dir| dir.starts_with(root))
}

fn print(share: &Snapshot) {
    let line = |what: &str, text: String| say(&format!("  {what:<10} {text}"));
    say(&format!(
        "{}  {}",
        plain(&share.name),
        plain(&share.state.words())
    ));
    line("folder", share.root.to_string());
    let rights = if share.may_write {
        "reading and writing"
    } else {
        "reading only"
    };
    let short: String = share.device.chars().take(8).collect();
    line(
        "device",
        format!("{} ({short}), {rights}", plain(&share.label)),
    );
    let files = counted(share.files, "file", "files");
    let directories = counted(share.directories, "directory", "directories");
    line(
        "content",
        format!("{files}, {directories}, {}", bytes(share.bytes)),
    );
    if share.todo.files > 0 || share.todo.bytes > 0 {
        line("to do", progress_words(share));
    }
    let connected = share.peers.iter().filter(|peer| peer.connected).count();
    line(
        "peers",
        format!("{connected} of {} connected", share.peers.len()),
    );
    for tracker in &share.trackers {
        let whose = if tracker.embedded {
            " (in this process)"
        } else {
            ""
        };
        let up = match (&tracker.reason, tracker.up) {
            (_, true) => "up".to_owned(),
            (Some(reason), false) => format!("down: {}", plain(reason)),
            (None, false) => "not reached yet".to_owned(),
        };
        line(
            "tracker",
            format!("{}{whose}, {up}", plain(&tracker.address)),
        );
    }
    let listen: Vec<_> = share.listen.iter().map(ToString::to_string).collect();
    line("listening", listen.join(", "));
    let Traffic { sent, received } = share.traffic;
    line(
        "traffic",
        format!("{} sent, {} received", bytes(sent), bytes(received)),
    );
    if let Some(words) = limit_words(&share.limits) {
        line("speed", words);
    }
    if let Some(words) = priority_words(share.niceness) {
        line("priority", words);
    }
    line("confined", confined_words(&share.confinement));
    let skipped = share.notices.len().saturating_sub(NOTICES_SHOWN);
    for notice in &share.notices[skipped..] {
        line(
            "notice",
            format!("{} {}", clock_time(notice.at_secs), notice_words(notice)),
        );
    }
}

/// Whether it stands back for others.
fn priority_words(niceness: i32) -> Option<String> {
    match niceness {
        NICENESS_BACKGROUND.. => Some("in the background".to_owned()),
        0 => None,
        other => Some(format!("niceness {other}")),
    }
}

/// What else the process could open, if somebody made it try.
fn confined_words(level: &Confinement) -> String {
    match level {
        Confinement::On { version } => {
            format!("to its folders and state, by Landlock (version {version})")
        }
        Confinement::Off { reason } => format!("not by the kernel: {}", plain(reason)),
    }
}

/// A moment in the user's own time.
fn clock_time(at_secs: u64) -> String {
    let at = i64::try_from(at_secs)
        .ok()
        .and_then(|secs| Timestamp::from_second(secs).ok());
    at.map_or_else(String::new, |at| {
        at.to_zoned(TimeZone::system())
            .strftime("%Y-%m-%d %H:%M")
            .to_string()
    })
}
