//! One attempt: an event's body POSTed to a webhook, and what came of it.

use std::{cell::Cell, path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{
    Response,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT},
};
use tokio::time::{Instant, timeout_at};
use tower::util::MapRequestLayer;
use url::Url;

use super::{Failure, FailureKind, Outcome, RetryCause, SenderError, SenderProblem, Signer, classify};
use crate::{
    clock::Timestamp,
    config::{KeyPair, Webhook, WebhookAuth},
    events::{Body, EventId, event_type_label},
    names::{UserName, WebhookName},
};

/// A connection takes at most this long, within the attempt's own limit.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Idle connections are dropped before common servers drop them (Node's keep-alive: 5 s).
const POOL_IDLE: Duration = Duration::from_secs(4);
/// How much of an answer is read, so that its connection can be used again.
const ANSWER_READ: usize = 64 * 1024;
/// How much of an answer is kept for people to read.
const ANSWER_KEPT: usize = 4 * 1024;
/// How long the body of a success may take; beyond that its connection is given up.
const SUCCESS_PATIENCE: Duration = Duration::from_millis(100);
/// How long the body of anything else may take, within the attempt's own limit.
const FAILURE_PATIENCE: Duration = Duration::from_secs(2);

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const BRIDGE_USER: HeaderName = HeaderName::from_static("bridge-user");
const BRIDGE_EVENT: HeaderName = HeaderName::from_static("bridge-event");
const BRIDGE_ATTEMPT: HeaderName = HeaderName::from_static("bridge-attempt");

tokio::task_local! {
    /// Whether a connection was opened for the request that this task is sending.
    static CONNECTED: Cell<Connection>;
}

/// What a request went out on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    /// A connection that served a request before.
    Reused,
    /// A connection of its own.
    Fresh,
}

/// Posts events to one webhook. Cloning it is cheap; clones share their connections.
#[derive(Debug, Clone)]
pub struct Sender {
    client: reqwest::Client,
    url: Url,
    /// The headers that every attempt has.
    headers: HeaderMap,
    signer: Signer,
    timeout: Duration,
}

/// One event, about to be posted.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The `webhook-id`.
    pub event_id: EventId,
    /// Whose event it is.
    pub user: UserName,
    /// The frame's type as it came.
    pub event_type: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The body, the same in every attempt.
    pub body: Body,
    /// The time of this attempt.
    pub at: Timestamp,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptResult {
    /// What it means.
    pub outcome: Outcome,
    /// The answer's status, if one came.
    pub status: Option<u16>,
    /// Why none came.
    pub failure: Option<Failure>,
    /// The beginning of the answer's body, at most 4 KiB, as it came; empty when delivered.
    pub answer: Vec<u8>,
    /// From the start to the answer's head, or to the failure.
    pub took: Duration,
}

impl Sender {
    /// Prepares deliveries to this webhook: reads its certificates, builds its client. Blocks for a
    /// few file reads.
    pub fn new(name: &WebhookName, settings: &Webhook) -> Result<Self, SenderError> {
        Self::build(settings).map_err(|problem| SenderError { webhook: name.clone(), problem })
    }

    fn build(settings: &Webhook) -> Result<Self, SenderProblem> {
        Ok(Self {
            client: client(settings)?,
            url: settings.url.clone(),
            headers: fixed_headers(settings)?,
            signer: Signer::new(&settings.secrets),
            timeout: settings.timeout,
        })
    }

    /// Posts an event once and waits for the answer, at most as long as the webhook's timeout.
    ///
    /// A receiver may close an idle connection at the very moment that it is used again. When a
    /// reused connection ends before an answer, the same request is sent once more at once, as part
    /// of the same attempt: same number, same timestamp, same signature, within the same timeout.
    ///
    /// Whether it was delivered is decided by the answer's status. A body that doesn't end, or ends
    /// badly, costs its connection and nothing else.
    pub async fn attempt(&self, delivery: &Delivery) -> AttemptResult {
        let started = Instant::now();
        let deadline = started + self.timeout;
        match timeout_at(deadline, self.post(delivery)).await {
            Ok(Ok(response)) => self.answered(response, started, deadline, delivery.at).await,
            Ok(Err(failure)) => AttemptResult::failed(failure, started.elapsed()),
            Err(_) => AttemptResult::failed(Failure::timeout(self.timeout), started.elapsed()),
        }
    }

