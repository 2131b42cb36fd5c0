//! The file in which an enroll server keeps registrations: JSON lines or CSV (enroll-23 to
//! enroll-26).
//!
//! Lines are only ever appended, and are on the disk when [`Record::keep`] returns. A write that
//! fails is taken back, so that a full disk leaves no half line behind. One process at a time: the
//! file is locked. It does not know the time; the roof says it.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ahoy_wire::enroll::{Registration, Sid};
use ahoy_wire::printable;
use serde::{Serialize, Serializer};

/// The columns of a CSV file.
const HEADER: &str = "time,client,student_name,github_username,sid\n";
/// More than any line of ours is long, in bytes: 64 KiB of text, each byte escaped into six.
const LINE_LEN_MAX: u64 = 512 * 1024;

/// How registrations are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line, exact.
    JsonLines,
    /// Comma-separated, safe to open in a spreadsheet.
    Csv,
}

/// An open record file.
#[derive(Debug)]
pub struct Record {
    file: File,
    format: Format,
    /// Where the file ends, in bytes.
    len: u64,
    now: fn() -> String,
}

/// Why a file cannot be used for records.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The name does not say which format is wanted.
    #[error("{} ends in neither .jsonl nor .csv", path.display())]
    Name {
        /// The file.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error("another process is recording into {}", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// There is something else in it.
    #[error("{} holds something other than registrations", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The system does not let us.
    #[error("cannot record into {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Format {
    /// The format that a file's name asks for.
    ///
    /// # Errors
    /// [`OpenError::Name`].
    pub fn of(path: &Path) -> Result<Self, OpenError> {
        match path.extension().and_then(OsStr::to_str) {
            Some("jsonl") => Ok(Self::JsonLines),
            Some("csv") => Ok(Self::Csv),
            _ => Err(OpenError::Name { path: path.into() }),
        }
    }
}

