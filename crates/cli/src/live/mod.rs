//! Running shares, seen from the foreground: starts them, shows what happens, stops them in order.
//!
//! `share`, `join` and `sync` all end here. Three screens show the same events: a live line on a
//! terminal, plain lines elsewhere, JSON for machines. No decisions about syncing.

mod json;
pub mod lines;
mod qr;
mod terminal;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use ahoy_host::confine;
use ahoy_host::priority;
use ahoy_host::signals;
use ahoy_host::sync::home::{Claim, Home};
use ahoy_host::sync::limits::{Caps, Limits};
use ahoy_host::sync::ports::Ports;
use ahoy_host::sync::share::{Event, Share, ShareConfig};
use ahoy_host::sync::status::Snapshot;
use anyhow::{Context, anyhow};

use crate::cmd::{Hint, explain};
use crate::printer;
use crate::rate::{self, Cap};

/// Most events that wait to be shown; what comes while this many wait is not shown, but stands in
/// `ahoy status`.
const EVENTS_MAX: usize = 4096;

/// How often a screen may change without an event.
const TICK: Duration = Duration::from_millis(200);

/// How long an orderly stop may take.
const STOP_WAIT: Duration = Duration::from_secs(30);

/// How much longer saying so may take.
const STOP_SPARE: Duration = Duration::from_secs(3);

/// What `share`, `join` and `sync` have in common.
#[derive(Debug, Clone, clap::Args)]
pub struct Foreground {
    /// Listen here for peers, as ADDRESS:PORT or just PORT (0: any); may be repeated.
    #[arg(long, value_name = "ADDR", env = "AHOY_LISTEN", value_delimiter = ',',
          value_parser = listen_address)]
    pub listen: Vec<SocketAddr>,
    /// Do not look for peers on the local network; remembered for this folder.
    #[arg(long, env = "AHOY_NO_MDNS", overrides_with = "mdns")]
    pub no_mdns: bool,
    /// Look for peers on the local network again.
    #[arg(long, overrides_with = "no_mdns")]
    pub mdns: bool,
    /// If the folder is found empty, that is meant: delete its files on all other machines too.
    #[arg(long)]
    pub accept_empty: bool,
    /// Send at most RATE to all peers together: 500K, 2M, 1.5MiB/s, 10Mbit/s; 0 for no limit. Holds
    /// for all folders of this process, and is remembered for each of them; without this flag, the
    /// lowest that is remembered for any of them holds.
    #[arg(long, value_name = "RATE", env = "AHOY_LIMIT_UP", value_parser = rate::cap)]
    pub limit_up: Option<Cap>,
    /// Receive at most RATE from all peers together; the rest as with --limit-up.
    #[arg(long, value_name = "RATE", env = "AHOY_LIMIT_DOWN", value_parser = rate::cap)]
    pub limit_down: Option<Cap>,
    /// Step back for other programs: the lowest priority for the processor and the disk.
    #[arg(long, env = "AHOY_BACKGROUND")]
    pub background: bool,
    /// Do without Landlock, by which the kernel keeps this process to its folders and its state.
    #[arg(long, env = "AHOY_NO_LANDLOCK")]
    pub no_landlock: bool,
    /// Print one JSON object per line.
    #[arg(long, env = "AHOY_JSON")]
    pub json: bool,
    /// Name every file that is brought or removed.
    #[arg(short, long, env = "AHOY_VERBOSE")]
    pub verbose: bool,
}

impl Foreground {
    /// Puts what the user asked for into the record, where it lasts.
    pub fn keep_in(&self, claim: &mut Claim) -> anyhow::Result<()> {
        if self.no_mdns || self.mdns {
            claim.record.mdns = self.mdns;
        }
        if let Some(Cap(up)) = self.limit_up {
            claim.record.limits.up = up;
        }
        if let Some(Cap(down)) = self.limit_down {
            claim.record.limits.down = down;
        }
        claim.save().map_err(|error| hinted(error.hint(), error))
    }
}

/// Which ticket to show at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TicketWish {
    /// None.
    Nothing,
    /// The best that this device can give.
    Best,
    /// One for reading.
    ReadOnly,
}

/// An error from below with what the user can do about it.
pub fn hinted(hint: String, error: impl Into<anyhow::Error>) -> anyhow::Error {
    error.into().context(Hint(hint))
}

/// What a share is called on a screen.
#[derive(Debug, Clone)]
pub struct Title {
    name: String,
    root: ahoy_host::sync::exact::Exact,
}

