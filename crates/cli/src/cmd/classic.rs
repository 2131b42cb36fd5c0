//! `ahoy classic`: a peer of a classic file-share swarm.
//!
//! Opens the folder, binds a port, prints what happens. What to fetch is decided in
//! `logic::classic`, how, in `host::classic`. On a terminal a live line shows what is under way.

use std::collections::BTreeMap;
use std::io::{ErrorKind, IsTerminal, stdout};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ahoy_host::classic::{ClassicPeer, Folder, FolderError, PeerConfig, PeerNote};
use ahoy_host::{descriptors, listen, signals};
use ahoy_logic::classic::{PeerEvent, PeerOptions, PeerSnapshot};
use ahoy_wire::classic::{FileName, PEER_PORT_FIRST};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::{Hint, host_and_port, resolve, say};
use crate::printer;
use crate::words::{bytes, counted};

/// Ports that are tried, from the first one on.
const PORTS_MAX: u16 = 1000;

/// How long the end may take; only a held terminal makes it longer than a moment.
const STOP_MAX: Duration = Duration::from_secs(30);

/// Share the files of a folder with a classic swarm: one tracker, peers of any make.
#[derive(clap::Args)]
pub struct Args {
    /// The tracker's address.
    tracker_ip: String,
    /// The tracker's port.
    tracker_port: u16,
    /// The folder to share.
    #[arg(
        long,
        value_name = "DIR",
        default_value = ".",
        env = "AHOY_CLASSIC_DIR"
    )]
    dir: PathBuf,
    /// Serve files on this port; 0 for any free one [default: the first free one from 8000].
    #[arg(long, value_name = "PORT", env = "AHOY_CLASSIC_PORT")]
    port: Option<u16>,
    /// Serve files on this address only [default: all].
    #[arg(long, value_name = "ADDR", env = "AHOY_CLASSIC_BIND")]
    bind: Option<IpAddr>,
    /// After connecting, ask the tracker for the first time after so long, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 2_000, env = "AHOY_CLASSIC_FIRST_SYNC_MS",
          value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    first_sync_ms: u64,
    /// Then ask again each time after so long, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 5_000, env = "AHOY_CLASSIC_INTERVAL_MS",
          value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    interval_ms: u64,
    /// Keep files whose names end like this out of it, beside .so, .py and .dll; may be repeated.
    #[arg(
        long,
        value_name = "ENDING",
        env = "AHOY_CLASSIC_EXCLUDE",
        value_delimiter = ','
    )]
    exclude: Vec<String>,
    /// Fetch at most so many files at a time.
    #[arg(long, value_name = "N", default_value_t = 8, env = "AHOY_CLASSIC_FETCHES",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    fetches: u16,
    /// Make at most so many connections to other peers each second.
    #[arg(long, value_name = "N", default_value_t = 200, env = "AHOY_CLASSIC_CONNECTIONS",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections_per_second: u32,
    /// Fetch no file longer than this, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 30, env = "AHOY_CLASSIC_FILE_MAX",
          value_parser = clap::value_parser!(u64).range(1..=1 << 44))]
    file_max: u64,
    /// Print one JSON object a line.
    #[arg(long, env = "AHOY_CLASSIC_JSON")]
    json: bool,
}

