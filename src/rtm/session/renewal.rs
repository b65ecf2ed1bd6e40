//! Replacing the open socket before its access token expires: make before break.
//!
//! ```text
//!  planned ──due──> Approaching ──opened──> Draining ──nothing unacked──> Parting ──goodbye──> Settling ──> planned
//!     ^                  │                     │  └───── old one broke ──────────────────────────^ ^
//!     └───── failed ─────┘ (backoff)           └──────── new one broke (backoff) ──────────────────┘
//! ```
//!
//! - **Approaching:** a new token, a new URL, a second socket. Whatever fails, the old socket stays.
//! - **Draining:** both are open. The old one is still the main one: what is unacked waits for its ack,
//!   and nothing is sent. The new one's events wait. It has to show that it lives: some platforms close
//!   what they just let in.
//! - **Parting:** the new one is the main one. The old one was told goodbye, and is read until it answers.
//! - **Settling:** one socket is left. Copies of what came on the other may still come on it.
//!
//! The order of events: the platform sends each to all sockets of a user, so until it ends the old socket
//! is a sequence without holes, and the new one's is its continuation. What came on both is stored when it
//! comes on the old one; what came only on the new one, once the old one is done. The order of messages:
//! the platform answers a goodbye after it read what was sent before, and only then anything is sent on
//! the new socket.
//!
//! An old socket that ends without a goodbye of the platform's may have had more to say: then the history
//! is asked, as after any gap.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Action, Approach, Class, CloseCause, Line, Link, Pause, Phase, Session, SessionSettings, close_code,
    connecting::approach,
};
use crate::{
    clock::{Now, Timestamp},
    rtm::failure::Failure,
    store::Access,
};

/// A token is replaced in the last quarter of its life, and that long before its end at most.
const MOST_MARGIN: Duration = Duration::from_secs(30 * 60);
/// How long the platform is given to answer a goodbye.
const PARTING: Duration = Duration::from_secs(2);
/// How much later a frame may come on one socket than on the other.
const SETTLING: Duration = Duration::from_secs(1);

/// What is planned, and what is under way.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    plan: Option<Plan>,
    stage: Option<Box<Stage>>,
    trouble: Option<Box<Trouble>>,
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    at: Instant,
    /// When the token ends with which the socket was opened.
    expires_at: Timestamp,
}

/// See the [module](self).
#[derive(Debug)]
enum Stage {
    Approaching(Approach),
    Draining { proof: Proof },
    Parting { until: Instant },
    Settling { until: Instant },
}

/// Whether the new socket has shown that it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// It was pinged; until then it has to.
    Awaited { until: Instant },
    /// Something came on it.
    Given,
}

/// Tries that failed, since the last that didn't.
#[derive(Debug, Default)]
struct Trouble {
    failures: u32,
    not_before: Option<Instant>,
}

/// Whether everything is known that the old socket had to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It is: the platform said goodbye, or answered ours.
    Complete,
    /// It broke.
    CutOff,
}

impl Stage {
    /// How long it may take, where that is not for others to say.
    fn until(&self) -> Option<Instant> {
        match *self {
            Self::Draining { proof: Proof::Awaited { until } }
            | Self::Parting { until }
            | Self::Settling { until } => Some(until),
            Self::Approaching(_) | Self::Draining { proof: Proof::Given } => None,
        }
    }

    fn until_mut(&mut self) -> Option<&mut Instant> {
        match self {
            Self::Draining { proof: Proof::Awaited { until } }
            | Self::Parting { until }
            | Self::Settling { until } => Some(until),
            Self::Approaching(_) | Self::Draining { proof: Proof::Given } => None,
        }
    }
}

impl Ending {
    fn of(cause: &CloseCause) -> Self {
        match cause {
            CloseCause::Code(..) => Self::Complete,
            CloseCause::Lost(_)
            | CloseCause::FrameTooLarge
            | CloseCause::Dead
            | CloseCause::EncryptionRequired => Self::CutOff,
        }
    }
}

impl Renewal {
    /// Whether a socket is being replaced.
    pub(super) fn is_under_way(&self) -> bool {
        self.stage.is_some()
    }

    /// The try to open a second socket, while that is under way.
    pub(super) fn approach_mut(&mut self) -> Option<&mut Approach> {
        match self.stage.as_deref_mut() {
            Some(Stage::Approaching(approach)) => Some(approach),
            _ => None,
        }
    }

    /// Whether a new socket is open that could take over at once.
    pub(super) fn has_successor(&self) -> bool {
        matches!(self.stage.as_deref(), Some(Stage::Draining { .. }))
    }

    /// Whether nothing is sent for now.
    pub(super) fn holds_messages(&self) -> bool {
        matches!(self.stage.as_deref(), Some(Stage::Draining { .. } | Stage::Parting { .. }))
    }