/// A share that runs in this process.
struct Live {
    title: Title,
    share: Share,
    stopped: Arc<AtomicBool>,
}

/// Shows what happens.
trait Screen {
    /// A share has started; here is a ticket, if one was wished for.
    fn started(&mut self, number: usize, snapshot: &Snapshot, ticket: Option<&Shown>);
    /// Something happened in a share.
    fn event(&mut self, number: usize, event: &Event, snapshot: &dyn Fn() -> Snapshot);
    /// Time passed.
    fn tick(&mut self, number: usize, snapshot: &dyn Fn() -> Snapshot);
    /// All are being stopped.
    fn stopping(&mut self);
    /// Something about this process, on the way to standard error.
    fn warn(&mut self, text: &str);
}

/// A ticket, ready to be shown.
pub struct Shown {
    text: String,
    read_only: bool,
}

/// Something came in.
enum Said {
    Event(usize, Event),
    /// The user or the system wants it to end.
    End,
}

/// Syncs the claimed folders until stopped. Folders that cannot be started are reported, and the
/// others go on; 3 if any of them could not be started or stopped by itself.
pub fn run(
    home: &Home,
    claims: Vec<Claim>,
    args: &Foreground,
    wish: TicketWish,
) -> anyhow::Result<ExitCode> {
    if args.background {
        priority::step_back().context("cannot take a lower priority")?;
    }
    let caps = claims.iter().map(|it| it.record.limits);
    let limits = Limits::new(caps.fold(Caps::default(), Caps::stricter));
    confine_to(home, &claims, args)?;
    let (sender, receiver) = sync_channel(EVENTS_MAX);
    let titles: Vec<Title> = claims.iter().map(title).collect();
    let last: Vec<_> = claims.iter().map(|it| it.record.listen.clone()).collect();
    let ports = Ports::open(&args.listen, &last)
        .map_err(|error| hinted(error.hint(), error).context("cannot start syncing"))?;
    let mut screen = screen(args, &titles)?;
    let asked = sender.clone();
    signals::on_request_to_end(move || end(&asked)).context("cannot catch signals")?;
    let (mut lives, mut broken) = (Vec::new(), false);
    let only_one = claims.len() == 1;
    for (number, claim) in claims.into_iter().enumerate() {
        let start = Start {
            home,
            claim,
            ports: Arc::clone(&ports),
            limits: Arc::clone(&limits),
            accept_empty: args.accept_empty,
        };
        let started = start.begin(number, titles[number].clone(), &sender);
        match started {
            Ok(live) => {
                let ticket = ticket(&live.share, wish);
                screen.started(number, &live.share.snapshot(), ticket.as_ref());
                lives.push((number, live));
            }
            Err(error) if only_one => return Err(error),
            Err(error) => {
                broken = true;
                screen.warn(explain(&error).trim_end());
            }
        }
    }
    if lives.is_empty() {
        return Ok(ExitCode::from(3));
    }
    broken |= !watch(&mut *screen, &lives, &receiver);
    for (_, live) in lives {
        live.share.wait();
    }
    Ok(if broken {
        ExitCode::from(3)
    } else {
        ExitCode::SUCCESS
    })
}

/// Before there is any other thread, and anybody to talk to.
fn confine_to(home: &Home, claims: &[Claim], args: &Foreground) -> anyhow::Result<()> {
    let level = if args.no_landlock {
        confine::leave_open()
    } else {
        let folders: Vec<PathBuf> = claims.iter().map(|it| it.root().to_owned()).collect();
        let own = home
            .own_dirs()
            .map_err(|error| hinted(error.hint(), error))?;
        confine::confine(&folders, &own)
    };
    tracing::info!(?level, "confined");
    Ok(())
}

fn title(claim: &Claim) -> Title {
    Title {
        name: claim.record.name.to_string(),
        root: claim.root().into(),
    }
}

fn screen(args: &Foreground, titles: &[Title]) -> anyhow::Result<Box<dyn Screen>> {
    let is_terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
    if is_terminal && !args.json {
        let terminal = terminal::Terminal::new(titles.to_vec(), args.verbose);
        return Ok(Box::new(terminal));
    }
    printer::detach().context("no thread to print with")?;
    Ok(if args.json {
        Box::new(json::Json::new(titles.to_vec(), args.verbose))
    } else {
        Box::new(lines::Lines::new(titles.to_vec(), args.verbose))
    })
}

/// What one share is started with.
struct Start<'a> {
    home: &'a Home,
    claim: Claim,
    ports: Arc<Ports>,
    limits: Arc<Limits>,
    accept_empty: bool,
}

