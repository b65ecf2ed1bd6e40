//! The HTTP API: its routes (`routes`) by resource, who may call, and errors as `problem+json`.
//!
//! A request goes through the server's limits ([`server`]), the gate ([`auth`]), its route, and
//! then, in this order: the caller's scope, the user (allowed, then existing), the query, the
//! headers, the body. Only when all of it holds is anything asked of the messages or the store, so
//! that a refused request leaves no trace.

pub mod auth;
mod body;
mod dead_letters;
mod events;
mod history;
mod loopback;
mod message_list;
mod messages;
mod openapi;
pub mod problem;
pub mod query;
mod routes;
pub mod server;
mod users;
mod webhooks;

use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::{
    Extension, Router,
    extract::{Request, State, rejection::PathRejection},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use auth::{Caller, Gate};
use problem::{Code, Problem};

use crate::{
    config::Config,
    events::Events,
    history::Histories,
    letters::DeadLetters,
    messages::Messages,
    suggest::quoted,
    users::{User, Users},
};

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What of the configuration the API goes by.
#[derive(Debug)]
struct Settings {
    gate: Gate,
    max_body: usize,
    body_timeout: Duration,
}

impl Settings {
    fn of(config: &Config) -> Self {
        Self {
            gate: Gate::new(&config.clients),
            max_body: config.messages.max_body,
            body_timeout: BODY_TIMEOUT,
        }
    }
}

/// What the API's routes work with. Cloning it is cheap.
#[derive(Clone)]
pub struct ApiState {
    settings: Arc<RwLock<Arc<Settings>>>,
    users: Arc<Users>,
    messages: Messages,
    events: Events,
    letters: DeadLetters,
    histories: Arc<dyn Histories>,
    draining: CancellationToken,
}

impl fmt::Debug for ApiState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiState").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl ApiState {
    /// The state of an API over these parts. When `draining` is cancelled, requests that wait are
    /// answered with `503` instead of being cut off.
    pub fn new(
        config: &Config,
        users: Arc<Users>,
        messages: Messages,
        events: Events,
        letters: DeadLetters,
        histories: Arc<dyn Histories>,
        draining: CancellationToken,
    ) -> Self {
        let settings = Arc::new(RwLock::new(Arc::new(Settings::of(config))));
        Self { settings, users, messages, events, letters, histories, draining }
    }

    /// Goes by another configuration from the next request on.
    pub fn reload(&self, config: &Config) {
        let gate = self.settings().gate.succeeded_by(&config.clients);
        let settings = Settings { gate, ..Settings::of(config) };
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The user of this name, if the caller may act for it and it exists. A name that the caller
    /// may not act for is refused alike whether it exists or not.
    fn user(&self, caller: &Caller, name: &str) -> Result<Arc<User>, Problem> {
        caller.require_user(name)?;
        self.users
            .get(name)
            .ok_or_else(|| Problem::new(Code::UnknownUser, format!("no user {} is configured", quoted(name))))
    }
}

/// The routes under `/v1`, behind the gate: for the API's listener and for the ops listener.
pub fn v1(state: &ApiState) -> Router {
    with_problems(routes::v1())
        .layer(middleware::from_fn_with_state(state.clone(), authorize))
        .with_state(state.clone())
}

/// Everything that the API's listener serves.
pub fn router(state: &ApiState) -> Router {
    let open = with_problems(routes::open())
        .layer(middleware::from_fn_with_state(state.clone(), guard))
        .with_state(state.clone());
    contained(open.nest("/v1", v1(state)))
}

/// Answers what no route answers with a problem.
pub(crate) fn with_problems<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    routes.fallback(not_found).method_not_allowed_fallback(method_not_allowed)
}

/// Turns a handler's panic into a `500`: the one request fails, the connection lives on.
pub(crate) fn contained(routes: Router) -> Router {
    routes.layer(middleware::from_fn(contain_panics))
}

/// Keeps the loopback rules for routes that need no token.
pub(crate) async fn guard(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    match state.settings().gate.admit_to_listener(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

async fn authorize(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    match state.settings().gate.admit(request.uri(), request.headers(), Instant::now()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

async fn contain_panics(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!(%method, ?path, "a request's handler panicked");
            Problem::new(Code::InternalError, "the bridge failed to answer this request; its log says why")
                .into_response()
        }
    }
}

async fn not_found() -> Problem {
    Problem::new(
        Code::NotFound,
        "there is nothing at this path; docs/http-api.md and /openapi.json tell what there is",
    )
}

async fn method_not_allowed(request: Request) -> Problem {
    let detail = format!("{} can't be used here; the Allow header tells what can", request.method());
    Problem::new(Code::MethodNotAllowed, detail)
}

/// The caller, as the gate let it in.
type Admitted = Extension<Caller>;

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::new(Code::MalformedPath, format!("the path is malformed: {}", rejection.body_text()))
    }
}

#[cfg(test)]
pub(crate) mod tests;
