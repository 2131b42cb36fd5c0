//! Cases about single requests: grammar, methods, lengths (web-1 to web-8, web-11, web-12, web-30).

use super::client::Client;
use super::requirements::{
    WEB_1, WEB_2, WEB_3, WEB_4, WEB_5, WEB_6, WEB_7, WEB_11, WEB_12, WEB_30,
};
use super::{Entry, Server, expect};
use crate::attempt::shown;
use crate::case::{Failure, Outcome};

/// So long a request line is more than anybody needs.
const LONG_LINE_BYTES: usize = 1024 * 1024;

pub(super) fn cases() -> Vec<Entry> {
    vec![
        (&WEB_4, "get", get),
        (&WEB_4, "post-is-not-allowed", post),
        (&WEB_4, "unknown-method", unknown_method),
        (&WEB_12, "length-is-exact", length_is_exact),
        (&WEB_12, "date", date),
        (&WEB_30, "content-type", content_type),
        (&WEB_11, "no-body", head_without_body),
        (&WEB_11, "same-fields", head_same_fields),
        (&WEB_1, "request-line", malformed_line),
        (&WEB_1, "blank-before-colon", blank_before_colon),
        (&WEB_2, "no-host", no_host),
        (&WEB_2, "two-hosts", two_hosts),
        (&WEB_3, "version-9", version_9),
        (&WEB_5, "long-line", long_line),
        (&WEB_5, "endless-fields", endless_fields),
        (&WEB_6, "two-lengths", two_lengths),
        (&WEB_6, "length-and-coding", length_and_coding),
        (&WEB_7, "body-holds-a-request", body_holds_a_request),
    ]
}

fn get(server: &Server<'_>) -> Outcome {
    server.file().map(drop)
}

/// A server that knows the method and has it nowhere may also say 501.
fn post(server: &Server<'_>) -> Outcome {
    let path = &server.target.path;
    let answer = server.ask(&server.request("POST", path, "Content-Length: 0\r\n"))?;
    answer.expect_status("POST", &[405, 501])?;
    if answer.status() == 501 {
        return Ok(());
    }
    let allow = answer
        .field("allow")
        .ok_or_else(|| Failure::broken("405 without an Allow"))?;
    let names = |method: &str| allow.split(',').any(|word| word.trim() == method);
    expect(
        names("GET") && names("HEAD"),
        format!("Allow names {allow:?}, not GET and HEAD"),
    )
}

fn unknown_method(server: &Server<'_>) -> Outcome {
    let answer = server.ask(&server.request("BREW", &server.target.path, ""))?;
    answer.expect_status("the method BREW", &[501, 405])
}

/// The connection is closed after the answer, so what came after its length would show.
fn length_is_exact(server: &Server<'_>) -> Outcome {
    let mut client = Client::connect(server.attempt, server.target.addr)?;
    client.send(&server.request("GET", &server.target.path, ""))?;
    let answer = client.answer(false)?;
    answer.expect_status("GET", &[200])?;
    let chunked = answer.field("transfer-encoding").is_some();
    expect(
        chunked || answer.field("content-length").is_some(),
        "the answer has no Content-Length",
    )?;
    let rest = client.rest()?;
    expect(
        rest.is_empty(),
        format!(
            "{} bytes came after the body's length: {}",
            rest.len(),
            shown(&rest)
        ),
    )
}

fn date(server: &Server<'_>) -> Outcome {
    let date = server
        .file()?
        .field("date")
        .ok_or_else(|| Failure::broken("no Date"))?;
    let read = ahoy_wire::web::HttpDate::parse(date.as_bytes());
    expect(read.is_some(), format!("{date:?} is no HTTP date"))
}

fn content_type(server: &Server<'_>) -> Outcome {
    let kind = server.file()?.field("content-type").unwrap_or_default();
    expect(kind.contains('/'), format!("the Content-Type is {kind:?}"))
}

fn head_without_body(server: &Server<'_>) -> Outcome {
    let mut client = Client::connect(server.attempt, server.target.addr)?;
    client.send(&server.request("HEAD", &server.target.path, ""))?;
    client.answer(true)?.expect_status("HEAD", &[200])?;
    let rest = client.rest()?;
    expect(
        rest.is_empty(),
        format!("HEAD was answered with a body: {}", shown(&rest)),
    )
}

fn head_same_fields(server: &Server<'_>) -> Outcome {
    let get = server.file()?;
    let head = server.ask(&server.request("HEAD", &server.target.path, ""))?;
    for name in ["content-type", "content-length", "etag", "last-modified"] {
        let (of_get, of_head) = (get.field(name), head.field(name));
        // RFC 9110 section 9.3.2 lets HEAD leave out what only making the body would tell.
        let left_out = of_head.is_none() && name == "content-length";
        let same = of_get == of_head || left_out || is_weakened(&of_get, &of_head);
        expect(
            same,
            format!("{name} is {of_get:?} with GET and {of_head:?} with HEAD"),
        )?;
    }
    Ok(())
}

