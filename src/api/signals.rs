//! `/v1/users/{user}/typing`, `receipts`, `agent-session/close` and `session/close`: what the user's side says
//! beside words.

use axum::{
    Extension,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, header},
    response::Response,
};

use super::{
    Admitted, ApiState,
    auth::{Caller, Scope},
    body::{self, BodyFormat},
    messages::{Wait, accepted_and_waited, accepted_answer, idempotency_key},
    problem::{Code, Problem},
};
use crate::messages::{DraftAndId, SignalError, UserSignal};

type Name = Result<Path<String>, PathRejection>;

/// `POST /v1/users/{user}/typing`
pub(super) async fn typing(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    name: Name,
    request: Request,
) -> Result<Response, Problem> {
    send(state, caller, name, request, UserSignal::Typing).await
}

/// `POST /v1/users/{user}/receipts`
pub(super) async fn receipt(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    name: Name,
    request: Request,
) -> Result<Response, Problem> {
    send(state, caller, name, request, UserSignal::Receipt).await
}

/// `POST /v1/users/{user}/agent-session/close`
pub(super) async fn close_agent_session(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    name: Name,
    request: Request,
) -> Result<Response, Problem> {
    send(state, caller, name, request, UserSignal::CloseAgentSession).await
}

/// `POST /v1/users/{user}/session/close`
pub(super) async fn close_session(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    name: Name,
    request: Request,
) -> Result<Response, Problem> {
    send(state, caller, name, request, UserSignal::CloseSession).await
}

/// As a message is sent, in the same order of checks.
async fn send(
    state: ApiState,
    caller: Caller,
    name: Name,
    request: Request,
    signal: UserSignal,
) -> Result<Response, Problem> {
    caller.require(Scope::Send)?;
    let user = state.user(&caller, &name?.0)?;
    let wait = Wait::read_for_signal(request.uri().query())?;
    let key = idempotency_key(request.headers(), &caller)?;
    let format = format_of(request.headers())?;
    let settings = state.settings();
    let body = body::read(request.into_body(), settings.max_body, settings.body_timeout).await?;
    let (draft, id) = read(signal, format, &body)?;
    drop(body);
    let accepted = state.messages.accept(&user, draft, id, key).await?;
    match wait {
        None => Ok(accepted_answer(&user, &accepted)),
        Some(wait) => accepted_and_waited(&state, &user, &accepted, wait).await,
    }
}

/// Where there is nothing to be read, nothing has to be said about how.
fn format_of(headers: &HeaderMap) -> Result<Option<BodyFormat>, Problem> {
    let is_told =
        headers.contains_key(header::CONTENT_TYPE) || headers.contains_key(header::CONTENT_ENCODING);
    is_told.then(|| BodyFormat::of(headers)).transpose()
}

fn read(signal: UserSignal, format: Option<BodyFormat>, body: &[u8]) -> Result<DraftAndId, Problem> {
    const DETAIL: &str =
        "send application/json or application/x-www-form-urlencoded, with that as the content-type";
    Ok(match format {
        _ if body.is_empty() => signal.from_nothing()?,
        Some(BodyFormat::Json) => signal.from_json(body)?,
        Some(BodyFormat::Form) => signal.from_form(body)?,
        Some(BodyFormat::Text) | None => return Err(Problem::new(Code::UnsupportedContentType, DETAIL)),
    })
}

impl From<SignalError> for Problem {
    fn from(error: SignalError) -> Self {
        let code = match error {
            SignalError::Body(error) => return error.into(),
            SignalError::UnknownKey { .. } => Code::UnknownKey,
            SignalError::Missing { .. } | SignalError::BadValue { .. } => Code::BadValue,
        };
        let problem = Self::new(code, error.to_string());
        match error.key() {
            Some(key) => problem.with("key", key.chars().take(128).collect::<String>()),
            None => problem,
        }
    }
}

#[cfg(test)]
pub(super) mod described;
