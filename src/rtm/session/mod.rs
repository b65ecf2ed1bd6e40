//! The protocol of one user's connection, as a pure state machine: [`Input`]s in, [`Action`]s out,
//! no I/O and no clock.
//!
//! ```text
//!                ┌──────────────────── Connecting ───────────────────┐
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
//! where the outbox learns of it and one where the backoff is chosen. While it is `Open`, the session
//! replaces its socket in time by another one, by itself: see `renewal`.

mod connecting;
mod history;
mod io;
mod link;
mod outbox;
#[cfg(test)]
mod random_histories;
mod renewal;
mod schedule;
#[cfg(test)]
mod tests;
mod turns;

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use connecting::Approach;
use history::{Again, Fetch};
pub use io::{
    Action, Answer, CloseCause, FetchPlan, Grant, HistoryReply, Input, Line, NotSent, Purpose, Reading,
    SocketUrl,
};
use link::{Link, Tick};
use outbox::{Blame, Outbox, Pumped};
use renewal::Renewal;
use schedule::Class;
use turns::Turns;

use crate::{
    clock::Now,
    config::{Rate, ReconnectQuery},
    events::Partner,
    messages::{ClientMessageId, FinalReason, MessageNumber, QueuedMessage},
    rtm::{
        failure::Failure,
        frame::{FrameClass, FrameHead},
        token::Skew,
    },
    store::UserRecord,
    users::{ConnectionState, UserStatus},
};

/// How often it is noted that the connection is up, should the process be killed.
const NOTE_ALIVE_EVERY: Duration = Duration::from_secs(3600);

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
    /// How long ago that one was acked, if it was, and has no answer yet.
    pub unanswered_for: Option<Duration>,
    /// Messages whose answers callers wait for.
    pub awaited: BTreeSet<MessageNumber>,
    /// Whom the user talks to.
    pub partner: Partner,
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
    /// The fingerprint of the credentials as configured.
    credentials: [u8; 16],
    phase: Phase,
    outbox: Outbox,
    memory: UserRecord,
    status: UserStatus,
    /// The history that is being read, connected or not.
    fetch: Option<Fetch>,
    /// When it is read again, because something was missed and could not be read.
    again: Again,
    /// How far the platform's clock was ahead of ours when the socket was opened.
    skew: Skew,
    /// When to note next that the connection is up.
    note_alive_at: Option<Instant>,
    /// When the open socket is replaced, and how far that is.
    renewal: Renewal,
    rng: fastrand::Rng,
}

/// Where the connection is.
#[derive(Debug)]
enum Phase {
    Idle,
    Connecting(Approach),
    Open(Link),
    Waiting(Pause),
    Stopped,
}

/// A backoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pause {
    until: Instant,
    /// The platform said how long to wait: nobody may shorten that.
    not_before: Option<Instant>,
}

/// Why a try or a connection ended.
#[derive(Debug)]
enum End {
    /// A step of connecting failed.
    Failed(Failure),
    /// The connection ended, from the platform's side or on the way.
    Closed(CloseCause),
    /// We closed it, because someone asked for another one.
    Asked,
}

