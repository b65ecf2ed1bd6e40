//! The final reckoning: what went in, what came out, what was lost, what came twice.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    hash::Hash,
};

/// What became of all that was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ledger {
    /// Messages: accepted with a 202, and acked frames at the platform.
    pub messages: Tally,
    /// Events: said by the platform, and delivered with a 2xx.
    pub events: Tally,
}

/// One direction of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// How many went in.
    pub given: usize,
    /// How many of them came out.
    pub arrived: usize,
    /// How many came out again, or came out without ever having gone in.
    pub too_many: usize,
}

impl Tally {
    /// Compares what went in with what came out.
    pub(super) fn of<T: Hash + Eq>(
        given: impl IntoIterator<Item = T>,
        arrived: impl IntoIterator<Item = T>,
    ) -> Self {
        let given: HashSet<T> = given.into_iter().collect();
        let mut times: HashMap<T, usize> = HashMap::new();
        for item in arrived {
            *times.entry(item).or_default() += 1;
        }
        let known = times.keys().filter(|item| given.contains(item)).count();
        let all: usize = times.values().sum();
        Self { given: given.len(), arrived: known, too_many: all - known }
    }

    /// How many went in and never came out.
    pub fn lost(&self) -> usize {
        self.given - self.arrived
    }

    fn is_even(&self) -> bool {
        self.lost() == 0 && self.too_many == 0
    }
}

impl Ledger {
    /// Whether nothing was lost and nothing came twice.
    pub fn is_even(&self) -> bool {
        self.messages.is_even() && self.events.is_even()
    }

    /// Its lines: one a direction.
    pub(super) fn lines(&self) -> [String; 2] {
        let line = |what: &str, given: &str, arrived: &str, tally: &Tally| {
            let Tally { given: all, arrived: out, too_many } = tally;
            let lost = tally.lost();
            format!("{what:<8}  {all} {given:<8}  {out} {arrived:<9}  {lost} lost  {too_many} duplicates")
        };
        [
            line("messages", "accepted", "acked", &self.messages),
            line("events", "received", "delivered", &self.events),
        ]
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_lost_and_what_came_again_is_a_duplicate() {
        let cases = [
            (vec![1, 2], vec![2, 1], Tally { given: 2, arrived: 2, too_many: 0 }, 0),
            (vec![1, 2], vec![1], Tally { given: 2, arrived: 1, too_many: 0 }, 1),
            (vec![1, 2], vec![1, 1, 2], Tally { given: 2, arrived: 2, too_many: 1 }, 0),
            (vec![1, 2], vec![1, 1, 1], Tally { given: 2, arrived: 1, too_many: 2 }, 1),
            (vec![], vec![7], Tally { given: 0, arrived: 0, too_many: 1 }, 0),
        ];
        for (given, arrived, tally, lost) in cases {
            let found = Tally::of(given, arrived);
            assert_eq!((found, found.lost()), (tally, lost));
        }
    }

    #[test]
    fn only_an_even_ledger_is_even() {
        let even = Tally { given: 2, arrived: 2, too_many: 0 };
        for (messages, events, is_even) in [
            (even, even, true),
            (Tally { arrived: 1, ..even }, even, false),
            (even, Tally { too_many: 1, ..even }, false),
        ] {
            assert_eq!(Ledger { messages, events }.is_even(), is_even);
        }
    }
}
