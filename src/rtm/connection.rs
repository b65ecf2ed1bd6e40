//! Drives one user's session: carries out its actions on a socket, on the platform's endpoints and
//! in the daemon's other rooms, and tells it what happened.
//!
//! One task per user. It waits for whatever comes first: the request under way, the socket, a
//! command, the session's deadline, an event that became durable, the stop. Everything it does in
//! between is done in order, so the session sees one thing after the other.

mod recovering;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use recovering::Recovery;

use super::{
    confirmations::{Confirmation, Confirmations},
    counters::RtmCounters,
    failure::{Failure, FailureKind},
    frame::{FrameClass, FrameHead},
    outgoing,
    pace::Pace,
    platform::Platform,
    recovery::{self, fetch::Fetched},
    rooms::Rooms,
    session::{Action, Answer, CloseCause, Input, NotSent, Session, SocketUrl},
    socket::{Socket, SocketLimits, WriteError, close_frame_cause},
};
use crate::{
    clock::{Now, Timestamp},
    config::{self, Bot, ReconnectQuery, Secret},
    events::{Received, Reception, Report, Source},
    messages::{BotInfo, ClientMessageId, MessageContent, MessageNumber, Verdict},
    store::{ConnectHistory, StoreError},
    users::{Command, ConnectionState, User, UserStatus},
};

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared<R> {
    pub(super) platform: Arc<Platform>,
    pub(super) rooms: R,
    pub(super) counters: Arc<RtmCounters>,
    pub(super) limits: SocketLimits,
    pub(super) history: config::History,
    pub(super) delivery_acks: DeliveryAcks,
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
    /// The JWT's `sub`.
    pub(super) subject: String,
    pub(super) pace: Arc<Pace>,
}

/// See the [module](self).
pub(super) struct Connection<R> {
    shared: Arc<Shared<R>>,
    who: Identity,
    session: Session,
    stop: CancellationToken,
    socket: Option<Socket>,
    /// The request under way. Boxed, so that a task that waits for frames is small.
    request: Option<Pin<Box<dyn Future<Output = Reply> + Send>>>,
    /// The history that is being read.
    fetch: Option<Pin<Box<dyn Future<Output = Fetched> + Send>>>,
    /// What waits for it, while a recovery is under way.
    recovery: Option<Box<Recovery>>,
    confirmations: Confirmations,
}

/// How a request ended.
enum Reply {
    Told(Input<'static>),
    Opened(Socket),
    NotOpened(Failure),
}

/// What the task woke for.
enum Wake {
    Stop,
    Reply(Reply),
    History(Fetched),
    Socket(Result<Message, CloseCause>),
    Command(Command),
    Confirm(String),
    Deadline,
}

/// A frame that is being handled.
struct Incoming<'a> {
    bytes: &'a Bytes,
    head: &'a FrameHead<'a>,
    at: Timestamp,
}

