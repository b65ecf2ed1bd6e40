//! The session under random histories: sense and nonsense, drops, acks for anything, clocks that
//! jump. What must hold whatever happens is checked after each step by a model that knows less.

mod event;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use event::{Event, FRAMES, event};
use proptest::prelude::*;

use super::{
    tests::{CREDENTIALS, access, message, settings, url},
    *,
};
use crate::{
    clock::Timestamp,
    messages::{Expectation, MessageNumber, Verdict},
    rtm::{
        failure::{FailureKind, Step},
        token::Skew,
    },
    store::ConnectHistory,
};

/// What the last action asks for.
#[derive(Debug, Clone, PartialEq)]
enum Asked {
    Nothing,
    Token,
    Url,
    Open,
}

/// A socket beside the main one, and when it has to be that no more at the latest.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Beside {
    Successor { by: Instant },
    Predecessor { by: Instant },
}

/// Two sockets, of which the new one has taken over or not.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Overlap {
    Before,
    After,
}

/// A history that is being read.
#[derive(Debug, Clone, PartialEq)]
struct Fetching {
    holds_back: bool,
    asked: BTreeSet<MessageNumber>,
    until: Instant,
}

struct World {
    session: Session,
    now: Now,
    in_flight: usize,
    asked: Asked,
    open: bool,
    beside: Option<Beside>,
    overlap: Option<Overlap>,
    /// Where the frame came that is being handled.
    line: Line,
    writing: Option<MessageNumber>,
    posted: BTreeMap<MessageNumber, Expectation>,
    /// Sent on the open socket and not final.
    unacked: BTreeSet<MessageNumber>,
    first_sends: Vec<MessageNumber>,
    ever_sent: BTreeSet<MessageNumber>,
    finished: BTreeSet<MessageNumber>,
    fetching: Option<Fetching>,
    /// Live events that are held back.
    held: usize,
    /// What was held back was just stored.
    must_tell_released: bool,
    /// Messages that may be sent again: since their last send, the history was asked for them.
    looked_for: BTreeSet<MessageNumber>,
    /// The messages whose answers callers wait for.
    awaited: BTreeSet<MessageNumber>,
    /// When a message was acked, unless an answer to it came.
    unanswered: BTreeMap<MessageNumber, Instant>,
    answered: BTreeSet<MessageNumber>,
    /// An event was just stored: what it answers.
    must_tell_stored: Option<Option<ClientMessageId>>,
    with_agent: bool,
    sids: u64,
    used: BTreeSet<String>,
    issued: Instant,
    grants: u64,
    stopping: bool,
    stopped: bool,
}

impl World {
    fn new(seed: u64, in_flight: usize, pending: u64) -> Self {
        let now = Now { mono: Instant::now(), wall: Timestamp::from_millis(1_800_000_000_000) };
        let expires_at = now.wall.plus(Duration::from_secs(900));
        let beginnings = Beginnings {
            pending: (1..=pending).map(|n| message(n, Expectation::Ack, expires_at)).collect(),
            last_sent: None,
            unanswered_for: None,
            awaited: BTreeSet::new(),
            partner: Partner::Bot,
            memory: UserRecord::default(),
            credentials: CREDENTIALS,
            seed,
        };
        let posted = beginnings.pending.iter().map(|m| (m.number, m.expectation)).collect();
        // Short, so that there are many renewals.
        let settings = SessionSettings { in_flight, backoff_max: Duration::from_secs(4), ..settings() };
        Self {
            session: Session::new(Arc::new(settings), beginnings, now),
            now,
            in_flight,
            asked: Asked::Nothing,
            open: false,
            beside: None,
            overlap: None,
            line: Line::Main,
            writing: None,
            posted,
            unacked: BTreeSet::new(),
            first_sends: Vec::new(),
            ever_sent: BTreeSet::new(),
            finished: BTreeSet::new(),
            fetching: None,
            held: 0,
            must_tell_released: false,
            looked_for: BTreeSet::new(),
            awaited: BTreeSet::new(),
            unanswered: BTreeMap::new(),
            answered: BTreeSet::new(),
            must_tell_stored: None,
            with_agent: false,
            sids: 0,
            used: BTreeSet::new(),
            issued: now.mono,
            grants: 0,
            stopping: false,
            stopped: false,
        }
    }

