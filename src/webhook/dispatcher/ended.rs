//! What follows from a delivery's outcome.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Shared,
    state::{Errand, Job, LastAttempt, State, Trouble, Turn},
};
use crate::{
    clock::{Now, Timestamp},
    config,
    letters::{AttemptEnd, FailedAttempt},
    retry::Backoff,
    spans,
    store::{DeadLetter, StoreError},
    webhook::{AttemptResult, Outcome, gate::Recovery},
};

/// An event's failed attempts that the log tells of.
const WORTH_TELLING: u32 = 3;

/// Why an event became a dead letter.
pub(super) const REFUSED: &str = "the receiver refuses this event";
/// Why an event became a dead letter.
pub(super) const UNRENDERED: &str = "the template makes no body of this event";
/// Why an event became a dead letter.
pub(super) const TOO_LATE: &str = "it could not be delivered in time";

/// A delivery that ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended<'a> {
    pub(super) job: &'a Job,
    pub(super) result: &'a AttemptResult,
    /// When it began.
    pub(super) began: Timestamp,
    /// When it ended.
    pub(super) now: Now,
}

impl Ended<'_> {
    /// What is remembered of it, should it have failed.
    pub(super) fn attempt(&self) -> FailedAttempt {
        let Self { job, result, began, .. } = self;
        let end = match &result.failure {
            Some(failure) => {
                AttemptEnd::NoAnswer { error: failure.kind.as_str().to_owned(), text: failure.text.clone() }
            }
            None => AttemptEnd::Status(result.status.unwrap_or_default()),
        };
        FailedAttempt { number: job.attempt(), at: *began, end, answer: result.answer.clone() }
    }

    /// Why its event is dead, in one line.
    pub(super) fn reason(&self, why: &str) -> String {
        format!("{why}: {}", self.result.summary())
    }
}

impl Shared {
    /// Acts on what came of a delivery; answers with what this task may do next.
    pub(super) fn ended(self: &Arc<Self>, ended: Ended<'_>) -> Option<Turn> {
        let Ended { job, result, now, .. } = ended;
        let mut state = self.lock();
        state.gate.ended();
        self.note(&mut state, job, result);
        state.last_attempt = Some(LastAttempt::new(result, now.wall));
        match result.outcome {
            Outcome::Delivered | Outcome::Refused => self.answered(&mut state, now),
            Outcome::Gone => self.gone(&mut state, now),
            // The receiver was not asked.
            Outcome::Unrendered => {}
            Outcome::Retry { hold, .. } => self.failed(&mut state, job, hold, now),
        }
        match &job.errand {
            Errand::Lane => self.lane_goes_on(&mut state, ended),
            Errand::Replay(letter, mark) => self.replay_goes_on(&mut state, ended, letter, *mark),
        }
        let next = self.next_turn(&mut state, now);
        drop(state);
        if let (Errand::Lane, Some(events)) = (&job.errand, self.events.get()) {
            events.passed(job.user, job.event().id.number, job.event().frame.len());
        }
        next
    }

    /// Notes the outcome. A webhook that fails now and then is no news; one that an event was sent to
    /// in vain several times is, and so is its return.
    fn note(&self, state: &mut State, job: &Job, result: &AttemptResult) {
        let attempts = job.tries();
        match (result.outcome, state.trouble) {
            (Outcome::Delivered, Trouble::Told) => {
                state.trouble = Trouble::None;
                tracing::info!(webhook = %self.name, backlog = state.lanes.backlog(), "webhook takes events again");
            }
            (Outcome::Retry { .. }, Trouble::None) if attempts >= WORTH_TELLING => {
                state.trouble = Trouble::Told;
                tracing::warn!(webhook = %self.name, attempts, outcome = %result.summary(), "webhook fails; its events are kept and tried again");
            }
            _ => {}
        }
    }

    /// The receiver is there.
    fn answered(&self, state: &mut State, now: Now) {
        if state.gate.answered() == Recovery::Back {
            state.everything_is_due(now.mono);
        }
    }

    /// The receiver did not take the event now.
    fn failed(&self, state: &mut State, job: &Job, hold: Option<Duration>, now: Now) {
        let State { gate, record, rng, .. } = state;
        gate.failed(job.user, now.mono, rng);
        if let Some(hold) = hold {
            gate.hold(now.wall, now.mono + hold);
            record.hold(now.wall.plus(hold));
            self.store.save_webhook(self.number, record);
            tracing::warn!(webhook = %self.name, seconds = hold.as_secs(), "webhook asked to be left alone for a while");
        }
    }

