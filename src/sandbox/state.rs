//! The platform's state: users, their connections and conversations, and what was observed.
//!
//! Nothing is awaited here, and the time comes in. Sending is queueing: every connection has a
//! queue that its task ([`super::socket`]) writes out.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use serde::Serialize;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{
    Message, Utf8Bytes,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::{
    agent::{self, AgentPlay},
    auth::{self, App, Grants, Issuers, PublicKeys, UserKey},
    bot::{self, Act, Partner, Speech},
    connection::{Arrival, Connection, ConnectionId, ConnectionMode, Fate, ReceivedFrame},
    faults::{Endpoint, FaultBook, FaultKind, SocketEnd},
    history::{Direction, History, HistoryItem},
    ids,
    settings::{BotScript, Settings},
    uploads::Uploads,
    wire::{ClientFrame, Context},
};
use crate::clock::Timestamp;

/// A request that came to one of the platform's endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestRecord {
    /// Where.
    pub endpoint: Endpoint,
    /// Whose it was, as far as the request says.
    pub user: Option<String>,
    /// When it came, by the platform's clock.
    pub at: Timestamp,
}

/// The latest entries of a log, and how many there ever were.
#[derive(Debug)]
pub(super) struct Log<T> {
    entries: VecDeque<T>,
    total: u64,
    kept: usize,
}

impl<T> Log<T> {
    fn new(kept: usize) -> Self {
        Self { entries: VecDeque::new(), total: 0, kept }
    }

