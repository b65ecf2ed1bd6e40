//! Every rule of the session, one by one.

use std::sync::Arc;

use super::*;
use crate::{
    config::Secret,
    messages::{Certainty, Expectation, MessageNumber, Verdict},
    rtm::failure::Step,
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
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) const CREDENTIALS: [u8; 16] = [7; 16];
const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const TTL: Duration = Duration::from_secs(900);

pub(super) fn access(expires_at: Timestamp) -> Access {
    Access { token: Secret::new("T1"), expires_at, granted_for: CREDENTIALS }
}

pub(super) fn url(sid: &str) -> SocketUrl {
    SocketUrl(format!("wss://bots.example/rtm/bot?sid={sid}").parse().unwrap())
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
        if matches!(self.session.phase, Phase::SigningIn) {
            self.feed(Input::TokenGranted(self.grant()));
        }
        let at = self.now.mono;
        self.feed(Input::UrlIssued { url: url("s"), at });
        assert!(matches!(self.session.phase, Phase::Opening), "{:?}", self.session.phase);
        self.feed(Input::Opened)
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
        let Phase::Waiting { until, .. } = self.session.phase else {
            panic!("not waiting but {:?}", self.session.phase)
        };
        until - self.now.mono
    }

    /// Waits a backoff out and connects again.
    fn reconnect(&mut self) -> Vec<Action> {
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
        let head = FrameHead::parse(text.as_bytes()).unwrap();
        self.feed(Input::Frame { head: &head, text })
    }

    fn ack(&mut self, number: u64) -> Vec<Action> {
        self.frame(&ack(number))
    }

    fn drop_connection(&mut self) -> Vec<Action> {
        self.feed(Input::Closed(CloseCause::Lost(String::new())))
    }

    fn close(&mut self, code: u16) -> Vec<Action> {
        self.feed(Input::Closed(CloseCause::Code(code, String::new())))
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

/// The actions but for the status, which most tests aren't about.
fn deeds(actions: Vec<Action>) -> Vec<Action> {
    actions.into_iter().filter(|action| !matches!(action, Action::StatusChanged(_))).collect()
}

fn failure(step: Step, kind: FailureKind) -> Failure {
    Failure::new(step, kind, "")
}

fn token() -> Action {
    Action::RequestUrl { token: Secret::new("T1") }
}

// ---- Connecting.

#[test]
fn the_first_connect_signs_in_and_says_nothing_of_a_reconnect() {
    let mut rig = Rig::new();
    assert_eq!(deeds(rig.feed(Input::Start)), [Action::RequestToken]);
    let grant = rig.grant();
    assert_eq!(rig.feed(Input::TokenGranted(grant)), [Action::Remember, token()]);
    assert_eq!(rig.session.memory().platform_user_id.as_deref(), Some("u-1"));
    let at = rig.now.mono;
    let opening = rig.feed(Input::UrlIssued { url: url("s1"), at });
    assert_eq!(opening, [Action::Open { url: url("s1"), query: None, by: at + secs(25) }]);
    assert_eq!(deeds(rig.feed(Input::Opened)), [Action::Remember]);
    assert_eq!(rig.session.memory().history, ConnectHistory::Before);
    assert_eq!(rig.session.status().state, ConnectionState::Connected);
}

#[test]
fn every_later_connect_is_a_reconnect_and_uses_the_token_while_it_is_good() {
    let mut rig = Rig::open();
    rig.drop_connection();
    rig.wait(secs(1));
    assert_eq!(deeds(rig.feed(Input::TimePassed)), [token()]);
    let at = rig.now.mono;
    let opening = rig.feed(Input::UrlIssued { url: url("s2"), at });
    let query = Some(ReconnectQuery::IsReconnect);
    assert_eq!(opening, [Action::Open { url: url("s2"), query, by: at + secs(25) }]);
    assert_eq!(deeds(rig.feed(Input::Opened)), [], "it is remembered already");
}

#[test]
fn a_restart_needs_no_sign_in_and_is_a_reconnect() {
    let mut rig = Rig::with(|_, beginnings| {
        beginnings.memory.access = Some(access(START.plus(secs(3600))));
        beginnings.memory.history = ConnectHistory::Before;
    });
    assert_eq!(deeds(rig.feed(Input::Start)), [token()]);
    let at = rig.now.mono;
    assert!(matches!(
        rig.feed(Input::UrlIssued { url: url("s"), at })[..],
        [Action::Open { query: Some(ReconnectQuery::IsReconnect), .. }]
    ));
}

#[test]
fn a_token_for_other_credentials_or_about_to_expire_is_not_used() {
    for (granted_for, lifetime) in [([0; 16], secs(3600)), (CREDENTIALS, secs(59)), (CREDENTIALS, secs(0))] {
        let mut rig = Rig::with(|_, beginnings| {
            let access = Access { granted_for, ..access(START.plus(lifetime)) };
            beginnings.memory.access = Some(access);
        });
        assert_eq!(deeds(rig.feed(Input::Start)), [Action::RequestToken]);
    }
}

#[test]
fn a_short_lived_token_is_used_at_least_once() {
    let mut rig = Rig::new();
    rig.feed(Input::Start);
    let grant = Grant { access: access(START), platform_user_id: None };
    assert_eq!(rig.feed(Input::TokenGranted(grant)), [Action::Remember, token()]);
}

#[test]
fn a_refused_token_is_replaced_at_once_but_only_once() {
    let mut rig = Rig::open();
    rig.drop_connection();
    rig.wait(secs(1));
    rig.feed(Input::TimePassed);
    let refusal = || failure(Step::Start, FailureKind::TokenRefused);
    assert_eq!(rig.feed(Input::StartFailed(refusal())), [Action::Remember, Action::RequestToken]);
    assert_eq!(rig.session.memory().access, None);
    let grant = rig.grant();
    rig.feed(Input::TokenGranted(grant));
    assert_eq!(deeds(rig.feed(Input::StartFailed(refusal()))), [Action::Remember]);
    assert_eq!(rig.session.status().state, ConnectionState::Unauthorized);
    assert!(rig.backoff() >= secs(60));
}

#[test]
fn an_old_url_is_not_opened_but_replaced() {
    let mut rig = Rig::new();
    rig.feed(Input::Start);
    let grant = rig.grant();
    rig.feed(Input::TokenGranted(grant));
    let at = rig.now.mono;
    rig.wait(secs(25));
    assert_eq!(rig.feed(Input::UrlIssued { url: url("old"), at }), [token()]);
    // Twice in a row: something is wrong, and no reason to hammer.
    let again = deeds(rig.feed(Input::UrlIssued { url: url("old2"), at }));
    assert_eq!(again, []);
    assert!(rig.backoff() >= secs(1));
}

// ---- Backoff.

#[test]
fn each_failure_waits_as_its_class_says() {
    let cases = [
        (FailureKind::Server { status: 503 }, 1, ConnectionState::BackingOff),
        (FailureKind::Refused { status: 404 }, 1, ConnectionState::BackingOff),
        (FailureKind::Network, 1, ConnectionState::BackingOff),
        (FailureKind::Timeout, 1, ConnectionState::BackingOff),
        (FailureKind::Malformed, 1, ConnectionState::BackingOff),
        (FailureKind::RateLimited, 5, ConnectionState::BackingOff),
        (FailureKind::Unauthorized, 60, ConnectionState::Unauthorized),
    ];
    for (kind, at_least, state) in cases {
        let mut rig = Rig::new();
        rig.feed(Input::Start);
        rig.feed(Input::GrantFailed(failure(Step::SignIn, kind)));
        assert!(rig.backoff() >= secs(at_least), "{kind:?}: {:?}", rig.backoff());
        assert_eq!(rig.session.status().state, state);
        assert!(rig.session.status().last_error.as_deref().unwrap().starts_with("sign-in"));
    }
}

#[test]
fn retry_after_is_kept_even_when_someone_asks_for_a_reconnect() {
    let mut rig = Rig::new();
    rig.feed(Input::Start);
    let told = failure(Step::SignIn, FailureKind::RateLimited).retry_after(Some(secs(120)));
    rig.feed(Input::GrantFailed(told));
    assert!(rig.backoff() >= secs(120));
    assert_eq!(deeds(rig.feed(Input::ReconnectRequested)), []);
    assert_eq!(rig.backoff(), secs(120));
    assert_eq!(deeds(rig.tick()), [Action::RequestToken]);
}

#[test]
fn a_reconnect_request_ends_any_other_wait_at_once() {
    let mut rig = Rig::new();
    rig.feed(Input::Start);
    rig.feed(Input::GrantFailed(failure(Step::SignIn, FailureKind::Unauthorized)));
    assert_eq!(deeds(rig.feed(Input::ReconnectRequested)), [Action::RequestToken]);
    assert_eq!(deeds(rig.feed(Input::ReconnectRequested)), [], "it is under way already");
}

#[test]
fn a_reconnect_request_replaces_an_open_connection_and_blames_no_message() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    for _ in 0..10 {
        assert_eq!(deeds(rig.feed(Input::ReconnectRequested)), [Action::Close { code: 1000 }, token()]);
        assert_eq!(deeds(rig.finish_connecting()), [send(1)]);
        rig.sent(1);
    }
}

