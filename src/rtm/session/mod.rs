//! The protocol of one user's connection, as a pure state machine: [`Input`]s in, [`Action`]s out,
//! no I/O and no clock.
//!
//! ```text
//!  Idle ──start──> SigningIn ──granted──> Starting ──url──> Opening ──opened──> Open
//!                   ^    │                 │  ^ │              │                 │
//!                   │    │ failed          │  │ │ failed       │ failed          │ closed, dead
//!                   │    v                 │  │ v              v                 v
//!                   │  Waiting <───────────┼──┼─┴──────────────┴─────────────────┘  (backoff)
//!                   │    │                 │  │
//!                   │    └─time or asked───┼──┘  a token is remembered
//!                   └──────────────────────┘     none is, or the platform refused it (once)
//!
//!  any ──stop──> Stopped
//! ```
//!
//! Whatever ends a try or a connection goes through `Session::disconnect`, so there is one place
//! where the outbox learns of it and one where the backoff is chosen.

mod history;
mod io;
mod link;
mod outbox;
#[cfg(test)]
mod random_histories;
mod schedule;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::Instant;

use history::Fetch;
pub use io::{
    Action, Answer, CloseCause, FetchPlan, Grant, HistoryReply, Input, NotSent, Purpose, Reading, SocketUrl,
};
use link::{Link, Tick};
use outbox::{Blame, Outbox, Pumped};
use schedule::Class;

use crate::{
    clock::{Now, Timestamp},
    config::{Rate, ReconnectQuery},
    messages::{ClientMessageId, FinalReason, QueuedMessage},
    rtm::{
        failure::{Failure, FailureKind},
        frame::{FrameClass, FrameHead},
        token::Skew,
    },
    store::{Access, ConnectHistory, UserRecord},
    users::{ConnectionState, UserStatus},
};

/// A URL this old isn't opened any more; the platform takes it for 30 s.
const URL_GOOD_FOR: Duration = Duration::from_secs(25);
/// How often it is noted that the connection is up, should the process be killed.
const NOTE_ALIVE_EVERY: Duration = Duration::from_secs(3600);
/// A token is not used for its last minute.
const TOKEN_MARGIN: Duration = Duration::from_secs(60);

/// WebSocket close codes that a session uses.
mod close_code {
    /// The connection has done its work.
    pub(super) const NORMAL: u16 = 1000;
    /// This end goes away.
    pub(super) const GOING_AWAY: u16 = 1001;
}

/// The knobs of `bridge.toml` that a session needs, under their names there.
#[derive(Debug, Clone)]
#[expect(
    missing_docs,
    reason = "they are named and documented in config::Platform, config::Messages and config::History"
)]
pub struct SessionSettings {
    pub ping_interval: Duration,
    pub pong_timeout: Duration,
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    pub unauthorized_retry: Duration,
    pub reconnect_query: ReconnectQuery,
    pub ack_timeout: Duration,
    pub max_attempts: u32,
    pub in_flight: usize,
    pub message_rate: Option<Rate>,
    pub recover: bool,
    pub history_timeout: Duration,
}

/// What a session starts with.
#[derive(Debug)]
pub struct Beginnings {
    /// The user's messages that are not final, in order.
    pub pending: Vec<QueuedMessage>,
    /// The user's latest message that was ever sent.
    pub last_sent: Option<ClientMessageId>,
    /// What is remembered of the user.
    pub memory: UserRecord,
    /// The fingerprint of the credentials as configured now: a token granted for others is no good.
    pub credentials: [u8; 16],
    /// Seeds the jitter.
    pub seed: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Session {
    settings: std::sync::Arc<SessionSettings>,
    phase: Phase,
    outbox: Outbox,
    memory: UserRecord,
    status: UserStatus,
    /// The history that is being read, connected or not.
    fetch: Option<Fetch>,
    /// How far the platform's clock was ahead of ours when the socket was opened.
    skew: Skew,
    /// When to note next that the connection is up.
    note_alive_at: Option<Instant>,
    rng: fastrand::Rng,
}

/// Where the connection is.
#[derive(Debug)]
enum Phase {
    Idle,
    SigningIn,
    Starting { token: TokenAge, url: UrlTry },
    Opening,
    Open(Link),
    Waiting { until: Instant, not_before: Option<Instant> },
    Stopped,
}

/// Whether the token in use was granted for this very try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenAge {
    Fresh,
    Remembered,
}

/// Whether the URL that is awaited is the first of this try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UrlTry {
    First,
    /// The first was too old when it was to be used.
    Second,
}

