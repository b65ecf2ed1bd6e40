//! Every rule of the session, one by one.

mod connected;
mod connecting;
mod history;
mod messages;
mod renewal;
mod turns;

use std::sync::Arc;

use super::*;
use crate::{
    clock::Timestamp,
    config::Secret,
    messages::{Certainty, Expectation, MessageNumber, Verdict},
    rtm::{
        failure::{FailureKind, Step},
        token::Skew,
    },
    store::{Access, ConnectHistory},
};

pub(super) fn settings() -> SessionSettings {
    SessionSettings {
        ping_interval: secs(15),
        pong_timeout: secs(10),
        backoff_min: Duration::from_millis(500),
        backoff_max: secs(30),
        unauthorized_retry: secs(60),
        reconnect_query: ReconnectQuery::IsReconnect,
        ack_timeout: secs(10),
        max_attempts: 3,
        in_flight: 1,
        message_rate: None,
        recover: true,
        history_timeout: secs(30),
    }
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) const CREDENTIALS: [u8; 16] = [7; 16];
const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const TTL: Duration = Duration::from_secs(900);

pub(super) fn access(expires_at: Timestamp) -> Access {
    Access { token: Secret::new("T1"), expires_at, granted_for: CREDENTIALS }
}

pub(super) fn url(sid: &str) -> SocketUrl {
    SocketUrl { url: format!("wss://bots.example/rtm/bot?sid={sid}").parse().unwrap(), nonce: None }
}

pub(super) fn message(number: u64, expectation: Expectation, expires_at: Timestamp) -> QueuedMessage {
    QueuedMessage {
        number: MessageNumber(number),
        id: ClientMessageId::new(1000 + number).unwrap(),
        expectation,
        expires_at,
        certainty: Certainty::None,
    }
}

/// A session and its two clocks.
struct Rig {
    session: Session,
    now: Now,
}

impl Rig {
    fn with(change: impl FnOnce(&mut SessionSettings, &mut Beginnings)) -> Self {
        let now = Now { mono: Instant::now(), wall: START };
        let mut settings = settings();
        let mut beginnings = Beginnings {
            pending: Vec::new(),
            last_sent: None,
            unanswered_for: None,
            awaited: BTreeSet::new(),
            partner: Partner::Bot,
            memory: UserRecord::default(),
            credentials: CREDENTIALS,
            seed: 1,
        };
        change(&mut settings, &mut beginnings);
        Self { session: Session::new(Arc::new(settings), beginnings, now), now }
    }

    fn new() -> Self {
        Self::with(|_, _| {})
    }

    /// Connected, without a word said.
    fn open_with(change: impl FnOnce(&mut SessionSettings, &mut Beginnings)) -> Self {
        let mut rig = Self::with(change);
        rig.feed(Input::Start);
        rig.finish_connecting();
        rig
    }

    fn open() -> Self {
        Self::open_with(|_, _| {})
    }

    fn feed(&mut self, input: Input<'_>) -> Vec<Action> {
        let mut out = Vec::new();
        self.session.handle(self.now, input, &mut out);
        out
    }

    /// Says yes to whatever is asked until the socket is open; returns what was done then.
    fn finish_connecting(&mut self) -> Vec<Action> {
        if matches!(self.session.phase, Phase::Connecting(Approach::SigningIn)) {
            self.feed(Input::TokenGranted(self.grant()));
        }
        let at = self.now.mono;
        self.feed(Input::UrlIssued { url: url("s"), at });
        assert!(
            matches!(self.session.phase, Phase::Connecting(Approach::Opening)),
            "{:?}",
            self.session.phase
        );
        self.feed(Input::Opened(Skew::default()))
    }

    fn grant(&self) -> Grant {
        Grant { access: access(self.now.wall.plus(secs(86_400))), platform_user_id: Some("u-1".into()) }
    }

    fn wait(&mut self, span: Duration) {
        self.now.mono += span;
        self.now.wall = self.now.wall.plus(span);
    }

