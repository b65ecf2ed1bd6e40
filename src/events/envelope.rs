//! The body of a webhook's POST.

use std::io::Write as _;

use bytes::Bytes;
use reqwest::header::HeaderValue;
use serde::{Deserialize, Serialize};

use super::{
    Event, Source, Speaker,
    agent::{self, Reading},
    text::{Content, content},
};
use crate::{
    config::PlainFormat,
    store::WebhookNumber,
    template::{Template, TemplateError},
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// A body, ready to be posted as often as it takes. Cloning it is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// The `content-type` header.
    pub content_type: HeaderValue,
    /// The bytes.
    pub bytes: Bytes,
}

/// What a streamed answer adds to the envelope of its last chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assembled {
    /// The whole text.
    pub text: Option<String>,
    /// How many chunks it came in.
    pub chunks: u32,
    /// Whether its last chunk came.
    pub completeness: Completeness,
}

/// Whether all of a streamed answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Completeness {
    /// Its last chunk came.
    Complete,
    /// It fell silent before.
    Cut,
}

impl Assembled {
    /// As an event has it: this as a line of JSON, and then the last chunk's frame.
    pub(super) fn pack(&self, frame: &[u8]) -> Bytes {
        let mut packed = serde_json::to_vec(self).expect("plain data is always JSON");
        packed.push(b'\n');
        packed.extend_from_slice(frame);
        packed.into()
    }

    /// The last chunk's frame of what was packed.
    pub(super) fn last_frame(packed: &Bytes) -> Bytes {
        let line = packed.iter().position(|byte| *byte == b'\n').map_or(packed.len(), |end| end + 1);
        packed.slice(line..)
    }

    /// What an event of [`Source::Assembled`] is made of, and the event of its last chunk.
    fn unpack(event: &Event) -> (Self, Event) {
        let frame = Self::last_frame(&event.frame);
        let line = &event.frame[..event.frame.len() - frame.len()];
        let whole = serde_json::from_slice(line).unwrap_or(Self {
            text: None,
            chunks: 0,
            completeness: Completeness::Cut,
        });
        (whole, Event { source: Source::Live, frame, ..event.clone() })
    }
}

impl Body {
    /// The body of this event in this format: a function of its arguments alone, so that it is the
    /// same in every attempt and replay. `sequence` is the event's number at its webhook and user;
    /// none where it has no such number (the inbox, the live tail).
    ///
    /// What only some webhooks are told of an event is in it: for one of them, see [`Body::render_for`].
    pub fn render(event: &Event, sequence: Option<u64>, format: PlainFormat) -> Self {
        Self::render_whole(&agent::seen_by(event, None), sequence, format, Vec::new())
    }

    /// The same for this webhook, put into `room`, which [`Body::into_room`] gives back.
    pub fn render_for(
        webhook: WebhookNumber,
        event: &Event,
        sequence: Option<u64>,
        format: PlainFormat,
        room: Vec<u8>,
    ) -> Self {
        Self::render_whole(&agent::seen_by(event, Some(webhook)), sequence, format, room)
    }

    /// Its memory, for another body; none of a large one, or of one that somebody else has as well.
    pub fn into_room(self) -> Vec<u8> {
        const LARGEST: usize = 16 * 1024;
        let is_reusable = self.bytes.len() <= LARGEST && self.bytes.is_unique();
        if is_reusable { self.bytes.into() } else { Vec::new() }
    }

    fn render_whole(event: &Event, sequence: Option<u64>, format: PlainFormat, room: Vec<u8>) -> Self {
        if event.source == Source::Assembled {
            let (whole, last) = Assembled::unpack(event);
            return Self::render_assembled(&last, sequence, format, &whole);
        }
        match format {
            PlainFormat::Frame => Self::frame(event),
            _ => {
                let content = match event.source {
                    Source::Live | Source::History => content(&event.frame),
                    // Nobody says it.
                    Source::Bridge | Source::Assembled => Content::default(),
                };
                Self::fields(&Fields { event, sequence, content, whole: None }, format, room)
            }
        }
    }

