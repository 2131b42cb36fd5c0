//! What a pickle has built so far: values that refer to one another by number.
//!
//! A pickle may put one list into two places, or into itself, and may go on filling it afterwards,
//! so while it runs the values are a graph. [`Graph::tree`] copies it out as a plain [`Value`] and
//! is where repetition, depth and cycles are paid for: what was cheap to refer to is counted each
//! time it is copied.

use super::{DEPTH_MAX, Invalid, PICKLE_LEN_MAX, VALUES_MAX, Value};

/// A value's number in the graph.
pub(super) type NodeId = u32;

/// A value whose parts are elsewhere in the graph.
#[derive(Clone, Debug)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Bytes(Vec<u8>),
    Str(String),
    List(Vec<NodeId>),
    Tuple(Vec<NodeId>),
    /// Keys and values by turns, in the order in which they were set.
    Dict(Vec<NodeId>),
    Set(Vec<NodeId>),
    FrozenSet(Vec<NodeId>),
}

/// At most [`VALUES_MAX`] nodes; the caller counts.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: Vec<Node>,
}

impl Graph {
    pub(super) fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId::try_from(self.nodes.len() - 1).expect("VALUES_MAX fits 32 bits")
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    /// The tree that hangs from `root`, copied out.
    pub(super) fn tree(&self, root: NodeId) -> Result<Value, Invalid> {
        let mut copy = Copy {
            nodes: &self.nodes,
            open: Vec::new(),
            values_left: VALUES_MAX,
            bytes_left: PICKLE_LEN_MAX,
        };
        copy.value(root)
    }
}

/// One copying-out, with what it may still cost.
struct Copy<'a> {
    nodes: &'a [Node],
    /// The containers around the current value, outermost first.
    open: Vec<NodeId>,
    values_left: usize,
    bytes_left: usize,
}

impl Copy<'_> {
    /// Calls itself once for each level of nesting, so [`DEPTH_MAX`] times at most.
    fn value(&mut self, id: NodeId) -> Result<Value, Invalid> {
        self.values_left = self
            .values_left
            .checked_sub(1)
            .ok_or(Invalid::TooManyValues)?;
        Ok(match &self.nodes[id as usize] {
            Node::None => Value::None,
            Node::Bool(truth) => Value::Bool(*truth),
            Node::Int(number) => Value::Int(*number),
            Node::Float(number) => Value::Float(*number),
            Node::Bytes(bytes) => {
                self.pay(bytes.len())?;
                Value::Bytes(bytes.clone())
            }
            Node::Str(text) => {
                self.pay(text.len())?;
                Value::Str(text.clone())
            }
            Node::List(items) => Value::List(self.items(id, items)?),
            Node::Tuple(items) => Value::Tuple(self.items(id, items)?),
            Node::Dict(items) => Value::Dict(self.entries(id, items)?),
            Node::Set(items) => Value::Set(self.distinct(id, items)?),
            Node::FrozenSet(items) => Value::FrozenSet(self.distinct(id, items)?),
        })
    }

    fn items(&mut self, id: NodeId, items: &[NodeId]) -> Result<Vec<Value>, Invalid> {
        self.enter(id)?;
        let values = items.iter().map(|item| self.value(*item)).collect();
        self.open.pop();
        values
    }

    /// A key that is set again keeps its first place and gets the later value, as in Python.
    fn entries(&mut self, id: NodeId, items: &[NodeId]) -> Result<Vec<(Value, Value)>, Invalid> {
        self.enter(id)?;
        let mut entries: Vec<(Value, Value)> = Vec::new();
        for pair in items.chunks_exact(2) {
            let key = self.value(pair[0])?;
            hashable(&key)?;
            let value = self.value(pair[1])?;
            match entries.iter_mut().find(|(known, _)| same(known, &key)) {
                Some((_, former)) => *former = value,
                None => entries.push((key, value)),
            }
        }
        self.open.pop();
        Ok(entries)
    }

    fn distinct(&mut self, id: NodeId, items: &[NodeId]) -> Result<Vec<Value>, Invalid> {
        let mut distinct: Vec<Value> = Vec::new();
        for value in self.items(id, items)? {
            hashable(&value)?;
            if !distinct.iter().any(|known| same(known, &value)) {
                distinct.push(value);
            }
        }
        Ok(distinct)
    }

    fn enter(&mut self, id: NodeId) -> Result<(), Invalid> {
        if self.open.contains(&id) {
            return Err(Invalid::SelfReference);
        }
        if self.open.len() == DEPTH_MAX {
            return Err(Invalid::TooDeep);
        }
        self.open.push(id);
        Ok(())
    }

    fn pay(&mut self, len: usize) -> Result<(), Invalid> {
        self.bytes_left = self.bytes_left.checked_sub(len).ok_or(Invalid::TooLong)?;
        Ok(())
    }
}

fn hashable(value: &Value) -> Result<(), Invalid> {
    match value {
        Value::None
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Float(_)
        | Value::Bytes(_)
        | Value::Str(_)
        | Value::FrozenSet(_) => Ok(()),
        Value::Tuple(items) => items.iter().try_for_each(hashable),
        Value::List(_) | Value::Dict(_) | Value::Set(_) => Err(Invalid::Unhashable {
            type_name: value.type_name(),
        }),
    }
}

/// Whether Python would take both for one key: `True`, `1` and `1.0` are.
fn same(one: &Value, other: &Value) -> bool {
    match (integer(one), integer(other)) {
        (Some(one), Some(other)) => return one == other,
        (Some(_), None) | (None, Some(_)) => return false,
        (None, None) => {}
    }
    match (one, other) {
        (Value::Tuple(one), Value::Tuple(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::FrozenSet(one), Value::FrozenSet(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|item| other.iter().any(|known| same(item, known)))
        }
        _ => one == other,
    }
}

/// The number that a value is equal to, if it is a whole one.
fn integer(value: &Value) -> Option<i128> {
    /// Whole floats below this convert without loss.
    const EXACT: f64 = 1e30;
    match value {
        Value::Bool(truth) => Some(i128::from(*truth)),
        Value::Int(number) => Some(*number),
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^127")]
        Value::Float(number) if number.fract() == 0.0 && number.abs() < EXACT => {
            Some(*number as i128)
        }
        Value::None
        | Value::Float(_)
        | Value::Bytes(_)
        | Value::Str(_)
        | Value::List(_)
        | Value::Tuple(_)
        | Value::Dict(_)
        | Value::Set(_)
        | Value::FrozenSet(_) => None,
    }
}