    pub(super) fn add(&mut self, entry: T) {
        if self.entries.len() >= self.kept {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
        self.total += 1;
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &T> {
        self.entries.iter()
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

/// A user of a bot: connections, conversation, and what was observed.
#[derive(Debug)]
pub(super) struct User {
    pub(super) user_id: String,
    /// What the latest assertion said.
    pub(super) anonymous: bool,
    pub(super) connections: Vec<Arc<Connection>>,
    /// Sockets that stay open with nobody there.
    half_open: Vec<Arc<Connection>>,
    pub(super) connects: u64,
    pub(super) frames: Log<ReceivedFrame>,
    pub(super) messages: u64,
    pub(super) goodbyes: Log<u16>,
    pub(super) history: History,
    session: Option<String>,
    partner: Partner,
}

/// Everything that changes.
#[derive(Debug)]
pub(super) struct State {
    apps: Arc<[App]>,
    kept: usize,
    max_queued: usize,
    pub(super) settings: Settings,
    pub(super) faults: FaultBook,
    pub(super) grants: Grants,
    pub(super) public_keys: PublicKeys,
    pub(super) users: HashMap<UserKey, User>,
    pub(super) requests: BTreeMap<Endpoint, Log<RequestRecord>>,
    pub(super) uploads: Uploads,
    pub(super) next_connection: u64,
}

/// Where an event goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    LiveAndHistory,
    LiveOnly,
    HistoryOnly,
}

impl State {
    pub(super) fn new(apps: Arc<[App]>, settings: Settings, limits: Limits) -> Self {
        Self {
            apps,
            kept: limits.kept,
            max_queued: limits.max_queued,
            settings,
            faults: FaultBook::default(),
            grants: Grants::default(),
            public_keys: PublicKeys::new(),
            users: HashMap::new(),
            requests: BTreeMap::new(),
            uploads: Uploads::default(),
            next_connection: 1,
        }
    }

    /// Whose JWTs are taken.
    pub(super) fn issuers(&self) -> Issuers<'_> {
        Issuers { apps: &self.apps, public_keys: &self.public_keys }
    }

    pub(super) fn user(&mut self, key: &UserKey) -> &mut User {
        let (apps, kept) = (&self.apps, self.kept);
        self.users.entry(key.clone()).or_insert_with(|| User {
            user_id: auth::user_id(&app_of(apps, key).client_id, &key.identity),
            anonymous: false,
            connections: Vec::new(),
            half_open: Vec::new(),
            connects: 0,
            frames: Log::new(kept),
            messages: 0,
            goodbyes: Log::new(kept),
            history: History::new(kept),
            session: None,
            partner: Partner::Bot,
        })
    }

    pub(super) fn note_request(&mut self, endpoint: Endpoint, user: Option<&str>, now: Timestamp) {
        let kept = self.kept;
        self.requests.entry(endpoint).or_insert_with(|| Log::new(kept)).add(RequestRecord {
            endpoint,
            user: user.map(str::to_owned),
            at: now,
        });
    }

    /// A socket is open: it is greeted as its mode says.
    pub(super) fn join(
        &mut self,
        arrival: Arrival,
        now: Timestamp,
    ) -> (Arc<Connection>, mpsc::UnboundedReceiver<Message>) {
        let (connection, queue) =
            Connection::new(ConnectionId(self.next_connection), arrival, now, self.max_queued);
        self.next_connection += 1;
        let key = &connection.user;
        let user = self.user(key);
        user.connects += 1;
        user.connections.push(connection.clone());
        match self.faults.on_connect(&key.identity) {
            Some(end) => self.end(&connection, &end),
            None => self.greet(&connection, now),
        }
        (connection, queue)
    }

    fn greet(&mut self, connection: &Connection, now: Timestamp) {
        let (key, apps) = (&connection.user, self.apps.clone());
        let app = app_of(&apps, key);
        let user = self.user(key);
        let earlier = user.session.clone();
        let fresh = match connection.mode {
            ConnectionMode::Reconnect => false,
            ConnectionMode::KeepSession => earlier.is_none(),
            ConnectionMode::Plain | ConnectionMode::StartNew | ConnectionMode::StartNewResumeAgent => true,
        };
        let renews =
            matches!(connection.mode, ConnectionMode::StartNew | ConnectionMode::StartNewResumeAgent);
        let was_with_agent = user.partner != Partner::Bot;
        if renews {
            user.session = None;
        }
        if connection.mode == ConnectionMode::StartNew {
            user.partner = Partner::Bot;
        }
        let session_id = user.session.get_or_insert_with(|| ids::hex(24)).clone();
        let context = Context { app, session_id: &session_id, now };
        connection.send(context.bot_active(earlier.as_deref()));
        if let Some(ended) = earlier.filter(|_| renews) {
            let ending = Context { session_id: &ended, ..context };
            if was_with_agent && connection.mode == ConnectionMode::StartNew {
                self.broadcast_text(key, &ending.status("agent_session_end"));
            }
            self.broadcast_text(key, &ending.status("session_end"));
        }
        if fresh {
            connection.send(context.status("session_start"));
            if let Some(text) = self.settings.welcome.clone() {
                let (frame, item) = context.bot_response(&Speech::bot(text));
                self.emit(key, &frame, Some(item), Route::LiveAndHistory);
            }
        }
    }

    /// A socket is gone.
    pub(super) fn leave(&mut self, connection: &Connection) {
        if let Some(user) = self.users.get_mut(&connection.user) {
            user.connections.retain(|other| other.id != connection.id);
            user.half_open.retain(|other| other.id != connection.id);
        }
    }

    /// Whether the platform has not ended a connection yet.
    pub(super) fn is_open(&self, connection: &Connection) -> bool {
        let connections = self.users.get(&connection.user).map(|user| &user.connections);
        connections.is_some_and(|open| open.iter().any(|other| other.id == connection.id))
    }

    /// Ends the platform's side of a connection. From now on it doesn't count as one.
    pub(super) fn end(&mut self, connection: &Arc<Connection>, end: &SocketEnd) {
        self.leave(connection);
        match end {
            SocketEnd::Drop => drop(connection.fate.send_replace(Fate::Drop)),
            SocketEnd::Reset => drop(connection.fate.send_replace(Fate::Reset)),
            SocketEnd::Close { code, reason } => connection.send_frame(Message::Close(Some(CloseFrame {
                code: CloseCode::from(*code),
                reason: reason.as_str().into(),
            }))),
            SocketEnd::HalfOpen => {
                connection.fate.send_replace(Fate::HalfOpen);
                self.user(&connection.user).half_open.push(connection.clone());
            }
        }
    }

    /// Ends all connections of a user, half-open ones too; answers how many.
    pub(super) fn end_all(&mut self, key: &UserKey, end: &SocketEnd) -> usize {
        let Some(user) = self.users.get(key) else { return 0 };
        let connections: Vec<_> = user.connections.iter().chain(&user.half_open).cloned().collect();
        connections.iter().for_each(|connection| self.end(connection, end));
        connections.len()
    }

    /// Sends a frame to all sockets of a user, exactly as it is; answers to how many.
    pub(super) fn broadcast(&self, key: &UserKey, frame: &Message) -> usize {
        let connections = self.users.get(key).map_or(&[][..], |user| &user.connections);
        connections.iter().for_each(|connection| connection.send_frame(frame.clone()));
        connections.len()
    }

    fn broadcast_text(&self, key: &UserKey, text: &Utf8Bytes) -> usize {
        self.broadcast(key, &Message::Text(text.clone()))
    }

    /// An event happens: it is recorded first, then sent, so that a client can see it in the
    /// history before it comes. Answers to how many sockets it went.
    pub(super) fn emit(
        &mut self,
        key: &UserKey,
        frame: &Utf8Bytes,
        record: Option<HistoryItem>,
        route: Route,
    ) -> usize {
        let is_answer = record.as_ref().is_some_and(|item| item.direction == Direction::Outgoing);
        if let Some(item) = record.filter(|_| route != Route::LiveOnly) {
            self.user(key).history.add(item);
        }
        let connected = self.users.get(key).is_some_and(|user| !user.connections.is_empty());
        if route == Route::HistoryOnly || !connected {
            return 0;
        }
        match is_answer.then(|| self.faults.on_event(&key.identity)).flatten() {
            Some(FaultKind::LostPush) => 0,
            Some(FaultKind::Duplicate) => {
                self.broadcast_text(key, frame);
                self.broadcast_text(key, frame)
            }
            Some(FaultKind::Malformed) => {
                self.broadcast_text(key, &Utf8Bytes::from_static("not json"));
                self.broadcast_text(key, frame)
            }
            _ => self.broadcast_text(key, frame),
        }
    }

    /// A frame made here happens: see [`State::emit`].
    pub(super) fn say(
        &mut self,
        key: &UserKey,
        speech: &Speech,
        now: Timestamp,
        route: Route,
    ) -> (String, usize) {
        let (apps, session_id) = (self.apps.clone(), self.session_of(key));
        let context = Context { app: app_of(&apps, key), session_id: &session_id, now };
        let (frame, item) = context.bot_response(speech);
        let id = item.id.clone();
        (id, self.emit(key, &frame, Some(item), route))
    }

    /// A frame that somebody wrote happens, byte for byte; the history has what it can tell.
    pub(super) fn push_frame(
        &mut self,
        key: &UserKey,
        frame: &Utf8Bytes,
        now: Timestamp,
        route: Route,
    ) -> (Option<String>, usize) {
        let (apps, session_id) = (self.apps.clone(), self.session_of(key));
        let context = Context { app: app_of(&apps, key), session_id: &session_id, now };
        let record = context.record_of(frame.as_ref());
        let id = record.as_ref().map(|item| item.id.clone());
        (id, self.emit(key, frame, record, route))
    }

    fn session_of(&mut self, key: &UserKey) -> String {
        self.user(key).session.get_or_insert_with(|| ids::hex(24)).clone()
    }

    pub(super) fn act(&mut self, key: &UserKey, act: &Act, now: Timestamp) {
        let (apps, session_id) = (self.apps.clone(), self.session_of(key));
        let context = Context { app: app_of(&apps, key), session_id: &session_id, now };
        match act {
            Act::Say(speech) => drop(self.say(key, speech, now, Route::LiveAndHistory)),
            Act::Status(kind) => {
                self.emit(key, &context.status(kind), None, Route::LiveOnly);
                if *kind == "session_end" {
                    self.user(key).session = None;
                }
            }
            Act::Event(message) => {
                self.emit(key, &context.event(message), None, Route::LiveOnly);
            }
            Act::Close(code) => {
                self.end_all(key, &SocketEnd::close(*code));
            }
            // Whoever performs acts waits for itself.
            Act::Pause(_) => {}
        }
    }

    /// A message reached the bot: it is recorded, the user's other connections see it, the bot
    /// decides what to do.
    pub(super) fn accept(&mut self, from: &Connection, frame: &ClientFrame<'_>, now: Timestamp) -> Vec<Act> {
        let key = &from.user;
        let starts = self.user(key).session.is_none();
        let session_id = self.session_of(key);
        let (silent, script) = (self.settings.bot == BotScript::Silent, self.settings.agent);
        let user = self.user(key);
        user.history.add(frame.to_history(&session_id, now));
        let siblings = user.connections.iter().filter(|other| other.id != from.id);
        let mut seen = None;
        for sibling in siblings {
            sibling.send(seen.get_or_insert_with(|| frame.to_user_message()).clone());
        }
        let mut acts: Vec<_> = starts.then_some(Act::Status("session_start")).into_iter().collect();
        if !silent {
            let partner = std::mem::take(&mut user.partner);
            let (partner, answer) = bot::answer(partner, script, &frame.message_text());
            user.partner = partner;
            acts.extend(answer);
        }
        acts
    }

    /// Somebody plays the agent.
    pub(super) fn play(&mut self, key: &UserKey, play: AgentPlay, now: Timestamp) {
        let partner = std::mem::take(&mut self.user(key).partner);
        let (partner, acts) = agent::play(partner, play);
        self.user(key).partner = partner;
        acts.iter().for_each(|act| self.act(key, act, now));
    }

    /// The user's client ends the agent's conversation, or the whole session.
    pub(super) fn hang_up(&mut self, key: &UserKey, whole_session: bool) -> Vec<Act> {
        let user = self.user(key);
        let mut acts = agent::end(std::mem::take(&mut user.partner));
        if whole_session && user.session.is_some() {
            acts.push(Act::Status("session_end"));
        }
        acts
    }
}

fn app_of<'a>(apps: &'a [App], key: &UserKey) -> &'a App {
    apps.iter().find(|app| *app.bot_id == *key.bot_id).unwrap_or(&apps[0])
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) kept: usize,
    pub(super) max_queued: usize,
}
