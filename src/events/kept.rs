//! Which events may be asked for, and of whom some are gone.
//!
//! Whoever has seen a user's events up to some number misses none of them as long as none after it is
//! gone. So a user's newest event that is gone is all there is to remember, and a quiet user's old
//! cursor stays good however much comes for others.

use crate::store::{ByUser, UserNumber};

/// What is kept, and what is gone.
#[derive(Debug)]
pub(super) struct Kept {
    /// Events before this number are gone, for those who ask.
    from: u64,
    /// Of events before this number, nobody remembers whose they were.
    told_from: u64,
    /// Each user's newest event that is gone, as far as that is remembered.
    gone: ByUser<u64>,
}

/// Whether one can go on after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resumption {
    /// Yes: everything after it is there.
    Good,
    /// If it is stored: then everything after it is there.
    IfStored,
    /// No.
    Bad,
}

impl Kept {
    /// Everything from this number on.
    pub(super) fn from(number: u64) -> Self {
        Self { from: number, told_from: number, gone: ByUser::default() }
    }

    /// The first event that may be asked for.
    pub(super) fn first(&self) -> u64 {
        self.from
    }

    /// Remembers an event from before what is kept. To be told of all of them, the oldest first.
    pub(super) fn was_before(&mut self, user: UserNumber, number: u64) {
        self.gone.insert(user, number);
        self.told_from = self.told_from.min(number);
    }

    /// The oldest event goes.
    pub(super) fn expire(&mut self, user: UserNumber, number: u64) {
        self.gone.insert(user, number);
        self.from = number + 1;
    }

    /// Whether one who saw the user's event of this number can go on.
    pub(super) fn resumption(&self, user: UserNumber, number: u64) -> Resumption {
        match self.gone.get(&user) {
            Some(gone) if number == *gone => Resumption::Good,
            Some(gone) if number < *gone => Resumption::Bad,
            _ if number >= self.from => Resumption::IfStored,
            _ => Resumption::Bad,
        }
    }

    /// Whether an event of the user after this number is gone.
    pub(super) fn lost_one_of(&self, user: UserNumber, after: u64) -> bool {
        self.gone.get(&user).is_some_and(|gone| *gone > after)
    }

    /// Whether an event after this number of any of these users is gone.
    pub(super) fn lost_any(&self, after: u64, mut is_meant: impl FnMut(UserNumber) -> bool) -> bool {
        if after + 1 >= self.from {
            return false;
        }
        after + 1 < self.told_from || self.gone.iter().any(|(user, gone)| *gone > after && is_meant(*user))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALICE: UserNumber = UserNumber(1);
    const BOB: UserNumber = UserNumber(2);

    #[test]
    fn a_quiet_users_cursor_stays_good_and_a_busy_ones_does_not() {
        use Resumption::{Bad, Good, IfStored};
        let mut kept = Kept::from(1);
        for (number, user) in [(1, ALICE), (2, ALICE), (3, BOB), (4, BOB)] {
            kept.expire(user, number);
        }
        assert_eq!(kept.first(), 5);
        let resumptions = [1, 2, 3, 5].map(|number| kept.resumption(ALICE, number));
        assert_eq!(resumptions, [Bad, Good, Bad, IfStored]);
        assert_eq!(kept.resumption(BOB, 3), Bad);
        assert_eq!([1, 2].map(|after| kept.lost_one_of(ALICE, after)), [true, false]);
        assert!(kept.lost_any(3, |_| true) && !kept.lost_any(3, |user| user == ALICE));
        assert!(!kept.lost_any(4, |_| true));
    }

    #[test]
    fn what_nobody_remembers_counts_as_lost() {
        let mut kept = Kept::from(10);
        kept.was_before(ALICE, 7);
        kept.was_before(BOB, 8);
        kept.was_before(ALICE, 9);
        assert_eq!(kept.resumption(ALICE, 9), Resumption::Good);
        assert_eq!(kept.resumption(UserNumber(3), 6), Resumption::Bad);
        assert!(kept.lost_any(5, |user| user == UserNumber(3)));
        assert!(!kept.lost_any(6, |user| user == UserNumber(3)));
    }

    proptest! {
        /// Against a list of all events: whoever is let go on misses nothing.
        #[test]
        fn whoever_is_let_go_on_misses_nothing(
            users in prop::collection::vec(0_u32..4, 1..40),
            expired in 0_usize..40,
            told in 0_usize..40,
            after in 0_u64..41,
        ) {
            let expired = expired.min(users.len());
            let told = told.min(expired);
            // The first of them expired in an earlier run, of which the journal tells the later part.
            let mut kept = Kept::from(told as u64 + 1);
            for (at, user) in users.iter().enumerate().take(told).skip(told / 2) {
                kept.was_before(UserNumber(*user), at as u64 + 1);
            }
            for (at, user) in users.iter().enumerate().take(expired).skip(told) {
                kept.expire(UserNumber(*user), at as u64 + 1);
            }
            let lost = |user: u32| (1..).zip(&users).any(|(number, owner)| {
                *owner == user && number > after && number <= expired as u64
            });
            for user in 0..4 {
                let owner = users.get((after as usize).wrapping_sub(1));
                let is_stored = owner == Some(&user) && after > expired as u64;
                let goes_on = match kept.resumption(UserNumber(user), after) {
                    Resumption::Good => true,
                    Resumption::IfStored => is_stored,
                    Resumption::Bad => false,
                };
                prop_assert!(!(goes_on && lost(user)), "user {user} after {after}");
                prop_assert!(!lost(user) || kept.lost_any(after, |meant| meant == UserNumber(user)));
            }
        }
    }
}
