//! `ahoy tracker`: the tracker alone, for shares whose peers are not always at the same place.
//!
//! The same port serves swarms of the classic dialect, unless that is switched off ([`classic`]).
//! Binds, prints where, and prints who comes and goes. What is decided about them is in
//! `logic::tracker`.

mod classic;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use ahoy_host::classic::serve_tracker;
use ahoy_host::drive::Sockets;
use ahoy_host::{descriptors, listen, runtime, stop, tracker};
use ahoy_logic::classic::PortNote;
use ahoy_logic::tracker::{LeftCause, Note, Options};
use ahoy_wire::peer::PeerId;
use ahoy_wire::tracker::{PORT_DEFAULT, ShareId};
use anyhow::Context;
use serde_json::{Value, json};

use super::{Hint, Misuse, say};
use crate::{printer, words};

/// Tell the peers of shares where the others are; hold none of their files.
#[derive(clap::Args)]
pub struct Args {
    /// Listen here, as ADDRESS:PORT, an address or a port; port 0 takes any free one [default: port
    /// 7447 of all addresses].
    #[arg(long, value_name = "ADDR", env = "AHOY_TRACKER_LISTEN")]
    listen: Option<String>,
    /// Forget a peer that was not heard for so long, in seconds.
    #[arg(long, value_name = "SECS", default_value_t = 30, env = "AHOY_TRACKER_TIMEOUT",
          value_parser = clap::value_parser!(u16).range(1..))]
    timeout: u16,
    /// Keep at most this many connections.
    #[arg(long, value_name = "N", default_value_t = 8192, env = "AHOY_TRACKER_CONNECTIONS",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Keep at most this many connections from one IPv4 address or IPv6 /64.
    #[arg(long, value_name = "N", default_value_t = 256, env = "AHOY_TRACKER_PER_SOURCE",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    per_source: u32,
    /// Serve the tracker of shares only, not the classic JSON dialect as well.
    #[arg(long, env = "AHOY_TRACKER_NO_CLASSIC")]
    no_classic: bool,
    /// Forget a classic peer and its files when it was not heard for so long, in seconds.
    #[arg(long, value_name = "SECS", default_value_t = 180, env = "AHOY_TRACKER_CLASSIC_TIMEOUT",
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    classic_timeout: u32,
    /// Print one JSON object a line.
    #[arg(long, env = "AHOY_TRACKER_JSON")]
    json: bool,
    /// Also print what peers hold, and which announcements and connections were refused.
    #[arg(long, short, env = "AHOY_TRACKER_VERBOSE")]
    verbose: bool,
}

/// Serves until SIGINT or SIGTERM.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut options = Options {
        timeout: Duration::from_secs(args.timeout.into()),
        ..Options::default()
    };
    options.limits.connections_max = args.connections as usize;
    options.limits.connections_per_source_max = args.per_source as usize;
    let listener = match &args.listen {
        Some(text) => bind(parse_listen(text)?)?,
        None => bind_default()?,
    };
    descriptors::raise();
    let address = listener.local_addr()?;
    printer::detach().context("no thread to print with")?;
    let (as_json, verbose) = (args.json, args.verbose);
    let on_note = move |note: Note| {
        if verbose || is_notable(&note) {
            print(line(&note), as_json);
        }
    };
    let sockets = Sockets {
        listeners: vec![listener],
        ..Sockets::default()
    };
    let service = async {
        // Whoever reads that we listen may send a signal at once.
        let stop = stop::requested()?;
        print(listening(address), as_json);
        if args.no_classic {
            return tracker::serve(options, sockets, Box::new(on_note), stop).await;
        }
        let on_note = move |note: PortNote| match note {
            PortNote::Shares(note) => on_note(note),
            PortNote::Classic(note) if verbose || classic::is_notable(&note) => {
                print(classic::line(&note), as_json);
            }
            PortNote::Classic(_) => {}
        };
        let classic_options = classic::options(&args);
        serve_tracker(options, classic_options, sockets, Box::new(on_note), stop).await
    };
    runtime::block_on(service)
        .flatten()
        .context("the tracker broke down")?;
    let stopped = Line {
        text: "Stopped".to_owned(),
        json: json!({"event": "stopped"}),
    };
    print(stopped, as_json);
    Ok(ExitCode::SUCCESS)
}

/// An address with port, an address, or a port.
fn parse_listen(text: &str) -> anyhow::Result<SocketAddr> {
    let ip = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = text.parse::<SocketAddr>() {
        Ok(address)
    } else if let Ok(ip) = ip.parse::<IpAddr>() {
        Ok((ip, PORT_DEFAULT).into())
    } else if let Ok(port) = text.trim_start_matches(':').parse::<u16>() {
        Ok((Ipv6Addr::UNSPECIFIED, port).into())
    } else {
        Err(
            anyhow::Error::new(Misuse(format!("cannot listen on {text:?}"))).context(Hint(
                "write --listen ADDRESS:PORT, for instance 0.0.0.0:7447 or [::]:7447".to_owned(),
            )),
        )
    }
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    listen::tcp(address, listen::BACKLOG_DEFAULT).map_err(|error| explain(address, error))
}

