//! One instruction at a time: from bytes to [`Op`], with its argument read and bounded.
//!
//! Reading an instruction changes nothing, so a reader that runs out of bytes in the middle of an
//! argument simply tries again from the instruction's first byte. What the instructions do stands
//! in `decode`.

use super::graph::Node;
use super::{DecodeError, INTEGER_LEN_MAX, Invalid, text};

/// Every instruction of protocols 0 to 5 (enroll-6), by its byte, with the name `pickletools` gives
/// it.
const NAMES: [(u8, &str); 68] = [
    (b'(', "MARK"),
    (b')', "EMPTY_TUPLE"),
    (b'.', "STOP"),
    (b'0', "POP"),
    (b'1', "POP_MARK"),
    (b'2', "DUP"),
    (b'B', "BINBYTES"),
    (b'C', "SHORT_BINBYTES"),
    (b'F', "FLOAT"),
    (b'G', "BINFLOAT"),
    (b'I', "INT"),
    (b'J', "BININT"),
    (b'K', "BININT1"),
    (b'L', "LONG"),
    (b'M', "BININT2"),
    (b'N', "NONE"),
    (b'P', "PERSID"),
    (b'Q', "BINPERSID"),
    (b'R', "REDUCE"),
    (b'S', "STRING"),
    (b'T', "BINSTRING"),
    (b'U', "SHORT_BINSTRING"),
    (b'V', "UNICODE"),
    (b'X', "BINUNICODE"),
    (b']', "EMPTY_LIST"),
    (b'a', "APPEND"),
    (b'b', "BUILD"),
    (b'c', "GLOBAL"),
    (b'd', "DICT"),
    (b'e', "APPENDS"),
    (b'g', "GET"),
    (b'h', "BINGET"),
    (b'i', "INST"),
    (b'j', "LONG_BINGET"),
    (b'l', "LIST"),
    (b'o', "OBJ"),
    (b'p', "PUT"),
    (b'q', "BINPUT"),
    (b'r', "LONG_BINPUT"),
    (b's', "SETITEM"),
    (b't', "TUPLE"),
    (b'u', "SETITEMS"),
    (b'}', "EMPTY_DICT"),
    (0x80, "PROTO"),
    (0x81, "NEWOBJ"),
    (0x82, "EXT1"),
    (0x83, "EXT2"),
    (0x84, "EXT4"),
    (0x85, "TUPLE1"),
    (0x86, "TUPLE2"),
    (0x87, "TUPLE3"),
    (0x88, "NEWTRUE"),
    (0x89, "NEWFALSE"),
    (0x8a, "LONG1"),
    (0x8b, "LONG4"),
    (0x8c, "SHORT_BINUNICODE"),
    (0x8d, "BINUNICODE8"),
    (0x8e, "BINBYTES8"),
    (0x8f, "EMPTY_SET"),
    (0x90, "ADDITEMS"),
    (0x91, "FROZENSET"),
    (0x92, "NEWOBJ_EX"),
    (0x93, "STACK_GLOBAL"),
    (0x94, "MEMOIZE"),
    (0x95, "FRAME"),
    (0x96, "BYTEARRAY8"),
    (0x97, "NEXT_BUFFER"),
    (0x98, "READONLY_BUFFER"),
];

/// Those that import, call, set attributes, ask a registry, or take data from outside the pickle.
const REFUSED: &[u8] = b"PQRbcio\x81\x82\x83\x84\x92\x93\x97\x98";

/// What `pickletools` calls the instruction.
pub(super) fn name(byte: u8) -> &'static str {
    NAMES
        .iter()
        .find(|(code, _)| *code == byte)
        .map_or("unknown", |(_, name)| name)
}

/// What to do to the stack and the memo.
#[derive(Debug)]
pub(super) enum Op {
    /// Push a value; containers come empty.
    Push(Node),
    /// Remember how high the stack is.
    Mark,
    /// The value is ready.
    Stop,
    /// Drop the top value, or the mark if nothing is above it.
    Pop,
    /// Drop everything above the mark, and the mark.
    PopMark,
    /// Push the top value again.
    Dup,
    /// Push what the memo holds under this number.
    Get(u64),
    /// Remember the top value under this number.
    Put(u64),
    /// Remember the top value under the next number.
    Memoize,
    /// The pickle says which protocol it is written in.
    Protocol(u8),
    /// The next so many bytes are one frame.
    Frame(u64),
    /// Push a new container that holds these values.
    Gather(Kind, Taken),
    /// Put these values into the container below them.
    Fill(Kind, Taken),
}

