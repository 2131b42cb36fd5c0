//! Python's pickle format as data and nothing else: protocols 0 to 5 in, protocol 4 out.
//!
//! A pickle is a program for a small stack machine. This module runs only the instructions that
//! build data; those that import, call or look something up by name (GLOBAL, REDUCE, BUILD, the
//! extension registry, persistent ids, ...) are refused by their name (enroll-10) and there is no
//! code here that could carry them out. Python's own reader executes what it is sent, which is why
//! no service of ours may ever hand bytes from outside to it.
//!
//! One pickle ends at its STOP instruction and nothing else frames it on a stream (enroll-7), so
//! [`Decoder`] works on what has arrived so far, tells "more bytes are needed" from "this can never
//! become right", and leaves every byte after STOP alone. Its memory is bounded by the limits below
//! (enroll-11), whatever the bytes claim: shared and self-referring structures are kept as a graph
//! while the program runs and copied out under the same limits.
//!
//! Not here: classes, arbitrarily large integers (128 bits are enough for a student id), Python 2's
//! non-ASCII byte strings as text, out-of-band buffers.
//!
//! The serde-pickle crate was tried first. It cannot say where in a stream the pickle ended or that
//! it is merely incomplete, takes two references to one text for a recursion, writes protocol 3
//! without the frames and memo entries of CPython's own output, and a deep pickle of 60 KB
//! overflows its stack, which ends the process.
//!
//! Sources: CPython's `Lib/pickletools.py`, which documents every instruction; PEP 3154 for frames.

mod decode;
mod encode;
mod graph;
mod opcode;
mod repr;
mod text;

pub use decode::{Advance, Decoder, Unpickler, decode};
pub use encode::encode;

/// The longest pickle that is read or written, in bytes, from its first instruction through STOP.
///
/// It equals the size at which CPython closes a frame, so what is written fits in one frame.
pub const PICKLE_LEN_MAX: usize = 64 * 1024;
/// How many values one pickle may push, repetitions of a remembered one included.
pub const VALUES_MAX: usize = 1024;
/// How many values one pickle may remember for later reference.
pub const MEMO_LEN_MAX: usize = 1024;
/// How deep containers may stand inside one another.
pub const DEPTH_MAX: usize = 32;
/// The widest integer, in bytes of two's complement.
pub const INTEGER_LEN_MAX: usize = 16;

/// A piece of Python data.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An `int` of at most 128 bits.
    Int(i128),
    /// A `float`.
    Float(f64),
    /// `bytes`, or a `bytearray`: the difference is not kept.
    Bytes(Vec<u8>),
    /// A `str`.
    Str(String),
    /// A `list`.
    List(Vec<Value>),
    /// A `tuple`.
    Tuple(Vec<Value>),
    /// A `dict`, in insertion order, each key once.
    Dict(Vec<(Value, Value)>),
    /// A `set`, in the order of the pickle, each item once.
    Set(Vec<Value>),
    /// A `frozenset`, likewise.
    FrozenSet(Vec<Value>),
}

impl Value {
    /// The value under a text key of a dict; None if this is no dict or has no such key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        let Value::Dict(entries) = self else {
            return None;
        };
        entries
            .iter()
            .find(|(name, _)| matches!(name, Value::Str(name) if name == key))
            .map(|(_, value)| value)
    }

    /// What Python's `type(value).__name__` says.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Bytes(_) => "bytes",
            Value::Str(_) => "str",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::Set(_) => "set",
            Value::FrozenSet(_) => "frozenset",
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Str(text.to_owned())
    }
}

/// Why there is no value: wait for more bytes, or give up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Right so far, but STOP has not come.
    #[error("the pickle is not complete")]
    Incomplete,
    /// No further byte can make it right.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Why some bytes can never become a value. Offsets count from the pickle's first byte.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// An instruction that would import, call or look something up.
    #[error("refused {name} at byte {at}: only plain data is read, nothing is ever executed")]
    Refused {
        /// The instruction's name in `pickletools`.
        name: &'static str,
        /// Where it stands.
        at: usize,
    },
    /// No such instruction exists.
    #[error("byte {byte:#04x} at {at} is not a pickle instruction")]
    Unknown {
        /// The byte found.
        byte: u8,
        /// Where it stands.
        at: usize,
    },
    /// A protocol later than 5.
    #[error("pickle protocol {version} is not known, 5 is the latest")]
    Protocol {
        /// The version asked for.
        version: u8,
    },
    /// Longer than [`PICKLE_LEN_MAX`], or claiming to become so.
    #[error("the pickle is longer than {PICKLE_LEN_MAX} bytes")]
    TooLong,
    /// More than [`VALUES_MAX`] values, those copied out of the memo included.
    #[error("the pickle holds more than {VALUES_MAX} values")]
    TooManyValues,
    /// More than [`MEMO_LEN_MAX`] remembered values.
    #[error("the pickle remembers more than {MEMO_LEN_MAX} values")]
    MemoTooLong,
    /// Deeper than [`DEPTH_MAX`].
    #[error("the pickle is nested deeper than {DEPTH_MAX}")]
    TooDeep,
    /// A container that holds itself.
    #[error("the pickle contains itself")]
    SelfReference,
    /// An integer wider than [`INTEGER_LEN_MAX`] bytes.
    #[error("an integer of the pickle is wider than {INTEGER_LEN_MAX} bytes")]
    IntegerTooWide,
    /// An argument that is not what its instruction takes.
    #[error("the argument of {name} at byte {at} is malformed")]
    Argument {
        /// The instruction's name.
        name: &'static str,
        /// Where the instruction stands.
        at: usize,
    },
    /// The stack does not hold what the instruction works on.
    #[error("{name} at byte {at} finds nothing it can work on")]
    Stack {
        /// The instruction's name.
        name: &'static str,
        /// Where the instruction stands.
        at: usize,
    },
    /// A reference to something that was never remembered.
    #[error("memo entry {index} does not exist")]
    MemoMissing {
        /// The entry asked for.
        index: u64,
    },
    /// An instruction crosses the end of its frame, or the pickle stops before it.
    #[error("the pickle does not fit its frame")]
    Frame,
    /// A list, dict or set as a dict key or set item.
    #[error("a {type_name} cannot be a dict key or a set item")]
    Unhashable {
        /// Its Python type.
        type_name: &'static str,
    },
}
