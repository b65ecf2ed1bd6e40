//! How many bytes of records wait for something: events, unsent messages, dead letters. That is what
//! grows without end while a receiver or the platform is away; everything else is small or has a bound
//! of its own.
//!
//! The number is kept with each commit, so that no start has to count. Nothing is looked up for it on
//! the way of an event: looking up each key before it is changed makes sled's file grow by half
//! again. So an event weighs what is known both when it comes and when it goes.

use std::collections::{HashSet, VecDeque};

use sled::IVec;

use super::{
    StoreError, keys,
    records::{EventRecord, decode_with},
};

/// What an event's record takes beside its frame: key, fields, places in lanes.
const EVENT_HEAD: u64 = 128;
/// So many removals are remembered.
const REMEMBERED: usize = 1 << 13;

/// What an event weighs, with so many bytes of its frame in the record.
pub(super) fn event(inline: usize) -> u64 {
    EVENT_HEAD + inline as u64
}

/// What a record of any other kind weighs.
pub(super) fn record(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

/// What a record weighs that is copied as it is.
pub(super) fn of(key: &[u8], value: &[u8]) -> Result<u64, StoreError> {
    match key.first() {
        Some(&keys::kind::EVENT) => {
            let (_, body) = decode_with::<EventRecord>(EventRecord::VERSION, "event", value)?;
            Ok(event(value.len() - body))
        }
        Some(&(keys::kind::QUEUE | keys::kind::DEAD | keys::kind::DEAD_FRAME)) => Ok(record(key, value)),
        _ => Ok(0),
    }
}

/// The latest removals: two lanes that pass an event at once remove it twice, and it goes only once.
#[derive(Debug, Default)]
pub(super) struct Removed {
    keys: HashSet<IVec>,
    order: VecDeque<IVec>,
}

impl Removed {
    /// Whether this is the key's first removal; from now on it was.
    pub(super) fn is_first(&mut self, key: &IVec) -> bool {
        if !self.keys.insert(key.clone()) {
            return false;
        }
        self.order.push_back(key.clone());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::UserNumber;

    #[test]
    fn what_is_removed_twice_goes_once() {
        let mut removed = Removed::default();
        let key = |number| keys::event(UserNumber(1), number);
        assert!(removed.is_first(&key(0)));
        assert!(!removed.is_first(&key(0)));
        for number in 1..=REMEMBERED as u64 {
            assert!(removed.is_first(&key(number)));
        }
        assert!(removed.is_first(&key(0)), "memory is bounded");
        assert_eq!((removed.keys.len(), removed.order.len()), (REMEMBERED, REMEMBERED));
    }
}