    async fn post(&self, delivery: &Delivery) -> Result<Response, Failure> {
        let headers = self.headers_of(delivery);
        match self.send(delivery, headers.clone()).await {
            (Err(failure), Connection::Reused) if failure.kind == FailureKind::Reset => {
                tracing::debug!(event = %delivery.event_id, "a kept connection was stale; sent again at once");
                self.send(delivery, headers).await.0
            }
            (answer, _) => answer,
        }
    }

    async fn send(&self, delivery: &Delivery, headers: HeaderMap) -> (Result<Response, Failure>, Connection) {
        let request = self.client.post(self.url.clone()).headers(headers).body(delivery.body.bytes.clone());
        let sending = async {
            let answer = request.send().await;
            (answer, CONNECTED.with(Cell::get))
        };
        let (answer, connection) = CONNECTED.scope(Cell::new(Connection::Reused), sending).await;
        let limit = CONNECT_LIMIT.min(self.timeout);
        (answer.map_err(|error| Failure::explain(&error, &self.url, limit)), connection)
    }

    async fn answered(
        &self,
        mut response: Response,
        started: Instant,
        deadline: Instant,
        at: Timestamp,
    ) -> AttemptResult {
        let took = started.elapsed();
        let status = response.status();
        let outcome = classify(status, response.headers(), at.plus(took));
        let answer = if outcome == Outcome::Delivered {
            read(&mut response, 0, Instant::now() + SUCCESS_PATIENCE).await
        } else {
            read(&mut response, ANSWER_KEPT, deadline.min(Instant::now() + FAILURE_PATIENCE)).await
        };
        AttemptResult { outcome, status: Some(status.as_u16()), failure: None, answer, took }
    }

    fn headers_of(&self, delivery: &Delivery) -> HeaderMap {
        let id = delivery.event_id.to_string();
        let at_secs = delivery.at.as_secs();
        let mut headers = self.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(delivery.body.content_type));
        headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(at_secs));
        if let Some(signature) = self.signer.sign(&id, at_secs, &delivery.body.bytes) {
            headers.insert(WEBHOOK_SIGNATURE, plain(&signature));
        }
        headers.insert(WEBHOOK_ID, plain(&id));
        headers.insert(BRIDGE_USER, plain(delivery.user.as_str()));
        headers.insert(BRIDGE_EVENT, plain(event_type_label(&delivery.event_type)));
        headers.insert(BRIDGE_ATTEMPT, HeaderValue::from(delivery.attempt));
        headers
    }
}

impl AttemptResult {
    fn failed(failure: Failure, took: Duration) -> Self {
        let outcome = Outcome::Retry { cause: RetryCause::NoAnswer(failure.kind), hold: None };
        Self { outcome, status: None, failure: Some(failure), answer: Vec::new(), took }
    }

    /// What happened, in one line for people: `delivered (204)`, `it failed (503)`, or the failure.
    pub fn summary(&self) -> String {
        let status = self.status.map_or_else(String::new, |status| format!(" ({status})"));
        match (&self.failure, self.outcome) {
            (Some(failure), _) => failure.to_string(),
            (None, Outcome::Delivered) => format!("delivered{status}"),
            (None, Outcome::Retry { cause, .. }) => format!("{cause}{status}"),
            (None, Outcome::Refused) => format!("it refuses this event{status}"),
            (None, Outcome::Gone) => format!("it says that it is gone{status}"),
        }
    }
}