/// A kind of container.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    List,
    Tuple,
    /// Keys and values by turns.
    Dict,
    Set,
    FrozenSet,
}

/// Which values an instruction takes off the stack.
#[derive(Clone, Copy, Debug)]
pub(super) enum Taken {
    /// So many from the top.
    Top(usize),
    /// Everything above the mark, and the mark.
    AboveMark,
}

/// The unread bytes, with the number of them that this instruction may take.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Bytes taken so far.
    pub(super) taken: usize,
    /// Bytes the instruction may take altogether before it passes a limit.
    room: usize,
    /// What to say when it would pass that limit.
    over: Invalid,
    /// Where the instruction stands in the pickle.
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a [u8], at: usize, room: usize, over: Invalid) -> Self {
        Self {
            rest,
            taken: 0,
            room,
            over,
            at,
        }
    }

    /// The next instruction, argument included.
    pub(super) fn op(&mut self) -> Result<Op, DecodeError> {
        let byte = self.byte()?;
        if REFUSED.contains(&byte) {
            let (name, at) = (name(byte), self.at);
            return Err(Invalid::Refused { name, at }.into());
        }
        if let Some(op) = bare(byte) {
            return Ok(op);
        }
        let op = match byte {
            0x80 => Op::Protocol(self.byte()?),
            0x95 => Op::Frame(u64::from_le_bytes(self.array()?)),
            b'g' => Op::Get(self.decimal(byte)?),
            b'h' => Op::Get(self.byte()?.into()),
            b'j' => Op::Get(u32::from_le_bytes(self.array()?).into()),
            b'p' => Op::Put(self.decimal(byte)?),
            b'q' => Op::Put(self.byte()?.into()),
            b'r' => Op::Put(u32::from_le_bytes(self.array()?).into()),
            _ => Op::Push(match self.number(byte)? {
                Some(node) => node,
                None => self.string(byte)?,
            }),
        };
        Ok(op)
    }

    /// The numbers; None if `byte` is not one of their instructions.
    fn number(&mut self, byte: u8) -> Result<Option<Node>, DecodeError> {
        let node = match byte {
            b'I' => text::int(self.line()?).ok_or_else(|| self.malformed(byte))?,
            b'L' => Node::Int(text::long(self.line()?).ok_or_else(|| self.malformed(byte))?),
            b'F' => Node::Float(text::float(self.line()?).ok_or_else(|| self.malformed(byte))?),
            b'J' => Node::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Node::Int(self.byte()?.into()),
            b'M' => Node::Int(u16::from_le_bytes(self.array()?).into()),
            b'G' => Node::Float(f64::from_be_bytes(self.array()?)),
            0x8a => {
                let len = self.byte()?;
                Node::Int(self.long(len.into())?)
            }
            0x8b => {
                let len = i32::from_le_bytes(self.array()?);
                let len = u64::try_from(len).map_err(|_| self.malformed(byte))?;
                Node::Int(self.long(len)?)
            }
            _ => return Ok(None),
        };
        Ok(Some(node))
    }

    fn string(&mut self, byte: u8) -> Result<Node, DecodeError> {
        let len = match byte {
            b'V' => {
                let line = self.line()?;
                let text = text::raw_unicode(line).ok_or_else(|| self.malformed(byte))?;
                return Ok(Node::Str(text));
            }
            b'S' => {
                let line = self.line()?;
                let bytes = text::quoted(line).ok_or_else(|| self.malformed(byte))?;
                return Ok(text_or_bytes(bytes));
            }
            b'U' | b'C' | 0x8c => self.byte()?.into(),
            b'X' | b'B' => u32::from_le_bytes(self.array()?).into(),
            b'T' => {
                let len = i32::from_le_bytes(self.array()?);
                u64::try_from(len).map_err(|_| self.malformed(byte))?
            }
            0x8d | 0x8e | 0x96 => u64::from_le_bytes(self.array()?),
            _ => return Err(Invalid::Unknown { byte, at: self.at }.into()),
        };
        let bytes = self.take(len)?;
        match byte {
            b'X' | 0x8c | 0x8d => match str::from_utf8(bytes) {
                Ok(text) => Ok(Node::Str(text.to_owned())),
                Err(_) => Err(self.malformed(byte)),
            },
            b'U' | b'T' => Ok(text_or_bytes(bytes.to_vec())),
            _ => Ok(Node::Bytes(bytes.to_vec())),
        }
    }

    /// A little-endian two's complement integer of `len` bytes.
    fn long(&mut self, len: u64) -> Result<i128, DecodeError> {
        if len > INTEGER_LEN_MAX as u64 {
            return Err(Invalid::IntegerTooWide.into());
        }
        let bytes = self.take(len)?;
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; INTEGER_LEN_MAX];
        wide[..bytes.len()].copy_from_slice(bytes);
        Ok(i128::from_le_bytes(wide))
    }

    fn decimal(&mut self, byte: u8) -> Result<u64, DecodeError> {
        let line = self.line()?;
        text::decimal(line).ok_or_else(|| self.malformed(byte))
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.take(N as u64)?;
        Ok(bytes.try_into().expect("take gives as many as were asked"))
    }

    /// The next `len` bytes. A length that cannot fit is refused before anything of it arrives.
    fn take(&mut self, len: u64) -> Result<&'a [u8], DecodeError> {
        let len = match usize::try_from(len) {
            Ok(len) if len <= self.room - self.taken => len,
            _ => return Err(self.over.clone().into()),
        };
        let bytes = self
            .rest
            .get(self.taken..self.taken + len)
            .ok_or(DecodeError::Incomplete)?;
        self.taken += len;
        Ok(bytes)
    }

    /// The bytes up to the next newline, which is taken but not given.
    fn line(&mut self) -> Result<&'a [u8], DecodeError> {
        let end = self.rest.len().min(self.room);
        let rest = &self.rest[self.taken..end];
        match rest.iter().position(|byte| *byte == b'\n') {
            Some(len) => {
                self.taken += len + 1;
                Ok(&rest[..len])
            }
            None if end == self.room => Err(self.over.clone().into()),
            None => Err(DecodeError::Incomplete),
        }
    }

    fn malformed(&self, byte: u8) -> DecodeError {
        let (name, at) = (name(byte), self.at);
        Invalid::Argument { name, at }.into()
    }
}

