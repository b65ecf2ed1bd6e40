//! Keys in their order, each with what was last done to it.
//!
//! Nearly all of them are numbered: an event's, a message's, a journal's. Such a key is a kind, most often a user, and a
//! number behind them, and the numbers of one kind and user (a *group*) come in rising order and mostly go so, too. So each
//! group has its numbers in a run of its own, which is added to at its end and taken from at its start: that costs as
//! much with some hundred thousand keys as with a hundred, and a key takes 24 bytes, its kind and its user being
//! those of the group.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, VecDeque, btree_map::Entry as Slot, vec_deque},
    ops::Bound,
};

use sled::IVec;

use super::{
    Keys, Last,
    key::{self, Key},
};
use crate::store::keys::{Numbered, numbered};

/// What the numbers of a run have in common: their keys' beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    kind: u8,
    /// 0 where keys of the kind have no user.
    user: u32,
}

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

/// The groups up to a bound: the bound's own may have some on either side of it.
fn group_of(bound: Bound<Position>) -> Bound<Group> {
    match bound {
        Bound::Unbounded => Bound::Unbounded,
        Bound::Included(position) | Bound::Excluded(position) => Bound::Included(position.group),
    }
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
    groups: BTreeMap<Group, Run>,
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
            Some(Position { group, number }) => self.groups.get(&group)?.get(number),
            None => self.others.get(&Key::from(key)).copied(),
        }
    }

    /// Puts in the place of what was last done to a key what this makes of it; of nothing, that the key is not there.
    pub(super) fn update(&mut self, key: &[u8], change: impl FnOnce(Option<Last>) -> Option<Last>) {
        let grown = match Position::of(key) {
            Some(Position { group, number }) => match self.groups.entry(group) {
                Slot::Vacant(slot) => change(None).map_or(Grown::Same, |last| {
                    slot.insert(Run::One(Numeral { number, last }));
                    Grown::Larger
                }),
                Slot::Occupied(mut slot) => {
                    let grown = slot.get_mut().update(number, change);
                    if slot.get().is_empty() {
                        slot.remove();
                    }
                    grown
                }
            },
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
        self.groups.range((group_of(from), group_of(to))).flat_map(move |(group, run)| {
            let numerals = run.range(number_in(from, *group), number_in(to, *group));
            numerals.map(|numeral| (Position { group: *group, number: numeral.number }.key(), numeral.last))
        })
    }

    /// The others among these keys, in their order.
    pub(super) fn others(&self, keys: &Keys) -> impl DoubleEndedIterator<Item = (IVec, Last)> + '_ {
        self.others.range(key::range(keys)).map(|(key, last)| (IVec::from(&**key), *last))
    }
}

/// What became of a table or a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grown {
    Larger,
    Same,
    Smaller,
}

/// A number, and what was last done to its key.
#[derive(Debug, Clone, Copy)]
struct Numeral {
    number: u64,
    last: Last,
}

/// So many numbers lie side by side.
const PIECE: usize = 64;

/// The numbers of a group, in their order.
#[derive(Debug, Clone)]
enum Run {
    /// A user's only one: of messages that wait, it most often is. It needs no memory of its own.
    One(Numeral),
    /// As many as lie side by side: what is recent of most users' events. There are none for a moment only.
    Few(Piece),
    /// More of them. No piece is empty.
    Many(Vec<Piece>),
}

/// Some numbers of a run, in their order.
#[derive(Debug, Clone)]
struct Piece {
    /// None of them is less, and all those of the pieces before are.
    from: u64,
    /// What goes first goes without a touch of the others.
    numerals: VecDeque<Numeral>,
}

