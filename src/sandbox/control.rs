//! Watching a sandbox and meddling with it, from within the process.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use serde::Serialize;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::{
    agent::AgentPlay,
    auth::UserKey,
    bot::Speech,
    connection::{Connection, ConnectionId, ConnectionMode, ReceivedFrame},
    faults::{Endpoint, Fault, SocketEnd},
    history::HistoryItem,
    room::{DoorState, Room},
    settings::Settings,
    state::{Log, RequestRecord, Route, State, User},
    uploads::UploadedFile,
    wire::FrameKind,
};
use crate::clock::Timestamp;

/// A handle for watching a sandbox and meddling with it. Cloning it is cheap.
///
/// Users are named by identity (their JWT's `sub`). Where one identity talks to several bots, a
/// handle sees and moves all of them, unless it is narrowed by [`SandboxControl::for_bot`].
#[derive(Debug, Clone)]
pub struct SandboxControl {
    room: Arc<Room>,
    bot_id: Option<Arc<str>>,
}

/// An open connection. Half-open ones and ones that are being closed don't count as open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionInfo {
    /// Its id.
    pub id: ConnectionId,
    /// Whose it is.
    pub user: String,
    /// The id of the bot that the user talks to on it.
    pub bot: String,
    /// When it was opened, by the platform's clock.
    pub connected_at: Timestamp,
    /// The one-time id that opened it.
    pub sid: String,
    /// The query of its URL, as it came.
    pub query: String,
    /// What the query says about how to connect.
    pub mode: ConnectionMode,
    /// Pings that came on it so far, WebSocket's and JSON's.
    pub pings: u64,
}

impl ConnectionInfo {
    fn of(connection: &Connection) -> Self {
        Self {
            id: connection.id,
            user: connection.user.identity.to_string(),
            bot: connection.user.bot_id.to_string(),
            connected_at: connection.opened,
            sid: connection.sid.clone(),
            query: connection.query.clone(),
            mode: connection.mode,
            pings: connection.pings.load(Ordering::Relaxed),
        }
    }
}

/// An event to push, and where to.
#[derive(Debug, Clone)]
pub struct Push {
    what: What,
    route: Route,
}

#[derive(Debug, Clone)]
enum What {
    Text(String),
    Frame(Utf8Bytes),
}

impl Push {
    /// A `bot_response` with this text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { what: What::Text(text.into()), route: Route::LiveAndHistory }
    }

    /// A whole frame, sent byte for byte. A `bot_response` or `user_message` also gets into the
    /// history.
    pub fn frame(json: impl Into<String>) -> Self {
        Self { what: What::Frame(json.into().into()), route: Route::LiveAndHistory }
    }

    /// Only to the sockets, not into the history.
    #[must_use]
    pub fn live_only(self) -> Self {
        Self { route: Route::LiveOnly, ..self }
    }

    /// Only into the history: the push was lost.
    #[must_use]
    pub fn history_only(self) -> Self {
        Self { route: Route::HistoryOnly, ..self }
    }
}

/// What became of a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pushed {
    /// The history's id of the event, which is its `messageId`; nothing for frames that the
    /// history doesn't have.
    pub message_id: Option<String>,
    /// To how many sockets it went.
    pub sockets: usize,
}

impl SandboxControl {
    pub(super) fn new(room: Arc<Room>) -> Self {
        Self { room, bot_id: None }
    }

    /// The same handle for one bot only.
    #[must_use]
    pub fn for_bot(&self, bot_id: &str) -> Self {
        Self { room: self.room.clone(), bot_id: Some(bot_id.into()) }
    }

    fn bots(&self) -> Vec<Arc<str>> {
        match &self.bot_id {
            Some(bot_id) => vec![bot_id.clone()],
            None => {
                let mut bots: Vec<Arc<str>> = self.room.apps.iter().map(|app| (*app.bot_id).into()).collect();
                bots.sort_unstable();
                bots.dedup();
                bots
            }
        }
    }

    /// The users that this identity may be.
    fn keys(&self, user: &str) -> Vec<UserKey> {
        let identity: Arc<str> = user.into();
        let key = |bot_id| UserKey { bot_id, identity: identity.clone() };
        self.bots().into_iter().map(key).collect()
    }

