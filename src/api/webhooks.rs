//! `/v1/webhooks`: how each webhook is, and putting one back to work.

use axum::{
    Extension, Json,
    extract::{Path, RawQuery, State, rejection::PathRejection},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::Serialize;

use super::{
    Admitted, ApiState,
    auth::Scope,
    problem::{Code, Problem},
    query::Query,
};
use crate::{
    events::{LastOutcome, Subscriber, WebhookState, WebhookStatus},
    names::WebhookName,
    suggest::quoted,
};

/// How a webhook is.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Webhook"))]
#[serde(rename_all = "camelCase")]
struct WebhookView {
    name: WebhookName,
    state: WebhookState,
    /// Events that are not delivered yet.
    backlog: u64,
    dead_letters: u64,
    last_outcome: Option<LastOutcome>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct WebhookList {
    webhooks: Vec<WebhookView>,
}

/// Which webhook is put back to work.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Enabled {
    webhook: String,
}

impl WebhookView {
    fn new(state: &ApiState, webhook: &dyn Subscriber) -> Self {
        let WebhookStatus { name, state: webhook_state, backlog, last_outcome, counts: _ } = webhook.status();
        let dead_letters = state.letters.count(webhook.webhook());
        Self { name, state: webhook_state, backlog, dead_letters, last_outcome }
    }
}

/// `GET /v1/webhooks`
pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    Query::read(query.as_deref(), &[])?;
    let webhooks =
        state.events.webhooks().iter().map(|webhook| WebhookView::new(&state, &**webhook)).collect();
    Ok(Json(WebhookList { webhooks }).into_response())
}

/// `POST /v1/webhooks/{name}/enable`
pub(super) async fn enable(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    name: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    caller.require(Scope::Admin)?;
    let Path(name) = name?;
    Query::read(query.as_deref(), &[])?;
    let webhook = state.events.webhook(&name).ok_or_else(|| {
        Problem::new(Code::UnknownWebhook, format!("no webhook {} is configured", quoted(&name)))
    })?;
    webhook.enable();
    Ok((StatusCode::ACCEPTED, Json(Enabled { webhook: name })).into_response())
}

#[cfg(test)]
pub(super) mod described;