    /// The receiver wants nothing any more.
    fn gone(&self, state: &mut State, now: Now) {
        state.gate.disable(now.wall);
        state.record.disable(now.wall);
        self.store.save_webhook(self.number, &state.record);
        tracing::warn!(webhook = %self.name, "webhook says that it is gone (410): disabled until it is enabled again");
    }

    /// Finishes an event of a lane, or keeps it for its next attempt.
    fn lane_goes_on(&self, state: &mut State, ended: Ended<'_>) {
        let Ended { job, result, now, .. } = ended;
        match result.outcome {
            Outcome::Delivered => self.delivered(state, job, now.wall),
            Outcome::Refused => self.bury(state, ended, REFUSED),
            Outcome::Unrendered => self.bury(state, ended, UNRENDERED),
            Outcome::Gone => self.retry_at(state, ended, now.mono),
            Outcome::Retry { .. } => {
                if state.gate.age(job.event().received_at, now.wall) >= state.setup.settings.max_age {
                    self.bury(state, ended, TOO_LATE);
                } else {
                    let at = now.mono + self.delay(state, job.started.attempts);
                    self.retry_at(state, ended, at);
                }
            }
        }
    }

    /// How long an event waits that was tried so often before this attempt.
    pub(super) fn delay(&self, state: &mut State, attempts: u32) -> Duration {
        let config::Webhook { backoff_min, backoff_max, .. } = state.setup.settings;
        Backoff::resumed(backoff_min, backoff_max, attempts).next(&mut state.rng)
    }

    fn delivered(&self, state: &mut State, job: &Job, at: Timestamp) {
        state.counts.delivered += 1;
        spans::delivery_ended(self.traced(job), at, None);
        self.delivery_seconds.observe(at.since(job.event().received_at));
        if let Some((started, record)) = state.lanes.finished(job.user, job.event().id.number) {
            self.store.save_lane(self.number, job.user, &record);
            if started.attempts > 0 {
                self.letters.forget_attempts(job.user, job.letter_id(self));
            }
        }
    }

    fn retry_at(&self, state: &mut State, ended: Ended<'_>, at: Instant) {
        let Ended { job, result, .. } = ended;
        state.counts.retried += 1;
        self.letters.note_attempt(job.user, job.letter_id(self), ended.attempt());
        if let Some(record) = state.lanes.attempted(job.user, job.event().id.number, result.status) {
            self.store.save_lane(self.number, job.user, &record);
        }
        state.park(job, at);
    }

    /// Makes a dead letter of an event; its lane goes on.
    fn bury(&self, state: &mut State, ended: Ended<'_>, why: &str) {
        let Ended { job, result, .. } = ended;
        state.counts.dead += 1;
        let (event, attempts, reason) = (job.event(), job.attempt(), ended.reason(why));
        let Some((_, lane)) = state.lanes.finished(job.user, event.id.number) else { return };
        tracing::warn!(webhook = %self.name, user = %event.user, bot = %event.bot, event = %event.id, attempts, %reason, "event became a dead letter");
        spans::delivery_ended(self.traced(job), ended.now.wall, Some(&reason));
        match self.letter(job, result.status, reason) {
            Ok(letter) => {
                self.letters.note_attempt(job.user, letter.id(), ended.attempt());
                self.letters.bury(&letter, event.frame.clone(), &lane);
            }
            Err(error) => {
                tracing::error!(webhook = %self.name, user = %event.user, event = %event.id, %error, "a dead letter could not be kept; it is tried again after the next start");
            }
        }
    }

    fn letter(&self, job: &Job, last_status: Option<u16>, reason: String) -> Result<DeadLetter, StoreError> {
        let event = job.event();
        Ok(DeadLetter {
            webhook: self.number,
            user: job.user,
            position: job.started.item.position(),
            format: job.started.format,
            attempts: job.attempt(),
            last_status,
            reason,
            dead_at: Timestamp::now(),
            received_at: event.received_at,
            bot: self.store.bot_number(&event.bot)?,
            kind: event.kind.clone(),
            in_reply_to: event.in_reply_to,
            source: event.source,
            speaker: event.speaker,
            frame_length: event.frame.len() as u32,
        })
    }
}
