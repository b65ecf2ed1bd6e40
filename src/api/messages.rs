//! `/v1/users/{user}/messages`: sending messages, and what became of them.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{
    Admitted, ApiState, attachments,
    auth::{Caller, Scope},
    body::{self, BodyFormat},
    problem::{Code, Problem},
    query::{Query, bad_value, malformed},
};
use crate::{
    clock::Timestamp,
    messages::{
        Accepted, ClientMessageId, IdempotencyKey, MessageRecord, MessageStatus, MessageView, Novelty, Until,
    },
    names::UserName,
    spans,
    store::StoreError,
    suggest::quoted,
    users::User,
};

const DEFAULT_WAIT: Duration = Duration::from_secs(30);
const MAX_WAIT: Duration = Duration::from_secs(120);

/// What a caller waits for, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) until: Until,
    limit: Duration,
    /// How long to go on collecting replies after the first.
    collect: Duration,
}

impl Wait {
    /// Reads `wait`, `timeout` and `collect`.
    fn read(query: Option<&str>) -> Result<Option<Self>, Problem> {
        let query = Query::read(query, &["wait", "timeout", "collect"])?;
        let limit = query.duration("timeout", MAX_WAIT)?;
        let collect = query.duration("collect", MAX_WAIT)?;
        let until = match query.get("wait") {
            Some("ack") => Some(Until::Final),
            Some("reply") => Some(Until::Reply),
            Some(other) => return Err(bad_value("wait", other, "ack or reply")),
            None => None,
        };
        if collect.is_some() && until != Some(Until::Reply) {
            return Err(malformed("collect goes with wait=reply only".to_owned()).with("key", "collect"));
        }
        if limit.is_some() && until.is_none() {
            return Err(
                malformed("timeout goes with wait=ack or wait=reply only".to_owned()).with("key", "timeout")
            );
        }
        let wait = until.map(|until| Self {
            until,
            limit: limit.unwrap_or(DEFAULT_WAIT),
            collect: collect.unwrap_or_default(),
        });
        Ok(wait)
    }

    /// Reads `wait` and `timeout` of what nobody answers.
    pub(super) fn read_for_signal(query: Option<&str>) -> Result<Option<Self>, Problem> {
        let query = Query::read(query, &["wait", "timeout"])?;
        let limit = query.duration("timeout", MAX_WAIT)?;
        match query.get("wait") {
            None if limit.is_some() => {
                Err(malformed("timeout goes with wait=ack only".to_owned()).with("key", "timeout"))
            }
            None => Ok(None),
            Some("ack") => {
                let limit = limit.unwrap_or(DEFAULT_WAIT);
                Ok(Some(Self { until: Until::Final, limit, collect: Duration::ZERO }))
            }
            Some(other) => Err(bad_value("wait", other, "ack; nothing answers this")),
        }
    }

    /// Whether the message is as far as the caller waits for.
    fn is_over(&self, record: &MessageRecord) -> bool {
        match self.until {
            Until::Final => record.is_final(),
            Until::Reply => {
                !record.replies.is_empty() || (record.is_final() && record.status != MessageStatus::Acked)
            }
        }
    }
}

/// `POST /v1/users/{user}/messages`
pub(super) async fn send(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(Scope::Send)?;
    let user = to_send_to(&state, &caller, &name?.0)?;
    send_to(&state, &caller, user, request).await
}

/// The user's name in a request for [`send`], if it is plain to see; the router knows in any case.
pub(super) fn addressee(request: &Request) -> Option<&str> {
    let name = request.uri().path().strip_prefix("/v1/users/")?.strip_suffix("/messages")?;
    let is_plain = !name.is_empty() && !name.contains(['/', '%']);
    (request.method() == Method::POST && is_plain).then_some(name)
}

/// The user of this name, if the caller may send to it.
pub(super) fn to_send_to(state: &ApiState, caller: &Caller, name: &str) -> Result<Arc<User>, Problem> {
    caller.require(Scope::Send)?;
    state.user(caller, name)
}