    fn feed(&mut self, input: Input<'_>) {
        let mut out = Vec::new();
        let most = 2 * self.session.outbox.len() + 16;
        self.session.handle(self.now, input, &mut out);
        assert!(out.len() <= most, "{} actions at once", out.len());
        for action in out {
            self.carry_out(action);
        }
        if std::mem::take(&mut self.must_tell_released) {
            self.feed(Input::Released { seen: None, stalled: Duration::ZERO });
        }
        if let Some(answered) = self.must_tell_stored.take() {
            self.feed(Input::EventStored { answered, stalled: Duration::ZERO });
        }
        let waiting = self.posted.len() - self.finished.len();
        assert!(self.stopped || waiting == self.session.outbox.len(), "each message ends once or waits");
        let holds_back = self.fetching.as_ref().is_some_and(|fetching| fetching.holds_back);
        assert!(
            self.held == 0 || holds_back || self.overlap.is_some(),
            "what is held back waits for something"
        );
        if !self.open {
            assert_eq!((self.beside, self.overlap), (None, None), "nothing without a main socket");
            self.unacked.clear();
            self.writing = None;
        }
        let is_connected = self.session.status().state == ConnectionState::Connected;
        assert_eq!(is_connected, self.open, "a renewal changes no state");
    }

    /// Time passed, and the session knows it.
    fn tell_the_time(&mut self) {
        self.feed(Input::TimePassed);
        if let Some(Beside::Successor { by } | Beside::Predecessor { by }) = self.beside {
            assert!(by > self.now.mono, "two sockets for too long");
        }
    }

    /// Which is the old one of two sockets.
    fn is_old(&self, line: Line) -> bool {
        matches!(
            (self.overlap, line),
            (Some(Overlap::Before), Line::Main) | (Some(Overlap::After), Line::Beside)
        )
    }

    fn carry_out(&mut self, action: Action) {
        assert!(!self.stopped || matches!(action, Action::Finished { .. }), "{action:?} after the stop");
        match action {
            Action::RequestToken => self.ask(Asked::Token),
            Action::RequestUrl { .. } => self.ask(Asked::Url),
            Action::DropRequest => {
                assert!(self.asked != Asked::Nothing);
                self.asked = Asked::Nothing;
            }
            Action::Open { line, url, query, by } => {
                assert_eq!(line == Line::Beside, self.open);
                if line == Line::Beside {
                    assert_eq!(self.overlap.replace(Overlap::Before), None, "one renewal at a time");
                }
                let sid = url.url.query().unwrap().to_owned();
                assert!(self.used.insert(sid), "a URL is used once");
                assert!(self.now.mono < by && self.now.mono < self.issued + Duration::from_secs(25));
                let was_connected = self.session.memory().history == ConnectHistory::Before;
                assert_eq!(query.is_some(), was_connected);
                self.ask(Asked::Open);
            }
            Action::Send { number, .. } => self.send(number),
            Action::SendWsPing(Line::Beside) => assert!(self.beside.is_some()),
            Action::SendWsPing(Line::Main) | Action::SendJsonPing { .. } => assert!(self.open),
            Action::Close { .. } => {
                assert!(self.open);
                self.open = false;
            }
            Action::Promote { .. } => {
                assert!(matches!(self.beside, Some(Beside::Successor { .. })));
                assert_eq!(self.overlap.replace(Overlap::After), Some(Overlap::Before));
                let by = self.now.mono + Duration::from_secs(2);
                self.beside = self.open.then_some(Beside::Predecessor { by });
                self.open = true;
            }
            Action::LetGo { .. } => self.beside = None,
            Action::EndOverlap => {
                assert_eq!(self.beside, None, "what comes on two sockets is told apart to the end");
                self.overlap = None;
            }
            Action::MarkSent { number } => assert!(self.ever_sent.contains(&number)),
            Action::Finished { number, verdict } => {
                assert!(self.posted.contains_key(&number));
                assert!(self.finished.insert(number), "{number:?} ended twice");
                self.unacked.remove(&number);
                if matches!(verdict, Verdict::Acked(_) | Verdict::Found) && !self.answered.contains(&number) {
                    self.unanswered.insert(number, self.now.mono);
                }
                if verdict == Verdict::Sent {
                    assert_eq!(self.posted[&number], Expectation::Nothing);
                    assert!(self.ever_sent.contains(&number));
                }
            }
            Action::StoreEvent { in_reply_to, answer } => {
                assert!(self.open);
                assert!(self.held == 0 || self.is_old(self.line), "events keep their order");
                let answered = in_reply_to.filter(|_| answer == Answer::Yes);
                if let Some(id) = answered {
                    let number = MessageNumber(id.get() - 1000);
                    self.answered.insert(number);
                    self.unanswered.remove(&number);
                }
                self.must_tell_stored = Some(answered);
            }
            Action::HoldEvent { .. } => {
                assert!(self.open);
                self.held += 1;
            }
            Action::FetchHistory(plan) => self.fetch(&plan),
            Action::StopFetching => assert!(self.fetching.take().is_some()),
            Action::Release => self.release(),
            Action::StatusChanged(status) => {
                let is_connected = status.state == ConnectionState::Connected;
                assert!(self.stopping || is_connected == self.open, "{status:?}");
            }
            Action::Remember => {}
        }
    }