#[test]
fn a_backoff_is_over_only_when_a_connection_has_lived_for_30_seconds() {
    let mut rig = Rig::open();
    for _ in 0..8 {
        rig.drop_connection();
        rig.reconnect();
        rig.wait(secs(10));
    }
    assert_eq!(rig.session.status().attempts, 9);
    for _ in 0..3 {
        rig.feed(Input::Heard);
        rig.wait(secs(10));
    }
    rig.feed(Input::TimePassed);
    assert_eq!(rig.session.status().attempts, 0);
    rig.drop_connection();
    assert!(rig.backoff() <= Duration::from_millis(500));
}

#[test]
fn close_codes_decide_how_soon() {
    for (code, at_least, at_most) in [
        (1005, Duration::ZERO, Duration::from_millis(500)),
        (1006, Duration::ZERO, Duration::from_millis(500)),
        (1001, Duration::ZERO, Duration::from_millis(500)),
        (1002, Duration::ZERO, Duration::from_millis(500)),
        (1011, secs(1), secs(30)),
        (1013, secs(1), secs(30)),
        (1008, secs(60), secs(300)),
    ] {
        let mut rig = Rig::open();
        rig.close(code);
        let backoff = rig.backoff();
        assert!(backoff >= at_least && backoff <= at_most, "{code}: {backoff:?}");
        assert!(rig.session.status().last_error.as_deref().unwrap().contains(&code.to_string()));
    }
}

