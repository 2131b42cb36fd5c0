//! The classic dialect on the tracker's port: its options, and its notes in words.

use std::time::Duration;

use ahoy_logic::classic::{LeftCause, TrackerNote, TrackerOptions};
use serde_json::json;

use super::{Args, Line};

/// The limits of connections are the same for both dialects.
pub(super) fn options(args: &Args) -> TrackerOptions {
    let mut options = TrackerOptions {
        timeout: Duration::from_secs(args.classic_timeout.into()),
        ..TrackerOptions::default()
    };
    options.limits.connections_max = args.connections as usize;
    options.limits.connections_per_source_max = args.per_source as usize;
    options
}

/// What a user would notice: who came and who went, and with what.
pub(super) const fn is_notable(note: &TrackerNote) -> bool {
    match note {
        TrackerNote::Joined { .. } | TrackerNote::Announced { .. } | TrackerNote::Left { .. } => {
            true
        }
        TrackerNote::Dropped { .. } => false,
    }
}

/// The note as a line of the log.
pub(super) fn line(note: &TrackerNote) -> Line {
    match note {
        TrackerNote::Joined { peer } => Line {
            text: format!("Joined  classic peer {peer}"),
            json: json!({"event": "classic-joined", "peer": peer.to_string()}),
        },
        TrackerNote::Announced {
            peer,
            files,
            left_out,
        } => Line {
            text: match left_out {
                0 => format!("Files   classic peer {peer}: {files}"),
                _ => format!("Files   classic peer {peer}: {files}, {left_out} left out"),
            },
            json: json!({
                "event": "classic-announced", "peer": peer.to_string(), "files": files,
                "left_out": left_out,
            }),
        },
        TrackerNote::Left { peer, cause } => {
            let (why, word) = match cause {
                LeftCause::Silent => ("it fell silent", "silent"),
                LeftCause::Moved => ("it has another port now", "moved"),
            };
            Line {
                text: format!("Left    classic peer {peer}: {why}"),
                json: json!({
                    "event": "classic-left", "peer": peer.to_string(), "cause": word,
                }),
            }
        }
        TrackerNote::Dropped { from, why } => Line {
            text: format!("Dropped classic connection from {from}: {why}"),
            json: json!({
                "event": "classic-dropped", "from": from.to_string(), "reason": why.to_string(),
            }),
        },
    }
}
