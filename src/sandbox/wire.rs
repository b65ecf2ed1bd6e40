//! Frames: reading what clients send, writing what the platform sends.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{
    auth::App,
    bot::{Speaker, Speech},
    history::{Direction, HistoryItem, Part},
    ids,
};
use crate::{clock::Timestamp, rtm::frame::FrameHead};

/// What a frame from a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrameKind {
    /// Something that the user says.
    Message,
    /// A `/bot.message` with an `event`, such as typing.
    Event,
    /// A `/bot.clientEvent`.
    ClientEvent,
    /// A `/bot.closeConversationSession`.
    CloseSession,
    /// The acknowledgement of an event.
    Ack,
    /// JSON's own ping. It is answered and counted, not kept.
    Ping,
    /// Another JSON object.
    Other,
    /// Not a JSON object.
    NotJson,
}

/// A frame from a client, its fields as they came. A duplicate key: the last wins.
#[derive(Debug)]
pub(super) struct ClientFrame<'a>(HashMap<String, &'a RawValue>);

impl<'a> ClientFrame<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().map(Self)
    }

    fn text(&self, key: &str) -> Option<String> {
        serde_json::from_str(self.0.get(key)?.get()).ok()
    }

    fn value(&self, key: &str) -> Option<Value> {
        serde_json::from_str(self.0.get(key)?.get()).ok()
    }

    pub(super) fn kind(&self) -> FrameKind {
        match self.text("type").as_deref() {
            Some("ping") => return FrameKind::Ping,
            Some("ack") => return FrameKind::Ack,
            _ => {}
        }
        match self.text("resourceid").as_deref() {
            Some("/bot.clientEvent") => FrameKind::ClientEvent,
            Some("/bot.closeConversationSession") => FrameKind::CloseSession,
            Some("/bot.message") if self.event().is_some() => FrameKind::Event,
            Some("/bot.message") if self.0.contains_key("message") => FrameKind::Message,
            _ => FrameKind::Other,
        }
    }

    /// `id`, verbatim JSON.
    pub(super) fn id(&self) -> Option<&'a RawValue> {
        self.0.get("id").copied()
    }

    pub(super) fn event(&self) -> Option<String> {
        self.text("event").filter(|event| !event.is_empty())
    }

    /// What the user says: the body, or a note of the attachments.
    pub(super) fn message_text(&self) -> String {
        let message = self.value("message").unwrap_or_default();
        match (message["body"].as_str(), message["attachments"].as_array()) {
            (Some(body), _) if !body.is_empty() => body.to_owned(),
            (_, Some(attachments)) if !attachments.is_empty() => {
                format!("[{} attachment(s)]", attachments.len())
            }
            _ => String::new(),
        }
    }

    /// The history's item of a message.
    pub(super) fn to_history(&self, session_id: &str, now: Timestamp) -> HistoryItem {
        let message = self.value("message").unwrap_or_default();
        HistoryItem {
            id: ids::message_id(),
            part: Part::Whole,
            direction: Direction::Incoming,
            text: self.message_text(),
            alt_text: message["renderMsg"].as_str().map(str::to_owned),
            user_msg_id: self.value("clientMessageId").or_else(|| self.value("id")),
            created: now,
            session_id: session_id.to_owned(),
            author: None,
        }
    }

    /// What the sender's other connections see of a message.
    pub(super) fn to_user_message(&self) -> Utf8Bytes {
        let frame = UserMessage {
            kind: "user_message",
            from: "self",
            id: self.id(),
            message: self.0.get("message").copied(),
            bot_info: self.0.get("botInfo").copied(),
        };
        to_text(&frame)
    }
}

#[derive(Serialize)]
struct UserMessage<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    from: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a RawValue>,
    #[serde(rename = "botInfo", skip_serializing_if = "Option::is_none")]
    bot_info: Option<&'a RawValue>,
}

/// What the platform makes of a frame that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    Refused,
}

#[derive(Serialize)]
struct Reply<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ok: Option<bool>,
    #[serde(rename = "replyto", skip_serializing_if = "Option::is_none")]
    reply_to: Option<&'a RawValue>,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// The ack of a frame; one for client events names no frame.
pub(super) fn ack(reply_to: Option<&RawValue>, verdict: Verdict) -> Utf8Bytes {
    to_text(&Reply { ok: Some(verdict == Verdict::Fine), reply_to, kind: "ack" })
}

pub(super) fn pong(reply_to: Option<&RawValue>) -> Utf8Bytes {
    to_text(&Reply { ok: None, reply_to, kind: "pong" })
}

/// What every frame of a conversation repeats.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) app: &'a App,
    pub(super) session_id: &'a str,
    pub(super) now: Timestamp,
}

