//! A list with a named maximum, so that a message which holds one can always be encoded.
//!
//! The limit is part of the type: whoever builds the list meets it, not whoever sends it. It says
//! nothing about what the items are.

use std::ops::Deref;

/// At most `MAX` items, in the order they were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounded<T, const MAX: usize>(Vec<T>);

/// More items than the list may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} items where at most {max} may stand")]
pub struct TooMany {
    /// How many there were.
    pub len: usize,
    /// How many there may be.
    pub max: usize,
}

impl<T, const MAX: usize> Bounded<T, MAX> {
    /// Takes the items if there are not too many.
    ///
    /// # Errors
    /// [`TooMany`] if there are more than `MAX`.
    pub fn new(items: Vec<T>) -> Result<Self, TooMany> {
        let len = items.len();
        if len > MAX {
            return Err(TooMany { len, max: MAX });
        }
        Ok(Self(items))
    }

    /// The first `MAX` items; the rest is dropped.
    pub fn truncated(items: impl IntoIterator<Item = T>) -> Self {
        Self(items.into_iter().take(MAX).collect())
    }

    /// The items themselves.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX: usize> Default for Bounded<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MAX: usize> Deref for Bounded<T, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_met_when_the_list_is_built() {
        assert_eq!(Bounded::<_, 2>::new(vec![1, 2]).as_deref(), Ok(&[1, 2][..]));
        let refused = Bounded::<_, 2>::new(vec![1, 2, 3]);
        assert_eq!(refused, Err(TooMany { len: 3, max: 2 }));
        assert_eq!(&*Bounded::<_, 2>::truncated([1, 2, 3]), &[1, 2]);
    }
}