impl Record {
    /// Opens `path` to append to it, or creates it; `now` says the time that lines bear.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path, now: fn() -> String) -> Result<Self, OpenError> {
        let format = Format::of(path)?;
        let io = |source| OpenError::Io {
            path: path.into(),
            source,
        };
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(path);
        let file = file.map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: path.into() }),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let len = file.metadata().map_err(io)?.len();
        let mut record = Self {
            file,
            format,
            len,
            now,
        };
        if !record.is_ours().map_err(io)? {
            return Err(OpenError::Foreign { path: path.into() });
        }
        record.begin(path).map_err(io)?;
        Ok(record)
    }

    /// Appends registrations of the client at `peer`, all or none, and waits until they are on the
    /// disk.
    ///
    /// # Errors
    /// What the system said; then none of them is in the file.
    pub fn keep<'a>(
        &mut self,
        peer: SocketAddr,
        registrations: impl IntoIterator<Item = &'a Registration>,
    ) -> io::Result<()> {
        let time = (self.now)();
        let mut lines = String::new();
        for registration in registrations {
            match self.format {
                Format::JsonLines => json_line(&mut lines, &time, peer, registration)?,
                Format::Csv => csv_line(&mut lines, &time, peer, registration),
            }
        }
        self.append(lines.as_bytes())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self
            .file
            .write_all(bytes)
            .and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.len += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // If even this fails, the next start finds the half line and ends it.
                let _ = self.file.set_len(self.len);
                Err(error)
            }
        }
    }

    /// Whether the file is empty or begins as one of ours, perhaps cut off early.
    fn is_ours(&mut self) -> io::Result<bool> {
        let mut head = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        let most = HEADER.len() as u64;
        Read::by_ref(&mut self.file)
            .take(most)
            .read_to_end(&mut head)?;
        Ok(match self.format {
            Format::JsonLines => head.first().is_none_or(|byte| *byte == b'{'),
            Format::Csv => HEADER.as_bytes().starts_with(&head),
        })
    }

    /// Makes sure that the next line is a line of its own, under a header if it needs one.
    fn begin(&mut self, path: &Path) -> io::Result<()> {
        let is_new = self.len == 0;
        let beginning = match self.format {
            Format::Csv if self.len < HEADER.len() as u64 => {
                let written = usize::try_from(self.len).unwrap_or(HEADER.len());
                HEADER[written..].to_owned()
            }
            Format::Csv | Format::JsonLines => self.missing_end()?,
        };
        if !beginning.is_empty() {
            self.append(beginning.as_bytes())?;
        }
        if is_new {
            // The name of a new file is on the disk once its directory is.
            let parent = path.parent().filter(|parent| *parent != Path::new(""));
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(())
    }

    /// What ends a last line that was cut off: a newline, in CSV after the quote that is open.
    fn missing_end(&mut self) -> io::Result<String> {
        let mut tail = Vec::new();
        let from = self.len.saturating_sub(LINE_LEN_MAX);
        self.file.seek(SeekFrom::Start(from))?;
        self.file.read_to_end(&mut tail)?;
        let last = tail
            .rsplit(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        if last.is_empty() {
            return Ok(String::new());
        }
        let quotes = last.iter().filter(|byte| **byte == b'"').count();
        let is_open = self.format == Format::Csv && quotes % 2 == 1;
        Ok(if is_open { "\"\n" } else { "\n" }.to_owned())
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: &'a str,
    client: String,
    student_name: &'a str,
    github_username: &'a str,
    #[serde(serialize_with = "json_sid")]
    sid: &'a Sid,
}

fn json_line(
    lines: &mut String,
    time: &str,
    peer: SocketAddr,
    registration: &Registration,
) -> io::Result<()> {
    let line = serde_json::to_string(&JsonLine {
        time,
        client: peer.to_string(),
        student_name: &registration.student_name,
        github_username: &registration.github_username,
        sid: &registration.sid,
    })?;
    lines.push_str(&printable::escaped_json(&line));
    lines.push('\n');
    Ok(())
}

/// A number stays a number, a text a text.
fn json_sid<S: Serializer>(sid: &&Sid, serializer: S) -> Result<S::Ok, S::Error> {
    match sid {
        Sid::Number(number) => serializer.serialize_i128(*number),
        Sid::Text(text) => serializer.serialize_str(text),
    }
}

fn csv_line(lines: &mut String, time: &str, peer: SocketAddr, registration: &Registration) {
    write!(lines, "{time},{peer},").expect("a String takes everything");
    csv_text(lines, &registration.student_name);
    lines.push(',');
    csv_text(lines, &registration.github_username);
    lines.push(',');
    match &registration.sid {
        Sid::Number(number) => write!(lines, "{number}").expect("a String takes everything"),
        Sid::Text(text) => csv_text(lines, text),
    }
    lines.push('\n');
}

/// A text in quotes, on one line, and nothing that a spreadsheet would calculate (enroll-25).
fn csv_text(lines: &mut String, text: &str) {
    lines.push('"');
    if text.starts_with(begins_badly) {
        lines.push('\'');
    }
    lines.push_str(&printable::escaped(text).replace('"', "\"\""));
    lines.push('"');
}

/// The signs by which spreadsheets know a formula, in both widths; white space, which some of them
/// skip; and the quote that marks all these, so that it can be taken off again.
fn begins_badly(first: char) -> bool {
    matches!(
        first,
        '=' | '+' | '-' | '@' | '\'' | '\u{ff1d}' | '\u{ff0b}' | '\u{ff0d}' | '\u{ff20}'
    ) || first.is_whitespace()
        || first.is_control()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn now() -> String {
        "2026-11-21T08:06:00.5Z".to_owned()
    }

    fn peer() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 51_000))
    }

    fn registration(name: &str, sid: Sid) -> Registration {
        Registration {
            student_name: name.into(),
            github_username: "abrown".into(),
            sid,
        }
    }

    struct Bench {
        folder: TempDir,
        name: &'static str,
    }

    impl Bench {
        fn new(name: &'static str) -> Self {
            let folder = TempDir::new().expect("a folder");
            Self { folder, name }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join(self.name)
        }

        fn open(&self) -> Record {
            Record::open(&self.path(), now).expect("opens")
        }

        fn keep(&self, registration: &Registration) {
            self.open().keep(peer(), [registration]).expect("kept");
        }

        fn content(&self) -> String {
            fs::read_to_string(self.path()).expect("readable")
        }
    }

    #[test]
    fn json_lines_are_exact() {
        let bench = Bench::new("r.jsonl");
        let odd = "Zoë \"Z\" \\ \n\u{1b}[2J\u{2028}";
        bench.keep(&registration(odd, Sid::Number(i128::MIN)));
        bench.keep(&registration("=1+1", Sid::Text("0042".into())));
        let content = bench.content();
        let lines: Vec<&str> = content.lines().collect();
        assert_eq!(
            lines[1],
            concat!(
                r#"{"time":"2026-11-21T08:06:00.5Z","client":"127.0.0.1:51000","#,
                r#""student_name":"=1+1","github_username":"abrown","sid":"0042"}"#
            )
        );
        assert!(lines[0].ends_with(r#""sid":-170141183460469231731687303715884105728}"#));
        let first: serde_json::Value =
            serde_json::from_str(&lines[0].replace(&i128::MIN.to_string(), "0")).expect("JSON");
        assert_eq!(first["student_name"], odd);
        assert_eq!(lines.len(), 2);
    }

    /// enroll-25.
    #[test]
    fn csv_is_one_line_each_and_no_formula() {
        let bench = Bench::new("r.csv");
        for (name, expected) in [
            ("Alice, \"A\" Brown", "\"Alice, \"\"A\"\" Brown\""),
            ("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("＝1+1", "\"'＝1+1\""),
            (" =1", "\"' =1\""),
            ("\t=1", "\"'\\t=1\""),
            ("\r=1", "\"'\\r=1\""),
            ("'s", "\"''s\""),
            ("a\nb\u{1b}\0", "\"a\\nb\\x1b\\x00\""),
            ("", "\"\""),
        ] {
            bench.keep(&registration(name, Sid::Number(-5)));
            let content = bench.content();
            let line = content.lines().last().expect("a line");
            let expected =
                format!("2026-11-21T08:06:00.5Z,127.0.0.1:51000,{expected},\"abrown\",-5");
            assert_eq!(line, expected);
        }
        bench.keep(&registration("x", Sid::Text("-5".into())));
        assert!(bench.content().starts_with(HEADER));
        assert!(bench.content().ends_with(",\"abrown\",\"'-5\"\n"));
        assert_eq!(bench.content().matches(HEADER.trim()).count(), 1);
    }

    #[test]
    fn a_cut_line_is_ended_and_never_changed() {
        for (name, cut, ended) in [
            ("r.jsonl", "{\"time\":\"20", "{\"time\":\"20\n"),
            ("r.jsonl", "{}\n", "{}\n"),
            ("r.csv", "time,cli", HEADER),
            ("r.csv", HEADER, HEADER),
            (
                "r.csv",
                "time,client,student_name,github_username,sid\nt,c,\"Ali",
                "time,client,student_name,github_username,sid\nt,c,\"Ali\"\n",
            ),
            (
                "r.csv",
                "time,client,student_name,github_username,sid\nt,c,\"Ali\",",
                "time,client,student_name,github_username,sid\nt,c,\"Ali\",\n",
            ),
        ] {
            let bench = Bench::new(name);
            fs::write(bench.path(), cut).expect("written");
            bench.keep(&registration("Bob", Sid::Number(1)));
            let content = bench.content();
            assert!(content.starts_with(ended), "{content:?}");
            assert_eq!(content.lines().count(), ended.lines().count() + 1);
        }
    }

    #[test]
    fn a_file_of_something_else_is_left_alone() {
        for (name, content) in [("r.csv", "name,age\n"), ("r.jsonl", "hello\n")] {
            let bench = Bench::new(name);
            fs::write(bench.path(), content).expect("written");
            let refused = Record::open(&bench.path(), now);
            assert!(matches!(refused, Err(OpenError::Foreign { .. })), "{name}");
            assert_eq!(bench.content(), content);
        }
        let other = Record::open(Path::new("r.txt"), now);
        assert!(matches!(other, Err(OpenError::Name { .. })));
    }

    #[test]
    fn one_process_at_a_time() {
        let bench = Bench::new("r.csv");
        let first = bench.open();
        let second = Record::open(&bench.path(), now);
        assert!(matches!(second, Err(OpenError::InUse { .. })));
        drop(first);
        bench.open();
    }

    #[test]
    fn a_write_that_fails_leaves_no_half_line() {
        let bench = Bench::new("r.csv");
        let mut record = bench.open();
        record.file = File::open(bench.path()).expect("to read only");
        let registration = registration("Alice", Sid::Number(1));
        assert!(record.keep(peer(), [&registration]).is_err());
        assert_eq!(bench.content(), HEADER);
    }
}
