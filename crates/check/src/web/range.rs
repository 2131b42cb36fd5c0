//! Cases about ranges (web-40 to web-45).

use ahoy_wire::web::{ContentRange, parse_content_range};

use super::client::Answer;
use super::requirements::{WEB_40, WEB_41, WEB_42, WEB_43, WEB_44, WEB_45};
use super::{Entry, Server, expect};
use crate::case::{Failure, Outcome};

/// The cases need a first, a middle and a last byte that are not the same.
const FILE_BYTES_MIN: usize = 4;
/// More ranges than any client means.
const MANY_RANGES: usize = 1000;

pub(super) fn cases() -> Vec<Entry> {
    vec![
        (&WEB_40, "first-bytes", first_bytes),
        (&WEB_40, "from-the-middle", from_the_middle),
        (&WEB_40, "last-bytes", last_bytes),
        (&WEB_40, "beyond-the-end", beyond_the_end),
        (&WEB_41, "two-parts", two_parts),
        (&WEB_42, "after-the-end", after_the_end),
        (&WEB_43, "current-tag", if_range_current),
        (&WEB_43, "other-tag", if_range_other),
        (&WEB_44, "a-thousand-overlapping", a_thousand),
        (&WEB_45, "nonsense", nonsense),
        (&WEB_45, "head", head),
    ]
}

/// The known file, if it is long enough.
fn file(server: &Server<'_>) -> Result<Answer, Failure> {
    let answer = server.true_file()?;
    if answer.body.len() < FILE_BYTES_MIN {
        return Err(Failure::skipped(
            "the file is too short for ranges; name one with --path",
        ));
    }
    Ok(answer)
}

/// The range gets 206 with these bytes of the file.
fn partial(server: &Server<'_>, range: &str, start: usize, end: usize) -> Outcome {
    let whole = file(server)?.body;
    let answer = server.get(&format!("Range: bytes={range}\r\n"))?;
    answer.expect_status(&format!("Range: bytes={range}"), &[206])?;
    let field = answer.field("content-range").unwrap_or_default();
    let wanted = ContentRange {
        range: Some((start as u64, end as u64 - 1)),
        len: Some(whole.len() as u64),
    };
    let read = parse_content_range(&field);
    let known = read == Some(wanted)
        || read
            == Some(ContentRange {
                len: None,
                ..wanted
            });
    expect(
        known,
        format!(
            "bytes={range} of {}: Content-Range is {field:?}",
            whole.len()
        ),
    )?;
    expect(
        answer.body == whole[start..end],
        format!("bytes={range}: other bytes were sent"),
    )
}

fn first_bytes(server: &Server<'_>) -> Outcome {
    partial(server, "0-0", 0, 1)?;
    partial(server, "0-2", 0, 3)
}

fn from_the_middle(server: &Server<'_>) -> Outcome {
    let len = file(server)?.body.len();
    partial(server, &format!("{}-", len / 2), len / 2, len)?;
    partial(server, "1-2", 1, 3)
}

fn last_bytes(server: &Server<'_>) -> Outcome {
    let len = file(server)?.body.len();
    partial(server, "-3", len - 3, len)?;
    partial(server, &format!("-{}", len + 10), 0, len)
}

fn beyond_the_end(server: &Server<'_>) -> Outcome {
    let len = file(server)?.body.len();
    partial(server, &format!("1-{}", len + 1000), 1, len)
}

/// The bytes of each part are looked for after its head; how parts are split is not judged.
fn two_parts(server: &Server<'_>) -> Outcome {
    let whole = file(server)?.body;
    let last = whole.len() - 1;
    let answer = server.get(&format!("Range: bytes=0-0,{last}-\r\n"))?;
    answer.expect_status("two ranges", &[206])?;
    let kind = answer.field("content-type").unwrap_or_default();
    let is_multipart = kind
        .to_ascii_lowercase()
        .starts_with("multipart/byteranges");
    expect(
        is_multipart,
        format!("two ranges were answered as {kind:?}"),
    )?;
    for (first, byte) in [(0, whole[0]), (last, whole[last])] {
        let mark = format!("bytes {first}-{first}/{}\r\n", whole.len());
        let place = answer
            .body
            .windows(mark.len())
            .position(|bytes| bytes == mark.as_bytes());
        let place = place.ok_or_else(|| Failure::broken(format!("no part says {mark:?}")))?;
        let after = &answer.body[place..];
        let start = after.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let sent = start.and_then(|start| after.get(start + 4));
        expect(
            sent == Some(&byte),
            format!("the part {mark:?} has another byte"),
        )?;
    }
    Ok(())
}

fn after_the_end(server: &Server<'_>) -> Outcome {
    let len = file(server)?.body.len();
    let answer = server.get(&format!("Range: bytes={len}-\r\n"))?;
    answer.expect_status(&format!("Range: bytes={len}- of {len} bytes"), &[416])?;
    let field = answer.field("content-range").unwrap_or_default();
    let wanted = ContentRange {
        range: None,
        len: Some(len as u64),
    };
    expect(
        parse_content_range(&field) == Some(wanted),
        format!("416 with Content-Range {field:?}, not \"bytes */{len}\""),
    )
}

fn if_range_current(server: &Server<'_>) -> Outcome {
    let whole = file(server)?;
    let tag = whole
        .field("etag")
        .ok_or_else(|| Failure::skipped("the server gives no ETag"))?;
    let fields = format!("Range: bytes=0-1\r\nIf-Range: {tag}\r\n");
    let answer = server.get(&fields)?;
    // A weak tag never matches here.
    let wanted = if tag.starts_with("W/") { 200 } else { 206 };
    answer.expect_status(&format!("If-Range: {tag}"), &[wanted])
}

fn if_range_other(server: &Server<'_>) -> Outcome {
    let whole = file(server)?;
    for other in [
        "\"no-tag-of-this-file\"",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "W/\"weak\"",
    ] {
        if whole.field("last-modified").as_deref() == Some(other) {
            continue;
        }
        let answer = server.get(&format!("Range: bytes=0-1\r\nIf-Range: {other}\r\n"))?;
        answer.expect_status(&format!("If-Range: {other}"), &[200])?;
        expect(
            answer.body == whole.body,
            format!("If-Range: {other}: not the whole file"),
        )?;
    }
    Ok(())
}

fn a_thousand(server: &Server<'_>) -> Outcome {
    let len = file(server)?.body.len();
    let answer = server.get(&format!("Range: bytes={}0-\r\n", "0-,".repeat(MANY_RANGES)))?;
    let room = 2 * len + 4096;
    expect(
        answer.body.len() <= room,
        format!(
            "{MANY_RANGES} ranges of {len} bytes were answered by {}",
            answer.body.len()
        ),
    )
}

fn nonsense(server: &Server<'_>) -> Outcome {
    let whole = file(server)?.body;
    for range in ["bytes=2-1", "bytes=", "bytes=x-y", "lines=0-1", "bytes"] {
        let answer = server.get(&format!("Range: {range}\r\n"))?;
        // RFC 9110 section 14.2 lets a server refuse such a range, too.
        answer.expect_status(&format!("Range: {range}"), &[200, 400, 416])?;
        let all = answer.status() != 200 || answer.body == whole;
        expect(all, format!("Range: {range}: not the whole file"))?;
    }
    Ok(())
}

fn head(server: &Server<'_>) -> Outcome {
    let request = server.request("HEAD", &server.target.path, "Range: bytes=0-1\r\n");
    server
        .ask(&request)?
        .expect_status("HEAD with a Range", &[200])
}
