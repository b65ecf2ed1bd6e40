//! The way to the routes: through the gate.

use axum::{
    Router,
    extract::Request,
    response::{IntoResponse as _, Response},
};
use tokio::time::Instant;

use super::{ApiState, auth::Caller, messages, problem::Problem, server::Application, with_problems};

/// A listener's routes behind the gate: those under `/v1` are for callers whom it admits and who are known to their
/// handlers by that, all others keep to the listener's rules.
///
/// No layers of axum's, each of which would put every request, and what becomes of it, into another box; and what
/// posts a message goes straight to its handler.
#[derive(Debug, Clone)]
pub struct Gated {
    routes: Router,
    state: ApiState,
}

impl Gated {
    /// These routes, and problems for what none of them answers.
    pub(super) fn new(routes: Router, state: &ApiState) -> Self {
        Self { routes: with_problems(routes), state: state.clone() }
    }

    /// Who calls, where that matters.
    fn admit(&self, request: &Request) -> Result<Option<Caller>, Problem> {
        let settings = self.state.settings();
        let (uri, headers) = (request.uri(), request.headers());
        if is_open(uri.path()) {
            settings.gate.admit_to_listener(uri, headers)?;
            return Ok(None);
        }
        settings.gate.admit(uri, headers, Instant::now()).map(Some)
    }

    async fn route(&self, mut request: Request) -> Result<Response, Problem> {
        if let Some(caller) = self.admit(&request)? {
            if let Some(name) = messages::addressee(&request) {
                let user = messages::to_send_to(&self.state, &caller, name)?;
                return messages::send_to(&self.state, &caller, user, request).await;
            }
            request.extensions_mut().insert(caller);
        }
        Ok(self.routes.answer(request).await)
    }
}

/// Whether a path is none of the API's own.
fn is_open(path: &str) -> bool {
    path.strip_prefix("/v1").is_none_or(|rest| !rest.is_empty() && !rest.starts_with('/'))
}

impl Application for Gated {
    async fn answer(&self, request: Request) -> Response {
        self.route(request).await.unwrap_or_else(Problem::into_response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_under_v1_is_the_apis() {
        for path in ["/v1", "/v1/", "/v1/users", "/v1//"] {
            assert!(!is_open(path), "{path}");
        }
        for path in ["", "/", "/v10", "/v1x/users", "/metrics", "//v1/users", "*"] {
            assert!(is_open(path), "{path}");
        }
    }
}