impl Start<'_> {
    fn begin(self, number: usize, title: Title, sender: &SyncSender<Said>) -> anyhow::Result<Live> {
        let home_error = |error: ahoy_host::sync::home::HomeError| hinted(error.hint(), error);
        let device = self.home.device().map_err(home_error)?;
        let replica = self.claim.record.replica;
        let socket = self.home.socket_path(replica).map_err(home_error)?;
        let stopped = Arc::new(AtomicBool::new(false));
        let (events, flag) = (sender.clone(), Arc::clone(&stopped));
        let on_event = Box::new(move |event| {
            if matches!(event, Event::Stopped { .. }) {
                flag.store(true, Ordering::Release);
            }
            // Full: the screen is not being read. Syncing goes on; `status` has what is lost here.
            let _ = events.try_send(Said::Event(number, event));
        });
        let config = ShareConfig {
            claim: self.claim,
            device,
            ports: self.ports,
            limits: self.limits,
            socket,
            accept_empty: self.accept_empty,
        };
        let share = Share::start(config, on_event).map_err(|error| {
            let failed = format!("cannot start syncing {}", title.root);
            hinted(error.hint(), error).context(failed)
        })?;
        Ok(Live {
            title,
            share,
            stopped,
        })
    }
}

fn ticket(share: &Share, wish: TicketWish) -> Option<Shown> {
    let read_only = match wish {
        TicketWish::Nothing => return None,
        TicketWish::Best => false,
        TicketWish::ReadOnly => true,
    };
    let ticket = share.ticket(read_only);
    let read_only = match ticket.capability {
        ahoy_wire::sync::Capability::ReadWrite(_) => false,
        ahoy_wire::sync::Capability::ReadOnly { .. } => true,
    };
    Some(Shown {
        text: ticket.to_string(),
        read_only,
    })
}

/// Asked to end: in order the first time, at once the second time. Nothing is lost then either,
/// the next start only takes longer.
fn end(sender: &SyncSender<Said>) {
    static ASKED: AtomicBool = AtomicBool::new(false);
    if ASKED.swap(true, Ordering::Relaxed) || sender.try_send(Said::End).is_err() {
        std::process::exit(3);
    }
    // The one who shows events and counts the time may be held by the terminal.
    printer::insist(STOP_WAIT + STOP_SPARE);
}

/// Shows events until all shares have stopped; whether none of them stopped by itself.
fn watch(screen: &mut dyn Screen, lives: &[(usize, Live)], receiver: &Receiver<Said>) -> bool {
    let mut fine = true;
    let mut deadline: Option<Instant> = None;
    let mut ticked = Instant::now();
    loop {
        match receiver.recv_timeout(TICK) {
            Ok(Said::Event(number, event)) => {
                if let Event::Stopped { error: Some(_) } = &event {
                    fine = false;
                }
                if let Some((_, live)) = lives.iter().find(|(n, _)| *n == number) {
                    screen.event(number, &event, &|| live.share.snapshot());
                }
            }
            Ok(Said::End) => {
                screen.stopping();
                deadline = Some(Instant::now() + STOP_WAIT);
                for (_, live) in lives {
                    live.share.stop();
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                if lives
                    .iter()
                    .all(|(_, live)| live.stopped.load(Ordering::Acquire))
                {
                    return fine;
                }
            }
        }
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            let names: Vec<_> = lives
                .iter()
                .map(|(_, live)| live.title.name.clone())
                .collect();
            let error = anyhow!("{} did not stop in time", names.join(", "));
            screen.warn(explain(&error).trim_end());
            printer::finish();
            std::process::exit(3);
        }
        if ticked.elapsed() >= TICK {
            ticked = Instant::now();
            for (number, live) in lives {
                if !live.stopped.load(Ordering::Acquire) {
                    screen.tick(*number, &|| live.share.snapshot());
                }
            }
        }
    }
}

/// `ADDRESS:PORT`, or a port on all addresses.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port)));
    }
    text.parse()
        .map_err(|_| "expected ADDRESS:PORT, [IPV6]:PORT, or PORT".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on() {
        let check = |text: &str, want: &str| {
            assert_eq!(listen_address(text).expect(text).to_string(), want);
        };
        check("0", "[::]:0");
        check("7447", "[::]:7447");
        check("127.0.0.1:1", "127.0.0.1:1");
        check("[::1]:2", "[::1]:2");
        for bad in ["", "localhost:1", "127.0.0.1", "70000", "::1:2x"] {
            assert!(listen_address(bad).is_err(), "{bad}");
        }
    }
}
