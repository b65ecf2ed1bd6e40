//! How far a user's events cover the platform's history.

use std::time::Duration;

use crate::{
    clock::Timestamp,
    store::{Hole, Seen},
};

/// The platform's time is known from a header that counts in whole seconds.
const CLOCK_GRAIN: Duration = Duration::from_millis(500);
/// What was said so shortly before the connection was last heard of may not have come on it.
const LAST_WORDS: Duration = Duration::from_secs(60);
/// A platform is many machines: what one of them noted by then may be in the history only behind what
/// another one noted since.
pub(super) const LATE: Duration = Duration::from_secs(5);
/// So many holes are remembered; of more, the oldest are given up.
const MOST_HOLES: usize = 4;

/// What a recovery looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// Everything; this was the newest record, if there was any.
    Whole(Option<Timestamp>),
    /// Only what is not older than this.
    From(Timestamp),
}

impl Seen {
    /// A user's first connect, by the platform's clock: what was said before is no business of ours.
    pub fn starting(now: Timestamp) -> Self {
        Self { up_to: now.minus(CLOCK_GRAIN), holes: Vec::new(), alive_at: now }
    }

    /// What is seen now that something of before `now` may have been missed and was not looked for, or was
    /// not stored. To be noted before anything newer is stored: that would pass for the end of what is known.
    #[must_use]
    pub fn doubted_until(&self, now: Timestamp) -> Self {
        self.after(Looked::From(now.plus(CLOCK_GRAIN)), Timestamp::from_millis(0))
    }

    /// Whether a record of this moment is known by its age alone.
    pub fn covers(&self, at: Timestamp) -> bool {
        at < self.up_to
    }

    /// Whether a record of this moment is in a stretch that no recovery could look at.
    pub fn has_hole_at(&self, at: Timestamp) -> bool {
        self.holes.iter().any(|hole| (hole.from..=hole.to).contains(&at))
    }

    /// What is seen after this look. What is older than `horizon` is nobody's concern any more.
    #[must_use]
    pub fn after(&self, looked: Looked, horizon: Timestamp) -> Self {
        let from = match looked {
            Looked::Whole(newest) => {
                let up_to = self.up_to.max(newest.unwrap_or_default().minus(LATE));
                return Self { up_to, holes: Vec::new(), alive_at: self.alive_at };
            }
            Looked::From(from) => from,
        };
        let mut new = Hole { from: self.up_to.max(self.alive_at.minus(LAST_WORDS)), to: from };
        let mut holes = self.holes.clone();
        // One that goes on is no other one: each costs the oldest its place.
        while let Some(last) = holes.pop_if(|last| last.to >= new.from) {
            new.from = new.from.min(last.from);
        }
        holes.push(new);
        for hole in &mut holes {
            *hole = Hole { from: hole.from.max(horizon), to: hole.to.min(from) };
        }
        holes.retain(|hole| hole.from <= hole.to);
        let given_up = holes.len().saturating_sub(MOST_HOLES);
        holes.drain(..given_up);
        Self { holes, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1000 * seconds)
    }

    fn seen(up_to: u64, alive_at: u64, holes: &[(u64, u64)]) -> Seen {
        let holes = holes.iter().map(|(from, to)| Hole { from: at(*from), to: at(*to) }).collect();
        Seen { up_to: at(up_to), holes, alive_at: at(alive_at) }
    }

    #[test]
    fn a_complete_look_closes_all_holes_and_time_does_not_run_backwards() {
        let whole = |newest: Option<u64>| {
            seen(1000, 2000, &[(1400, 1500)]).after(Looked::Whole(newest.map(at)), at(0))
        };
        // But for what the platform notes late.
        assert_eq!(whole(Some(3000)), seen(2995, 2000, &[]));
        assert_eq!(whole(Some(1003)), seen(1000, 2000, &[]));
        assert_eq!(whole(None), seen(1000, 2000, &[]));
    }

    #[test]
    fn an_incomplete_look_leaves_a_hole_from_the_last_words_to_where_it_reached() {
        let look = |seen: Seen, from| seen.after(Looked::From(at(from)), at(0));
        let once = look(seen(1000, 2000, &[]), 3000);
        assert_eq!(once, seen(1000, 2000, &[(1940, 3000)]));
        assert!(once.has_hole_at(at(1940)) && once.has_hole_at(at(3000)) && !once.has_hole_at(at(1939)));
        // The next one gets nearer, or not even to the connection in between.
        let alive = Seen { alive_at: at(4000), ..once };
        assert_eq!(look(alive.clone(), 2500), seen(1000, 4000, &[(1940, 2500)]));
        assert_eq!(look(alive, 5000), seen(1000, 4000, &[(1940, 3000), (3940, 5000)]));
        assert_eq!(look(seen(1000, 1010, &[]), 3000), seen(1000, 1010, &[(1000, 3000)]));
    }

    #[test]
    fn a_doubt_that_goes_on_is_one_hole_and_the_older_ones_stay() {
        let until = |seen: &Seen, millis| seen.doubted_until(Timestamp::from_millis(millis));
        let mut doubted = seen(0, 1060, &[(100, 200), (400, 500), (600, 700)]);
        for millis in (2_000_000..2_100_000).step_by(1000) {
            doubted = until(&doubted, millis);
        }
        let hole = Hole { from: at(1000), to: Timestamp::from_millis(2_099_500) };
        assert_eq!((doubted.holes.len(), doubted.holes[3]), (4, hole));
        let before = Seen { alive_at: at(650), ..doubted };
        assert_eq!(until(&before, 3_000_000).holes.len(), 3, "what touches is one");
        assert_eq!(until(&before, 3_000_000).holes[2].from, at(590));
    }

    #[test]
    fn holes_that_are_too_old_or_too_many_are_given_up() {
        let aged = seen(0, 900, &[(100, 200), (400, 600)]).after(Looked::From(at(950)), at(500));
        assert_eq!(aged, seen(0, 900, &[(500, 600), (840, 950)]));
        let mut many = seen(0, 0, &[]);
        for n in 1..=6 {
            many.alive_at = at(1000 * n + 60);
            many = many.after(Looked::From(at(1000 * n + 500)), at(0));
        }
        let kept: Vec<_> = many.holes.iter().map(|hole| hole.from).collect();
        assert_eq!(kept, [at(3000), at(4000), at(5000), at(6000)]);
    }
}