#[test]
fn a_frame_too_large_costs_the_connection_and_backs_off() {
    let mut rig = Rig::open();
    rig.feed(Input::Closed(CloseCause::FrameTooLarge));
    assert!(rig.backoff() > Duration::ZERO);
    assert!(rig.session.status().last_error.as_deref().unwrap().contains("max_frame"));
}

// ---- Life.

#[test]
fn an_idle_socket_is_pinged_and_dead_when_nothing_answers() {
    let mut rig = Rig::open();
    rig.wait(secs(15));
    assert_eq!(rig.feed(Input::TimePassed), [Action::SendWsPing]);
    rig.wait(secs(9));
    assert_eq!(rig.feed(Input::TimePassed), []);
    rig.wait(secs(1));
    assert_eq!(deeds(rig.feed(Input::TimePassed)), [Action::Close { code: 1001 }]);
    assert!(rig.backoff() <= Duration::from_millis(500));
}

#[test]
fn any_traffic_is_life() {
    let mut rig = Rig::open();
    rig.wait(secs(15));
    rig.feed(Input::TimePassed);
    rig.wait(secs(9));
    rig.frame(r#"{"type":"pong"}"#);
    rig.wait(secs(9));
    assert_eq!(deeds(rig.feed(Input::TimePassed)), [Action::SendJsonPing { id: 1 }]);
    rig.wait(secs(6));
    assert!(rig.feed(Input::TimePassed).contains(&Action::SendWsPing));
}

#[test]
fn the_platforms_own_ping_goes_out_every_30_seconds_with_an_id_of_no_message() {
    let mut rig = Rig::open();
    let taken = QueuedMessage { id: ClientMessageId::new(2).unwrap(), ..message(1, Expectation::Ack, START) };
    rig.feed(Input::Message(QueuedMessage { expires_at: START.plus(TTL), ..taken }));
    let mut ids = Vec::new();
    for _ in 0..9 {
        rig.wait(secs(10));
        rig.feed(Input::Heard);
        for action in rig.feed(Input::TimePassed) {
            if let Action::SendJsonPing { id } = action {
                ids.push(id);
            }
        }
    }
    assert_eq!(ids, [1, 3, 4]);
}

#[test]
fn while_nobody_can_read_the_clocks_of_the_socket_stand_still() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    rig.wait(secs(5));
    rig.wait(secs(600));
    rig.feed(Input::Stalled(secs(600)));
    let due = deeds(rig.feed(Input::TimePassed));
    assert!(!due.contains(&Action::SendWsPing) && !due.contains(&send(1)), "{due:?}");
    assert_eq!(rig.session.status().state, ConnectionState::Connected);
}

