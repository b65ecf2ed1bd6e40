//! Connections over real sockets, against a small platform of the test's own and rooms that only
//! take notes.

use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::handshake::server::{Request, Response},
};

mod renewal;

use super::*;
use crate::{
    config,
    events::{Awaited, EventId, Received, Reception},
    messages::{Certainty, Expectation, MessageContent, OwnMessage, QueuedMessage, Verdict},
    metrics::Counter,
    names::{BotName, UserName},
    rtm::{
        frame::FrameHead,
        session::{Beginnings, SessionSettings},
        testing::{bot, platform_settings, read_request},
    },
    store::{ConnectHistory, Said, StoreError, UserNumber, UserRecord},
};

/// What the rooms were told.
#[derive(Debug)]
enum Note {
    Sent(u64),
    Finished(u64, Verdict),
    Offered,
    Received(Received),
    Saved(UserRecord),
    Announced(ConnectionState),
}

/// Rooms that take notes.
struct NoteTakers {
    notes: mpsc::UnboundedSender<Note>,
    /// A permit for each event that may be taken.
    room_for_events: Arc<Semaphore>,
    /// What makes the events durable, in order.
    durable: mpsc::UnboundedSender<oneshot::Sender<()>>,
    events: AtomicU32,
}

impl NoteTakers {
    fn note(&self, note: Note) {
        self.notes.send(note).expect("the test listens");
    }
}

impl Rooms for NoteTakers {
    fn content(&self, _: UserNumber, number: MessageNumber) -> Result<MessageContent, StoreError> {
        let fields = json!({"resourceid": "/bot.message", "message": {"body": format!("text {}", number.0)}});
        Ok(MessageContent { fields: fields.to_string().into(), bot_custom_data: None })
    }

    fn sent(&self, _: UserNumber, number: MessageNumber, _: Timestamp) {
        self.note(Note::Sent(number.0));
    }

    async fn message_ended(&self, _: &Arc<User>, number: MessageNumber, _: Timestamp, verdict: Verdict) {
        self.note(Note::Finished(number.0, verdict));
    }

    async fn announce(&self, _: &Arc<User>, report: Report) -> Result<(), StoreError> {
        let Report::Connection(status) = report else { panic!("a connection reports its state only") };
        self.note(Note::Announced(status.state));
        Ok(())
    }

    async fn receive(
        &self,
        _: &Arc<User>,
        _: &FrameHead<'_>,
        received: Received,
    ) -> Result<Reception, StoreError> {
        self.note(Note::Offered);
        self.room_for_events.acquire().await.expect("never closed").forget();
        let is_awaited = received.awaited == Awaited::Yes;
        self.note(Note::Received(received));
        let (now_durable, durable) = oneshot::channel();
        let durable = Some(durable).filter(|_| is_awaited);
        self.durable.send(now_durable).expect("the test listens");
        let number = u64::from(self.events.fetch_add(1, Ordering::Relaxed)) + 1;
        Ok(Reception::Event { id: EventId { store: 1, number }, durable, partner: None })
    }

    fn save_user(&self, _: UserNumber, record: &UserRecord) -> oneshot::Receiver<()> {
        self.note(Note::Saved(record.clone()));
        let (sender, durable) = oneshot::channel();
        sender.send(()).expect("its receiver is here");
        durable
    }

    fn settled(&self) -> oneshot::Receiver<()> {
        let (sender, durable) = oneshot::channel();
        sender.send(()).expect("its receiver is here");
        durable
    }

    fn told_by_history(&self, _: UserNumber, _: &str, _: &str) {}

    fn knows(&self, _: UserNumber, _: &str) -> bool {
        false
    }

    fn said(&self, _: UserNumber) -> Vec<Said> {
        Vec::new()
    }

    fn own(&self, _: UserNumber, _: ClientMessageId) -> Result<Option<OwnMessage>, StoreError> {
        Ok(None)
    }

    fn own_within(&self, _: UserNumber, _: Duration) -> Result<Vec<OwnMessage>, StoreError> {
        Ok(Vec::new())
    }
}

type ServerSocket = WebSocketStream<TcpStream>;