/// Sends what is posted for a user.
pub(super) async fn send_to(
    state: &ApiState,
    caller: &Caller,
    user: Arc<User>,
    request: Request,
) -> Result<Response, Problem> {
    let wait = Wait::read(request.uri().query())?;
    let key = idempotency_key(request.headers(), caller)?;
    if let Some(boundary) = attachments::boundary(request.headers())? {
        // Boxed, as what is rarer than a plain message would make each request larger.
        return Box::pin(attachments::send(state, &user, wait, key, boundary, request)).await;
    }
    let format = BodyFormat::of(request.headers())?;
    let post = spans::Post::begin(request.headers());
    let settings = state.settings();
    let body = body::read(request.into_body(), settings.max_body, settings.body_timeout).await?;
    let (mut draft, id) = format.read(&body)?;
    draft.trace = post.trace();
    drop(body);
    match wait {
        None => {
            let accepted = state.messages.accept(&user, draft, id, key).await?;
            stored(post, &user, &accepted);
            Ok(accepted_answer(&user, &accepted))
        }
        Some(wait @ Wait { until: Until::Final, .. }) => {
            let accepted = state.messages.accept(&user, draft, id, key).await?;
            stored(post, &user, &accepted);
            Box::pin(accepted_and_waited(state, &user, &accepted, wait)).await
        }
        Some(wait @ Wait { until: Until::Reply, .. }) => {
            // Held for as long as this request is being answered: a caller that hangs up drops it.
            let (accepted, _turn) = state.messages.accept_awaited(&user, draft, id, key).await?;
            stored(post, &user, &accepted);
            Box::pin(accepted_and_waited(state, &user, &accepted, wait)).await
        }
    }
}

/// A message is on stable storage: for the log, and for whoever collects traces.
fn stored(post: spans::Post, user: &User, accepted: &Accepted) {
    let User { name, bot, .. } = user;
    let (id, novelty) = (accepted.id, accepted.novelty);
    tracing::debug!(user = %name, %bot, clientMessageId = %id, ?novelty, traceId = post.trace_id(), "message accepted");
    post.stored(user, id);
}

/// `GET /v1/users/{user}/messages/{id}`
pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let Path((name, id)) = path?;
    let user = state.user(&caller, &name)?;
    let wait = Wait::read(request.uri().query())?;
    let id: ClientMessageId = id.parse().map_err(|error| {
        Problem::new(Code::UnknownMessage, format!("there is no message {}: {error}", quoted(&id)))
    })?;
    if let Some(wait) = wait {
        return waited(&state, &user, id, wait).await;
    }
    let record = state.messages.find(user.number, id)?.ok_or_else(|| unknown(&user, id))?;
    Ok(Json(MessageView::new(&user.name, id, &record)).into_response())
}

/// Waits for what becomes of a message that was accepted just now, and answers with its status then.
pub(super) async fn accepted_and_waited(
    state: &ApiState,
    user: &Arc<User>,
    accepted: &Accepted,
    wait: Wait,
) -> Result<Response, Problem> {
    Ok(located(waited(state, user, accepted.id, wait).await?, user, accepted.id))
}

/// Waits, and answers with the message's status then.
async fn waited(
    state: &ApiState,
    user: &Arc<User>,
    id: ClientMessageId,
    wait: Wait,
) -> Result<Response, Problem> {
    let deadline = Instant::now() + wait.limit;
    let waiting = async {
        let record = state.messages.wait(user.number, id, wait.until, wait.limit).await?;
        let left = record
            .as_ref()
            .map_or(Ok(Duration::ZERO), |record| still_to_collect(state, user, record, wait))?;
        if left.is_zero() {
            return Ok(record);
        }
        tokio::time::sleep_until(deadline.min(Instant::now() + left)).await;
        state.messages.find(user.number, id)
    };
    let record = tokio::select! {
        biased;
        record = waiting => record?.ok_or_else(|| unknown(user, id))?,
        () = state.draining.cancelled() => {
            let record = state.messages.find(user.number, id)?.ok_or_else(|| unknown(user, id))?;
            return Err(unfinished(Code::ShuttingDown, "the bridge is shutting down", user, id, &record)
                .retry_after(Duration::from_secs(5)));
        }
    };
    if wait.is_over(&record) {
        let view = MessageView::new(&user.name, id, &record);
        let view = match wait.until {
            Until::Final => view,
            Until::Reply => view.with_frames(frames(state, user, &record)?),
        };
        Ok(Json(view).into_response())
    } else {
        let what = format!("what was waited for did not come within {} ms", wait.limit.as_millis());
        Err(unfinished(Code::WaitTimeout, &what, user, id, &record))
    }
}

/// How long answers are still to be collected, given when the first came.
fn still_to_collect(
    state: &ApiState,
    user: &User,
    record: &MessageRecord,
    wait: Wait,
) -> Result<Duration, StoreError> {
    let Some(first) = record.replies.first().filter(|_| !wait.collect.is_zero()) else {
        return Ok(Duration::ZERO);
    };
    let came = state.events.find(user.number, *first)?.map(|event| event.received_at);
    let passed = came.map_or(wait.collect, |came| Timestamp::now().since(came));
    Ok(wait.collect.saturating_sub(passed))
}

