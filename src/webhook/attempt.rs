//! One attempt: an event's body POSTed to a webhook, and what came of it.

use std::{sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Uri,
    body::{Body as _, Incoming},
    header::HeaderMap,
    http::response::Parts,
};
use tokio::time::{Instant, timeout_at};
use url::{Position, Url};

use super::{
    Failure, FailureKind, Outcome, RetryCause, SenderError, SenderProblem, classify,
    client::{Client, ClientError, Connection, Post},
    headers::Headers,
};
use crate::{
    clock::Timestamp,
    config::{self, Webhook},
    events::{Body, Event},
    names::WebhookName,
    trace::TraceContext,
};

/// How much of an answer is read, so that its connection can be used again.
const ANSWER_READ: usize = 64 * 1024;
/// How much of an answer is kept for people to read.
const ANSWER_KEPT: usize = 4 * 1024;
/// How long the body of a success may take; beyond that its connection is given up.
const SUCCESS_PATIENCE: Duration = Duration::from_millis(100);
/// How long the body of anything else may take, within the attempt's own limit.
const FAILURE_PATIENCE: Duration = Duration::from_secs(2);

/// Posts events to one webhook. Cloning it is cheap; clones share their connections.
#[derive(Debug, Clone)]
pub struct Sender {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) url: Url,
    /// What is requested of the receiver: path and query.
    path: Uri,
    headers: Headers,
    method: Method,
    timeout: Duration,
}

/// One event, about to be posted.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The event.
    pub event: Arc<Event>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The body, the same in every attempt.
    pub body: Body,
    /// The time of this attempt.
    pub at: Timestamp,
    /// The trace that it is a part of, with a span of its own.
    pub trace: Option<Box<TraceContext>>,
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
        let path = &settings.url[Position::BeforePath..Position::AfterQuery];
        let shared = Shared {
            client: Client::new(settings)?,
            url: settings.url.clone(),
            path: path.parse().map_err(|_| SenderProblem::Url)?,
            headers: Headers::new(settings)?,
            method: match settings.method {
                config::Method::Post => Method::POST,
                config::Method::Put => Method::PUT,
            },
            timeout: settings.timeout,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Posts an event once and waits for the answer, at most as long as the webhook's timeout.
    ///
    /// A receiver may close an idle connection at the very moment that it is used again. When a
    /// kept connection ends before an answer, the same request is sent once more at once, on a new one, as
    /// part of the same attempt: same number, same timestamp, same signature, within the same timeout.
    ///
    /// Whether it was delivered is decided by the answer's status. A body that doesn't end, or ends
    /// badly, costs its connection and nothing else.
    pub async fn attempt(&self, delivery: &Delivery) -> AttemptResult {
        let Shared { timeout, .. } = *self.shared;
        let started = Instant::now();
        let deadline = started + timeout;
        match timeout_at(deadline, self.shared.post(delivery)).await {
            Ok(Ok(answer)) => self.shared.answered(answer, started, deadline, delivery.at).await,
            Ok(Err(failure)) => AttemptResult::failed(failure, started.elapsed()),
            Err(_) => AttemptResult::failed(Failure::timeout(timeout), started.elapsed()),
        }
    }

    /// Closes connections that have been idle for too long. Answers with when to ask again, if any are
    /// left.
    pub(super) fn close_idle(&self, now: Instant) -> Option<Instant> {
        self.shared.client.close_old(now)
    }
}

/// An answer's head, and the connection that the rest of it comes on.
struct Answer {
    head: Parts,
    body: Incoming,
    connection: Box<Connection>,
}

impl Shared {
    async fn post(&self, delivery: &Delivery) -> Result<Answer, Failure> {
        if let Some(kept) = self.client.kept() {
            match self.send(kept, delivery).await {
                Err(failure) if failure.kind == FailureKind::Reset => {
                    tracing::debug!(user = %delivery.event.user, event = %delivery.event.id, "a kept connection was stale; sent again at once");
                }
                answer => return answer,
            }
        }
        // Boxed: it is large, and seldom needed.
        let fresh = Box::pin(self.client.connect()).await.map_err(|error| self.explain(&error))?;
        self.send(fresh, delivery).await
    }

    async fn send(&self, mut connection: Box<Connection>, delivery: &Delivery) -> Result<Answer, Failure> {
        let request = self.request(delivery, connection.headers_room());
        let answer = connection.post(request).await.map_err(|error| self.explain(&error))?;
        let (head, body) = answer.into_parts();
        Ok(Answer { head, body, connection })
    }

    pub(super) fn explain(&self, error: &ClientError) -> Failure {
        Failure::explain(error, &self.url, self.client.connect_limit())
    }

    async fn answered(
        &self,
        answer: Answer,
        started: Instant,
        deadline: Instant,
        at: Timestamp,
    ) -> AttemptResult {
        let Answer { head, mut body, mut connection } = answer;
        let took = started.elapsed();
        let outcome = classify(head.status, &head.headers, at.plus(took));
        let answer = if body.is_end_stream() {
            Vec::new()
        } else if outcome == Outcome::Delivered {
            read(&mut connection, &mut body, 0, Instant::now() + SUCCESS_PATIENCE).await
        } else {
            let until = deadline.min(Instant::now() + FAILURE_PATIENCE);
            read(&mut connection, &mut body, ANSWER_KEPT, until).await
        };
        // What is left of it is not read.
        drop(body);
        connection.keep_headers_room(head.headers);
        self.client.keep(connection);
        AttemptResult { outcome, status: Some(head.status.as_u16()), failure: None, answer, took }
    }

    /// The request of an attempt: a function of the delivery alone. Its headers are put into `room`.
    fn request(&self, delivery: &Delivery, room: HeaderMap) -> Post {
        let mut request = Request::new(Full::new(delivery.body.bytes.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = self.headers.of(delivery, room);
        request
    }
}

impl AttemptResult {
    fn failed(failure: Failure, took: Duration) -> Self {
        let outcome = Outcome::Retry { cause: RetryCause::NoAnswer(failure.kind), hold: None };
        Self { outcome, status: None, failure: Some(failure), answer: Vec::new(), took }
    }

    /// No attempt was made: there is no body to send.
    pub(super) fn unrendered(text: String, outcome: Outcome) -> Self {
        let failure = Some(Failure { kind: FailureKind::Template, text });
        Self { outcome, status: None, failure, answer: Vec::new(), took: Duration::ZERO }
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
            // It comes with a failure always.
            (None, Outcome::Unrendered) => "there is no body to send".to_owned(),
        }
    }
}

/// Reads what is left of an answer, as far as it is worth it, and gives the first `keep` bytes.
async fn read(connection: &mut Connection, body: &mut Incoming, keep: usize, until: Instant) -> Vec<u8> {
    let mut kept = Vec::new();
    if keep == 0 && body.size_hint().lower() > ANSWER_READ as u64 {
        return kept;
    }
    let mut seen = 0;
    // An error or the end of patience ends the body as well: the outcome is decided already.
    while let Ok(Some(chunk)) = timeout_at(until, connection.chunk(body)).await {
        seen += chunk.len();
        kept.extend_from_slice(&chunk[..chunk.len().min(keep - kept.len())]);
        if seen >= ANSWER_READ {
            break;
        }
    }
    kept
}
