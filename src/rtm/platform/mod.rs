//! The platform's HTTP endpoints.
//!
//! One client for the daemon, that makes each request once: no redirects, no proxies from the
//! environment, no retries of its own, a limit on time and on the size of what is read.

mod answer;
mod handshake;
mod history;
mod tls;
mod token_service;
mod upload;

use std::{
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use self::answer::{Answer, MOST_BODY};
pub(super) use self::{
    answer::retry_after,
    history::{From as HistoryFrom, RawPage},
    upload::{Chunk, FileToken, Whole},
};
use super::{
    failure::{Failure, FailureKind, Step},
    pace::{Pace, Paces},
    session::{Grant, SocketUrl},
    socket_url::SocketPolicy,
    subject::Subject,
    token::{Assertion, Skew, credentials_fingerprint, expiry},
};
use crate::{
    clock::Timestamp,
    config::{self, Bot, Credentials, Secret},
    names::BotName,
    store::Access,
};

/// A connection that was not used for so long is closed: at the end of a start there are many, of 30 KiB each.
const POOL_IDLE: Duration = Duration::from_secs(10);

/// Requests a second, and at once, to the Conversation History API: its documented limit is 60 a minute and
/// 1,800 an hour for each bot.
const CONVERSATIONS: (f64, u32) = (0.49, 30);

/// What the bridge calls itself.
pub const USER_AGENT: &str = concat!("rtm-bridge/", env!("CARGO_PKG_VERSION"));

/// The platform, as far as it speaks HTTP. The settings may change while it is in use: each request
/// goes by those that it began with.
#[derive(Debug)]
pub struct Platform {
    terms: RwLock<Arc<Terms>>,
    clock: PlatformClock,
    paces: Paces,
    conversation_paces: Paces,
}

/// The client and what else follows from the settings.
#[derive(Debug)]
pub struct Terms {
    http: reqwest::Client,
    tls: Arc<rustls::ClientConfig>,
    base: Url,
    sockets: SocketPolicy,
    audience: String,
    jwt_lifetime: Duration,
    secure_handshake: bool,
    request_rate: f64,
    request_burst: u32,
    request_timeout: Duration,
}

/// Why there can be no client for the platform.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// `platform.ca` can't be read.
    #[error(
        "platform.ca: {} can't be read as a PEM file of certificates: {reason}; give a file with at least one CERTIFICATE block",
        path.display()
    )]
    Authorities {
        /// The configured file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The TLS or HTTP library refuses its settings.
    #[error("the HTTP client for the platform can't be set up: {0}")]
    Client(String),
}

/// What jwtgrant said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The access token.
    pub token: Secret,
    /// Until when it is good, by our clock.
    pub expires_at: Timestamp,
    /// The platform's own id of the user (`u-...`).
    pub platform_user_id: Option<String>,
}

impl Terms {
    /// A client with these settings. Reads the system's certificates, or `platform.ca`.
    pub fn new(settings: &config::Platform) -> Result<Self, PlatformError> {
        let tls = tls::client_config(settings.ca.as_deref())?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .user_agent(USER_AGENT)
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.request_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .pool_idle_timeout(POOL_IDLE)
            .build()
            .map_err(|error| PlatformError::Client(answer::words(&error)))?;
        Ok(Self {
            http,
            tls: Arc::new(tls),
            base: settings.url.clone(),
            sockets: SocketPolicy::new(&settings.url, settings.websocket_url.as_ref()),
            audience: settings.audience.clone(),
            jwt_lifetime: settings.jwt_lifetime,
            secure_handshake: settings.secure_handshake,
            request_rate: settings.request_rate,
            request_burst: settings.request_burst,
            request_timeout: settings.request_timeout,
        })
    }

    /// An endpoint under the configured base path.
    fn endpoint(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let base = self.base.path().trim_end_matches('/');
        url.set_path(&format!("{base}/api/1.1/{path}"));
        url
    }
}