// ---- Messages.

#[test]
fn one_message_at_a_time_in_order() {
    let mut rig = Rig::open();
    assert_eq!(rig.post(1), [send(1)]);
    assert_eq!(rig.post(2), []);
    assert_eq!(rig.sent(1), [mark(1)]);
    assert_eq!(rig.ack(1), [finished(1, Verdict::Acked(ack(1))), send(2)]);
    assert_eq!(rig.sent(2), [mark(2)]);
    assert_eq!(rig.ack(2), [finished(2, Verdict::Acked(ack(2)))]);
}

#[test]
fn as_many_in_flight_as_allowed() {
    let mut rig = Rig::open_with(|settings, _| settings.in_flight = 2);
    assert_eq!(rig.post(1), [send(1)]);
    assert_eq!(rig.sent(1), [mark(1)]);
    assert_eq!(rig.post(2), [send(2)]);
    assert_eq!(rig.post(3), []);
    assert_eq!(rig.sent(2), [mark(2)]);
    assert_eq!(rig.ack(2), [finished(2, Verdict::Acked(ack(2))), send(3)]);
    rig.sent(3);
    // After a drop, in order again.
    rig.close(1006);
    let resent = [rig.reconnect(), rig.sent(1)].concat();
    assert_eq!(
        deeds(resent),
        [send(1), mark(1)],
        "one at a time after a drop that a message may have caused"
    );
    assert_eq!(rig.ack(1), [finished(1, Verdict::Acked(ack(1))), send(3)]);
}

#[test]
fn what_waits_at_the_start_is_sent_first_and_in_order() {
    let mut rig = Rig::open_with(|_, beginnings| {
        beginnings.pending = (1..=2).map(|n| message(n, Expectation::Ack, START.plus(TTL))).collect();
    });
    assert_eq!(rig.post(3), []);
    rig.sent(1);
    assert_eq!(rig.ack(1).last(), Some(&send(2)));
}

#[test]
fn a_message_that_is_told_of_twice_is_sent_once() {
    let mut rig = Rig::open_with(|_, beginnings| {
        beginnings.pending = vec![message(1, Expectation::Ack, START.plus(TTL))];
    });
    assert_eq!(rig.post(1), []);
    rig.sent(1);
    assert_eq!(rig.ack(1), [finished(1, Verdict::Acked(ack(1)))]);
}

#[test]
fn acks_that_name_nothing_awaited_are_ignored() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    rig.post(2);
    for ignored in [
        r#"{"type":"ack","ok":true}"#,
        r#"{"type":"ack","ok":true,"replyto":1002}"#,
        r#"{"type":"ack","ok":true,"replyto":"x"}"#,
        r#"{"type":"ack","ok":false,"replyto":1}"#,
        r#"{"type":"pong","replyto":1001}"#,
    ] {
        assert_eq!(rig.frame(ignored), [], "{ignored}");
    }
    assert_eq!(rig.frame(r#"{"type":"ok","replyto":"1001"}"#).len(), 2, "no word on ok counts as ok");
}

#[test]
fn a_negative_ack_rejects() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    let nack = r#"{"type":"ack","ok":false,"replyto":1001,"message":"no"}"#;
    let verdict = Verdict::Rejected(FinalReason::RefusedByPlatform, Some(nack.into()));
    assert_eq!(rig.frame(nack), [finished(1, verdict)]);
}

#[test]
fn without_an_ack_it_is_sent_again_and_then_given_up() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.post(2);
    for attempt in 1..=3 {
        assert_eq!(rig.sent(1), [mark(1)], "{attempt}");
        rig.wait(secs(10));
        rig.feed(Input::Heard);
        let due = deeds(rig.feed(Input::TimePassed));
        if attempt < 3 {
            assert_eq!(due.last(), Some(&send(1)));
        } else {
            assert!(due.contains(&finished(1, Verdict::Expired(FinalReason::NoAck))));
            assert_eq!(due.last(), Some(&send(2)));
        }
    }
}

