//! Keys in their order, each with what was last done to it.
//!
//! Nearly all of them are numbered: an event's, a message's, a journal's. Such a key is a kind, most often a user, and a
//! number behind them, and the numbers of one kind and user (a *group*) come in rising order and mostly go so, too. So each
//! group has its numbers in a [run](super::run) of its own, which is added to at its end and taken from at its start: that
//! costs as much with some hundred thousand keys as with a hundred, and a key takes 24 bytes, its kind and its user
//! being those of the group.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, btree_map::Entry as Slot},
    ops::{Bound, RangeInclusive},
};

use sled::IVec;

use super::{
    Keys, Last,
    groups::{Group, Groups},
    key::{self, Key},
    run::Grown,
};
use crate::store::keys::{Numbered, numbered};

/// Where a numbered key is among all others; ordered as their bytes are, since all keys of a kind are equally long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    group: Group,
    number: u64,
}

/// Bytes of a number.
const NUMBER: usize = 8;

fn length_of(form: Numbered) -> usize {
    match form {
        Numbered::PerUser => 1 + 4 + NUMBER,
        Numbered::Alone => 1 + NUMBER,
    }
}

impl Position {
    /// Of a key, if it is numbered.
    fn of(key: &[u8]) -> Option<Self> {
        match Self::near(key) {
            (position, Ordering::Equal) => Some(position),
            _ => None,
        }
    }

    /// Of the key that these bytes are the start of, with zeros behind them, or that is the start of these bytes; and
    /// how the bytes' length compares with that key's. Keys of other kinds have no number, so less is as good as any.
    fn near(bytes: &[u8]) -> (Self, Ordering) {
        let Some((&kind, rest)) = bytes.split_first() else {
            return (Self { group: Group { kind: 0, user: 0 }, number: 0 }, Ordering::Less);
        };
        let Some(form) = numbered(kind) else {
            return (Self { group: Group { kind, user: 0 }, number: 0 }, Ordering::Less);
        };
        let (user, number) = match form {
            Numbered::PerUser => (u32::from_be_bytes(padded(rest)), rest.get(4..).unwrap_or_default()),
            Numbered::Alone => (0, rest),
        };
        let position = Self { group: Group { kind, user }, number: u64::from_be_bytes(padded(number)) };
        (position, bytes.len().cmp(&length_of(form)))
    }

    fn key(self) -> IVec {
        let Self { group: Group { kind, user }, number } = self;
        let mut key = [kind; 1 + 4 + NUMBER];
        let length = if numbered(kind) == Some(Numbered::Alone) {
            key[1..=NUMBER].copy_from_slice(&number.to_be_bytes());
            1 + NUMBER
        } else {
            key[1..5].copy_from_slice(&user.to_be_bytes());
            key[5..].copy_from_slice(&number.to_be_bytes());
            key.len()
        };
        IVec::from(&key[..length])
    }
}

fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut padded = [0; N];
    let length = bytes.len().min(N);
    padded[..length].copy_from_slice(&bytes[..length]);
    padded
}

/// The first position that these keys may have.
fn first(keys: &Keys) -> Bound<Position> {
    position_of(&keys.0, Ordering::Greater)
}

/// The last one.
fn last(keys: &Keys) -> Bound<Position> {
    position_of(&keys.1, Ordering::Less)
}

/// A bound as one of positions. A key that has none of its own lies on one side of the position near it; that
/// position is left out if the key is `beyond` it, away from the range.
fn position_of(bound: &Bound<IVec>, beyond: Ordering) -> Bound<Position> {
    match bound {
        Bound::Unbounded => Bound::Unbounded,
        Bound::Included(key) => match Position::near(key) {
            (position, side) if side == beyond => Bound::Excluded(position),
            (position, _) => Bound::Included(position),
        },
        Bound::Excluded(key) => match Position::near(key) {
            (position, side) if side == beyond.reverse() => Bound::Included(position),
            (position, _) => Bound::Excluded(position),
        },
    }
}

/// The groups of these positions: those of the bounds may have some on either side of them.
fn groups_of(from: Bound<Position>, to: Bound<Position>) -> RangeInclusive<Group> {
    let group = |bound, otherwise| match bound {
        Bound::Unbounded => otherwise,
        Bound::Included(Position { group, .. }) | Bound::Excluded(Position { group, .. }) => group,
    };
    group(from, Group::FIRST)..=group(to, Group::LAST)
}