    /// The body of a streamed answer; `event` is that of its last chunk.
    pub fn render_assembled(
        event: &Event,
        sequence: Option<u64>,
        format: PlainFormat,
        whole: &Assembled,
    ) -> Self {
        match format {
            PlainFormat::Frame => Self::frame(event),
            _ => {
                let content = Content { text: whole.text.clone(), ..content(&event.frame) };
                Self::fields(&Fields { event, sequence, content, whole: Some(whole) }, format, Vec::new())
            }
        }
    }

    /// The body that a template makes of this event's envelope: a function of its arguments alone, too.
    pub fn render_with(
        template: &Template,
        webhook: Option<WebhookNumber>,
        event: &Event,
        sequence: Option<u64>,
    ) -> Result<Self, TemplateError> {
        let seen = agent::seen_by(event, webhook);
        let envelope = Self::render_whole(&seen, sequence, PlainFormat::Envelope, Vec::new());
        let bytes = template.render(&envelope.bytes)?.into();
        Ok(Self { content_type: template.content_type().clone(), bytes })
    }

    fn frame(event: &Event) -> Self {
        Self { content_type: JSON, bytes: event.frame.clone() }
    }

    fn fields(fields: &Fields<'_>, format: PlainFormat, room: Vec<u8>) -> Self {
        match format {
            PlainFormat::Form => Self { content_type: FORM, bytes: fields.form().into_bytes().into() },
            PlainFormat::Envelope | PlainFormat::Frame => {
                Self { content_type: JSON, bytes: fields.envelope(room).into() }
            }
        }
    }
}

/// A frame's type as headers, the live tail and metrics show it: `unknown` for one that doesn't
/// match `[A-Za-z0-9_./-]{1,64}`.
pub fn event_type_label(kind: &str) -> &str {
    let shown = (1..=64).contains(&kind.len())
        && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b"_./-".contains(&b));
    if shown { kind } else { UNKNOWN }
}

/// A frame's type as envelopes and lists show it: as it came; `unknown` for a frame without one.
pub fn event_type(kind: &str) -> &str {
    if kind.is_empty() { UNKNOWN } else { kind }
}

const UNKNOWN: &str = "unknown";

/// The envelope's fields.
struct Fields<'a> {
    event: &'a Event,
    sequence: Option<u64>,
    content: Content,
    whole: Option<&'a Assembled>,
}

impl<'a> Fields<'a> {
    /// The frame's own type, in its own spelling.
    fn kind(&self) -> &str {
        event_type(&self.event.kind)
    }

    /// The frame is spliced in as it came: no parsing, no printing.
    fn envelope(&self, mut out: Vec<u8>) -> Vec<u8> {
        let event = self.event;
        let agents = self.agents();
        out.clear();
        out.reserve(self.envelope_size() + agents.as_ref().map_or(0, Reading::json_size));
        out.extend_from_slice(b"{\"type\":");
        push_string(&mut out, self.kind());
        push(&mut out, format_args!(",\"timestamp\":\"{}\",\"user\":", event.received_at));
        push_string(&mut out, event.user.as_str());
        out.extend_from_slice(b",\"bot\":");
        push_string(&mut out, event.bot.as_str());
        match self.sequence {
            Some(sequence) => push(&mut out, format_args!(",\"sequence\":{sequence}")),
            None => out.extend_from_slice(b",\"sequence\":null"),
        }
        match event.in_reply_to {
            Some(id) => push(&mut out, format_args!(",\"inReplyTo\":{id}")),
            None => out.extend_from_slice(b",\"inReplyTo\":null"),
        }
        let (source, from) = (source_word(event.source), speaker_word(event.speaker));
        push(&mut out, format_args!(",\"source\":\"{source}\",\"from\":\"{from}\""));
        if let Some(agents) = agents {
            agents.push_json(&mut out);
        }
        out.extend_from_slice(b",\"text\":");
        match &self.content.text {
            Some(text) => push_string(&mut out, text),
            None => out.extend_from_slice(b"null"),
        }
        for (name, list) in self.lists().into_iter().flatten() {
            push(&mut out, format_args!(",\"{name}\":{list}"));
        }
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(&event.frame);
        if let Some(whole) = self.whole {
            let complete = whole.completeness == Completeness::Complete;
            push(&mut out, format_args!(",\"chunks\":{},\"complete\":{complete}", whole.chunks));
        }
        out.push(b'}');
        out
    }

