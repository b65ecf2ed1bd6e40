//! What follows from a replay's outcome.

use super::{
    Shared,
    ended::{Ended, REFUSED, TOO_LATE, UNRENDERED},
    state::State,
};
use crate::{
    clock::Timestamp,
    store::{DeadLetter, ReplayMark},
    webhook::Outcome,
};

impl Shared {
    /// Lets the letter go, makes it dead again, or keeps its replay for the next attempt.
    pub(super) fn replay_goes_on(
        &self,
        state: &mut State,
        ended: Ended<'_>,
        letter: &DeadLetter,
        mark: ReplayMark,
    ) {
        let Ended { job, result, now, .. } = ended;
        match result.outcome {
            Outcome::Delivered => {
                state.counts.delivered += 1;
                tracing::info!(webhook = %self.name, user = %job.event().user, bot = %job.event().bot, event = %job.event().id, letter = %letter.id(), "a dead letter was delivered");
                self.letters.delivered(letter);
                state.replays.ended(job.user);
            }
            Outcome::Refused => self.dead_again(state, ended, letter, REFUSED),
            Outcome::Unrendered => self.dead_again(state, ended, letter, UNRENDERED),
            Outcome::Retry { .. }
                if state.gate.age(mark.requested_at, now.wall) >= state.setup.settings.max_age =>
            {
                self.dead_again(state, ended, letter, TOO_LATE);
            }
            Outcome::Retry { .. } | Outcome::Gone => {
                state.counts.retried += 1;
                let tried = ReplayMark { attempts: mark.attempts.saturating_add(1), ..mark };
                self.letters.replay_failed(letter, tried, ended.attempt());
                let at = match result.outcome {
                    Outcome::Gone => now.mono,
                    _ => now.mono + self.delay(state, mark.attempts),
                };
                state.park(job, at);
            }
        }
    }

    fn dead_again(&self, state: &mut State, ended: Ended<'_>, letter: &DeadLetter, why: &str) {
        state.counts.dead += 1;
        let event = ended.job.event();
        let letter = DeadLetter {
            attempts: ended.job.attempt(),
            last_status: ended.result.status,
            reason: ended.reason(why),
            dead_at: Timestamp::now(),
            ..letter.clone()
        };
        tracing::warn!(webhook = %self.name, user = %event.user, bot = %event.bot, event = %event.id, letter = %letter.id(), attempts = letter.attempts, reason = %letter.reason, "a dead letter was replayed in vain");
        self.letters.died_again(&letter, ended.attempt());
        state.replays.ended(ended.job.user);
    }
}
