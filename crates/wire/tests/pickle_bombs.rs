//! Pickles made to exhaust their reader: each must be refused, and within a fixed amount of memory.
//!
//! The limit is checked with a counting allocator rather than argued. Every bomb arrives in the two
//! ways that matter: all at once, and byte by byte into a stream decoder with the buffer that a
//! server would keep.

use ahoy_wire::pickle::{Decoder, Invalid, PICKLE_LEN_MAX, VALUES_MAX, decode};

use counting::peak_of;

/// What one pickle may cost its reader, in bytes on the heap.
const MEMORY_MAX: usize = 1024 * 1024;

/// What a bomb is expected to be refused for.
type Reason = fn(&Invalid) -> bool;

#[test]
fn every_bomb_is_refused_within_the_memory_limit() {
    for (name, bomb, reason) in bombs() {
        let (whole, peak) = peak_of(|| refusal_of_whole(&bomb));
        check(name, "whole", whole, peak, reason);
        let (streamed, peak) = peak_of(|| refusal_of_stream(&bomb));
        check(name, "byte by byte", streamed, peak, reason);
    }
}

#[test]
fn the_largest_pickles_that_are_accepted_stay_within_the_limit_too() {
    let text_len = PICKLE_LEN_MAX - 6;
    let mut long_text = b"X".to_vec();
    long_text.extend((text_len as u32).to_le_bytes());
    long_text.extend(std::iter::repeat_n(b'x', text_len));
    long_text.push(b'.');
    assert_eq!(long_text.len(), PICKLE_LEN_MAX);
    let mut many = b"]".to_vec();
    many.extend([b'(', b'}', b'e'].repeat((VALUES_MAX - 1) / 2));
    many.push(b'.');
    for (name, pickle) in [("long text", long_text), ("many values", many)] {
        let (result, peak) = peak_of(|| decode(&pickle).map(|(_, len)| len));
        assert_eq!(result, Ok(pickle.len()), "{name}");
        assert!(peak <= MEMORY_MAX, "{name} took {peak} bytes");
    }
}

#[test]
fn the_counter_counts() {
    let (_, peak) = peak_of(|| drop(std::hint::black_box(vec![0u8; 3 << 20])));
    assert!((3 << 20..4 << 20).contains(&peak), "{peak}");
}

fn check(name: &str, way: &str, refusal: Option<Invalid>, peak: usize, reason: Reason) {
    let refusal = refusal.unwrap_or_else(|| panic!("{name}, {way}: not refused"));
    assert!(reason(&refusal), "{name}, {way}: {refusal:?}");
    println!("{peak:>8} bytes: {name}, {way}");
    assert!(peak <= MEMORY_MAX, "{name}, {way}: {peak} bytes");
}

fn refusal_of_whole(bomb: &[u8]) -> Option<Invalid> {
    Decoder::default().advance(bomb).err()
}

fn refusal_of_stream(bomb: &[u8]) -> Option<Invalid> {
    let mut decoder = Decoder::default();
    let mut buffer = Vec::new();
    for byte in bomb {
        buffer.push(*byte);
        match decoder.advance(&buffer) {
            Ok(advance) => drop(buffer.drain(..advance.consumed)),
            Err(invalid) => return Some(invalid),
        }
    }
    None
}

/// Name, bytes, and the reason that must be given.
fn bombs() -> Vec<(&'static str, Vec<u8>, Reason)> {
    let mut bombs = deep();
    bombs.extend(repeated());
    bombs.extend(long());
    bombs.extend(huge_lengths());
    bombs
}

const TOO_MANY: Reason = |reason| *reason == Invalid::TooManyValues;
const TOO_DEEP: Reason = |reason| *reason == Invalid::TooDeep;
const TOO_LONG: Reason = |reason| *reason == Invalid::TooLong;
const SELF: Reason = |reason| *reason == Invalid::SelfReference;
const WIDE: Reason = |reason| *reason == Invalid::IntegerTooWide;
const MALFORMED: Reason = |reason| matches!(reason, Invalid::Argument { .. });