#[test]
fn an_ack_after_a_resend_counts_and_one_from_before_a_reconnect_too() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    rig.wait(secs(10));
    assert!(rig.feed(Input::TimePassed).contains(&send(1)));
    rig.sent(1);
    rig.drop_connection();
    // It is being written when the old ack comes.
    assert_eq!(deeds(rig.reconnect()), [send(1)]);
    assert_eq!(rig.ack(1), [finished(1, Verdict::Acked(ack(1)))]);
    assert_eq!(rig.sent(1), []);
    assert_eq!(rig.session.outbox.len(), 0);
}

#[test]
fn sends_that_a_disconnect_cut_off_are_not_attempts_but_five_of_them_are_enough() {
    let mut rig = Rig::open_with(|settings, _| settings.max_attempts = 1);
    rig.post(1);
    for _ in 1..=4 {
        rig.sent(1);
        let dropped = deeds(rig.drop_connection());
        assert_eq!(dropped, []);
        assert_eq!(deeds(rig.reconnect()), [send(1)]);
    }
    rig.sent(1);
    assert_eq!(deeds(rig.drop_connection()), [finished(1, Verdict::Expired(FinalReason::NoAck))]);
}

#[test]
fn a_write_that_broke_may_have_arrived() {
    let mut rig = Rig::open();
    rig.post(1);
    assert_eq!(deeds(rig.drop_connection()), [mark(1)]);
    assert_eq!(deeds(rig.reconnect()), [send(1)]);
}

#[test]
fn a_message_that_is_too_large_is_never_sent_again_and_the_next_goes_on() {
    let mut rig = Rig::open_with(|settings, _| settings.in_flight = 2);
    rig.post(1);
    rig.sent(1);
    rig.post(2);
    rig.sent(2);
    let closed = deeds(rig.close(1009));
    assert_eq!(closed, [finished(2, Verdict::Rejected(FinalReason::TooLarge, None))], "the last sent");
    assert_eq!(deeds(rig.reconnect()), [send(1)]);
}

#[test]
fn a_1009_after_the_ack_blames_nobody() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    rig.ack(1);
    assert_eq!(deeds(rig.close(1009)), []);
}

#[test]
fn a_1007_drops_the_message_that_caused_it() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    assert_eq!(
        deeds(rig.close(1007)),
        [finished(1, Verdict::Rejected(FinalReason::RefusedByPlatform, None))]
    );
}

#[test]
fn a_message_too_large_to_write_ends_and_an_unreadable_one_is_tried_as_often_as_any() {
    let mut rig = Rig::open();
    rig.post(1);
    let too_large = rig.feed(Input::NotSent(MessageNumber(1), NotSent::TooLarge));
    assert_eq!(too_large, [finished(1, Verdict::Rejected(FinalReason::TooLarge, None))]);
    rig.post(2);
    for attempt in 1..=3 {
        assert_eq!(rig.feed(Input::NotSent(MessageNumber(2), NotSent::Unreadable)), [], "{attempt}");
        rig.wait(secs(10));
        rig.feed(Input::Heard);
        let due = deeds(rig.feed(Input::TimePassed));
        let expected = match attempt {
            3 => finished(2, Verdict::Expired(FinalReason::NoAck)),
            _ => send(2),
        };
        assert!(due.contains(&expected), "{due:?}");
    }
}

#[test]
fn time_to_live_ends_a_message_wherever_it_is() {
    let expired = |number| finished(number, Verdict::Expired(FinalReason::Ttl));
    // Disconnected.
    let mut rig = Rig::new();
    rig.feed(Input::Start);
    rig.post(1);
    rig.wait(TTL);
    assert_eq!(rig.feed(Input::TimePassed), [expired(1)]);
    // In flight, and behind it.
    let mut rig = Rig::open_with(|settings, _| settings.ack_timeout = secs(5000));
    rig.post(1);
    rig.sent(1);
    rig.post(2);
    rig.wait(TTL);
    rig.feed(Input::Heard);
    let due = deeds(rig.feed(Input::TimePassed));
    assert!(due.contains(&expired(1)) && due.contains(&expired(2)), "{due:?}");
    assert!(!due.contains(&send(2)));
    // At the start.
    let mut rig = Rig::with(|_, beginnings| beginnings.pending = vec![message(1, Expectation::Ack, START)]);
    assert_eq!(rig.feed(Input::Start)[0], expired(1));
}

#[test]
fn a_wall_clock_that_jumps_ahead_expires_messages_within_seconds() {
    let mut rig = Rig::new();
    rig.feed(Input::Start);
    rig.post(1);
    rig.now.wall = rig.now.wall.plus(TTL);
    assert!(rig.session.deadline().unwrap() - rig.now.mono <= secs(10));
    assert_eq!(rig.tick(), [finished(1, Verdict::Expired(FinalReason::Ttl))]);
}

