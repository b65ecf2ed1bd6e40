//! `/v1/dead-letters`: what webhooks did not get; replaying and deleting it.

use axum::{
    Extension, Json,
    extract::{Path, RawQuery, State, rejection::PathRejection},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::Serialize;

use super::{
    Admitted, ApiState,
    auth::{Caller, Scope},
    problem::{Code, Problem},
    query::{Query, bad_value, malformed},
};
use crate::{
    clock::Timestamp,
    events::{EventId, event_type},
    letters::{
        AttemptEnd, Details, FailedAttempt, Filter, Listed, Removal, ReplayOutcome, Replayed, Rest,
        UnknownName,
    },
    names::{UserName, WebhookName},
    store::{DeadLetterId, WebhookNumber},
    suggest::quoted,
};

const DEFAULT_LIMIT: usize = 100;
const MOST: usize = 1000;

/// A dead letter in a list.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "DeadLetter"))]
#[serde(rename_all = "camelCase")]
struct LetterView {
    #[cfg_attr(test, schemars(with = "DeadLetterId"))]
    id: String,
    webhook: WebhookName,
    user: UserName,
    #[cfg_attr(test, schemars(with = "EventId"))]
    webhook_id: String,
    /// The event's type.
    #[serde(rename = "type")]
    kind: String,
    /// Why nobody took it, in plain words.
    reason: String,
    /// Of the last attempt's answer, if there was one.
    last_status: Option<u16>,
    /// How many were made.
    attempts: u32,
    /// When the event was received.
    created_at: Timestamp,
    /// When it died, the last time.
    dead_at: Timestamp,
    /// Since when it is being delivered after all.
    replaying_since: Option<Timestamp>,
}

/// A dead letter alone.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "DeadLetterDetails"))]
#[serde(rename_all = "camelCase")]
struct LetterDetails {
    #[serde(flatten)]
    letter: LetterView,
    /// The event's number at its webhook and user.
    sequence: u64,
    /// Of the body.
    content_type: Option<String>,
    /// The body as it was sent, byte for byte; null if there was none to send, because the webhook's template makes
    /// none of this event.
    body: Option<String>,
    /// The beginning of what the last attempt was answered.
    last_answer: Option<String>,
    /// The first failed attempts and the latest.
    attempt_history: Vec<AttemptView>,
}

/// A failed attempt.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "FailedAttempt"))]
struct AttemptView {
    /// From 1.
    number: u32,
    at: Timestamp,
    /// Of the answer, if there was one.
    status: Option<u16>,
    /// Where none came: `dns`, `connect`, `tls`, `timeout`, `reset` or `protocol`.
    error: Option<String>,
    /// Where none came: what happened, in plain words.
    detail: Option<String>,
    /// The beginning of what it was answered, as far as it is kept.
    answer: String,
}

/// Newest event first.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct DeadLetterList {
    dead_letters: Vec<LetterView>,
    /// The `cursor` of the next page, if there is one.
    next_cursor: Option<String>,
}

/// Which dead letter is replayed.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Replaying {
    #[cfg_attr(test, schemars(with = "DeadLetterId"))]
    id: String,
}

/// What became of the replay of many.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct ReplayingMany {
    /// How many are replayed.
    replaying: u64,
    /// How many are not, because their webhooks are not configured.
    left_alone: u64,
}

impl From<Listed> for LetterView {
    fn from(listed: Listed) -> Self {
        let Listed { letter, webhook, user, event, replay } = listed;
        Self {
            id: letter.id().to_string(),
            webhook,
            user,
            webhook_id: EventId::to_string(&event),
            kind: event_type(&letter.kind).to_owned(),
            attempts: letter.attempts.saturating_add(replay.map_or(0, |mark| mark.attempts)),
            reason: letter.reason,
            last_status: letter.last_status,
            created_at: letter.received_at,
            dead_at: letter.dead_at,
            replaying_since: replay.map(|mark| mark.requested_at),
        }
    }
}

impl From<Details> for LetterDetails {
    fn from(details: Details) -> Self {
        let Details { listed, body, history } = details;
        Self {
            sequence: listed.letter.position.sequence,
            letter: listed.into(),
            content_type: body.as_ref().map(|body| text(body.content_type.as_bytes())),
            body: body.map(|body| text(&body.bytes)),
            last_answer: history.last_answer().map(text),
            attempt_history: history.attempts().iter().map(AttemptView::from).collect(),
        }
    }
}

impl From<&FailedAttempt> for AttemptView {
    fn from(attempt: &FailedAttempt) -> Self {
        let (status, error, detail) = match attempt.end.clone() {
            AttemptEnd::Status(status) => (Some(status), None, None),
            AttemptEnd::NoAnswer { error, text } => (None, Some(error), Some(text)),
        };
        Self { number: attempt.number, at: attempt.at, status, error, detail, answer: text(&attempt.answer) }
    }
}

/// Bytes from outside as a text.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `GET /v1/dead-letters`
pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let query = Query::read(query.as_deref(), &["webhook", "user", "limit", "cursor"])?;
    let limit = query.limit(DEFAULT_LIMIT, MOST)?;
    let before = cursor(&query)?.unwrap_or(DeadLetterId(u64::MAX));
    let mut filter = filter(&state, &caller, &query)?;
    let page = state.letters.page(&mut filter, before, limit).await?;
    let last = page.letters.last().map(|listed| listed.letter.id().to_string());
    let next_cursor = last.filter(|_| page.rest == Rest::Some);
    let dead_letters = page.letters.into_iter().map(LetterView::from).collect();
    Ok(Json(DeadLetterList { dead_letters, next_cursor }).into_response())
}

