//! The stack machine that reads a pickle, stopped and resumed between instructions.
//!
//! It owns the limits on length and counts; `graph` owns those on depth and repetition. It never
//! looks at a byte behind STOP.

use std::collections::BTreeMap;

use super::graph::{Graph, Node, NodeId};
use super::opcode::{Kind, Op, Reader, Taken, name};
use super::{DecodeError, Invalid, MEMO_LEN_MAX, PICKLE_LEN_MAX, VALUES_MAX, Value};

/// The latest protocol there is.
const PROTOCOL_MAX: u8 = 5;

/// Reads the pickle at the front of `bytes`: its value and its length.
///
/// # Errors
/// [`DecodeError::Incomplete`] if a longer input could be right, [`DecodeError::Invalid`] if none
/// could.
pub fn decode(bytes: &[u8]) -> Result<(Value, usize), DecodeError> {
    let Advance { consumed, value } = Decoder::default().advance(bytes)?;
    match value {
        Some(value) => Ok((value, consumed)),
        None => Err(DecodeError::Incomplete),
    }
}

/// Reads one pickle after the other from a stream, each piece of it once.
///
/// After an error it must not be used again: where the next pickle begins is not known.
#[derive(Debug, Default)]
pub struct Decoder {
    graph: Graph,
    stack: Vec<NodeId>,
    /// Heights of the stack at the marks that are set.
    marks: Vec<usize>,
    memo: BTreeMap<u64, NodeId>,
    /// Bytes of this pickle that were consumed.
    used: usize,
    /// Values and marks that were pushed.
    pushed: usize,
    /// Where the current frame ends.
    frame_end: Option<usize>,
}

/// How far [`Decoder::advance`] came.
#[derive(Clone, Debug, PartialEq)]
pub struct Advance {
    /// Bytes at the front of the input that are done with; the rest must be given again.
    pub consumed: usize,
    /// The value, once its STOP has been consumed. Nothing behind that was looked at.
    pub value: Option<Value>,
}

impl Decoder {
    /// Runs as many whole instructions as `input` holds, up to the first STOP.
    ///
    /// The part that must be given again, with more behind it, is always shorter than
    /// [`PICKLE_LEN_MAX`].
    ///
    /// # Errors
    /// [`Invalid`] as soon as the bytes cannot become right any more.
    pub fn advance(&mut self, input: &[u8]) -> Result<Advance, Invalid> {
        let mut consumed = 0;
        loop {
            match self.step(&input[consumed..]) {
                Ok((len, value)) => {
                    consumed += len;
                    if value.is_some() {
                        *self = Self::default();
                        return Ok(Advance { consumed, value });
                    }
                }
                Err(DecodeError::Incomplete) => {
                    let value = None;
                    return Ok(Advance { consumed, value });
                }
                Err(DecodeError::Invalid(invalid)) => return Err(invalid),
            }
        }
    }

    /// One instruction: how long it was, and the value if it was STOP.
    fn step(&mut self, input: &[u8]) -> Result<(usize, Option<Value>), DecodeError> {
        let (end, over) = match self.frame_end {
            Some(end) => (end, Invalid::Frame),
            None => (PICKLE_LEN_MAX, Invalid::TooLong),
        };
        let at = self.used;
        let mut reader = Reader::new(input, at, end - at, over);
        let op = reader.op()?;
        let taken = reader.taken;
        self.used += taken;
        if self.frame_end == Some(self.used) {
            self.frame_end = None;
        }
        if matches!(op, Op::Stop) {
            return Ok((taken, Some(self.finish()?)));
        }
        let context = Context {
            name: name(input[0]),
            at,
        };
        self.execute(op, context)?;
        Ok((taken, None))
    }

    fn finish(&mut self) -> Result<Value, Invalid> {
        if self.frame_end.is_some() {
            return Err(Invalid::Frame);
        }
        let at = self.used - 1;
        let root = self.pop(Context { name: "STOP", at })?;
        self.graph.tree(root)
    }