/// The frames of a message's answers. One that is no longer kept is left out.
fn frames(state: &ApiState, user: &User, record: &MessageRecord) -> Result<Vec<Box<RawValue>>, Problem> {
    let mut frames = Vec::new();
    for id in &record.replies {
        if let Some(event) = state.events.find(user.number, *id)?
            && let Ok(frame) = serde_json::from_slice(&event.frame)
        {
            frames.push(frame);
        }
    }
    Ok(frames)
}

/// A problem of the waiting alone: the message was accepted and goes on.
fn unfinished(code: Code, what: &str, user: &User, id: ClientMessageId, record: &MessageRecord) -> Problem {
    let message = serde_json::to_value(MessageView::new(&user.name, id, record)).unwrap_or_default();
    Problem::new(code, format!("{what}; the message goes on, and its status can be asked for"))
        .with("message", message)
}

/// What is told of a message that was just accepted.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Accepted"))]
#[serde(rename_all = "camelCase")]
pub(super) struct AcceptedView<'a> {
    user: &'a UserName,
    client_message_id: ClientMessageId,
    status: MessageStatus,
    created_at: Timestamp,
}

pub(super) fn accepted_answer(user: &User, accepted: &Accepted) -> Response {
    let Accepted { id, record, novelty } = accepted;
    let response = match novelty {
        Novelty::New => {
            let view = AcceptedView {
                user: &user.name,
                client_message_id: *id,
                status: record.status,
                created_at: record.created_at,
            };
            (StatusCode::ACCEPTED, Json(view)).into_response()
        }
        Novelty::Repeat => Json(MessageView::new(&user.name, *id, record)).into_response(),
    };
    located(response, user, *id)
}

/// Says where the message's status can be asked for.
fn located(mut response: Response, user: &User, id: ClientMessageId) -> Response {
    // Names and ids have only characters that a header may have.
    if let Ok(location) = HeaderValue::try_from(format!("/v1/users/{}/messages/{id}", user.name)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn unknown(user: &User, id: ClientMessageId) -> Problem {
    let detail = format!("the user {} has no message {id}, or no longer (store.retention)", user.name);
    Problem::new(Code::UnknownMessage, detail)
}

pub(super) fn idempotency_key(
    headers: &HeaderMap,
    caller: &Caller,
) -> Result<Option<IdempotencyKey>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let bad = |what: &str| Problem::new(Code::BadIdempotencyKey, format!("the Idempotency-Key {what}"));
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value,
        _ => return Err(bad("is given several times")),
    };
    let key = std::str::from_utf8(value.as_bytes()).map_err(|_| bad("is not UTF-8"))?;
    if !(1..=255).contains(&key.len()) {
        return Err(bad("must be 1 to 255 bytes long"));
    }
    if key.chars().any(char::is_control) {
        return Err(bad("has a control character"));
    }
    Ok(Some(IdempotencyKey { client: caller.client().cloned(), key: key.to_owned() }))
}