    /// What an agent's event says beside its words.
    fn agents(&self) -> Option<Reading> {
        (self.event.speaker == Speaker::Agent).then(|| agent::read(&self.event.frame))
    }

    /// The choices and the attachments as JSON, each with its name, if there are any.
    fn lists(&self) -> [Option<(&'static str, String)>; 2] {
        fn list<T: serde::Serialize>(name: &'static str, list: &[T]) -> Option<(&'static str, String)> {
            let json = || serde_json::to_string(list).expect("plain data is always JSON");
            (!list.is_empty()).then(|| (name, json()))
        }
        [list("choices", &self.content.choices), list("attachments", &self.content.attachments)]
    }

    /// An upper bound of the size of an envelope without lists, close enough to allocate once.
    fn envelope_size(&self) -> usize {
        // Keys, punctuation, a time, two words, and three numbers of up to 20 digits.
        const FIXED: usize = 288;
        let event = self.event;
        FIXED
            + escaped_size(self.kind())
            + event.user.as_str().len()
            + event.bot.as_str().len()
            + self.content.text.as_deref().map_or(0, escaped_size)
            + event.frame.len()
    }

    fn form(&self) -> String {
        let event = self.event;
        // Percent-encoding makes a JSON text about half as long again.
        let mut form = url::form_urlencoded::Serializer::new(String::with_capacity(
            512 + event.frame.len() * 3 / 2 + self.content.text.as_ref().map_or(0, |text| text.len() * 3 / 2),
        ));
        form.append_pair("type", self.kind());
        form.append_pair("timestamp", &event.received_at.to_string());
        form.append_pair("user", event.user.as_str());
        form.append_pair("bot", event.bot.as_str());
        if let Some(sequence) = self.sequence {
            form.append_pair("sequence", &sequence.to_string());
        }
        if let Some(id) = event.in_reply_to {
            form.append_pair("inReplyTo", &id.to_string());
        }
        form.append_pair("source", source_word(event.source));
        form.append_pair("from", speaker_word(event.speaker));
        if let Some(Reading { agent, signal }) = self.agents() {
            if let Some(agent) = agent {
                form.append_pair("agent", &agent.to_json());
            }
            if let Some(signal) = signal {
                form.append_pair("signal", signal.word());
            }
        }
        if let Some(text) = &self.content.text {
            form.append_pair("text", text);
        }
        for (name, list) in self.lists().into_iter().flatten() {
            form.append_pair(name, &list);
        }
        form.append_pair("data", &String::from_utf8_lossy(&event.frame));
        if let Some(whole) = self.whole {
            form.append_pair("chunks", &whole.chunks.to_string());
            let complete = whole.completeness == Completeness::Complete;
            form.append_pair("complete", if complete { "true" } else { "false" });
        }
        form.finish()
    }
}

const fn source_word(source: Source) -> &'static str {
    match source {
        Source::Live | Source::Bridge | Source::Assembled => "live",
        Source::History => "history",
    }
}

const fn speaker_word(speaker: Speaker) -> &'static str {
    match speaker {
        Speaker::Bot => "bot",
        Speaker::Agent => "agent",
        Speaker::User => "user",
        Speaker::Platform => "platform",
    }
}

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to memory can't fail");
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is always JSON");
}

