//! What was said, and what came of it.

use std::collections::HashMap;

use crate::{feed::Mark, receiver::Arrival};

/// Everything that was said.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By user and number: whether it went out on a socket.
    said: HashMap<(usize, u64), bool>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fate {
    /// What was said.
    pub said: usize,
    /// What no receiver ever took.
    pub lost: usize,
    /// Of that, what the peer had been sent on a socket of its own.
    pub lost_though_sent: usize,
    /// Taken more than once: how often.
    pub repeated: usize,
    /// Taken for the first time after a later one of the same user.
    pub out_of_order: usize,
}

impl Ledger {
    /// Something was said, on a socket or to nobody.
    pub fn say(&mut self, mark: Mark, was_sent: bool) {
        self.said.insert((mark.user, mark.number), was_sent);
    }

    /// Compares it with what arrived.
    pub fn settle(&self, arrivals: &[Arrival]) -> Fate {
        let mut fate = Fate { said: self.said.len(), ..Fate::default() };
        let (mut seen, mut latest) = (HashMap::new(), HashMap::new());
        for Arrival { mark, .. } in arrivals.iter().filter(|arrival| arrival.taken) {
            let key = (mark.user, mark.number);
            if !self.said.contains_key(&key) {
                continue;
            }
            if seen.insert(key, ()).is_some() {
                fate.repeated += 1;
                continue;
            }
            let latest: &mut u64 = latest.entry(mark.user).or_default();
            fate.out_of_order += usize::from(mark.number < *latest);
            *latest = mark.number.max(*latest);
        }
        for (key, was_sent) in &self.said {
            if !seen.contains_key(key) {
                fate.lost += 1;
                fate.lost_though_sent += usize::from(*was_sent);
            }
        }
        fate
    }
}
