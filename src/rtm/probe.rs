//! Walks users' sign-ins once, to see whether they work: the requests of a connection, in its order and
//! at its pace, and then a goodbye. Nothing is sent for the user and nothing is kept.
//!
//! The platform is told that each is a reconnect, so it greets nobody. A bridge that runs meanwhile has
//! sockets of its own, on which it gets everything that it would get without this.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use super::{
    failure::{Failure, FailureKind, Step},
    platform::{Platform, PlatformError},
    session::CloseCause,
    socket::{Socket, SocketLimits, WriteError, close_frame_cause},
    subject::Subject,
    token::Skew,
};
use crate::{
    config::{Bot, Config, ReconnectQuery, User},
    names::BotName,
};

/// A running bridge has a burst of its own; the two together must stay inside what the platform allows.
const MOST_AT_ONCE: u32 = 8;
/// A normal end.
const GOODBYE: u16 = 1000;

/// Walks sign-ins at one platform.
#[derive(Debug)]
pub struct Probe {
    platform: Platform,
    limits: SocketLimits,
    query: ReconnectQuery,
    pong_timeout: Duration,
    /// The bots whose other users are spared, and why.
    spared: Mutex<BTreeMap<BotName, Spared>>,
}

/// A step of a sign-in, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Making the assertion.
    Jwt,
    /// `jwtgrant`.
    Grant,
    /// `rtm/start`.
    Start,
    /// The WebSocket: opened, and a ping answered.
    Socket,
}

/// How a sign-in went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// How long each request took that went well, in their order.
    pub took: Vec<(Stage, Duration)>,
    /// How it ended.
    pub end: End,
}

/// How a walk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Every step went well.
    Well,
    /// This step failed.
    Failed(Stage, Trouble),
    /// It was not begun, or not gone on with: another user's of the bot had said enough.
    Spared(Spared),
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// A request failed.
    Request(Failure),
    /// The platform closed the socket as soon as it was open.
    Closed(CloseCause),
    /// It did not answer a ping within this time.
    Silent(Duration),
}

/// Why a bot's other users are spared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spared {
    /// The platform asked for fewer requests (429).
    RateLimited,
    /// The platform can't be reached.
    Unreachable,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(failure) => failure.fmt(f),
            Self::Closed(cause) => write!(f, "the socket opened, then {cause}"),
            Self::Silent(limit) => write!(f, "the socket opened, but no ping was answered within {limit:?}"),
        }
    }
}

impl Probe {
    /// A walk with this configuration. Reads `platform.ca`, or the system's certificates.
    pub fn new(config: &Config) -> Result<Self, PlatformError> {
        let mut settings = config.platform.clone();
        settings.request_burst = settings.request_burst.min(MOST_AT_ONCE);
        Ok(Self {
            platform: Platform::new(&settings)?,
            limits: SocketLimits::of(config),
            query: settings.reconnect_query,
            pong_timeout: settings.pong_timeout,
            spared: Mutex::default(),
        })
    }

    /// How far the platform's clock is ahead of ours, by its latest answer.
    pub fn skew(&self) -> Option<Skew> {
        self.platform.skew()
    }

    /// Walks the sign-in of a user of this bot. Dropping it leaves a socket without a goodbye.
    pub async fn walk(&self, user: &User, bot: &Bot) -> Walk {
        let mut took = Vec::new();
        let end = match self.steps(user, bot, &mut took).await {
            Ok(()) => End::Well,
            Err(end) => end,
        };
        self.note(&user.bot, &end);
        Walk { took, end }
    }

    async fn steps(&self, user: &User, bot: &Bot, took: &mut Vec<(Stage, Duration)>) -> Result<(), End> {
        let failed = |failure: Failure| {
            let stage = match failure.step {
                Step::Jwt | Step::TokenService => Stage::Jwt,
                Step::Start => Stage::Start,
                Step::Open => Stage::Socket,
                _ => Stage::Grant,
            };
            End::Failed(stage, Trouble::Request(failure))
        };
        let subject = Subject::for_a_try(&user.identity);
        let pace = self.platform.pace(&user.bot);
        let turn = pace.wait().await;
        self.go_on(&user.bot)?;
        let began = Instant::now();
        let grant = self.platform.sign_in(bot, &subject).await.map_err(failed)?;
        took.push((Stage::Grant, began.elapsed()));
        drop(turn);

        let turn = pace.wait().await;
        self.go_on(&user.bot)?;
        let began = Instant::now();
        let (issued, _) = self.platform.start(&grant.access.token, bot).await.map_err(failed)?;
        took.push((Stage::Start, began.elapsed()));
        drop(turn);

        let began = Instant::now();
        let offer = self.platform.subprotocols(&issued, bot, &subject).await.map_err(failed)?;
        let (url, tls) = (issued.with(Some(self.query)), self.platform.tls());
        // At once, so that it is never too old.
        let by = began + self.limits.connect_timeout;
        let mut socket = Socket::open(&url, offer, &tls, self.limits, by).await.map_err(failed)?;
        let answered = answers(&mut socket, Instant::now() + self.pong_timeout, self.pong_timeout).await;
        let elapsed = began.elapsed();
        // Also to one that says nothing: it may hear. What comes meanwhile, a running bridge gets as well.
        drop(socket.close(GOODBYE).await);
        answered.map_err(|trouble| End::Failed(Stage::Socket, trouble))?;
        took.push((Stage::Socket, elapsed));
        Ok(())
    }

    /// Whether a bot's users are still to be tried.
    fn go_on(&self, bot: &BotName) -> Result<(), End> {
        let spared = self.spared.lock().unwrap_or_else(PoisonError::into_inner);
        spared.get(bot).map_or(Ok(()), |why| Err(End::Spared(*why)))
    }

    /// What one user's failure means for the bot's others.
    fn note(&self, bot: &BotName, end: &End) {
        let End::Failed(_, Trouble::Request(failure)) = end else { return };
        let why = match failure {
            Failure { kind: FailureKind::RateLimited, .. } => Spared::RateLimited,
            Failure { step: Step::SignIn, unreachable: Some(_), .. } => Spared::Unreachable,
            _ => return,
        };
        self.spared.lock().unwrap_or_else(PoisonError::into_inner).entry(bot.clone()).or_insert(why);
    }
}

/// Whether a socket answers a ping before then.
async fn answers(socket: &mut Socket, by: Instant, limit: Duration) -> Result<(), Trouble> {
    match socket.write(Message::Ping(Bytes::new())).await {
        // An empty frame is never too large.
        Ok(()) | Err(WriteError::TooLarge) => {}
        Err(WriteError::Closed(cause)) => return Err(Trouble::Closed(cause)),
    }
    loop {
        match timeout_at(by, socket.read()).await {
            Err(_) => return Err(Trouble::Silent(limit)),
            Ok(Err(cause)) => return Err(Trouble::Closed(cause)),
            Ok(Ok(Message::Pong(_))) => return Ok(()),
            Ok(Ok(Message::Close(frame))) => {
                socket.answer_goodbye().await;
                return Err(Trouble::Closed(close_frame_cause(frame)));
            }
            // Whatever the platform has to say to the user.
            Ok(Ok(_)) => {}
        }
    }
}
