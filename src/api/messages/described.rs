//! How `openapi.json` shows these routes.

use std::{borrow::Cow, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::AcceptedView;
use crate::{
    api::{
        attachments::described::{FILE_CODES, MessageWithFiles},
        auth::Scope,
        openapi::{Operation, duration_parameter},
        problem::Code,
    },
    messages::{ClientMessageId, MessageView},
};

const FRAMES: &str = "A JSON body with `resourceid` is a whole client frame. `id`, `client`, `meta` and `botInfo` in it are always the \
    bridge's, but for `botInfo.customData`. Only a `/bot.message` without `event` awaits an ack; every other frame is sent once, \
    and refused while the user is not connected.";

/// A text is more than white space.
pub(in crate::api) const SAYS_SOMETHING: &str = r"[^\s\u0085]";

type Object = Map<String, Value>;

/// A message: a `text` that is not only white space, or `attachments`, or both.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields, transform = needs_something_to_say)]
#[allow(dead_code, reason = "for its schema alone: bodies are not parsed into a type, but spliced")]
struct NewMessage {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    text: Option<String>,
    /// As the platform wants them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Value>")]
    attachments: Option<Vec<Value>>,
    /// Given none, the bridge takes the time in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ClientMessageId")]
    client_message_id: Option<ClientMessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Object")]
    custom_data: Option<Object>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Object")]
    meta_tags: Option<Object>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    render_msg: Option<String>,
}

/// The same, as fields.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields, transform = needs_something_to_say)]
#[allow(dead_code, reason = "for its schema alone")]
struct MessageForm {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "JsonText<Vec<Value>>")]
    attachments: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ClientMessageId")]
    client_message_id: Option<ClientMessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "JsonText<Object>")]
    custom_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "JsonText<Object>")]
    meta_tags: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    render_msg: Option<String>,
}

/// JSON in a form's field.
struct JsonText<T>(PhantomData<T>);

impl<T: JsonSchema> JsonSchema for JsonText<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("JsonTextOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let content = generator.subschema_for::<T>();
        json_schema!({ "type": "string", "contentMediaType": "application/json", "contentSchema": content })
    }
}

fn needs_something_to_say(schema: &mut Schema) {
    schema.insert("anyOf".to_owned(), something_to_say("text"));
}

fn something_to_say(text: &str) -> Value {
    json!([
        { "required": [text], "properties": { text: { "pattern": SAYS_SOMETHING } } },
        // An array, or one as a text.
        { "required": ["attachments"], "properties": { "attachments": { "minItems": 1, "minLength": 3 } } },
    ])
}

/// A body of `application/json`.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "for its schema alone")]
enum JsonBody {
    Message(NewMessage),
    Frame(ClientFrame),
}

/// A whole frame, as the platform's own clients write it.
struct ClientFrame;

impl JsonSchema for ClientFrame {
    fn schema_name() -> Cow<'static, str> {
        "ClientFrame".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let id = generator.subschema_for::<ClientMessageId>();
        let message = json!({ "type": "object", "properties": { "body": { "type": "string" }, "attachments": { "type": "array" } } });
        let mut said = message.clone();
        said["anyOf"] = something_to_say("body");
        let bot_message = |message: &Value| json!({ "resourceid": { "const": "/bot.message" }, "event": { "type": "string" }, "message": message });
        json_schema!({
            "description": "A whole frame, as the platform's own clients write it.",
            "type": "object",
            "required": ["resourceid"],
            "not": { "required": ["type"] },
            "properties": { "botInfo": { "type": "object" }, "clientMessageId": id },
            "anyOf": [
                { "description": "A message.", "required": ["message"], "properties": bot_message(&said) },
                { "description": "An event, such as typing.", "required": ["event"], "properties": bot_message(&message) },
                { "properties": { "resourceid": { "enum": ["/bot.clientEvent", "/bot.closeConversationSession"] } } },
            ],
        })
    }
}

/// A text that is not only white space.
struct Text;

impl JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "A text that is not only white space.", "type": "string", "pattern": SAYS_SOMETHING })
    }
}