    /// Whether what comes on this socket waits for what the old one still has to say.
    pub(super) fn holds_events_of(&self, line: Line) -> bool {
        matches!(
            (self.stage.as_deref(), line),
            (Some(Stage::Draining { .. }), Line::Beside) | (Some(Stage::Parting { .. }), Line::Main)
        )
    }

    /// Nobody listened for so long.
    pub(super) fn stalled(&mut self, span: Duration) {
        if let Some(until) = self.stage.as_deref_mut().and_then(Stage::until_mut) {
            *until += span;
        }
    }

    /// Whether the new socket is open and has shown that it lives.
    fn has_proven_successor(&self) -> bool {
        matches!(self.stage.as_deref(), Some(Stage::Draining { proof: Proof::Given }))
    }

    /// Whether the platform said how long to wait, and that time is not over.
    pub(super) fn is_held(&self, now: Instant) -> bool {
        self.trouble.as_ref().and_then(|trouble| trouble.not_before).is_some_and(|at| at > now)
    }

    /// Until when the platform wants to be left alone, if it said so.
    pub(super) fn told_to_wait(&mut self) -> Option<Instant> {
        self.trouble.take().and_then(|trouble| trouble.not_before)
    }

    fn set(&mut self, stage: Stage) {
        self.stage = Some(Box::new(stage));
    }
}

impl Plan {
    /// At a random moment in the last quarter of the token's life, but for its very end. A token that
    /// lives too short for that is no reason to connect without end: the pace is then that of a
    /// platform that can't be reached.
    fn of(access: &Access, settings: &SessionSettings, now: Now, rng: &mut fastrand::Rng) -> Self {
        let life = access.expires_at.since(now.wall);
        let margin = (life / 4).min(MOST_MARGIN).mul_f64((1.0 + 2.0 * rng.f64()) / 3.0);
        let soonest = settings.backoff_max.mul_f64(1.0 + rng.f64());
        Self { at: now.mono + life.saturating_sub(margin).max(soonest), expires_at: access.expires_at }
    }
}

impl Session {
    // ---- When.

    /// A socket was opened.
    pub(super) fn plan_renewal(&mut self, now: Now) {
        let access = self.memory.access.as_ref();
        self.renewal.plan = access.map(|access| Plan::of(access, &self.settings, now, &mut self.rng));
        self.renewal.trouble = None;
    }

    /// What made renewals fail is put right, perhaps: the next one need not wait longer than told.
    pub(super) fn renewal_is_promising(&mut self, now: Now) {
        let told = self.renewal.trouble.as_ref().map(|trouble| trouble.not_before);
        if let (Some(told), Some(plan)) = (told, &mut self.renewal.plan) {
            plan.at = plan.at.min(told.unwrap_or(now.mono).max(now.mono));
        }
    }

    pub(super) fn renewal_deadline(&self) -> Option<Instant> {
        match (&self.phase, self.renewal.stage.as_deref()) {
            (Phase::Open(_), None) if !self.is_recovering() => self.renewal.plan.map(|plan| plan.at),
            (Phase::Open(_), Some(stage)) => stage.until(),
            _ => None,
        }
    }

    pub(super) fn renewal_time_passed(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.renewal_deadline().is_none_or(|due| due > now.mono) {
            return;
        }
        match self.renewal.stage.as_deref() {
            None => self.begin_renewal(now, out),
            Some(Stage::Parting { .. }) => {
                out.push(Action::LetGo { by: now.mono });
                self.parted(Ending::CutOff, now, out);
            }
            Some(Stage::Settling { .. }) => {
                self.renewal.stage = None;
                self.release_unless_recovering(out);
                out.push(Action::EndOverlap);
                // The next try may be due by now.
                self.renewal_time_passed(now, out);
            }
            Some(Stage::Draining { .. }) => {
                out.push(Action::LetGo { by: now.mono });
                self.successor_lost(&CloseCause::Dead, now, out);
            }
            Some(Stage::Approaching(_)) => {}
        }
    }

    // ---- Approaching.

    fn begin_renewal(&mut self, now: Now, out: &mut Vec<Action>) {
        let expires_at = self.renewal.plan.map_or(now.wall, |plan| plan.expires_at);
        // The history, or a try that failed later, may have brought one.
        let newer = self.usable_access(now.wall).filter(|access| access.expires_at > expires_at).cloned();
        self.renewal.set(Stage::Approaching(approach(newer.as_ref(), out)));
    }

    /// A step to the new socket failed: the old one stays, and it is tried again later.
    pub(super) fn renewal_failed(&mut self, failure: &Failure, now: Now, out: &mut Vec<Action>) {
        self.renewal.stage = None;
        out.push(Action::EndOverlap);
        let class = Class::of_failure(failure);
        self.note_renewal_failed(class, &failure.to_string(), failure.retry_after, now, out);
    }