impl Platform {
    /// A client with these settings. Reads the system's certificates, or `platform.ca`.
    pub fn new(settings: &config::Platform) -> Result<Self, PlatformError> {
        let terms = Terms::new(settings)?;
        let paces = Paces::new(terms.request_rate, terms.request_burst);
        let (rate, burst) = CONVERSATIONS;
        Ok(Self {
            terms: RwLock::new(Arc::new(terms)),
            clock: PlatformClock::default(),
            paces,
            conversation_paces: Paces::new(rate, burst),
        })
    }

    /// Goes by other settings from the next request on. What is known of the platform's clock stays, and
    /// so does what each bot has used up of its pace.
    pub fn reload(&self, terms: Terms) {
        self.paces.set(terms.request_rate, terms.request_burst);
        *self.terms.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(terms);
    }

    fn terms(&self) -> Arc<Terms> {
        self.terms.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The TLS settings for sockets: the same authorities as for requests.
    pub fn tls(&self) -> Arc<rustls::ClientConfig> {
        self.terms().tls.clone()
    }

    /// The pace of this bot's requests, all kinds together: wait for it before each.
    pub fn pace(&self, bot: &BotName) -> Arc<Pace> {
        self.paces.of(bot)
    }

    /// The pace of this bot's requests to the Conversation History API, which has its own limit beside
    /// [`Platform::pace`]: wait for both.
    pub fn conversation_pace(&self, bot: &BotName) -> Arc<Pace> {
        self.conversation_paces.of(bot)
    }

    /// How far the platform's clock is ahead of ours; unknown before its first answer.
    pub fn skew(&self) -> Option<Skew> {
        self.clock.skew()
    }

    /// A fingerprint of what this user signs in with.
    pub fn credentials(&self, bot: &Bot, subject: &Subject) -> [u8; 16] {
        credentials_fingerprint(&self.terms().base, bot, subject)
    }

    /// Signs a user in: gets an assertion and grants it. If it is refused, and the refusal shows
    /// that the clocks differ by more than was known, once more by the platform's clock.
    pub async fn sign_in(&self, bot: &Bot, subject: &Subject) -> Result<Grant, Failure> {
        let assumed = self.skew().unwrap_or_default();
        let is_ours = !matches!(bot.credentials, Credentials::TokenService(_));
        match self.sign_in_at(bot, subject, assumed).await {
            Err(failure) if failure.kind == FailureKind::Unauthorized && is_ours => match self.skew() {
                Some(told) if told.differs_from(assumed) => self.sign_in_at(bot, subject, told).await,
                _ => Err(failure),
            },
            done => done,
        }
    }

    async fn sign_in_at(&self, bot: &Bot, subject: &Subject, skew: Skew) -> Result<Grant, Failure> {
        let jwt = self.assertion_at(bot, subject, skew).await?;
        let granted = self.grant(&jwt, bot).await?;
        Ok(Grant {
            access: Access {
                token: granted.token,
                expires_at: granted.expires_at,
                granted_for: self.credentials(bot, subject),
            },
            platform_user_id: granted.platform_user_id,
        })
    }

    /// An assertion: made here, or asked for at the bot's token service. Use each once.
    pub async fn assertion(&self, bot: &Bot, subject: &Subject) -> Result<Secret, Failure> {
        self.assertion_at(bot, subject, self.skew().unwrap_or_default()).await
    }

    async fn assertion_at(&self, bot: &Bot, subject: &Subject, skew: Skew) -> Result<Secret, Failure> {
        let terms = self.terms();
        let now = skew.to_platform(Timestamp::now());
        if let Credentials::TokenService(service) = &bot.credentials {
            return terms.ask_service(service, bot, subject, now).await;
        }
        let (audience, lifetime) = (terms.audience.as_str(), terms.jwt_lifetime);
        Assertion { subject, audience, lifetime, now }
            .sign(bot)
            .map_err(|error| Failure::new(Step::Jwt, FailureKind::Impossible, &error.to_string()))
    }

    /// `POST /api/1.1/oAuth/token/jwtgrant`: an assertion for an access token. Use each assertion
    /// once.
    pub async fn grant(&self, jwt: &Secret, bot: &Bot) -> Result<Granted, Failure> {
        let body = json!({ "assertion": jwt.expose(), "botInfo": bot_info(bot), "token": {} });
        let terms = self.terms();
        let request = terms.http.post(terms.endpoint("oAuth/token/jwtgrant")).json(&body);
        let mut secrets = vec![jwt];
        if let Credentials::ClientSecret { secret, .. } = &bot.credentials {
            secrets.push(secret);
        }
        let answer = self.ask(Step::SignIn, request, &secrets, MOST_BODY).await?;
        if let Some(failure) = answer.failure(|status, _| match status.as_u16() {
            400 | 401 | 403 => Some(FailureKind::Unauthorized),
            _ => None,
        }) {
            return Err(failure);
        }
        let GrantBody { authorization, user_info } = answer.body()?;
        let token = Secret::new(authorization.access_token);
        if bearer(&token).is_none() {
            return Err(answer.malformed("the access token has characters that no token may have"));
        }
        let skew = self.skew().unwrap_or_default();
        Ok(Granted {
            token,
            expires_at: expiry(authorization.expires_date.as_str(), skew, Timestamp::now()),
            platform_user_id: user_info.and_then(|user| user.user_id.as_str().map(str::to_owned)),
        })
    }

    /// `POST /api/1.1/rtm/start`: an access token for a socket's URL, and when that arrived.
    pub async fn start(&self, token: &Secret, bot: &Bot) -> Result<(SocketUrl, Instant), Failure> {
        // A token from an edited store might not be; a new one will.
        let Some(bearer) = bearer(token) else {
            return Err(Failure::new(Step::Start, FailureKind::TokenRefused, "it can't stand in a header"));
        };
        let body = json!({ "botInfo": bot_info(bot), "token": {} });
        let terms = self.terms();
        let mut request =
            terms.http.post(terms.endpoint("rtm/start")).header(AUTHORIZATION, bearer).json(&body);
        if terms.secure_handshake {
            request = request.header(handshake::ASK, handshake::VERSION);
        }
        let answer = self.ask(Step::Start, request, &[token], MOST_BODY).await?;
        if let Some(failure) = answer.failure(answer::token_refusal) {
            return Err(failure);
        }
        let StartBody { url, nonce } = answer.body()?;
        let url = terms.sockets.admit(&url).map_err(|refusal| answer.malformed(&refusal.to_string()))?;
        let nonce = match terms.secure_handshake {
            true => Some(handshake::read_nonce(&nonce)?),
            false => None,
        };
        Ok((SocketUrl { url, nonce }, answer.arrived))
    }

    async fn ask(
        &self,
        step: Step,
        request: reqwest::RequestBuilder,
        secrets: &[&Secret],
        most: usize,
    ) -> Result<Answer, Failure> {
        let answer = Answer::to(step, request, secrets, most).await?;
        if let Some(skew) = answer.skew {
            self.clock.set(skew);
        }
        Ok(answer)
    }
}

fn bot_info(bot: &Bot) -> Value {
    json!({ "chatBot": bot.name, "taskBotId": bot.id })
}

/// The header for a token, if it can stand in one.
fn bearer(token: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("bearer {}", token.expose())).ok()?;
    value.set_sensitive(true);
    (!token.expose().is_empty()).then_some(value)
}

#[derive(Deserialize)]
struct GrantBody {
    authorization: Authorization,
    #[serde(rename = "userInfo")]
    user_info: Option<UserInfo>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorization {
    access_token: String,
    #[serde(default)]
    expires_date: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserInfo {
    #[serde(default)]
    user_id: Value,
}

#[derive(Deserialize)]
struct StartBody {
    url: String,
    #[serde(default)]
    nonce: Value,
}

/// What is known of the platform's clock, from its latest answer.
#[derive(Debug)]
struct PlatformClock(AtomicI64);

impl PlatformClock {
    const UNKNOWN: i64 = i64::MIN;

    fn set(&self, skew: Skew) {
        self.0.store(skew.0, Ordering::Relaxed);
    }

    fn skew(&self) -> Option<Skew> {
        Some(self.0.load(Ordering::Relaxed)).filter(|skew| *skew != Self::UNKNOWN).map(Skew)
    }
}

impl Default for PlatformClock {
    fn default() -> Self {
        Self(AtomicI64::new(Self::UNKNOWN))
    }
}

#[cfg(test)]
mod tests;