    /// Lets time pass up to the next deadline and tells.
    fn tick(&mut self) -> Vec<Action> {
        let deadline = self.session.deadline().expect("something is due");
        self.wait(deadline.saturating_duration_since(self.now.mono));
        self.feed(Input::TimePassed)
    }

    /// The delay of the backoff that the session is in.
    fn backoff(&self) -> Duration {
        let Phase::Waiting(pause) = self.session.phase else {
            panic!("not waiting but {:?}", self.session.phase)
        };
        pause.until - self.now.mono
    }

    /// The history was read, and nothing was found there.
    fn nothing_found(&mut self) -> Vec<Action> {
        self.found(&[])
    }

    /// These messages were found in the history.
    fn found(&mut self, numbers: &[u64]) -> Vec<Action> {
        let found = numbers.iter().copied().map(MessageNumber).collect();
        self.feed(Input::HistoryRead(HistoryReply { found, reading: Reading::Whole, grant: None }))
    }

    /// The history could not be read.
    fn history_fails(&mut self) -> Vec<Action> {
        let found = Default::default();
        self.feed(Input::HistoryRead(HistoryReply { found, reading: Reading::Cut, grant: None }))
    }

    /// Waits a backoff out and connects again; nothing was missed.
    fn reconnect(&mut self) -> Vec<Action> {
        let mut actions = self.reconnect_only();
        actions.retain(|action| !matches!(action, Action::FetchHistory(_)));
        actions.extend(self.nothing_found().into_iter().filter(|action| *action != Action::Release));
        actions
    }

    /// Waits a backoff out and connects again.
    fn reconnect_only(&mut self) -> Vec<Action> {
        let backoff = self.backoff();
        self.wait(backoff);
        let began = self.feed(Input::TimePassed);
        assert!(!began.is_empty());
        self.finish_connecting()
    }

    fn post(&mut self, number: u64) -> Vec<Action> {
        let message = message(number, Expectation::Ack, self.now.wall.plus(TTL));
        self.feed(Input::Message(message))
    }

    fn post_unacked(&mut self, number: u64) -> Vec<Action> {
        let message = message(number, Expectation::Nothing, self.now.wall.plus(TTL));
        self.feed(Input::Message(message))
    }

    fn sent(&mut self, number: u64) -> Vec<Action> {
        self.feed(Input::Sent(MessageNumber(number)))
    }

    fn frame(&mut self, text: &str) -> Vec<Action> {
        self.frame_on(Line::Main, text)
    }

    fn frame_on(&mut self, line: Line, text: &str) -> Vec<Action> {
        let head = FrameHead::parse(text.as_bytes()).unwrap();
        self.feed(Input::Frame { line, head: &head, text })
    }

    fn ack(&mut self, number: u64) -> Vec<Action> {
        self.frame(&ack(number))
    }

    fn drop_connection(&mut self) -> Vec<Action> {
        self.feed(Input::Closed(Line::Main, CloseCause::Lost(String::new())))
    }

    fn close(&mut self, code: u16) -> Vec<Action> {
        self.feed(Input::Closed(Line::Main, CloseCause::Code(code, String::new())))
    }
}

fn ack(number: u64) -> String {
    format!(r#"{{"type":"ack","ok":true,"replyto":{}}}"#, 1000 + number)
}

fn send(number: u64) -> Action {
    Action::Send { number: MessageNumber(number), id: ClientMessageId::new(1000 + number).unwrap() }
}

fn finished(number: u64, verdict: Verdict) -> Action {
    Action::Finished { number: MessageNumber(number), verdict }
}

fn mark(number: u64) -> Action {
    Action::MarkSent { number: MessageNumber(number) }
}

/// The actions but for the status and what is remembered, which most tests aren't about.
fn deeds(actions: Vec<Action>) -> Vec<Action> {
    let is_aside = |action: &Action| matches!(action, Action::StatusChanged(_) | Action::Remember);
    actions.into_iter().filter(|action| !is_aside(action)).collect()
}

fn failure(step: Step, kind: FailureKind) -> Failure {
    Failure::new(step, kind, "")
}

fn token() -> Action {
    Action::RequestUrl { token: Secret::new("T1") }
}