impl Run {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Few(piece) if piece.numerals.is_empty())
    }

    /// All numbers, but for one that has no memory of its own.
    fn pieces(&self) -> &[Piece] {
        match self {
            Self::One(_) => &[],
            Self::Few(piece) => std::slice::from_ref(piece),
            Self::Many(pieces) => pieces,
        }
    }

    fn get(&self, number: u64) -> Option<Last> {
        if let Self::One(one) = self {
            return (one.number == number).then_some(one.last);
        }
        let pieces = self.pieces();
        let piece = &pieces[piece_for(pieces, number)];
        Some(piece.numerals[piece.find(number).ok()?].last)
    }

    /// As [`Table::update`]. It may be empty behind it.
    fn update(&mut self, number: u64, change: impl FnOnce(Option<Last>) -> Option<Last>) -> Grown {
        match self {
            Self::One(one) if one.number == number => match change(Some(one.last)) {
                Some(last) => {
                    one.last = last;
                    Grown::Same
                }
                None => {
                    *self = Self::Few(Piece::of([]));
                    Grown::Smaller
                }
            },
            Self::One(one) => {
                let Some(last) = change(None) else { return Grown::Same };
                let mut both = [*one, Numeral { number, last }];
                both.sort_unstable_by_key(|numeral| numeral.number);
                *self = Self::Few(Piece::of(both));
                Grown::Larger
            }
            Self::Few(piece) => match piece.find(number) {
                Ok(found) => {
                    let grown = piece.change(found, change);
                    piece.tidy();
                    grown
                }
                Err(place) => {
                    let Some(last) = change(None) else { return Grown::Same };
                    let numeral = Numeral { number, last };
                    if piece.numerals.len() < PIECE {
                        piece.insert(place, numeral);
                    } else {
                        let mut pieces = vec![std::mem::replace(piece, Piece::of([]))];
                        insert(&mut pieces, 0, place, numeral);
                        *self = Self::Many(pieces);
                    }
                    Grown::Larger
                }
            },
            Self::Many(pieces) => {
                let grown = update(pieces, number, change);
                if pieces.len() == 1 {
                    *self = pieces.pop().map_or_else(|| Self::Few(Piece::of([])), Self::Few);
                }
                grown
            }
        }
    }

    fn range(&self, from: Bound<u64>, to: Bound<u64>) -> impl DoubleEndedIterator<Item = &Numeral> {
        let one = match self {
            Self::One(one) => {
                Some(one).filter(|one| !is_before(one.number, from) && !is_behind(one.number, to))
            }
            Self::Few(_) | Self::Many(_) => None,
        };
        let pieces = self.pieces();
        let begin = match from {
            Bound::Included(from) | Bound::Excluded(from) => {
                pieces.partition_point(|piece| piece.from <= from).saturating_sub(1)
            }
            Bound::Unbounded => 0,
        };
        let end = pieces.partition_point(|piece| !is_behind(piece.from, to));
        let pieces = pieces.get(begin..end).unwrap_or_default();
        pieces.iter().flat_map(move |piece| piece.within(from, to)).chain(one)
    }
}

fn update(pieces: &mut Vec<Piece>, number: u64, change: impl FnOnce(Option<Last>) -> Option<Last>) -> Grown {
    let at = piece_for(pieces, number);
    match pieces[at].find(number) {
        Ok(found) => {
            let grown = pieces[at].change(found, change);
            if grown == Grown::Smaller {
                tidy(pieces, at);
            }
            grown
        }
        Err(place) => {
            let Some(last) = change(None) else { return Grown::Same };
            insert(pieces, at, place, Numeral { number, last });
            Grown::Larger
        }
    }
}

/// The piece that has a number, or that it belongs into. Numbers come at the end, so that is looked at first.
fn piece_for(pieces: &[Piece], number: u64) -> usize {
    match pieces {
        [.., newest] if newest.from <= number => pieces.len() - 1,
        _ => pieces.partition_point(|piece| piece.from <= number).saturating_sub(1),
    }
}

fn insert(pieces: &mut Vec<Piece>, at: usize, place: usize, numeral: Numeral) {
    let piece = &mut pieces[at];
    if piece.numerals.len() < PIECE {
        piece.insert(place, numeral);
    } else if place == PIECE {
        // At the end, most often of all: so full pieces stay full.
        pieces.insert(at + 1, Piece::of([numeral]));
    } else {
        let mut behind = Piece::of(piece.numerals.split_off(PIECE / 2));
        match place.checked_sub(PIECE / 2).filter(|_| numeral.number > behind.from) {
            Some(place) => behind.insert(place, numeral),
            None => piece.insert(place, numeral),
        }
        pieces.insert(at + 1, behind);
    }
}

