//! Cases about paths: what is decoded, what is refused, and that nothing leads out
//! (web-20 to web-27).

use std::fmt::Write as _;

use super::requirements::{WEB_20, WEB_21, WEB_24, WEB_27};
use super::{Entry, Server, expect};
use crate::case::{Failure, Outcome};

/// Ways out of a folder. Enough steps up for any depth.
const WAYS_OUT: [&str; 8] = [
    "/../../../../../../../../../../etc/passwd",
    "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/.%2e/.%2e/.%2e/.%2e/.%2e/.%2e/.%2e/.%2e/.%2e/etc/passwd",
    "//etc/passwd",
    "/%2fetc/passwd",
    "/./../../../../../../../../../../etc/passwd",
    "../../../../../../../../../../etc/passwd",
];

pub(super) fn cases() -> Vec<Entry> {
    vec![
        (&WEB_20, "encoded", encoded),
        (&WEB_20, "bad-escape", bad_escape),
        (&WEB_20, "query", query),
        (&WEB_21, "ways-out", ways_out),
        (&WEB_24, "redirect", redirect),
        (&WEB_27, "missing", missing),
    ]
}

/// Every letter of the path as an escape names the same file.
fn encoded(server: &Server<'_>) -> Outcome {
    let path = &server.target.path;
    if !path.bytes().any(|b| b.is_ascii_alphanumeric()) {
        return Err(Failure::skipped(
            "the path has no letter to encode; name a file with --path",
        ));
    }
    let file = server.file()?;
    let mut escaped = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() {
            write!(escaped, "%{byte:02x}").expect("a String takes every write");
        } else {
            escaped.push(char::from(byte));
        }
    }
    let answer = server.ask(&server.request("GET", &escaped, ""))?;
    answer.expect_status(&format!("GET {escaped}"), &[200])?;
    expect(
        answer.body == file.body,
        format!("{escaped} is not the same file as {path}"),
    )
}

fn bad_escape(server: &Server<'_>) -> Outcome {
    for path in ["/%", "/%4", "/%zz", "/a%00b"] {
        let answer = server.ask(&server.request("GET", path, ""))?;
        answer.expect_status(&format!("GET {path}"), &[400, 404])?;
    }
    Ok(())
}

fn query(server: &Server<'_>) -> Outcome {
    let file = server.file()?;
    let path = format!("{}?ahoy=1&x=/../y", server.target.path);
    let answer = server.ask(&server.request("GET", &path, ""))?;
    answer.expect_status(&format!("GET {path}"), &[200])?;
    expect(
        answer.body == file.body,
        "a query changed the file that is served",
    )
}

/// The password list is readable by everyone and looks the same everywhere.
fn ways_out(server: &Server<'_>) -> Outcome {
    for path in WAYS_OUT {
        let Ok(answer) = server.ask(&server.request("GET", path, "")) else {
            server.attempt.note(format!("(no answer to {path})"));
            continue;
        };
        let leaked = answer.body.windows(7).any(|bytes| bytes == b"root:x:");
        expect(
            !leaked,
            format!("{path} was answered with a file from outside"),
        )?;
    }
    server.file().map(drop)
}

fn redirect(server: &Server<'_>) -> Outcome {
    let folder = server
        .target
        .folder
        .as_deref()
        .ok_or_else(|| Failure::skipped("no folder is known; name one with --folder"))?;
    let answer = server.ask(&server.request("GET", folder, ""))?;
    answer.expect_status(&format!("GET {folder}"), &[301, 302, 307, 308])?;
    let location = answer.field("location").unwrap_or_default();
    let own_host = format!("http://{}", server.target.addr);
    let path = location.strip_prefix(&own_host).unwrap_or(&location);
    expect(
        path == format!("{folder}/"),
        format!("the Location is {location:?}"),
    )?;
    // Two slashes would name another host.
    let slashed = format!("/{folder}");
    let answer = server.ask(&server.request("GET", &slashed, ""))?;
    let location = answer.field("location").unwrap_or_default();
    expect(
        !location.starts_with("//"),
        format!("{slashed} is sent to another host: {location:?}"),
    )
}

fn missing(server: &Server<'_>) -> Outcome {
    let path = "/no-such-file-8c1f2a/nor-folder.txt";
    server
        .ask(&server.request("GET", path, ""))?
        .expect_status(&format!("GET {path}"), &[404])
}