/// Shares until SIGINT or SIGTERM.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let tracker = resolve(&host_and_port(&args.tracker_ip, args.tracker_port))?;
    let folder = Folder::open(&args.dir).map_err(|error| explain_folder(&args, error))?;
    let listener = bind(&args)?;
    let address = listener.local_addr()?;
    let options = PeerOptions {
        first_sync: Duration::from_millis(args.first_sync_ms),
        interval: Duration::from_millis(args.interval_ms),
        fetches_max: args.fetches.into(),
        exclude: args.exclude.clone(),
        file_bytes_max: args.file_max,
        ..PeerOptions::default()
    };
    let peer = ClassicPeer::new(PeerConfig {
        tracker,
        folder,
        listener,
        options,
        connections_per_second: args.connections_per_second,
    })?;
    let mut screen = Screen::new(args.json);
    if screen.bar.is_none() {
        printer::detach().context("no thread to print with")?;
    }
    let stop = peer.stop_handle();
    let asked = move || {
        stop.stop();
        printer::insist(STOP_MAX);
    };
    signals::on_request_to_end(asked).context("cannot wait for signals")?;
    descriptors::raise();
    screen.print(Line {
        text: format!(
            "Sharing {} on port {} by the tracker at {tracker}",
            args.dir.display(),
            address.port()
        ),
        json: json!({
            "event": "sharing", "dir": args.dir.display().to_string(), "port": address.port(),
            "tracker": tracker.to_string(),
        }),
    });
    peer.run(|note, now| screen.show(note, now))
        .context("the peer broke down")?;
    screen.finish();
    Ok(ExitCode::SUCCESS)
}

fn explain_folder(args: &Args, error: FolderError) -> anyhow::Error {
    let hint = match &error {
        FolderError::Busy => "stop the other one, or share another folder with --dir",
        FolderError::System(_) => "--dir wants an existing folder that you may read and write",
    };
    anyhow::Error::new(error)
        .context(format!("cannot share {}", args.dir.display()))
        .context(Hint(hint.to_owned()))
}

/// The port that was asked for, or the first free one, of all addresses unless one was given.
fn bind(args: &Args) -> anyhow::Result<TcpListener> {
    let ports = match args.port {
        Some(port) => port..=port,
        None => PEER_PORT_FIRST..=PEER_PORT_FIRST + PORTS_MAX - 1,
    };
    let mut last = None;
    for port in ports {
        match bind_at(args.bind, port) {
            Ok(listener) => return Ok(listener),
            Err(error) => {
                let goes_on = error.kind() == ErrorKind::AddrInUse;
                last = Some((port, error));
                if !goes_on {
                    break;
                }
            }
        }
    }
    let (port, error) = last.context("no port to try")?;
    let hint = "choose another with --port, 0 for any free one, or another address with --bind";
    Err(anyhow::Error::new(error)
        .context(format!("cannot serve files on port {port}"))
        .context(Hint(hint.to_owned())))
}

fn bind_at(ip: Option<IpAddr>, port: u16) -> std::io::Result<TcpListener> {
    let at = |ip: IpAddr| listen::tcp(SocketAddr::new(ip, port), listen::BACKLOG_DEFAULT);
    if let Some(ip) = ip {
        return at(ip);
    }
    match at(Ipv6Addr::UNSPECIFIED.into()) {
        Err(error) if error.kind() != ErrorKind::AddrInUse => at(Ipv4Addr::UNSPECIFIED.into()),
        bound => bound,
    }
}

/// One line, in both forms.
struct Line {
    text: String,
    json: Value,
}

/// Lines, and on a terminal a live one below them.
struct Screen {
    json: bool,
    bar: Option<ProgressBar>,
    /// The fetches under way: the file, what came, of how much.
    fetching: BTreeMap<u64, (FileName, u64, Option<u64>)>,
}

impl Screen {
    fn new(json: bool) -> Self {
        let bar = (!json && stdout().is_terminal()).then(|| {
            let bar = ProgressBar::no_length();
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
            let style = ProgressStyle::with_template("{spinner} {wide_msg}");
            bar.with_style(style.expect("the template is right"))
        });
        Self {
            json,
            bar,
            fetching: BTreeMap::new(),
        }
    }

