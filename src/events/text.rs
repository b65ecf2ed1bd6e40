//! What a frame says, and who says it: the envelope's `text` and `from`.
//!
//! The platform puts text in many places, some of them JSON inside a JSON string. Everything here
//! is best effort, and bounded whatever the frame holds: each level scans its own part of the frame
//! once, without building a tree, and there are only so many levels. Templates are the exception
//! (`template`): a tree is made of them, if they are not too large.

mod attachments;
mod template;
#[cfg(test)]
mod templates;

use std::{borrow::Cow, fmt};

use serde::{
    Serialize,
    de::{DeserializeSeed, Deserializer as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

pub use attachments::Attachment;

use super::Speaker;
use crate::rtm::frame::FrameHead;

/// How deep text is looked for, counting objects named `payload` and JSON inside of strings.
const MAX_LEVELS: usize = 5;
/// A larger entry of a message is not read as a template: a tree of it could take twenty times as much.
const MAX_TEMPLATE: usize = 512 * 1024;

/// What a frame says, for those who read it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// The plain text: of a template all that a person would read, with its choices numbered.
    pub text: Option<String>,
    /// What may be answered by pressing a button, in the order of their numbers.
    pub choices: Vec<Choice>,
    /// The files that came with it.
    pub attachments: Vec<Attachment>,
}

/// A button, a quick reply, or another thing that can be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Choice {
    /// What it is called: a message's `renderMsg`.
    pub title: String,
    /// What choosing it sends: a message's text.
    pub payload: String,
}

/// Who speaks in a frame: the envelope's `from`.
///
/// A human agent is told by the frame's own markers; the platform's `from` field says `bot` for
/// agents and status frames alike, so it decides nothing.
pub fn speaker(head: &FrameHead<'_>) -> Speaker {
    if head.is("user_message") {
        Speaker::User
    } else if head.from_agent {
        Speaker::Agent
    } else if head.is("bot_response") {
        Speaker::Bot
    } else {
        Speaker::Platform
    }
}

/// What a frame says, as far as that can be told: the envelope's `text`, `choices` and `attachments`.
///
/// Text that is nothing but text is taken as it stands, white space included: a streamed answer's
/// chunks must add up. The entries of a `message` array are joined by line feeds. `events` frames say
/// nothing.
pub fn content(frame: &[u8]) -> Content {
    let mut content = Content::default();
    content.text = read(frame, &mut content);
    content
}

fn read(frame: &[u8], content: &mut Content) -> Option<String> {
    let frame = std::str::from_utf8(frame).ok()?;
    let [kind, message] = fields(frame, ["type", "message"])?;
    let kind = kind.and_then(string).unwrap_or_default();
    if kind.eq_ignore_ascii_case("events") {
        return None;
    }
    let message = message?;
    match Json::of(message.get()) {
        Json::Array => joined(message.get(), |one| shown(one, content)),
        Json::Object if kind.eq_ignore_ascii_case("user_message") => {
            let [body, shown, files] = fields(message.get(), ["body", "renderMsg", "attachments"])?;
            if files.is_some()
                && let Some(message) = tree(message.get())
            {
                attachments::listed(&message, &mut content.attachments);
            }
            typed([body, shown]).or_else(|| entry(message.get()))
        }
        Json::Object => shown(message.get(), content),
        Json::String => non_empty(string(message)?),
        Json::Other => None,
    }
}

/// What an entry says: as it stands, or as its template reads.
fn shown(one: &str, content: &mut Content) -> Option<String> {
    if let Some(text) = ordinary(one) {
        return Some(text);
    }
    let before = (content.choices.len(), content.attachments.len());
    let text = tree(one).and_then(|entry| template::read(&entry, content));
    let is_silent = text.is_none() && before == (content.choices.len(), content.attachments.len());
    if is_silent { entry(one) } else { text }
}

/// The text of an entry that is nothing else: neither a template nor a file.
fn ordinary(entry: &str) -> Option<String> {
    let [component, info, attachments] = fields(entry, ["component", "cInfo", "attachments"])?;
    if attachments.is_some() {
        return None;
    }
    let text = match component {
        Some(component) => {
            let [payload] = fields(component.get(), ["payload"])?;
            let ([text, _], Others::None) = fields_and_others(payload?.get(), ["text", "renderDelay"])?
            else {
                return None;
            };
            string(text?)?
        }
        None => {
            let [body] = fields(info?.get(), ["body"])?;
            string(body?)?
        }
    };
    // Perhaps JSON.
    if Json::of(&text) == Json::Object { None } else { non_empty(text) }
}

