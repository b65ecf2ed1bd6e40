//! How `openapi.json` shows this route.

use serde_json::json;

use super::{DEFAULT_LIMIT, MOST_LIMIT};
use crate::{
    api::{
        auth::Scope,
        openapi::{Operation, limit_parameter},
        problem::Code,
    },
    history::HistoryPage,
};

pub(in crate::api) fn show() -> Operation {
    let hi = json!({ "id": "ms-1", "direction": "outgoing", "from": "bot", "text": "Hi.", "createdOn": "2026-01-01T00:00:00.000Z",
        "raw": { "_id": "ms-1", "type": "outgoing" } });
    Operation::new("getHistory", Scope::Read, "What was said, as the platform remembers it")
        .tag("Events")
        .about("Newest first. The next page begins at `offset` plus the number of `messages`, while `moreAvailable` is true.")
        .user()
        .query("source", "Which of the platform's APIs is asked: `botmessages/rtm` or BotKit's `getMessages`.", json!({ "type": "string", "enum": ["rtm", "botkit"], "default": "rtm" }), "rtm")
        .query("limit", "How many at most; the platform may give fewer.", limit_parameter(DEFAULT_LIMIT, MOST_LIMIT), 20)
        .query("offset", "Skips so many of the newest.", json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX, "default": 0 }), 0)
        .answers::<HistoryPage>(200, "A page of it.", json!({ "total": 42, "moreAvailable": true, "messages": [hi] }))
        .fails(&[Code::PlatformFailed, Code::PlatformSilent, Code::PlatformBusy, Code::ShuttingDown, Code::StoreUnavailable])
}