/// All addresses of both families, or of IPv4 where there is no IPv6.
fn bind_default() -> anyhow::Result<TcpListener> {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT_DEFAULT));
    match listen::tcp(both, listen::BACKLOG_DEFAULT) {
        Ok(listener) => Ok(listener),
        Err(error)
            if [ErrorKind::AddrInUse, ErrorKind::PermissionDenied].contains(&error.kind()) =>
        {
            Err(explain(both, error))
        }
        Err(_) => bind((Ipv4Addr::UNSPECIFIED, PORT_DEFAULT).into()),
    }
}

fn explain(address: SocketAddr, error: std::io::Error) -> anyhow::Error {
    let kind = error.kind();
    let hint = if kind == ErrorKind::AddrInUse {
        format!(
            "another program, perhaps another tracker, listens on port {}; choose one with \
             --listen PORT, or 0 for any free one",
            address.port()
        )
    } else if kind == ErrorKind::PermissionDenied {
        "choose a port above 1023 with --listen PORT".to_owned()
    } else if kind == ErrorKind::AddrNotAvailable {
        "this machine has no such address; leave --listen out for all it has".to_owned()
    } else {
        "choose another address with --listen ADDRESS:PORT".to_owned()
    };
    anyhow::Error::new(error)
        .context(format!("cannot listen on {address}"))
        .context(Hint(hint))
}

/// One line of the log, in both forms.
struct Line {
    text: String,
    json: Value,
}

fn listening(address: SocketAddr) -> Line {
    Line {
        text: format!("Tracker listening on {address}"),
        json: json!({"event": "listening", "address": address.to_string()}),
    }
}

/// What a user would notice: who came and who went.
const fn is_notable(note: &Note) -> bool {
    match note {
        Note::Joined { .. } | Note::Left { .. } => true,
        Note::Holds { .. } | Note::Refused { .. } | Note::Dropped { .. } => false,
    }
}

fn line(note: &Note) -> Line {
    match note {
        Note::Joined {
            share,
            peer,
            seen,
            addresses,
        } => Line {
            text: format!(
                "Joined  share {} peer {} from {seen}, {addresses} address(es)",
                share.short(),
                peer.short()
            ),
            json: json!({
                "event": "joined", "share": share.to_string(), "peer": peer.to_string(),
                "seen": seen.to_string(), "addresses": addresses,
            }),
        },
        Note::Holds {
            share,
            peer,
            files,
            bytes,
        } => holds(share, peer, *files, *bytes),
        Note::Left { share, peer, cause } => Line {
            text: format!(
                "Left    share {} peer {}: {}",
                share.short(),
                peer.short(),
                text(*cause)
            ),
            json: json!({
                "event": "left", "share": share.to_string(), "peer": peer.to_string(),
                "cause": name(*cause),
            }),
        },
        Note::Refused {
            share,
            peer,
            refusal,
        } => Line {
            text: format!(
                "Refused share {} peer {}: {refusal}",
                share.short(),
                peer.short()
            ),
            json: json!({
                "event": "refused", "share": share.to_string(), "peer": peer.to_string(),
                "reason": refusal.to_string(),
            }),
        },
        Note::Dropped { from, fault } => Line {
            text: format!("Dropped connection from {from}: {fault}"),
            json: json!({
                "event": "dropped", "from": from.to_string(), "reason": fault.to_string(),
            }),
        },
    }
}

fn holds(share: &ShareId, peer: &PeerId, files: u64, bytes: u64) -> Line {
    Line {
        text: format!(
            "Holds   share {} peer {}: {}, {}",
            share.short(),
            peer.short(),
            words::counted(files, "file", "files"),
            words::bytes(bytes)
        ),
        json: json!({
            "event": "holds", "share": share.to_string(), "peer": peer.to_string(),
            "files": files, "bytes": bytes,
        }),
    }
}

const fn text(cause: LeftCause) -> &'static str {
    match cause {
        LeftCause::Said => "it said goodbye",
        LeftCause::ConnectionEnded => "its connection ended",
        LeftCause::Silent => "it fell silent",
        LeftCause::Crowded => "it had to make room",
    }
}

const fn name(cause: LeftCause) -> &'static str {
    match cause {
        LeftCause::Said => "goodbye",
        LeftCause::ConnectionEnded => "connection-ended",
        LeftCause::Silent => "silent",
        LeftCause::Crowded => "crowded",
    }
}

/// Prints a line with the time, in the form that was asked for.
fn print(line: Line, as_json: bool) {
    let Line { text, mut json } = line;
    if as_json {
        json["time"] = Value::String(jiff::Timestamp::now().to_string());
        say(&json.to_string());
    } else {
        let now = jiff::Zoned::now();
        say(&format!("{} {text}", now.strftime("%Y-%m-%d %H:%M:%S")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let parsed = parse_listen(text).map(|address| address.to_string());
        assert_eq!(parsed.ok().as_deref(), Some(expected), "{text}");
    }

    #[test]
    fn where_to_listen_may_be_said_in_several_ways() {
        check("0.0.0.0:1", "0.0.0.0:1");
        check("[::1]:1", "[::1]:1");
        check("127.0.0.1", "127.0.0.1:7447");
        check("[::1]", "[::1]:7447");
        check("::1", "[::1]:7447");
        check("8000", "[::]:8000");
        check(":8000", "[::]:8000");
        for wrong in ["", "localhost:70000", "1.2.3", "99999"] {
            let error = parse_listen(wrong).expect_err(wrong);
            assert!(error.downcast_ref::<Misuse>().is_some(), "{wrong}");
            assert!(error.downcast_ref::<Hint>().is_some(), "{wrong}");
        }
    }
}
