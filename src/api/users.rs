//! `/v1/users`: who is configured, and how each one's connection is.

use axum::{
    Extension, Json,
    extract::{Path, RawQuery, State, rejection::PathRejection},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::Serialize;

use super::{Admitted, ApiState, auth::Scope, problem::Problem, query::Query};
use crate::{
    clock::Timestamp,
    names::UserName,
    users::{Command, ConnectionState, User},
};

/// How a user is.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "User"))]
#[serde(rename_all = "camelCase")]
struct UserView {
    name: String,
    bot: String,
    state: ConnectionState,
    /// Since when it is in this state.
    since: Timestamp,
    /// What went wrong last, in plain words; it stays until the next failure.
    last_error: Option<String>,
    /// Tries to connect since the last stable connection.
    attempts: u32,
    /// Messages that are not final.
    queued: usize,
    /// Events that its webhooks have still to get.
    undelivered: u64,
    /// Whether it talks to a human agent.
    agent_session: bool,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct UserList {
    users: Vec<UserView>,
}

/// Whose connection is made anew.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Reconnecting<'a> {
    user: &'a UserName,
}

impl UserView {
    fn new(state: &ApiState, user: &User) -> Self {
        let status = user.status();
        Self {
            name: user.name.to_string(),
            bot: user.bot.to_string(),
            state: status.state,
            since: status.since,
            last_error: status.last_error,
            attempts: status.attempts,
            queued: state.messages.queued(user.number),
            undelivered: state.events.undelivered(user.number),
            agent_session: state.events.in_agent_session(user.number),
        }
    }
}

/// `GET /v1/users`
pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    Query::read(query.as_deref(), &[])?;
    let mut users = state.users.all();
    users.retain(|user| caller.may_act_for(user.name.as_str()));
    let users = users.iter().map(|user| UserView::new(&state, user)).collect();
    Ok(Json(UserList { users }).into_response())
}

/// `GET /v1/users/{user}`
pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    name: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let user = state.user(&caller, &name?.0)?;
    Query::read(query.as_deref(), &[])?;
    Ok(Json(UserView::new(&state, &user)).into_response())
}

/// `POST /v1/users/{user}/reconnect`
pub(super) async fn reconnect(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    name: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    caller.require(Scope::Admin)?;
    let user = state.user(&caller, &name?.0)?;
    Query::read(query.as_deref(), &[])?;
    user.mailbox.post(Command::Reconnect);
    Ok((StatusCode::ACCEPTED, Json(Reconnecting { user: &user.name })).into_response())
}

#[cfg(test)]
pub(super) mod described;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_user_is_shown_with_every_key() {
        let view = UserView {
            name: "alice".into(),
            bot: "support".into(),
            state: ConnectionState::BackingOff,
            since: Timestamp::from_millis(0),
            last_error: Some("refused".into()),
            attempts: 3,
            queued: 2,
            undelivered: 1,
            agent_session: true,
        };
        let expected = json!({
            "name": "alice", "bot": "support", "state": "backing_off", "since": "1970-01-01T00:00:00.000Z",
            "lastError": "refused", "attempts": 3, "queued": 2, "undelivered": 1, "agentSession": true,
        });
        assert_eq!(serde_json::to_value(view).unwrap(), expected);
    }
}
