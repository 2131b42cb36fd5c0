//! A file as the web sees it: its validators, its type, and the coded forms beside it
//! (web-30, web-31, web-50).

use std::io::Write as _;

use ahoy_wire::web::{AcceptEncoding, Coding, EntityTag, FieldWriter, HttpDate};

use super::condition::Validators;

/// For this long after its last change a file may still change without any of its time stamps
/// showing it (the kernel stamps in steps of a few milliseconds, HTTP dates in seconds), so its
/// tag is weak (web-31).
const UNSETTLED_SECS: i64 = 2;

/// A time stamp of a file, since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Whole seconds.
    pub secs: i64,
    /// Nanoseconds beyond.
    pub nanos: u32,
}

/// What the disk says about an open file. Two equal ones mean the same content, unless it was
/// changed in the last moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Length in bytes.
    pub len: u64,
    /// Last modification, which anyone may set.
    pub modified: Stamp,
    /// Last change of anything, which nobody can set.
    pub changed: Stamp,
    /// The inode, which tells apart two files that took turns under one name.
    pub inode: u64,
}

impl Stat {
    /// Whether a change from now on will show in the stamps.
    fn is_settled(&self, now_secs: i64) -> bool {
        now_secs.saturating_sub(self.changed.secs) >= UNSETTLED_SECS
    }
}

/// One form of a file, with the fields every answer about it carries.
#[derive(Clone, Debug)]
pub struct Representation {
    /// Length in bytes.
    pub len: u64,
    /// Its media type.
    pub media: &'static str,
    coding: Option<Coding>,
    tag: EntityTag,
    modified: HttpDate,
    /// All fields of a 200 but the ones about the connection and `Vary`.
    whole_fields: Vec<u8>,
}

impl Representation {
    /// Describes an open file that was looked at `now_secs` after 1970.
    pub fn new(stat: &Stat, media: &'static str, coding: Option<Coding>, now_secs: i64) -> Self {
        let mut opaque = Vec::with_capacity(64);
        for stamp in [stat.modified, stat.changed] {
            write!(opaque, "{:x}.{:x}-", stamp.secs, stamp.nanos).expect("a Vec takes it");
        }
        write!(opaque, "{:x}-{:x}", stat.inode, stat.len).expect("a Vec takes it");
        let weak = !stat.is_settled(now_secs);
        let tag = EntityTag::new(weak, opaque).expect("digits, dots and dashes may stand in a tag");
        // RFC 9110 section 8.8.2.1: never later than the answer's own date.
        let modified = HttpDate::from_unix_secs(stat.modified.secs.min(now_secs));
        let mut form = Self {
            len: stat.len,
            media,
            coding,
            tag,
            modified,
            whole_fields: Vec::new(),
        };
        let mut fields = Vec::with_capacity(256);
        FieldWriter(&mut fields)
            .text("Content-Type", media)
            .number("Content-Length", stat.len);
        form.write_shared_fields(&mut fields);
        form.whole_fields = fields;
        form
    }

    /// The validators for preconditions.
    pub(super) fn validators(&self) -> Validators<'_> {
        Validators {
            tag: &self.tag,
            modified: self.modified,
        }
    }

    /// The tag, for what is derived from it.
    pub(super) fn tag_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.tag.write(&mut out);
        out
    }

    /// The fields of a 200, but for `Vary`.
    pub(super) fn whole_fields(&self) -> &[u8] {
        &self.whole_fields
    }

    /// The fields that a 200 and a 206 share.
    pub(super) fn write_shared_fields(&self, out: &mut Vec<u8>) {
        let mut fields = FieldWriter(out);
        if let Some(coding) = self.coding {
            fields.text("Content-Encoding", coding.token());
        }
        fields.bytes("ETag", &self.tag_bytes());
        fields.text("Last-Modified", &self.modified.to_string());
        fields.text("Accept-Ranges", "bytes");
        // The type was told by the name; a browser must not guess another from the content.
        fields.text("X-Content-Type-Options", "nosniff");
    }
}

/// A file and its precompressed forms.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The file itself.
    pub plain: Representation,
    /// The coded forms that exist, in the order of [`Coding::ALL`].
    pub coded: [Option<Representation>; 3],
}

/// Which form of a [`Resource`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The file itself.
    Plain,
    /// A form beside it.
    Coded(Coding),
}

impl Resource {
    /// A file and what lies beside it. A coded form older than the file is left over from an
    /// earlier version, and is left alone (web-50).
    pub fn new(plain: Representation, mut coded: [Option<Representation>; 3]) -> Self {
        for form in &mut coded {
            form.take_if(|form| form.modified < plain.modified);
        }
        Self { plain, coded }
    }

    /// Whether the answer depends on `Accept-Encoding` at all.
    pub(super) fn varies(&self) -> bool {
        self.coded.iter().any(Option::is_some)
    }

    /// The form a client likes best: the heaviest coding that exists, ours first on a tie; the
    /// plain form if it weighs more, or if nothing is acceptable (web-50).
    pub(super) fn choose(&self, accept: &AcceptEncoding) -> (Choice, &Representation) {
        let mut best = (0, Choice::Plain, &self.plain);
        for (coding, form) in Coding::ALL.into_iter().zip(&self.coded) {
            if let Some(form) = form
                && accept.weight(coding) > best.0
            {
                best = (accept.weight(coding), Choice::Coded(coding), form);
            }
        }
        if best.0 < accept.identity_weight() {
            return (Choice::Plain, &self.plain);
        }
        (best.1, best.2)
    }
}

