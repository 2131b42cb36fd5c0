//! Writes pickles of protocol 4, byte for byte as CPython's C pickler does.
//!
//! CPython remembers objects by identity: a text that stands twice in the data is written twice,
//! unless both places hold one and the same object. A [`Value`] has no identity, so each is written
//! as an object of its own, except for the texts and byte strings of which CPython never has two:
//! the empty one and those of one Latin-1 character.

use super::{DEPTH_MAX, Invalid, PICKLE_LEN_MAX, VALUES_MAX, Value};

/// CPython's writer omits the frame around less than this, in bytes.
const FRAME_LEN_MIN: usize = 4;
/// CPython's writer fills a container with at most this many items per instruction.
const BATCH_LEN: usize = 1000;

const EMPTY_TUPLE: u8 = b')';
const EMPTY_LIST: u8 = b']';
const EMPTY_DICT: u8 = b'}';
const EMPTY_SET: u8 = 0x8f;
const MARK: u8 = b'(';
const TUPLE: u8 = b't';
const TUPLE1: u8 = 0x85;
const FROZENSET: u8 = 0x91;
const APPEND: u8 = b'a';
const APPENDS: u8 = b'e';
const SETITEM: u8 = b's';
const SETITEMS: u8 = b'u';
const ADDITEMS: u8 = 0x90;
const MEMOIZE: u8 = 0x94;
const BINGET: u8 = b'h';
const LONG_BINGET: u8 = b'j';
const NONE: u8 = b'N';
const NEWTRUE: u8 = 0x88;
const NEWFALSE: u8 = 0x89;
const BININT1: u8 = b'K';
const BININT2: u8 = b'M';
const BININT: u8 = b'J';
const LONG1: u8 = 0x8a;
const BINFLOAT: u8 = b'G';
const SHORT_BINUNICODE: u8 = 0x8c;
const BINUNICODE: u8 = b'X';
const SHORT_BINBYTES: u8 = b'C';
const BINBYTES: u8 = b'B';
const FRAME: u8 = 0x95;
const STOP: u8 = b'.';
/// PROTO and its argument.
const PROTOCOL_4: [u8; 2] = [0x80, 4];

/// The pickle of `value`, which [`decode`](super::decode) reads back.
///
/// # Errors
/// [`Invalid::TooLong`], [`Invalid::TooManyValues`] or [`Invalid::TooDeep`]: the limits of the
/// reader hold for the writer too.
pub fn encode(value: &Value) -> Result<Vec<u8>, Invalid> {
    let mut writer = Writer::default();
    writer.value(value, 0)?;
    writer.body.push(STOP);
    let mut pickle = PROTOCOL_4.to_vec();
    if writer.body.len() >= FRAME_LEN_MIN {
        pickle.push(FRAME);
        pickle.extend((writer.body.len() as u64).to_le_bytes());
    }
    pickle.append(&mut writer.body);
    if pickle.len() > PICKLE_LEN_MAX {
        return Err(Invalid::TooLong);
    }
    Ok(pickle)
}

#[derive(Default)]
struct Writer<'a> {
    body: Vec<u8>,
    /// How many values have a number, which is the number of the next one.
    remembered: usize,
    /// The values that CPython has only once, with their numbers.
    singletons: Vec<(&'a Value, usize)>,
    values: usize,
}

