//! When the history is read, and what waits for it.
//!
//! A recovery belongs to no socket: it goes on if that one drops, and holds live events back until it
//! ends. A look-up is for a message that may have arrived and is to be sent again.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::{Action, FetchPlan, HistoryReply, Phase, Purpose, Reading, Session};
use crate::{
    clock::{Now, Timestamp},
    messages::MessageNumber,
    ordered,
    store::{ConnectHistory, Seen, UserRecord},
};

/// A history that is being read.
#[derive(Debug)]
pub(super) enum Fetch {
    /// Live events wait for it, until then at most.
    Recovery { until: Instant, asked: BTreeSet<MessageNumber> },
    /// Only these messages do.
    LookUp { asked: BTreeSet<MessageNumber> },
}

/// When a history that could not be read whole is read again.
#[derive(Debug, Default)]
pub(super) struct Again {
    at: Option<Instant>,
    failures: u32,
}

/// It is read again after twice its timeout at first, later ever less often, and at least so often.
const AGAIN_WITHIN: Duration = Duration::from_secs(16 * 60);

impl UserRecord {
    /// The user is connected for the first time, by the platform's clock.
    pub(in crate::rtm) fn begin(&mut self, now: Timestamp) {
        self.history = ConnectHistory::Before;
        self.seen = Some(Seen::starting(now));
    }
}

impl Session {
    /// Whether live events wait for the history.
    pub(super) fn is_recovering(&self) -> bool {
        matches!(self.fetch, Some(Fetch::Recovery { .. }))
    }

    /// The socket is open again: asks for what was missed.
    pub(super) fn recover(&mut self, now: Now, out: &mut Vec<Action>) {
        self.again = Again::default();
        self.read_for(Purpose::Recovery, now, out);
    }

    fn read_for(&mut self, purpose: impl FnOnce(Seen) -> Purpose, now: Now, out: &mut Vec<Action>) {
        let Some(seen) = self.memory.seen.clone().filter(|_| self.settings.recover) else { return };
        let until = match self.fetch {
            // What is held back already waits no longer because of this.
            Some(Fetch::Recovery { until, .. }) => until,
            Some(Fetch::LookUp { .. }) | None => now.mono + self.settings.history_timeout,
        };
        let asked = self.ask(purpose(seen), until, now, out);
        self.fetch = Some(Fetch::Recovery { until, asked });
    }

    /// When the history is read again, if nothing else is under way then.
    pub(super) fn again_deadline(&self) -> Option<Instant> {
        let is_free = self.fetch.is_none() && !self.renewal.is_under_way();
        self.again.at.filter(|_| is_free && matches!(self.phase, Phase::Open(_)))
    }

    /// Reads the history again, if it is time to: a connection may live for months, and what was missed
    /// before it should not wait for the next one.
    pub(super) fn read_again_if_due(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.again_deadline().is_some_and(|at| now.mono >= at) {
            self.again.at = None;
            self.read_for(Purpose::Retry, now, out);
        }
    }

    fn plan_to_read_again(&mut self, reading: Reading, now: Now) {
        self.again = match reading {
            Reading::Whole | Reading::Limited => Again::default(),
            Reading::Cut => {
                let failures = (self.again.failures + 1).min(16);
                let pause = self.settings.history_timeout.saturating_mul(1 << failures).min(AGAIN_WITHIN);
                // Spread: a platform that can't answer one user can't answer a thousand at once.
                let at = now.mono + pause + pause.mul_f64(self.rng.f64() / 4.0);
                Again { at: Some(at), failures }
            }
        };
    }

    /// A message may have arrived: looks before it is sent again.
    pub(super) fn look_up(&mut self, now: Now, out: &mut Vec<Action>) {
        let until = now.mono + self.settings.history_timeout;
        let asked = self.ask(Purpose::LookUp, until, now, out);
        self.fetch = Some(Fetch::LookUp { asked });
    }

