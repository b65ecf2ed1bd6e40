//! `/v1/dead-letters`: what webhooks did not get; replaying and deleting it.

use axum::{
    Extension, Json,
    extract::{Path, RawQuery, State, rejection::PathRejection},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use serde_json::json;

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
#[serde(rename_all = "camelCase")]
struct LetterView {
    id: String,
    webhook: WebhookName,
    user: UserName,
    webhook_id: String,
    #[serde(rename = "type")]
    kind: String,
    reason: String,
    last_status: Option<u16>,
    attempts: u32,
    created_at: Timestamp,
    dead_at: Timestamp,
    /// Since when it is being delivered after all.
    replaying_since: Option<Timestamp>,
}

/// A dead letter alone.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LetterDetails {
    #[serde(flatten)]
    letter: LetterView,
    sequence: u64,
    content_type: &'static str,
    body: String,
    last_answer: Option<String>,
    attempt_history: Vec<AttemptView>,
}

/// A failed attempt.
#[derive(Debug, Serialize)]
struct AttemptView {
    number: u32,
    at: Timestamp,
    status: Option<u16>,
    error: Option<String>,
    detail: Option<String>,
    answer: String,
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
            content_type: body.content_type,
            body: text(&body.bytes),
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
    let next = last.filter(|_| page.rest == Rest::Some);
    let letters: Vec<_> = page.letters.into_iter().map(LetterView::from).collect();
    Ok(Json(json!({ "deadLetters": letters, "nextCursor": next })).into_response())
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
            Ok((StatusCode::ACCEPTED, Json(json!({ "id": id.to_string() }))).into_response())
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
    let Replayed { marked, left_alone } = state.letters.replay_all(&mut filter).await?;
    tracing::info!(letters = marked, client = caller.logged(), "dead letters are to be replayed");
    let body = json!({ "replaying": marked, "leftAlone": left_alone });
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