/// Whether a header is the bridge's own, so that a webhook's settings can't have it.
pub fn is_reserved_header(name: &str) -> bool {
    const FRAMING: [&str; 8] = [
        "connection",
        "content-length",
        "content-type",
        "expect",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let name = name.to_ascii_lowercase();
    name.starts_with("webhook-") || name.starts_with("bridge-") || FRAMING.contains(&&*name)
}

/// Reads what is left of an answer, as far as it is worth it, and gives the first `keep` bytes.
async fn read(response: &mut Response, keep: usize, until: Instant) -> Vec<u8> {
    let mut kept = Vec::new();
    if keep == 0 && response.content_length().is_some_and(|length| length > ANSWER_READ as u64) {
        return kept;
    }
    let mut seen = 0;
    // An error or the end of patience ends the body as well: the outcome is decided already.
    while let Ok(Ok(Some(chunk))) = timeout_at(until, response.chunk()).await {
        seen += chunk.len();
        kept.extend_from_slice(&chunk[..chunk.len().min(keep - kept.len())]);
        if seen >= ANSWER_READ {
            break;
        }
    }
    kept
}

fn client(settings: &Webhook) -> Result<reqwest::Client, SenderProblem> {
    let mut client = reqwest::Client::builder()
        .connect_timeout(CONNECT_LIMIT.min(settings.timeout))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(settings.max_in_flight)
        .connector_layer(MapRequestLayer::new(note_connect));
    if let Some(path) = &settings.ca {
        client = client.tls_certs_only(authorities(path)?);
    } else if settings.url.scheme() == "http" {
        // No TLS: don't fail for want of a machine's certificate store.
        client = client.tls_certs_only([]);
    }
    if let Some(pair) = &settings.client_certificate {
        client = client.identity(identity(pair)?);
    }
    client.build().map_err(|error| SenderProblem::Tls(root_cause(&error)))
}

/// Sits in front of the connector: it is asked only when no kept connection is at hand.
fn note_connect<T>(target: T) -> T {
    // Connections that are opened by no request of ours have nobody to tell.
    let _ = CONNECTED.try_with(|connected| connected.set(Connection::Fresh));
    target
}

fn authorities(path: &Path) -> Result<Vec<reqwest::Certificate>, SenderProblem> {
    let not_pem = || SenderProblem::NotPem { key: "ca", path: path.to_owned(), expected: "certificates" };
    let certificates = reqwest::Certificate::from_pem_bundle(&file("ca", path)?).map_err(|_| not_pem())?;
    if certificates.is_empty() { Err(not_pem()) } else { Ok(certificates) }
}

fn identity(pair: &KeyPair) -> Result<reqwest::Identity, SenderProblem> {
    const KEY: &str = "client_certificate";
    let mut pem = file(KEY, &pair.certificate)?;
    pem.push(b'\n');
    pem.extend(file(KEY, &pair.key)?);
    reqwest::Identity::from_pem(&pem).map_err(|_| SenderProblem::NotPem {
        key: KEY,
        path: pair.certificate.clone(),
        expected: "certificate (or its key's file no private key)",
    })
}

fn file(key: &'static str, path: &Path) -> Result<Vec<u8>, SenderProblem> {
    std::fs::read(path).map_err(|source| SenderProblem::Unreadable { key, path: path.to_owned(), source })
}

fn fixed_headers(settings: &Webhook) -> Result<HeaderMap, SenderProblem> {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("rtm-bridge/", env!("CARGO_PKG_VERSION"))));
    for (name, value) in &settings.headers {
        if is_reserved_header(name) {
            return Err(SenderProblem::ReservedHeader(name.clone()));
        }
        let invalid = || SenderProblem::InvalidHeader(name.clone());
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        headers.insert(header, sensitive(value.expose()).ok_or_else(invalid)?);
    }
    let authorization = match &settings.auth {
        WebhookAuth::None => return Ok(headers),
        WebhookAuth::Bearer(token) => format!("Bearer {}", token.expose()),
        WebhookAuth::Basic { user, password } => {
            format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose())))
        }
    };
    let value = sensitive(&authorization).ok_or(SenderProblem::InvalidToken)?;
    match headers.insert(AUTHORIZATION, value) {
        None => Ok(headers),
        Some(_) => Err(SenderProblem::TwoAuthorizations),
    }
}

/// A header value that no `Debug` shows.
fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn plain(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("ids, names, labels and base64 are plain ASCII")
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let root = std::iter::successors(Some(error), |cause| cause.source()).last();
    root.map(ToString::to_string).unwrap_or_default()
}