    /// The users that this identity is; before anything is known of it, the first bot's.
    fn targets(&self, state: &State, user: &str) -> Vec<UserKey> {
        let mut keys = self.keys(user);
        keys.retain(|key| state.users.contains_key(key));
        if keys.is_empty() {
            let first = || (*self.room.apps[0].bot_id).into();
            keys.push(UserKey { bot_id: self.bot_id.clone().unwrap_or_else(first), identity: user.into() });
        }
        keys
    }

    fn look<R>(&self, user: &str, mut look: impl FnMut(&User) -> R) -> Vec<R> {
        let keys = self.keys(user);
        self.room.read(|state| keys.iter().filter_map(|key| state.users.get(key)).map(&mut look).collect())
    }

    /// The open connections of all users, oldest first.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.room.read(|state| {
            let ours = |key: &UserKey| self.bot_id.as_ref().is_none_or(|bot_id| *bot_id == key.bot_id);
            let users = state.users.iter().filter(|(key, _)| ours(key));
            sorted(&mut users.flat_map(|(_, user)| &user.connections))
        })
    }

    /// The open connections of a user, oldest first.
    pub fn connections_of(&self, user: &str) -> Vec<ConnectionInfo> {
        let keys = self.keys(user);
        self.room.read(|state| connections_of(state, &keys))
    }

    /// How often a user has connected so far.
    pub fn connects(&self, user: &str) -> u64 {
        self.look(user, |user| user.connects).iter().sum()
    }

    /// The frames that a user's clients sent, in order of arrival, JSON pings left out; at most the
    /// latest that are kept.
    pub fn frames(&self, user: &str) -> Vec<ReceivedFrame> {
        self.look(user, |user| user.frames.entries().cloned().collect::<Vec<_>>()).concat()
    }

    /// Those of [`SandboxControl::frames`] that are messages.
    pub fn messages(&self, user: &str) -> Vec<ReceivedFrame> {
        let mut frames = self.frames(user);
        frames.retain(|frame| frame.kind == FrameKind::Message);
        frames
    }

    /// The codes of the close frames that a user's clients sent, of their own accord or in answer
    /// (1005: without one), in order of arrival; at most the latest that are kept.
    pub fn goodbyes(&self, user: &str) -> Vec<u16> {
        self.look(user, |user| user.goodbyes.entries().copied().collect::<Vec<_>>()).concat()
    }

    /// The history of a user, oldest first; at most the latest that is kept.
    pub fn history(&self, user: &str) -> Vec<HistoryItem> {
        self.look(user, |user| user.history.items().map(|item| (**item).clone()).collect::<Vec<_>>()).concat()
    }

    /// The files that were uploaded, oldest first; at most the latest 256 MiB.
    pub fn uploads(&self) -> Vec<UploadedFile> {
        let ours = |file: &&UploadedFile| self.bot_id.as_ref().is_none_or(|bot_id| **bot_id == *file.bot);
        self.room.read(|state| state.uploads.files().filter(ours).cloned().collect())
    }

    /// The requests of one kind, oldest first; at most the latest that are kept.
    pub fn requests(&self, endpoint: Endpoint) -> Vec<RequestRecord> {
        self.room.read(|state| {
            let log = state.requests.get(&endpoint);
            log.map(|log| log.entries().cloned().collect()).unwrap_or_default()
        })
    }

    /// Those of [`SandboxControl::requests`] that were a user's, as far as they say.
    pub fn requests_of(&self, user: &str, endpoint: Endpoint) -> Vec<RequestRecord> {
        let mut requests = self.requests(endpoint);
        requests.retain(|request| request.user.as_deref() == Some(user));
        requests
    }

    /// How many requests of one kind there were, all users together.
    pub fn request_count(&self, endpoint: Endpoint) -> u64 {
        self.room.read(|state| request_count(state, endpoint))
    }

    /// Pushes an event to a user's sockets and into its history. A user who isn't connected finds
    /// it there.
    pub fn push(&self, user: &str, push: Push) -> Pushed {
        let Push { what, route } = push;
        self.room.change(|state, now| {
            let mut pushed = Pushed { message_id: None, sockets: 0 };
            for key in self.targets(state, user) {
                let (id, sockets) = match &what {
                    What::Text(text) => {
                        let (id, sockets) = state.say(&key, &Speech::bot(text.clone()), now, route);
                        (Some(id), sockets)
                    }
                    What::Frame(frame) => state.push_frame(&key, frame, now, route),
                };
                pushed = Pushed { message_id: id, sockets: pushed.sockets + sockets };
            }
            pushed
        })
    }

    /// Does what an agent does who talks to the user. Whether a message of the user's is answered by itself is
    /// a setting ([`super::AgentScript`]).
    pub fn agent(&self, user: &str, play: AgentPlay) {
        self.room.change(|state, now| {
            for key in self.targets(state, user) {
                state.play(&key, play.clone(), now);
            }
        });
    }

    /// Sends exact bytes to a user's sockets, and nothing else: no history, no faults. In a text
    /// frame if they are UTF-8, else in a binary one. Answers to how many sockets.
    pub fn push_raw(&self, user: &str, bytes: impl Into<Bytes>) -> usize {
        let bytes = bytes.into();
        match Utf8Bytes::try_from(bytes.clone()) {
            Ok(text) => self.send(user, &Message::Text(text)),
            Err(_) => self.send(user, &Message::Binary(bytes)),
        }
    }

    /// The same in a binary frame.
    pub fn push_binary(&self, user: &str, bytes: impl Into<Bytes>) -> usize {
        self.send(user, &Message::Binary(bytes.into()))
    }

    fn send(&self, user: &str, frame: &Message) -> usize {
        let keys = self.keys(user);
        self.room.read(|state| keys.iter().map(|key| state.broadcast(key, frame)).sum())
    }

    /// Ends the connections of a user, half-open ones too; answers how many.
    pub fn end_sockets(&self, user: &str, end: &SocketEnd) -> usize {
        let keys = self.keys(user);
        self.room.change(|state, _| keys.iter().map(|key| state.end_all(key, end)).sum())
    }

    /// Ends the connections of all users; answers how many.
    pub fn end_all_sockets(&self, end: &SocketEnd) -> usize {
        self.room.change(|state, _| {
            let mut keys: Vec<_> = state.users.keys().cloned().collect();
            keys.retain(|key| self.bot_id.as_ref().is_none_or(|bot_id| *bot_id == key.bot_id));
            keys.iter().map(|key| state.end_all(key, end)).sum()
        })
    }

    /// Gives the platform an app's public key (DER: `RSAPublicKey` or `SubjectPublicKeyInfo`): from now on it takes
    /// JWTs that are signed with the private one, too.
    pub fn trust_public_key(&self, client_id: &str, der: impl Into<Vec<u8>>) {
        let der = der.into();
        self.room.change(|state, _| state.public_keys.insert(client_id.to_owned(), der));
    }

    /// Whether the latest assertion of a user said that it is anonymous.
    pub fn is_anonymous(&self, user: &str) -> bool {
        self.look(user, |user| user.anonymous).contains(&true)
    }

    /// The identities of all users that ever signed in, in order.
    pub fn identities(&self) -> Vec<String> {
        let identities = |state: &State| state.users.keys().map(|key| key.identity.to_string()).collect();
        let mut identities: Vec<String> = self.room.read(identities);
        identities.sort();
        identities
    }

    /// Revokes a user's access tokens; answers how many were good. Open sockets stay.
    pub fn revoke(&self, user: &str) -> usize {
        let keys = self.keys(user);
        self.room.change(|state, now| keys.iter().map(|key| state.grants.revoke(key, now)).sum())
    }

    /// From now on, something goes wrong.
    pub fn inject(&self, fault: Fault) {
        self.room.change(|state, _| state.faults.add(fault));
    }

    /// Nothing goes wrong any more. Requests that hang already go on hanging.
    pub fn clear_faults(&self) {
        self.room.change(|state, _| state.faults.clear());
    }

    /// The faults in force, in the order they are tried.
    pub fn faults(&self) -> Vec<Fault> {
        self.room.read(|state| state.faults.rules().to_vec())
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        self.room.read(|state| state.settings.clone())
    }

    /// Changes settings.
    pub fn configure(&self, change: impl FnOnce(&mut Settings)) {
        self.room.change(|state, _| change(&mut state.settings));
    }

    /// Forgets everything, as if just started: users, histories, tokens, faults, changed settings.
    /// All sockets are dropped.
    pub fn reset(&self) {
        self.room.reset();
    }

    /// Stops listening: when this returns, new TCP connections are refused. Open ones stay.
    pub async fn stop_listening(&self) {
        self.room.door.move_to(DoorState::Closed).await;
    }

    /// Listens again on the same address. It never returns if the address was taken meanwhile.
    pub async fn listen_again(&self) {
        self.room.door.move_to(DoorState::Open).await;
    }

    /// Waits until a user has exactly so many open connections.
    pub async fn wait_connected(&self, user: &str, connections: usize) -> Vec<ConnectionInfo> {
        let keys = self.keys(user);
        let found = |state: &State| {
            let open = connections_of(state, &keys);
            (open.len() == connections).then_some(open)
        };
        self.room.wait_for(found).await
    }

    /// Waits until a user has connected so often, ever.
    pub async fn wait_connects(&self, user: &str, connects: u64) -> u64 {
        let count = |user: &User| user.connects;
        self.wait_count(user, connects, count).await
    }

    /// Waits until a user's clients have sent so many frames, ever; JSON pings don't count.
    pub async fn wait_frames(&self, user: &str, frames: u64) -> Vec<ReceivedFrame> {
        self.wait_count(user, frames, |user| user.frames.total()).await;
        self.frames(user)
    }

    /// Waits until a user's clients have sent so many messages, ever.
    pub async fn wait_messages(&self, user: &str, messages: u64) -> Vec<ReceivedFrame> {
        self.wait_count(user, messages, |user| user.messages).await;
        self.messages(user)
    }

    /// Waits until a user's clients have sent so many close frames, ever.
    pub async fn wait_goodbyes(&self, user: &str, goodbyes: u64) -> Vec<u16> {
        self.wait_count(user, goodbyes, |user| user.goodbyes.total()).await;
        self.goodbyes(user)
    }

    /// Waits until so many requests of one kind have come, ever, all users together.
    pub async fn wait_requests(&self, endpoint: Endpoint, requests: u64) -> u64 {
        let enough = |count: u64| (count >= requests).then_some(count);
        self.room.wait_for(|state| enough(request_count(state, endpoint))).await
    }

    /// Waits until so many requests of one kind have come from a user (of those that are kept).
    pub async fn wait_requests_of(
        &self,
        user: &str,
        endpoint: Endpoint,
        requests: usize,
    ) -> Vec<RequestRecord> {
        let enough = |state: &State| {
            let log = state.requests.get(&endpoint);
            let entries = log.into_iter().flat_map(Log::entries);
            let count = entries.filter(|request| request.user.as_deref() == Some(user)).count();
            (count >= requests).then_some(())
        };
        self.room.wait_for(enough).await;
        self.requests_of(user, endpoint)
    }

    /// Waits until every fault in force has happened as often as it was to.
    pub async fn wait_faults_over(&self) {
        self.room.wait_for(|state| state.faults.rules().is_empty().then_some(())).await;
    }

    async fn wait_count(&self, user: &str, wanted: u64, count: impl Fn(&User) -> u64) -> u64 {
        let keys = self.keys(user);
        let found = |state: &State| {
            let sum = keys.iter().filter_map(|key| state.users.get(key)).map(&count).sum();
            (sum >= wanted).then_some(sum)
        };
        self.room.wait_for(found).await
    }
}

fn connections_of(state: &State, keys: &[UserKey]) -> Vec<ConnectionInfo> {
    sorted(&mut keys.iter().filter_map(|key| state.users.get(key)).flat_map(|user| &user.connections))
}

fn sorted(connections: &mut dyn Iterator<Item = &Arc<Connection>>) -> Vec<ConnectionInfo> {
    let mut infos: Vec<_> = connections.map(|connection| ConnectionInfo::of(connection)).collect();
    infos.sort_unstable_by_key(|info| info.id);
    infos
}

fn request_count(state: &State, endpoint: Endpoint) -> u64 {
    state.requests.get(&endpoint).map_or(0, Log::total)
}