/// A message that the platform took.
pub(in crate::api) fn acked() -> Value {
    json!({ "user": "alice", "clientMessageId": 1_466_692_440_896_u64, "status": "acked", "reason": null, "delivery": "confirmed",
        "attempts": 1, "createdAt": "2016-06-23T14:34:00.896Z", "sentAt": "2016-06-23T14:34:00.900Z",
        "ackedAt": "2016-06-23T14:34:00.950Z", "ack": { "ok": true, "replyto": 1_466_692_440_896_u64, "type": "ack" },
        "replies": ["evt_1a2b3c4d000000000000002a"] })
}

fn waits(operation: Operation) -> Operation {
    operation
        .query(
            "wait",
            "`ack`: answer when the status is final. `reply`: answer when the bot has, with its answers.",
            json!({ "type": "string", "enum": ["ack", "reply"] }),
            "reply",
        )
        .query(
            "timeout",
            "With `wait`: how long at most; `30s` if not given, at most `120s`.",
            duration_parameter(),
            "10s",
        )
        .query(
            "collect",
            "With `wait=reply`: go on collecting answers for so long after the first; at most `120s`.",
            duration_parameter(),
            "500ms",
        )
        .fails(&[Code::UnknownMessage, Code::StoreUnavailable, Code::ShuttingDown, Code::WaitTimeout])
}

pub(in crate::api) fn send() -> Operation {
    let simple = json!({ "text": "Where is my order?", "customData": { "orderNumber": 1234 } });
    let form = json!({ "text": "Where is my order?", "customData": "{\"orderNumber\": 1234}" });
    let queued = json!({ "user": "alice", "clientMessageId": 1_466_692_440_896_u64, "status": "queued", "createdAt": "2016-06-23T14:34:00.896Z" });
    let key = json!({ "type": "string", "minLength": 1, "maxLength": 255 });
    waits(
        Operation::new("sendMessage", Scope::Send, "Send a message to the bot")
            .tag("Messages")
            .about(FRAMES)
            .user(),
    )
    .header(
        "Idempotency-Key",
        "The same key and message is one message, for 24 hours; 1 to 255 bytes.",
        key,
        "order-1234",
    )
    .header(
        "traceparent",
        "The caller's W3C trace context: it goes on in the log, and in the POSTs of what comes of the message. An invalid one is ignored.",
        json!({ "type": "string" }),
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )
    .takes::<JsonBody>("application/json", simple.clone())
    .takes::<MessageForm>("application/x-www-form-urlencoded", form)
    .takes::<Text>("text/plain", "Where is my order?".into())
    .takes::<MessageWithFiles>("multipart/form-data", json!({ "text": "The list", "file": ["..."] }))
    .answers::<AcceptedView<'_>>(202, "It is on stable storage, and will be sent.", queued)
    .with_header("Location", "Where its status can be asked for.")
    .answers::<MessageView<'_>>(200, "A repeat, or what was waited for: how the message is now.", acked())
    .with_header("Location", "Where its status can be asked for.")
    .fails(&[
        Code::MalformedBody,
        Code::BadIdempotencyKey,
        Code::BodyTimeout,
        Code::IdTaken,
        Code::BodyTooLarge,
        Code::UnsupportedContentType,
        Code::UnsupportedCharset,
        Code::UnsupportedContentEncoding,
        Code::UnknownKey,
        Code::WrongType,
        Code::EmptyMessage,
        Code::TooDeep,
        Code::TypeRefused,
        Code::UnknownResource,
        Code::BadClientMessageId,
        Code::IdempotencyKeyReused,
        Code::QueueFull,
        Code::NotConnected,
        Code::IdAfterFile,
    ])
    .fails(&FILE_CODES)
}

pub(in crate::api) fn show() -> Operation {
    waits(Operation::new("getMessage", Scope::Read, "What became of a message").tag("Messages").user())
        .path("id", "Its `clientMessageId`.", json!({ "type": "string" }), "1466692440896")
        .answers::<MessageView<'_>>(200, "How it is now.", acked())
}