/// What a chunk adds to a streamed answer: its text to the letter, without what else belongs to its template.
pub(super) fn delta(frame: &[u8]) -> Option<String> {
    let frame = std::str::from_utf8(frame).ok()?;
    let [message] = fields(frame, ["message"])?;
    let message = message?.get();
    let part = |one: &str| {
        ordinary(one).or_else(|| tree(one).and_then(|one| template::fragment(&one))).or_else(|| entry(one))
    };
    if Json::of(message) != Json::Array {
        return part(message);
    }
    let entries: Vec<&RawValue> = serde_json::from_str(message).ok()?;
    let parts: Vec<_> = entries.iter().filter_map(|one| part(one.get())).collect();
    (!parts.is_empty()).then(|| parts.concat())
}

/// What the last chunk says the whole answer is, if it does.
pub(super) fn complete_response(frame: &[u8]) -> Option<String> {
    let [complete] = fields(std::str::from_utf8(frame).ok()?, ["completeResponse"])?;
    let complete = complete?;
    let text = match Json::of(complete.get()) {
        Json::String => string(complete)?.into_owned(),
        Json::Object => complete.get().to_owned(),
        Json::Array | Json::Other => return None,
    };
    // It may be a template in a text, as everywhere.
    let frame = serde_json::json!({"message": [{"cInfo": {"body": text}}]});
    content(frame.to_string().as_bytes()).text
}

fn tree(json: &str) -> Option<serde_json::Value> {
    if json.len() > MAX_TEMPLATE {
        return None;
    }
    serde_json::from_str(json).ok()
}

/// The text of a frame without what belongs to its template: what tells whether two frames say the same.
///
/// The entries of a `message` array are joined by line feeds. Text is taken as it stands, white
/// space included. `events` frames have none.
pub fn plain_text(frame: &[u8]) -> Option<String> {
    let frame = std::str::from_utf8(frame).ok()?;
    let [kind, message] = fields(frame, ["type", "message"])?;
    let kind = kind.and_then(string).unwrap_or_default();
    if kind.eq_ignore_ascii_case("events") {
        return None;
    }
    let message = message?;
    match Json::of(message.get()) {
        Json::Array => joined(message.get(), entry),
        Json::Object if kind.eq_ignore_ascii_case("user_message") => {
            typed(fields(message.get(), ["body", "renderMsg"])?).or_else(|| entry(message.get()))
        }
        Json::Object => entry(message.get()),
        Json::String => non_empty(string(message)?),
        Json::Other => None,
    }
}

/// Which kind of JSON value a text holds, by its first character.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Json {
    Object,
    Array,
    String,
    Other,
}

impl Json {
    pub(super) fn of(json: &str) -> Self {
        match json.trim_start().as_bytes().first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::String,
            _ => Self::Other,
        }
    }
}

/// All entries of a `message` array, one below the other.
fn joined(array: &str, mut entry: impl FnMut(&str) -> Option<String>) -> Option<String> {
    let entries: Vec<&RawValue> = serde_json::from_str(array).ok()?;
    let mut texts = entries.iter().filter_map(|one| match Json::of(one.get()) {
        Json::String => non_empty(string(one)?),
        _ => entry(one.get()),
    });
    let mut joined = texts.next()?;
    for text in texts {
        joined.push('\n');
        joined.push_str(&text);
    }
    Some(joined)
}

/// What a user typed: the `message` of a `user_message`.
fn typed(body_and_shown: [Option<&RawValue>; 2]) -> Option<String> {
    body_and_shown.into_iter().flatten().find_map(|field| non_empty(string(field)?))
}

/// One entry of a bot's `message`.
fn entry(entry: &str) -> Option<String> {
    let [component, info] = fields(entry, ["component", "cInfo"])?;
    let payload = component.and_then(|component| {
        let [payload] = fields(component.get(), ["payload"])?;
        payload
    });
    let body = || {
        let [body] = fields(info?.get(), ["body"])?;
        words(body?, MAX_LEVELS)
    };
    payload
        .and_then(|payload| words(payload, MAX_LEVELS))
        .or_else(body)
        .or_else(|| find(payload?.get(), &["heading", "text_message"], MAX_LEVELS))
}

/// The text of a payload: of an object its `text`, else that of the payload in it; of a string the
/// same if it holds JSON, else the string itself.
fn words(payload: &RawValue, levels: usize) -> Option<String> {
    match Json::of(payload.get()) {
        Json::Object => find(payload.get(), &["text"], levels),
        Json::String => said(string(payload)?, levels),
        _ => None,
    }
}

