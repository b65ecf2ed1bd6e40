//! How `openapi.json` shows these routes.

use schemars::JsonSchema;
use serde_json::{Value, json};

use super::{DEFAULT_LIMIT, MOST_LIMIT};
use crate::{
    api::{
        auth::Scope,
        openapi::{Operation, limit_parameter},
        problem::Code,
    },
    clock::Timestamp,
    events::{
        Attachment, Choice, EventId,
        agent::{Agent, Signal},
    },
    messages::ClientMessageId,
    names::{BotName, UserName},
    schemas::Frame,
};

/// An event, as webhooks get it (`format = "envelope"`).
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[allow(dead_code, reason = "for its schema alone: the envelope is put together from bytes")]
struct Envelope {
    /// The frame's own type, or the bridge's: `bridge.message`, `bridge.connection`, `bridge.gap`, `bridge.agent_session`.
    #[serde(rename = "type")]
    kind: String,
    /// When it was received.
    timestamp: Timestamp,
    user: UserName,
    bot: BotName,
    /// Its number at a webhook and user; null here.
    sequence: Option<u64>,
    /// The user's latest message sent before it.
    in_reply_to: Option<ClientMessageId>,
    source: Source,
    from: From,
    /// The agent, where `from` is `agent` and the platform names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Agent")]
    agent: Option<Agent>,
    /// What the agent says beside words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Signal")]
    signal: Option<Signal>,
    /// Its plain text, as far as it has one; of a template all that is on it, its choices numbered.
    text: Option<String>,
    /// What may be chosen, in the order of their numbers. Absent if there is nothing to choose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    choices: Vec<Choice>,
    /// The files that came with it. Absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<Attachment>,
    data: Frame,
    /// How many chunks a streamed answer came in. Only at webhooks with `streaming = "assembled"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunks: Option<u32>,
    /// Whether all of them came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    complete: Option<bool>,
}

/// How it came.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code, reason = "for its schema alone")]
enum Source {
    Live,
    History,
}

/// Who says it.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code, reason = "for its schema alone")]
enum From {
    Bot,
    /// A human.
    Agent,
    User,
    Platform,
}

/// An event with its id.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "for its schema alone")]
struct InboxEvent {
    id: EventId,
    #[serde(flatten)]
    envelope: Envelope,
}

/// Oldest first.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "for its schema alone")]
struct Inbox {
    events: Vec<InboxEvent>,
}

fn hi() -> Value {
    json!({ "id": "evt_1a2b3c4d000000000000002b", "type": "bot_response", "timestamp": "2026-01-01T00:00:00.000Z", "user": "alice",
        "bot": "support", "sequence": null, "inReplyTo": 1_466_692_440_896_u64, "source": "live", "from": "bot", "text": "Hi.",
        "data": { "type": "bot_response", "messageId": "ms-1", "message": [{ "type": "text", "cInfo": { "body": "Hi." } }] } })
}

fn event_id() -> Value {
    json!({ "type": "string", "pattern": "^evt_[0-9a-f]{24}$" })
}

pub(in crate::api) fn inbox() -> Operation {
    Operation::new("readInbox", Scope::Read, "A user's events")
        .tag("Events")
        .about("For systems that can't receive webhooks. Oldest first; keep the last `id`, and go on from there. An answer also ends \
                once its frames come to 1 MiB, so ask until one is empty.")
        .user()
        .query("after", "Only what came after this event. Without it: from the oldest that is kept.", event_id(), "evt_1a2b3c4d000000000000002a")
        .query("limit", "How many at most.", limit_parameter(DEFAULT_LIMIT, MOST_LIMIT), 100)
        .query("wait", "How long to wait for the first, if there is none: `500ms`, `30s`, at most `120s`.", crate::api::openapi::duration_parameter(), "30s")
        .answers::<Inbox>(200, "The events; none if none came in time.", json!({ "events": [hi()] }))
        .fails(&[Code::EventGone, Code::ShuttingDown, Code::StoreUnavailable])
}

pub(in crate::api) fn tail() -> Operation {
    let block = "id: evt_1a2b3c4d000000000000002b\nevent: bot_response\ndata: {\"type\":\"bot_response\",\"user\":\"alice\"}\n\n";
    Operation::new("tailEvents", Scope::Read, "Events as they happen")
        .tag("Events")
        .about("Server-sent events without an end: `id` is the `webhook-id`, `event` the type, `data` an `Envelope` in one line.")
        .query("user", "Only this user's. Without it: of all that the client may act for.", json!({ "type": "string" }), "alice")
        .header("Last-Event-ID", "Goes on after this event.", event_id(), "evt_1a2b3c4d000000000000002a")
        .answers_as::<String>("text/event-stream", 200, "The events.", block.into())
        .also_shows::<Envelope>()
        .fails(&[Code::UserNotAllowed, Code::UnknownUser, Code::BadLastEventId, Code::EventGone, Code::StoreUnavailable])
}
