//! The defaults of every knob that has one.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use url::Url;

use super::model::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl Default for Platform {
    fn default() -> Self {
        Self {
            url: Url::parse("https://bots.kore.ai").expect("a constant URL"),
            connect_timeout: 10 * SECOND,
            request_timeout: 15 * SECOND,
            ping_interval: 15 * SECOND,
            pong_timeout: 10 * SECOND,
            backoff_min: Duration::from_millis(500),
            backoff_max: 30 * SECOND,
            unauthorized_retry: 60 * SECOND,
            request_rate: 4.5,
            request_burst: 60,
            max_frame: 4 << 20,
            audience: "https://idproxy.kore.com/authorize".into(),
            jwt_lifetime: 5 * MINUTE,
            reconnect_query: ReconnectQuery::IsReconnect,
            secure_handshake: false,
            websocket_url: None,
            delivery_acks: false,
            ca: None,
            insecure: false,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            api: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            ops: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            header_timeout: 10 * SECOND,
            idle_timeout: 75 * SECOND,
            max_connections: 10_000,
            tls: None,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            path: PathBuf::from("data"),
            retention: 7 * DAY,
            max_messages: 200_000,
            dead_letter_retention: 30 * DAY,
            recent: 32 * MIB,
            max_size: 10 * GIB,
            cache: 32 * MIB,
            durability: Durability::Fsync,
        }
    }
}

impl Default for Messages {
    fn default() -> Self {
        Self {
            ttl: 15 * MINUTE,
            ack_timeout: 10 * SECOND,
            max_attempts: 3,
            in_flight: 1,
            rate: None,
            max_queued: 1000,
            max_body: usize::try_from(256 * KIB).expect("fits any address space"),
        }
    }
}

impl Default for History {
    fn default() -> Self {
        Self { recover: true, max_messages: 500, max_age: 24 * HOUR, timeout: 30 * SECOND }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Auto }
    }
}

impl Webhook {
    /// A webhook of which nothing but the URL is set.
    pub fn new(url: Url) -> Self {
        Self {
            url,
            events: EventFilter::default(),
            secrets: Vec::new(),
            timeout: 15 * SECOND,
            backoff_min: Duration::from_millis(500),
            backoff_max: 5 * MINUTE,
            max_age: 24 * HOUR,
            max_in_flight: 32,
            rate: None,
            ordered: true,
            format: BodyFormat::Envelope,
            template: None,
            method: Method::Post,
            streaming: Streaming::Chunks,
            transcript: 0,
            headers: Vec::new(),
            auth: WebhookAuth::None,
            client_certificate: None,
            ca: None,
        }
    }
}

impl Default for EventFilter {
    /// What most webhooks want: the bot's answers, and what the user wrote elsewhere.
    fn default() -> Self {
        Self::Only(vec!["bot_response".into(), "user_message".into()])
    }
}

impl Default for Scopes {
    /// Everything but administration.
    fn default() -> Self {
        Self { send: true, read: true, admin: false }
    }
}