#[test]
fn what_is_not_acked_is_sent_once_in_order() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    assert_eq!(rig.post_unacked(2), [], "not before the message that was accepted before it");
    assert_eq!(rig.post(3), []);
    assert_eq!(rig.ack(1), [finished(1, Verdict::Acked(ack(1))), send(2)]);
    assert_eq!(rig.sent(2), [finished(2, Verdict::Sent), send(3)]);
    rig.sent(3);
    assert_eq!(rig.frame(r#"{"type":"ack","ok":true,"replyto":1002}"#), []);
}

#[test]
fn what_is_sent_once_ends_with_the_connection() {
    let gone = |number| finished(number, Verdict::Expired(FinalReason::Disconnected));
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    rig.post_unacked(2);
    assert_eq!(deeds(rig.drop_connection()), [gone(2)]);
    assert_eq!(rig.post_unacked(3), [gone(3)], "while not connected");
    let mut rig = Rig::with(|_, beginnings| {
        beginnings.pending = vec![message(4, Expectation::Nothing, START.plus(TTL))];
    });
    assert_eq!(rig.feed(Input::Start)[0], gone(4), "from before a restart");
}

#[test]
fn the_users_rate_is_kept() {
    let mut rig = Rig::open_with(|settings, _| {
        settings.message_rate = Some(Rate { count: 2, per: secs(1) });
    });
    for number in 1..=3 {
        rig.post(number);
    }
    rig.sent(1);
    rig.ack(1);
    rig.sent(2);
    assert_eq!(rig.ack(2), [finished(2, Verdict::Acked(ack(2)))]);
    let before = rig.now.mono;
    assert_eq!(rig.tick(), [send(3)]);
    assert_eq!(rig.now.mono - before, Duration::from_millis(500));
}

// ---- Events.

#[test]
fn an_event_answers_the_latest_message_that_was_sent_before_it() {
    let event = |in_reply_to: Option<u64>, answer| Action::StoreEvent {
        in_reply_to: in_reply_to.map(|id| ClientMessageId::new(id).unwrap()),
        answer,
    };
    let mut rig = Rig::open_with(|settings, _| settings.in_flight = 2);
    assert_eq!(rig.frame(r#"{"type":"bot_response"}"#), [event(None, Answer::Yes)], "a push");
    rig.post(1);
    rig.sent(1);
    rig.post(2);
    assert_eq!(rig.frame(r#"{"type":"Bot_Response"}"#), [event(Some(1001), Answer::Yes)]);
    rig.sent(2);
    assert_eq!(rig.frame(r#"{"type":"events"}"#), [event(Some(1002), Answer::No)]);
    assert_eq!(rig.frame(r#"{"type":"user_message","id":5}"#), [event(None, Answer::No)]);
    for reply in ["ack", "pong", "hello", "ready", "ok"] {
        assert_eq!(rig.frame(&format!(r#"{{"type":"{reply}"}}"#)), [], "{reply}");
    }
    // Sending an earlier one again doesn't make it the latest.
    rig.wait(secs(10));
    assert!(rig.feed(Input::TimePassed).contains(&send(1)));
    rig.sent(1);
    assert_eq!(rig.frame("{}"), [event(Some(1002), Answer::No)]);
}

#[test]
fn the_latest_message_is_known_across_a_restart() {
    let id = ClientMessageId::new(77).unwrap();
    let mut rig = Rig::open_with(|_, beginnings| beginnings.last_sent = Some(id));
    assert_eq!(
        rig.frame(r#"{"type":"bot_response"}"#),
        [Action::StoreEvent { in_reply_to: Some(id), answer: Answer::Yes }]
    );
}

// ---- The end.

#[test]
fn a_stopped_session_says_goodbye_and_nothing_more() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    rig.post(2);
    assert_eq!(rig.feed(Input::Stop), [Action::Close { code: 1001 }]);
    assert_eq!(rig.ack(1), []);
    assert_eq!(rig.post(3), []);
    assert_eq!(rig.feed(Input::ReconnectRequested), []);
    assert_eq!(rig.session.deadline(), None);
}

#[test]
fn an_url_does_not_show_itself() {
    assert!(!format!("{:?}", url("top-secret")).contains("top-secret"));
}
