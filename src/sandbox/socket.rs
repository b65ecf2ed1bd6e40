//! One RTM socket: from the HTTP upgrade to its end.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, Request, Response, StatusCode, header},
};
use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::ProtocolError,
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use super::{
    auth::Ticket,
    connection::{Arrival, Connection, Encoding, Fate},
    room::Room,
    settings::SubprotocolChoice,
};

/// How long a client may take to answer a close frame.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// Frames written in one go.
const WRITE_BATCH: usize = 256;
/// What is read at all: [`super::Settings::max_frame`] is checked on what was read, so that the
/// client sees the close frame rather than a reset.
const READ_LIMIT: usize = 64 * 1024 * 1024;

type Socket = WebSocketStream<TcpStream>;

/// What a client's request for a WebSocket must have.
#[derive(Debug)]
pub(super) struct Handshake {
    accept: String,
    /// The subprotocols that the client offers.
    offered: Vec<String>,
}

impl Handshake {
    /// Reads the request's headers.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, &'static str> {
        let value = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !value(header::UPGRADE).eq_ignore_ascii_case("websocket") {
            return Err("a WebSocket request was expected (Upgrade: websocket)");
        }
        if value(header::SEC_WEBSOCKET_VERSION) != "13" {
            return Err("Sec-WebSocket-Version must be 13");
        }
        let key = value(header::SEC_WEBSOCKET_KEY);
        if key.is_empty() {
            return Err("Sec-WebSocket-Key is missing");
        }
        let offered = headers
            .get_all(header::SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|list| list.split(','))
            .map(|offer| offer.trim().to_owned())
            .collect();
        Ok(Self { accept: derive_accept_key(key.as_bytes()), offered })
    }

    fn offer(&self, name: &str) -> Option<&str> {
        self.offered.iter().find_map(|offer| offer.strip_prefix(name)?.strip_prefix('|'))
    }

    /// Checks what the secure handshake repeats. A client that did not ask for it has nothing to repeat.
    pub(super) fn check(
        &self,
        ticket: &Ticket,
        verify_jwt: impl FnOnce(&str) -> bool,
    ) -> Result<(), &'static str> {
        if self.offered.is_empty() {
            return match ticket.nonce {
                None => Ok(()),
                Some(_) => Err("the nonce that rtm/start gave is not repeated"),
            };
        }
        if self.offer("nonce") != ticket.nonce.as_deref() {
            return Err("the nonce is not the one that rtm/start gave");
        }
        match self.offer("jwt") {
            Some(jwt) if verify_jwt(jwt) => Ok(()),
            _ => Err("the jwt is not the user's"),
        }
    }

    /// The answer that switches to WebSocket.
    pub(super) fn answer(&self, choice: SubprotocolChoice) -> Response<Body> {
        let chosen = match choice {
            SubprotocolChoice::Version => self.offered.iter().find(|offer| offer.starts_with("x-rtm-v")),
            SubprotocolChoice::Last => self.offered.last(),
            SubprotocolChoice::None => None,
        };
        let mut response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_ACCEPT, &self.accept);
        if let Some(chosen) = chosen {
            response = response.header(header::SEC_WEBSOCKET_PROTOCOL, chosen);
        }
        response.body(Body::empty()).expect("headers that came can go")
    }
}

/// Takes over the connection of `request` once its answer was sent, and serves it to its end.
pub(super) fn serve(room: &Arc<Room>, request: Request<Body>, arrival: Arrival) {
    let upgrade = hyper::upgrade::on(request);
    let task = run(room.clone(), upgrade, arrival);
    room.tasks.spawn(task);
}

async fn run(room: Arc<Room>, upgrade: hyper::upgrade::OnUpgrade, arrival: Arrival) {
    let upgraded = match room.stop.run_until_cancelled(upgrade).await {
        Some(Ok(upgraded)) => upgraded,
        // The client went away before its answer, or the sandbox stops.
        Some(Err(_)) | None => return,
    };
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().expect("the server serves TCP streams only");
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_message_size(Some(READ_LIMIT))
        .max_frame_size(Some(READ_LIMIT));
    let socket = WebSocketStream::from_partially_read(
        parts.io.into_inner(),
        parts.read_buf.to_vec(),
        Role::Server,
        Some(config),
    )
    .await;
    let (connection, queue) = room.change(|state, now| state.join(arrival, now));
    tracing::info!(connection = connection.id.0, user = ?connection.user.identity, mode = ?connection.mode, "socket open");
    converse(&room, &connection, socket, queue).await;
    room.change(|state, _| state.leave(&connection));
    tracing::info!(connection = connection.id.0, "socket closed");
}