/// A file that was just changed may get its strong tag between two answers.
fn is_weakened(one: &Option<String>, other: &Option<String>) -> bool {
    let strip = |tag: &Option<String>| {
        tag.as_deref()
            .map(|tag| tag.strip_prefix("W/").unwrap_or(tag).to_owned())
    };
    one.is_some() && strip(one) == strip(other)
}

fn malformed_line(server: &Server<'_>) -> Outcome {
    for line in [
        "GET\r\n\r\n",
        "GET / HTTP/1.1 more\r\nHost: a\r\n\r\n",
        "\0\x01\x02\r\n\r\n",
    ] {
        refused(server, line, &[400, 501])?;
    }
    Ok(())
}

fn blank_before_colon(server: &Server<'_>) -> Outcome {
    let path = &server.target.path;
    refused(
        server,
        &format!("GET {path} HTTP/1.1\r\nHost : a\r\nHost: a\r\n\r\n"),
        &[400],
    )
}

fn no_host(server: &Server<'_>) -> Outcome {
    let path = &server.target.path;
    refused(server, &format!("GET {path} HTTP/1.1\r\n\r\n"), &[400])
}

fn two_hosts(server: &Server<'_>) -> Outcome {
    let path = &server.target.path;
    refused(
        server,
        &format!("GET {path} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        &[400],
    )
}

fn version_9(server: &Server<'_>) -> Outcome {
    let path = &server.target.path;
    refused(
        server,
        &format!("GET {path} HTTP/9.0\r\nHost: a\r\n\r\n"),
        &[505, 400],
    )
}

/// A server that wishes to read so long a line may do so, and will find nothing there.
fn long_line(server: &Server<'_>) -> Outcome {
    let path = "/a".repeat(LONG_LINE_BYTES / 2);
    flooded(
        server,
        &[&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")],
        &[414, 404, 400, 431],
    )
}

fn endless_fields(server: &Server<'_>) -> Outcome {
    let path = &server.target.path;
    let fields = format!("X-Filler: {}\r\n", "x".repeat(1000)).repeat(1024);
    let start = format!("GET {path} HTTP/1.1\r\nHost: a\r\n");
    flooded(server, &[&start, &fields, &fields], &[431, 413, 400])
}

fn two_lengths(server: &Server<'_>) -> Outcome {
    let path = &server.target.path;
    let fields = "Content-Length: 3\r\nContent-Length: 4\r\n";
    refused(
        server,
        &format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\nabcd"),
        &[400],
    )
}

/// Half of the known ways to smuggle a request. A server may go by the chunks, but then must close.
fn length_and_coding(server: &Server<'_>) -> Outcome {
    let path = &server.target.path;
    let mut client = Client::connect(server.attempt, server.target.addr)?;
    client.send(&format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\nGET {path} HTTP/1.1\r\nHost: a\r\n\r\n"
    ))?;
    client.answer(false)?;
    expect(
        client.rest()?.is_empty(),
        "the connection went on after a request without a certain end",
    )
}

fn body_holds_a_request(server: &Server<'_>) -> Outcome {
    let path = &server.target.path;
    let inner = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut client = Client::connect(server.attempt, server.target.addr)?;
    client.send(&format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{inner}\
         BREW {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        inner.len()
    ))?;
    let first = client.answer(false)?;
    if first.head.minor == 0 {
        return expect(
            client.rest()?.is_empty(),
            "an HTTP/1.0 answer was followed by another",
        );
    }
    if first
        .field("connection")
        .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    {
        return expect(
            client.rest()?.is_empty(),
            "an answer came after the one that said close",
        );
    }
    let second = client.answer(false)?;
    expect(
        second.status() != first.status(),
        "the body of a request was answered as if it were a request",
    )
}

/// The request gets one of these statuses, or the connection is closed without an answer.
fn refused(server: &Server<'_>, request: &str, wanted: &[u16]) -> Outcome {
    let mut client = Client::connect(server.attempt, server.target.addr)?;
    client.send(request)?;
    let answer = client.answer(false)?;
    answer.expect_status(
        &format!("{:?}", request.lines().next().unwrap_or_default()),
        wanted,
    )
}

/// Sends more than anybody should take: one of these statuses, or an end while sending.
fn flooded(server: &Server<'_>, pieces: &[&str], wanted: &[u16]) -> Outcome {
    let mut client = Client::connect(server.attempt, server.target.addr)?;
    for piece in pieces {
        if client.send(piece).is_err() {
            break;
        }
    }
    match client.answer(false) {
        Ok(answer) => answer.expect_status("the flood", wanted)?,
        // Closed on us, and the answer lost with what we had still on the way: see web-13.
        Err(_) => server.attempt.note("(closed without an answer)".to_owned()),
    }
    server.file().map(drop)
}
