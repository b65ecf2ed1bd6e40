//! The numbers of one group, in their order.

use std::{
    collections::{VecDeque, vec_deque},
    ops::Bound,
};

use super::Last;

/// What became of a table or a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grown {
    Larger,
    Same,
    Smaller,
}

/// A number, and what was last done to its key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numeral {
    pub number: u64,
    pub last: Last,
}

/// So many numbers lie side by side.
const PIECE: usize = 64;

/// The numbers of a group, in their order.
#[derive(Debug, Clone, Default)]
pub(super) enum Run {
    #[default]
    Empty,
    /// A user's only one: of messages that wait, it most often is. It needs no memory of its own.
    One(Numeral),
    /// As many as lie side by side: what is recent of most users' events. There is at least one.
    Few(Piece),
    /// More of them. No piece is empty.
    Many(Vec<Piece>),
}

/// Some numbers of a run, in their order.
///
/// The first and the last are told here as well: most numbers are added behind the last, or are the first, and most often none
/// of a user's are in the processor's cache.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// The first, and all those of the pieces before are less.
    from: u64,
    /// The last.
    to: u64,
    /// What goes first goes without a touch of the others.
    numerals: VecDeque<Numeral>,
}

impl Run {
    /// All numbers, but for one that has no memory of its own.
    fn pieces(&self) -> &[Piece] {
        match self {
            Self::Empty | Self::One(_) => &[],
            Self::Few(piece) => std::slice::from_ref(piece),
            Self::Many(pieces) => pieces,
        }
    }

    /// What was last done to a number's key.
    pub(super) fn get(&self, number: u64) -> Option<Last> {
        if let Self::One(one) = self {
            return (one.number == number).then_some(one.last);
        }
        let pieces = self.pieces();
        let piece = pieces.get(piece_for(pieces, number))?;
        Some(piece.numerals[piece.find(number).ok()?].last)
    }

    /// As [`Table::update`](super::table::Table::update).
    pub(super) fn update(&mut self, number: u64, change: impl FnOnce(Option<Last>) -> Option<Last>) -> Grown {
        match self {
            Self::Empty => {
                let Some(last) = change(None) else { return Grown::Same };
                *self = Self::One(Numeral { number, last });
                Grown::Larger
            }
            Self::One(one) if one.number == number => match change(Some(one.last)) {
                Some(last) => {
                    one.last = last;
                    Grown::Same
                }
                None => {
                    *self = Self::Empty;
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
                    if piece.numerals.is_empty() {
                        *self = Self::Empty;
                    } else {
                        piece.tidy();
                    }
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
                    *self = pieces.pop().map_or(Self::Empty, Self::Few);
                }
                grown
            }
        }
    }

    /// Those within these bounds.
    pub(super) fn range(
        &self,
        from: Bound<u64>,
        to: Bound<u64>,
    ) -> impl DoubleEndedIterator<Item = &Numeral> {
        let one = match self {
            Self::One(one) => {
                Some(one).filter(|one| !is_before(one.number, from) && !is_behind(one.number, to))
            }
            Self::Empty | Self::Few(_) | Self::Many(_) => None,
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
        piece.measure();
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
            pieces[at].measure();
        }
        pieces[at].tidy();
    }
}

impl Piece {
    fn of(numerals: impl Into<VecDeque<Numeral>>) -> Self {
        let mut piece = Self { from: 0, to: 0, numerals: numerals.into() };
        piece.measure();
        piece
    }

    /// Notes which is the first and which the last.
    fn measure(&mut self) {
        let number = |numeral: Option<&Numeral>| numeral.map_or(0, |numeral| numeral.number);
        (self.from, self.to) = (number(self.numerals.front()), number(self.numerals.back()));
    }

    /// Where a number is, or where it belongs.
    fn find(&self, number: u64) -> Result<usize, usize> {
        if self.to < number {
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
                if at == 0 || at == self.numerals.len() {
                    self.measure();
                }
                Grown::Smaller
            }
        }
    }

    fn insert(&mut self, place: usize, numeral: Numeral) {
        self.from = self.from.min(numeral.number);
        self.to = self.to.max(numeral.number);
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
pub(super) mod testing {
    use super::{PIECE, Run};

    /// That a run has the form that its length asks for.
    pub(in super::super) fn check_form(run: &Run) {
        let pieces = run.pieces();
        assert!(!matches!(run, Run::Many(pieces) if pieces.len() < 2));
        for piece in pieces {
            assert!((1..=PIECE).contains(&piece.numerals.len()));
            assert!(piece.numerals.capacity() <= PIECE);
            let [first, last] = [piece.numerals.front(), piece.numerals.back()].map(Option::unwrap);
            assert_eq!((piece.from, piece.to), (first.number, last.number));
        }
        for pair in pieces.windows(2) {
            assert!(pair[0].numerals.iter().all(|numeral| numeral.number < pair[1].from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_takes_24_bytes_and_a_run_48() {
        assert_eq!((size_of::<Numeral>(), size_of::<Run>()), (24, 48));
    }
}