fn deep() -> Vec<(&'static str, Vec<u8>, Reason)> {
    // `open` so many times around one more list, then `close` as often.
    let nested = |open: &[u8], close: &[u8], levels: usize| {
        [&open.repeat(levels), &b"]"[..], &close.repeat(levels), b"."].concat()
    };
    // Each list goes into the one before it, which only the memo still knows.
    let mut memo = b"]\x94".to_vec();
    for entry in 0..200u8 {
        memo.extend([b'h', entry, b']', 0x94, b'a', b'0']);
    }
    memo.extend(b"h\x00.");
    vec![
        ("lists in lists", nested(b"]", b"a", 40), TOO_DEEP),
        (
            "very many lists in lists",
            nested(b"]", b"a", 30_000),
            TOO_MANY,
        ),
        ("a list in tuples", nested(b"", b"\x85", 500), TOO_DEEP),
        (
            "a list in very many tuples",
            nested(b"", b"\x85", 60_000),
            TOO_MANY,
        ),
        ("tuples around marks", nested(b"(", b"t", 300), TOO_DEEP),
        ("marks", b"(".repeat(60_000), TOO_MANY),
        ("dicts in dicts", nested(b"}N", b"s", 200), TOO_DEEP),
        ("protocol 0 lists", nested(b"(lp0\n", b"a", 200), TOO_DEEP),
        (
            "very many protocol 0 lists",
            nested(b"(lp0\n", b"a", 2_000),
            TOO_MANY,
        ),
        ("deep through the memo", memo, TOO_DEEP),
    ]
}

fn repeated() -> Vec<(&'static str, Vec<u8>, Reason)> {
    // Entry 0 is a text; every further entry is a pair of the one before: 2^n copies.
    let mut laughs = b"\x80\x04\x8c\x03lol\x94".to_vec();
    for entry in 0..30u8 {
        laughs.extend([b'h', entry, b'h', entry, 0x86, 0x94]);
    }
    laughs.push(b'.');
    let mut list_laughs = b"(lp0\n".to_vec();
    for entry in 0..25 {
        list_laughs.extend(format!("(g{entry}\ng{entry}\nlp{}\n", entry + 1).bytes());
    }
    list_laughs.push(b'.');
    let mut long_text = b"](X\x00\x80\x00\x00".to_vec();
    long_text.extend([b'x'; 0x8000]);
    long_text.push(0x94);
    long_text.extend(b"h\x00".repeat(900));
    long_text.extend(b"e.");
    let mut duplicates = b"](X\x00\x80\x00\x00".to_vec();
    duplicates.extend([b'x'; 0x8000]);
    duplicates.extend(b"2".repeat(900));
    duplicates.extend(b"e.");
    vec![
        ("a list in itself", b"]\x94h\x00a.".to_vec(), SELF),
        ("a list in itself by DUP", b"]2a.".to_vec(), SELF),
        ("a dict in itself", b"}\x94(Nh\x00u.".to_vec(), SELF),
        (
            "a list in a tuple in itself",
            b"]\x94h\x00\x85a.".to_vec(),
            SELF,
        ),
        (
            "two lists in each other",
            b"]\x94]\x94h\x00ah\x01a.".to_vec(),
            SELF,
        ),
        (
            "a set with a list with the set",
            b"\x8f\x94(]h\x00a\x90.".to_vec(),
            SELF,
        ),
        ("pairs of pairs", laughs, TOO_MANY),
        ("lists of lists, protocol 0", list_laughs, TOO_MANY),
        ("a long text from the memo", long_text, TOO_LONG),
        ("a long text by DUP", duplicates, TOO_LONG),
    ]
}

fn long() -> Vec<(&'static str, Vec<u8>, Reason)> {
    let line = |code: u8, byte: u8| [vec![code], vec![byte; 100_000], b"\n.".to_vec()].concat();
    // Fills the stack once, then takes one value at a time off it: a reader that hands out the
    // stack's storage with the value pays for a full stack each time.
    let mut capacity = [b"(".to_vec(), b"N".repeat(500), b"1".to_vec()].concat();
    capacity.extend(b"(Nt\x940".repeat(400));
    let mut memo = b"N".to_vec();
    for entry in 0..10_000u32 {
        memo.push(b'r');
        memo.extend((u32::MAX - entry).to_le_bytes());
    }
    let mut keys = b"}(".to_vec();
    for key in 0..600u16 {
        keys.push(b'M');
        keys.extend(key.to_le_bytes());
        keys.push(b'N');
    }
    keys.extend(b"u.");
    vec![
        ("values", b"N".repeat(60_000), TOO_MANY),
        ("empty lists", b"]".repeat(60_000), TOO_MANY),
        ("values pushed and popped", b"N0".repeat(30_000), TOO_MANY),
        (
            "the same value again",
            [b"N".to_vec(), b"2".repeat(60_000)].concat(),
            TOO_MANY,
        ),
        ("protocols", b"\x80\x04".repeat(40_000), TOO_LONG),
        (
            "empty frames",
            b"\x95\0\0\0\0\0\0\0\0".repeat(10_000),
            TOO_LONG,
        ),
        ("storage handed out", capacity, TOO_MANY),
        ("memo entries", memo, |reason| {
            *reason == Invalid::MemoTooLong
        }),
        ("keys", keys, TOO_MANY),
        ("digits of INT", line(b'I', b'9'), TOO_LONG),
        (
            "digits of LONG",
            [b"L".to_vec(), b"9".repeat(50_000), b"L\n.".to_vec()].concat(),
            MALFORMED,
        ),
        ("digits of FLOAT", line(b'F', b'9'), TOO_LONG),
        ("text of UNICODE", line(b'V', 0xe9), TOO_LONG),
        ("text of STRING", line(b'S', b'\''), TOO_LONG),
        ("name of a memo entry", line(b'g', b'9'), TOO_LONG),
        (
            "Latin-1 that doubles",
            [b"V".to_vec(), vec![0xff; 40_000], b"\n.".to_vec()].concat(),
            TOO_LONG,
        ),
    ]
}