/// How long to wait before an event is offered again to a store that can't take it.
const STORE_PAUSE: Duration = Duration::from_millis(500);
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
            shared,
            who,
            session,
            stop,
            socket: None,
            request: None,
            fetch: None,
            recovery: None,
            confirmations: Confirmations::default(),
        }
    }

    /// Runs until it is stopped.
    pub(super) async fn run(mut self) {
        self.tell(Input::Start, None).await;
        loop {
            match self.wake().await {
                Wake::Stop => break,
                Wake::Reply(reply) => self.replied(reply).await,
                Wake::History(fetched) => self.history_read(fetched).await,
                Wake::Socket(read) => self.read(read).await,
                Wake::Command(Command::Send(message)) => self.tell(Input::Message(message), None).await,
                Wake::Command(Command::Reconnect) => self.tell(Input::ReconnectRequested, None).await,
                Wake::Confirm(frame) => self.confirm(frame).await,
                Wake::Deadline => self.deadline().await,
            }
        }
        self.request = None;
        self.tell(Input::Stop, None).await;
    }

    async fn wake(&mut self) -> Wake {
        let deadline = self.session.deadline();
        let (read_on, began) = (self.reads_on(), Instant::now());
        let wake = tokio::select! {
            () = self.stop.cancelled() => Wake::Stop,
            reply = async { self.request.as_mut().expect("checked by the branch").await }, if self.request.is_some() => {
                self.request = None;
                Wake::Reply(reply)
            }
            fetched = async { self.fetch.as_mut().expect("checked by the branch").await }, if self.fetch.is_some() => {
                self.fetch = None;
                Wake::History(fetched)
            }
            read = async { self.socket.as_mut().expect("checked by the branch").read().await }, if read_on && self.socket.is_some() => {
                Wake::Socket(read)
            }
            command = self.who.user.mailbox.take() => Wake::Command(command),
            frame = self.confirmations.next() => Wake::Confirm(frame),
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => Wake::Deadline,
        };
        if !read_on {
            self.tell(Input::Stalled(began.elapsed()), None).await;
        }
        wake
    }

    /// The deadline is reached. After a pause of the whole process (a busy machine, a suspended
    /// one), what came meanwhile lies in the socket: it is read first, or every connection would be
    /// taken for dead at once.
    async fn deadline(&mut self) {
        for _ in 0..MOST_READ_FIRST {
            if !self.reads_on() {
                break;
            }
            let Some(read) = self.socket.as_mut().and_then(|socket| socket.read().now_or_never()) else {
                break;
            };
            self.read(read).await;
        }
        self.tell(Input::TimePassed, None).await;
    }

    /// Whether there is room for what would be read.
    fn reads_on(&self) -> bool {
        !self.confirmations.is_full() && self.recovery.as_ref().is_none_or(|recovery| !recovery.is_full())
    }

    // ---- Telling the session, and doing what it says.

    /// Tells the session and does what it says, and so on with what comes of that.
    async fn tell(&mut self, input: Input<'_>, incoming: Option<&Incoming<'_>>) {
        let mut actions = Vec::new();
        let mut outcomes = Vec::new();
        self.session.handle(Now::read(), input, &mut actions);
        loop {
            for action in actions.drain(..) {
                if let Some(outcome) = self.carry_out(action, incoming).await {
                    outcomes.push(outcome);
                }
            }
            if outcomes.is_empty() {
                return;
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
            Action::Open { url, query, by } => self.open(&url, query, by),
            Action::Send { number, id } => return self.send(number, id).await,
            Action::SendWsPing => return self.write(Message::Ping(Bytes::new())).await,
            Action::SendJsonPing { id } => {
                return self.write(Message::text(outgoing::ping(id, &self.who.bot))).await;
            }
            Action::Close { code } => self.close(code).await,
            Action::MarkSent { number } => self.shared.rooms.sent(user, number, Timestamp::now()),
            Action::Finished { number, verdict } => return self.finish(number, verdict).await,
            Action::StoreEvent { in_reply_to, answer } => {
                return self.store_event(incoming?, in_reply_to, answer).await;
            }
            Action::HoldEvent { in_reply_to, answer } => self.hold(incoming?, in_reply_to, answer),
            Action::FetchHistory(plan) => self.fetch_history(plan),
            Action::StopFetching => self.fetch = None,
            Action::Release => return Some(Box::pin(self.release()).await),
            Action::Remember => drop(self.shared.rooms.save_user(user, self.session.memory())),
            Action::StatusChanged(status) => return self.set_status(status).await,
        }
        None
    }

    async fn finish(&mut self, number: MessageNumber, verdict: Verdict) -> Option<Input<'static>> {
        let began = Instant::now();
        let ended = self.shared.rooms.message_ended(&self.who.user, number, Timestamp::now(), verdict);
        if unless_stopped(&self.stop, ended).await.is_none() {
            tracing::warn!(user = %self.who.user.name, number = number.0, "a message's end was not stored; it is queued again at the next start");
        }
        stalled_since(began)
    }

    async fn set_status(&mut self, status: UserStatus) -> Option<Input<'static>> {
        let before = self.who.user.set_status(status.clone());
        if before.state == status.state {
            return None;
        }
        self.log_state(&status);
        let began = Instant::now();
        let announced = self.shared.rooms.announce(&self.who.user, Report::Connection(status));
        if let None | Some(Err(_)) = unless_stopped(&self.stop, announced).await {
            tracing::warn!(user = %self.who.user.name, "the connection's new state could not be stored as an event");
        }
        stalled_since(began)
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
                tracing::error!(%user, %bot, ?state, cause, "the platform refuses the credentials; trying again slowly");
            }
        }
    }

    // ---- Connecting.

    fn request_token(&mut self) {
        let (shared, who) = (self.shared.clone(), self.who.clone());
        self.request = Some(Box::pin(async move {
            who.pace.wait().await;
            Reply::Told(match shared.platform.sign_in(&who.bot, &who.subject).await {
                Ok(grant) => Input::TokenGranted(grant),
                Err(failure) => Input::GrantFailed(noted(failure, &who, &shared.counters)),
            })
        }));
    }

    fn request_url(&mut self, token: Secret) {
        let (shared, who) = (self.shared.clone(), self.who.clone());
        self.request = Some(Box::pin(async move {
            who.pace.wait().await;
            Reply::Told(match shared.platform.start(&token, &who.bot).await {
                Ok((url, at)) => Input::UrlIssued { url, at },
                Err(failure) => Input::StartFailed(noted(failure, &who, &shared.counters)),
            })
        }));
    }

    fn open(&mut self, url: &SocketUrl, query: Option<ReconnectQuery>, by: Instant) {
        // A user's first connect is what the platform greets. That it was made is on disk before it is:
        // a crash right after it must not bring a second welcome.
        let announced = query.is_none().then(|| {
            let mut memory = self.session.memory().clone();
            memory.begin(self.platform_time(Timestamp::now()));
            self.shared.rooms.save_user(self.who.user.number, &memory)
        });
        let (shared, who, url) = (self.shared.clone(), self.who.clone(), url.with(query));
        self.request = Some(Box::pin(async move {
            if let Some(announced) = announced {
                // While the store can't be written this waits with it; one that fails ends the daemon.
                let _ = announced.await;
            }
            match Socket::open(&url, shared.platform.tls(), shared.limits, by).await {
                Ok(socket) => Reply::Opened(socket),
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
            Reply::Opened(socket) => {
                self.shared.counters.connects.opened.add_one();
                self.socket = Some(socket);
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
                tracing::error!(user = %user.name, clientMessageId = %id, "a message can't be sent: it is not UTF-8");
                return Some(Input::NotSent(number, NotSent::Unreadable));
            }
            Err(error) => {
                tracing::error!(user = %user.name, clientMessageId = %id, %error, "a message can't be read to be sent");
                return Some(Input::NotSent(number, NotSent::Unreadable));
            }
        };
        // Without a socket the session is about to be told so.
        match self.socket.as_mut()?.write(Message::Text(frame)).await {
            Ok(()) => Some(Input::Sent(number)),
            Err(WriteError::TooLarge) => Some(Input::NotSent(number, NotSent::TooLarge)),
            Err(WriteError::Closed(cause)) => Some(self.lost(cause)),
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
    async fn write(&mut self, message: Message) -> Option<Input<'static>> {
        match self.socket.as_mut()?.write(message).await {
            Ok(()) | Err(WriteError::TooLarge) => None,
            Err(WriteError::Closed(cause)) => Some(self.lost(cause)),
        }
    }

    /// Forgets a socket that is no good any more.
    fn lost(&mut self, cause: CloseCause) -> Input<'static> {
        self.socket = None;
        self.confirmations.forget();
        if cause == CloseCause::FrameTooLarge {
            self.shared.counters.frames_rejected.too_large.add_one();
        }
        Input::Closed(cause)
    }

    async fn close(&mut self, code: u16) {
        self.confirmations.forget();
        let Some(socket) = self.socket.take() else { return };
        let late = socket.close(code).await;
        // A store that is stuck must not hold the end up.
        if timeout(STORE_PAUSE, self.store_late(late)).await.is_err() {
            tracing::warn!(user = %self.who.user.name, "events that came behind a goodbye were not stored");
        }
    }

    /// What is read is stored, even behind a goodbye.
    async fn store_late(&mut self, late: Vec<Message>) {
        for frame in late.into_iter().filter_map(bytes_of) {
            let Ok(head) = FrameHead::parse(&frame) else { continue };
            if head.class() != FrameClass::Event {
                continue;
            }
            let (user, at) = (&self.who.user, Timestamp::now());
            let incoming = Incoming { bytes: &frame, head: &head, at };
            if self.recovery.is_some() {
                self.hold(&incoming, None, Answer::No);
                continue;
            }
            let received = self.received(&incoming, None);
            if let Err(error) = self.shared.rooms.receive(user, &head, received).await {
                tracing::warn!(user = %user.name, %error, "an event that came behind a goodbye was not stored");
            }
        }
    }

    // ---- Reading.

    async fn read(&mut self, read: Result<Message, CloseCause>) {
        match read {
            Ok(Message::Close(frame)) => {
                if let Some(socket) = &mut self.socket {
                    socket.answer_goodbye().await;
                }
                let lost = self.lost(close_frame_cause(frame));
                self.tell(lost, None).await;
            }
            Err(cause) => {
                let lost = self.lost(cause);
                self.tell(lost, None).await;
            }
            Ok(message) => match bytes_of(message) {
                Some(bytes) => self.frame(&bytes).await,
                None => self.tell(Input::Heard, None).await,
            },
        }
    }

    async fn frame(&mut self, bytes: &Bytes) {
        match FrameHead::parse(bytes) {
            Ok(head) => {
                let incoming = Incoming { bytes, head: &head, at: Timestamp::now() };
                let text = std::str::from_utf8(bytes).expect("it was parsed from UTF-8");
                self.tell(Input::Frame { head: &head, text }, Some(&incoming)).await;
            }
            Err(why) => {
                self.shared.counters.frames_rejected.add(why);
                tracing::warn!(user = %self.who.user.name, bytes = bytes.len(), %why, "skipped a frame");
                self.tell(Input::Heard, None).await;
            }
        }
    }

    /// Hands an event to the store. Until it is taken nothing more is read, which is what holds the
    /// platform back; the session is told how long that was.
    async fn store_event(
        &mut self,
        incoming: &Incoming<'_>,
        in_reply_to: Option<ClientMessageId>,
        answer: Answer,
    ) -> Option<Input<'static>> {
        let received = self.received(incoming, in_reply_to);
        let began = Instant::now();
        let taken = self.offer(incoming.head, received).await;
        if self.shared.delivery_acks == DeliveryAcks::Sent && answer == Answer::Yes {
            let frame = outgoing::delivery_ack(incoming.head, incoming.at);
            match taken {
                Some(Reception::Event { durable, .. }) => {
                    self.confirmations.push(Confirmation { durable: Some(durable), frame });
                }
                // It is in the store already, or about to be: confirmed again, as each frame is.
                Some(Reception::Repeat) => self.confirmations.push(Confirmation { durable: None, frame }),
                None => {}
            }
        }
        stalled_since(began)
    }

    /// A live event as it is handed over.
    fn received(&self, incoming: &Incoming<'_>, in_reply_to: Option<ClientMessageId>) -> Received {
        let said = recovery::said(incoming.head, incoming.bytes, self.platform_time(incoming.at));
        let frame = incoming.bytes.clone();
        Received { frame, at: incoming.at, in_reply_to, source: Source::Live, said }
    }

    /// The platform's time of a moment of ours.
    fn platform_time(&self, at: Timestamp) -> Timestamp {
        self.shared.platform.skew().unwrap_or_default().to_platform(at)
    }

    /// Offers an event until the store takes it, or it is clear that it never will: at the stop, or
    /// when the store can't read itself. Then the frame is not confirmed, and history has it.
    async fn offer(&mut self, head: &FrameHead<'_>, received: Received) -> Option<Reception> {
        let mut refused = false;
        loop {
            let user = &self.who.user;
            let taken = tokio::select! {
                biased;
                taken = self.shared.rooms.receive(user, head, received.clone()) => taken,
                () = self.stop.cancelled() => return None,
            };
            let error = match taken {
                // Known only because it was offered before? Then nobody can say that it is stored.
                Ok(Reception::Repeat) if refused => return None,
                Ok(reception) => return Some(reception),
                Err(error) => error,
            };
            if !refused {
                tracing::warn!(user = %user.name, %error, "an event can't be stored; nothing more is read until it is");
            }
            refused = true;
            if matches!(error, StoreError::Unreadable(_)) {
                return None;
            }
            tokio::select! {
                () = sleep(STORE_PAUSE) => {}
                () = self.stop.cancelled() => return None,
            }
        }
    }

    /// Confirms an event that is on stable storage now.
    async fn confirm(&mut self, frame: String) {
        if let Some(lost) = self.write(Message::text(frame)).await {
            self.tell(lost, None).await;
        }
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

/// Tells the session how long nobody could read its socket.
fn stalled_since(began: Instant) -> Option<Input<'static>> {
    let waited = began.elapsed();
    (waited > Duration::ZERO).then_some(Input::Stalled(waited))
}

/// Counts a failure, and passes what it says of everyone's pace on.
fn noted(failure: Failure, who: &Identity, counters: &RtmCounters) -> Failure {
    counters.connects.failed(&failure);
    if let (FailureKind::RateLimited, Some(told)) = (failure.kind, failure.retry_after) {
        who.pace.hold(told);
    }
    failure
}

/// The bytes of a frame, text or binary.
fn bytes_of(message: Message) -> Option<Bytes> {
    match message {
        Message::Text(text) => Some(text.into()),
        Message::Binary(bytes) => Some(bytes),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => None,
    }
}

#[cfg(test)]
mod tests;
