//! Health, for probes and people, on a listener that is kept private.

mod health;

use std::{fmt, sync::Arc};

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    http::StatusCode,
    middleware,
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde_json::json;

pub use health::{Health, Progress, Stage, StoreHealth};

use crate::{
    api::{
        self, ApiState,
        problem::Problem,
        query::{Query, bad_value},
    },
    users::Users,
};

/// What the ops routes work with. Cloning it is cheap.
#[derive(Clone)]
pub struct OpsState {
    /// The daemon's own state.
    pub health: Arc<Health>,
    /// Everyone who is configured.
    pub users: Arc<Users>,
}

impl fmt::Debug for OpsState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpsState").field("health", &self.health).finish_non_exhaustive()
    }
}

/// Everything that the ops listener serves: its own routes, and the API's under the same rules.
pub fn router(state: OpsState, api: &ApiState) -> Router {
    let own = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/healthz", get(readyz))
        .with_state(state);
    let own = api::with_problems(own).layer(middleware::from_fn_with_state(api.clone(), api::guard));
    api::contained(own.nest("/v1", api::v1(api)))
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

#[cfg(test)]
mod tests;
