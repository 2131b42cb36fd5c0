//! What must hold of the hello codec for any bytes at all.

use ahoy_wire::hello::{MESSAGE_BYTES_MAX, Part, REPLY_BYTES_MAX, Reply, Request};

/// Panics if it does not hold for `bytes`.
pub fn holds(bytes: &[u8]) {
    request(bytes);
    reply(bytes);
}

fn request(bytes: &[u8]) {
    let whole = Request::from_whole(bytes);
    if let Ok(request) = whole {
        let mut plain = Vec::new();
        request.encode(&mut plain);
        assert_eq!(Request::from_whole(&plain), Ok(request), "plain form");
        let mut padded = Vec::new();
        request.encode_padded(REPLY_BYTES_MAX, &mut padded);
        assert!(padded.len() >= REPLY_BYTES_MAX, "padding");
        assert_eq!(Request::from_whole(&padded), Ok(request), "padded form");
    }
    prefixes_agree(bytes, Request::from_part, whole.ok());
}

fn reply(bytes: &[u8]) {
    let whole = Reply::from_whole(bytes);
    if let Ok(reply) = whole {
        let mut plain = Vec::new();
        reply.encode(&mut plain);
        assert!(plain.len() <= REPLY_BYTES_MAX, "reply bound");
        assert_eq!(Reply::from_whole(&plain), Ok(reply), "plain form");
    }
    prefixes_agree(bytes, Reply::from_part, whole.ok());
}

/// However a stream is cut into pieces: a verdict never changes once its token has ended, and the
/// verdict on everything is the one that the whole message gets. An id of four digits is acted on
/// before its token has ended (hello-10), so the byte after it may still change that verdict.
fn prefixes_agree<M: Copy + PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    from_part: impl Fn(&[u8]) -> Part<M>,
    whole: Option<M>,
) {
    let shown = &bytes[..bytes.len().min(MESSAGE_BYTES_MAX + 8)];
    let mut certain: Option<Part<M>> = None;
    for len in 0..=shown.len() {
        let part = from_part(&shown[..len]);
        if let Some(former) = certain {
            let early = matches!(former, Part::Whole(_)) && bytes[len - 2].is_ascii_digit();
            if early && !matches!(bytes[len - 1], b' ' | b'\t' | b'\r' | b'\n' | 0) {
                certain = None;
            } else {
                assert_eq!(part, former, "changed its mind at byte {len}");
            }
        }
        if matches!(part, Part::Whole(_) | Part::Invalid(_)) {
            certain = Some(part);
        }
    }
    match from_part(bytes) {
        Part::Whole(message) => assert_eq!(whole, Some(message), "stream and whole differ"),
        Part::Open(message) => assert_eq!(whole, Some(message), "open and whole differ"),
        Part::Invalid(_) => {
            assert!(
                whole.is_none() || bytes.len() >= MESSAGE_BYTES_MAX,
                "only too long"
            );
        }
        Part::Incomplete => assert_eq!(whole, None, "a beginning is not a whole"),
    }
}