/// A platform that signs everyone in, and one user's connection to it.
struct World {
    sockets: mpsc::UnboundedReceiver<(String, ServerSocket)>,
    notes: mpsc::UnboundedReceiver<Note>,
    durable: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    room_for_events: Arc<Semaphore>,
    sign_ins: Arc<AtomicU32>,
    user: Arc<User>,
    counters: Arc<RtmCounters>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl World {
    async fn new() -> Self {
        Self::with(|_, _| {}).await
    }

    async fn with(change: impl FnOnce(&mut config::Platform, &mut SessionSettings)) -> Self {
        Self::with_tokens_of(Duration::from_secs(86_400), change).await
    }

    /// With tokens that live so long.
    async fn with_tokens_of(
        life: Duration,
        change: impl FnOnce(&mut config::Platform, &mut SessionSettings),
    ) -> Self {
        let (sign_ins, ws) = (Arc::new(AtomicU32::new(0)), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let url = serve_api(ws.local_addr().unwrap().to_string(), life, sign_ins.clone()).await;
        let sockets = accept_sockets(ws);
        let mut settings = platform_settings(&url);
        let mut session = session_settings();
        change(&mut settings, &mut session);
        let (notes_in, notes) = mpsc::unbounded_channel();
        let (durable_in, durable) = mpsc::unbounded_channel();
        let room_for_events = Arc::new(Semaphore::new(1000));
        let rooms = NoteTakers {
            notes: notes_in,
            room_for_events: room_for_events.clone(),
            durable: durable_in,
            events: AtomicU32::new(0),
        };
        let delivery_acks = if settings.delivery_acks { DeliveryAcks::Sent } else { DeliveryAcks::NotSent };
        let shared = Shared {
            platform: Arc::new(Platform::new(&settings).unwrap()),
            rooms,
            counters: Arc::default(),
            terms: RwLock::new(Arc::new(Terms {
                session: Arc::new(session),
                limits: SocketLimits {
                    max_frame: settings.max_frame,
                    write_buffer: 1 << 20,
                    connect_timeout: settings.connect_timeout,
                    write_timeout: settings.pong_timeout,
                },
                history: config::History::default(),
                delivery_acks,
                bots: [(BotName::new("support").unwrap(), Arc::new(bot()))].into(),
            })),
        };
        let user = Arc::new(User::new(
            UserName::new("alice").unwrap(),
            UserNumber(1),
            BotName::new("support").unwrap(),
            Timestamp::now(),
        ));
        let who = Identity {
            user: user.clone(),
            bot: Arc::new(bot()),
            subject: "alice@example.com".into(),
            pace: Arc::new(Pace::new(1000.0, 1000)),
        };
        let beginnings = Beginnings {
            pending: Vec::new(),
            last_sent: None,
            unanswered_for: None,
            awaited: std::collections::BTreeSet::new(),
            partner: crate::events::Partner::Bot,
            memory: UserRecord::default(),
            credentials: shared.platform.credentials(&bot(), &"alice@example.com".into()),
            seed: 1,
        };
        let counters = shared.counters.clone();
        let stop = CancellationToken::new();
        let session = Session::new(shared.terms().session.clone(), beginnings, Now::read());
        let connection = Connection::new(Arc::new(shared), who, session, stop.clone());
        let running = connection.run();
        assert!(size_of_val(&running) <= 3328, "an idle user is small: {} bytes", size_of_val(&running));
        let task = tokio::spawn(running);
        Self { sockets, notes, durable, room_for_events, sign_ins, user, counters, stop, task }
    }

    /// The next socket that the bridge opens, and the query it came with.
    async fn socket(&mut self) -> (String, ServerSocket) {
        soon(self.sockets.recv()).await.expect("a socket")
    }

    /// The next socket, once the bridge knows that it is open.
    async fn connected(&mut self) -> ServerSocket {
        let (_, mut socket) = self.socket().await;
        say(&mut socket, "{}").await;
        self.expect_event("{}").await;
        socket
    }

    /// The next note that is not of what is remembered, announced or just offered.
    async fn note(&mut self) -> Note {
        loop {
            match soon(self.notes.recv()).await.expect("a note") {
                Note::Saved(_) | Note::Announced(_) | Note::Offered => {}
                note => return note,
            }
        }
    }

    fn post(&self, number: u64) {
        self.user.mailbox.post(Command::Send(QueuedMessage {
            number: MessageNumber(number),
            id: ClientMessageId::new(1000 + number).unwrap(),
            expectation: Expectation::Ack,
            expires_at: Timestamp::now().plus(Duration::from_secs(900)),
            certainty: Certainty::None,
        }));
    }

    /// As the supervisor does it.
    fn stop(&self) {
        self.stop.cancel();
        self.user.mailbox.post(Command::Stop);
    }

    async fn expect_sent(&mut self, number: u64) {
        let note = self.note().await;
        assert!(matches!(note, Note::Sent(sent) if sent == number), "{note:?}");
    }

    async fn expect_event(&mut self, frame: &str) -> Received {
        match self.note().await {
            Note::Received(received) => {
                assert_eq!(received.frame, frame);
                received
            }
            other => panic!("{other:?}"),
        }
    }

    async fn make_durable(&mut self) {
        let _ = soon(self.durable.recv()).await.expect("an event").send(());
    }
}

/// Nothing here takes longer, unless it never comes.
async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(10), future).await.expect("nothing came")
}

