//! Drives one user's session: carries out its actions on a socket, on the platform's endpoints and
//! in the daemon's other rooms, and tells it what happened.
//!
//! One task per user. It waits for whatever comes first: the request under way, the socket, a
//! command, the session's deadline, an event that became durable, the stop. Everything it does in
//! between is done in order, so the session sees one thing after the other.
//!
//! While one socket replaces another, there are two, and both are read.

mod alarm;
mod holding;
mod lists;
mod overlap;
mod reading;
mod recovering;

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use alarm::Alarm;
use holding::Holding;
use lists::Lists;
use overlap::Overlap;
use reading::Incoming;

use super::{
    confirmations::Confirmations,
    counters::RtmCounters,
    failure::{Failure, FailureKind, Step},
    outgoing,
    pace::Pace,
    platform::Platform,
    recovery::fetch::Fetched,
    rooms::Rooms,
    session::{Action, CloseCause, Input, Line, NotSent, Session, SessionSettings, SocketUrl},
    socket::{Socket, SocketLimits, WriteError},
    subject::Subject,
};
use crate::{
    clock::{Now, Timestamp},
    config::{self, Bot, ReconnectQuery, Secret},
    events::{Partner, Report},
    messages::{BotInfo, ClientMessageId, MessageContent, MessageNumber, Verdict},
    names::BotName,
    store::{ConnectHistory, StoreError},
    users::{Command, ConnectionState, User, UserStatus},
};

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared<R> {
    pub(super) platform: Arc<Platform>,
    pub(super) rooms: R,
    pub(super) counters: Arc<RtmCounters>,
    /// What a reload replaces.
    pub(super) terms: RwLock<Arc<Terms>>,
}

/// What of the configuration connections go by.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) session: Arc<SessionSettings>,
    pub(super) limits: SocketLimits,
    pub(super) history: config::History,
    pub(super) delivery_acks: DeliveryAcks,
    pub(super) bots: BTreeMap<BotName, Arc<Bot>>,
}

impl<R> Shared<R> {
    /// The terms as they are now.
    pub(super) fn terms(&self) -> Arc<Terms> {
        self.terms.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// `platform.delivery_acks`: whether bot responses are confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeliveryAcks {
    Sent,
    NotSent,
}

/// Whose connection it is.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) user: Arc<User>,
    pub(super) bot: Arc<Bot>,
    pub(super) subject: Subject,
    pub(super) pace: Arc<Pace>,
}

/// See the [module](self).
pub(super) struct Connection<R> {
    shared: Arc<Shared<R>>,
    terms: Arc<Terms>,
    who: Identity,
    session: Session,
    stop: CancellationToken,
    /// The main socket.
    socket: Option<Socket>,
    /// The one beside it.
    beside: Option<Socket>,
    /// What came on which of the two, while copies are to be told from frames of their own.
    overlap: Option<Box<Overlap>>,
    /// The request under way. Boxed, so that a task that waits for frames is small.
    request: Option<Pin<Box<dyn Future<Output = Reply> + Send>>>,
    /// The history that is being read.
    fetch: Option<Pin<Box<dyn Future<Output = Box<Fetched>> + Send>>>,
    /// What waits for it, or for what an old socket still says.
    holding: Option<Box<Holding>>,
    confirmations: Confirmations,
    alarm: Alarm,
    /// Whom the user talks to since an event was stored, where the session was not told yet.
    partner: Option<Partner>,
    /// The states that were announced since the user was last connected.
    announced: Vec<ConnectionState>,
}

/// How a request ended.
enum Reply {
    Told(Input<'static>),
    Opened(Line, Socket),
    NotOpened(Failure),
}

/// What the task woke for.
enum Wake {
    Reply(Reply),
    History(Box<Fetched>),
    Socket(Line, Result<Message, CloseCause>),
    Command(Command),
    Confirm(String),
    Deadline,
}

/// How long to wait before an event is offered again to a store that can't take it.
const STORE_PAUSE: Duration = Duration::from_millis(500);
/// To read a socket so much later is nothing that a deadline, of seconds, has to know of.
const SHORTEST_STALL: Duration = Duration::from_millis(1);
/// So many messages are read before what is due is done.
const MOST_READ_FIRST: usize = 64;

impl<R: Rooms> Connection<R> {
    pub(super) fn new(
        shared: Arc<Shared<R>>,
        who: Identity,
        session: Session,
        stop: CancellationToken,
    ) -> Self {
        Self {
            terms: shared.terms(),
            shared,
            who,
            session,
            stop,
            socket: None,
            beside: None,
            overlap: None,
            request: None,
            fetch: None,
            holding: None,
            confirmations: Confirmations::default(),
            alarm: Alarm::default(),
            partner: None,
            announced: Vec::new(),
        }
    }

