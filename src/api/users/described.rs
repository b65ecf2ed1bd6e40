//! How `openapi.json` shows these routes.

use serde_json::{Value, json};

use super::{Reconnecting, UserList, UserView};
use crate::api::{auth::Scope, openapi::Operation};

fn alice() -> Value {
    json!({ "name": "alice", "bot": "support", "state": "connected", "since": "2026-01-01T00:00:00.000Z", "lastError": null,
        "attempts": 0, "queued": 0, "undelivered": 0, "agentSession": false })
}

pub(in crate::api) fn list() -> Operation {
    Operation::new("listUsers", Scope::Read, "All users").tag("Users").answers::<UserList>(
        200,
        "The users that the client may act for.",
        json!({ "users": [alice()] }),
    )
}

pub(in crate::api) fn show() -> Operation {
    Operation::new("getUser", Scope::Read, "How a user is").tag("Users").user().answers::<UserView>(
        200,
        "The user.",
        alice(),
    )
}

pub(in crate::api) fn reconnect() -> Operation {
    Operation::new("reconnectUser", Scope::Admin, "Make a user's connection anew")
        .tag("Users")
        .about("The connection is dropped, and made anew at once, unless the platform just said how long to wait.")
        .user()
        .answers::<Reconnecting>(202, "It is being made anew.", json!({ "user": "alice" }))
}
