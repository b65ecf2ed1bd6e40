//! The configuration as the daemon uses it: checked, with defaults filled in and secrets resolved.
//!
//! Every field is a knob of `bridge.toml`, where it is documented; what stands here is what a
//! reader of the code needs.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use url::Url;

use super::{PrivateKey, Secret};
use crate::{
    names::{BotName, ClientName, UserName, WebhookName},
    template::{Template, TemplateId},
};

/// A whole, valid configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[platform]`
    pub platform: Platform,
    /// `[http]`
    pub http: Http,
    /// `[store]`
    pub store: Store,
    /// `[messages]`
    pub messages: Messages,
    /// `[history]`
    pub history: History,
    /// `[log]`
    pub log: Log,
    /// `[bots.*]`
    pub bots: BTreeMap<BotName, Bot>,
    /// `[users.*]`
    pub users: BTreeMap<UserName, User>,
    /// `[webhooks.*]`
    pub webhooks: BTreeMap<WebhookName, Webhook>,
    /// `[clients.*]`; empty means that only loopback may call, with every scope.
    pub clients: BTreeMap<ClientName, Client>,
}

/// `[platform]`: where the platform is and how patiently it is treated.
#[derive(Debug, Clone, PartialEq)]
pub struct Platform {
    /// API host, perhaps with a base path; never ends with a slash in its path but for the root.
    pub url: Url,
    /// Limit for a TCP and TLS connect.
    pub connect_timeout: Duration,
    /// Limit for a whole request to the platform.
    pub request_timeout: Duration,
    /// How often an idle socket is pinged (WebSocket ping).
    pub ping_interval: Duration,
    /// How long a ping may go without any traffic before the socket counts as dead.
    pub pong_timeout: Duration,
    /// First ceiling of the reconnect backoff.
    pub backoff_min: Duration,
    /// Last ceiling of the reconnect backoff.
    pub backoff_max: Duration,
    /// How long a user with refused credentials waits before the next try.
    pub unauthorized_retry: Duration,
    /// Platform requests a second and bot, all kinds together.
    pub request_rate: f64,
    /// How many requests may come at once after a quiet time.
    pub request_burst: u32,
    /// Largest frame that is read, in bytes.
    pub max_frame: usize,
    /// The JWT's `aud`.
    pub audience: String,
    /// The JWT's lifetime.
    pub jwt_lifetime: Duration,
    /// What every connect after a user's first ever appends to the URL's query.
    pub reconnect_query: ReconnectQuery,
    /// Whether sockets are opened with the secure handshake: the JWT and the platform's nonce in it.
    pub secure_handshake: bool,
    /// Replaces scheme, host and port of the URLs that rtm/start returns.
    pub websocket_url: Option<Url>,
    /// Whether bot responses are confirmed with a delivery ack frame.
    pub delivery_acks: bool,
    /// PEM file with the only authorities to trust for the platform.
    pub ca: Option<PathBuf>,
    /// Allows `http://` outside loopback.
    pub insecure: bool,
}

/// How a reconnect tells the platform that it is one (no second welcome message).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReconnectQuery {
    /// `isReconnect=true`
    IsReconnect,
    /// `ConnectionMode=Reconnect`
    ConnectionMode,
}

impl ReconnectQuery {
    /// The query parameter's name and value.
    pub const fn pair(self) -> (&'static str, &'static str) {
        match self {
            Self::IsReconnect => ("isReconnect", "true"),
            Self::ConnectionMode => ("ConnectionMode", "Reconnect"),
        }
    }
}

/// `[http]`: the two listeners.
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// The inbound API.
    pub api: SocketAddr,
    /// Health, metrics, status page.
    pub ops: SocketAddr,
    /// Limit for a request's head to arrive.
    pub header_timeout: Duration,
    /// How long a keep-alive connection may stay without a request.
    pub idle_timeout: Duration,
    /// Connections at once.
    pub max_connections: usize,
    /// Serves the API with TLS.
    pub tls: Option<KeyPair>,
}

/// A certificate and its key, both PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// `[store]`: what is kept, where, and how durably.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    /// The store's directory, absolute or relative to the working directory.
    pub path: PathBuf,
    /// How long final messages are kept.
    pub retention: Duration,
    /// How many final messages are kept.
    pub max_messages: usize,
    /// How long dead letters are kept.
    pub dead_letter_retention: Duration,
    /// Bytes of recent events kept for the inbox and the live tail.
    pub recent: u64,
    /// Bytes beyond which the store counts as full.
    pub max_size: u64,
    /// sled's cache in bytes.
    pub cache: u64,
    /// What a commit survives.
    pub durability: Durability,
}

/// What a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A power loss.
    Fsync,
    /// A crash of the process, not of the machine.
    Os,
}