/// How many bytes a text takes inside a JSON string's quotes.
fn escaped_size(text: &str) -> usize {
    let escapes = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 1,
        0..0x20 => 5,
        _ => 0,
    };
    text.len() + text.bytes().map(escapes).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Timestamp,
        events::{EventId, EventKind},
        messages::ClientMessageId,
        names::{BotName, UserName},
    };

    fn event(frame: &str) -> Event {
        Event {
            id: EventId { store: 1, number: 42 },
            user: UserName::new("alice").unwrap(),
            bot: BotName::new("support").unwrap(),
            kind: "bot_response".into(),
            received_at: Timestamp::parse("2026-01-01T00:00:00Z").unwrap(),
            in_reply_to: Some(ClientMessageId::new(1_466_692_440_896).unwrap()),
            source: Source::Live,
            speaker: Speaker::Bot,
            frame: Bytes::copy_from_slice(frame.as_bytes()),
        }
    }

    const FRAME: &str =
        r#"{ "type":"bot_response", "message":[{"cInfo":{"body":"Hi \"you\"\u0001"}}] ,"n":1.50 }"#;

    #[test]
    fn the_envelope_holds_the_frame_byte_for_byte() {
        let body = Body::render(&event(FRAME), Some(42), PlainFormat::Envelope);
        assert_eq!(body.content_type, "application/json");
        insta::assert_snapshot!(std::str::from_utf8(&body.bytes).unwrap(), @r#"{"type":"bot_response","timestamp":"2026-01-01T00:00:00.000Z","user":"alice","bot":"support","sequence":42,"inReplyTo":1466692440896,"source":"live","from":"bot","text":"Hi \"you\"\u0001","data":{ "type":"bot_response", "message":[{"cInfo":{"body":"Hi \"you\"\u0001"}}] ,"n":1.50 }}"#);
    }

    #[test]
    fn what_is_not_known_is_null_and_a_missing_type_is_unknown() {
        let bare = Event {
            kind: EventKind::default(),
            in_reply_to: None,
            source: Source::History,
            speaker: Speaker::Platform,
            ..event("{}")
        };
        let body = Body::render(&bare, None, PlainFormat::Envelope);
        insta::assert_snapshot!(std::str::from_utf8(&body.bytes).unwrap(), @r#"{"type":"unknown","timestamp":"2026-01-01T00:00:00.000Z","user":"alice","bot":"support","sequence":null,"inReplyTo":null,"source":"history","from":"platform","text":null,"data":{}}"#);
    }

    #[test]
    fn an_agents_event_says_whose_it_is_and_what_is_not_words() {
        let author = r#""author":{"id":"a-1","firstName":"Ann","lastName":"\"Lee\"","type":"AGENT"}"#;
        let typing = format!(r#"{{"type":"events","message":{{"type":"typing",{author}}}}}"#);
        let agents = Event { kind: "events".into(), speaker: Speaker::Agent, ..event(&typing) };
        let body = Body::render(&agents, Some(1), PlainFormat::Envelope);
        let start = r#"{"type":"events","timestamp":"2026-01-01T00:00:00.000Z","user":"alice","bot":"support","sequence":1,"inReplyTo":1466692440896,"source":"live","#;
        let expected = format!(
            r#"{start}"from":"agent","agent":{{"id":"a-1","name":"Ann \"Lee\""}},"signal":"typing","text":null,"data":{typing}}}"#
        );
        assert_eq!(body.bytes, expected);
        let form = Body::render(&agents, Some(1), PlainFormat::Form);
        let pairs: Vec<_> = url::form_urlencoded::parse(&form.bytes).into_owned().collect();
        assert!(
            pairs.contains(&("agent".into(), r#"{"id":"a-1","name":"Ann \"Lee\""}"#.into())),
            "{pairs:?}"
        );
        assert!(pairs.contains(&("signal".into(), "typing".into())));
        let nobody = Event { speaker: Speaker::Agent, ..event("{}") };
        let body = Body::render(&nobody, Some(1), PlainFormat::Envelope);
        assert!(body.bytes.ends_with(br#""from":"agent","text":null,"data":{}}"#));
    }

    #[test]
    fn a_form_leaves_nulls_out() {
        let body = Body::render(
            &Event { in_reply_to: None, ..event(r#"{"type":"x"}"#) },
            Some(7),
            PlainFormat::Form,
        );
        assert_eq!(body.content_type, "application/x-www-form-urlencoded");
        insta::assert_snapshot!(std::str::from_utf8(&body.bytes).unwrap(), @"type=bot_response&timestamp=2026-01-01T00%3A00%3A00.000Z&user=alice&bot=support&sequence=7&source=live&from=bot&data=%7B%22type%22%3A%22x%22%7D");
    }

    #[test]
    fn a_frame_alone_is_the_frame_itself() {
        let event = event(FRAME);
        let body = Body::render(&event, Some(1), PlainFormat::Frame);
        assert_eq!(body.bytes.as_ptr(), event.frame.as_ptr(), "not even copied");
    }

    #[test]
    fn an_assembled_answer_says_how_it_came() {
        let whole =
            Assembled { text: Some("Once upon a time".into()), chunks: 3, completeness: Completeness::Cut };
        let event = event("{}");
        let body = Body::render_assembled(&event, Some(1), PlainFormat::Envelope, &whole);
        let json: serde_json::Value = serde_json::from_slice(&body.bytes).unwrap();
        assert_eq!(json["text"], "Once upon a time");
        assert_eq!((&json["chunks"], &json["complete"]), (&3.into(), &false.into()));
        let form = Body::render_assembled(&event, Some(1), PlainFormat::Form, &whole);
        assert!(form.bytes.ends_with(b"&data=%7B%7D&chunks=3&complete=false"));
        let frame = Body::render_assembled(&event, Some(1), PlainFormat::Frame, &whole);
        assert_eq!(&frame.bytes[..], b"{}");
    }

    #[test]
    fn labels_are_safe_for_headers_and_metrics() {
        for good in ["bot_response", "bridge.message", "a/b-c", &"x".repeat(64)] {
            assert_eq!(event_type_label(good), good);
        }
        for bad in ["", "a b", "a\r\nb", "ä", "a\"", &"x".repeat(65)] {
            assert_eq!(event_type_label(bad), "unknown", "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_envelope_is_json_that_gives_its_fields_back(
            kind: String, said: String, sequence: Option<u64>, in_reply_to in 1u64..(1 << 53),
        ) {
            let frame = serde_json::json!({"type": kind, "message": [{"cInfo": {"body": said}}]}).to_string();
            let event = Event {
                kind: kind.clone().into(),
                in_reply_to: ClientMessageId::new(in_reply_to).ok(),
                ..event(&frame)
            };
            let body = Body::render(&event, sequence, PlainFormat::Envelope);
            let json: serde_json::Value = serde_json::from_slice(&body.bytes).unwrap();
            let content = content(frame.as_bytes());
            proptest::prop_assert_eq!(&json["text"], &serde_json::json!(content.text));
            proptest::prop_assert_eq!(&json["sequence"], &serde_json::json!(sequence));
            proptest::prop_assert_eq!(&json["inReplyTo"], &serde_json::json!(in_reply_to));
            proptest::prop_assert_eq!(&json["data"]["type"], &serde_json::json!(kind));
            let fields = Fields { event: &event, sequence, content, whole: None };
            proptest::prop_assert!(body.bytes.len() <= fields.envelope_size(), "allocated once");
            proptest::prop_assert_eq!(&body, &Body::render(&event, sequence, PlainFormat::Envelope));
        }
    }
}