/// The media type of a file name, by its extension; texts are said to be UTF-8 (web-30).
pub fn media_type(name: &str) -> &'static str {
    let guess = mime_guess::from_path(name)
        .first_raw()
        .unwrap_or("application/octet-stream");
    match guess {
        "text/html" => "text/html; charset=utf-8",
        "text/css" => "text/css; charset=utf-8",
        "text/plain" => "text/plain; charset=utf-8",
        "text/markdown" => "text/markdown; charset=utf-8",
        "text/csv" => "text/csv; charset=utf-8",
        "text/xml" => "text/xml; charset=utf-8",
        // RFC 9239: one name for the language.
        "text/javascript" | "application/javascript" => "text/javascript; charset=utf-8",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(changed: i64) -> Stat {
        let stamp = Stamp {
            secs: 784_111_777,
            nanos: 5,
        };
        Stat {
            len: 10,
            modified: stamp,
            changed: Stamp {
                secs: changed,
                nanos: 7,
            },
            inode: 3,
        }
    }

    fn form(coding: Option<Coding>) -> Representation {
        Representation::new(&stat(784_111_777), "text/plain", coding, 784_200_000)
    }

    #[test]
    fn fields_of_a_settled_file() {
        assert_eq!(
            String::from_utf8_lossy(form(Some(Coding::Zstd)).whole_fields()),
            "Content-Type: text/plain\r\nContent-Length: 10\r\nContent-Encoding: zstd\r\n\
             ETag: \"2ebc98a1.5-2ebc98a1.7-3-a\"\r\n\
             Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nAccept-Ranges: bytes\r\n\
             X-Content-Type-Options: nosniff\r\n"
        );
    }

    #[test]
    fn a_young_file_has_a_weak_tag_and_no_date_from_the_future() {
        let young = Representation::new(&stat(1000), "text/plain", None, 1001);
        assert!(young.tag.is_weak());
        assert_eq!(young.modified.unix_secs(), 1001);
        assert!(
            !Representation::new(&stat(1000), "text/plain", None, 1002)
                .tag
                .is_weak()
        );
    }

    #[test]
    fn any_difference_changes_the_tag() {
        let base = stat(100);
        let variants = [
            Stat { len: 11, ..base },
            Stat { inode: 4, ..base },
            Stat {
                modified: Stamp { secs: 1, nanos: 5 },
                ..base
            },
            Stat {
                changed: Stamp {
                    secs: 100,
                    nanos: 8,
                },
                ..base
            },
        ];
        let tag = |stat: &Stat| Representation::new(stat, "", None, 1_000_000_000).tag;
        for other in &variants {
            assert_ne!(tag(&base), tag(other), "{other:?}");
        }
    }

    #[test]
    fn negotiation() {
        let all = Resource {
            plain: form(None),
            coded: Coding::ALL.map(|coding| Some(form(Some(coding)))),
        };
        let gzip_only = Resource {
            plain: form(None),
            coded: [None, None, Some(form(Some(Coding::Gzip)))],
        };
        let (br, zstd, gzip) = (
            Choice::Coded(Coding::Br),
            Choice::Coded(Coding::Zstd),
            Choice::Coded(Coding::Gzip),
        );
        for (field, want_all, want_gzip_only) in [
            (None, Choice::Plain, Choice::Plain),
            (Some(""), Choice::Plain, Choice::Plain),
            (Some("gzip, deflate, br, zstd"), br, gzip),
            (Some("gzip, zstd"), zstd, gzip),
            (Some("gzip;q=1, br;q=0.5"), gzip, gzip),
            (Some("br;q=0, *"), zstd, gzip),
            (Some("identity, gzip;q=0.5"), Choice::Plain, Choice::Plain),
            (Some("identity;q=0.5, gzip;q=0.5"), gzip, gzip),
            (Some("identity;q=0, zstd"), zstd, Choice::Plain),
            (Some("*;q=0"), Choice::Plain, Choice::Plain),
            (Some("gzip;q=0.001"), gzip, gzip),
        ] {
            let accept = field.map_or(AcceptEncoding::default(), |field: &str| {
                AcceptEncoding::parse(std::iter::once(field.as_bytes()))
            });
            assert_eq!(all.choose(&accept).0, want_all, "{field:?}");
            assert_eq!(gzip_only.choose(&accept).0, want_gzip_only, "{field:?}");
        }
        assert!(gzip_only.varies());
    }

    #[test]
    fn a_coded_form_older_than_the_file_is_not_served() {
        let older = Stat {
            modified: Stamp {
                secs: 784_111_776,
                nanos: 9,
            },
            ..stat(784_111_777)
        };
        let old = Representation::new(&older, "text/plain", Some(Coding::Br), 784_200_000);
        let same = form(Some(Coding::Gzip));
        let resource = Resource::new(form(None), [Some(old), None, Some(same)]);
        let accept = AcceptEncoding::parse(std::iter::once(b"br, gzip".as_slice()));
        assert_eq!(resource.choose(&accept).0, Choice::Coded(Coding::Gzip));
    }

    #[test]
    fn types() {
        for (name, want) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a.JS", "text/javascript; charset=utf-8"),
            ("a.mjs", "text/javascript; charset=utf-8"),
            ("notes.txt", "text/plain; charset=utf-8"),
            ("x.json", "application/json"),
            ("x.wasm", "application/wasm"),
            ("x.svg", "image/svg+xml"),
            ("x.tar.gz", "application/gzip"),
            ("README", "application/octet-stream"),
            ("x.unheard-of", "application/octet-stream"),
        ] {
            assert_eq!(media_type(name), want, "{name}");
        }
    }
}
