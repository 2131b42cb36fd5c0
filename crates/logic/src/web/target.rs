//! From a request target to a path beneath the served folder (web-20 to web-23).
//!
//! What comes out is a sequence of plain names: no empty one, no `.` or `..`, no slash or NUL
//! inside one. The loop opens it with openat2 confined to the folder, so a mistake here would
//! still not lead outside; the two guards do not rely on each other.

use thiserror::Error;

/// Most bytes of one name: what Linux file systems hold.
const NAME_LEN_MAX: usize = 255;
/// Most bytes of a path: one less than the kernel's limit for one call.
const PATH_LEN_MAX: usize = 4095;

/// What a request target names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Names joined by `/`, decoded and normalised; empty for the served folder itself.
    pub path: Vec<u8>,
    /// Whether the target ended as the name of a folder does: in `/`, `/.` or `/..`.
    pub folder: bool,
    /// What followed the first `?`, as it came.
    pub query: Option<Vec<u8>>,
}

/// Why a target names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// Not a target of a `GET`: neither a path nor an `http` address.
    #[error("the request target is neither a path nor an http address")]
    Form,
    /// A `%` without two hexadecimal digits.
    #[error("a percent sign without two hexadecimal digits")]
    Escape,
    /// A NUL or a fragment, which no client may send.
    #[error("a byte that no target may hold")]
    Byte,
    /// It climbs out of the served folder (web-21).
    #[error("the path leads out of the served folder")]
    Outside,
    /// A name that no file can have, or one that is hidden.
    #[error("no such file")]
    NoSuchName,
}

/// Reads the target of a `GET` or `HEAD`.
pub fn parse_target(raw: &[u8], dotfiles: bool) -> Result<Target, TargetError> {
    let path_and_query = strip_authority(raw)?;
    let (path, query) = match path_and_query.iter().position(|&b| b == b'?') {
        Some(mark) => (
            &path_and_query[..mark],
            Some(path_and_query[mark + 1..].to_vec()),
        ),
        None => (path_and_query, None),
    };
    if path_and_query.contains(&b'#') {
        return Err(TargetError::Byte);
    }
    let mut target = Target {
        path: Vec::with_capacity(path.len()),
        folder: true,
        query,
    };
    for segment in path.split(|&b| b == b'/') {
        push_segment(&mut target, segment)?;
    }
    if !dotfiles
        && target
            .path
            .split(|&b| b == b'/')
            .any(|name| name.starts_with(b"."))
    {
        return Err(TargetError::NoSuchName);
    }
    if target.path.len() > PATH_LEN_MAX {
        return Err(TargetError::NoSuchName);
    }
    Ok(target)
}

/// Takes `http://host` off an absolute form (RFC 9112 section 3.2.2); a bare host means `/`.
fn strip_authority(raw: &[u8]) -> Result<&[u8], TargetError> {
    if raw.starts_with(b"/") {
        return Ok(raw);
    }
    let scheme_len = raw
        .iter()
        .position(|&b| b == b':')
        .ok_or(TargetError::Form)?;
    let scheme = &raw[..scheme_len];
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(TargetError::Form);
    }
    let rest = raw[scheme_len..]
        .strip_prefix(b"://")
        .ok_or(TargetError::Form)?;
    let host_len = rest
        .iter()
        .position(|b| b"/?#".contains(b))
        .unwrap_or(rest.len());
    if host_len == 0 {
        return Err(TargetError::Form);
    }
    Ok(&rest[host_len..])
}

/// Decodes one segment and applies it to the path. The dots are looked for after decoding: `%2e`
/// is a dot (RFC 3986 section 6.2.2.2).
fn push_segment(target: &mut Target, segment: &[u8]) -> Result<(), TargetError> {
    let path_len = target.path.len();
    let separator = usize::from(path_len > 0 && !segment.is_empty());
    if separator == 1 {
        target.path.push(b'/');
    }
    decode_into(&mut target.path, segment)?;
    let name = &target.path[path_len + separator..];
    match name {
        b"" | b"." => target.path.truncate(path_len),
        b".." => {
            target.path.truncate(path_len);
            if path_len == 0 {
                return Err(TargetError::Outside);
            }
            let parent_len = target.path.iter().rposition(|&b| b == b'/').unwrap_or(0);
            target.path.truncate(parent_len);
        }
        name if name.contains(&0) => return Err(TargetError::Byte),
        name if name.contains(&b'/') || name.len() > NAME_LEN_MAX => {
            return Err(TargetError::NoSuchName);
        }
        _ => {
            target.folder = false;
            return Ok(());
        }
    }
    target.folder = true;
    Ok(())
}

fn decode_into(out: &mut Vec<u8>, segment: &[u8]) -> Result<(), TargetError> {
    let mut rest = segment;
    while let Some(percent) = rest.iter().position(|&b| b == b'%') {
        out.extend_from_slice(&rest[..percent]);
        let [high, low, after @ ..] = &rest[percent + 1..] else {
            return Err(TargetError::Escape);
        };
        let value = hex_value(*high)
            .zip(hex_value(*low))
            .ok_or(TargetError::Escape)?;
        out.push(value.0 << 4 | value.1);
        rest = after;
    }
    out.extend_from_slice(rest);
    Ok(())
}

fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// Appends a path or a name as it may stand in a URL: all but the unreserved bytes of RFC 3986 and
/// the slash percent-encoded.
pub(super) fn encode_path(out: &mut Vec<u8>, path: &[u8]) {
    for &byte in path {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(byte);
        } else {
            push_escape(out, byte);
        }
    }
}

/// Appends a query as it came, bytes that are not visible ASCII percent-encoded.
pub(super) fn encode_query(out: &mut Vec<u8>, query: &[u8]) {
    for &byte in query {
        if byte.is_ascii_graphic() {
            out.push(byte)
        } else {
            push_escape(out, byte)
        }
    }
}

fn push_escape(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[
        b'%',
        DIGITS[usize::from(byte >> 4)],
        DIGITS[usize::from(byte & 15)],
    ]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Expected: the path, with a slash at its end if it names a folder; or the error.
    fn check(raw: &str, want: Result<&str, TargetError>) {
        let got = parse_target(raw.as_bytes(), false).map(|target| {
            let slash = if target.folder { "/" } else { "" };
            String::from_utf8_lossy(&target.path).into_owned() + slash
        });
        assert_eq!(got, want.map(str::to_owned), "{raw}");
    }

    #[test]
    fn paths() {
        check("/", Ok("/"));
        check("/a", Ok("a"));
        check("/a/", Ok("a/"));
        check("/a/b%20c", Ok("a/b c"));
        check("/%e2%82%AC", Ok("€"));
        check("//a///b//", Ok("a/b/"));
        check("/a?b/../c", Ok("a"));
        check("/%3Fa", Ok("?a"));
        check("/%25", Ok("%"));
        check("http://example.org/a", Ok("a"));
        check("HTTPS://example.org", Ok("/"));
        check("http://example.org?x", Ok("/"));
    }

    #[test]
    fn dots_are_resolved_and_never_lead_out() {
        check("/a/./b", Ok("a/b"));
        check("/a/../b", Ok("b"));
        check("/a/b/..", Ok("a/"));
        check("/a/b/%2E%2e/c", Ok("a/c"));
        check("/a/..", Ok("/"));
        check("/..", Err(TargetError::Outside));
        check("/../etc/passwd", Err(TargetError::Outside));
        check("/a/../../a", Err(TargetError::Outside));
        check("/%2e%2e/etc/passwd", Err(TargetError::Outside));
        check("/..%2fetc/passwd", Err(TargetError::NoSuchName));
        check("/a/..\\..\\b", Err(TargetError::NoSuchName)); // begins with a dot
        check("/a\\..\\b", Ok("a\\..\\b")); // one name on Linux
    }

    #[test]
    fn refusals() {
        check("/%", Err(TargetError::Escape));
        check("/%4", Err(TargetError::Escape));
        check("/%zz", Err(TargetError::Escape));
        check("/%+1", Err(TargetError::Escape));
        check("/a%00b", Err(TargetError::Byte));
        check("/a#b", Err(TargetError::Byte));
        check("*", Err(TargetError::Form));
        check("a", Err(TargetError::Form));
        check("example.org:80", Err(TargetError::Form));
        check("ftp://example.org/a", Err(TargetError::Form));
        check("http:///a", Err(TargetError::Form));
        check("/.git/config", Err(TargetError::NoSuchName));
        check("/a/%2ehidden", Err(TargetError::NoSuchName));
        check("/a%2Fb", Err(TargetError::NoSuchName));
        check(
            &format!("/{}", "x".repeat(256)),
            Err(TargetError::NoSuchName),
        );
        check(&"/abc".repeat(1500), Err(TargetError::NoSuchName));
    }

    #[test]
    fn dotfiles_on_request() {
        let target = parse_target(b"/.well-known/x", true).expect("allowed");
        assert_eq!(target.path, b".well-known/x");
    }

    proptest! {
        #[test]
        fn what_comes_out_is_safe(raw in "/([a-c%./?#\\\\]|%2e|%2E|%2f|%00|\\.\\./|%c3){0,40}") {
            if let Ok(target) = parse_target(raw.as_bytes(), true) {
                for name in target.path.split(|&b| b == b'/') {
                    prop_assert!(!name.is_empty() || target.path.is_empty());
                    prop_assert!(name != b"." && name != b"..");
                    prop_assert!(!name.contains(&0));
                }
            }
        }

        #[test]
        fn a_path_survives_the_round_trip(
            names in proptest::collection::vec(proptest::collection::vec(1_u8.., 1..20), 1..6)
        ) {
            let names: Vec<_> = names
                .iter()
                .filter(|name| !name.contains(&b'/'))
                .filter(|name| name[..] != b"."[..] && name[..] != b".."[..])
                .cloned()
                .collect();
            let path = names.join(&b'/');
            let mut raw = b"/".to_vec();
            encode_path(&mut raw, &path);
            let target = parse_target(&raw, true).expect("a path of ours");
            prop_assert_eq!(target.path, path);
        }
    }
}