/// Why a try or a connection ended.
#[derive(Debug)]
enum End {
    /// A step of connecting failed.
    Failed(Failure),
    /// The connection ended, from the platform's side or on the way.
    Closed(CloseCause),
    /// We closed it to connect anew.
    Renewal,
}

impl Session {
    /// A session that has not started.
    pub fn new(settings: std::sync::Arc<SessionSettings>, beginnings: Beginnings, now: Now) -> Self {
        let Beginnings { pending, last_sent, mut memory, credentials, seed } = beginnings;
        memory.access = memory.access.filter(|access| access.granted_for == credentials);
        let status =
            UserStatus { state: ConnectionState::Connecting, since: now.wall, last_error: None, attempts: 0 };
        let outbox = Outbox::new(pending, last_sent, &settings);
        let rng = fastrand::Rng::with_seed(seed);
        Self {
            settings,
            phase: Phase::Idle,
            outbox,
            memory,
            status,
            fetch: None,
            skew: Skew::default(),
            note_alive_at: None,
            rng,
        }
    }

    /// What is to be remembered of the user.
    pub fn memory(&self) -> &UserRecord {
        &self.memory
    }

    /// How the connection is.
    pub fn status(&self) -> &UserStatus {
        &self.status
    }

    /// When the session wants [`Input::TimePassed`], if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        let (phase, messages) = match &self.phase {
            Phase::Idle | Phase::Stopped => return None,
            Phase::SigningIn | Phase::Starting { .. } | Phase::Opening => (None, None),
            Phase::Open(link) => (Some(link.deadline(&self.settings)), self.outbox.open_deadline()),
            Phase::Waiting { until, .. } => (Some(*until), None),
        };
        [phase, messages, self.note_alive_at, self.outbox.sweep_deadline()].into_iter().flatten().min()
    }

    /// Takes an input and appends what is to be done. Inputs that don't fit the state (an answer to
    /// a request that was given up, say) change nothing.
    pub fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Stopped) {
            return;
        }
        match input {
            Input::Start => self.start(now, out),
            Input::Stop => self.stop(now, out),
            Input::TimePassed => self.time_passed(now, out),
            Input::ReconnectRequested => self.renew(now, out),
            Input::TokenGranted(grant) => self.granted(grant, now, out),
            Input::UrlIssued { url, at } => self.url_issued(url, at, now, out),
            Input::Opened(skew) => self.opened(skew, now, out),
            Input::GrantFailed(failure) if matches!(self.phase, Phase::SigningIn) => {
                self.disconnect(End::Failed(failure), now, out);
            }
            Input::StartFailed(failure) => self.start_failed(failure, now, out),
            Input::OpenFailed(failure) if matches!(self.phase, Phase::Opening) => {
                self.disconnect(End::Failed(failure), now, out);
            }
            Input::GrantFailed(_) | Input::OpenFailed(_) => {}
            Input::Frame { head, text } => self.frame(head, text, now, out),
            Input::Heard => self.heard(now),
            Input::Stalled(span) => self.stalled(span),
            Input::Closed(cause) => self.closed(cause, now, out),
            Input::HistoryRead(reply) => self.history_read(reply, now, out),
            Input::Released { seen, stalled } => self.released(seen, stalled, now, out),
            Input::Message(message) => self.message(message, now, out),
            Input::Sent(number) => {
                self.outbox.sent(number, now, &self.settings, out);
                self.pump(now, out);
            }
            Input::NotSent(number, why) => {
                self.outbox.not_sent(number, why, now, &self.settings, out);
                self.pump(now, out);
            }
        }
    }

    // ---- Beginning and end.

    fn start(&mut self, now: Now, out: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Idle) {
            self.outbox.sweep(now, out);
            // What is sent only once, and was waiting when the daemon stopped.
            self.outbox.disconnected(Blame::None, out);
            self.connect(now, out);
        }
    }

    fn stop(&mut self, now: Now, out: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Open(_)) {
            self.note_alive(now, out);
            // Nobody may take the user for connected from here on.
            self.set_state(ConnectionState::Connecting, now, out);
            out.push(Action::Close { code: close_code::GOING_AWAY });
        }
        self.stop_fetching(out);
        self.note_alive_at = None;
        self.outbox.disconnected(Blame::None, out);
        self.phase = Phase::Stopped;
    }

    // ---- Connecting.

    /// Begins a try.
    fn connect(&mut self, now: Now, out: &mut Vec<Action>) {
        self.status.attempts = self.status.attempts.saturating_add(1);
        self.set_state(ConnectionState::Connecting, now, out);
        match self.usable_access(now.wall) {
            Some(access) => {
                out.push(Action::RequestUrl { token: access.token.clone() });
                self.phase = Phase::Starting { token: TokenAge::Remembered, url: UrlTry::First };
            }
            None => self.sign_in(out),
        }
    }

    fn sign_in(&mut self, out: &mut Vec<Action>) {
        out.push(Action::RequestToken);
        self.phase = Phase::SigningIn;
    }

    fn usable_access(&self, now: Timestamp) -> Option<&Access> {
        self.memory.access.as_ref().filter(|access| access.expires_at > now.plus(TOKEN_MARGIN))
    }

    fn granted(&mut self, grant: Grant, _now: Now, out: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::SigningIn) {
            return;
        }
        let Grant { access, platform_user_id } = grant;
        out.push(Action::Remember);
        // However soon it expires: it was granted a moment ago, so it is tried.
        out.push(Action::RequestUrl { token: access.token.clone() });
        self.memory.access = Some(access);
        self.memory.platform_user_id = platform_user_id.or(self.memory.platform_user_id.take());
        self.phase = Phase::Starting { token: TokenAge::Fresh, url: UrlTry::First };
    }

    fn start_failed(&mut self, failure: Failure, now: Now, out: &mut Vec<Action>) {
        let Phase::Starting { token, .. } = self.phase else { return };
        if failure.kind == FailureKind::TokenRefused {
            self.memory.access = None;
            out.push(Action::Remember);
            if token == TokenAge::Remembered {
                return self.sign_in(out);
            }
        }
        self.disconnect(End::Failed(failure), now, out);
    }

    fn url_issued(&mut self, url: SocketUrl, at: Instant, now: Now, out: &mut Vec<Action>) {
        let Phase::Starting { token, url: tried } = self.phase else { return };
        let by = at + URL_GOOD_FOR;
        if now.mono < by {
            let query = match self.memory.history {
                ConnectHistory::Never => None,
                ConnectHistory::Before => Some(self.settings.reconnect_query),
            };
            out.push(Action::Open { url, query, by });
            self.phase = Phase::Opening;
            return;
        }
        match (tried, &self.memory.access) {
            (UrlTry::First, Some(access)) => {
                out.push(Action::RequestUrl { token: access.token.clone() });
                self.phase = Phase::Starting { token, url: UrlTry::Second };
            }
            _ => {
                let failure = Failure::new(
                    crate::rtm::failure::Step::Start,
                    FailureKind::Timeout,
                    "the URL was too old before it could be used",
                );
                self.disconnect(End::Failed(failure), now, out);
            }
        }
    }

    fn opened(&mut self, skew: Skew, now: Now, out: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Opening) {
            return;
        }
        self.phase = Phase::Open(Link::new(now.mono));
        self.skew = skew;
        self.note_alive_at = Some(now.mono + NOTE_ALIVE_EVERY);
        self.set_state(ConnectionState::Connected, now, out);
        if self.memory.seen.is_some() {
            self.recover(now, out);
        } else {
            self.memory.begin(skew.to_platform(now.wall));
            out.push(Action::Remember);
        }
        self.pump(now, out);
    }

    /// Drops the connection, or what is left of a backoff, and connects at once.
    fn renew(&mut self, now: Now, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Open(_) => {
                out.push(Action::Close { code: close_code::NORMAL });
                self.disconnect(End::Renewal, now, out);
            }
            Phase::Waiting { not_before, .. } => match not_before {
                // The platform said how long to wait; nobody may shorten that.
                Some(at) if at > now.mono => self.phase = Phase::Waiting { until: at, not_before },
                _ => self.connect(now, out),
            },
            Phase::Idle | Phase::SigningIn | Phase::Starting { .. } | Phase::Opening | Phase::Stopped => {}
        }
    }

    fn closed(&mut self, cause: CloseCause, now: Now, out: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Open(_)) {
            self.disconnect(End::Closed(cause), now, out);
        }
    }

    /// The one way from a try or a connection to the next: the outbox takes back what was under
    /// way, and the backoff is chosen.
    fn disconnect(&mut self, end: End, now: Now, out: &mut Vec<Action>) {
        self.note_alive(now, out);
        self.note_alive_at = None;
        self.stop_looking_up(out);
        let blame = match &end {
            End::Closed(CloseCause::Code(1009, _)) => {
                self.outbox.reject_last(FinalReason::TooLarge, out);
                Blame::None
            }
            End::Closed(CloseCause::Code(1007, _)) => {
                self.outbox.reject_last(FinalReason::RefusedByPlatform, out);
                Blame::None
            }
            End::Closed(_) => Blame::Possible,
            End::Failed(_) | End::Renewal => Blame::None,
        };
        self.outbox.disconnected(blame, out);
        let (class, error, retry_after) = match end {
            End::Failed(failure) => (Class::of_failure(&failure), failure.to_string(), failure.retry_after),
            End::Closed(cause) => (Class::of_close(&cause), cause.to_string(), None),
            End::Renewal => return self.connect(now, out),
        };
        self.status.last_error = Some(error);
        let failures = self.status.attempts.saturating_sub(1);
        let delay = class.delay(&self.settings, failures, &mut self.rng);
        let not_before = retry_after.map(|told| now.mono + told.min(Duration::from_secs(86_400)));
        // As told, and a little spread: others were told the same.
        let until = not_before.map_or(now.mono + delay, |told| told + delay / 10).max(now.mono + delay);
        self.phase = Phase::Waiting { until, not_before };
        let state = match class {
            Class::Unauthorized => ConnectionState::Unauthorized,
            _ => ConnectionState::BackingOff,
        };
        self.set_state(state, now, out);
    }

    // ---- Being connected.

    fn frame(&mut self, head: &FrameHead<'_>, text: &str, now: Now, out: &mut Vec<Action>) {
        let Phase::Open(link) = &mut self.phase else { return };
        link.heard(now.mono);
        match head.class() {
            FrameClass::Ack => {
                // An ack that names no frame (those of client events don't) is no message's ack.
                if let Some(id) = head.reply_to.as_deref().and_then(|id| id.parse().ok()) {
                    self.outbox.acked(id, head.ok, text, out);
                    self.pump(now, out);
                }
            }
            FrameClass::Pong | FrameClass::Reply => {}
            FrameClass::Event => {
                // What the user said elsewhere answers nothing.
                let answers = !head.is("user_message");
                let in_reply_to = self.outbox.last_sent().filter(|_| answers);
                let answer = if head.is("bot_response") { Answer::Yes } else { Answer::No };
                out.push(match self.fetch {
                    Some(Fetch::Recovery { .. }) => Action::HoldEvent { in_reply_to, answer },
                    Some(Fetch::LookUp { .. }) | None => Action::StoreEvent { in_reply_to, answer },
                });
            }
        }
    }

    fn heard(&mut self, now: Now) {
        if let Phase::Open(link) = &mut self.phase {
            link.heard(now.mono);
        }
    }

    fn stalled(&mut self, span: Duration) {
        if let Phase::Open(link) = &mut self.phase {
            link.stalled(span);
            self.outbox.stalled(span);
        }
    }

    fn message(&mut self, message: QueuedMessage, now: Now, out: &mut Vec<Action>) {
        self.outbox.push(message, now);
        match self.phase {
            Phase::Open(_) => self.pump(now, out),
            Phase::Idle | Phase::Stopped => {}
            // Ends it, if it is sent only once.
            _ => self.outbox.disconnected(Blame::None, out),
        }
    }

    fn pump(&mut self, now: Now, out: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Open(_)) {
            return;
        }
        self.end_idle_look_up(out);
        if self.outbox.pump(now, &self.settings, out) == Pumped::InDoubt && self.fetch.is_none() {
            self.look_up(now, out);
        }
    }

    fn time_passed(&mut self, now: Now, out: &mut Vec<Action>) {
        self.outbox.sweep_if_due(now, out);
        match &mut self.phase {
            Phase::Waiting { until, .. } if now.mono >= *until => self.connect(now, out),
            Phase::Open(link) => {
                let free_id = |id| self.outbox.free_id(id);
                match link.time_passed(now.mono, &self.settings, free_id, out) {
                    Tick::Alive => {}
                    Tick::BecameStable => {
                        self.status.attempts = 0;
                        out.push(Action::StatusChanged(self.status.clone()));
                    }
                    Tick::Dead => {
                        out.push(Action::Close { code: close_code::GOING_AWAY });
                        return self.disconnect(End::Closed(CloseCause::Dead), now, out);
                    }
                }
                if self.note_alive_at.is_some_and(|at| now.mono >= at) {
                    self.note_alive(now, out);
                    self.note_alive_at = Some(now.mono + NOTE_ALIVE_EVERY);
                }
                self.outbox.acks_overdue(now.mono);
                self.pump(now, out);
            }
            _ => {}
        }
    }

    fn set_state(&mut self, state: ConnectionState, now: Now, out: &mut Vec<Action>) {
        if self.status.state != state {
            self.status.state = state;
            self.status.since = now.wall;
        }
        out.push(Action::StatusChanged(self.status.clone()));
    }
}
