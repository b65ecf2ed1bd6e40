//! A range of the database from its end to its beginning, by looks forward alone.
//!
//! sled looks back as well, but for that it holds a key that is greater than any: a megabyte of the program's file.

use std::ops::Bound;

use sled::IVec;

use crate::store::overlay::Keys;

/// So many records are read at once.
pub(in crate::store) const PAGE: usize = 32;

pub(super) type Record = sled::Result<(IVec, IVec)>;

/// A look at a range from its end. Of a part with more than a page, its later half is looked at first.
pub(super) struct Backwards {
    /// What was not read, in order. A part ends where the next one begins, and the last one at `end`.
    parts: Vec<Part>,
    end: Bound<IVec>,
    /// What was read and not taken out.
    page: Vec<Record>,
}

struct Part {
    begin: Bound<IVec>,
    /// Its first key, and the first one that is too much for a page, if it is known to have one.
    more: Option<(IVec, IVec)>,
}

impl Part {
    fn at(begin: Bound<IVec>) -> Self {
        Self { begin, more: None }
    }
}

impl Backwards {
    /// From the end of these keys, if any can lie there.
    pub(super) fn over(keys: Option<Keys>) -> Self {
        let (begin, end) = keys.unzip();
        let parts = begin.map(Part::at).into_iter().collect();
        Self { parts, end: end.unwrap_or(Bound::Unbounded), page: Vec::new() }
    }

    /// The last record that was not taken out.
    pub(super) fn last(&mut self, db: &sled::Db) -> Option<&Record> {
        while self.page.is_empty() {
            let part = self.parts.last_mut()?;
            match part.page(db, &self.end) {
                Ok(Some(page)) => {
                    self.page = page;
                    if let Some(Part { begin: Bound::Included(begin), .. }) = self.parts.pop() {
                        self.end = Bound::Excluded(begin);
                    }
                }
                Ok(None) => {
                    let middle = part.more.as_ref().map(|(first, more)| middle(first, more, &self.end));
                    self.parts.extend(middle.map(|key| Part::at(Bound::Included(key))));
                }
                Err(error) => {
                    self.parts.clear();
                    self.page = vec![Err(error)];
                }
            }
        }
        self.page.last()
    }

    /// Takes out what [`Backwards::last`] told of.
    pub(super) fn pop(&mut self) -> Option<Record> {
        self.page.pop()
    }
}

impl Part {
    /// All of its records up to its end, in order; none if they are more than a page.
    fn page(&mut self, db: &sled::Db, end: &Bound<IVec>) -> sled::Result<Option<Vec<Record>>> {
        if self.more.as_ref().is_some_and(|(_, more)| is_before(more, end)) {
            return Ok(None);
        }
        let records = db.range::<IVec, _>((self.begin.clone(), end.clone())).take(PAGE + 1);
        let page = records.collect::<sled::Result<Vec<_>>>()?;
        self.more = page.get(PAGE).map(|(more, _)| (page[0].0.clone(), more.clone()));
        Ok(self.more.is_none().then(|| page.into_iter().map(Ok).collect()))
    }
}

fn is_before(key: &IVec, end: &Bound<IVec>) -> bool {
    match end {
        Bound::Included(end) => key <= end,
        Bound::Excluded(end) => key < end,
        Bound::Unbounded => true,
    }
}

/// Where a part is divided. `more` is in it, behind a page of records, so that either half is smaller.
fn middle(first: &IVec, more: &IVec, end: &Bound<IVec>) -> IVec {
    let end = match end {
        Bound::Included(end) | Bound::Excluded(end) => Some(&end[..]),
        Bound::Unbounded => None,
    };
    halfway(first, end).max(more.clone())
}

/// The key that is halfway between two, if keys are numbers from 0 to 1. No end is the number 1.
fn halfway(from: &[u8], to: Option<&[u8]>) -> IVec {
    let digit = |key: &[u8], at| u16::from(key.get(at).copied().unwrap_or_default());
    let mut digits = vec![0; from.len().max(to.map_or(0, <[u8]>::len)) + 1];
    let mut carry = 0;
    for (at, sum) in digits.iter_mut().enumerate().rev() {
        let both = digit(from, at) + to.map_or(0, |to| digit(to, at)) + carry;
        (carry, *sum) = (both >> 8, both & 0xff);
    }
    // The sum is there; now its half.
    let mut rest = carry + u16::from(to.is_none());
    let mut half = Vec::with_capacity(digits.len());
    for digit in digits {
        let doubled = rest << 8 | digit;
        half.push((doubled >> 1) as u8);
        rest = doubled & 1;
    }
    IVec::from(half)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_set, prelude::*};

    use super::*;
    use crate::store::overlay::is_empty;

    fn keys() -> impl Strategy<Value = Vec<u8>> {
        let digit = || prop_oneof![Just(0), Just(1), Just(u8::MAX), any::<u8>()];
        prop_oneof![
            prop::collection::vec(digit(), 0..4),
            // As the store's are: what it is of, and a number.
            (0u8..2, 0u64..2000)
                .prop_map(|(what, number)| { std::iter::once(what).chain(number.to_be_bytes()).collect() }),
        ]
    }

    fn bound() -> impl Strategy<Value = Bound<IVec>> {
        prop_oneof![
            Just(Bound::Unbounded),
            keys().prop_map(|key| Bound::Included(key.into())),
            keys().prop_map(|key| Bound::Excluded(key.into())),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn it_finds_what_sled_finds_looking_back(
            records in btree_set(keys(), 0..400),
            ranges in prop::collection::vec((bound(), bound()), 8),
        ) {
            let db = sled::Config::new().temporary(true).open().unwrap();
            for key in &records {
                db.insert(key, &key[..]).unwrap();
            }
            let some_empty = ranges.into_iter().chain([(Bound::Unbounded, Bound::Unbounded)]);
            for range in some_empty.filter(|range| !is_empty(range)) {
                let mut back = Backwards::over(Some(range.clone()));
                let found = std::iter::from_fn(|| {
                    back.last(&db)?;
                    back.pop().map(Result::unwrap)
                });
                let found: Vec<_> = found.collect();
                let expected: Vec<_> = db.range::<IVec, _>(range).rev().map(Result::unwrap).collect();
                prop_assert_eq!(found, expected);
            }
        }

        #[test]
        fn halfway_lies_between(one in keys(), other in keys()) {
            let (from, to) = if one <= other { (one, other) } else { (other, one) };
            let half = halfway(&from, Some(&to));
            // But for zeros at the end, which a number does not have.
            let value = |key: &[u8]| key.iter().rposition(|byte| *byte > 0).map(|at| key[..=at].to_vec());
            prop_assert!(value(&from) <= value(&half) && value(&half) <= value(&to));
            prop_assert!(half <= halfway(&to, None));
        }
    }

    #[test]
    fn halves() {
        assert_eq!(halfway(&[], None), [0x80]);
        assert_eq!(halfway(&[0x80], None), [0xc0, 0]);
        assert_eq!(halfway(&[7, 0], Some(&[8])), [7, 0x80, 0]);
        assert_eq!(halfway(&[7, 1], Some(&[7, 2])), [7, 1, 0x80]);
        assert_eq!(halfway(&[0xff], Some(&[0xff, 2])), [0xff, 1, 0]);
    }

    #[test]
    fn nothing_lies_in_no_range() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        assert!(Backwards::over(None).last(&db).is_none());
    }
}