/// `GET /v1/dead-letters/{id}`
pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let (id, mut filter) = one(&state, &caller, id, query.as_deref())?;
    let details = state.letters.find(&mut filter, id)?.ok_or_else(|| unknown(&id.to_string()))?;
    Ok(Json(LetterDetails::from(details)).into_response())
}

/// `POST /v1/dead-letters/{id}/replay`
pub(super) async fn replay(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    caller.require(Scope::Admin)?;
    let (id, mut filter) = one(&state, &caller, id, query.as_deref())?;
    match state.letters.replay(&mut filter, id).await? {
        ReplayOutcome::Marked => {
            tracing::info!(letter = %id, client = caller.logged(), "a dead letter is to be replayed");
            Ok((StatusCode::ACCEPTED, Json(Replaying { id: id.to_string() })).into_response())
        }
        ReplayOutcome::NotThere => Err(unknown(&id.to_string())),
        ReplayOutcome::WebhookNotConfigured(webhook) => Err(not_configured(&state, webhook)),
    }
}

/// `POST /v1/dead-letters/replay`
pub(super) async fn replay_all(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    caller.require(Scope::Admin)?;
    let mut filter = many(&state, &caller, query.as_deref())?;
    if let Some(webhook) = filter.webhook()
        && !state.letters.is_connected(webhook)
    {
        return Err(not_configured(&state, webhook));
    }
    let Replayed { marked: replaying, left_alone } = state.letters.replay_all(&mut filter).await?;
    tracing::info!(letters = replaying, client = caller.logged(), "dead letters are to be replayed");
    let body = ReplayingMany { replaying, left_alone };
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}

/// `DELETE /v1/dead-letters/{id}`
pub(super) async fn remove(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    caller.require(Scope::Admin)?;
    let (id, mut filter) = one(&state, &caller, id, query.as_deref())?;
    match state.letters.remove(&mut filter, id).await? {
        Removal::Done => {
            tracing::info!(letter = %id, client = caller.logged(), "a dead letter was deleted");
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Removal::NotThere => Err(unknown(&id.to_string())),
    }
}

/// `DELETE /v1/dead-letters`
pub(super) async fn remove_all(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    caller.require(Scope::Admin)?;
    let mut filter = many(&state, &caller, query.as_deref())?;
    let removed = state.letters.remove_all(&mut filter).await?;
    tracing::info!(letters = removed, client = caller.logged(), "dead letters were deleted");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What an action on one letter needs. A letter of a user that the caller may not act for is as
/// unknown as one that doesn't exist: ids must not tell of other users.
fn one(
    state: &ApiState,
    caller: &Caller,
    id: Result<Path<String>, PathRejection>,
    query: Option<&str>,
) -> Result<(DeadLetterId, Filter), Problem> {
    let Path(id) = id?;
    let query = Query::read(query, &[])?;
    let filter = filter(state, caller, &query)?;
    Ok((id.parse().map_err(|_| unknown(&id))?, filter))
}

/// What an action on many letters needs. All of them must be asked for in words.
fn many(state: &ApiState, caller: &Caller, query: Option<&str>) -> Result<Filter, Problem> {
    let query = Query::read(query, &["webhook", "user", "all"])?;
    let all = match query.get("all") {
        Some("true") => Some(()),
        Some(other) => return Err(bad_value("all", other, "true")),
        None => None,
    };
    if all.or(query.get("webhook").map(drop)).or(query.get("user").map(drop)).is_none() {
        let detail = "give webhook or user, or all=true if all dead letters are meant";
        return Err(malformed(detail.to_owned()).with("key", "all"));
    }
    filter(state, caller, &query)
}

fn filter(state: &ApiState, caller: &Caller, query: &Query) -> Result<Filter, Problem> {
    let (webhook, user) = (query.get("webhook"), query.get("user"));
    if let Some(user) = user {
        caller.require_user(user)?;
    }
    let caller = caller.clone();
    let filter = state.letters.filter(webhook, user, move |user| caller.may_act_for(user.as_str()));
    filter.map_err(|unknown| match unknown {
        UnknownName::Webhook => {
            let name = quoted(webhook.unwrap_or_default());
            Problem::new(Code::UnknownWebhook, format!("no webhook {name} is, or ever was, configured"))
        }
        UnknownName::User => {
            let name = quoted(user.unwrap_or_default());
            Problem::new(Code::UnknownUser, format!("no user {name} is, or ever was, configured"))
        }
    })
}

/// The cursor is the id of the last letter of the page before: it means the same whatever comes and
/// goes.
fn cursor(query: &Query) -> Result<Option<DeadLetterId>, Problem> {
    let bad = |text| bad_value("cursor", text, "the nextCursor of an earlier answer");
    query.get("cursor").map(|text| text.parse().map_err(|_| bad(text))).transpose()
}

fn unknown(id: &str) -> Problem {
    let detail = format!("there is no dead letter {}, or no longer", quoted(id));
    Problem::new(Code::UnknownDeadLetter, detail)
}

fn not_configured(state: &ApiState, webhook: WebhookNumber) -> Problem {
    let name = state.letters.webhook_name(webhook).map_or_else(|_| "?".to_owned(), |name| name.to_string());
    let detail = format!(
        "the webhook {} is not configured: put it back into bridge.toml to replay its dead letters",
        quoted(&name)
    );
    Problem::new(Code::WebhookNotConfigured, detail)
}

#[cfg(test)]
pub(super) mod described;