    /// Runs until it is stopped.
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` would hold the connection twice, for each user"
    )]
    pub(super) fn run(mut self) -> impl Future<Output = ()> + Send {
        async move {
            self.tell(Input::Start, None).await;
            // From here on only when the mailbox says so: that is one thing less to wait for.
            let mut stops = self.stop.is_cancelled();
            while !stops {
                match self.wake().await {
                    Wake::Reply(reply) => self.replied(reply).await,
                    Wake::History(fetched) => self.history_read(fetched).await,
                    Wake::Socket(line, read) => self.read(line, read).await,
                    Wake::Command(Command::Send(message)) => self.tell(Input::Message(message), None).await,
                    Wake::Command(Command::BeginTurn(number)) => {
                        self.tell(Input::TurnBegan(number), None).await;
                    }
                    Wake::Command(Command::EndTurn(number)) => {
                        self.tell(Input::TurnEnded(number), None).await;
                    }
                    Wake::Command(Command::Reconfigure) => self.reconfigure().await,
                    Wake::Command(Command::Stop) => stops = self.stop.is_cancelled(),
                    Wake::Command(Command::Reconnect) => self.tell(Input::ReconnectRequested, None).await,
                    Wake::Confirm(frame) => self.confirm(frame).await,
                    Wake::Deadline => self.deadline().await,
                }
            }
            self.request = None;
            self.tell(Input::Stop, None).await;
        }
    }

    async fn wake(&mut self) -> Wake {
        let deadline = self.session.deadline();
        let (main, beside) = (self.reads_on(Line::Main), self.reads_on(Line::Beside));
        let unread_since = (!main && !beside).then(Instant::now);
        let wake = tokio::select! {
            reply = async { self.request.as_mut().expect("checked by the branch").await }, if self.request.is_some() => {
                self.request = None;
                Wake::Reply(reply)
            }
            fetched = async { self.fetch.as_mut().expect("checked by the branch").await }, if self.fetch.is_some() => {
                self.fetch = None;
                Wake::History(fetched)
            }
            read = async { self.socket.as_mut().expect("checked by the branch").read().await }, if main && self.socket.is_some() => {
                Wake::Socket(Line::Main, read)
            }
            read = async { self.beside.as_mut().expect("checked by the branch").read().await }, if beside && self.beside.is_some() => {
                Wake::Socket(Line::Beside, read)
            }
            command = self.who.user.mailbox.take() => Wake::Command(command),
            frame = self.confirmations.next() => Wake::Confirm(frame),
            () = self.alarm.reached(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => Wake::Deadline,
        };
        if let Some(since) = unread_since {
            // Boxed, as it is rare, and would make every task that waits for a frame larger.
            Box::pin(self.tell(Input::Stalled(since.elapsed()), None)).await;
        }
        wake
    }

    /// The deadline is reached. After a pause of the whole process (a busy machine, a suspended
    /// one), what came meanwhile lies in the socket: it is read first, or every connection would be
    /// taken for dead at once.
    async fn deadline(&mut self) {
        for line in [Line::Main, Line::Beside] {
            for _ in 0..MOST_READ_FIRST {
                if !self.reads_on(line) {
                    break;
                }
                let Some(read) = self.on(line).as_mut().and_then(|socket| socket.read().now_or_never())
                else {
                    break;
                };
                self.read(line, read).await;
            }
        }
        self.tell(Input::TimePassed, None).await;
    }

    /// Whether there is room for what would be read.
    fn reads_on(&self, line: Line) -> bool {
        let is_held_enough = || self.holding.as_ref().is_some_and(|holding| holding.is_full());
        !(self.confirmations.is_full() || self.holds(line) && is_held_enough())
    }

    /// The socket of a line.
    fn on(&mut self, line: Line) -> &mut Option<Socket> {
        match line {
            Line::Main => &mut self.socket,
            Line::Beside => &mut self.beside,
        }
    }

    /// The configuration changed.
    async fn reconfigure(&mut self) {
        self.terms = self.shared.terms();
        // One that is gone took its users with it: this one is about to be stopped.
        let Some(bot) = self.terms.bots.get(&self.who.user.bot) else { return };
        self.who.bot = Arc::clone(bot);
        let credentials = self.shared.platform.credentials(&self.who.bot, &self.who.subject);
        let settings = Arc::clone(&self.terms.session);
        self.tell(Input::Reconfigured { settings, credentials }, None).await;
    }

    // ---- Telling the session, and doing what it says.

    /// Tells the session and does what it says, and so on with what comes of that.
    async fn tell(&mut self, input: Input<'_>, incoming: Option<&Incoming<'_>>) {
        let Lists { mut actions, mut outcomes } = Lists::take();
        self.session.handle(Now::read(), input, &mut actions);
        loop {
            for action in actions.drain(..) {
                if let Some(outcome) = self.carry_out(action, incoming).await {
                    outcomes.push(outcome);
                }
            }
            outcomes.extend(self.partner.take().map(Input::TalksTo));
            if outcomes.is_empty() {
                return Lists { actions, outcomes }.put_back();
            }
            for outcome in outcomes.drain(..) {
                self.session.handle(Now::read(), outcome, &mut actions);
            }
        }
    }

    async fn carry_out(&mut self, action: Action, incoming: Option<&Incoming<'_>>) -> Option<Input<'static>> {
        let user = self.who.user.number;
        match action {
            Action::RequestToken => self.request_token(),
            Action::RequestUrl { token } => self.request_url(token),
            Action::DropRequest => self.request = None,
            Action::Open { line, url, query, by } => self.open(line, url, query, by),
            Action::Send { number, id } => return self.send(number, id).await,
            Action::SendWsPing(line) => return self.write(line, Message::Ping(Bytes::new())).await,
            Action::SendJsonPing { id } => {
                return self.write(Line::Main, Message::text(outgoing::ping(id, &self.who.bot))).await;
            }
            Action::Close { code } => self.close(code).await,
            Action::Promote { code } => self.promote(code).await,
            Action::LetGo { by } => self.let_go(by).await,
            Action::EndOverlap => self.overlap = None,
            Action::MarkSent { number } => self.shared.rooms.sent(user, number, Timestamp::now()),
            Action::Finished { number, verdict } => return self.finish(number, verdict).await,
            Action::StoreEvent { .. } | Action::HoldEvent { .. } if self.is_copy(incoming?) => {}
            Action::StoreEvent { in_reply_to, answer } => {
                return self.store_event(incoming?, in_reply_to, answer).await;
            }
            Action::HoldEvent { in_reply_to, answer } => self.hold(incoming?, in_reply_to, answer),
            Action::FetchHistory(plan) => self.fetch_history(plan),
            Action::StopFetching => self.fetch = None,
            Action::Release => return Some(Box::pin(self.release()).await),
            Action::Remember => drop(self.shared.rooms.save_user(user, self.session.memory())),
            Action::StatusChanged(status) => return Box::pin(self.set_status(status)).await,
        }
        None
    }

    async fn finish(&mut self, number: MessageNumber, verdict: Verdict) -> Option<Input<'static>> {
        let began = Instant::now();
        let ended = self.shared.rooms.message_ended(&self.who.user, number, Timestamp::now(), verdict);
        if unless_stopped(&self.stop, ended).await.is_none() {
            tracing::warn!(user = %self.who.user.name, bot = %self.who.user.bot, number = number.0, "a message's end was not stored; it is queued again at the next start");
        }
        stalled_since(began)
    }

    async fn set_status(&mut self, status: UserStatus) -> Option<Input<'static>> {
        let before = self.who.user.set_status(status.clone());
        if before.state == status.state {
            self.log_trouble(&before, &status);
            return None;
        }
        self.log_state(&status);
        if !self.is_news(status.state) {
            return None;
        }
        let began = Instant::now();
        let announced = self.shared.rooms.announce(&self.who.user, Report::Connection(status));
        if let None | Some(Err(_)) = unless_stopped(&self.stop, announced).await {
            tracing::warn!(user = %self.who.user.name, bot = %self.who.user.bot, "the connection's new state could not be stored as an event");
        }
        stalled_since(began)
    }

    /// An outage goes to and fro between two states, at each try of each user: each is news once. And each
    /// event costs room, among the recent ones and in the journal.
    fn is_news(&mut self, state: ConnectionState) -> bool {
        if state == ConnectionState::Connected {
            self.announced = Vec::new();
            return true;
        }
        let is_new = !self.announced.contains(&state);
        if is_new {
            self.announced.push(state);
        }
        is_new
    }

    /// Something failed, and the state is what it was.
    fn log_trouble(&self, before: &UserStatus, status: &UserStatus) {
        let (user, bot) = (&self.who.user.name, &self.who.user.bot);
        if let Some(cause) = status.last_error.as_deref().filter(|_| before.last_error != status.last_error) {
            tracing::warn!(%user, %bot, state = ?status.state, cause, "trying again later");
        }
    }

    fn log_state(&self, status: &UserStatus) {
        let (user, bot) = (&self.who.user.name, &self.who.user.bot);
        let (state, attempts) = (status.state, status.attempts);
        let cause = status.last_error.as_deref().unwrap_or_default();
        match state {
            ConnectionState::Connecting => tracing::debug!(%user, %bot, ?state, attempts, "connecting"),
            ConnectionState::Connected => tracing::info!(%user, %bot, ?state, "connected"),
            ConnectionState::BackingOff => {
                tracing::warn!(%user, %bot, ?state, cause, "not connected; trying again later");
            }
            ConnectionState::Unauthorized => {
                tracing::error!(%user, %bot, ?state, cause, "the credentials are refused; trying again slowly");
            }
        }
    }

    // ---- Connecting.

    fn request_token(&mut self) {
        let (shared, who) = (self.shared.clone(), self.who.clone());
        self.request = Some(Box::pin(async move {
            let _turn = who.pace.wait().await;
            Reply::Told(match shared.platform.sign_in(&who.bot, &who.subject).await {
                Ok(grant) => Input::TokenGranted(grant),
                Err(failure) => Input::GrantFailed(noted(failure, &who, &shared.counters)),
            })
        }));
    }

    fn request_url(&mut self, token: Secret) {
        let (shared, who) = (self.shared.clone(), self.who.clone());
        self.request = Some(Box::pin(async move {
            let _turn = who.pace.wait().await;
            Reply::Told(match shared.platform.start(&token, &who.bot).await {
                Ok((url, at)) => Input::UrlIssued { url, at },
                Err(failure) => Input::StartFailed(noted(failure, &who, &shared.counters)),
            })
        }));
    }

    fn open(&mut self, line: Line, issued: SocketUrl, query: Option<ReconnectQuery>, by: Instant) {
        if line == Line::Beside {
            self.overlap = Some(Box::default());
        }
        // A user's first connect is what the platform greets. That it was made is on disk before it is:
        // a crash right after it must not bring a second welcome.
        let announced = query.is_none().then(|| {
            let mut memory = self.session.memory().clone();
            memory.begin(self.platform_time(Timestamp::now()));
            self.shared.rooms.save_user(self.who.user.number, &memory)
        });
        let (shared, who) = (self.shared.clone(), self.who.clone());
        let limits = self.terms.limits;
        self.request = Some(Box::pin(async move {
            if let Some(announced) = announced {
                // While the store can't be written this waits with it; one that fails ends the daemon.
                let _ = announced.await;
            }
            let opened = async {
                let offer = shared.platform.subprotocols(&issued, &who.bot, &who.subject).await?;
                Socket::open(&issued.with(query), offer, &shared.platform.tls(), limits, by).await
            };
            match opened.await {
                Ok(socket) => Reply::Opened(line, socket),
                Err(failure) => Reply::NotOpened(noted(failure, &who, &shared.counters)),
            }
        }));
    }

    async fn replied(&mut self, reply: Reply) {
        let input = match reply {
            Reply::Told(input) => input,
            Reply::NotOpened(failure) => {
                if self.session.memory().history == ConnectHistory::Never {
                    // It was not greeted: takes back what was announced.
                    drop(self.shared.rooms.save_user(self.who.user.number, self.session.memory()));
                }
                Input::OpenFailed(failure)
            }
            Reply::Opened(line, socket) => {
                self.shared.counters.connects.opened.add_one();
                *self.on(line) = Some(socket);
                Input::Opened(self.shared.platform.skew().unwrap_or_default())
            }
        };
        self.tell(input, None).await;
    }

    // ---- Writing.

    async fn send(&mut self, number: MessageNumber, id: ClientMessageId) -> Option<Input<'static>> {
        let content = self.content(number).await?;
        let user = &self.who.user;
        let bot = BotInfo { name: &self.who.bot.name, id: &self.who.bot.id };
        let frame = content.map(|content| Utf8Bytes::try_from(content.to_frame(id, bot)));
        let frame = match frame {
            Ok(Ok(frame)) => frame,
            Ok(Err(_)) => {
                tracing::error!(user = %user.name, bot = %user.bot, clientMessageId = %id, "a message can't be sent: it is not UTF-8");
                return Some(Input::NotSent(number, NotSent::Unreadable));
            }
            Err(error) => {
                tracing::error!(user = %user.name, bot = %user.bot, clientMessageId = %id, %error, "a message can't be read to be sent");
                return Some(Input::NotSent(number, NotSent::Unreadable));
            }
        };
        // Without a socket the session is about to be told so.
        match self.socket.as_mut()?.write(Message::Text(frame)).await {
            Ok(()) => Some(Input::Sent(number)),
            Err(WriteError::TooLarge) => Some(Input::NotSent(number, NotSent::TooLarge)),
            Err(WriteError::Closed(cause)) => Some(self.lost(Line::Main, cause)),
        }
    }

    /// What a message says. While the store can't be read, nothing goes on here; none at the stop.
    async fn content(&mut self, number: MessageNumber) -> Option<Result<MessageContent, StoreError>> {
        let began = Instant::now();
        loop {
            match self.shared.rooms.content(self.who.user.number, number) {
                Err(StoreError::Unavailable(_)) => {}
                content => {
                    let waited = began.elapsed();
                    if waited >= STORE_PAUSE {
                        // Nothing is to be done about it: only deadlines move.
                        self.session.handle(Now::read(), Input::Stalled(waited), &mut Vec::new());
                    }
                    return Some(content);
                }
            }
            tokio::select! {
                () = sleep(STORE_PAUSE) => {}
                () = self.stop.cancelled() => return None,
            }
        }
    }

    /// Writes what is no message; says what came of it if that matters.
    async fn write(&mut self, line: Line, message: Message) -> Option<Input<'static>> {
        match self.on(line).as_mut()?.write(message).await {
            Ok(()) | Err(WriteError::TooLarge) => None,
            Err(WriteError::Closed(cause)) => Some(self.lost(line, cause)),
        }
    }

    /// Forgets a socket that is no good any more.
    fn lost(&mut self, line: Line, cause: CloseCause) -> Input<'static> {
        *self.on(line) = None;
        if line == Line::Main {
            self.confirmations.forget();
        }
        if cause == CloseCause::FrameTooLarge {
            self.shared.counters.frames_rejected.too_large.add_one();
        }
        Input::Closed(line, cause)
    }

    async fn close(&mut self, code: u16) {
        self.confirmations.forget();
        let Some(socket) = self.socket.take() else { return };
        let late = socket.close(code).await;
        self.store_late(Line::Main, late).await;
    }

    // ---- Replacing one socket by another.

    /// The new socket takes over; the old one is told goodbye, and read on.
    async fn promote(&mut self, code: u16) {
        let old = std::mem::replace(&mut self.socket, self.beside.take());
        if let Some(overlap) = &mut self.overlap {
            overlap.promoted();
        }
        if let Some(mut old) = old {
            old.say_goodbye(code).await;
            self.beside = Some(old);
        }
        tracing::info!(user = %self.who.user.name, bot = %self.who.user.bot, "another socket took over");
    }

    async fn let_go(&mut self, by: Instant) {
        let Some(socket) = self.beside.take() else { return };
        let late = socket.rest(by).await;
        self.store_late(Line::Beside, late).await;
    }
}

/// Waits for the store, but not for ever once the connection is to stop.
async fn unless_stopped<T>(stop: &CancellationToken, stored: impl Future<Output = T>) -> Option<T> {
    let given_up = async {
        stop.cancelled().await;
        sleep(STORE_PAUSE).await;
    };
    tokio::select! {
        biased;
        stored = stored => Some(stored),
        () = given_up => None,
    }
}

/// Tells the session how long nobody could read its socket, if that was long enough to move a deadline.
fn stalled_since(began: Instant) -> Option<Input<'static>> {
    let waited = began.elapsed();
    (waited >= SHORTEST_STALL).then_some(Input::Stalled(waited))
}

/// Counts a failure, and passes what it says of everyone's pace on.
fn noted(failure: Failure, who: &Identity, counters: &RtmCounters) -> Failure {
    counters.connects.failed(&failure);
    // A token service speaks for itself: the platform may be asked.
    if let (FailureKind::RateLimited, Some(told)) = (failure.kind, failure.retry_after)
        && failure.step != Step::TokenService
    {
        who.pace.hold(told);
    }
    failure
}

#[cfg(test)]
mod tests;
