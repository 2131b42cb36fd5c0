//! Entity tags and the two ways to compare them (RFC 9110 section 8.8.3).

/// Most tags read from one `If-Match` or `If-None-Match`; a longer list is no match.
pub const ENTITY_TAGS_MAX: usize = 64;

/// `"opaque"` or `W/"opaque"`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntityTag {
    weak: bool,
    /// Without the quotes; only bytes that may stand between them.
    opaque: Vec<u8>,
}

impl EntityTag {
    /// A tag from an opaque text of ours; `None` if a byte may not stand in a tag.
    pub fn new(weak: bool, opaque: impl Into<Vec<u8>>) -> Option<Self> {
        let opaque = opaque.into();
        opaque
            .iter()
            .all(|&b| is_tag_byte(b))
            .then_some(EntityTag { weak, opaque })
    }

    /// Reads one whole tag.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (tag, rest) = split_tag(value.trim_ascii())?;
        rest.is_empty().then_some(tag)
    }

    /// True for `W/"..."`: the same meaning, perhaps not the same bytes.
    pub fn is_weak(&self) -> bool {
        self.weak
    }

    /// Equal and both strong: the same bytes (`If-Match`, `If-Range`).
    pub fn strong_eq(&self, other: &Self) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }

    /// Equal, weak or not: as good as the same (`If-None-Match`).
    pub fn weak_eq(&self, other: &Self) -> bool {
        self.opaque == other.opaque
    }

    /// Appends the tag as it is sent.
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.weak {
            out.extend_from_slice(b"W/");
        }
        out.push(b'"');
        out.extend_from_slice(&self.opaque);
        out.push(b'"');
    }
}

/// What `If-Match` and `If-None-Match` carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagList {
    /// `*`: anything that exists.
    Any,
    /// One of these.
    Tags(Vec<EntityTag>),
}

impl TagList {
    /// Reads a field value. A part that is no tag ends the list there: what was understood still
    /// counts, and what was not matches nothing.
    pub fn parse(value: &[u8]) -> Self {
        let mut rest = value.trim_ascii();
        if rest == b"*" {
            return TagList::Any;
        }
        let mut tags = Vec::new();
        while tags.len() < ENTITY_TAGS_MAX {
            rest = skip_separators(rest);
            let Some((tag, after)) = split_tag(rest) else {
                break;
            };
            tags.push(tag);
            let after = after.trim_ascii_start();
            if !after.is_empty() && !after.starts_with(b",") {
                break;
            }
            rest = after;
        }
        TagList::Tags(tags)
    }

    /// Joins the list of a repeated field.
    pub fn join(self, other: TagList) -> TagList {
        match (self, other) {
            (TagList::Tags(mut left), TagList::Tags(right)) => {
                left.extend(right);
                left.truncate(ENTITY_TAGS_MAX);
                TagList::Tags(left)
            }
            (TagList::Any, _) | (_, TagList::Any) => TagList::Any,
        }
    }
}

/// `etagc` of RFC 9110 section 8.8.3: any visible byte but the quote, or a byte above ASCII.
fn is_tag_byte(byte: u8) -> bool {
    byte == 0x21 || (0x23..=0x7e).contains(&byte) || byte >= 0x80
}

fn skip_separators(mut rest: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b',', after @ ..] = rest {
        rest = after;
    }
    rest
}

/// Splits a leading tag off; `None` if there is none.
fn split_tag(value: &[u8]) -> Option<(EntityTag, &[u8])> {
    let (weak, value) = match value.strip_prefix(b"W/") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let value = value.strip_prefix(b"\"")?;
    let end = value.iter().position(|&b| b == b'"')?;
    let tag = EntityTag::new(weak, &value[..end])?;
    Some((tag, &value[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> EntityTag {
        EntityTag::parse(text.as_bytes()).expect(text)
    }

    #[test]
    fn comparisons_of_the_rfc_table() {
        // RFC 9110 section 8.8.3.2.
        for (left, right, strong, weak) in [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
        ] {
            assert_eq!(tag(left).strong_eq(&tag(right)), strong, "{left} {right}");
            assert_eq!(tag(left).weak_eq(&tag(right)), weak, "{left} {right}");
        }
    }

    #[test]
    fn lists() {
        let two = TagList::Tags(vec![tag("\"a\""), tag("W/\"b,c\"")]);
        for (text, want) in [
            ("*", TagList::Any),
            (" * ", TagList::Any),
            ("\"a\", W/\"b,c\"", two.clone()),
            (",\"a\" ,, W/\"b,c\",", two),
            ("\"a\" \"b\"", TagList::Tags(vec![tag("\"a\"")])),
            ("\"a\", b", TagList::Tags(vec![tag("\"a\"")])),
            ("", TagList::Tags(vec![])),
            ("\"unclosed", TagList::Tags(vec![])),
            ("w/\"a\"", TagList::Tags(vec![])),
        ] {
            assert_eq!(TagList::parse(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn a_list_is_bounded() {
        let many = "\"x\",".repeat(1000);
        let TagList::Tags(tags) = TagList::parse(many.as_bytes()) else {
            panic!("a list")
        };
        assert_eq!(tags.len(), ENTITY_TAGS_MAX);
    }

    #[test]
    fn a_tag_cannot_break_its_quotes() {
        assert_eq!(EntityTag::new(false, "a\"b"), None);
        assert_eq!(EntityTag::new(false, "a\r\nb"), None);
        let mut out = Vec::new();
        EntityTag::new(true, "x-1").expect("plain").write(&mut out);
        assert_eq!(out, b"W/\"x-1\"");
    }
}
