//! Connections by small indices that are used again, each use with a new number, so that an event
//! for a closed connection never reaches its successor.

/// A connection's place and the number of its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl Token {
    pub(super) fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(super) fn from_u64(value: u64) -> Self {
        Self {
            index: value as u32,
            generation: (value >> 32) as u32,
        }
    }
}

/// Values at indices.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Puts in a value that may know its own token.
    pub(super) fn insert_with(&mut self, value: impl FnOnce(Token) -> T) -> Token {
        let token = match self.free.pop() {
            Some(index) => {
                let generation = self.slots[index as usize].generation.wrapping_add(1);
                Token { index, generation }
            }
            None => {
                let index = u32::try_from(self.slots.len()).expect("one for each descriptor");
                self.slots.push(Slot {
                    generation: 0,
                    value: None,
                });
                Token {
                    index,
                    generation: 0,
                }
            }
        };
        let slot = &mut self.slots[token.index as usize];
        *slot = Slot {
            generation: token.generation,
            value: Some(value(token)),
        };
        token
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<T> {
        let value = self.slots.get_mut(index as usize)?.value.take();
        if value.is_some() {
            self.free.push(index);
        }
        value
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slots.get_mut(index as usize)?.value.as_mut()
    }

    /// Whether the token's connection is still the one at its index.
    pub(super) fn holds(&self, token: Token) -> bool {
        let slot = self.slots.get(token.index as usize);
        slot.is_some_and(|slot| slot.generation == token.generation && slot.value.is_some())
    }

    pub(super) fn indices(&self) -> Vec<u32> {
        let used = |index: &u32| self.slots[*index as usize].value.is_some();
        (0..self.slots.len() as u32).filter(used).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_token_does_not_reach_the_new_owner() {
        let mut slots = Slots::new();
        let first = slots.insert_with(|_| "first");
        assert!(slots.holds(first));
        assert_eq!(slots.remove(first.index), Some("first"));
        assert_eq!(slots.remove(first.index), None);
        let second = slots.insert_with(|_| "second");
        assert_eq!(second.index, first.index);
        assert!(!slots.holds(first) && slots.holds(second));
        assert_eq!(Token::from_u64(second.to_u64()), second);
        assert_eq!((slots.len(), slots.indices()), (1, vec![second.index]));
    }
}
