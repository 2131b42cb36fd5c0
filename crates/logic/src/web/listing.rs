//! The page that shows what is in a folder (web-25, web-26).
//!
//! It runs no script and loads nothing. Names are a stranger's bytes: percent-encoded in links,
//! and as text escaped, with control and direction characters made visible.

use std::io::Write as _;

use super::target::encode_path;

/// Most entries one page shows; the page says so when there are more.
pub const LISTING_ENTRIES_MAX: usize = 10_000;

/// One line of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name as the disk has it.
    pub name: Vec<u8>,
    /// A folder, not a file.
    pub folder: bool,
    /// Length of a file in bytes.
    pub len: u64,
    /// Last modification, seconds since 1970.
    pub modified_secs: i64,
}

const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;\
padding:0 1rem;color-scheme:light dark}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.15rem .75rem .15rem 0}td:nth-child(2),th:nth-child(2)\
{text-align:right}td:nth-child(n+2){white-space:nowrap;font-variant-numeric:tabular-nums}\
td:first-child{overflow-wrap:anywhere}tr:hover{background:#8882}\
@media(max-width:32rem){td:nth-child(3),th:nth-child(3){display:none}}a{text-decoration:none}\
a:hover{text-decoration:underline}";

/// Writes the page of the folder at `path` (empty for the served folder). `truncated` says that
/// there are more entries than were read.
pub fn listing_page(path: &[u8], mut entries: Vec<Entry>, truncated: bool) -> Vec<u8> {
    entries.sort_by(|a, b| b.folder.cmp(&a.folder).then_with(|| a.name.cmp(&b.name)));
    let mut out = Vec::with_capacity(1024 + entries.len() * 160);
    let mut title = b"/".to_vec();
    if !path.is_empty() {
        title.extend_from_slice(path);
        title.push(b'/');
    }
    out.extend_from_slice(
        b"<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
          <meta name=\"viewport\" content=\"width=device-width\"><title>Index of ",
    );
    escape(&mut out, &title);
    out.extend_from_slice(b"</title><style>");
    out.extend_from_slice(STYLE.as_bytes());
    out.extend_from_slice(b"</style></head>\n<body><h1>Index of ");
    escape(&mut out, &title);
    out.extend_from_slice(
        b"</h1>\n<table><thead><tr><th>Name</th><th>Size</th><th>Modified (UTC)</th></tr></thead>\
          \n<tbody>\n",
    );
    if !path.is_empty() {
        out.extend_from_slice(b"<tr><td><a href=\"../\">../</a></td><td></td><td></td></tr>\n");
    }
    for entry in &entries {
        write_row(&mut out, entry);
    }
    out.extend_from_slice(b"</tbody></table>\n");
    if truncated {
        writeln!(
            out,
            "<p>Only the first {} entries that were found are shown.</p>",
            entries.len()
        )
        .expect("a Vec takes every write");
    } else if entries.is_empty() {
        out.extend_from_slice(b"<p>Nothing here.</p>\n");
    }
    out.extend_from_slice(b"</body></html>\n");
    out
}

fn write_row(out: &mut Vec<u8>, entry: &Entry) {
    let slash: &[u8] = if entry.folder { b"/" } else { b"" };
    out.extend_from_slice(b"<tr><td><a href=\"");
    encode_path(out, &entry.name);
    out.extend_from_slice(slash);
    out.extend_from_slice(b"\">");
    escape(out, &entry.name);
    out.extend_from_slice(slash);
    out.extend_from_slice(b"</a></td><td>");
    if !entry.folder {
        write_size(out, entry.len);
    }
    out.extend_from_slice(b"</td><td>");
    write_minute(out, entry.modified_secs);
    out.extend_from_slice(b"</td></tr>\n");
}

/// Appends text that can neither leave its place in the page nor change how the rest reads.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    for char in String::from_utf8_lossy(text).chars() {
        match char {
            '&' => out.extend_from_slice(b"&amp;"),
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '"' => out.extend_from_slice(b"&quot;"),
            '\'' => out.extend_from_slice(b"&#39;"),
            // Control and direction characters, which could hide or reverse what follows.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.extend_from_slice("\u{fffd}".as_bytes());
            }
            char if char.is_control() => out.extend_from_slice("\u{fffd}".as_bytes()),
            char => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Appends a length for people: bytes up to 1023, then three digits and a binary unit.
fn write_size(out: &mut Vec<u8>, len: u64) {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if len < 1024 {
        write!(out, "{len} B").expect("a Vec takes every write");
        return;
    }
    let mut unit = 0;
    let mut tenths = u128::from(len) * 10 / 1024;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let name = UNITS[unit];
    let written = if tenths < 1000 {
        write!(out, "{}.{} {name}", tenths / 10, tenths % 10)
    } else {
        write!(out, "{} {name}", tenths / 10)
    };
    written.expect("a Vec takes every write");
}

/// Appends `2026-11-21 08:10`, from the date that HTTP would print.
fn write_minute(out: &mut Vec<u8>, secs: i64) {
    let date = ahoy_wire::web::HttpDate::from_unix_secs(secs).to_string();
    let month = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]
    .iter()
    .position(|name| *name == &date[8..11])
    .map_or(0, |index| index + 1);
    write!(
        out,
        "{}-{month:02}-{} {}",
        &date[12..16],
        &date[5..7],
        &date[17..22]
    )
    .expect("a Vec takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &[u8], folder: bool, len: u64) -> Entry {
        Entry {
            name: name.to_vec(),
            folder,
            len,
            modified_secs: 784_111_777,
        }
    }

    fn page(path: &[u8], entries: Vec<Entry>) -> String {
        String::from_utf8(listing_page(path, entries, false)).expect("the page is UTF-8")
    }

    #[test]
    fn rows_in_order_folders_first() {
        let text = page(
            b"",
            vec![entry(b"b.txt", false, 1536), entry(b"z", true, 0)],
        );
        let rows: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("<tr><td>"))
            .collect();
        assert_eq!(
            rows,
            [
                "<tr><td><a href=\"z/\">z/</a></td><td></td><td>1994-11-06 08:49</td></tr>",
                "<tr><td><a href=\"b.txt\">b.txt</a></td><td>1.5 KiB</td>\
                 <td>1994-11-06 08:49</td></tr>",
            ]
        );
        assert!(!text.contains("../"), "the served folder has no way up");
        assert!(page(b"sub", vec![]).contains("href=\"../\""));
    }

    #[test]
    fn hostile_names_stay_text() {
        let names: [&[u8]; 5] = [
            b"<script>alert(1)</script>",
            b"\" onmouseover=\"x",
            b"javascript:alert(1)",
            "evil\u{202e}txt.exe".as_bytes(),
            b"\xff\n\x1b[2J",
        ];
        let text = page(
            b"<b>",
            names.iter().map(|name| entry(name, false, 0)).collect(),
        );
        assert!(!text.contains("<script"));
        assert!(!text.contains("<b>"));
        assert!(!text.contains("\" onmouseover"));
        assert!(text.contains("href=\"javascript%3Aalert%281%29\""));
        assert!(!text.contains('\u{202e}') && !text.contains('\x1b'));
        assert!(text.contains("href=\"%FF%0A%1B%5B2J\""));
    }

    #[test]
    fn sizes() {
        for (len, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (102_399, "99.9 KiB"),
            (102_400, "100 KiB"),
            (1_048_575, "1023 KiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            let mut out = Vec::new();
            write_size(&mut out, len);
            assert_eq!(String::from_utf8_lossy(&out), want, "{len}");
        }
    }
}