    fn ask(&mut self, asked: Asked) {
        assert_eq!(self.asked, Asked::Nothing, "one request at a time");
        assert_eq!(self.beside, None, "a third socket");
        self.asked = asked;
    }

    fn fetch(&mut self, plan: &FetchPlan) {
        assert!(self.open, "there is no hurry without a socket");
        assert!(plan.until > self.now.mono || self.fetching.is_some());
        let holds_back = plan.purpose.seen().is_some();
        if let Some(before) = self.fetching.take() {
            assert!(holds_back && before.holds_back, "one at a time, but for a new gap");
            assert_eq!(before.until, plan.until, "nothing is held back longer because of that");
        }
        let asked = plan.look_up.iter().map(|id| MessageNumber(id.get() - 1000)).collect();
        self.fetching = Some(Fetching { holds_back, asked, until: plan.until });
    }

    /// As a connection does it: all of it is stored before anything else is told.
    fn release(&mut self) {
        let holds_back = self.fetching.as_ref().is_some_and(|fetching| fetching.holds_back);
        assert!(!holds_back, "not before the history was read");
        self.held = 0;
        self.must_tell_released = true;
    }

    fn read_history(&mut self, reading: Reading, found: u8) {
        let Some(fetching) = self.fetching.take() else { return };
        let found = fetching.asked.iter().enumerate().filter(|(n, _)| found & (1 << (n % 8)) != 0);
        let found: BTreeSet<_> = found.map(|(_, number)| *number).collect();
        match reading {
            Reading::Whole => self.looked_for.extend(fetching.asked),
            // Nobody can say anything of any of them.
            Reading::Limited | Reading::Cut => self.looked_for.extend(&self.ever_sent),
        }
        self.feed(Input::HistoryRead(HistoryReply { found, reading, grant: None }));
    }

    fn send(&mut self, number: MessageNumber) {
        assert!(self.open, "a send without a socket");
        assert_eq!(self.beside, None, "a send while there are two");
        assert_eq!(self.writing, None, "one write at a time");
        assert!(!self.finished.contains(&number), "{number:?} was final");
        let is_first = self.ever_sent.insert(number);
        assert!(self.looked_for.remove(&number) || is_first, "{number:?} was not looked for");
        if is_first {
            self.first_sends.push(number);
            assert!(self.first_sends.is_sorted(), "first sends in order: {:?}", self.first_sends);
            self.check_turn(number);
        } else {
            assert_eq!(self.posted[&number], Expectation::Ack, "sent once means once");
        }
        self.unacked.insert(number);
        assert!(self.unacked.len() <= self.in_flight, "more in flight than allowed");
        if self.in_flight == 1 {
            let earliest = self.posted.keys().find(|number| !self.finished.contains(number));
            assert_eq!(earliest, Some(&number), "in strict order");
        }
        self.writing = Some(number);
    }

    /// Nobody's answer can be taken for another's, as far as the bot answers in time.
    fn check_turn(&self, number: MessageNumber) {
        let Some(first) = self.awaited.first() else { return };
        assert!(*first >= number, "{number:?} was sent while the answer to {first:?} is waited for");
        if *first > number {
            return;
        }
        let earlier = self.posted.range(..number).map(|(earlier, _)| earlier);
        assert!(
            earlier.copied().all(|earlier| self.finished.contains(&earlier)),
            "{number:?} was sent too soon"
        );
        let owed = self.unanswered.values().any(|acked| *acked + Duration::from_secs(2) > self.now.mono);
        assert!(!owed || self.with_agent, "{number:?} was sent while an answer was owed");
    }

    /// As a connection does it: a write is over before anything else is told.
    fn finish_writes(&mut self) {
        while let Some(number) = self.writing.take() {
            self.feed(Input::Sent(number));
        }
    }