impl Context<'_> {
    fn bot_info(self) -> Value {
        json!({"chatBot": self.app.bot_name, "taskBotId": self.app.bot_id})
    }

    /// A frame that is just a type.
    pub(super) fn status(self, kind: &str) -> Utf8Bytes {
        to_text(&json!({
            "type": kind,
            "from": "bot",
            "botInfo": self.bot_info(),
            "sessionId": self.session_id,
            "traceId": ids::hex(16),
        }))
    }

    /// The first frame on a connection.
    pub(super) fn bot_active(self, session: Option<&str>) -> Utf8Bytes {
        to_text(&json!({
            "type": "bot_active",
            "from": "bot",
            "botInfo": self.bot_info(),
            "sessionId": self.session_id,
            "traceId": ids::hex(16),
            "recentSessionInfo": {"isActive": session.is_some(), "sessionId": session},
        }))
    }

    /// A live signal from the agent's side.
    pub(super) fn event(self, message: &Value) -> Utf8Bytes {
        to_text(&json!({
            "type": "events",
            "from": "bot",
            "botInfo": self.bot_info(),
            "sessionId": self.session_id,
            "traceId": ids::hex(16),
            "message": message,
        }))
    }

    /// A `bot_response` and its item in the history.
    pub(super) fn bot_response(self, speech: &Speech) -> (Utf8Bytes, HistoryItem) {
        let id = speech.chunk.as_ref().map_or_else(ids::message_id, |chunk| chunk.message_id.clone());
        let component = speech
            .component
            .clone()
            .unwrap_or_else(|| json!({"type": "text", "payload": {"text": speech.text}}));
        let recorded = speech.component.as_ref().map(|component| component["payload"].to_string());
        let mut frame = json!({
            "type": "bot_response",
            "from": "bot",
            "messageId": id,
            "key": ids::id("k"),
            "timestamp": self.now.as_millis(),
            "createdOn": self.now.to_string(),
            "sessionId": self.session_id,
            "traceId": ids::hex(16),
            "icon": "",
            "botLanguage": "en",
            "botInfo": self.bot_info(),
            "message": [{"type": "text", "component": component, "cInfo": {"body": speech.text}}],
        });
        let author = match &speech.speaker {
            Speaker::Agent(persona) => {
                frame["fromAgent"] = json!(true);
                frame["author"] = persona.author();
                frame["agent_MessageId"] = json!(ids::id("am"));
                Some((persona.first_name.clone(), persona.last_name.clone()))
            }
            Speaker::Bot => None,
        };
        if let Some(chunk) = &speech.chunk {
            frame["sM"] = json!(true);
            frame["endChunk"] = json!(chunk.complete.is_some());
            if let Some(complete) = &chunk.complete {
                frame["completeResponse"] = json!(complete);
            }
        }
        let item = HistoryItem {
            id,
            part: speech.chunk.as_ref().map_or(Part::Whole, |_| Part::Chunk),
            direction: Direction::Outgoing,
            text: recorded.unwrap_or_else(|| speech.text.clone()),
            alt_text: None,
            user_msg_id: None,
            created: self.now,
            session_id: self.session_id.to_owned(),
            author,
        };
        (to_text(&frame), item)
    }

    /// What the history says of a whole frame that somebody wrote: an item for something said,
    /// nothing for other frames.
    pub(super) fn record_of(self, frame: &[u8]) -> Option<HistoryItem> {
        let head = FrameHead::parse(frame).ok()?;
        let direction = match () {
            () if head.is("bot_response") => Direction::Outgoing,
            () if head.is("user_message") => Direction::Incoming,
            () => return None,
        };
        let value: Value = serde_json::from_slice(frame).ok()?;
        let created = value["createdOn"].as_str().and_then(Timestamp::parse).unwrap_or(self.now);
        let author = value["author"].as_object().map(|author| {
            let name = |key: &str| author.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            (name("firstName"), name("lastName"))
        });
        Some(HistoryItem {
            id: head.message_id.as_deref().map_or_else(ids::message_id, str::to_owned),
            part: if value["sM"] == json!(true) { Part::Chunk } else { Part::Whole },
            direction,
            text: said(&value),
            alt_text: value["message"]["renderMsg"].as_str().map(str::to_owned),
            user_msg_id: (direction == Direction::Incoming).then(|| value.get("id").cloned()).flatten(),
            created,
            session_id: value["sessionId"].as_str().unwrap_or(self.session_id).to_owned(),
            author,
        })
    }
}