    fn note_renewal_failed(
        &mut self,
        class: Class,
        error: &str,
        retry_after: Option<Duration>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let failures = self.renewal.trouble.as_ref().map_or(0, |trouble| trouble.failures);
        let Pause { until, not_before } = self.pause(class, failures, retry_after, now);
        self.renewal.trouble = Some(Box::new(Trouble { failures: failures.saturating_add(1), not_before }));
        if let Some(plan) = &mut self.renewal.plan {
            plan.at = until;
        }
        self.status.last_error = Some(format!("the connection could not be renewed, and stays: {error}"));
        out.push(Action::StatusChanged(self.status.clone()));
    }

    // ---- Two sockets.

    pub(super) fn successor_opened(&mut self, now: Now, out: &mut Vec<Action>) {
        let until = now.mono + self.settings.pong_timeout;
        self.renewal.set(Stage::Draining { proof: Proof::Awaited { until } });
        self.outbox.pause();
        out.push(Action::SendWsPing(Line::Beside));
    }

    /// Something came on the socket beside the main one.
    pub(super) fn heard_beside(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.renewal.has_successor() {
            self.renewal.set(Stage::Draining { proof: Proof::Given });
            self.promote_once_drained(now, out);
        }
    }

    /// Nothing waits for its ack on the old socket any more: the new one takes over.
    pub(super) fn promote_once_drained(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.renewal.has_proven_successor() && self.outbox.is_drained() {
            self.outbox.on_new_socket();
            self.promote(now, out);
            self.renewal.set(Stage::Parting { until: now.mono + PARTING });
        }
    }

    /// The old socket broke, or is dead: the new one takes over, and what was unacked is looked for.
    pub(super) fn succeed_broken(&mut self, cause: &CloseCause, now: Now, out: &mut Vec<Action>) {
        self.blame_for(cause, out);
        self.outbox.moved(out);
        self.promote(now, out);
        out.push(Action::LetGo { by: now.mono });
        self.parted(Ending::of(cause), now, out);
    }

    fn promote(&mut self, now: Now, out: &mut Vec<Action>) {
        self.note_alive(now, out);
        self.phase = Phase::Open(Link::new(now.mono));
        self.plan_renewal(now);
        out.push(Action::Promote { code: close_code::NORMAL });
    }

    /// The socket beside the main one ended by itself.
    pub(super) fn beside_closed(&mut self, cause: &CloseCause, now: Now, out: &mut Vec<Action>) {
        match self.renewal.stage.as_deref() {
            Some(Stage::Parting { .. }) => self.parted(Ending::of(cause), now, out),
            Some(Stage::Draining { .. }) => self.successor_lost(cause, now, out),
            _ => {}
        }
    }

    /// The new socket is gone before it took over.
    fn successor_lost(&mut self, cause: &CloseCause, now: Now, out: &mut Vec<Action>) {
        // What it brought is about to come on the old one as well.
        self.renewal.set(Stage::Settling { until: now.mono + SETTLING });
        self.note_renewal_failed(Class::of_close(cause), &cause.to_string(), None, now, out);
        self.pump(now, out);
    }

    /// The old socket is gone.
    fn parted(&mut self, ending: Ending, now: Now, out: &mut Vec<Action>) {
        self.renewal.set(Stage::Settling { until: now.mono + SETTLING });
        if ending == Ending::CutOff {
            self.stop_looking_up(out);
            self.recover(now, out);
        }
        self.release_unless_recovering(out);
        self.pump(now, out);
    }

    /// What was held back for a renewal is let go; a recovery goes on holding it.
    fn release_unless_recovering(&self, out: &mut Vec<Action>) {
        if !self.is_recovering() {
            out.push(Action::Release);
        }
    }

    // ---- The end.

    /// Closes the main socket, and with it whatever is under way beside it.
    pub(super) fn close(&mut self, code: u16, now: Now, out: &mut Vec<Action>) {
        self.end_renewal(Some(Action::Close { code }), now, out);
    }

    /// Ends what is under way beside the main socket, which is gone, or is to be closed now. What the
    /// old one says comes before what only the new one said.
    pub(super) fn end_renewal(&mut self, close: Option<Action>, now: Now, out: &mut Vec<Action>) {
        self.renewal.plan = None;
        match self.renewal.stage.take().map(|stage| *stage) {
            None => out.extend(close),
            Some(Stage::Approaching(_)) => {
                out.push(Action::DropRequest);
                out.extend(close);
                out.push(Action::EndOverlap);
            }
            Some(Stage::Draining { .. }) => {
                out.extend(close);
                out.push(Action::LetGo { by: now.mono });
                self.release_unless_recovering(out);
                out.push(Action::EndOverlap);
            }
            Some(Stage::Parting { until }) => {
                out.push(Action::LetGo { by: until });
                self.release_unless_recovering(out);
                out.extend(close);
                out.push(Action::EndOverlap);
            }
            Some(Stage::Settling { .. }) => {
                out.extend(close);
                self.release_unless_recovering(out);
                out.push(Action::EndOverlap);
            }
        }
    }
}
