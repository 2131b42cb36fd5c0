//! Names for what has to stand beside its namesake: whose it is and when it was written.
//!
//! The text depends on the record alone, so every machine gives the same name. The time is the
//! file's own modification time in UTC: it is displayed, and decides nothing.

use ahoy_wire::sync::{Body, Mtime, Name, NodeId, Value};

const NAME_BYTES_MAX: usize = 255;

/// `report (conflict, anna, 2026-11-21 14.03.11).txt`: a content that lost a conflict.
pub fn conflict(name: &Name, lost: &Body) -> Name {
    let when = utc(mtime_of(&lost.value));
    insert(
        name,
        &format!(" (conflict, {}, {when})", lost.author.as_str()),
    )
}

/// The same with the node's id: two different nodes want one name, this one has to give way. Each
/// attempt is another name: a part of the id, all of it, all of it and a number.
pub fn displaced(name: &Name, body: &Body, id: NodeId, attempt: u32) -> Name {
    let hex: String = id.0.iter().map(|b| format!("{b:02x}")).collect();
    let label = body.author.as_str();
    let mark = match attempt {
        0 => hex[..8].to_owned(),
        1 => hex,
        more => format!("{hex} {more}"),
    };
    insert(name, &format!(" (conflict, {label}, {mark})"))
}

/// `report (not sent, 2026-11-21 14.03.11).txt`: what a reader wrote over a file of the share
/// (`sync-29`). Each attempt is another name.
pub fn not_sent(name: &Name, mtime: Mtime, attempt: u32) -> Name {
    let when = utc(mtime);
    let mark = match attempt {
        0 => format!(" (not sent, {when})"),
        more => format!(" (not sent, {when}, {more})"),
    };
    insert(name, &mark)
}

fn mtime_of(value: &Value) -> Mtime {
    match value {
        Value::Dir(meta) | Value::File { meta, .. } => meta.mtime,
        Value::Link { mtime, .. } => *mtime,
        Value::Gone { was, .. } => mtime_of(was),
    }
}

/// Puts `mark` before the extension, shortening the stem where the whole would be too long.
fn insert(name: &Name, mark: &str) -> Name {
    let bytes = name.as_bytes();
    let dot = bytes
        .iter()
        .rposition(|b| *b == b'.')
        .filter(|&i| i > 0 && bytes.len() - i <= 16);
    let (stem, extension) = bytes.split_at(dot.unwrap_or(bytes.len()));
    let room = NAME_BYTES_MAX - mark.len().min(128) - extension.len();
    let stem = shorten(stem, room);
    let whole = [stem, &mark.as_bytes()[..mark.len().min(128)], extension].concat();
    Name::new(&whole).expect("parts of a good name and a mark without slashes, within 255 bytes")
}

/// At most `room` bytes of `stem`, not cut inside a UTF-8 character if it is UTF-8.
fn shorten(stem: &[u8], room: usize) -> &[u8] {
    if stem.len() <= room {
        return stem;
    }
    match std::str::from_utf8(stem) {
        Ok(text) => &stem[..text.floor_char_boundary(room)],
        Err(_) => &stem[..room],
    }
}

/// `YYYY-MM-DD HH.MM.SS` of a time, proleptic Gregorian, UTC. Years are clamped to 0-9999.
fn utc(time: Mtime) -> String {
    let secs = time.secs.clamp(-62_167_219_200, 253_402_300_799);
    let (days, rest) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    // Days since 0000-03-01, in eras of 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}.{minute:02}.{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let check = |secs, want| assert_eq!(utc(Mtime { secs, nanos: 0 }), want);
        check(0, "1970-01-01 00.00.00");
        check(951_827_696, "2000-02-29 12.34.56");
        check(1_795_255_391, "2026-11-21 10.03.11");
        check(-1, "1969-12-31 23.59.59");
        check(i64::MAX, "9999-12-31 23.59.59");
        check(i64::MIN, "0000-01-01 00.00.00");
    }

    #[test]
    fn the_mark_stands_before_the_extension_and_fits() {
        let check = |name: &[u8], want: &[u8]| {
            let got = insert(&Name::new(name).expect("good name"), " (x)");
            assert_eq!(got.as_bytes(), want, "{}", name.escape_ascii());
        };
        check(b"report.txt", b"report (x).txt");
        check(b".bashrc", b".bashrc (x)");
        check(b"plain", b"plain (x)");
        check(b"a.tar.gz", b"a.tar (x).gz");
        let long = insert(&Name::new(&[b'n'; 255]).expect("good name"), " (x)");
        assert_eq!(long.as_bytes().len(), 255);
        let umlauts = "ä".repeat(127);
        let long = insert(&Name::new(umlauts.as_bytes()).expect("good name"), " (x)");
        assert!(std::str::from_utf8(long.as_bytes()).is_ok());
    }
}
