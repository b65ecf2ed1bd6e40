//! The HTTP API: its routes (`routes`) by resource, who may call, and errors as `problem+json`.
//!
//! A request goes through the server's limits ([`server`]), the gate ([`auth`]), its route, and
//! then, in this order: the caller's scope, the user (allowed, then existing), the query, the
//! headers, the body. Only when all of it holds is anything asked of the messages or the store, so
//! that a refused request leaves no trace.

mod attachments;
pub mod auth;
mod body;
mod dead_letters;
mod events;
mod gated;
mod history;
mod loopback;
mod message_list;
mod messages;
mod openapi;
pub mod problem;
pub mod query;
mod routes;
pub mod server;
mod signals;
mod users;
mod webhooks;

pub use gated::Gated;

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::{
    Extension, Router,
    extract::{Request, rejection::PathRejection},
};
use tokio_util::sync::CancellationToken;

use auth::{Caller, Gate};
use problem::{Code, Problem};

use crate::{
    attachments::Uploads,
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
pub struct ApiState(Arc<Parts>);

/// What that is.
pub struct Parts {
    settings: RwLock<Arc<Settings>>,
    users: Arc<Users>,
    messages: Messages,
    events: Events,
    letters: DeadLetters,
    histories: Arc<dyn Histories>,
    uploads: Arc<dyn Uploads>,
    places: attachments::Places,
    draining: CancellationToken,
}

impl Deref for ApiState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl fmt::Debug for ApiState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiState").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl ApiState {
    /// The state of an API over these parts. When `draining` is cancelled, requests that wait are
    /// answered with `503` instead of being cut off.
    #[expect(clippy::too_many_arguments, reason = "the parts that the API is made over")]
    pub fn new(
        config: &Config,
        users: Arc<Users>,
        messages: Messages,
        events: Events,
        letters: DeadLetters,
        histories: Arc<dyn Histories>,
        uploads: Arc<dyn Uploads>,
        draining: CancellationToken,
    ) -> Self {
        let settings = RwLock::new(Arc::new(Settings::of(config)));
        let places = attachments::Places::default();
        Self(Arc::new(Parts {
            settings,
            users,
            messages,
            events,
            letters,
            histories,
            uploads,
            places,
            draining,
        }))
    }

    /// Goes by another configuration from the next request on.
    pub fn reload(&self, config: &Config) {
        let gate = self.settings().gate.succeeded_by(&config.clients);
        let settings = Settings { gate, ..Settings::of(config) };
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Whether callers need a client's token.
    pub fn asks_for_tokens(&self) -> bool {
        self.settings().gate.has_clients()
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

/// Everything that the API's listener serves.
pub fn router(state: &ApiState) -> Gated {
    Gated::new(routes::open().merge(routes::v1()).with_state(state.clone()), state)
}

/// These routes and those under `/v1`, for the ops listener.
pub fn router_with(own: Router, state: &ApiState) -> Gated {
    Gated::new(own.merge(routes::v1().with_state(state.clone())), state)
}

/// Answers what no route answers with a problem.
fn with_problems(routes: Router) -> Router {
    routes.fallback(not_found).method_not_allowed_fallback(method_not_allowed)
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
