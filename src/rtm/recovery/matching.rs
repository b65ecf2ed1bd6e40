//! Pairing things that are probably the same: the nearest in time first, each as often as it may.
//! What is surely there has its turn before what may not be.

use std::time::Duration;

use crate::clock::Timestamp;

/// Two things that may be the same, by their places in their lists, and how far apart they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pair {
    turn: u8,
    apart: Duration,
    left: usize,
    right: usize,
}

impl Pair {
    pub(super) fn new(left: usize, right: usize, apart: Duration) -> Self {
        Self { turn: 0, apart, left, right }
    }

    /// The same, to be looked at only when all pairs of earlier turns were.
    pub(super) fn in_turn(self, turn: u8) -> Self {
        Self { turn, ..self }
    }
}

/// Who belongs to each of `lefts`: each left has one partner at most, each right `times(right)`.
pub(super) fn partners(
    lefts: usize,
    mut pairs: Vec<Pair>,
    times: impl Fn(usize) -> u32,
) -> Vec<Option<usize>> {
    pairs.sort_unstable();
    let mut partners = vec![None; lefts];
    let mut used = std::collections::HashMap::<usize, u32>::new();
    for Pair { left, right, .. } in pairs {
        let used = used.entry(right).or_default();
        if partners[left].is_none() && *used < times(right) {
            *used += 1;
            partners[left] = Some(right);
        }
    }
    partners
}

/// How far apart two moments are.
pub(super) fn apart(one: Timestamp, other: Timestamp) -> Duration {
    one.since(other).max(other.since(one))
}

/// How far a moment is from a stretch of time; nothing within it.
pub(super) fn apart_from(at: Timestamp, (first, last): (Timestamp, Timestamp)) -> Duration {
    if at < first { first.since(at) } else { at.since(last) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_belong_together_and_each_only_as_often_as_it_may() {
        let millis = Duration::from_millis;
        let pairs = vec![Pair::new(0, 0, millis(5)), Pair::new(1, 0, millis(3)), Pair::new(1, 1, millis(9))];
        assert_eq!(partners(2, pairs.clone(), |_| 1), [None, Some(0)]);
        assert_eq!(partners(2, pairs, |_| 2), [Some(0), Some(0)]);
        let pairs = vec![Pair::new(0, 0, millis(5)), Pair::new(0, 1, millis(3)).in_turn(1)];
        assert_eq!(partners(1, pairs, |_| 1), [Some(0)]);
    }

    #[test]
    fn distances_have_no_sign() {
        let at = Timestamp::from_millis;
        assert_eq!(apart(at(1), at(4)), apart(at(4), at(1)));
        for (moment, expected) in [(1, 9), (10, 0), (15, 0), (20, 0), (23, 3)] {
            assert_eq!(apart_from(at(moment), (at(10), at(20))), Duration::from_millis(expected));
        }
    }
}