/// Behind a removal: what is nearly empty keeps no memory.
fn tidy(pieces: &mut Vec<Piece>, at: usize) {
    let length = pieces[at].numerals.len();
    if length == 0 {
        pieces.remove(at);
        if pieces.capacity() > 4 * pieces.len() {
            pieces.shrink_to(2 * pieces.len());
        }
    } else if pieces[at].is_nearly_empty() {
        let fits = |next: &Piece| next.numerals.len() + length <= PIECE / 2;
        if pieces.get(at + 1).is_some_and(fits) {
            let behind = pieces.remove(at + 1);
            pieces[at].numerals.extend(behind.numerals);
        }
        pieces[at].tidy();
    }
}

impl Piece {
    fn of(numerals: impl Into<VecDeque<Numeral>>) -> Self {
        let numerals = numerals.into();
        Self { from: numerals.front().map_or(0, |first| first.number), numerals }
    }

    /// Where a number is, or where it belongs.
    fn find(&self, number: u64) -> Result<usize, usize> {
        if self.numerals.back().is_some_and(|last| last.number < number) {
            return Err(self.numerals.len());
        }
        // Where no number is left out, as of users' lanes, it can be told where one is.
        let guess = usize::try_from(number.wrapping_sub(self.from)).unwrap_or(usize::MAX);
        match self.numerals.get(guess) {
            Some(numeral) if numeral.number == number => Ok(guess),
            _ => self.numerals.binary_search_by_key(&number, |numeral| numeral.number),
        }
    }

    fn change(&mut self, at: usize, change: impl FnOnce(Option<Last>) -> Option<Last>) -> Grown {
        let known = &mut self.numerals[at].last;
        match change(Some(*known)) {
            Some(last) => {
                *known = last;
                Grown::Same
            }
            None => {
                self.numerals.remove(at);
                Grown::Smaller
            }
        }
    }

    fn insert(&mut self, place: usize, numeral: Numeral) {
        self.from = self.from.min(numeral.number);
        self.numerals.insert(place, numeral);
    }

    fn is_nearly_empty(&self) -> bool {
        self.numerals.len() <= PIECE / 4 && self.numerals.capacity() > PIECE / 2
    }

    /// What is nearly empty keeps no memory.
    fn tidy(&mut self) {
        if self.is_nearly_empty() {
            self.numerals.shrink_to(PIECE / 2);
        }
    }

    /// Those that lie there.
    fn within(&self, from: Bound<u64>, to: Bound<u64>) -> vec_deque::Iter<'_, Numeral> {
        let begin = self.numerals.partition_point(|numeral| is_before(numeral.number, from));
        let end = self.numerals.partition_point(|numeral| !is_behind(numeral.number, to));
        self.numerals.range(begin..end.max(begin))
    }
}

fn is_before(number: u64, from: Bound<u64>) -> bool {
    match from {
        Bound::Included(from) => number < from,
        Bound::Excluded(from) => number <= from,
        Bound::Unbounded => false,
    }
}

fn is_behind(number: u64, to: Bound<u64>) -> bool {
    match to {
        Bound::Included(to) => number > to,
        Bound::Excluded(to) => number >= to,
        Bound::Unbounded => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::wal::{Place, Segment};

    fn keys() -> impl Strategy<Value = Vec<u8>> {
        let kind = || prop::sample::select(vec![0x01, 0x20, 0x22, 0x30, 0x31, 0x60]);
        let of_user = (kind(), 0u32..3, 0u64..400);
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
        let some = || (0u32..3, 0u64..400, 0u64..200);
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
            for run in self.table.groups.values() {
                let pieces = run.pieces();
                assert!(!matches!(run, Run::Many(pieces) if pieces.len() < 2));
                for piece in pieces {
                    assert!((1..=PIECE).contains(&piece.numerals.len()));
                    assert!(piece.numerals.capacity() <= PIECE);
                    assert!(piece.numerals[0].number >= piece.from);
                }
                for pair in pieces.windows(2) {
                    assert!(pair[0].numerals.iter().all(|numeral| numeral.number < pair[1].from));
                }
            }
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

    #[test]
    fn a_number_takes_24_bytes() {
        assert_eq!(size_of::<Numeral>(), 24);
    }
}