impl<'a> Writer<'a> {
    /// `depth` containers stand around the value.
    fn value(&mut self, value: &'a Value, depth: usize) -> Result<(), Invalid> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(Invalid::TooManyValues);
        }
        if self.body.len() > PICKLE_LEN_MAX {
            return Err(Invalid::TooLong);
        }
        match value {
            Value::None => self.body.push(NONE),
            Value::Bool(true) => self.body.push(NEWTRUE),
            Value::Bool(false) => self.body.push(NEWFALSE),
            Value::Int(number) => self.int(*number),
            Value::Float(number) => {
                self.body.push(BINFLOAT);
                self.body.extend(number.to_be_bytes());
            }
            Value::Bytes(bytes) => {
                let singleton = bytes.len() <= 1;
                self.string(value, bytes, singleton, [SHORT_BINBYTES, BINBYTES])?;
            }
            Value::Str(text) => {
                let mut characters = text.chars();
                let first = characters.next().unwrap_or_default();
                let singleton = characters.next().is_none() && first <= '\u{ff}';
                let codes = [SHORT_BINUNICODE, BINUNICODE];
                self.string(value, text.as_bytes(), singleton, codes)?;
            }
            Value::List(_)
            | Value::Tuple(_)
            | Value::Dict(_)
            | Value::Set(_)
            | Value::FrozenSet(_) => {
                if depth == DEPTH_MAX {
                    return Err(Invalid::TooDeep);
                }
                self.container(value, depth + 1)?;
            }
        }
        Ok(())
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "each arm's range fits its width"
    )]
    fn int(&mut self, number: i128) {
        match number {
            0..=0xff => self.body.extend([BININT1, number as u8]),
            0x100..=0xffff => {
                self.body.push(BININT2);
                self.body.extend((number as u16).to_le_bytes());
            }
            -0x8000_0000..=0x7fff_ffff => {
                self.body.push(BININT);
                self.body.extend((number as i32).to_le_bytes());
            }
            _ => {
                // As few bytes as keep the sign.
                let redundant = if number < 0 {
                    number.leading_ones()
                } else {
                    number.leading_zeros()
                };
                let len = (i128::BITS - redundant) / 8 + 1;
                self.body.extend([LONG1, len as u8]);
                self.body.extend(&number.to_le_bytes()[..len as usize]);
            }
        }
    }

    /// A text or byte string; `codes` are its instructions for short and long ones.
    fn string(
        &mut self,
        value: &'a Value,
        bytes: &[u8],
        singleton: bool,
        codes: [u8; 2],
    ) -> Result<(), Invalid> {
        if singleton {
            match self.singletons.iter().find(|(known, _)| *known == value) {
                Some((_, number)) => {
                    let number = u32::try_from(*number).expect("VALUES_MAX fits 32 bits");
                    self.recall(number);
                    return Ok(());
                }
                None => self.singletons.push((value, self.remembered)),
            }
        }
        match (u8::try_from(bytes.len()), u32::try_from(bytes.len())) {
            (Ok(len), _) => self.body.extend([codes[0], len]),
            (_, Ok(len)) => {
                self.body.push(codes[1]);
                self.body.extend(len.to_le_bytes());
            }
            _ => return Err(Invalid::TooLong),
        }
        if bytes.len() > PICKLE_LEN_MAX {
            return Err(Invalid::TooLong);
        }
        self.body.extend(bytes);
        self.remember();
        Ok(())
    }

    fn container(&mut self, value: &'a Value, depth: usize) -> Result<(), Invalid> {
        match value {
            Value::Tuple(items) if items.is_empty() => self.body.push(EMPTY_TUPLE),
            Value::Tuple(items) => {
                if items.len() > 3 {
                    self.body.push(MARK);
                }
                self.values(items, depth)?;
                self.body.push(match items.len() {
                    1 => TUPLE1,
                    2 => TUPLE1 + 1,
                    3 => TUPLE1 + 2,
                    _ => TUPLE,
                });
                self.remember();
            }
            Value::FrozenSet(items) => {
                self.body.push(MARK);
                self.values(items, depth)?;
                self.body.push(FROZENSET);
                self.remember();
            }
            Value::List(items) => {
                self.empty(EMPTY_LIST);
                if let [item] = &items[..] {
                    self.value(item, depth)?;
                    self.body.push(APPEND);
                } else {
                    self.batches(items, APPENDS, |writer, item| writer.value(item, depth))?;
                }
            }
            Value::Set(items) => {
                self.empty(EMPTY_SET);
                self.batches(items, ADDITEMS, |writer, item| writer.value(item, depth))?;
            }
            Value::Dict(entries) => {
                self.empty(EMPTY_DICT);
                if let [(key, value)] = &entries[..] {
                    self.value(key, depth)?;
                    self.value(value, depth)?;
                    self.body.push(SETITEM);
                } else {
                    self.batches(entries, SETITEMS, |writer, (key, value)| {
                        writer.value(key, depth)?;
                        writer.value(value, depth)
                    })?;
                }
            }
            Value::None
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Float(_)
            | Value::Bytes(_)
            | Value::Str(_) => {}
        }
        Ok(())
    }

    fn values(&mut self, items: &'a [Value], depth: usize) -> Result<(), Invalid> {
        items.iter().try_for_each(|item| self.value(item, depth))
    }

    fn batches<T>(
        &mut self,
        items: &'a [T],
        code: u8,
        mut write: impl FnMut(&mut Self, &'a T) -> Result<(), Invalid>,
    ) -> Result<(), Invalid> {
        for batch in items.chunks(BATCH_LEN) {
            self.body.push(MARK);
            for item in batch {
                write(self, item)?;
            }
            self.body.push(code);
        }
        Ok(())
    }

    fn empty(&mut self, code: u8) {
        self.body.push(code);
        self.remember();
    }

    fn remember(&mut self) {
        self.body.push(MEMOIZE);
        self.remembered += 1;
    }

    fn recall(&mut self, number: u32) {
        match u8::try_from(number) {
            Ok(number) => self.body.extend([BINGET, number]),
            Err(_) => {
                self.body.push(LONG_BINGET);
                self.body.extend(number.to_le_bytes());
            }
        }
    }
}