    fn execute(&mut self, op: Op, context: Context) -> Result<(), Invalid> {
        match op {
            Op::Push(node) => self.push_new(node)?,
            Op::Mark => {
                // No value, so not counted with them: what was read could not be written else.
                if self.marks.len() == VALUES_MAX {
                    return Err(Invalid::TooManyValues);
                }
                self.marks.push(self.stack.len());
            }
            // `step` has dealt with it.
            Op::Stop => {}
            Op::Pop => {
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop(context)?;
                }
            }
            Op::PopMark => {
                self.take(Taken::AboveMark, context)?;
            }
            Op::Dup => {
                let top = self.top(context)?;
                self.push(top)?;
            }
            Op::Get(index) => {
                let missing = Invalid::MemoMissing { index };
                let node = *self.memo.get(&index).ok_or(missing)?;
                self.push(node)?;
            }
            Op::Put(index) => self.remember(index, context)?,
            Op::Memoize => self.remember(self.memo.len() as u64, context)?,
            Op::Protocol(version) if version > PROTOCOL_MAX => {
                return Err(Invalid::Protocol { version });
            }
            Op::Protocol(_) => {}
            Op::Frame(len) => self.open_frame(len)?,
            Op::Gather(kind, taken) => self.gather(kind, taken, context)?,
            Op::Fill(kind, taken) => self.fill(kind, taken, context)?,
        }
        Ok(())
    }

    fn gather(&mut self, kind: Kind, taken: Taken, context: Context) -> Result<(), Invalid> {
        let items = self.take(taken, context)?;
        self.push_new(match kind {
            Kind::List => Node::List(items),
            Kind::Tuple => Node::Tuple(items),
            Kind::Dict if items.len() % 2 == 1 => return Err(context.stack()),
            Kind::Dict => Node::Dict(items),
            Kind::Set => Node::Set(items),
            Kind::FrozenSet => Node::FrozenSet(items),
        })
    }

    fn fill(&mut self, kind: Kind, taken: Taken, context: Context) -> Result<(), Invalid> {
        let items = self.take(taken, context)?;
        let container = self.top(context)?;
        match (kind, self.graph.node_mut(container)) {
            (Kind::List, Node::List(list)) => list.extend(items),
            (Kind::Set, Node::Set(set)) => set.extend(items),
            (Kind::Dict, Node::Dict(dict)) if items.len() % 2 == 0 => dict.extend(items),
            _ => return Err(context.stack()),
        }
        Ok(())
    }

    fn open_frame(&mut self, len: u64) -> Result<(), Invalid> {
        if self.frame_end.is_some() {
            return Err(Invalid::Frame);
        }
        let room = PICKLE_LEN_MAX - self.used;
        match usize::try_from(len) {
            Ok(len) if len <= room => {
                self.frame_end = (len > 0).then_some(self.used + len);
                Ok(())
            }
            _ => Err(Invalid::TooLong),
        }
    }

    fn remember(&mut self, index: u64, context: Context) -> Result<(), Invalid> {
        let top = self.top(context)?;
        self.memo.insert(index, top);
        if self.memo.len() > MEMO_LEN_MAX {
            return Err(Invalid::MemoTooLong);
        }
        Ok(())
    }

    fn push_new(&mut self, node: Node) -> Result<(), Invalid> {
        self.count_push()?;
        let id = self.graph.add(node);
        self.stack.push(id);
        Ok(())
    }

    fn push(&mut self, node: NodeId) -> Result<(), Invalid> {
        self.count_push()?;
        self.stack.push(node);
        Ok(())
    }

    fn count_push(&mut self) -> Result<(), Invalid> {
        if self.pushed == VALUES_MAX {
            return Err(Invalid::TooManyValues);
        }
        self.pushed += 1;
        Ok(())
    }

    fn top(&self, context: Context) -> Result<NodeId, Invalid> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(top) if self.stack.len() > floor => Ok(*top),
            _ => Err(context.stack()),
        }
    }

    fn pop(&mut self, context: Context) -> Result<NodeId, Invalid> {
        let top = self.top(context)?;
        self.stack.pop();
        Ok(top)
    }

    /// Takes values off the stack; they come in the order in which they were pushed.
    fn take(&mut self, taken: Taken, context: Context) -> Result<Vec<NodeId>, Invalid> {
        let height = match taken {
            Taken::AboveMark => self.marks.pop().ok_or(context.stack())?,
            Taken::Top(count) => {
                let floor = self.marks.last().copied().unwrap_or(0);
                let height = self.stack.len().checked_sub(count);
                height
                    .filter(|height| *height >= floor)
                    .ok_or(context.stack())?
            }
        };
        Ok(self.stack.split_off(height))
    }
}

/// Puts the values of a stream together from the pieces in which it arrives.
///
/// It keeps less than [`PICKLE_LEN_MAX`] bytes from one call of [`pop`](Self::pop) to the next;
/// ask until it has no more before pushing again.
#[derive(Debug, Default)]
pub struct Unpickler {
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl Unpickler {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next value, if it has arrived completely.
    ///
    /// # Errors
    /// [`Invalid`]; then the stream is of no further use.
    pub fn pop(&mut self) -> Result<Option<Value>, Invalid> {
        let Advance { consumed, value } = self.decoder.advance(&self.buffer)?;
        self.buffer.drain(..consumed);
        Ok(value)
    }

    /// Whether the stream would end in the middle of a value if it ended here.
    #[must_use]
    pub fn is_midway(&self) -> bool {
        self.decoder.used > 0 || !self.buffer.is_empty()
    }
}

/// Which instruction is running, for its error.
#[derive(Clone, Copy)]
struct Context {
    name: &'static str,
    at: usize,
}

impl Context {
    fn stack(self) -> Invalid {
        Invalid::Stack {
            name: self.name,
            at: self.at,
        }
    }
}