/// The text of a `bot_response` or `user_message`, as the history has it: templates as JSON text.
fn said(frame: &Value) -> String {
    let first = if frame["message"].is_array() { &frame["message"][0] } else { &frame["message"] };
    let payload = &first["component"]["payload"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    text(&payload["text"])
        .or_else(|| text(payload))
        .or_else(|| payload.is_object().then(|| payload.to_string()))
        .or_else(|| text(&first["cInfo"]["body"]))
        .or_else(|| text(&first["body"]))
        .unwrap_or_default()
}

/// JSON as the text of a frame.
fn to_text(frame: &impl Serialize) -> Utf8Bytes {
    serde_json::to_string(frame).expect("frames made here are JSON").into()
}

/// Puts form fields such as `botInfo[chatBot]` into objects.
pub(super) fn nest(fields: Vec<(String, String)>) -> Value {
    let mut root = Map::new();
    for (key, value) in fields {
        let mut path = key.split(['[', ']']).filter(|part| !part.is_empty());
        let Some(mut name) = path.next() else { continue };
        let mut at = &mut root;
        for next in path {
            let child = at.entry(name).or_insert_with(|| json!({}));
            if !child.is_object() {
                *child = json!({});
            }
            at = child.as_object_mut().expect("it was just made an object");
            name = next;
        }
        at.insert(name.to_owned(), Value::String(value));
    }
    Value::Object(root)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sandbox::agent::Persona;

    fn frame(json: &str) -> ClientFrame<'_> {
        ClientFrame::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn ids_come_back_verbatim() {
        for id in ["1466692440896", "1638338400123.456", "\"AB-1\\u00e4\"", "1.0e3", "17", "null"] {
            let text = format!(r#"{{"id":{id},"resourceid":"/bot.message","message":{{"body":"x"}}}}"#);
            let ack = ack(frame(&text).id(), Verdict::Fine);
            assert_eq!(ack.as_str(), format!(r#"{{"ok":true,"replyto":{id},"type":"ack"}}"#));
        }
        assert_eq!(pong(None).as_str(), r#"{"type":"pong"}"#);
        assert_eq!(ack(None, Verdict::Refused).as_str(), r#"{"ok":false,"type":"ack"}"#);
    }

    proptest! {
        #[test]
        fn any_scalar_id_comes_back_verbatim(number in any::<f64>(), integer in any::<i128>(), text: String) {
            let numbers = [format!("{number:e}"), format!("{number}"), integer.to_string()];
            let finite = number.is_finite();
            let texts = [serde_json::to_string(&text).unwrap()];
            for id in numbers.iter().filter(|_| finite).chain(&texts) {
                let json = format!(r#"{{"a":[1,{{"id":2}}],"id":{id}}}"#);
                let answer = pong(frame(&json).id());
                prop_assert_eq!(answer.as_str(), format!(r#"{{"replyto":{id},"type":"pong"}}"#));
            }
        }
    }

    #[test]
    fn frames_are_told_apart() {
        for (json, kind) in [
            (r#"{"type":"ping","resourceid":"/bot.message","id":1}"#, FrameKind::Ping),
            (r#"{"type":"ack","clientMessageId":1,"id":1}"#, FrameKind::Ack),
            (r#"{"resourceid":"/bot.clientEvent","customEvent":{}}"#, FrameKind::ClientEvent),
            (r#"{"resourceid":"/bot.closeConversationSession","id":1}"#, FrameKind::CloseSession),
            (r#"{"resourceid":"/bot.message","event":"typing","message":{}}"#, FrameKind::Event),
            (r#"{"resourceid":"/bot.message","message":{"body":"x"}}"#, FrameKind::Message),
            (r#"{"resourceid":"/pwe_message"}"#, FrameKind::Other),
        ] {
            assert_eq!(frame(json).kind(), kind, "{json}");
        }
        assert!(ClientFrame::parse(b"not json").is_none());
        assert!(ClientFrame::parse(b"[1]").is_none());
    }

    #[test]
    fn a_bot_response_is_what_the_bridge_reads() {
        let app = App::default();
        let context = Context { app: &app, session_id: "s", now: Timestamp::from_millis(1) };
        let speech = Speech::agent(&Persona::default(), "Hi");
        let (frame, item) = context.bot_response(&speech);
        let head = FrameHead::parse(frame.as_ref()).unwrap();
        assert!(head.is("bot_response") && head.from_agent);
        assert_eq!(head.message_id.as_deref(), Some(&*item.id));
        assert!(head.key.is_some() && head.timestamp.is_some());
        assert_eq!(context.record_of(frame.as_ref()), Some(item));
    }

    #[test]
    fn what_somebody_wrote_is_recorded_as_far_as_it_is_said() {
        let app = App::default();
        let context = Context { app: &app, session_id: "s", now: Timestamp::from_millis(1) };
        let documented = include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/vectors/documented/bot_response.frame.json"
        ));
        let item = context.record_of(documented).unwrap();
        assert_eq!((&*item.text, item.created.as_millis()), (" Hi.  ", 1_466_692_440_025));
        assert!(item.id.starts_with("ms-"));
        let elsewhere = context
            .record_of(br#"{"type":"user_message","id":5,"message":{"body":"typed","renderMsg":"Typed"}}"#)
            .unwrap();
        assert_eq!((elsewhere.direction, &*elsewhere.text), (Direction::Incoming, "typed"));
        assert_eq!((elsewhere.user_msg_id, elsewhere.alt_text), (Some(json!(5)), Some("Typed".into())));
        assert_eq!(context.record_of(br#"{"type":"events"}"#), None);
        assert_eq!(context.record_of(b"not json"), None);
    }

    #[test]
    fn form_fields_nest() {
        let field = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let nested = nest(vec![
            field("assertion", "j"),
            field("botInfo[chatBot]", "A B"),
            field("botInfo[customData][tier]", "gold"),
            field("[]", "lost"),
        ]);
        assert_eq!(
            nested,
            json!({"assertion": "j", "botInfo": {"chatBot": "A B", "customData": {"tier": "gold"}}})
        );
    }
}
