//! Health, metrics and the status page, for probes and people, on a listener that is kept private.

mod counts;
mod health;
mod page;

use std::{fmt, sync::Arc};

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::json;

pub use health::{Health, Progress, Stage, StoreHealth};

use crate::{
    api::{
        self, ApiState, Gated,
        problem::{Code, Problem},
        query::{Query, bad_value},
    },
    clock::Timestamp,
    events::Events,
    letters::DeadLetters,
    messages::Messages,
    users::Users,
};

/// What the ops routes work with. Cloning it is cheap.
#[derive(Clone)]
pub struct OpsState {
    /// The daemon's own state.
    pub health: Arc<Health>,
    /// When the daemon started.
    pub started_at: Timestamp,
    /// Everyone who is configured.
    pub users: Arc<Users>,
    /// Accepted messages.
    pub messages: Messages,
    /// Received events, and through them the webhooks.
    pub events: Events,
    /// What could not be delivered.
    pub letters: DeadLetters,
    /// What `/metrics` shows.
    pub metrics: Arc<Registry>,
}

impl fmt::Debug for OpsState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpsState").field("health", &self.health).finish_non_exhaustive()
    }
}

/// Everything that the ops listener serves: its own routes, and the API's under the same rules.
pub fn router(state: OpsState, api: &ApiState) -> Gated {
    let own = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/healthz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(state.clone())
        .route("/counts", get(counts::show))
        .with_state((state, api.clone()))
        .merge(page::routes());
    api::router_with(own, api)
}

/// Whether the process makes progress.
async fn livez(State(state): State<OpsState>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    Query::read(query.as_deref(), &[])?;
    let progress = state.health.progress();
    let status = if progress == Progress::Moving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(json!({ "progress": progress }))).into_response())
}

/// Whether callers may be sent here.
async fn readyz(State(state): State<OpsState>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let query = Query::read(query.as_deref(), &["users"])?;
    let users = state.users.all();
    let connected = users.iter().filter(|user| user.is_connected()).count();
    let users_ready = match query.get("users") {
        None => true,
        Some("connected") => connected == users.len(),
        Some(other) => return Err(bad_value("users", other, "connected")),
    };
    let ready = state.health.is_ready() && users_ready;
    let body = json!({
        "ready": ready,
        "stage": state.health.stage(),
        "store": state.health.store(),
        "users": { "connected": connected, "configured": users.len() },
    });
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(body)).into_response())
}

/// The metrics, as Prometheus reads them.
async fn metrics(State(state): State<OpsState>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Query::read(query.as_deref(), &[])?;
    // Looks into the store: not on a thread that others wait for.
    let encoded = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        encode(&mut text, &state.metrics).map(|()| text)
    });
    match encoded.await {
        Ok(Ok(text)) => Ok(([(header::CONTENT_TYPE, TEXT)], text).into_response()),
        Ok(Err(error)) => {
            Err(Problem::new(Code::InternalError, format!("the metrics can't be written: {error}")))
        }
        Err(panic) => {
            tracing::error!(error = %panic, "the metrics can't be written");
            Err(Problem::new(Code::InternalError, "the metrics can't be written; the log says why"))
        }
    }
}

#[cfg(test)]
mod tests;