#[cfg(test)]
pub(super) mod described;

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use serde_json::json;

    use super::*;
    use crate::{
        events::EventId,
        messages::{Certainty, Expectation, FinalReason, Fingerprint, MessageNumber},
        names::BotName,
        store::UserNumber,
    };

    fn alice() -> User {
        let (name, bot) = (UserName::new("alice@example.com").unwrap(), BotName::new("support").unwrap());
        User::new(name, UserNumber(1), bot, Timestamp::from_millis(0))
    }

    fn record(status: MessageStatus) -> MessageRecord {
        let at = Timestamp::from_millis(1_466_692_440_896);
        let is_final =
            matches!(status, MessageStatus::Acked | MessageStatus::Rejected | MessageStatus::Expired);
        MessageRecord {
            number: MessageNumber(1),
            status,
            reason: (status == MessageStatus::Expired).then_some(FinalReason::Ttl),
            certainty: Certainty::None,
            expectation: Expectation::Ack,
            attempts: 0,
            created_at: at,
            sent_at: None,
            acked_at: None,
            final_at: is_final.then_some(at),
            ack: None,
            replies: Vec::new(),
            fingerprint: Fingerprint([0; 16]),
            text_fingerprint: Fingerprint([0; 16]),
        }
    }

    async fn answer(novelty: Novelty) -> (Response, serde_json::Value) {
        let id = "1466692440896".parse().unwrap();
        let accepted = Accepted { id, record: record(MessageStatus::Queued), novelty };
        read(accepted_answer(&alice(), &accepted)).await
    }

    async fn read(response: Response) -> (Response, serde_json::Value) {
        let (head, body) = response.into_parts();
        let body = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
        (Response::from_parts(head, ().into()), body)
    }

    #[test]
    fn what_is_plainly_a_message_needs_no_router() {
        let addressee = |method: Method, uri: &str| {
            let request = Request::builder().method(method).uri(uri).body(axum::body::Body::empty()).unwrap();
            addressee(&request).map(str::to_owned)
        };
        for (uri, name) in [
            ("/v1/users/alice@example.com/messages", "alice@example.com"),
            ("/v1/users/alice/messages?wait=ack", "alice"),
            ("http://localhost/v1/users/alice/messages", "alice"),
        ] {
            assert_eq!(addressee(Method::POST, uri).as_deref(), Some(name), "{uri}");
            assert_eq!(addressee(Method::GET, uri), None, "{uri}");
        }
        for uri in [
            "/v1/users//messages",
            "/v1/users/messages",
            "/v1/users/alice/messages/",
            "/v1/users/alice/messages/1",
            "/v1/users/a/b/messages",
            "/v1/users/al%69ce/messages",
            "/v1/users/alice/typing",
        ] {
            assert_eq!(addressee(Method::POST, uri), None, "{uri}");
        }
    }

    #[tokio::test]
    async fn a_new_message_is_202_with_its_place() {
        let (response, body) = answer(Novelty::New).await;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        assert_eq!(
            response.headers()[header::LOCATION],
            "/v1/users/alice@example.com/messages/1466692440896"
        );
        let expected = json!({"user": "alice@example.com", "clientMessageId": 1_466_692_440_896_u64, "status": "queued",
            "createdAt": "2016-06-23T14:34:00.896Z"});
        assert_eq!(body, expected);
    }

    #[tokio::test]
    async fn a_repeat_is_200_with_the_status_now() {
        let (response, body) = answer(Novelty::Repeat).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(
            (&body["status"], &body["delivery"], &body["ack"]),
            (&json!("queued"), &json!("none"), &json!(null))
        );
    }

    #[tokio::test]
    async fn a_wait_that_ends_too_early_tells_the_status_so_far() {
        let id = "7".parse().unwrap();
        let sent = MessageRecord { ack: Some(r#"{"ok":false}"#.into()), ..record(MessageStatus::Sent) };
        let problem = unfinished(Code::WaitTimeout, "too slow", &alice(), id, &sent);
        let (response, body) = read(problem.into_response()).await;
        assert_eq!((response.status(), &body["status"]), (StatusCode::GATEWAY_TIMEOUT, &json!(504)));
        let message = &body["message"];
        assert_eq!((&message["clientMessageId"], &message["status"]), (&json!(7), &json!("sent")));
        assert_eq!(message["ack"], json!({"ok": false}));
    }

    #[test]
    fn waiting_is_over_with_what_was_asked_for_or_a_bad_end() {
        let wait = |until| Wait { until, limit: DEFAULT_WAIT, collect: Duration::ZERO };
        let (ack, reply) = (wait(Until::Final), wait(Until::Reply));
        for (status, acked, answered) in [
            (MessageStatus::Queued, false, false),
            (MessageStatus::Sent, false, false),
            (MessageStatus::Acked, true, false),
            (MessageStatus::Rejected, true, true),
            (MessageStatus::Expired, true, true),
        ] {
            assert_eq!(
                (ack.is_over(&record(status)), reply.is_over(&record(status))),
                (acked, answered),
                "{status:?}"
            );
        }
        let answered =
            MessageRecord { replies: vec![EventId { store: 1, number: 1 }], ..record(MessageStatus::Sent) };
        assert!(reply.is_over(&answered) && !ack.is_over(&answered));
    }

    #[test]
    fn reads_what_to_wait_for() {
        let read = |query| Wait::read(Some(query)).map_err(|problem| problem.code());
        let wait = Wait { until: Until::Final, limit: DEFAULT_WAIT, collect: Duration::ZERO };
        assert_eq!(read("wait=ack"), Ok(Some(wait)));
        let (limit, collect) = (Duration::from_secs(10), Duration::from_millis(500));
        assert_eq!(
            read("wait=reply&collect=500ms&timeout=10s"),
            Ok(Some(Wait { until: Until::Reply, limit, collect }))
        );
        assert_eq!(read(""), Ok(None));
    }

    #[test]
    fn a_keys_length_counts_in_bytes() {
        let read = |key: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert("idempotency-key", HeaderValue::from_bytes(key).unwrap());
            idempotency_key(&headers, &Caller::Loopback).map_err(|problem| problem.code())
        };
        let longest = "ä".repeat(127) + "x";
        let expected = IdempotencyKey { client: None, key: longest.clone() };
        assert_eq!(read(longest.as_bytes()), Ok(Some(expected)));
        for bad in [&b""[..], "ä".repeat(128).as_bytes(), b"\xff", b"a\tb"] {
            assert_eq!(read(bad), Err(Code::BadIdempotencyKey), "{bad:?}");
        }
    }
}
