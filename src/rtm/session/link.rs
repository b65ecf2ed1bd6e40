//! An open socket, as far as time goes: whether it lives, and since when.

use std::time::Duration;

use tokio::time::Instant;

use super::{Action, Line, SessionSettings};

/// A connection that lived for this long ends a backoff.
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(30);
/// How often the platform's own kind of ping is sent, as its web client does.
const JSON_PING_EVERY: Duration = Duration::from_secs(30);

/// The clockwork of one open socket.
#[derive(Debug)]
pub(super) struct Link {
    opened_at: Instant,
    stability: Stability,
    last_heard: Instant,
    /// When the ping that waits for any sign of life was sent.
    pinged_at: Option<Instant>,
    json_ping_at: Instant,
    json_pings: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stability {
    NotYet,
    Stable,
}

/// What a moment brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tick {
    /// Nothing to note.
    Alive,
    /// The connection has lived long enough to be trusted.
    BecameStable,
    /// Nothing came for too long.
    Dead,
}

impl Link {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            opened_at: now,
            stability: Stability::NotYet,
            last_heard: now,
            pinged_at: None,
            json_ping_at: now + JSON_PING_EVERY,
            json_pings: 0,
        }
    }

    /// Any traffic counts as life.
    pub(super) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
        self.pinged_at = None;
    }

    /// When the platform was last known to be there.
    pub(super) fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// Nobody listened for so long: that is not the platform's silence.
    pub(super) fn stalled(&mut self, span: Duration) {
        self.last_heard += span;
        self.pinged_at = self.pinged_at.map(|at| at + span);
    }

    /// The next moment at which something is due.
    pub(super) fn deadline(&self, settings: &SessionSettings) -> Instant {
        let mut next = self.life_deadline(settings).min(self.json_ping_at);
        if self.stability == Stability::NotYet {
            next = next.min(self.opened_at + STABLE_AFTER);
        }
        next
    }

    /// Does what is due. `free_id` makes a ping's id one that no message has.
    pub(super) fn time_passed(
        &mut self,
        now: Instant,
        settings: &SessionSettings,
        free_id: impl Fn(u64) -> u64,
        out: &mut Vec<Action>,
    ) -> Tick {
        if now >= self.life_deadline(settings) {
            if self.pinged_at.is_some() {
                return Tick::Dead;
            }
            self.pinged_at = Some(now);
            out.push(Action::SendWsPing(Line::Main));
        }
        if now >= self.json_ping_at {
            self.json_ping_at = now + JSON_PING_EVERY;
            self.json_pings = free_id(self.json_pings + 1);
            out.push(Action::SendJsonPing { id: self.json_pings });
        }
        if self.stability == Stability::NotYet && now >= self.opened_at + STABLE_AFTER {
            self.stability = Stability::Stable;
            return Tick::BecameStable;
        }
        Tick::Alive
    }

    /// When an idle socket is pinged, or counts as dead.
    fn life_deadline(&self, settings: &SessionSettings) -> Instant {
        match self.pinged_at {
            Some(at) => at + settings.pong_timeout,
            None => self.last_heard + settings.ping_interval,
        }
    }
}
