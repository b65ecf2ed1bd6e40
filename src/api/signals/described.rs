//! How `openapi.json` shows these routes.

use schemars::JsonSchema;
use serde_json::{Value, json};

use crate::{
    api::{
        auth::Scope,
        messages::AcceptedView,
        openapi::{Operation, duration_parameter},
        problem::Code,
    },
    messages::{ClientMessageId, MessageView},
};

/// What every signal may say.
macro_rules! signals {
    ($($(#[$about:meta])* $name:ident { $($(#[$meta:meta])* $field:ident: $type:ty),* $(,)? })+) => {$(
        $(#[$about])*
        #[derive(JsonSchema)]
        #[schemars(rename_all = "camelCase", deny_unknown_fields)]
        #[allow(dead_code, reason = "for its schema alone")]
        struct $name {
            $($(#[$meta])* $field: $type,)*
            #[serde(skip_serializing_if = "Option::is_none")]
            #[schemars(with = "ClientMessageId")]
            client_message_id: Option<ClientMessageId>,
        }
    )+};
}

/// Without control characters.
const NO_CONTROLS: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

signals! {
    /// That the user types, or doesn't any more.
    NewTyping {
        /// `start`, if it isn't said.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "TypingState")]
        state: Option<TypingState>,
    }
    /// That the user got or read something.
    NewReceipt {
        /// What: the `messageId` of an event's `data`.
        #[schemars(length(min = 1, max = 256), regex(pattern = NO_CONTROLS))]
        message_id: String,
        /// The `agent_MessageId` of the same event's `data`.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "String", length(min = 1, max = 256), regex(pattern = NO_CONTROLS))]
        agent_message_id: Option<String>,
        /// `read`, if it isn't said.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "ReceiptState")]
        state: Option<ReceiptState>,
    }
    /// Nothing but, perhaps, the id that it is to be known by.
    NewSignal {}
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code, reason = "for its schema alone")]
enum TypingState {
    Start,
    Stop,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code, reason = "for its schema alone")]
enum ReceiptState {
    Delivered,
    Read,
}

fn signal<T: JsonSchema>(id: &'static str, summary: &'static str, body: &Value) -> Operation {
    let queued = json!({ "user": "alice", "clientMessageId": 1_466_692_440_896_u64, "status": "queued", "createdAt": "2016-06-23T14:34:00.896Z" });
    let sent = json!({ "user": "alice", "clientMessageId": 1_466_692_440_896_u64, "status": "sent", "reason": null, "delivery": "unknown",
        "attempts": 1, "createdAt": "2016-06-23T14:34:00.896Z", "sentAt": "2016-06-23T14:34:00.900Z", "ackedAt": null, "ack": null,
        "replies": [] });
    let key = json!({ "type": "string", "minLength": 1, "maxLength": 255 });
    Operation::new(id, Scope::Send, summary)
        .tag("Agents")
        .about("Sent once, in order with the user's messages, and final at `sent`; refused while the user is not connected.")
        .user()
        .query(
            "wait",
            "`ack`: answer when it was sent.",
            json!({ "type": "string", "const": "ack" }),
            "ack",
        )
        .query("timeout", "With `wait`: how long at most; `30s` if not given, at most `120s`.", duration_parameter(), "10s")
        .header("Idempotency-Key", "The same key and signal is one signal, for 24 hours; 1 to 255 bytes.", key, "typing-1234")
        .takes::<T>("application/json", body.clone())
        .takes::<T>("application/x-www-form-urlencoded", body.clone())
        .answers::<AcceptedView<'_>>(202, "It is on stable storage, and will be sent.", queued)
        .with_header("Location", "Where its status can be asked for.")
        .answers::<MessageView<'_>>(200, "A repeat, or what was waited for: how it is now.", sent)
        .with_header("Location", "Where its status can be asked for.")
        .fails(&[
            Code::MalformedBody,
            Code::BadIdempotencyKey,
            Code::UnknownMessage,
            Code::BodyTimeout,
            Code::IdTaken,
            Code::BodyTooLarge,
            Code::UnsupportedContentType,
            Code::UnsupportedCharset,
            Code::UnsupportedContentEncoding,
            Code::UnknownKey,
            Code::WrongType,
            Code::BadValue,
            Code::TooDeep,
            Code::BadClientMessageId,
            Code::IdempotencyKeyReused,
            Code::QueueFull,
            Code::NotConnected,
            Code::StoreUnavailable,
            Code::ShuttingDown,
            Code::WaitTimeout,
        ])
}

pub(in crate::api) fn typing() -> Operation {
    signal::<NewTyping>("sendTyping", "Say that the user types", &json!({ "state": "start" })).needs_no_body()
}

pub(in crate::api) fn receipt() -> Operation {
    let body = json!({ "messageId": "ms-1", "state": "read" });
    signal::<NewReceipt>("sendReceipt", "Say that the user got or read something", &body)
}

pub(in crate::api) fn close_agent_session() -> Operation {
    signal::<NewSignal>("closeAgentSession", "End the session with the human agent", &json!({}))
        .needs_no_body()
}

pub(in crate::api) fn close_session() -> Operation {
    signal::<NewSignal>("closeSession", "End the conversation", &json!({})).needs_no_body()
}
