//! How `openapi.json` shows this route.

use serde_json::json;

use super::{DEFAULT_LIMIT, MOST_LIMIT, MessageList};
use crate::{
    api::{
        auth::Scope,
        messages,
        openapi::{Operation, limit_parameter},
        problem::Code,
    },
    messages::MessageStatus,
};

pub(in crate::api) fn list() -> Operation {
    let statuses = schemars::schema_for!(MessageStatus);
    let words: Vec<_> = statuses
        .get("oneOf")
        .into_iter()
        .flat_map(|one| one.as_array().unwrap())
        .map(|one| &one["const"])
        .collect();
    Operation::new("listMessages", Scope::Read, "A user's messages")
        .tag("Messages")
        .about("Newest first: by the order of acceptance.")
        .user()
        .query("status", "Leaves all others out.", json!({ "type": "string", "enum": words }), "acked")
        .query("limit", "How many at most.", limit_parameter(DEFAULT_LIMIT, MOST_LIMIT), 20)
        .query(
            "cursor",
            "The `nextCursor` of an earlier answer.",
            json!({ "type": "string", "pattern": "^msg_[0-9a-f]{16}$" }),
            "msg_000000000000002a",
        )
        .answers::<MessageList<'_>>(
            200,
            "A page of them.",
            json!({ "messages": [messages::described::acked()], "nextCursor": "msg_000000000000002a" }),
        )
        .fails(&[Code::StoreUnavailable])
}
