//! What goes into a session and what comes out.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::SessionSettings;
use crate::{
    config::{ReconnectQuery, Secret},
    events::Partner,
    messages::{ClientMessageId, MessageNumber, QueuedMessage, Verdict},
    rtm::{
        failure::{Failure, printable},
        frame::FrameHead,
        token::Skew,
    },
    store::{Access, Seen},
    users::UserStatus,
};

/// What rtm/start issued: good for one connect within 30 s, and secret until then.
#[derive(Clone, PartialEq, Eq)]
pub struct SocketUrl {
    /// Where to connect.
    pub url: url::Url,
    /// What the secure handshake repeats, where that is configured.
    pub nonce: Option<Secret>,
}

impl fmt::Debug for SocketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/[secret]", self.url.scheme(), self.url.host_str().unwrap_or_default())
    }
}

/// Which of a user's sockets. There are two only while one replaces the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// The one that messages go out on.
    Main,
    /// The one beside it: its successor, and once that was promoted, its predecessor.
    Beside,
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
    /// [`Action::Open`] succeeded; the platform's clock is so far ahead of ours.
    Opened(Skew),
    /// [`Action::Open`] failed.
    OpenFailed(Failure),
    /// A frame that is a JSON object came.
    Frame {
        /// On which socket.
        line: Line,
        /// What of it was read.
        head: &'a FrameHead<'a>,
        /// The whole of it.
        text: &'a str,
    },
    /// Anything else came: a ping, a pong, a frame that can't be read.
    Heard(Line),
    /// The sockets stood unread for so long, because nobody could take what was read.
    Stalled(Duration),
    /// A socket is closed, or broke.
    Closed(Line, CloseCause),
    /// A message was accepted for this user.
    Message(QueuedMessage),
    /// A caller waits for the answer to this message, which may be still to come.
    TurnBegan(MessageNumber),
    /// No caller waits for it any more.
    TurnEnded(MessageNumber),
    /// From now on the user talks to this one, as what was stored tells.
    TalksTo(Partner),
    /// [`Action::StoreEvent`] is done.
    EventStored {
        /// The message that the event answers, if it is a bot's answer and new.
        answered: Option<ClientMessageId>,
        /// How long the sockets stood unread meanwhile.
        stalled: Duration,
    },
    /// [`Action::Send`] succeeded: the frame went out.
    Sent(MessageNumber),
    /// [`Action::Send`] could not be done, though the socket is fine.
    NotSent(MessageNumber, NotSent),
    /// [`Action::FetchHistory`] ended, well or badly.
    HistoryRead(HistoryReply),
    /// [`Action::Release`] is done.
    Released {
        /// What of the history is seen now, if all of it is stored.
        seen: Option<Seen>,
        /// How long the socket stood unread meanwhile.
        stalled: Duration,
    },
    /// [`Session::deadline`](super::Session::deadline) is reached.
    TimePassed,
    /// Someone asked for a new connection.
    ReconnectRequested,
    /// The configuration changed, but for what makes it another connection.
    Reconfigured {
        /// The knobs as they are now.
        settings: Arc<SessionSettings>,
        /// The fingerprint of the credentials as they are now.
        credentials: [u8; 16],
    },
    /// The daemon stops, or the user is no longer configured.
    Stop,
}

/// What is to be read of the history, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchPlan {
    /// What for.
    pub purpose: Purpose,
    /// The access token; none if the one at hand is no good.
    pub token: Option<Secret>,
    /// The platform's own id of the user, where it told it.
    pub platform_user_id: Option<String>,
    /// Messages that may have arrived, to be looked for.
    pub look_up: Vec<ClientMessageId>,
    /// The user's latest message that was sent before.
    pub last_sent: Option<ClientMessageId>,
    /// When it is to be over.
    pub until: Instant,
}

/// What a history is read for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// To recover what was missed, given what was seen before; and to look messages up.
    Recovery(Seen),
    /// The same once more, because the last try did not get it all. That it did not was reported.
    Retry(Seen),
    /// To look messages up.
    LookUp,
}

impl Purpose {
    /// What was seen before, where it is to recover what was missed.
    pub fn seen(&self) -> Option<&Seen> {
        match self {
            Self::Recovery(seen) | Self::Retry(seen) => Some(seen),
            Self::LookUp => None,
        }
    }
}

/// What reading the history brought for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryReply {
    /// The messages that were found.
    pub found: BTreeSet<MessageNumber>,
    /// Whether what was not found is not there.
    pub reading: Reading,
    /// A new access token, if one was needed.
    pub grant: Option<Grant>,
}

/// How far a history was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// As far as was needed.
    Whole,
    /// As far as is read at once.
    Limited,
    /// Less: it failed, or took too long.
    Cut,
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
    /// The platform wants what is said on it encrypted once more.
    EncryptionRequired,
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
            Self::EncryptionRequired => f.write_str(
                "the platform requires this app's messages to be encrypted end to end (protocol_capabilities), which the bridge can't do: have the secure duplex channel switched off for the app (duplexEncryptionEnabled), or use another client_id",
            ),
        }
    }
}

/// What is to be done, in this order. Whoever carries the actions out has at most one request under
/// way and one socket on each [`Line`]: a new [`Action::RequestToken`], [`Action::RequestUrl`] or
/// [`Action::Open`] replaces what went before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Mint a new JWT and ask jwtgrant; answer with `TokenGranted` or `GrantFailed`.
    RequestToken,
    /// Ask rtm/start; answer with `UrlIssued` or `StartFailed`.
    RequestUrl {
        /// The access token to show.
        token: Secret,
    },
    /// Forget the request under way: no answer follows.
    DropRequest,
    /// Open the socket; answer with `Opened` or `OpenFailed`. With one beside the main one, an overlap
    /// begins: what comes on both of them, byte for byte, is one frame.
    Open {
        /// Which is to be.
        line: Line,
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
    SendWsPing(Line),
    /// Send the platform's own kind of ping.
    SendJsonPing {
        /// The frame's `id`.
        id: u64,
    },
    /// Close the main socket with this code and forget it: no `Closed` follows.
    Close {
        /// The WebSocket close code.
        code: u16,
    },
    /// The socket beside the main one takes its place. The old one, if it is still there, is told goodbye
    /// with this code and stays beside, to be read until it is `Closed` or let go of.
    Promote {
        /// The WebSocket close code.
        code: u16,
    },
    /// Forget the socket beside the main one, once what it has still to say until then is stored: no
    /// `Closed` follows.
    LetGo {
        /// When it has to be over; what lies there already is read in any case.
        by: Instant,
    },
    /// The overlap is over: from now on every frame is one of its own.
    EndOverlap,
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
    /// Read the history, and answer with `HistoryRead` when that ended; replaces an earlier one. For a
    /// recovery, keep what `HoldEvent` brings until `Release`.
    FetchHistory(FetchPlan),
    /// The history is no longer needed: no `HistoryRead` follows.
    StopFetching,
    /// The frame that came in is an event: keep it until `Release`, behind those that are kept already;
    /// during an overlap, no longer than until it comes on the old socket.
    HoldEvent {
        /// The user's latest message that was sent before it.
        in_reply_to: Option<ClientMessageId>,
        /// Whether it is a bot's answer.
        answer: Answer,
    },
    /// Store what was recovered and what was kept, each event once, in order; answer with `Released`.
    Release,
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
