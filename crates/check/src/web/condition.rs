//! Cases about validators, preconditions and codings (web-31 to web-35, web-50).

use super::client::Answer;
use super::requirements::{WEB_31, WEB_32, WEB_33, WEB_34, WEB_35, WEB_50};
use super::{Entry, Server, expect};
use crate::attempt::shown;
use crate::case::{Failure, Outcome};

/// Before any web server.
const LONG_AGO: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
/// After any of this one's files.
const FAR_AHEAD: &str = "Fri, 31 Dec 9999 23:59:59 GMT";

pub(super) fn cases() -> Vec<Entry> {
    vec![
        (&WEB_31, "present-and-stable", validators),
        (&WEB_32, "current-tag", current_tag),
        (&WEB_32, "other-tag", other_tag),
        (&WEB_32, "tag-before-date", tag_before_date),
        (&WEB_33, "same-date", same_date),
        (&WEB_33, "older-date", older_date),
        (&WEB_33, "no-date", no_date),
        (&WEB_34, "other-tag", precondition_tag),
        (&WEB_34, "older-date", precondition_date),
        (&WEB_34, "before-not-modified", precondition_first),
        (&WEB_35, "fields", not_modified_fields),
        (&WEB_50, "only-what-is-allowed", codings),
    ]
}

fn tag_of(answer: &Answer) -> Result<String, Failure> {
    answer
        .field("etag")
        .ok_or_else(|| Failure::skipped("the server gives no ETag"))
}

fn date_of(answer: &Answer) -> Result<String, Failure> {
    answer
        .field("last-modified")
        .ok_or_else(|| Failure::skipped("the server gives no Last-Modified"))
}

/// The opaque part: a tag may become strong once the file has settled.
fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

fn validators(server: &Server<'_>) -> Outcome {
    let (first, second) = (server.true_file()?, server.file()?);
    for name in ["etag", "last-modified"] {
        let (one, other) = (first.field(name), second.field(name));
        let one = one.ok_or_else(|| Failure::broken(format!("the answer has no {name}")))?;
        let other = other.unwrap_or_default();
        expect(
            opaque(&one) == opaque(&other),
            format!("{name} changed from {one:?} to {other:?} for the same file"),
        )?;
    }
    let tag = tag_of(&first)?;
    let read = ahoy_wire::web::EntityTag::parse(tag.as_bytes());
    expect(read.is_some(), format!("{tag:?} is no entity tag"))
}

fn current_tag(server: &Server<'_>) -> Outcome {
    let tag = tag_of(&server.true_file()?)?;
    let weak = format!("W/{}", opaque(&tag));
    for list in [
        tag.clone(),
        weak,
        "*".to_owned(),
        format!("\"other\", {tag}"),
    ] {
        let answer = server.get(&format!("If-None-Match: {list}\r\n"))?;
        answer.expect_status(&format!("If-None-Match: {list}"), &[304])?;
    }
    Ok(())
}

fn other_tag(server: &Server<'_>) -> Outcome {
    let file = server.file()?;
    let answer = server.get("If-None-Match: \"no-tag-of-this-file\"\r\n")?;
    answer.expect_status("If-None-Match with another tag", &[200])?;
    expect(answer.body == file.body, "another file was sent")
}

fn tag_before_date(server: &Server<'_>) -> Outcome {
    tag_of(&server.true_file()?)?;
    let fields = format!("If-None-Match: \"no-tag\"\r\nIf-Modified-Since: {FAR_AHEAD}\r\n");
    server
        .get(&fields)?
        .expect_status("another tag beside a future date", &[200])
}

fn same_date(server: &Server<'_>) -> Outcome {
    let date = date_of(&server.true_file()?)?;
    let answer = server.get(&format!("If-Modified-Since: {date}\r\n"))?;
    answer.expect_status(&format!("If-Modified-Since: {date}"), &[304])
}

fn older_date(server: &Server<'_>) -> Outcome {
    let date = date_of(&server.true_file()?)?;
    if date == LONG_AGO {
        return Err(Failure::skipped(
            "the file is as old as the date of this case",
        ));
    }
    let answer = server.get(&format!("If-Modified-Since: {LONG_AGO}\r\n"))?;
    answer.expect_status("If-Modified-Since long ago", &[200])
}

fn no_date(server: &Server<'_>) -> Outcome {
    let answer = server.get("If-Modified-Since: last Tuesday\r\n")?;
    answer.expect_status("If-Modified-Since with no date", &[200])
}

fn precondition_tag(server: &Server<'_>) -> Outcome {
    tag_of(&server.true_file()?)?;
    let answer = server.get("If-Match: \"no-tag-of-this-file\"\r\n")?;
    answer.expect_status("If-Match with another tag", &[412])
}

fn precondition_date(server: &Server<'_>) -> Outcome {
    date_of(&server.true_file()?)?;
    let answer = server.get(&format!("If-Unmodified-Since: {LONG_AGO}\r\n"))?;
    answer.expect_status("If-Unmodified-Since long ago", &[412])?;
    let answer = server.get(&format!("If-Unmodified-Since: {FAR_AHEAD}\r\n"))?;
    answer.expect_status("If-Unmodified-Since in the future", &[200])
}

fn precondition_first(server: &Server<'_>) -> Outcome {
    let tag = tag_of(&server.true_file()?)?;
    let answer = server.get(&format!("If-Match: \"no-tag\"\r\nIf-None-Match: {tag}\r\n"))?;
    answer.expect_status("If-Match with another tag beside If-None-Match", &[412])
}

fn not_modified_fields(server: &Server<'_>) -> Outcome {
    let file = server.true_file()?;
    let tag = tag_of(&file)?;
    let mut client = super::client::Client::connect(server.attempt, server.target.addr)?;
    let fields = format!("If-None-Match: {tag}\r\n");
    client.send(&server.request("GET", &server.target.path, &fields))?;
    let answer = client.answer(false)?;
    answer.expect_status("If-None-Match with the current tag", &[304])?;
    let rest = client.rest()?;
    expect(
        rest.is_empty(),
        format!("304 came with a body: {}", shown(&rest)),
    )?;
    let same_tag = answer
        .field("etag")
        .is_some_and(|other| opaque(&other) == opaque(&tag));
    expect(same_tag, "the 304 does not have the ETag of the 200")?;
    expect(
        answer.field("date").is_some() || file.field("date").is_none(),
        "the 304 has no Date, though the 200 has one",
    )?;
    expect(
        answer.field("vary") == file.field("vary"),
        "the 304 does not have the Vary of the 200",
    )
}

fn codings(server: &Server<'_>) -> Outcome {
    let coding_of = |answer: &Answer| {
        answer
            .field("content-encoding")
            .filter(|coding| !coding.eq_ignore_ascii_case("identity"))
    };
    for fields in [
        "",
        "Accept-Encoding: gzip;q=0, br;q=0, zstd;q=0, deflate;q=0\r\n",
    ] {
        let answer = server.get(fields)?;
        if let Some(coding) = coding_of(&answer) {
            let asked = if fields.is_empty() {
                "nothing"
            } else {
                fields.trim_end()
            };
            return Err(Failure::broken(format!(
                "{coding} was sent to a client that said {asked}"
            )));
        }
    }
    let answer = server.get("Accept-Encoding: gzip, br, zstd\r\n")?;
    let vary = answer
        .field("vary")
        .unwrap_or_default()
        .to_ascii_lowercase();
    let told = vary.contains("accept-encoding") || vary.contains('*');
    expect(
        told || coding_of(&answer).is_none(),
        "a coded answer does not say Vary: Accept-Encoding",
    )
}