fn session_settings() -> SessionSettings {
    SessionSettings {
        ping_interval: Duration::from_secs(15),
        pong_timeout: Duration::from_secs(10),
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(200),
        unauthorized_retry: Duration::from_secs(60),
        reconnect_query: ReconnectQuery::IsReconnect,
        ack_timeout: Duration::from_secs(10),
        max_attempts: 3,
        in_flight: 1,
        message_rate: None,
        recover: true,
        history_timeout: Duration::from_secs(10),
    }
}

/// jwtgrant, rtm/start, which points to the socket's address, and a history without records.
async fn serve_api(ws: String, life: Duration, sign_ins: Arc<AtomicU32>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut sid = 0;
        while let Ok((mut socket, _)) = listener.accept().await {
            let request = read_request(&mut socket).await;
            let body = if request.contains("/jwtgrant ") {
                sign_ins.fetch_add(1, Ordering::Relaxed);
                let expires = Timestamp::now().plus(life).to_string();
                json!({"authorization": {"accessToken": "tok", "expiresDate": expires}})
            } else if request.contains("/botmessages/rtm?") {
                json!({"total": 0, "moreAvailable": false, "messages": []})
            } else {
                sid += 1;
                json!({ "url": format!("ws://{ws}/rtm/bot?sid={sid}") })
            }
            .to_string();
            let length = body.len();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            let _ = socket.write_all(head.as_bytes()).await;
        }
    });
    url
}

fn accept_sockets(listener: TcpListener) -> mpsc::UnboundedReceiver<(String, ServerSocket)> {
    let (accepted, sockets) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut query = String::new();
            #[expect(clippy::result_large_err, reason = "the library's callback")]
            let note_query = |request: &Request, response: Response| {
                query = request.uri().query().unwrap_or_default().to_owned();
                Ok(response)
            };
            if let Ok(socket) = accept_hdr_async(stream, note_query).await {
                let _ = accepted.send((query, socket));
            }
        }
    });
    sockets
}

async fn say(socket: &mut ServerSocket, frame: &str) {
    socket.send(Message::text(frame)).await.unwrap();
}

