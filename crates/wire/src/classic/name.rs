//! Names and times of files, checked once and safe after.

use std::borrow::Borrow;
use std::fmt;

use crate::printable::escaped;
use crate::sync::STATE_DIR;

/// Longest name in bytes, as file systems have it.
const NAME_BYTES_MAX: usize = 255;

/// Name endings that are never shared: programs and libraries (classic-33).
const EXCLUDED: [&str; 3] = [".so", ".py", ".dll"];

/// The name of a file in a flat folder: 1 to 255 bytes of UTF-8, not `.`, `..` or `.ahoy`, without
/// `/`, `\`, NUL, CR or LF (classic-6). It can neither lead out of a folder nor break a line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(Box<str>);

/// Why a text is not the name of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFileName {
    /// Nothing, or too much.
    #[error("a file name has 1 to 255 bytes, this one has {0}")]
    Length(usize),
    /// A separator, a line end, NUL, or one of the names that are no files.
    #[error("\"{0}\" cannot be the name of a file here")]
    Forbidden(String),
}

impl FileName {
    /// Checks `text`; the only way to a name (classic-6).
    ///
    /// # Errors
    /// [`BadFileName`], with the reason.
    pub fn new(text: &str) -> Result<Self, BadFileName> {
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            return Err(BadFileName::Length(text.len()));
        }
        let kept = text.as_bytes() == STATE_DIR;
        let parts = |c| matches!(c, '/' | '\\' | '\0' | '\r' | '\n');
        if kept || text == "." || text == ".." || text.contains(parts) {
            return Err(BadFileName::Forbidden(escaped(text).into_owned()));
        }
        Ok(Self(text.into()))
    }

    /// The name as it stands on the wire and on the disk.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether files of this name are never shared, whoever has them (classic-33).
    #[must_use]
    pub fn is_excluded(&self) -> bool {
        let end = self.0.rfind('.').map_or("", |dot| &self.0[dot..]);
        EXCLUDED
            .iter()
            .any(|excluded| excluded.eq_ignore_ascii_case(end))
    }
}

impl Borrow<str> for FileName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Fit for a terminal: what could move a cursor is escaped.
impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escaped(&self.0))
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// When a file was last changed, in whole seconds since 1970, within what file systems can hold:
/// 1901 to 2446 (ext4). A time beyond would never be as new as announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mtime(i64);

impl Mtime {
    /// The earliest time.
    pub const MIN: Self = Self(-(1 << 31));
    /// The latest time.
    pub const MAX: Self = Self((1 << 34) - (1 << 31) - 1);

    /// `secs` if file systems can hold it.
    #[must_use]
    pub fn from_secs(secs: i64) -> Option<Self> {
        let time = Self(secs);
        (Self::MIN <= time && time <= Self::MAX).then_some(time)
    }

    /// Fractions are dropped, downwards (classic-3); None for what is no time or no number.
    #[must_use]
    pub fn from_secs_f64(secs: f64) -> Option<Self> {
        // A float that is no i64 saturates, and NaN becomes 0.
        let floor = secs.floor();
        secs.is_finite()
            .then(|| Self::from_secs(floor as i64))
            .flatten()
    }

    /// Seconds since 1970; negative before.
    #[must_use]
    pub fn secs(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// classic-6.
    #[test]
    fn a_name_stays_in_its_folder_and_on_its_line() {
        let long = "x".repeat(256);
        for bad in [
            "", ".", "..", "a/b", "/", "..\\a", "a\0", "a\nb", "a\r", ".ahoy", &long,
        ] {
            assert!(FileName::new(bad).is_err(), "{bad:?}");
        }
        for good in [
            "a",
            "...",
            ".hidden",
            "Übung 1.pdf",
            "a\tb",
            "~",
            "\u{202e}x",
        ] {
            assert_eq!(FileName::new(good).map(|name| name.0), Ok(good.into()));
        }
        let printed = FileName::new("a\x1b[2J").expect("a name").to_string();
        assert_eq!(printed, "a\\x1b[2J");
    }

    /// classic-33.
    #[test]
    fn programs_are_excluded_by_their_ending() {
        let excluded = |name| FileName::new(name).expect("a name").is_excluded();
        assert!(
            ["a.py", "b.so", "c.dll", "D.DLL", ".py"]
                .into_iter()
                .all(excluded)
        );
        assert!(
            !["a.pyc", "py", "so", "a.py.txt", "a."]
                .into_iter()
                .any(excluded)
        );
    }

    /// classic-3.
    #[test]
    fn times_are_whole_and_bounded() {
        let secs = |time: f64| Mtime::from_secs_f64(time).map(Mtime::secs);
        assert_eq!(secs(1_771_289_241.987), Some(1_771_289_241));
        assert_eq!(secs(-0.5), Some(-1));
        for odd in [f64::NAN, f64::INFINITY, 1e300, -1e300, 15_032_385_536.0] {
            assert_eq!(secs(odd), None, "{odd}");
        }
        assert_eq!(secs(15_032_385_535.0), Some(15_032_385_535));
    }
}
