//! What only time can show: leases that end, and the idle exit of a hello server.
//!
//! Every case here lasts as long as the rule that it examines, so the times are asked for; a server
//! started with short ones is examined in seconds. The idle cases come last and in this order,
//! because the server is gone after them.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::ask::{Way, ask, fresh_id, take_an_id};
use super::requirements::*;
use super::server::Target;
use crate::attempt::{Attempt, Limits};
use crate::case::{Column, Failure, Outcome};
use crate::datagram::Datagrams;
use crate::stream::Stream;

/// Besides a tenth of the time itself, a server that looks at its clock once a second is excused.
const EXIT_SLACK: Duration = Duration::from_secs(1);

/// Adds the cases whose times are known; without a time the case says what it would need.
pub(super) fn cases(column: Column, target: Target) -> Column {
    let lease = target.lease.unwrap_or_default();
    let idle = target.idle.unwrap_or_default();
    let way = if target.udp { Way::Udp } else { Way::Tcp };
    let ended_in_time = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&ended_in_time);
    let mut column = column
        .slow_case(&HELLO_15, "lease-ends", lease * 2, move |a| {
            lease_ends(a, &target, way)
        })
        .slow_case(&HELLO_16, "reset-meanwhile", lease * 2, move |a| {
            reset_meanwhile(a, &target, way)
        })
        .slow_case(&HELLO_19, "idle-restarted", idle * 4, move |a| {
            idle_restarted(a, &target, way)
        });
    if target.tcp {
        column = column.slow_case(&HELLO_21, "silent-client", idle * 2, move |a| {
            silent_client(a, &target, &ended_in_time)
        });
    }
    column.slow_case(&HELLO_18, "idle-exit", idle * 2, move |a| {
        idle_exit(a, &target, way, &seen)
    })
}

fn known(time: Option<Duration>, what: &str, option: &str) -> Result<Duration, Failure> {
    time.ok_or_else(|| {
        let why = format!("the server's {what} is not known; give it with {option} to examine it");
        Failure::skipped(why)
    })
}

/// How far from the end of a lease is far enough to be sure.
fn margin(limits: Limits, lease: Duration) -> Duration {
    limits.quiet.max(lease / 10).min(lease / 3)
}

/// One id is left alone and must be free in the end; another is asked for shortly before its end
/// and must still be in use.
fn lease_ends(attempt: &Attempt, target: &Target, way: Way) -> Outcome {
    let lease = known(target.lease, "lease time", "--lease-ms")?;
    let margin = margin(attempt.limits, lease);
    let before = Instant::now();
    let asked = take_an_id(attempt, target, way)?;
    let alone = take_an_id(attempt, target, way)?;
    let after = Instant::now();
    pause_until(attempt, before + lease - margin)?;
    let ms = (lease - margin).as_millis();
    ask(attempt, target, way, &asked)?
        .expect_reset(&asked)
        .map_err(|failure| explained(failure, &format!("after {ms} ms the id must be in use")))?;
    pause_until(attempt, after + lease + margin)?;
    let ms = (lease + margin).as_millis();
    ask(attempt, target, way, &alone)?
        .expect_ok(&alone)
        .map_err(|failure| explained(failure, &format!("after {ms} ms the id must be free")))
}

fn reset_meanwhile(attempt: &Attempt, target: &Target, way: Way) -> Outcome {
    let lease = known(target.lease, "lease time", "--lease-ms")?;
    let margin = margin(attempt.limits, lease);
    let id = take_an_id(attempt, target, way)?;
    let granted = Instant::now();
    for thirds in [1, 2] {
        pause_until(attempt, granted + lease / 3 * thirds)?;
        ask(attempt, target, way, &id)?.expect_reset(&id)?;
    }
    pause_until(attempt, granted + lease + margin)?;
    let since_first = format!(
        "{} ms after the OK, with a RESET in between, the id must be free",
        (lease + margin).as_millis()
    );
    ask(attempt, target, way, &id)?
        .expect_ok(&id)
        .map_err(|failure| explained(failure, &since_first))
}

/// Two waits, together longer than the idle time, with something in between that is no request.
fn idle_restarted(attempt: &Attempt, target: &Target, way: Way) -> Outcome {
    let idle = known(target.idle, "idle time", "--idle-ms")?;
    let part = idle * 7 / 10;
    ask(attempt, target, way, &fresh_id())?;
    if target.udp {
        attempt.pause(part)?;
        Datagrams::open(attempt, target.addr)?.send(b"not a request")?;
    }
    if target.tcp {
        attempt.pause(part)?;
        drop(Stream::connect(attempt, target.addr)?);
    }
    attempt.pause(part)?;
    let ms = part.as_millis();
    ask(attempt, target, way, &fresh_id())
        .map(drop)
        .map_err(|failure| {
            let what = format!("{ms} ms after something had come, the server must still be there");
            explained(failure, &what)
        })
}

fn silent_client(attempt: &Attempt, target: &Target, ended_in_time: &AtomicBool) -> Outcome {
    let idle = known(target.idle, "idle time", "--idle-ms")?;
    let silent = Stream::connect(attempt, target.addr)?;
    attempt.pause(idle + idle / 10 + EXIT_SLACK)?;
    let outcome = expect_gone(attempt, target);
    ended_in_time.store(outcome.is_ok(), Ordering::Relaxed);
    drop(silent);
    outcome
}

fn idle_exit(attempt: &Attempt, target: &Target, way: Way, seen: &AtomicBool) -> Outcome {
    let idle = known(target.idle, "idle time", "--idle-ms")?;
    if seen.load(Ordering::Relaxed) {
        attempt.note("(it went in time, in spite of a silent client)".to_owned());
        return Ok(());
    }
    ask(attempt, target, way, &fresh_id())
        .map_err(|failure| explained(failure, "the server was gone before its time"))?;
    attempt.pause(idle + idle / 10 + EXIT_SLACK)?;
    expect_gone(attempt, target)
}

/// Gone means: nobody listens, or at least nobody answers.
fn expect_gone(attempt: &Attempt, target: &Target) -> Outcome {
    if target.tcp
        && std::net::TcpStream::connect_timeout(&target.addr, attempt.limits.reply_max).is_ok()
    {
        let why = "the idle time is over and connections are still accepted";
        return Err(Failure::broken(why));
    }
    if target.udp && answers_datagrams(attempt, target) {
        let why = "the idle time is over and datagrams are still answered";
        return Err(Failure::broken(why));
    }
    Ok(())
}

fn answers_datagrams(attempt: &Attempt, target: &Target) -> bool {
    let unspecified = if target.addr.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    // Connected, the socket hears at once when nobody listens.
    let Ok(socket) = UdpSocket::bind(unspecified) else {
        return false;
    };
    let request = format!("HELLO {}", fresh_id());
    let mut reply = [0; 512];
    socket
        .connect(target.addr)
        .and_then(|()| socket.set_read_timeout(Some(attempt.limits.reply_max)))
        .and_then(|()| socket.send(request.as_bytes()))
        .and_then(|_| socket.recv(&mut reply))
        .is_ok()
}

fn pause_until(attempt: &Attempt, until: Instant) -> Outcome {
    attempt.pause(until.saturating_duration_since(Instant::now()))
}

fn explained(failure: Failure, what: &str) -> Failure {
    match failure {
        Failure::Broken(why) => Failure::broken(format!("{what}: {why}")),
        Failure::Skipped(why) => Failure::skipped(why),
    }
}
