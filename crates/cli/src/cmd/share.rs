//! `ahoy share`: makes a folder the first copy of a share, or goes on with it, and prints a ticket.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ahoy_host::sync::home::{Home, TrackerChoice};
use ahoy_wire::ticket::{ShareName, TrackerAddress};

use crate::live::{self, TicketWish, hinted};

/// Share a folder: print a ticket for other devices, and keep the folder in sync until stopped.
#[derive(clap::Args)]
pub struct Args {
    /// The folder.
    dir: PathBuf,
    /// Call the share this; the name of the folder if not given.
    #[arg(long, value_name = "NAME", value_parser = share_name)]
    name: Option<ShareName>,
    /// Let the devices find each other through the tracker at HOST:PORT, instead of one that runs
    /// inside this process; remembered for this folder.
    #[arg(long, value_name = "ADDR", value_parser = tracker_address)]
    tracker: Option<TrackerAddress>,
    /// Print a ticket that lets others read but not change.
    #[arg(long)]
    read_only_ticket: bool,
    #[command(flatten)]
    live: live::Foreground,
}

/// Runs until stopped.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let home = Home::from_env().map_err(|error| hinted(error.hint(), error))?;
    let mut claim = home
        .share(&args.dir, args.name)
        .map_err(|error| hinted(error.hint(), error))?;
    warn_of_wide_root(claim.root());
    if let Some(tracker) = args.tracker {
        claim.record.tracker = TrackerChoice::Named(vec![tracker]);
    }
    args.live.keep_in(&mut claim)?;
    let wish = if args.read_only_ticket {
        TicketWish::ReadOnly
    } else {
        TicketWish::Best
    };
    live::run(&home, vec![claim], &args.live, wish)
}

/// Whoever shares everything should know it.
fn warn_of_wide_root(root: &Path) {
    let user_home = std::env::home_dir().and_then(|home| home.canonicalize().ok());
    if root.parent().is_none() || Some(root) == user_home.as_deref() {
        eprintln!(
            "Warning: {} holds keys, caches and settings of this device",
            root.display()
        );
        eprintln!("Hint: share a folder inside it instead");
    }
}

fn share_name(text: &str) -> Result<ShareName, String> {
    ShareName::new(text).ok_or_else(|| {
        format!(
            "a name has 1 to {} bytes and no control characters",
            ShareName::BYTES_MAX
        )
    })
}

/// For clap.
pub fn tracker_address(text: &str) -> Result<TrackerAddress, String> {
    TrackerAddress::new(text).ok_or_else(|| "expected HOST:PORT".to_owned())
}
