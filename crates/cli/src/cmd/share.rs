//! `ahoy share`: makes a folder the first copy of a share, or goes on with it, and prints a ticket.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ahoy_host::sync::home::{Home, TrackerChoice};
use ahoy_wire::ticket::{ShareName, TrackerAddress};
use ahoy_wire::tracker::PORT_DEFAULT;

use super::complain;
use crate::live::{self, TicketWish, hinted};

/// Share a folder: print a ticket for other devices, and keep the folder in sync until stopped.
#[derive(clap::Args)]
pub struct Args {
    /// The folder; what .ahoyignore in it names, in the patterns of .gitignore, is left out.
    dir: PathBuf,
    /// Call the share this; the name of the folder if not given.
    #[arg(long, value_name = "NAME", env = "AHOY_SHARE_NAME", value_parser = share_name)]
    name: Option<ShareName>,
    /// Let the devices find each other through the tracker at HOST:PORT, instead of one that runs
    /// inside this process; remembered for this folder.
    #[arg(long, value_name = "ADDR", env = "AHOY_SHARE_TRACKER", value_parser = tracker_address)]
    tracker: Option<TrackerAddress>,
    /// Print a ticket that lets others read but not change.
    #[arg(long, env = "AHOY_SHARE_READ_ONLY_TICKET")]
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
        complain(&format!(
            "Warning: {} holds keys, caches and settings of this device\n\
             Hint: share a folder inside it instead",
            root.display()
        ));
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

/// `HOST:PORT`, or a host where a tracker has its usual port.
fn tracker_address(text: &str) -> Result<TrackerAddress, String> {
    let with_port = || TrackerAddress::new(&format!("{text}:{PORT_DEFAULT}"));
    TrackerAddress::new(text)
        .or_else(with_port)
        .ok_or_else(|| "expected HOST:PORT".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracker_may_be_named_without_its_port() {
        let check = |text: &str, want: &str| {
            assert_eq!(tracker_address(text).expect(text).as_str(), want);
        };
        check("tracker.example", "tracker.example:7447");
        check("tracker.example:1", "tracker.example:1");
        check("192.0.2.1", "192.0.2.1:7447");
        check("[2001:db8::1]", "[2001:db8::1]:7447");
        for bad in ["", ":", "a:b", "2001:db8::1", "a b"] {
            assert!(tracker_address(bad).is_err(), "{bad}");
        }
    }
}
