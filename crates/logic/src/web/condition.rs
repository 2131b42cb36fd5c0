//! Preconditions, in the order of RFC 9110 section 13.2.2 (web-32 to web-35, web-43).

use ahoy_wire::web::{Conditions, EntityTag, HttpDate, IfRange, TagList};

/// What the preconditions make of a `GET` or `HEAD` that would otherwise succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on. A range may be applied only if `range_allowed`.
    Proceed {
        /// False if `If-Range` names another version.
        range_allowed: bool,
    },
    /// The client has this version: 304.
    NotModified,
    /// The client wanted another version: 412.
    Failed,
}

/// The two validators of a representation.
#[derive(Clone, Copy, Debug)]
pub struct Validators<'a> {
    /// Its entity tag.
    pub tag: &'a EntityTag,
    /// Its time of modification.
    pub modified: HttpDate,
}

/// Weighs the preconditions of a request against the representation that was selected for it.
pub fn evaluate(conditions: &Conditions, current: Validators<'_>) -> Verdict {
    // Step 1, and step 2 only without it (web-34).
    match (&conditions.if_match, conditions.if_unmodified_since) {
        (Some(list), _) if !any(list, |tag| tag.strong_eq(current.tag)) => return Verdict::Failed,
        (None, Some(since)) if current.modified > since => return Verdict::Failed,
        (Some(_), _) | (None, _) => {}
    }
    // Step 3, and step 4 only without it (web-32, web-33).
    match (&conditions.if_none_match, conditions.if_modified_since) {
        (Some(list), _) if any(list, |tag| tag.weak_eq(current.tag)) => {
            return Verdict::NotModified;
        }
        (None, Some(since)) if current.modified <= since => return Verdict::NotModified,
        (Some(_), _) | (None, _) => {}
    }
    // Step 5. A date counts only while it is as good as a strong tag, which is what a strong tag
    // of ours says: the file was not touched within the second before (section 8.8.2.2).
    let range_allowed = match &conditions.if_range {
        None => true,
        Some(IfRange::Tag(tag)) => tag.strong_eq(current.tag),
        Some(IfRange::Date(date)) => *date == current.modified && !current.tag.is_weak(),
        Some(IfRange::Unreadable) => false,
    };
    Verdict::Proceed { range_allowed }
}

fn any(list: &TagList, matches: impl Fn(&EntityTag) -> bool) -> bool {
    match list {
        TagList::Any => true,
        TagList::Tags(tags) => tags.iter().any(matches),
    }
}

#[cfg(test)]
mod tests {
    use ahoy_wire::web::{Parsed, parse_request};

    use super::*;

    const PROCEED: Verdict = Verdict::Proceed {
        range_allowed: true,
    };
    const WHOLE: Verdict = Verdict::Proceed {
        range_allowed: false,
    };
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const EQUAL: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    /// The file has the tag `"a"` (weak if said so) and was modified at `EQUAL`.
    fn check_tag(weak: bool, fields: &str, want: Verdict) {
        let text = format!("GET / HTTP/1.0\r\n{fields}\r\n");
        let Ok(Parsed::Complete { head, .. }) = parse_request(text.as_bytes()) else {
            panic!("{fields}")
        };
        let tag = EntityTag::new(weak, "a").expect("plain");
        let current = Validators {
            tag: &tag,
            modified: HttpDate::from_unix_secs(784_111_777),
        };
        assert_eq!(
            evaluate(&head.conditions, current),
            want,
            "weak {weak} {fields:?}"
        );
    }

    fn check(fields: &str, want: Verdict) {
        check_tag(false, fields, want);
    }

    #[test]
    fn each_alone() {
        check("", PROCEED);
        check("If-Match: *\r\n", PROCEED);
        check("If-Match: \"a\"\r\n", PROCEED);
        check("If-Match: \"x\", \"a\"\r\n", PROCEED);
        check("If-Match: W/\"a\"\r\n", Verdict::Failed);
        check("If-Match: \"x\"\r\n", Verdict::Failed);
        check_tag(true, "If-Match: W/\"a\"\r\n", Verdict::Failed);
        check("If-None-Match: *\r\n", Verdict::NotModified);
        check("If-None-Match: W/\"a\"\r\n", Verdict::NotModified);
        check("If-None-Match: \"x\"\r\n", PROCEED);
        check_tag(true, "If-None-Match: \"a\"\r\n", Verdict::NotModified);
        for (date, unmodified, modified) in [
            (BEFORE, Verdict::Failed, PROCEED),
            (EQUAL, PROCEED, Verdict::NotModified),
            (AFTER, PROCEED, Verdict::NotModified),
            ("not a date", PROCEED, PROCEED),
        ] {
            check(&format!("If-Unmodified-Since: {date}\r\n"), unmodified);
            check(&format!("If-Modified-Since: {date}\r\n"), modified);
        }
    }

    #[test]
    fn if_range() {
        check("If-Range: \"a\"\r\n", PROCEED);
        check("If-Range: \"x\"\r\n", WHOLE);
        check("If-Range: W/\"a\"\r\n", WHOLE);
        check_tag(true, "If-Range: W/\"a\"\r\n", WHOLE);
        check_tag(true, "If-Range: \"a\"\r\n", WHOLE);
        check(&format!("If-Range: {EQUAL}\r\n"), PROCEED);
        check(&format!("If-Range: {AFTER}\r\n"), WHOLE);
        check_tag(true, &format!("If-Range: {EQUAL}\r\n"), WHOLE);
        check("If-Range: nonsense\r\n", WHOLE);
    }

    #[test]
    fn precedence() {
        // A tag condition silences the date condition of its kind.
        check(
            &format!("If-Match: \"a\"\r\nIf-Unmodified-Since: {BEFORE}\r\n"),
            PROCEED,
        );
        check(
            &format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {AFTER}\r\n"),
            PROCEED,
        );
        check(
            &format!("If-None-Match: \"a\"\r\nIf-Modified-Since: {BEFORE}\r\n"),
            Verdict::NotModified,
        );
        // 412 comes before 304, 304 before the range.
        check(
            "If-Match: \"x\"\r\nIf-None-Match: \"a\"\r\n",
            Verdict::Failed,
        );
        check(
            "If-Match: \"a\"\r\nIf-None-Match: \"a\"\r\n",
            Verdict::NotModified,
        );
        check(
            &format!("If-Unmodified-Since: {BEFORE}\r\nIf-Modified-Since: {AFTER}\r\n"),
            Verdict::Failed,
        );
        check(
            "If-None-Match: \"a\"\r\nIf-Range: \"x\"\r\n",
            Verdict::NotModified,
        );
    }
}