    fn step(&mut self, event: &Event) {
        match event {
            Event::NotSent(why) => {
                if let Some(number) = self.writing.take() {
                    self.feed(Input::NotSent(number, *why));
                }
            }
            Event::Close(Line::Main, code) if self.open => {
                self.open = false;
                self.feed(Input::Closed(Line::Main, close_cause(*code)));
            }
            _ => {
                self.finish_writes();
                self.step_between_writes(event);
            }
        }
    }

    fn step_between_writes(&mut self, event: &Event) {
        match *event {
            Event::Succeed => self.succeed(),
            Event::Fail(kind, wait) => self.fail(kind, wait),
            Event::OutOfTurn(which) => self.out_of_turn(which),
            Event::Post(expectation, ttl) => {
                let number = self.posted.keys().last().map_or(1, |last| last.0 + 1);
                let message = message(number, expectation, self.now.wall.plus(Duration::from_secs(ttl)));
                self.posted.insert(message.number, expectation);
                self.feed(Input::Message(message));
            }
            Event::Ack(line, number, ok) => {
                let ok = ok.map_or(String::new(), |ok| format!(r#","ok":{ok}"#));
                self.frame(line, &format!(r#"{{"type":"ack"{ok},"replyto":{}}}"#, 1000 + number));
            }
            Event::Frame(line, which) => self.frame(line, FRAMES[which]),
            Event::Heard(line) => self.feed(Input::Heard(line)),
            Event::Close(Line::Beside, code) => {
                if self.beside.take().is_some() {
                    self.feed(Input::Closed(Line::Beside, close_cause(code)));
                }
            }
            Event::Close(Line::Main, _) => self.feed(Input::Closed(Line::Main, CloseCause::Dead)),
            Event::Stall(seconds) => {
                self.wait(Duration::from_secs(seconds));
                if let Some(Beside::Successor { by } | Beside::Predecessor { by }) = &mut self.beside {
                    *by += Duration::from_secs(seconds);
                }
                self.feed(Input::Stalled(Duration::from_secs(seconds)));
            }
            Event::Wait(millis) => {
                self.wait(Duration::from_millis(millis));
                if self.session.deadline().is_some_and(|due| due <= self.now.mono) {
                    self.tell_the_time();
                }
            }
            Event::UntilDue => self.until_due(),
            Event::History(reading, found) => self.read_history(reading, found),
            Event::TellTheTime => self.tell_the_time(),
            Event::WallJump(millis) => {
                let span = Duration::from_millis(millis.unsigned_abs());
                let wall = self.now.wall;
                self.now.wall = if millis < 0 { wall.minus(span) } else { wall.plus(span) };
            }
            Event::Reconnect => self.feed(Input::ReconnectRequested),
            Event::Await(back) => {
                let next = self.posted.keys().last().map_or(1, |last| last.0 + 1);
                let number = MessageNumber(next.saturating_sub(back).max(1));
                self.awaited.insert(number);
                self.feed(Input::TurnBegan(number));
            }
            Event::GiveUp(which) => {
                if let Some(number) = self.awaited.iter().nth(which).copied() {
                    self.give_up(number);
                }
            }
            Event::Reconfigure(others) => {
                let in_flight = self.in_flight;
                let settings =
                    SessionSettings { in_flight, backoff_max: Duration::from_secs(4), ..settings() };
                let credentials = if others { [9; 16] } else { CREDENTIALS };
                self.feed(Input::Reconfigured { settings: Arc::new(settings), credentials });
            }
            Event::NotSent(_) => {}
        }
    }

    fn give_up(&mut self, number: MessageNumber) {
        self.awaited.remove(&number);
        self.feed(Input::TurnEnded(number));
    }

    fn wait(&mut self, span: Duration) {
        self.now.mono += span;
        self.now.wall = self.now.wall.plus(span);
    }

    /// No busy loop: once the session was told, what it wants next is later.
    fn until_due(&mut self) {
        let Some(due) = self.session.deadline() else { return };
        self.wait(due.saturating_duration_since(self.now.mono));
        self.tell_the_time();
        self.finish_writes();
        if let Some(next) = self.session.deadline() {
            assert!(next > self.now.mono, "due again at once");
        }
    }

    fn succeed(&mut self) {
        match std::mem::replace(&mut self.asked, Asked::Nothing) {
            Asked::Nothing => {}
            Asked::Token => self.grant(),
            Asked::Url => self.issue(),
            Asked::Open => {
                if self.open {
                    let by = self.now.mono + Duration::from_secs(10);
                    self.beside = Some(Beside::Successor { by });
                }
                self.open = true;
                self.feed(Input::Opened(Skew::default()));
            }
        }
    }

    fn grant(&mut self) {
        self.grants += 1;
        let life = if self.grants.is_multiple_of(3) { 300 } else { 8 };
        let access = access(self.now.wall.plus(Duration::from_secs(life)));
        self.feed(Input::TokenGranted(Grant { access, platform_user_id: None }));
    }

    fn issue(&mut self) {
        self.sids += 1;
        // Some are old when they come.
        self.issued = self.now.mono;
        if self.sids.is_multiple_of(5) {
            self.wait(Duration::from_secs(26));
        }
        let issued = Input::UrlIssued { url: url(&self.sids.to_string()), at: self.issued };
        self.feed(issued);
    }

    fn fail(&mut self, kind: FailureKind, wait: Option<u64>) {
        let failure = |step| Failure::new(step, kind, "").retry_after(wait.map(Duration::from_secs));
        match std::mem::replace(&mut self.asked, Asked::Nothing) {
            Asked::Nothing => {}
            Asked::Token => self.feed(Input::GrantFailed(failure(Step::SignIn))),
            Asked::Url => self.feed(Input::StartFailed(failure(Step::Start))),
            Asked::Open => self.feed(Input::OpenFailed(failure(Step::Open))),
        }
    }

    fn out_of_turn(&mut self, which: u8) {
        let failure = || Failure::new(Step::Start, FailureKind::Network, "");
        match which % 6 {
            0 if self.asked != Asked::Token => self.grant(),
            1 if self.asked != Asked::Url => self.issue(),
            2 if self.asked != Asked::Open => self.feed(Input::Opened(Skew::default())),
            3 if self.asked != Asked::Token => self.feed(Input::GrantFailed(failure())),
            4 if self.asked != Asked::Url => self.feed(Input::StartFailed(failure())),
            5 => self.feed(Input::Sent(MessageNumber(u64::from(which)))),
            _ => self.feed(Input::Start),
        }
    }

    fn frame(&mut self, line: Line, text: &str) {
        if line == Line::Beside && self.beside.is_none() {
            return;
        }
        self.line = line;
        if self.open && text.contains("agent_session") {
            self.with_agent = text.contains("start");
            self.feed(Input::TalksTo(if self.with_agent { Partner::Agent } else { Partner::Bot }));
        }
        let head = FrameHead::parse(text.as_bytes()).unwrap();
        self.feed(Input::Frame { line, head: &head, text });
    }

    /// Whatever happened, a platform that works again gets everything out.
    fn make_peace(&mut self) {
        self.finish_writes();
        while let Some(number) = self.awaited.first().copied() {
            self.give_up(number);
            self.finish_writes();
        }
        for _ in 0..20_000 {
            if self.finished.len() == self.posted.len() {
                return;
            }
            self.finish_writes();
            if let Some(number) = self.unacked.first().copied() {
                self.step(&Event::Ack(Line::Main, number.0, Some(true)));
            } else if self.fetching.is_some() {
                self.read_history(Reading::Whole, 0);
            } else if self.asked != Asked::Nothing {
                self.succeed();
            } else {
                self.until_due();
            }
        }
        panic!("{:?} never ended", self.posted.keys().filter(|n| !self.finished.contains(n)));
    }
}

fn close_cause(code: u16) -> CloseCause {
    match code {
        1006 => CloseCause::Lost(String::new()),
        code => CloseCause::Code(code, String::new()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn what_must_hold_always_holds(
        seed: u64,
        in_flight in 1usize..4,
        pending in 0u64..4,
        events in proptest::collection::vec(event(), 1..150),
        peace: bool,
    ) {
        let mut world = World::new(seed, in_flight, pending);
        world.feed(Input::Start);
        for event in &events {
            world.step(event);
        }
        if peace {
            world.make_peace();
        }
        world.finish_writes();
        world.stopping = true;
        world.feed(Input::Stop);
        // Nobody waits for the answer any more.
        world.asked = Asked::Nothing;
        prop_assert_eq!((world.open, world.beside), (false, None), "the sockets are closed");
        prop_assert_eq!((world.held, world.fetching.take()), (0, None));
        world.stopped = true;
        for event in &events {
            world.step(event);
        }
        prop_assert_eq!(world.session.deadline(), None);
    }
}