async fn hear(socket: &mut ServerSocket) -> Value {
    loop {
        match soon(socket.next()).await.expect("a frame").unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn ack(socket: &mut ServerSocket, frame: &Value) {
    say(socket, &json!({"type": "ack", "ok": true, "replyto": frame["id"]}).to_string()).await;
}

const ANSWER: &str = r#"{"type":"bot_response", "messageId":"ms-1","timestamp":17,"key":"k"}"#;

#[tokio::test]
async fn a_conversation() {
    let mut world = World::new().await;
    let (query, mut socket) = world.socket().await;
    assert_eq!(query, "sid=1", "no word of a reconnect");
    world.post(1);
    let frame = hear(&mut socket).await;
    assert_eq!(frame["message"]["body"], "text 1");
    assert_eq!((&frame["id"], &frame["clientMessageId"]), (&json!(1001), &json!(1001)));
    world.expect_sent(1).await;
    ack(&mut socket, &frame).await;
    assert!(matches!(world.note().await, Note::Finished(1, Verdict::Acked(_))));
    say(&mut socket, ANSWER).await;
    let received = world.expect_event(ANSWER).await;
    assert_eq!(received.in_reply_to.map(ClientMessageId::get), Some(1001));
    assert_eq!(world.user.status().state, ConnectionState::Connected);
}

#[tokio::test]
async fn a_dropped_connection_comes_back_as_a_reconnect_and_sends_again() {
    let mut world = World::new().await;
    let (_, mut socket) = world.socket().await;
    world.post(1);
    world.post(2);
    hear(&mut socket).await;
    drop(socket);
    let (query, mut socket) = world.socket().await;
    assert_eq!(query, "sid=2&isReconnect=true");
    for number in [1, 2] {
        let frame = hear(&mut socket).await;
        assert_eq!(frame["id"], 1000 + number);
        ack(&mut socket, &frame).await;
    }
    assert_eq!(world.sign_ins.load(Ordering::Relaxed), 1, "the token is still good");
    assert_eq!(world.counters.connects.opened.get(), 2);
}

#[tokio::test]
async fn each_new_state_is_announced_once() {
    use ConnectionState::{BackingOff, Connected, Connecting};
    let mut world = World::new().await;
    drop(world.connected().await);
    let mut announced = Vec::new();
    while announced.len() < 3 {
        if let Note::Announced(state) = soon(world.notes.recv()).await.unwrap() {
            announced.push(state);
        }
    }
    // The first `connected` was told before the event that proves it.
    assert_eq!(announced, [BackingOff, Connecting, Connected]);
}

#[tokio::test]
async fn what_is_remembered_is_saved() {
    let mut world = World::new().await;
    let _socket = world.socket().await;
    let mut saved = Vec::new();
    while saved.len() < 2 {
        if let Note::Saved(record) = soon(world.notes.recv()).await.unwrap() {
            saved.push(record);
        }
    }
    assert_eq!(saved[0].history, ConnectHistory::Never);
    assert_eq!(saved[1].history, ConnectHistory::Before);
    assert_eq!(saved[1].access.as_ref().map(|access| access.token.expose()), Some("tok"));
}

#[tokio::test]
async fn binary_frames_are_read_and_what_is_no_frame_is_skipped() {
    let mut world = World::new().await;
    let (_, mut socket) = world.socket().await;
    for junk in ["[1]", "nonsense"] {
        say(&mut socket, junk).await;
    }
    socket.send(Message::Binary(Bytes::from_static(b"\xff"))).await.unwrap();
    socket.send(Message::Binary(ANSWER.into())).await.unwrap();
    assert_eq!(world.expect_event(ANSWER).await.in_reply_to, None);
    let rejected = &world.counters.frames_rejected;
    assert_eq!(
        [&rejected.not_an_object, &rejected.not_json, &rejected.not_utf8].map(Counter::get),
        [1, 1, 1]
    );
}

#[tokio::test]
async fn a_frame_over_the_limit_costs_the_connection_not_more() {
    let mut world = World::new().await;
    let (_, mut socket) = world.socket().await;
    let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(65 * 1024));
    say(&mut socket, &large).await;
    let (_, mut socket) = world.socket().await;
    assert_eq!(world.counters.frames_rejected.too_large.get(), 1);
    say(&mut socket, ANSWER).await;
    world.expect_event(ANSWER).await;
    assert!(world.user.status().last_error.unwrap().contains("max_frame"));
}

#[tokio::test]
async fn nothing_is_read_while_the_store_takes_nothing_and_the_socket_stays() {
    let mut world = World::with(|_, session| {
        session.ping_interval = Duration::from_millis(50);
        session.pong_timeout = Duration::from_millis(50);
    })
    .await;
    let (_, mut socket) = world.socket().await;
    let permits = world.room_for_events.forget_permits(1000);
    assert_eq!(permits, 1000);
    say(&mut socket, ANSWER).await;
    say(&mut socket, "{}").await;
    // Much longer than the platform may be silent.
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(world.sockets.try_recv().is_err(), "no reconnect");
    world.room_for_events.add_permits(2);
    // Answers the pings from now on.
    tokio::spawn(async move { while socket.next().await.is_some() {} });
    world.expect_event(ANSWER).await;
    world.expect_event("{}").await;
    assert!(world.sockets.try_recv().is_err(), "no reconnect");
}

/// Once newer ones are stored, nothing else tells that this one is not.
#[tokio::test]
async fn an_event_that_is_not_stored_at_the_stop_is_remembered_before_later_ones_are_stored() {
    let mut world = World::new().await;
    let mut socket = world.connected().await;
    world.room_for_events.forget_permits(1000);
    say(&mut socket, ANSWER).await;
    while !matches!(soon(world.notes.recv()).await.unwrap(), Note::Offered) {}
    world.stop();
    let hole = loop {
        match soon(world.notes.recv()).await.unwrap() {
            Note::Saved(UserRecord { seen: Some(seen), .. }) if !seen.holes.is_empty() => {
                break seen.holes[0];
            }
            Note::Received(_) => panic!("there is no room for it"),
            _ => {}
        }
    };
    world.room_for_events.add_permits(1);
    // The goodbye was not answered yet.
    say(&mut socket, "{}").await;
    world.expect_event("{}").await;
    let now = Timestamp::now();
    assert!(hole.from < now && hole.to.plus(Duration::from_secs(30)) > now, "{hole:?}");
}

#[tokio::test]
async fn a_dead_socket_is_noticed() {
    let mut world = World::with(|_, session| {
        session.ping_interval = Duration::from_millis(50);
        session.pong_timeout = Duration::from_millis(50);
    })
    .await;
    // Kept open, but nobody reads it or answers.
    let (_, _half_open) = world.socket().await;
    let (query, _socket) = world.socket().await;
    assert!(query.contains("isReconnect"));
    assert!(world.user.status().last_error.unwrap().contains("dead"));
}

#[tokio::test]
async fn a_delivery_ack_follows_only_a_durable_event() {
    let mut world = World::with(|platform, _| platform.delivery_acks = true).await;
    let (_, mut socket) = world.socket().await;
    say(&mut socket, ANSWER).await;
    say(&mut socket, r#"{"type":"events"}"#).await;
    world.expect_event(ANSWER).await;
    world.expect_event(r#"{"type":"events"}"#).await;
    let early = timeout(Duration::from_millis(50), socket.next()).await;
    assert!(early.is_err(), "{early:?}");
    world.make_durable().await;
    let frame = hear(&mut socket).await;
    assert_eq!((&frame["type"], &frame["replyto"], &frame["key"]), (&json!("ack"), &json!(17), &json!("k")));
}

#[tokio::test]
async fn a_stop_says_goodbye() {
    let mut world = World::new().await;
    let mut socket = world.connected().await;
    world.stop();
    match soon(socket.next()).await {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(u16::from(frame.code), 1001),
        other => panic!("{other:?}"),
    }
    let _ = socket.close(None).await;
    soon(world.task).await.unwrap();
}

#[tokio::test]
async fn a_reconnect_on_request_is_a_fresh_connection() {
    let mut world = World::new().await;
    let mut socket = world.connected().await;
    world.user.mailbox.post(Command::Reconnect);
    say(&mut socket, ANSWER).await;
    assert!(matches!(soon(socket.next()).await, Some(Ok(Message::Close(Some(_))))));
    world.expect_event(ANSWER).await;
    drop(socket);
    let (query, _socket) = world.socket().await;
    assert_eq!(query, "sid=2&isReconnect=true");
}

#[tokio::test]
async fn a_pause_of_the_whole_process_does_not_make_a_socket_dead() {
    let mut world = World::with(|_, session| {
        session.ping_interval = Duration::from_millis(30);
        session.pong_timeout = Duration::from_millis(30);
    })
    .await;
    let mut socket = world.connected().await;
    for _ in 0..8 {
        while !matches!(soon(socket.next()).await, Some(Ok(Message::Ping(_)))) {}
        say(&mut socket, "{}").await;
        // Nothing of this test's runtime goes on meanwhile.
        std::thread::sleep(Duration::from_millis(60));
        world.expect_event("{}").await;
        assert_eq!(world.user.status().state, ConnectionState::Connected);
    }
    assert!(world.sockets.try_recv().is_err(), "no reconnect");
}

#[tokio::test]
async fn while_too_many_events_are_not_durable_nothing_more_is_read_and_the_socket_stays() {
    let mut world = World::with(|platform, session| {
        platform.delivery_acks = true;
        session.ping_interval = Duration::from_millis(50);
        session.pong_timeout = Duration::from_millis(50);
    })
    .await;
    let (_, mut socket) = world.socket().await;
    for _ in 0..300 {
        say(&mut socket, ANSWER).await;
    }
    for _ in 0..256 {
        world.expect_event(ANSWER).await;
    }
    // Much longer than the platform may be silent.
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(world.notes.try_recv().is_err(), "no more is read");
    assert!(world.sockets.try_recv().is_err(), "no reconnect");
    for _ in 0..300 {
        world.make_durable().await;
    }
    for _ in 0..300 {
        assert_eq!(hear(&mut socket).await["type"], "ack");
    }
}

#[tokio::test]
async fn a_goodbye_of_the_platform_is_answered_and_its_reason_shown() {
    let mut world = World::new().await;
    let mut socket = world.connected().await;
    let reason = tokio_tungstenite::tungstenite::protocol::CloseFrame {
        code: 1008.into(),
        reason: "suspended\u{1b}[2J".into(),
    };
    socket.close(Some(reason)).await.unwrap();
    assert!(
        matches!(soon(socket.next()).await, Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) == 1008)
    );
    while world.user.status().state != ConnectionState::BackingOff {
        tokio::task::yield_now().await;
    }
    let error = world.user.status().last_error.unwrap();
    assert!(
        error.ends_with("(1008, rate limit, suspended bot or blocked user): suspended\\u{1b}[2J"),
        "{error}"
    );
}
