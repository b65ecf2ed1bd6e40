//! What goes into a session and what comes out.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use crate::{
    config::{ReconnectQuery, Secret},
    messages::{ClientMessageId, MessageNumber, QueuedMessage, Verdict},
    rtm::{
        failure::{Failure, printable},
        frame::FrameHead,
    },
    store::Access,
    users::UserStatus,
};

/// A URL that rtm/start issued: good for one connect within 30 s, and secret until then.
#[derive(Clone, PartialEq, Eq)]
pub struct SocketUrl(pub url::Url);

impl fmt::Debug for SocketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/[secret]", self.0.scheme(), self.0.host_str().unwrap_or_default())
    }
}

/// What jwtgrant gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The access token.
    pub access: Access,
    /// The platform's own id of the user, where it said it.
    pub platform_user_id: Option<String>,
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// The daemon is up: connect.
    Start,
    /// [`Action::RequestToken`] succeeded.
    TokenGranted(Grant),
    /// [`Action::RequestToken`] failed.
    GrantFailed(Failure),
    /// [`Action::RequestUrl`] succeeded.
    UrlIssued {
        /// The URL.
        url: SocketUrl,
        /// When it arrived.
        at: Instant,
    },
    /// [`Action::RequestUrl`] failed.
    StartFailed(Failure),
    /// [`Action::Open`] succeeded.
    Opened,
    /// [`Action::Open`] failed.
    OpenFailed(Failure),
    /// A frame that is a JSON object came.
    Frame {
        /// What of it was read.
        head: &'a FrameHead<'a>,
        /// The whole of it.
        text: &'a str,
    },
    /// Anything else came: a ping, a pong, a frame that can't be read.
    Heard,
    /// The socket stood unread for so long, because nobody could take what was read.
    Stalled(Duration),
    /// The socket is closed, or broke.
    Closed(CloseCause),
    /// A message was accepted for this user.
    Message(QueuedMessage),
    /// [`Action::Send`] succeeded: the frame went out.
    Sent(MessageNumber),
    /// [`Action::Send`] could not be done, though the socket is fine.
    NotSent(MessageNumber, NotSent),
    /// [`Session::deadline`](super::Session::deadline) is reached.
    TimePassed,
    /// Someone asked for a new connection.
    ReconnectRequested,
    /// The daemon stops, or the user is no longer configured.
    Stop,
}

/// Why a message did not go out on a working socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSent {
    /// Its content can't be read from the store.
    Unreadable,
    /// It is larger than what is written at once.
    TooLarge,
}

/// How a socket ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseCause {
    /// The platform closed it with this code (1005: without one) and these words.
    Code(u16, String),
    /// It ended without a goodbye, with what the system says.
    Lost(String),
    /// The platform sent a frame over `platform.max_frame`.
    FrameTooLarge,
    /// Pings went unanswered.
    Dead,
}

impl fmt::Display for CloseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code, words) => {
                write!(f, "the platform closed the connection ({code}")?;
                f.write_str(match code {
                    1007 => ", text that is not UTF-8",
                    1008 => ", rate limit, suspended bot or blocked user",
                    1009 => ", a message was too large",
                    1011 => ", error in the platform",
                    _ => "",
                })?;
                if words.is_empty() { f.write_str(")") } else { write!(f, "): {}", printable(words)) }
            }
            Self::Lost(words) if words.is_empty() => f.write_str("the connection was lost"),
            Self::Lost(words) => write!(f, "the connection was lost: {}", printable(words)),
            Self::FrameTooLarge => f.write_str("the platform sent a frame over platform.max_frame"),
            Self::Dead => f.write_str("the connection was dead: nothing came, not even an answer to a ping"),
        }
    }
}

/// What is to be done, in this order. Whoever carries the actions out has at most one request under
/// way and one socket: a new [`Action::RequestToken`], [`Action::RequestUrl`] or [`Action::Open`]
/// replaces what went before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Mint a new JWT and ask jwtgrant; answer with `TokenGranted` or `GrantFailed`.
    RequestToken,
    /// Ask rtm/start; answer with `UrlIssued` or `StartFailed`.
    RequestUrl {
        /// The access token to show.
        token: Secret,
    },
    /// Open the socket; answer with `Opened` or `OpenFailed`.
    Open {
        /// Where.
        url: SocketUrl,
        /// What to append to the URL's query.
        query: Option<ReconnectQuery>,
        /// When the URL is too old to be used.
        by: Instant,
    },
    /// Send this message's frame; answer with `Sent`, `NotSent` or `Closed` before anything else.
    Send {
        /// Where its content is found.
        number: MessageNumber,
        /// The frame's `id` and `clientMessageId`.
        id: ClientMessageId,
    },
    /// Send a WebSocket ping.
    SendWsPing,
    /// Send the platform's own kind of ping.
    SendJsonPing {
        /// The frame's `id`.
        id: u64,
    },
    /// Close the socket with this code and forget it: no `Closed` follows.
    Close {
        /// The WebSocket close code.
        code: u16,
    },
    /// The message left, or may have.
    MarkSent {
        /// Which.
        number: MessageNumber,
    },
    /// The message ended. Nothing more is said of it.
    Finished {
        /// Which.
        number: MessageNumber,
        /// How.
        verdict: Verdict,
    },
    /// The frame that came in is an event: store it.
    StoreEvent {
        /// The user's latest message that was sent before it.
        in_reply_to: Option<ClientMessageId>,
        /// Whether it is a bot's answer: of interest to whoever waits for one.
        answer: Answer,
    },
    /// Store [`Session::memory`](super::Session::memory).
    Remember,
    /// The connection's status changed.
    StatusChanged(UserStatus),
}

/// Whether an event is a bot's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A `bot_response`.
    Yes,
    /// Anything else.
    No,
}
