//! What the bridge must read of a frame; the bytes themselves are kept as they came.
//!
//! The platform's frames are loosely specified: ids may be numbers, fractions or strings, types
//! come in varying letter case, unknown fields and types are common. So only the few fields below
//! are read, borrowed, in one pass, and everything else passes through untouched.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The few fields of a frame from the platform that decide what becomes of it.
///
/// A duplicate key: the last one wins. A field of an unexpected type counts as absent: a frame is
/// never refused for what the bridge doesn't need.
#[derive(Debug, Clone, Default)]
pub struct FrameHead<'a> {
    /// `type`, in the platform's own letter case.
    pub kind: Option<Cow<'a, str>>,
    /// An ack's verdict.
    pub ok: Option<bool>,
    /// An ack's `replyto`: the sent frame's `id`, any JSON scalar, verbatim.
    pub reply_to: Option<Cow<'a, str>>,
    /// `messageId` of a `bot_response`.
    pub message_id: Option<Cow<'a, str>>,
    /// `id`, any JSON scalar; its text without quotes.
    pub id: Option<Cow<'a, str>>,
    /// `key`, which a delivery ack gives back.
    pub key: Option<Cow<'a, str>>,
    /// `timestamp`, verbatim JSON, which a delivery ack gives back.
    pub timestamp: Option<&'a RawValue>,
    /// Whether a human wrote it (`fromAgent`, `author.type` `AGENT`, or an `agent_MessageId`).
    pub from_agent: bool,
    /// Whether it is a part of a streamed answer (`sM`, `endChunk`).
    pub part: Part,
}

/// Whether a frame is a part of a streamed answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Part {
    /// It is not.
    #[default]
    Whole,
    /// More follows.
    Chunk,
    /// The last one.
    Last,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAFrame {
    /// Not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// Not JSON at all.
    #[error("not JSON")]
    NotJson,
    /// JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
}

impl<'a> FrameHead<'a> {
    /// Reads the head of a frame. Any depth of nesting passes.
    pub fn parse(frame: &'a [u8]) -> Result<Self, NotAFrame> {
        let text = std::str::from_utf8(frame).map_err(|_| NotAFrame::NotUtf8)?;
        serde_json::from_str(text).map_err(|_| {
            if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
                NotAFrame::NotAnObject
            } else {
                NotAFrame::NotJson
            }
        })
    }

    /// Whether `type` is this, in any letter case.
    pub fn is(&self, kind: &str) -> bool {
        self.kind.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(kind))
    }

    /// Whether it answers a message, and nothing more belongs to that answer.
    pub fn completes_answer(&self) -> bool {
        self.is("bot_response") && self.part != Part::Chunk
    }

    /// What the frame is to the bridge.
    pub fn class(&self) -> FrameClass {
        match self.kind.as_deref() {
            // iOS clients take `ok` for an ack as well.
            Some(kind) if kind.eq_ignore_ascii_case("ack") => FrameClass::Ack,
            Some(kind) if kind.eq_ignore_ascii_case("ok") && self.reply_to.is_some() => FrameClass::Ack,
            Some(kind) if kind.eq_ignore_ascii_case("pong") => FrameClass::Pong,
            Some(kind) if ["hello", "ready", "ok"].iter().any(|reply| kind.eq_ignore_ascii_case(reply)) => {
                FrameClass::Reply
            }
            _ => FrameClass::Event,
        }
    }

    /// What identifies the frame to its sender, for recognising repeats: a `messageId`, or a
    /// `user_message`'s `id`.
    pub fn identity(&self) -> Option<&str> {
        match &self.message_id {
            Some(id) => Some(id),
            None if self.is("user_message") => self.id.as_deref(),
            None => None,
        }
    }
}

/// What a frame is to the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameClass {
    /// The verdict on a frame that was sent.
    Ack,
    /// The answer to a JSON ping.
    Pong,
    /// Another answer of the connection itself, of no interest to webhooks.
    Reply,
    /// Everything else, known or not: it is kept and delivered.
    Event,
}

impl<'de: 'a, 'a> Deserialize<'de> for FrameHead<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeadVisitor)
    }
}

struct HeadVisitor;

impl<'de> serde::de::Visitor<'de> for HeadVisitor {
    type Value = FrameHead<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a frame, which is a JSON object")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut head = FrameHead::default();
        let (mut flagged, mut author_is_agent, mut has_agents_id) = (false, false, false);
        let (mut is_streamed, mut is_last) = (false, false);
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "type" => head.kind = scalar(map.next_value()?),
                "ok" => head.ok = serde_json::from_str(map.next_value::<&RawValue>()?.get()).ok(),
                "replyto" => head.reply_to = scalar(map.next_value()?),
                "messageId" => head.message_id = scalar(map.next_value()?),
                "id" => head.id = scalar(map.next_value()?),
                "key" => head.key = scalar(map.next_value()?),
                "timestamp" => head.timestamp = Some(map.next_value()?),
                "fromAgent" => flagged = map.next_value::<&RawValue>()?.get() == "true",
                "author" => author_is_agent = is_agent(map.next_value()?),
                "agent_MessageId" => has_agents_id = scalar(map.next_value()?).is_some(),
                "sM" => is_streamed = map.next_value::<&RawValue>()?.get() == "true",
                "endChunk" => is_last = map.next_value::<&RawValue>()?.get() == "true",
                _ => drop(map.next_value::<serde::de::IgnoredAny>()?),
            }
        }
        head.from_agent = flagged || author_is_agent || has_agents_id;
        head.part = match (is_streamed, is_last) {
            (_, true) => Part::Last,
            (true, false) => Part::Chunk,
            (false, false) => Part::Whole,
        };
        Ok(head)
    }
}