/// What a string says: the text within, if it is JSON that has some; else itself.
fn said(text: Cow<'_, str>, levels: usize) -> Option<String> {
    unwrapped(&text, &["text"], levels).or_else(|| non_empty(text))
}

/// Looks for the first of `keys` with a text, here and then in `payload`.
fn find(object: &str, keys: &[&str], levels: usize) -> Option<String> {
    let levels = levels.checked_sub(1)?;
    let here = keys.iter().find_map(|key| {
        let [value] = fields(object, [*key])?;
        said(string(value?)?, levels)
    });
    here.or_else(|| {
        let [payload] = fields(object, ["payload"])?;
        let payload = payload?;
        match Json::of(payload.get()) {
            Json::Object => find(payload.get(), keys, levels),
            Json::String => unwrapped(&string(payload)?, keys, levels),
            _ => None,
        }
    })
}

/// Looks into a string that is JSON, perhaps with its quotes as `&quot;`.
fn unwrapped(text: &str, keys: &[&str], levels: usize) -> Option<String> {
    if Json::of(text) != Json::Object {
        return None;
    }
    find(text, keys, levels).or_else(|| {
        text.contains("&quot;")
            .then(|| text.replace("&quot;", "\""))
            .and_then(|json| find(&json, keys, levels))
    })
}

fn non_empty(text: Cow<'_, str>) -> Option<String> {
    (!text.is_empty()).then(|| text.into_owned())
}

/// The text of a JSON string.
pub(super) fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    /// Borrowed unless it has escapes.
    #[derive(serde::Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'_>>(value.get()).ok().map(|text| text.0)
}

/// These fields of a JSON object, unparsed; nothing if it isn't one. Of duplicate keys the last
/// wins.
pub(super) fn fields<'a, const N: usize>(
    object: &'a str,
    names: [&str; N],
) -> Option<[Option<&'a RawValue>; N]> {
    fields_and_others(object, names).map(|(found, _)| found)
}

/// Whether an object has fields that were not asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    None,
    Some,
}

