//! `ahoy peers`: the other devices of the shares that run, asked over their control sockets.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ahoy_host::sync::home::Home;
use ahoy_host::sync::status::Peer;
use serde_json::json;

use super::say;
use super::status::find;
use crate::live::hinted;
use crate::live::lines::plain;
use crate::words::{counted, span};

/// List the other devices of the shared folders; exit 1 if no folder is being synced.
#[derive(clap::Args)]
pub struct Args {
    /// Only those of this folder, or of the one it is inside.
    dir: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Prints a line for each peer of each share.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let home = Home::from_env().map_err(|error| hinted(error.hint(), error))?;
    let found = find(&home, args.dir.as_deref())?;
    if args.json {
        let shares = found.iter().map(
            |(_, share)| json!({"name": share.name, "root": share.root, "peers": share.peers}),
        );
        say(&json!({"shares": shares.collect::<Vec<_>>()}).to_string());
    } else {
        for (_, share) in &found {
            say(&format!("{}  {}", plain(&share.name), share.root));
            for peer in &share.peers {
                say(&format!("  {}", words(peer)));
            }
            if share.peers.is_empty() {
                say("  nobody yet: give a ticket to another device");
            }
        }
        if found.is_empty() {
            say("no folder is being synced");
        }
    }
    Ok(if found.is_empty() {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

fn words(peer: &Peer) -> String {
    let label = if peer.label.is_empty() {
        "?".to_owned()
    } else {
        plain(&peer.label)
    };
    let address = peer
        .address
        .map_or_else(|| "-".into(), |address| address.to_string());
    let rights = match peer.may_write {
        Some(true) => "may write",
        Some(false) => "reads only",
        None => "not met yet",
    };
    let state = match (peer.connected, peer.behind, peer.seen_at_secs) {
        (true, Some(0), _) => "connected, has everything".to_owned(),
        (true, Some(behind), _) => {
            format!("connected, {} behind", counted(behind, "change", "changes"))
        }
        (true, None, _) => "connected".to_owned(),
        (false, _, Some(at)) => format!("last seen {} ago", ago(at)),
        (false, _, None) => "never seen".to_owned(),
    };
    format!(
        "{label:<20} {}  {address:<24} {rights:<11} {state}",
        plain(&peer.short)
    )
}

fn ago(at_secs: u64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    span(now.saturating_sub(Duration::from_secs(at_secs)))
}