async fn converse(
    room: &Arc<Room>,
    connection: &Arc<Connection>,
    socket: Socket,
    mut queue: mpsc::UnboundedReceiver<Message>,
) {
    let (mut sink, mut stream) = socket.split();
    let mut fates = connection.fate.subscribe();
    let mut fate = tokio::select! {
        biased;
        () = room.stop.cancelled() => Fate::Drop,
        fate = ended(&mut fates, |fate| fate != Fate::Live) => fate,
        () = exchange(room, connection, &mut sink, &mut stream, &mut queue) => return,
    };
    if fate == Fate::HalfOpen {
        // Nobody reads or writes, but the socket stays until someone ends it for good.
        fate = tokio::select! {
            () = room.stop.cancelled() => Fate::Drop,
            fate = ended(&mut fates, |fate| matches!(fate, Fate::Drop | Fate::Reset)) => fate,
        };
    }
    if fate == Fate::Reset
        && let Ok(socket) = stream.reunite(sink)
        && let Err(error) = socket.get_ref().set_zero_linger()
    {
        tracing::warn!(connection = connection.id.0, %error, "the socket is closed rather than reset");
    }
}

async fn ended(fates: &mut tokio::sync::watch::Receiver<Fate>, until: impl Fn(Fate) -> bool) -> Fate {
    // The connection, which holds the sender, outlives this task.
    fates.wait_for(|fate| until(*fate)).await.map_or(Fate::Drop, |fate| *fate)
}

/// Reads and writes at the same time, so that neither side waits for the other for ever.
async fn exchange(
    room: &Arc<Room>,
    connection: &Arc<Connection>,
    sink: &mut SplitSink<Socket, Message>,
    stream: &mut SplitStream<Socket>,
    queue: &mut mpsc::UnboundedReceiver<Message>,
) {
    let reading = read(room, connection, stream);
    let writing = write(connection, sink, queue);
    tokio::pin!(reading, writing);
    tokio::select! {
        end = &mut reading => if let ReadEnd::Violated(code) = end {
            room.reject(connection, code);
            let _ = timeout(CLOSE_WAIT, writing).await;
        },
        () = &mut writing => {
            // After our close frame the client answers with its own.
            let _ = timeout(CLOSE_WAIT, reading).await;
        }
    }
}

/// Why there is nothing more to read.
enum ReadEnd {
    /// The client closed the connection, or it broke.
    Over,
    /// What came can't be read; the code that says why.
    Violated(u16),
}

async fn read(room: &Arc<Room>, connection: &Arc<Connection>, stream: &mut SplitStream<Socket>) -> ReadEnd {
    while let Some(message) = stream.next().await {
        match message {
            Ok(Message::Text(text)) => room.receive(connection, &Bytes::from(text), Encoding::Text),
            Ok(Message::Binary(bytes)) => room.receive(connection, &bytes, Encoding::Binary),
            Ok(Message::Ping(_)) => connection.note_ping(),
            // Its answer is sent by reading on, to the end.
            Ok(Message::Close(frame)) => {
                let code = frame.map_or(1005, |frame| frame.code.into());
                room.change(|state, _| state.user(&connection.user).goodbyes.add(code));
            }
            Ok(Message::Pong(_) | Message::Frame(_)) => {}
            Err(Error::Utf8(_)) => return ReadEnd::Violated(1007),
            Err(Error::Capacity(_)) => return ReadEnd::Violated(1009),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return ReadEnd::Over,
            Err(Error::Protocol(_)) => return ReadEnd::Violated(1002),
            Err(_) => return ReadEnd::Over,
        }
    }
    ReadEnd::Over
}

/// Writes what is queued, until a close frame or an error.
async fn write(
    connection: &Connection,
    sink: &mut SplitSink<Socket, Message>,
    queue: &mut mpsc::UnboundedReceiver<Message>,
) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, WRITE_BATCH).await > 0 {
        for frame in batch.drain(..) {
            connection.written(frame.len());
            let last = frame.is_close();
            if sink.feed(frame).await.is_err() || last {
                let _ = sink.flush().await;
                return;
            }
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
}
