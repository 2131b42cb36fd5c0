//! The dates of HTTP (RFC 9110 section 5.6.7): whole seconds since 1970, written in the one form
//! that may be sent and read in the three forms that may arrive.
//!
//! The calendar is httpdate's. Times it could not print (before 1970, after 9999) are clamped, as
//! a file's own time stamp may say anything.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of a date as it is sent: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub const DATE_LEN: usize = 29;

/// The last second that four digits of year can name.
pub const HTTP_SECS_MAX: u64 = 253_402_300_799;

/// A moment, in whole seconds since 1970-01-01 00:00:00 UTC, at most [`HTTP_SECS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpDate(u64);

impl HttpDate {
    /// The date of a Unix time, clamped to what HTTP can say.
    pub fn from_unix_secs(secs: i64) -> Self {
        HttpDate(u64::try_from(secs).unwrap_or(0).min(HTTP_SECS_MAX))
    }

    /// Seconds since 1970.
    pub fn unix_secs(self) -> u64 {
        self.0
    }

    /// Reads any of the three forms; `None` for anything else.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
        let time = httpdate::parse_http_date(text).ok()?;
        let secs = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
        Some(HttpDate(secs.min(HTTP_SECS_MAX)))
    }

    fn system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.0)
    }
}

impl std::fmt::Display for HttpDate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        httpdate::HttpDate::from(self.system_time()).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_forms_read_one_form_written() {
        let want = "Sun, 06 Nov 1994 08:49:37 GMT";
        for form in [
            want,
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            let date = HttpDate::parse(form.as_bytes()).expect(form);
            assert_eq!(date.unix_secs(), 784_111_777, "{form}");
            assert_eq!(date.to_string(), want, "{form}");
        }
        assert_eq!(want.len(), DATE_LEN);
    }

    #[test]
    fn impossible_times_are_clamped_not_a_panic() {
        assert_eq!(
            HttpDate::from_unix_secs(-5).to_string(),
            "Thu, 01 Jan 1970 00:00:00 GMT"
        );
        let last = HttpDate::from_unix_secs(i64::MAX);
        assert_eq!(last.to_string(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn nonsense_is_no_date() {
        for bad in [
            "",
            "yesterday",
            "Sun, 06 Nov 1994 25:49:37 GMT",
            "0",
            "\u{e9}",
        ] {
            assert_eq!(HttpDate::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(HttpDate::parse(b"\xff\xfe"), None);
    }
}