/// `[messages]`: how messages are sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Messages {
    /// A message that isn't acked within this ends `expired`.
    pub ttl: Duration,
    /// How long a sent message waits for its ack before it is sent again.
    pub ack_timeout: Duration,
    /// Sends on an open socket that no ack followed, before it ends `expired` with `no_ack`.
    pub max_attempts: u32,
    /// Unacked messages per user.
    pub in_flight: usize,
    /// Messages a user, at most.
    pub rate: Option<Rate>,
    /// Queued messages per user.
    pub max_queued: usize,
    /// Largest request body in bytes.
    pub max_body: usize,
}

/// So many in so much time: `"50/s"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how much time.
    pub per: Duration,
}

/// `[history]`: what is fetched after a gap.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// Whether missed events are fetched at all.
    pub recover: bool,
    /// At most this many a gap.
    pub max_messages: usize,
    /// Nothing older than this.
    pub max_age: Duration,
    /// How long live events may wait for it.
    pub timeout: Duration,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A level or a filter, as `RUST_LOG` takes it.
    pub level: String,
    /// Where and how lines are written.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// journald under systemd, else a terminal's lines.
    Auto,
    /// The journal's native protocol.
    Journald,
    /// Lines for people.
    Terminal,
    /// A JSON object a line.
    Json,
}

/// `[bots.NAME]`: the SDK app of one bot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bot {
    /// `botInfo.chatBot`, case-sensitive.
    pub name: String,
    /// `botInfo.taskBotId`, `st-...`.
    pub id: String,
    /// The SDK app's client id, `cs-...`.
    pub client_id: String,
    /// What its users' assertions (JWTs) are signed with, and where.
    pub credentials: Credentials,
    /// Which of the platform's histories is asked for what was missed.
    pub history: HistorySource,
}

/// Where a bot's assertions (JWTs) come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// `client_secret`: the bridge signs them with the app's secret.
    ClientSecret {
        /// The SDK app's client secret.
        secret: Secret,
        /// How.
        algorithm: HmacAlgorithm,
    },
    /// `private_key`: the bridge signs them with a key whose public half the platform has.
    PrivateKey {
        /// The key.
        key: PrivateKey,
        /// How.
        algorithm: RsaAlgorithm,
    },
    /// `sts`: a service of the customer's own makes them.
    TokenService(TokenService),
}

impl Credentials {
    /// A client secret, used as the platform expects it unless told otherwise.
    pub fn client_secret(secret: impl Into<String>) -> Self {
        Self::ClientSecret { secret: Secret::new(secret), algorithm: HmacAlgorithm::default() }
    }
}

/// Which HMAC signs a JWT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HmacAlgorithm {
    /// HMAC with SHA-256; the platform's default.
    #[default]
    Hs256,
    /// HMAC with SHA-512.
    Hs512,
}

/// Which RSA signature (PKCS #1 v1.5) a JWT has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RsaAlgorithm {
    /// With SHA-256.
    #[default]
    Rs256,
    /// With SHA-512.
    Rs512,
}

/// A token service (STS): asked for an assertion with a POST, answers with one in a JSON object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenService {
    /// Where it is.
    pub url: Url,
    /// `Authorization: Bearer`.
    pub bearer: Option<Secret>,
    /// Further headers, by lower-case name.
    pub headers: Vec<(String, Secret)>,
    /// How the request's fields are written.
    pub body: TokenServiceBody,
    /// Further fields of the request, beside those that the bridge sets.
    pub fields: Vec<(String, Secret)>,
    /// The answer's field that holds the JWT.
    pub jwt_field: String,
}

/// How a request to a token service is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenServiceBody {
    /// A JSON object.
    #[default]
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
}

/// Which of the platform's histories is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HistorySource {
    /// `botmessages/rtm`, with the user's access token.
    #[default]
    Rtm,
    /// BotKit's `getMessages`, with the app's own token.
    Botkit,
    /// The public Conversation History API, with the app's own token.
    Conversations,
}

/// `[users.NAME]`: one RTM connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The bot it talks to.
    pub bot: BotName,
    /// Who it is for the platform.
    pub identity: Identity,
    /// Where its events go.
    pub webhooks: Vec<WebhookName>,
}

/// Who a user is for the platform: the JWT's `sub`, and its `isAnonymous`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Somebody whom the platform knows by this.
    Known(String),
    /// `anonymous`: nobody whom the platform keeps. Without a `sub` in the file, the bridge makes one and
    /// remembers it.
    Anonymous(Option<String>),
}

impl From<&str> for Identity {
    /// Somebody known.
    fn from(subject: &str) -> Self {
        Self::Known(subject.to_owned())
    }
}