    fn ask(
        &self,
        purpose: Purpose,
        until: Instant,
        now: Now,
        out: &mut Vec<Action>,
    ) -> BTreeSet<MessageNumber> {
        let doubtful = || self.outbox.in_doubt();
        // However soon it ends: if it is refused, there will be a new one.
        let access = self.memory.access.as_ref().filter(|access| access.expires_at > now.wall);
        out.push(Action::FetchHistory(FetchPlan {
            purpose,
            token: access.map(|access| access.token.clone()),
            platform_user_id: self.memory.platform_user_id.clone(),
            look_up: doubtful().map(|message| message.id).collect(),
            last_sent: self.outbox.last_sent(),
            until,
        }));
        ordered::set(doubtful().map(|message| message.number))
    }

    pub(super) fn history_read(&mut self, reply: HistoryReply, now: Now, out: &mut Vec<Action>) {
        let Some(fetch) = self.fetch.take() else { return };
        let HistoryReply { found, reading, grant } = reply;
        if let Some(grant) = grant {
            self.remember(grant);
            out.push(Action::Remember);
        }
        let asked = match (&fetch, reading) {
            (Fetch::Recovery { asked, .. } | Fetch::LookUp { asked }, Reading::Whole) => Some(asked),
            (_, Reading::Limited | Reading::Cut) => None,
        };
        self.outbox.looked_up(&found, asked, now, out);
        if matches!(fetch, Fetch::Recovery { .. }) {
            self.plan_to_read_again(reading, now);
            if reading != Reading::Whole {
                // Until `Released` tells more exactly what it lacks.
                self.doubt(now, out);
            }
            out.push(Action::Release);
        }
        self.pump(now, out);
    }

    pub(super) fn released(
        &mut self,
        seen: Option<Seen>,
        stalled: Duration,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        self.stalled(stalled);
        if let (Some(new), Some(seen)) = (seen, &mut self.memory.seen) {
            *seen = Seen { alive_at: seen.alive_at, ..new };
        }
        match self.phase {
            Phase::Open(_) => self.note_alive(now, out),
            _ => out.push(Action::Remember),
        }
    }

    /// Notes until when the connection is known to have been up: what came before came on it.
    pub(super) fn note_alive(&mut self, now: Now, out: &mut Vec<Action>) {
        // While a gap is being closed, what came before it is still to be told from what did not.
        if self.is_recovering() {
            return;
        }
        let (Phase::Open(link), Some(seen)) = (&self.phase, &mut self.memory.seen) else { return };
        let heard = now.wall.minus(now.mono.saturating_duration_since(link.last_heard()));
        seen.alive_at = seen.alive_at.max(self.skew.to_platform(heard));
        out.push(Action::Remember);
    }

    /// An event was not stored, and is left to the history. Answers whether that is to be remembered, ahead of
    /// whatever is stored next.
    pub fn left_to_history(&mut self, at: Timestamp, now: Now) -> bool {
        let at = self.skew.to_platform(at);
        let is_new = self.memory.seen.as_ref().is_some_and(|seen| !seen.has_hole_at(at));
        if is_new {
            self.doubt(now, &mut Vec::new());
        }
        is_new
    }

    /// Something of before now may be in the history only.
    fn doubt(&mut self, now: Now, out: &mut Vec<Action>) {
        if let Some(seen) = &mut self.memory.seen {
            *seen = seen.doubted_until(self.skew.to_platform(now.wall));
            out.push(Action::Remember);
        }
    }

    /// Nobody waits for the history any more; what was held back is let go.
    pub(super) fn stop_fetching(&mut self, now: Now, out: &mut Vec<Action>) {
        match self.fetch.take() {
            Some(Fetch::Recovery { .. }) => {
                out.push(Action::StopFetching);
                self.doubt(now, out);
                out.push(Action::Release);
            }
            Some(Fetch::LookUp { .. }) => out.push(Action::StopFetching),
            None => {}
        }
    }

    /// The socket is gone: a look-up begins anew on the next one. A recovery goes on.
    pub(super) fn stop_looking_up(&mut self, out: &mut Vec<Action>) {
        if matches!(self.fetch, Some(Fetch::LookUp { .. })) {
            self.fetch = None;
            out.push(Action::StopFetching);
        }
    }

    /// An ack, or the end of its time, may have answered what a look-up was for.
    pub(super) fn end_idle_look_up(&mut self, out: &mut Vec<Action>) {
        if let Some(Fetch::LookUp { asked }) = &self.fetch
            && !self.outbox.in_doubt().any(|message| asked.contains(&message.number))
        {
            self.stop_looking_up(out);
        }
    }
}