impl Session {
    /// A session that has not started.
    pub fn new(settings: std::sync::Arc<SessionSettings>, beginnings: Beginnings, now: Now) -> Self {
        let Beginnings {
            pending,
            last_sent,
            unanswered_for,
            awaited,
            partner,
            mut memory,
            credentials,
            seed,
        } = beginnings;
        memory.access = memory.access.filter(|access| access.granted_for == credentials);
        if memory.access.is_none() {
            // It may be that of another user, who was configured then; the sign-in tells.
            memory.platform_user_id = None;
        }
        let status =
            UserStatus { state: ConnectionState::Connecting, since: now.wall, last_error: None, attempts: 0 };
        let turns = Turns::new(awaited, last_sent.zip(unanswered_for), partner, now.mono);
        let outbox = Outbox::new(pending, last_sent, turns, &settings);
        let rng = fastrand::Rng::with_seed(seed);
        Self {
            settings,
            credentials,
            phase: Phase::Idle,
            outbox,
            memory,
            status,
            fetch: None,
            again: Again::default(),
            skew: Skew::default(),
            note_alive_at: None,
            renewal: Renewal::default(),
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
            Phase::Connecting(_) => (None, None),
            Phase::Open(link) => (Some(link.deadline(&self.settings)), self.outbox.open_deadline()),
            Phase::Waiting(pause) => (Some(pause.until), None),
        };
        let others = [
            self.note_alive_at,
            self.renewal_deadline(),
            self.again_deadline(),
            self.outbox.sweep_deadline(),
        ];
        [phase, messages].into_iter().chain(others).flatten().min()
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
            Input::ReconnectRequested => self.reconnect(now, out),
            Input::Reconfigured { settings, credentials } => {
                self.reconfigure(settings, credentials, now, out);
            }
            Input::TokenGranted(grant) => self.granted(grant, out),
            Input::UrlIssued { url, at } => self.url_issued(url, at, now, out),
            Input::Opened(skew) => self.opened(skew, now, out),
            Input::GrantFailed(failure) => self.grant_failed(failure, now, out),
            Input::StartFailed(failure) => self.start_failed(failure, now, out),
            Input::OpenFailed(failure) => self.open_failed(failure, now, out),
            Input::Frame { line, head, text } => self.frame(line, head, text, now, out),
            Input::Heard(line) => self.heard(line, now, out),
            Input::Stalled(span) => self.stalled(span),
            Input::Closed(line, cause) => self.closed(line, cause, now, out),
            Input::HistoryRead(reply) => self.history_read(reply, now, out),
            Input::Released { seen, stalled } => self.released(seen, stalled, now, out),
            Input::Message(message) => self.message(message, now, out),
            Input::TurnBegan(number) => self.outbox.turn_began(number),
            Input::TurnEnded(number) => {
                self.outbox.turn_ended(number);
                self.pump(now, out);
            }
            Input::TalksTo(partner) => self.talks_to(partner, now, out),
            Input::EventStored { answered, stalled } => self.event_stored(answered, stalled, now, out),
            Input::Sent(number) => {
                self.outbox.sent(number, now, &self.settings, out);
                self.pump(now, out);
            }
            Input::NotSent(number, why) => {
                self.outbox.not_sent(number, why, now, &self.settings, out);
                self.pump(now, out);
            }
        }
        // Whatever it waited for may be over: a look-up, a renewal, or just the time.
        self.read_again_if_due(now, out);
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
            self.close(close_code::GOING_AWAY, now, out);
        }
        self.stop_fetching(now, out);
        self.note_alive_at = None;
        self.outbox.disconnected(Blame::None, out);
        self.phase = Phase::Stopped;
    }

    /// Drops the connection, or what is left of a backoff, and connects at once: whoever asks for that
    /// doesn't trust the socket, so nothing waits for a better one.
    fn reconnect(&mut self, now: Now, out: &mut Vec<Action>) {
        match self.phase {
            // A platform that said how long to wait gives no other; the one at hand is better than none.
            Phase::Open(_) if self.renewal.is_held(now.mono) => {}
            Phase::Open(_) => {
                self.close(close_code::NORMAL, now, out);
                self.disconnect(End::Asked, now, out);
            }
            Phase::Waiting(Pause { not_before, .. }) => match not_before {
                Some(at) if at > now.mono => self.phase = Phase::Waiting(Pause { until: at, not_before }),
                _ => self.connect(now, out),
            },
            Phase::Idle | Phase::Connecting(_) | Phase::Stopped => {}
        }
    }

    /// Goes by another configuration. An open socket stays; a try that can only fail, because it began
    /// with credentials that were replaced, begins anew, and so does one that was refused.
    fn reconfigure(
        &mut self,
        settings: std::sync::Arc<SessionSettings>,
        credentials: [u8; 16],
        now: Now,
        out: &mut Vec<Action>,
    ) {
        if settings.message_rate != self.settings.message_rate {
            self.outbox.set_rate(settings.message_rate);
        }
        self.settings = settings;
        let is_stale = self.memory.access.as_ref().is_some_and(|access| access.granted_for != credentials);
        if is_stale {
            self.memory.access = None;
            out.push(Action::Remember);
        }
        let is_other = std::mem::replace(&mut self.credentials, credentials) != credentials;
        if is_other {
            self.memory.platform_user_id = None;
        }
        match self.phase {
            Phase::Connecting(_) if is_other => {
                out.push(Action::DropRequest);
                self.connect(now, out);
            }
            // What refused them may have been put right on the platform's side, too.
            Phase::Waiting(_) if is_other || self.status.state == ConnectionState::Unauthorized => {
                self.reconnect(now, out);
            }
            Phase::Open(_) if is_other => self.renewal_is_promising(now),
            _ => {}
        }
        self.pump(now, out);
    }

    fn closed(&mut self, line: Line, cause: CloseCause, now: Now, out: &mut Vec<Action>) {
        match (&self.phase, line) {
            (Phase::Open(_), Line::Main) if self.renewal.has_successor() => {
                self.succeed_broken(&cause, now, out);
            }
            (Phase::Open(_), Line::Main) => self.disconnect(End::Closed(cause), now, out),
            (Phase::Open(_), Line::Beside) => self.beside_closed(&cause, now, out),
            _ => {}
        }
    }

    /// The one way from a try or a connection to the next: the outbox takes back what was under
    /// way, and the backoff is chosen.
    fn disconnect(&mut self, end: End, now: Now, out: &mut Vec<Action>) {
        self.note_alive(now, out);
        self.note_alive_at = None;
        self.stop_looking_up(out);
        self.end_renewal(None, now, out);
        let told = self.renewal.told_to_wait();
        let blame = match &end {
            End::Closed(cause) => self.blame_for(cause, out),
            End::Failed(_) | End::Asked => Blame::None,
        };
        self.outbox.disconnected(blame, out);
        let (class, error, retry_after) = match end {
            End::Failed(failure) => (Class::of_failure(&failure), failure.to_string(), failure.retry_after),
            End::Closed(cause) => (Class::of_close(&cause), cause.to_string(), None),
            End::Asked => return self.connect(now, out),
        };
        self.status.last_error = Some(error);
        let failures = self.status.attempts.saturating_sub(1);
        let mut pause = self.pause(class, failures, retry_after, now);
        pause.not_before = pause.not_before.max(told);
        pause.until = pause.until.max(told.unwrap_or(now.mono));
        self.phase = Phase::Waiting(pause);
        let state = match class {
            Class::Unauthorized => ConnectionState::Unauthorized,
            _ => ConnectionState::BackingOff,
        };
        self.set_state(state, now, out);
    }

    /// Ends the message that the platform closed the socket for, if it did, and says whether others may
    /// be to blame.
    fn blame_for(&mut self, cause: &CloseCause, out: &mut Vec<Action>) -> Blame {
        let reason = match cause {
            CloseCause::Code(1009, _) => FinalReason::TooLarge,
            CloseCause::Code(1007, _) => FinalReason::RefusedByPlatform,
            CloseCause::EncryptionRequired => return Blame::None,
            _ => return Blame::Possible,
        };
        self.outbox.reject_last(reason, out);
        Blame::None
    }

    /// How long to wait after this, which came after `failures` in a row.
    fn pause(&mut self, class: Class, failures: u32, retry_after: Option<Duration>, now: Now) -> Pause {
        let soonest = now.mono + class.delay(&self.settings, failures, &mut self.rng);
        let not_before = retry_after.map(|told| now.mono + told.min(Duration::from_secs(86_400)));
        // As told, and a little spread: others were told the same.
        let spread = (soonest - now.mono) / 10;
        let until = not_before.map_or(soonest, |told| told + spread).max(soonest);
        Pause { until, not_before }
    }

    // ---- Being connected.

    fn frame(&mut self, line: Line, head: &FrameHead<'_>, text: &str, now: Now, out: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Open(_)) {
            return;
        }
        match head.class() {
            FrameClass::Ack => {
                // An ack that names no frame (those of client events don't) is no message's ack.
                if let Some(id) = head.reply_to.as_deref().and_then(|id| id.parse().ok()) {
                    self.outbox.acked(id, head.ok, text, now, out);
                    self.pump(now, out);
                }
            }
            FrameClass::Pong | FrameClass::Reply => {}
            FrameClass::Event => {
                // What the user said elsewhere answers nothing.
                let answers = !head.is("user_message");
                let in_reply_to = self.outbox.last_sent().filter(|_| answers);
                let answer = if head.completes_answer() { Answer::Yes } else { Answer::No };
                out.push(if self.is_recovering() || self.renewal.holds_events_of(line) {
                    Action::HoldEvent { in_reply_to, answer }
                } else {
                    Action::StoreEvent { in_reply_to, answer }
                });
            }
        }
        if wants_encryption(head, text) {
            return self.refuse_encryption(line, now, out);
        }
        // Behind the event, which is the line's as it was when it came.
        self.heard(line, now, out);
    }

    /// The platform won't talk in the clear: to go on would be to wait for answers that don't come.
    fn refuse_encryption(&mut self, line: Line, now: Now, out: &mut Vec<Action>) {
        let cause = CloseCause::EncryptionRequired;
        match line {
            // The one that works stays.
            Line::Beside => {
                out.push(Action::LetGo { by: now.mono });
                self.beside_closed(&cause, now, out);
            }
            Line::Main => {
                self.close(close_code::NORMAL, now, out);
                self.disconnect(End::Closed(cause), now, out);
            }
        }
    }

    /// An agent owes no answers: nobody has to wait for one.
    fn talks_to(&mut self, partner: Partner, now: Now, out: &mut Vec<Action>) {
        if self.outbox.talks_to(partner) {
            self.pump(now, out);
        }
    }

    fn event_stored(
        &mut self,
        answered: Option<ClientMessageId>,
        stalled: Duration,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        self.stalled(stalled);
        if answered.is_some_and(|id| self.outbox.answered(id)) {
            self.pump(now, out);
        }
    }

    fn heard(&mut self, line: Line, now: Now, out: &mut Vec<Action>) {
        match (&mut self.phase, line) {
            (Phase::Open(link), Line::Main) => link.heard(now.mono),
            (Phase::Open(_), Line::Beside) => self.heard_beside(now, out),
            _ => {}
        }
    }

    fn stalled(&mut self, span: Duration) {
        if let Phase::Open(link) = &mut self.phase {
            link.stalled(span);
            self.renewal.stalled(span);
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
        self.promote_once_drained(now, out);
        if self.renewal.holds_messages() {
            return;
        }
        if self.outbox.pump(now, &self.settings, out) == Pumped::InDoubt && self.fetch.is_none() {
            self.look_up(now, out);
        }
    }

    fn time_passed(&mut self, now: Now, out: &mut Vec<Action>) {
        self.outbox.sweep_if_due(now, out);
        match &mut self.phase {
            Phase::Waiting(pause) if now.mono >= pause.until => self.connect(now, out),
            Phase::Open(link) => {
                let free_id = |id| self.outbox.free_id(id);
                match link.time_passed(now.mono, &self.settings, free_id, out) {
                    Tick::Alive => {}
                    Tick::BecameStable => {
                        self.status.attempts = 0;
                        out.push(Action::StatusChanged(self.status.clone()));
                    }
                    Tick::Dead if self.renewal.has_successor() => {
                        return self.succeed_broken(&CloseCause::Dead, now, out);
                    }
                    Tick::Dead => {
                        self.close(close_code::GOING_AWAY, now, out);
                        return self.disconnect(End::Closed(CloseCause::Dead), now, out);
                    }
                }
                if self.note_alive_at.is_some_and(|at| now.mono >= at) {
                    self.note_alive(now, out);
                    self.note_alive_at = Some(now.mono + NOTE_ALIVE_EVERY);
                }
                self.outbox.acks_overdue(now.mono);
                self.renewal_time_passed(now, out);
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

/// Whether this is the announcement that a platform requires encryption on top of TLS.
fn wants_encryption(head: &FrameHead<'_>, text: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Capabilities<'a> {
        #[serde(borrow, default)]
        encryption: std::borrow::Cow<'a, str>,
    }
    head.is("protocol_capabilities")
        && serde_json::from_str::<Capabilities<'_>>(text)
            .is_ok_and(|told| told.encryption.eq_ignore_ascii_case("required"))
}