/// `[webhooks.NAME]`: one receiver of events.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    /// Where events are POSTed.
    pub url: Url,
    /// Which event types it wants.
    pub events: EventFilter,
    /// Signing keys (decoded `whsec_` secrets), the newest first; none: unsigned.
    pub secrets: Vec<SigningKey>,
    /// Limit for one attempt.
    pub timeout: Duration,
    /// First ceiling of the retry backoff.
    pub backoff_min: Duration,
    /// Last ceiling of the retry backoff.
    pub backoff_max: Duration,
    /// How long after receipt an event is tried before it becomes a dead letter.
    pub max_age: Duration,
    /// Deliveries at once.
    pub max_in_flight: usize,
    /// Deliveries a second, at most.
    pub rate: Option<Rate>,
    /// Whether a user's events are delivered in order.
    pub ordered: bool,
    /// The body's shape.
    pub format: BodyFormat,
    /// The template that `format` speaks of, if it does.
    pub template: Option<Template>,
    /// The request's method.
    pub method: Method,
    /// What becomes of a streamed answer's chunks.
    pub streaming: Streaming,
    /// How many of the last messages `bridge.agent_session` tells when an agent takes over.
    pub transcript: usize,
    /// Further headers; their values are secrets.
    pub headers: Vec<(String, Secret)>,
    /// How the bridge authenticates itself.
    pub auth: WebhookAuth,
    /// TLS client certificate.
    pub client_certificate: Option<KeyPair>,
    /// PEM file with the only authorities to trust for this webhook.
    pub ca: Option<PathBuf>,
}

/// A webhook's signing key: the bytes behind `whsec_`.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(pub Vec<u8>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// How the bridge authenticates itself at a webhook, beside the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookAuth {
    /// Not at all.
    None,
    /// `Authorization: Bearer ...`
    Bearer(Secret),
    /// `Authorization: Basic ...`
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
}

/// Which event types a webhook wants; letter case is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventFilter {
    /// Every type of the platform's (`"*"`), and none of the bridge's own.
    All,
    /// Every type of the platform's, and these of the bridge's own, in lower case.
    AllAnd(Vec<String>),
    /// These, in lower case.
    Only(Vec<String>),
}

impl EventFilter {
    /// Whether frames of this type are wanted.
    pub fn wants_frame(&self, event_type: &str) -> bool {
        match self {
            Self::All | Self::AllAnd(_) => true,
            // A frame that calls itself a report is none.
            Self::Only(types) => !is_report_type(event_type) && is_named(types, event_type),
        }
    }

    /// Whether the bridge's own events of this type are wanted.
    pub fn wants_report(&self, event_type: &str) -> bool {
        match self {
            Self::All => false,
            Self::AllAnd(types) | Self::Only(types) => is_named(types, event_type),
        }
    }
}

/// Whether the type is one of the bridge's own, or might become one.
pub fn is_report_type(event_type: &str) -> bool {
    const PREFIX: &str = "bridge.";
    event_type.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

fn is_named(types: &[String], event_type: &str) -> bool {
    types.iter().any(|wanted| wanted.eq_ignore_ascii_case(event_type))
}

/// The shape of a webhook's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum BodyFormat {
    /// The bridge's JSON envelope with the frame inside.
    Envelope,
    /// The frame alone.
    Frame,
    /// The envelope's fields, form-urlencoded.
    Form,
    /// What this template makes of the envelope.
    Template(TemplateId),
}

/// A shape that needs no template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlainFormat {
    /// The bridge's JSON envelope with the frame inside.
    #[default]
    Envelope,
    /// The frame alone.
    Frame,
    /// The envelope's fields, form-urlencoded.
    Form,
}

impl BodyFormat {
    /// The shape, or the template that makes it.
    pub const fn plain(self) -> Result<PlainFormat, TemplateId> {
        match self {
            Self::Envelope => Ok(PlainFormat::Envelope),
            Self::Frame => Ok(PlainFormat::Frame),
            Self::Form => Ok(PlainFormat::Form),
            Self::Template(id) => Err(id),
        }
    }
}

/// How a webhook's events are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `POST`
    Post,
    /// `PUT`
    Put,
}

/// What becomes of a streamed answer's chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streaming {
    /// Each is an event.
    Chunks,
    /// One event when the answer is complete.
    Assembled,
}

/// `[clients.NAME]`: who may call the API.
#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    /// Accepted tokens (several during a rotation).
    pub tokens: Vec<Secret>,
    /// Names or globs of the users it may act for.
    pub users: Vec<String>,
    /// What it may do.
    pub scopes: Scopes,
    /// Requests, at most.
    pub rate: Option<Rate>,
}

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scopes {
    /// Send messages.
    pub send: bool,
    /// Read statuses, users, events.
    pub read: bool,
    /// Reconnect, replay, delete, enable.
    pub admin: bool,
}

impl Scopes {
    /// Every scope: what loopback callers have when no client is configured.
    pub const ALL: Self = Self { send: true, read: true, admin: true };
}
