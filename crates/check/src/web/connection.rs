//! Cases about connections: how long they live, in which order, and beside whom
//! (web-9, web-10, web-13, web-60, web-61, web-63).

use std::time::Duration;

use super::client::{Answer, Client};
use super::requirements::{WEB_9, WEB_10, WEB_13, WEB_60, WEB_61, WEB_63};
use super::{Entry, Server, Target, expect, slow_case};
use crate::case::{Case, Failure, Outcome};
use crate::stream::Arrival;

/// Silent clients beside a fresh one.
const SILENT_CLIENTS: usize = 100;
/// A body that nobody reads.
const UNREAD_BYTES: usize = 200_000;

pub(super) fn cases() -> Vec<Entry> {
    vec![
        (&WEB_9, "stays-open", stays_open),
        (&WEB_9, "closes-when-asked", closes_when_asked),
        (&WEB_9, "http-1-0", http_1_0),
        (&WEB_10, "pipelined", pipelined),
        (&WEB_13, "unread-body", unread_body),
        (&WEB_63, "silent-clients", silent_clients),
    ]
}

/// The cases that wait for the server's own limits.
pub(super) fn slow_cases(target: &Target) -> Vec<Case> {
    let request = target.request.unwrap_or_default();
    let idle = target.idle.unwrap_or_default();
    vec![
        slow_case(&WEB_60, "half-a-request", request, target, half_a_request),
        slow_case(&WEB_61, "silence", idle, target, silence),
    ]
}

/// A server of HTTP/1.0 closes after each answer by right.
fn not_old(answer: &Answer) -> Outcome {
    if answer.head.minor == 0 {
        return Err(Failure::skipped("the server answers with HTTP/1.0"));
    }
    Ok(())
}

fn plain(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn stays_open(server: &Server<'_>) -> Outcome {
    let path = &server.target.path;
    let mut client = Client::connect(server.attempt, server.target.addr)?;
    for round in 0..3 {
        client.send(&plain(path))?;
        let answer = client.answer(false)?;
        answer.expect_status("GET", &[200])?;
        not_old(&answer)?;
        let closes = answer
            .field("connection")
            .is_some_and(|v| v.eq_ignore_ascii_case("close"));
        expect(
            !closes,
            format!("answer {round} closes the connection unasked"),
        )?;
    }
    Ok(())
}

fn closes_when_asked(server: &Server<'_>) -> Outcome {
    let mut client = Client::connect(server.attempt, server.target.addr)?;
    client.send(&server.request("GET", &server.target.path, ""))?;
    let answer = client.answer(false)?;
    not_old(&answer)?;
    let said = answer.field("connection").unwrap_or_default();
    client.stream.expect_end()?;
    expect(
        said.eq_ignore_ascii_case("close"),
        format!("closed as asked, but the answer's Connection says {said:?}"),
    )
}

fn http_1_0(server: &Server<'_>) -> Outcome {
    let path = &server.target.path;
    let mut client = Client::connect(server.attempt, server.target.addr)?;
    client.send(&format!("GET {path} HTTP/1.0\r\n\r\n"))?;
    let answer = client.answer(false)?;
    answer.expect_status("GET with HTTP/1.0", &[200])?;
    expect(
        answer.field("transfer-encoding").is_none(),
        "an HTTP/1.0 client was answered in chunks",
    )?;
    client.stream.expect_end()
}

/// Three answers that can be told apart.
fn pipelined(server: &Server<'_>) -> Outcome {
    let path = &server.target.path;
    let mut client = Client::connect(server.attempt, server.target.addr)?;
    client.send(&format!(
        "{}HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\nBREW {path} HTTP/1.1\r\nHost: a\r\n\r\n",
        plain(path)
    ))?;
    let first = client.answer(false)?;
    first.expect_status("the first of three requests", &[200])?;
    not_old(&first)?;
    client
        .answer(true)?
        .expect_status("the second of three requests", &[200])?;
    client
        .answer(false)?
        .expect_status("the third of three requests", &[501, 405, 400])
}

fn unread_body(server: &Server<'_>) -> Outcome {
    let path = &server.target.path;
    let mut client = Client::connect(server.attempt, server.target.addr)?;
    let fields = format!("Content-Length: {UNREAD_BYTES}\r\n");
    let _ = client.send(&server.request("POST", path, &fields));
    let _ = client.send(&"x".repeat(UNREAD_BYTES));
    let lost = |_| Failure::broken("the answer was lost when the server closed");
    client.answer(false).map_err(lost).map(drop)
}

fn silent_clients(server: &Server<'_>) -> Outcome {
    let mut silent = Vec::with_capacity(SILENT_CLIENTS);
    for number in 0..SILENT_CLIENTS {
        let mut client = Client::connect(server.attempt, server.target.addr)?;
        // Some say nothing, some stop in the middle.
        if number % 2 == 0 {
            client.send("GET / HT")?;
        }
        silent.push(client);
    }
    server.file().map(drop)
}

fn half_a_request(server: &Server<'_>) -> Outcome {
    let limit = server.target.request.ok_or_else(|| {
        Failure::skipped("the server's limit for a request is not known; give it to examine it")
    })?;
    let mut client = Client::connect(server.attempt, server.target.addr)?;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Never: en")?;
    server.attempt.pause(limit)?;
    let end = server.attempt.reply_deadline()?;
    match client.stream.arrival(4096, end) {
        Arrival::End | Arrival::Reset => Ok(()),
        Arrival::Nothing => Err(Failure::broken(
            "half a request kept the connection beyond the limit",
        )),
        Arrival::Bytes(bytes) => {
            expect(
                bytes.starts_with(b"HTTP/1.1 408") || bytes.starts_with(b"HTTP/1.0 408"),
                "half a request was answered, and not by 408",
            )?;
            client.rest().map(drop)
        }
    }
}

fn silence(server: &Server<'_>) -> Outcome {
    let limit = server.target.idle.ok_or_else(|| {
        Failure::skipped("the server's idle limit is not known; give it to examine it")
    })?;
    let mut client = Client::connect(server.attempt, server.target.addr)?;
    client.send(&plain(&server.target.path))?;
    client.answer(false)?;
    server.attempt.pause(limit + Duration::from_millis(1))?;
    client.stream.expect_end()
}
