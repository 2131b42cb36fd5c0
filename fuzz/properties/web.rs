//! What must hold of the web's readers for any bytes at all.

use ahoy_wire::web::{
    AcceptEncoding, Coding, ENTITY_TAGS_MAX, EntityTag, HEAD_LEN_MAX, HttpDate, Parsed,
    RANGE_SPECS_MAX, RangeSpec, TagList, parse_content_range, parse_ranges, parse_request,
    parse_response,
};

/// Panics if it does not hold for `data`.
pub fn holds(data: &[u8]) {
    request(data);
    response(data);
    values(data);
}

/// A request is whole at one length only: no beginning of it is one, nor an error.
fn request(data: &[u8]) {
    let Ok(Parsed::Complete { head, len }) = parse_request(data) else {
        return;
    };
    assert!(len <= data.len() && len <= HEAD_LEN_MAX);
    assert!(!head.target.is_empty() && head.line.len() >= head.target.len());
    for cut in [len - 1, len / 2, len / 3] {
        assert_eq!(
            parse_request(&data[..cut]),
            Ok(Parsed::Incomplete),
            "cut at {cut}"
        );
    }
    let again = parse_request(&data[..len]);
    assert_eq!(
        again,
        Ok(Parsed::Complete { head, len }),
        "what follows does not matter"
    );
}

fn response(data: &[u8]) {
    let Ok(Some(head)) = parse_response(data) else {
        return;
    };
    assert!(head.len <= data.len());
    assert!(
        head.fields
            .iter()
            .all(|(name, _)| *name == name.to_ascii_lowercase())
    );
    assert_eq!(parse_response(&data[..head.len]), Ok(Some(head)));
}

/// The same bytes as the value of each field.
fn values(data: &[u8]) {
    if let Ok(specs) = parse_ranges(data) {
        assert!((1..=RANGE_SPECS_MAX).contains(&specs.len()));
        for spec in specs {
            if let RangeSpec::From {
                first,
                last: Some(last),
            } = spec
            {
                assert!(first <= last);
            }
        }
    }
    if let TagList::Tags(tags) = TagList::parse(data) {
        assert!(tags.len() <= ENTITY_TAGS_MAX);
        for tag in tags {
            let mut written = Vec::new();
            tag.write(&mut written);
            assert_eq!(EntityTag::parse(&written), Some(tag));
        }
    }
    if let Some(date) = HttpDate::parse(data) {
        assert_eq!(HttpDate::parse(date.to_string().as_bytes()), Some(date));
    }
    let accept = AcceptEncoding::parse(std::iter::once(data));
    assert!(
        Coding::ALL
            .iter()
            .all(|coding| accept.weight(*coding) <= 1000)
    );
    assert!(accept.identity_weight() <= 1000);
    parse_content_range(&String::from_utf8_lossy(data));
}
