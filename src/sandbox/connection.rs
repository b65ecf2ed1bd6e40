//! Connections as the platform's state knows them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::{auth::UserKey, wire::FrameKind};
use crate::clock::Timestamp;

/// Names a connection for as long as the sandbox runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ConnectionId(pub(super) u64);

/// How a client wants to be connected: `ConnectionMode`, or `isReconnect` where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionMode {
    /// Nothing was said: a welcome, in the session that runs or a new one.
    Plain,
    /// `Default`: a welcome only if no session runs.
    KeepSession,
    /// `Start_New`: a new session and a welcome; an agent's conversation ends.
    StartNew,
    /// `Start_New_Resume_Agent`: a new session and a welcome; an agent's conversation goes on.
    StartNewResumeAgent,
    /// `Reconnect` or `isReconnect=true`: no welcome, nothing changes.
    Reconnect,
}

impl ConnectionMode {
    pub(super) fn of(mode: Option<&str>, is_reconnect: Option<&str>) -> Self {
        match (mode, is_reconnect) {
            (Some("Reconnect"), _) | (None, Some("true")) => Self::Reconnect,
            (Some("Default"), _) => Self::KeepSession,
            (Some("Start_New"), _) => Self::StartNew,
            (Some("Start_New_Resume_Agent"), _) => Self::StartNewResumeAgent,
            _ => Self::Plain,
        }
    }
}

/// What a connection's task is to do apart from reading and writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Live,
    HalfOpen,
    Drop,
    Reset,
}

/// One open socket.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) user: UserKey,
    pub(super) opened: Timestamp,
    pub(super) sid: String,
    pub(super) query: String,
    pub(super) mode: ConnectionMode,
    pub(super) pings: AtomicU64,
    pub(super) fate: watch::Sender<Fate>,
    outbox: mpsc::UnboundedSender<Message>,
    queued: AtomicUsize,
    max_queued: usize,
}

/// A new socket, as its handshake describes it.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) user: UserKey,
    pub(super) sid: String,
    pub(super) query: String,
    pub(super) mode: ConnectionMode,
}

impl Connection {
    /// A connection, and the queue that its task writes out.
    pub(super) fn new(
        id: ConnectionId,
        arrival: Arrival,
        now: Timestamp,
        max_queued: usize,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Message>) {
        let (outbox, queue) = mpsc::unbounded_channel();
        let connection = Self {
            id,
            user: arrival.user,
            opened: now,
            sid: arrival.sid,
            query: arrival.query,
            mode: arrival.mode,
            pings: AtomicU64::new(0),
            fate: watch::Sender::new(Fate::Live),
            outbox,
            queued: AtomicUsize::new(0),
            max_queued,
        };
        (Arc::new(connection), queue)
    }

    /// A ping came, WebSocket's or JSON's.
    pub(super) fn note_ping(&self) {
        self.pings.fetch_add(1, Ordering::Relaxed);
    }

    /// Queues a text frame.
    pub(super) fn send(&self, text: Utf8Bytes) {
        self.send_frame(Message::Text(text));
    }

    /// Queues a frame of any kind.
    pub(super) fn send_frame(&self, frame: Message) {
        let queued = self.queued.fetch_add(frame.len(), Ordering::Relaxed) + frame.len();
        if queued > self.max_queued {
            let was_live =
                self.fate.send_if_modified(|fate| std::mem::replace(fate, Fate::Reset) == Fate::Live);
            if was_live {
                let connection = self.id.0;
                tracing::warn!(connection, queued, "the client doesn't read: its connection is reset");
            }
        } else {
            // A send to a connection that has just ended is lost, as on the network.
            let _ = self.outbox.send(frame);
        }
    }

    /// The connection's task has written these bytes.
    pub(super) fn written(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A frame that a client sent.
#[derive(Debug, Clone)]
pub struct ReceivedFrame {
    /// On which connection.
    pub connection: ConnectionId,
    /// When, by the platform's clock.
    pub at: Timestamp,
    /// What it is.
    pub kind: FrameKind,
    /// Whether it came as text or binary frame.
    pub encoding: Encoding,
    /// Its bytes.
    pub bytes: Bytes,
}

impl ReceivedFrame {
    /// The frame as JSON; null if it isn't.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }
}

/// How a frame is encoded on the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// A text frame.
    Text,
    /// A binary frame.
    Binary,
}
