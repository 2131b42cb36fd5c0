//! Which bytes of a file a `Range` selects (web-40 to web-45; RFC 9110 section 14.2).

use std::ops::Range;

use ahoy_wire::web::RangeSpec;

/// What becomes of a range request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Everything, as if no range had been asked for.
    Whole,
    /// One or more ranges, none empty, none overlapping another, in the order asked.
    Ranges(Vec<Range<u64>>),
    /// Nothing of the file lies in any of them.
    Unsatisfiable,
}

/// Applies what was asked to a file of `len` bytes. Ranges that touch or overlap become one, so
/// no answer is longer than the file and its part heads (web-44).
pub fn select(specs: &[RangeSpec], len: u64) -> Selection {
    // An empty file has no byte to name in `Content-Range`, yet its "last n bytes" are all of it.
    if len == 0
        && specs
            .iter()
            .any(|spec| matches!(spec, RangeSpec::Suffix(1..)))
    {
        return Selection::Whole;
    }
    let mut ranges: Vec<Range<u64>> = Vec::with_capacity(specs.len());
    for spec in specs {
        if let Some(range) = resolve(*spec, len) {
            merge(&mut ranges, range);
        }
    }
    if ranges.is_empty() {
        Selection::Unsatisfiable
    } else {
        Selection::Ranges(ranges)
    }
}

fn resolve(spec: RangeSpec, len: u64) -> Option<Range<u64>> {
    let range = match spec {
        RangeSpec::From { first, last } => first..last.map_or(len, |last| last.saturating_add(1)),
        RangeSpec::Suffix(count) => len.saturating_sub(count)..len,
    };
    let range = range.start..range.end.min(len);
    (range.start < range.end).then_some(range)
}

/// Adds a range, taking in every earlier one that it touches; the union stands where the first of
/// them stood.
fn merge(ranges: &mut Vec<Range<u64>>, mut range: Range<u64>) {
    let mut place = ranges.len();
    // One pass is not enough: the union may touch what its parts did not.
    while let Some(at) = ranges
        .iter()
        .position(|r| r.start <= range.end && range.start <= r.end)
    {
        let other = ranges.remove(at);
        range = range.start.min(other.start)..range.end.max(other.end);
        place = place.min(at);
    }
    ranges.insert(place.min(ranges.len()), range);
}

#[cfg(test)]
mod tests {
    use ahoy_wire::web::parse_ranges;
    use proptest::prelude::*;

    use super::*;

    fn check(field: &str, len: u64, want: &[(u64, u64)]) {
        let specs = parse_ranges(field.as_bytes()).expect(field);
        let want = want.iter().map(|(start, end)| *start..*end).collect();
        assert_eq!(
            select(&specs, len),
            Selection::Ranges(want),
            "{field} of {len}"
        );
    }

    #[test]
    fn single() {
        check("bytes=0-0", 10, &[(0, 1)]);
        check("bytes=0-99", 10, &[(0, 10)]);
        check("bytes=9-", 10, &[(9, 10)]);
        check("bytes=-3", 10, &[(7, 10)]);
        check("bytes=-30", 10, &[(0, 10)]);
        check("bytes=2-18446744073709551615", 10, &[(2, 10)]);
    }

    #[test]
    fn several_keep_their_order_and_melt_together() {
        check("bytes=8-9,0-1", 10, &[(8, 10), (0, 2)]);
        check("bytes=0-1,5-6,99-", 10, &[(0, 2), (5, 7)]);
        check("bytes=0-1,2-3", 10, &[(0, 4)]);
        check("bytes=6-7,0-1,1-6", 10, &[(0, 8)]);
        check("bytes=0-,0-,0-", 10, &[(0, 10)]);
    }

    #[test]
    fn nothing_there() {
        for (field, len) in [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0)] {
            let specs = parse_ranges(field.as_bytes()).expect(field);
            assert_eq!(
                select(&specs, len),
                Selection::Unsatisfiable,
                "{field} of {len}"
            );
        }
        let last = parse_ranges(b"bytes=-5").expect("a suffix");
        assert_eq!(select(&last, 0), Selection::Whole);
    }

    fn spec() -> impl Strategy<Value = RangeSpec> {
        prop_oneof![
            (0_u64..40, 0_u64..40).prop_map(|(a, b)| RangeSpec::From {
                first: a.min(b),
                last: Some(a.max(b))
            }),
            (0_u64..40).prop_map(|first| RangeSpec::From { first, last: None }),
            (0_u64..40).prop_map(RangeSpec::Suffix),
        ]
    }

    proptest! {
        /// Against the plain definition: the set of bytes named.
        #[test]
        fn the_union_is_what_was_asked(specs in proptest::collection::vec(spec(), 1..8)) {
            const LEN: u64 = 30;
            let asked = |byte: u64| specs.iter().any(|spec| match *spec {
                RangeSpec::From { first, last } => first <= byte && last.is_none_or(|l| byte <= l),
                RangeSpec::Suffix(count) => byte + count >= LEN,
            });
            let ranges = match select(&specs, LEN) {
                Selection::Ranges(ranges) => ranges,
                Selection::Unsatisfiable => vec![],
                Selection::Whole => panic!("the file is not empty"),
            };
            for byte in 0..LEN {
                let holders = ranges.iter().filter(|range| range.contains(&byte)).count();
                prop_assert_eq!(holders, usize::from(asked(byte)), "byte {}", byte);
            }
            prop_assert!(ranges.iter().all(|range| range.start < range.end && range.end <= LEN));
        }
    }
}