fn huge_lengths() -> Vec<(&'static str, Vec<u8>, Reason)> {
    let claim = |code: u8, len: &[u8]| [&[0x80, 5, code], len].concat();
    let all = [0xff; 8];
    let sign = i64::MAX.to_le_bytes();
    vec![
        ("BINUNICODE8", claim(0x8d, &all), TOO_LONG),
        ("BINBYTES8", claim(0x8e, &sign), TOO_LONG),
        ("BYTEARRAY8", claim(0x96, &sign), TOO_LONG),
        ("BINUNICODE", claim(b'X', &all[..4]), TOO_LONG),
        ("BINBYTES", claim(b'B', &all[..4]), TOO_LONG),
        ("BINSTRING", claim(b'T', &i32::MAX.to_le_bytes()), TOO_LONG),
        ("BINSTRING, negative", claim(b'T', &all[..4]), MALFORMED),
        ("LONG1", claim(0x8a, &all[..1]), WIDE),
        ("LONG4", claim(0x8b, &i32::MAX.to_le_bytes()), WIDE),
        (
            "LONG4, negative",
            claim(0x8b, &i32::MIN.to_le_bytes()),
            MALFORMED,
        ),
        ("FRAME", claim(0x95, &all), TOO_LONG),
        (
            "FRAME, just too long",
            claim(0x95, &(PICKLE_LEN_MAX as u64).to_le_bytes()),
            TOO_LONG,
        ),
        ("LONG_BINGET", claim(b'j', &all[..4]), |reason| {
            *reason
                == Invalid::MemoMissing {
                    index: u32::MAX.into(),
                }
        }),
    ]
}

/// An allocator that knows how much the current thread has in use.
#[expect(unsafe_code, reason = "an allocator cannot be written without it")]
mod counting {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    thread_local! {
        static IN_USE: Cell<isize> = const { Cell::new(0) };
        static PEAK: Cell<isize> = const { Cell::new(0) };
    }

    #[global_allocator]
    static COUNTING: Counting = Counting;

    struct Counting;

    // SAFETY: every call goes unchanged to the system's allocator, whose contract this inherits;
    // the counters are plain cells without destructor, so touching them never allocates.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            count(layout.size().cast_signed());
            // SAFETY: the caller keeps the contract of `alloc`.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            count(-layout.size().cast_signed());
            // SAFETY: the caller keeps the contract of `dealloc`.
            unsafe { System.dealloc(pointer, layout) }
        }

        unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            // Old and new block exist side by side while the content moves.
            count(size.cast_signed());
            count(-layout.size().cast_signed());
            // SAFETY: the caller keeps the contract of `realloc`.
            unsafe { System.realloc(pointer, layout, size) }
        }
    }

    /// What `work` gives, and the most bytes that it had in use at one time.
    pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
        IN_USE.set(0);
        PEAK.set(0);
        let result = work();
        (result, PEAK.get().unsigned_abs())
    }

    fn count(change: isize) {
        // A thread that is ending has no counters any more, and is of no interest.
        let _ = IN_USE.try_with(|in_use| {
            in_use.set(in_use.get() + change);
            let _ = PEAK.try_with(|peak| peak.set(peak.get().max(in_use.get())));
        });
    }
}