/// As [`fields`], and whether there are others.
fn fields_and_others<'a, const N: usize>(
    object: &'a str,
    names: [&str; N],
) -> Option<([Option<&'a RawValue>; N], Others)> {
    let mut json = serde_json::Deserializer::from_str(object);
    let found = json.deserialize_map(Fields { names }).ok()?;
    json.end().ok()?;
    Some(found)
}

struct Fields<'n, const N: usize> {
    names: [&'n str; N],
}

impl<'de, const N: usize> Visitor<'de> for Fields<'_, N> {
    type Value = ([Option<&'de RawValue>; N], Others);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut found, mut others) = ([None; N], Others::None);
        while let Some(place) = map.next_key_seed(Place { names: &self.names })? {
            match place {
                Some(place) => found[place] = Some(map.next_value()?),
                None => {
                    others = Others::Some;
                    map.next_value::<serde::de::IgnoredAny>()?;
                }
            }
        }
        Ok((found, others))
    }
}

/// Reads a key as its place among the wanted names.
struct Place<'n> {
    names: &'n [&'n str],
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Place<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.names.iter().position(|name| *name == key))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(frame: &serde_json::Value) -> Option<String> {
        plain_text(frame.to_string().as_bytes())
    }

    fn bot(entry: &serde_json::Value) -> Option<String> {
        text(&json!({"type": "bot_response", "from": "bot", "message": [entry]}))
    }

    #[test]
    fn text_is_found_wherever_the_platform_puts_it() {
        let template = r#"{"type":"template","payload":{"template_type":"button","text":"Choose"}}"#;
        let cases = [
            ("documented", json!({"type": "text", "cInfo": {"body": " Hi.  "}}), Some(" Hi.  ")),
            (
                "component before cInfo",
                json!({"component": {"payload": {"text": "A"}}, "cInfo": {"body": "B"}}),
                Some("A"),
            ),
            (
                "template",
                json!({"component": {"payload": {"type": "template", "payload": {"text": "T"}}}}),
                Some("T"),
            ),
            ("string payload", json!({"component": {"payload": template}}), Some("Choose")),
            ("entities", json!({"component": {"payload": template.replace('"', "&quot;")}}), Some("Choose")),
            ("plain string payload", json!({"component": {"payload": "just words"}}), Some("just words")),
            ("body that is JSON", json!({"cInfo": {"body": template}}), Some("Choose")),
            (
                "text that is JSON",
                json!({"component": {"payload": {"text": "{\"text\":\"in\"}"}}}),
                Some("in"),
            ),
            ("braces are no JSON", json!({"cInfo": {"body": "{not json}"}}), Some("{not json}")),
            ("JSON without text", json!({"cInfo": {"body": "{\"a\":1}"}}), Some("{\"a\":1}")),
            (
                "heading",
                json!({"component": {"payload": {"payload": {"heading": "H", "text_message": "M"}}}}),
                Some("H"),
            ),
            (
                "body before heading",
                json!({"component": {"payload": {"heading": "H"}}, "cInfo": {"body": "B"}}),
                Some("B"),
            ),
            ("empty is absent", json!({"component": {"payload": {"text": ""}}, "cInfo": {"body": ""}}), None),
            ("odd types", json!({"component": {"payload": {"text": 7, "payload": [1]}}, "cInfo": "x"}), None),
            ("nothing", json!({}), None),
        ];
        for (case, entry, expected) in cases {
            assert_eq!(bot(&entry).as_deref(), expected, "{case}");
        }
    }

    #[test]
    fn entries_are_joined_and_empty_ones_left_out() {
        let frame = json!({"type": "bot_response", "message": [
            {"cInfo": {"body": "one"}}, {"component": {}}, {"cInfo": {"body": "two"}}, 7,
        ]});
        assert_eq!(text(&frame).as_deref(), Some("one\ntwo"));
    }

    #[test]
    fn a_users_words_are_the_body_else_what_was_shown() {
        let said = |message| text(&json!({"type": "user_message", "message": message}));
        assert_eq!(said(json!({"body": "PAY_YES", "renderMsg": "Yes"})).as_deref(), Some("PAY_YES"));
        assert_eq!(said(json!({"renderMsg": "Yes"})).as_deref(), Some("Yes"));
        assert_eq!(said(json!([{"type": "text", "cInfo": {"body": "old"}}])).as_deref(), Some("old"));
        assert_eq!(said(json!({"attachments": []})), None);
    }

    #[test]
    fn other_frames_have_text_only_if_they_say_something() {
        assert_eq!(text(&json!({"type": "events", "message": {"type": "typing"}})), None);
        assert_eq!(text(&json!({"type": "Events", "message": "x"})), None);
        assert_eq!(text(&json!({"type": "session_end"})), None);
        assert_eq!(
            text(&json!({"type": "botKitUnreachable", "message": "try later"})).as_deref(),
            Some("try later")
        );
        assert_eq!(plain_text(b"not json"), None);
        assert_eq!(plain_text(b"\xff"), None);
        assert_eq!(plain_text(b"[]"), None);
    }

    #[test]
    fn of_duplicate_keys_the_last_wins_and_escaped_keys_are_read() {
        let frame =
            br#"{"type":"bot_response","message":[{"cInfo":{"body":"a"},"cInfo":{"\u0062ody":"b\u00e4"}}]}"#;
        assert_eq!(plain_text(frame).as_deref(), Some("bä"));
    }

    #[test]
    fn any_depth_is_survived() {
        for (open, close) in [("[", "]"), (r#"{"payload":"#, "}")] {
            let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
            let frame = format!(
                r#"{{"type":"bot_response","x":{deep},"message":[{{"component":{{"payload":{deep}}}}}]}}"#
            );
            assert_eq!(plain_text(frame.as_bytes()), None);
        }
        let mut wrapped = json!({"text": "core"});
        for _ in 0..MAX_LEVELS + 3 {
            wrapped = json!({ "text": wrapped.to_string() });
        }
        assert!(bot(&json!({"component": {"payload": wrapped}})).is_some_and(|text| text.contains("core")));
    }

    #[test]
    fn speakers_are_told_apart() {
        let speaks = |frame: &str| speaker(&FrameHead::parse(frame.as_bytes()).unwrap());
        assert_eq!(speaks(r#"{"type":"bot_response","from":"bot"}"#), Speaker::Bot);
        assert_eq!(speaks(r#"{"type":"BOT_RESPONSE","fromAgent":true}"#), Speaker::Agent);
        assert_eq!(speaks(r#"{"type":"user_message","from":"self"}"#), Speaker::User);
        assert_eq!(speaks(r#"{"type":"events","from":"bot"}"#), Speaker::Platform);
        assert_eq!(speaks(r#"{"type":"events","author":{"type":"AGENT"}}"#), Speaker::Agent);
        assert_eq!(speaks("{}"), Speaker::Platform);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(frame: Vec<u8>) {
            let _ = plain_text(&frame);
        }

        #[test]
        fn what_a_bot_says_comes_out_as_it_was(said in "[^{].{0,40}") {
            proptest::prop_assert_eq!(bot(&json!({"cInfo": {"body": said}})), Some(said.clone()));
        }
    }
}
