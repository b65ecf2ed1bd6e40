//! Keys that are not numbered, as memory has them.

use std::{
    cmp::Ordering,
    ops::{Bound, Deref},
};

use super::Keys;

/// What fits into a key's own 16 bytes, as the keys of most kinds do.
const SHORT: usize = 14;

/// A key. Ordered as its bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// Its bytes, zeros behind them, and its length.
    Short([u8; SHORT + 1]),
    /// A longer one; a box in a box, as its length would make all keys larger.
    Long(Box<Box<[u8]>>),
}

impl From<&[u8]> for Key {
    fn from(key: &[u8]) -> Self {
        if key.len() > SHORT {
            return Self::Long(Box::new(Box::from(key)));
        }
        let mut short = [0; SHORT + 1];
        short[..key.len()].copy_from_slice(key);
        short[SHORT] = key.len() as u8;
        Self::Short(short)
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Short(short) => &short[..usize::from(short[SHORT])],
            Self::Long(long) => long,
        }
    }
}

impl Ord for Key {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            // Of two that differ in zeros at their ends alone, the shorter one is less.
            (Self::Short(one), Self::Short(other)) => number(one).cmp(&number(other)),
            _ => (**self).cmp(&**other),
        }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[inline]
fn number(short: &[u8; SHORT + 1]) -> u128 {
    let mut bytes = [0; 16];
    bytes[1..].copy_from_slice(short);
    u128::from_be_bytes(bytes)
}

/// The same keys.
pub(super) fn range(keys: &Keys) -> (Bound<Key>, Bound<Key>) {
    let key = |bound: &Bound<sled::IVec>| bound.as_ref().map(|key| Key::from(&**key));
    (key(&keys.0), key(&keys.1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0), Just(1), Just(255), any::<u8>()];
        prop::collection::vec(byte, 0..2 * SHORT)
    }

    proptest! {
        #[test]
        fn a_key_is_its_bytes_and_ordered_as_they_are(one in bytes(), other in bytes()) {
            let keys = [&one, &other].map(|bytes| Key::from(&**bytes));
            prop_assert_eq!([&*keys[0], &*keys[1]], [&*one, &*other]);
            prop_assert_eq!(keys[0].cmp(&keys[1]), one.cmp(&other));
            prop_assert_eq!(keys[0] == keys[1], one == other);
        }
    }

    #[test]
    fn it_takes_sixteen_bytes() {
        assert_eq!(size_of::<Key>(), 16);
    }
}