/// A key, borrowed unless it has escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// A string's text or a number's digits; nothing for other values and for the empty string.
fn scalar(value: &RawValue) -> Option<Cow<'_, str>> {
    let json = value.get();
    match json.as_bytes().first() {
        Some(b'"') => match serde_json::from_str(json) {
            Ok(Key(text)) if !text.is_empty() => Some(text),
            _ => None,
        },
        Some(b'-' | b'0'..=b'9') => Some(Cow::Borrowed(json)),
        _ => None,
    }
}

fn is_agent(author: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Author<'a> {
        #[serde(borrow, rename = "type")]
        kind: Option<Cow<'a, str>>,
    }
    serde_json::from_str::<Author<'_>>(author.get())
        .is_ok_and(|author| author.kind.is_some_and(|kind| kind.eq_ignore_ascii_case("agent")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(frame: &str) -> FrameHead<'_> {
        FrameHead::parse(frame.as_bytes()).unwrap()
    }

    #[test]
    fn parts_of_a_streamed_answer_say_so() {
        for (fields, part) in [
            ("", Part::Whole),
            (r#","sM":false,"endChunk":false"#, Part::Whole),
            (r#","sM":"true""#, Part::Whole),
            (r#","sM":true"#, Part::Chunk),
            (r#","endChunk":false,"sM":true"#, Part::Chunk),
            (r#","sM":true,"endChunk":true"#, Part::Last),
            (r#","endChunk":true"#, Part::Last),
        ] {
            let frame = format!(r#"{{"type":"Bot_Response"{fields}}}"#);
            let head = FrameHead::parse(frame.as_bytes()).unwrap();
            assert_eq!((head.part, head.completes_answer()), (part, part != Part::Chunk), "{fields}");
        }
        assert!(!head(r#"{"type":"events"}"#).completes_answer());
    }

    #[test]
    fn reads_the_documented_ack() {
        let ack = head(r#"{"ok": true, "replyto": 1466692440896, "message": "delivered", "type": "ack"}"#);
        assert_eq!(ack.class(), FrameClass::Ack);
        assert_eq!((ack.ok, ack.reply_to.as_deref()), (Some(true), Some("1466692440896")));
    }

    #[test]
    fn ids_may_be_numbers_fractions_or_strings() {
        for (json, text) in [("1638338400123.456", "1638338400123.456"), ("\"AB-1\"", "AB-1"), ("17", "17")] {
            assert_eq!(
                head(&format!(r#"{{"type":"ack","replyto":{json}}}"#)).reply_to.as_deref(),
                Some(text)
            );
        }
    }

    #[test]
    fn identity_is_a_message_id_or_a_user_messages_id() {
        assert_eq!(head(r#"{"type":"bot_response","messageId":"ms-1","id":5}"#).identity(), Some("ms-1"));
        assert_eq!(head(r#"{"type":"user_message","id":5}"#).identity(), Some("5"));
        assert_eq!(head(r#"{"type":"events","id":5}"#).identity(), None);
        assert_eq!(head(r#"{"type":"bot_response","messageId":""}"#).identity(), None);
    }

    #[test]
    fn what_is_of_an_unexpected_type_counts_as_absent_and_the_last_duplicate_wins() {
        let frame = head(
            r#"{"type":{"a":1},"ok":"yes","replyto":[1],"author":7,"type":"Bot_Response","extra":null}"#,
        );
        assert_eq!(frame.kind.as_deref(), Some("Bot_Response"));
        assert_eq!((frame.ok, frame.reply_to), (None, None));
    }

    #[test]
    fn a_human_is_recognised_by_any_marker() {
        assert!(head(r#"{"type":"bot_response","fromAgent":true}"#).from_agent);
        assert!(head(r#"{"type":"bot_response","author":{"type":"Agent","firstName":"Ann"}}"#).from_agent);
        assert!(head(r#"{"type":"bot_response","agent_MessageId":"am-1"}"#).from_agent);
        assert!(!head(r#"{"type":"bot_response","author":{"type":"BOT"},"fromAgent":false}"#).from_agent);
        assert!(!head(r#"{"type":"bot_response","agent_MessageId":null}"#).from_agent);
    }

    #[test]
    fn escaped_keys_and_any_depth_are_read() {
        let deep = format!(r#"{{"x":{}1{},"\u0074ype":"ack"}}"#, "[".repeat(5000), "]".repeat(5000));
        assert_eq!(head(&deep).class(), FrameClass::Ack);
    }

    #[test]
    fn what_is_no_frame_says_why() {
        assert_eq!(FrameHead::parse(b"\xff").unwrap_err(), NotAFrame::NotUtf8);
        assert_eq!(FrameHead::parse(b"{\"a\":").unwrap_err(), NotAFrame::NotJson);
        assert_eq!(FrameHead::parse(b"{} {}").unwrap_err(), NotAFrame::NotJson);
        assert_eq!(FrameHead::parse(b"[1]").unwrap_err(), NotAFrame::NotAnObject);
    }
}