/// What a bound means for the numbers of a group that is not beyond it.
fn number_in(bound: Bound<Position>, group: Group) -> Bound<u64> {
    match bound {
        Bound::Included(position) if position.group == group => Bound::Included(position.number),
        Bound::Excluded(position) if position.group == group => Bound::Excluded(position.number),
        _ => Bound::Unbounded,
    }
}

/// See the [module](self).
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    groups: Groups,
    /// Keys that are not numbered.
    others: BTreeMap<Key, Last>,
    length: usize,
}

impl Table {
    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// What was last done to a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<Last> {
        match Position::of(key) {
            Some(Position { group, number }) => self.groups.get(group)?.get(number),
            None => self.others.get(&Key::from(key)).copied(),
        }
    }

    /// Puts in the place of what was last done to a key what this makes of it; of nothing, that the key is not there.
    pub(super) fn update(&mut self, key: &[u8], change: impl FnOnce(Option<Last>) -> Option<Last>) {
        let grown = match Position::of(key) {
            Some(Position { group, number }) => self.groups.get_mut(group).update(number, change),
            None => match self.others.entry(Key::from(key)) {
                Slot::Vacant(slot) => change(None).map_or(Grown::Same, |last| {
                    slot.insert(last);
                    Grown::Larger
                }),
                Slot::Occupied(mut slot) => match change(Some(*slot.get())) {
                    Some(last) => {
                        *slot.get_mut() = last;
                        Grown::Same
                    }
                    None => {
                        slot.remove();
                        Grown::Smaller
                    }
                },
            },
        };
        match grown {
            Grown::Larger => self.length += 1,
            Grown::Same => {}
            Grown::Smaller => self.length -= 1,
        }
    }

    /// The numbered among these keys, in their order.
    pub(super) fn numbered(&self, keys: &Keys) -> impl DoubleEndedIterator<Item = (IVec, Last)> + '_ {
        let (from, to) = (first(keys), last(keys));
        self.groups.range(groups_of(from, to)).flat_map(move |(group, run)| {
            let numerals = run.range(number_in(from, group), number_in(to, group));
            numerals.map(move |numeral| (Position { group, number: numeral.number }.key(), numeral.last))
        })
    }

    /// The others among these keys, in their order.
    pub(super) fn others(&self, keys: &Keys) -> impl DoubleEndedIterator<Item = (IVec, Last)> + '_ {
        self.others.range(key::range(keys)).map(|(key, last)| (IVec::from(&**key), *last))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::run, *};
    use crate::store::wal::{Place, Segment};

    /// Of the same block of runs, of neighbouring ones, and far from each other.
    fn user() -> impl Strategy<Value = u32> {
        prop::sample::select(vec![0, 1, 31, 32, 70, u32::MAX])
    }

    fn keys() -> impl Strategy<Value = Vec<u8>> {
        let kind = || prop::sample::select(vec![0x01, 0x20, 0x22, 0x30, 0x31, 0x60]);
        let of_user = (kind(), user(), 0u64..400);
        prop_oneof![
            20 => of_user.prop_map(|(kind, user, number)| {
                [&[kind][..], &user.to_be_bytes(), &number.to_be_bytes()].concat()
            }),
            10 => (kind(), 0u64..400).prop_map(|(kind, number)| [&[kind][..], &number.to_be_bytes()].concat()),
            // Whatever lies on a disk, and starts of keys.
            5 => (kind(), prop::collection::vec(0u8..3, 0..16)).prop_map(|(kind, rest)| [vec![kind], rest].concat()),
        ]
    }

    #[derive(Debug, Clone)]
    enum Step {
        Put(Vec<u8>),
        Remove(Vec<u8>),
        /// Numbers that rise, or fall.
        Rise(u32, u64, u64),
        Fall(u32, u64, u64),
        RemoveSome(u32, u64, u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let some = || (user(), 0u64..400, 0u64..200);
        let step = prop_oneof![
            6 => keys().prop_map(Step::Put),
            6 => keys().prop_map(Step::Remove),
            2 => some().prop_map(|(user, from, count)| Step::Rise(user, from, count)),
            1 => some().prop_map(|(user, from, count)| Step::Fall(user, from, count)),
            2 => some().prop_map(|(user, from, count)| Step::RemoveSome(user, from, count)),
        ];
        prop::collection::vec(step, 0..40)
    }

    /// A table, and what it is to be like.
    #[derive(Default)]
    struct Twins {
        table: Table,
        model: BTreeMap<Vec<u8>, Last>,
        changes: u32,
    }

    impl Twins {
        fn put(&mut self, key: &[u8]) {
            self.changes += 1;
            let last = Last::put(Place::of(Segment::NEVER, &(self.changes as usize..self.changes as usize)));
            let known = self.model.insert(key.to_vec(), last);
            self.table.update(key, |found| {
                assert_eq!(found, known);
                Some(last)
            });
        }

        fn remove(&mut self, key: &[u8]) {
            let known = self.model.remove(key);
            self.table.update(key, |found| {
                assert_eq!(found, known);
                None
            });
        }

        fn act(&mut self, step: Step) {
            let key =
                |user: u32, number: u64| [&[0x30][..], &user.to_be_bytes(), &number.to_be_bytes()].concat();
            match step {
                Step::Put(key) => self.put(&key),
                Step::Remove(key) => self.remove(&key),
                Step::Rise(user, from, count) => {
                    (from..from + count).for_each(|number| self.put(&key(user, number)));
                }
                Step::Fall(user, from, count) => {
                    (from..from + count).rev().for_each(|number| self.put(&key(user, number)));
                }
                Step::RemoveSome(user, from, count) => {
                    (from..from + count).for_each(|number| self.remove(&key(user, number)));
                }
            }
        }

        fn check_form(&self) {
            self.table.groups.runs().for_each(run::testing::check_form);
        }
    }

    fn merged(table: &Table, keys: &Keys) -> [Vec<(Vec<u8>, Last)>; 2] {
        let owned = |(key, last): (IVec, Last)| (key.to_vec(), last);
        let mut forward: Vec<_> = table.numbered(keys).chain(table.others(keys)).map(owned).collect();
        let mut back: Vec<_> =
            table.numbered(keys).rev().chain(table.others(keys).rev()).map(owned).collect();
        // Each of the two is in order by itself.
        let is_numbered = |(key, _): &(Vec<u8>, Last)| Position::of(key).is_some();
        for half in [true, false] {
            let of_half: Vec<_> = forward.iter().filter(|entry| is_numbered(entry) == half).collect();
            assert!(of_half.is_sorted_by(|one, other| one.0 < other.0));
            let of_half: Vec<_> = back.iter().filter(|entry| is_numbered(entry) == half).collect();
            assert!(of_half.is_sorted_by(|one, other| one.0 > other.0));
        }
        forward.sort_by(|one, other| one.0.cmp(&other.0));
        back.sort_by(|one, other| one.0.cmp(&other.0));
        [forward, back]
    }

    fn bound() -> impl Strategy<Value = Bound<IVec>> {
        prop_oneof![
            4 => keys().prop_map(|key| Bound::Included(IVec::from(key))),
            4 => keys().prop_map(|key| Bound::Excluded(IVec::from(key))),
            1 => Just(Bound::Unbounded),
        ]
    }

    proptest! {
        #[test]
        fn it_is_an_ordered_map(steps in steps(), bounds in prop::collection::vec((bound(), bound()), 1..8)) {
            let mut twins = Twins::default();
            for step in steps {
                twins.act(step);
                twins.check_form();
            }
            let Twins { table, model, .. } = twins;
            prop_assert_eq!(table.len(), model.len());
            for (key, last) in &model {
                prop_assert_eq!(table.get(key), Some(*last));
            }
            for keys in bounds.into_iter().filter(|keys| !super::super::is_empty(keys)) {
                let expected: Vec<_> = model
                    .iter()
                    .filter(|(key, _)| std::ops::RangeBounds::contains(&keys, &IVec::from(&key[..])))
                    .map(|(key, last)| (key.clone(), *last))
                    .collect();
                for found in merged(&table, &keys) {
                    prop_assert_eq!(&found, &expected);
                }
            }
        }

        #[test]
        fn numbered_keys_are_ordered_as_their_positions(one in keys(), other in keys()) {
            if let Some((a, b)) = Position::of(&one).zip(Position::of(&other)) {
                prop_assert_eq!(a.cmp(&b), one.cmp(&other));
                prop_assert_eq!(&*a.key(), &one[..]);
            }
        }
    }
}