    fn print(&self, line: Line) {
        let print = || {
            if self.json {
                let mut json = line.json.clone();
                json["time"] = Value::String(jiff::Timestamp::now().to_string());
                say(&json.to_string());
            } else {
                say(&line.text);
            }
        };
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn show(&mut self, note: &PeerNote, now: &PeerSnapshot) {
        match note {
            PeerNote::Event(PeerEvent::Fetching { job, name, .. }) => {
                self.fetching.insert(*job, (name.clone(), 0, None));
            }
            PeerNote::Event(PeerEvent::Fetched { job, .. } | PeerEvent::Failed { job, .. }) => {
                self.fetching.remove(job);
            }
            PeerNote::Progress { job, got, total } => {
                if let Some(fetch) = self.fetching.get_mut(job) {
                    (fetch.1, fetch.2) = (*got, *total);
                }
            }
            PeerNote::Event(
                PeerEvent::Up
                | PeerEvent::Down { .. }
                | PeerEvent::Announced { .. }
                | PeerEvent::Complete { .. },
            )
            | PeerNote::Served { .. } => {}
        }
        if let Some(line) = line(note, self.json) {
            self.print(line);
        }
        if let Some(bar) = &self.bar {
            bar.set_message(self.live(now));
            bar.tick();
        }
    }

    fn live(&self, now: &PeerSnapshot) -> String {
        let mut text = counted(now.files as u64, "file", "files");
        if !now.is_up {
            text.push_str(", no tracker");
        }
        if now.wanted > 0 {
            text.push_str(&format!(", {} to come", now.wanted));
        }
        for (name, got, total) in self.fetching.values().take(3) {
            match total {
                Some(total) if *total > 0 => {
                    text.push_str(&format!(" | {name} {}%", got * 100 / total));
                }
                Some(_) | None => text.push_str(&format!(" | {name} {}", bytes(*got))),
            }
        }
        text
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.print(Line {
            text: "Stopped".to_owned(),
            json: json!({"event": "stopped"}),
        });
    }
}

/// The note as a line; progress is for machines only, people have the live line.
fn line(note: &PeerNote, for_machines: bool) -> Option<Line> {
    let line = match note {
        PeerNote::Event(event) => return event_line(event, for_machines),
        PeerNote::Progress { job, got, total } => Line {
            text: String::new(),
            json: json!({"event": "progress", "job": job, "bytes": got, "of": total}),
        },
        PeerNote::Served { name, to, bytes: n } => Line {
            text: format!("Served  {name} to {to}, {}", bytes(*n)),
            json: json!({
                "event": "served", "name": name.as_str(), "to": to.to_string(), "bytes": n,
            }),
        },
    };
    (for_machines || !line.text.is_empty()).then_some(line)
}

fn event_line(event: &PeerEvent, for_machines: bool) -> Option<Line> {
    let line = match event {
        PeerEvent::Up => Line {
            text: "Tracker connected".to_owned(),
            json: json!({"event": "tracker-up"}),
        },
        PeerEvent::Down { why, retry_in } => Line {
            text: format!(
                "Tracker away: {why}; next try in {:.1} s",
                retry_in.as_secs_f64()
            ),
            json: json!({
                "event": "tracker-down", "reason": why.to_string(),
                "retry_ms": u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX),
            }),
        },
        PeerEvent::Announced { files, left_out } => Line {
            text: match left_out {
                0 => String::new(),
                n => format!("Too many files: the swarm is not told of {n} of them"),
            },
            json: json!({"event": "announced", "files": files, "left_out": left_out}),
        },
        PeerEvent::Fetching { job, name, holder } => Line {
            text: String::new(),
            json: json!({
                "event": "fetching", "job": job, "name": name.as_str(),
                "from": holder.to_string(),
            }),
        },
        PeerEvent::Fetched {
            job,
            name,
            holder,
            bytes: n,
        } => Line {
            text: format!("Fetched {name} from {holder}, {}", bytes(*n)),
            json: json!({
                "event": "fetched", "job": job, "name": name.as_str(),
                "from": holder.to_string(), "bytes": n,
            }),
        },
        PeerEvent::Failed {
            job,
            name,
            holder,
            why,
        } => Line {
            text: format!("Failed  {name} from {holder}: {why}"),
            json: json!({
                "event": "failed", "job": job, "name": name.as_str(),
                "from": holder.to_string(), "reason": why.to_string(),
            }),
        },
        PeerEvent::Complete { files } => Line {
            text: format!("All here: {}", counted(*files as u64, "file", "files")),
            json: json!({"event": "complete", "files": files}),
        },
    };
    (for_machines || !line.text.is_empty()).then_some(line)
}