/// The instructions that take no argument.
fn bare(byte: u8) -> Option<Op> {
    Some(match byte {
        b'(' => Op::Mark,
        b'.' => Op::Stop,
        b'0' => Op::Pop,
        b'1' => Op::PopMark,
        b'2' => Op::Dup,
        b'N' => Op::Push(Node::None),
        0x88 => Op::Push(Node::Bool(true)),
        0x89 => Op::Push(Node::Bool(false)),
        b')' => Op::Push(Node::Tuple(Vec::new())),
        b']' => Op::Push(Node::List(Vec::new())),
        b'}' => Op::Push(Node::Dict(Vec::new())),
        0x8f => Op::Push(Node::Set(Vec::new())),
        b'l' => Op::Gather(Kind::List, Taken::AboveMark),
        b't' => Op::Gather(Kind::Tuple, Taken::AboveMark),
        b'd' => Op::Gather(Kind::Dict, Taken::AboveMark),
        0x91 => Op::Gather(Kind::FrozenSet, Taken::AboveMark),
        0x85 => Op::Gather(Kind::Tuple, Taken::Top(1)),
        0x86 => Op::Gather(Kind::Tuple, Taken::Top(2)),
        0x87 => Op::Gather(Kind::Tuple, Taken::Top(3)),
        b'a' => Op::Fill(Kind::List, Taken::Top(1)),
        b'e' => Op::Fill(Kind::List, Taken::AboveMark),
        b's' => Op::Fill(Kind::Dict, Taken::Top(2)),
        b'u' => Op::Fill(Kind::Dict, Taken::AboveMark),
        0x90 => Op::Fill(Kind::Set, Taken::AboveMark),
        0x94 => Op::Memoize,
        _ => return None,
    })
}

/// Python 2's `str`: text where it is text, bytes where it is not.
fn text_or_bytes(bytes: Vec<u8>) -> Node {
    match String::from_utf8(bytes) {
        Ok(text) => Node::Str(text),
        Err(error) => Node::Bytes(error.into_bytes()),
    }
}
