//! From the body of an HTTP request to a message that may be accepted.
//!
//! Callers may send the *simple form* (`{"text": "hi"}`, as JSON, as a form or as plain text) or a
//! whole client *frame* (JSON with `resourceid`). Both end as the same content, so that the same
//! message is recognised as the same however it was written. Values go on as the caller's own
//! text: nothing is parsed and printed again.

use bytes::Bytes;

use super::{
    ClientMessageId, Draft, Expectation, Fingerprint, MessageContent,
    json::{self, JsonError, MAX_DEPTH, Member, Node, Value},
    urlencoded::{self, UrlencodedError},
};
use crate::suggest::{closest, quoted};

/// The keys of the simple form.
const SIMPLE_KEYS: [&str; 6] =
    ["text", "attachments", "clientMessageId", "customData", "metaTags", "renderMsg"];
/// What tells a whole frame from the simple form.
const RESOURCE: &str = "resourceid";
const BOT_MESSAGE: &str = "/bot.message";
/// What a frame may be for.
const RESOURCES: [&str; 3] = [BOT_MESSAGE, "/bot.clientEvent", "/bot.closeConversationSession"];
/// What a frame may carry, but is the bridge's to say (or is taken out and put where it belongs).
const OURS: [&str; 5] = ["botInfo", "client", "id", "meta", "clientMessageId"];

/// Why a body is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// It is not UTF-8.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// It, or a form's field, is not JSON.
    #[error("{}not valid JSON: {reason}", at(.key))]
    NotJson {
        /// The form's field.
        key: Option<String>,
        /// What is wrong, and where.
        reason: String,
    },
    /// It is not a well-formed form.
    #[error("the body is not a well-formed form: {0}")]
    NotAForm(#[from] UrlencodedError),
    /// It gives one key twice.
    #[error("the key {} is given twice", quoted(.0))]
    DuplicateKey(String),
    /// It is nested too deep.
    #[error("the body is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// It is JSON, but no object.
    #[error("the body must be a JSON object, like {{\"text\": \"hello\"}}, and is {0}")]
    NotAnObject(&'static str),
    /// It has a key that means nothing.
    #[error("the key {} is unknown{}", quoted(.key), hint(*.meant))]
    UnknownKey {
        /// The key.
        key: String,
        /// What was probably meant.
        meant: Option<&'static str>,
    },
    /// A key has a value of the wrong type.
    #[error("{key:?} must be {wanted}, and is {found}")]
    WrongType {
        /// The key.
        key: &'static str,
        /// What it must be.
        wanted: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// There is nothing to send.
    #[error("the message is empty: it needs a text that is not only white space, or attachments")]
    Empty,
    /// A frame has a `type`, which no message to a bot has.
    #[error("a frame with \"type\" is refused: messages to a bot are told apart by \"resourceid\" alone")]
    TypeRefused,
    /// A frame is for something that can't be sent.
    #[error("the resourceid {} can't be sent; one of {} can", quoted(.0), RESOURCES.join(", "))]
    UnknownResource(String),
    /// The given id is no id.
    #[error("clientMessageId must be an integer from 1 to 9007199254740991")]
    BadId,
}

fn at(key: &Option<String>) -> String {
    key.as_ref().map_or("the body is ".to_owned(), |key| format!("the field {key:?} is "))
}

fn hint(meant: Option<&str>) -> String {
    match meant {
        Some(meant) => format!("; did you mean {meant:?}?"),
        None => format!("; the keys are {}, or a whole frame with {RESOURCE:?}", SIMPLE_KEYS.join(", ")),
    }
}

/// Whose rules a body breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DraftFault {
    /// Those of its syntax.
    Malformed,
    /// Those of what can be sent.
    Unusable,
}

impl DraftError {
    /// Whose rules the body breaks.
    pub fn fault(&self) -> DraftFault {
        match self {
            Self::NotUtf8 | Self::NotJson { .. } | Self::NotAForm(_) | Self::DuplicateKey(_) => {
                DraftFault::Malformed
            }
            _ => DraftFault::Unusable,
        }
    }

    /// The key at fault, if one is.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::NotJson { key, .. } => key.as_deref(),
            Self::DuplicateKey(key) | Self::UnknownKey { key, .. } => Some(key),
            Self::WrongType { key, .. } => Some(key),
            Self::Empty => Some("text"),
            Self::TypeRefused => Some("type"),
            Self::UnknownResource(_) => Some(RESOURCE),
            Self::BadId => Some("clientMessageId"),
            Self::NotUtf8 | Self::NotAForm(_) | Self::TooDeep | Self::NotAnObject(_) => None,
        }
    }

    pub(super) fn of_json(error: JsonError, key: Option<&str>) -> Self {
        match error {
            JsonError::Syntax(reason) => Self::NotJson { key: key.map(str::to_owned), reason },
            JsonError::DuplicateKey(key) => Self::DuplicateKey(key),
            JsonError::TooDeep => Self::TooDeep,
        }
    }
}

/// A file that came with a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePart {
    /// Its name, as it goes to the platform.
    pub name: String,
    /// The SHA-256 of its bytes.
    pub digest: [u8; 32],
    /// What the message says of it: a JSON object of the platform's making.
    pub attachment: String,
}

/// A draft, and the id its caller gave it, if any.
pub type DraftAndId = (Draft, Option<ClientMessageId>);

impl Draft {
    /// Reads `application/json`: the simple form or a whole frame.
    pub fn from_json(body: &[u8]) -> Result<DraftAndId, DraftError> {
        let text = std::str::from_utf8(body).map_err(|_| DraftError::NotUtf8)?;
        let value = json::parse(text, 0).map_err(|error| DraftError::of_json(error, None))?;
        match value.as_object() {
            None => Err(DraftError::NotAnObject(value.kind())),
            Some(members) if value.get(RESOURCE).is_some() => from_frame(&value, members),
            Some(members) => from_simple(members, &[]),
        }
    }

    /// Reads `application/x-www-form-urlencoded`: the simple form, where `attachments`,
    /// `customData` and `metaTags` are JSON texts.
    pub fn from_form(body: &[u8]) -> Result<DraftAndId, DraftError> {
        Self::from_fields(urlencoded::parse(body)?, &[])
    }

    /// Reads the fields of a form, with the files that came with it, which are added to the `attachments`.
    pub fn from_fields(form: Vec<(String, String)>, files: &[FilePart]) -> Result<DraftAndId, DraftError> {
        let mut fields = Vec::new();
        for (key, text) in form {
            let Some(known) = SIMPLE_KEYS.into_iter().find(|known| *known == key) else {
                return Err(unknown(&key));
            };
            if fields.iter().any(|(earlier, _)| *earlier == known) {
                return Err(DraftError::DuplicateKey(key));
            }
            let json = match known {
                "text" | "renderMsg" => json::quote(&text),
                // Whatever is no JSON number is no id either, and is no syntax error in a form.
                "clientMessageId" => {
                    text.parse::<ClientMessageId>().map_err(|_| DraftError::BadId)?.to_string()
                }
                _ => text,
            };
            fields.push((known, json));
        }
        let members = fields
            .iter()
            .map(|(key, json)| match json::parse(json, 1) {
                Ok(value) => Ok(((*key).into(), value)),
                Err(error) => Err(DraftError::of_json(error, Some(key))),
            })
            .collect::<Result<Vec<Member<'_>>, _>>()?;
        from_simple(&members, files)
    }

    /// Whether a form has such a field.
    pub fn check_field(key: &str) -> Result<(), DraftError> {
        if SIMPLE_KEYS.contains(&key) { Ok(()) } else { Err(unknown(key)) }
    }

    /// Reads `text/plain`: the text.
    pub fn from_text(body: &[u8]) -> Result<DraftAndId, DraftError> {
        let text = std::str::from_utf8(body).map_err(|_| DraftError::NotUtf8)?;
        let quoted = json::quote(text);
        let value = json::parse(&quoted, 1).map_err(|error| DraftError::of_json(error, None))?;
        from_simple(&[("text".into(), value)], &[])
    }
}

fn from_simple(members: &[Member<'_>], files: &[FilePart]) -> Result<DraftAndId, DraftError> {
    let mut id = None;
    let mut fields = bot_message_begin(members);
    for (key, value) in members {
        let inner = match &**key {
            "text" => {
                expect_text("text", value)?;
                "body"
            }
            "renderMsg" => {
                expect_text("renderMsg", value)?;
                "renderMsg"
            }
            "attachments" => {
                expect_array("attachments", value)?;
                "attachments"
            }
            "customData" => {
                expect_object("customData", value)?;
                "customData"
            }
            "metaTags" => {
                expect_object("metaTags", value)?;
                "metaTags"
            }
            "clientMessageId" => {
                id = Some(given_id(value)?);
                continue;
            }
            other => return Err(unknown(other)),
        };
        push_member(&mut fields, inner, value.raw);
    }
    let member = |name: &str| members.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    let text = member("text").and_then(Value::as_text).unwrap_or_default();
    if files.is_empty() && !says_something(text, member("attachments")) {
        return Err(DraftError::Empty);
    }
    fields.push_str("}}");
    let draft = draft(fields, None, Expectation::Ack, text);
    Ok((if files.is_empty() { draft } else { draft.with_files(members, files) }, id))
}

impl Draft {
    /// The same message with files: as the platform has them in what it says, as the caller gave them in
    /// its fingerprint, since the platform calls a file something else each time.
    fn with_files(self, members: &[Member<'_>], files: &[FilePart]) -> Self {
        let mut basis = self.fingerprint.0.to_vec();
        for file in files {
            // With its length, so that no two lists of files run together into the same bytes.
            basis.extend((file.name.len() as u64).to_be_bytes());
            basis.extend(file.name.as_bytes());
            basis.extend(file.digest);
        }
        let given = members.iter().find(|(key, _)| key == "attachments").map(|(_, value)| value);
        let given = given.into_iter().flat_map(|value| match &value.node {
            Node::Array(items) => items.as_slice(),
            _ => &[],
        });
        let all: Vec<&str> =
            given.map(|item| item.raw).chain(files.iter().map(|file| &*file.attachment)).collect();
        let mut fields = bot_message_begin(members);
        for (key, value) in members {
            match &**key {
                "text" => push_member(&mut fields, "body", value.raw),
                "attachments" | "clientMessageId" => {}
                other => push_member(&mut fields, other, value.raw),
            }
        }
        push_member(&mut fields, "attachments", &format!("[{}]", all.join(",")));
        fields.push_str("}}");
        let content = MessageContent { fields: Bytes::from(fields), ..self.content };
        Self { content, fingerprint: Fingerprint::of(&basis), ..self }
    }
}

fn from_frame(frame: &Value<'_>, members: &[Member<'_>]) -> Result<DraftAndId, DraftError> {
    if frame.get("type").is_some() {
        return Err(DraftError::TypeRefused);
    }
    let resource = frame.get(RESOURCE).map_or(Ok(""), |value| expect_text(RESOURCE, value))?;
    if !RESOURCES.contains(&resource) {
        return Err(DraftError::UnknownResource(resource.to_owned()));
    }
    let id = frame.get("clientMessageId").map(given_id).transpose()?;
    let bot_info = frame.get("botInfo");
    bot_info.map(|value| expect_object("botInfo", value)).transpose()?;
    let custom_data = bot_info.and_then(|info| info.get("customData"));
    let (expectation, text) = match resource {
        BOT_MESSAGE => bot_message(frame)?,
        _ => (Expectation::Nothing, ""),
    };
    let mut fields = String::with_capacity(frame.raw.len());
    fields.push('{');
    for (key, value) in members.iter().filter(|(key, _)| !OURS.contains(&&**key)) {
        push_member(&mut fields, key, value.raw);
    }
    fields.push('}');
    Ok((draft(fields, custom_data, expectation, text), id))
}

/// What a `/bot.message` frame awaits, and its text. An event (typing and the like) says what it
/// has to say by itself; anything else needs a text or attachments.
fn bot_message<'v>(frame: &'v Value<'_>) -> Result<(Expectation, &'v str), DraftError> {
    let message = frame.get("message");
    message.map(|value| expect_object("message", value)).transpose()?;
    let part = |name| message.and_then(|message| message.get(name));
    let text = part("body").map_or(Ok(""), |value| expect_text("message.body", value))?;
    part("attachments").map(|value| expect_array("message.attachments", value)).transpose()?;
    if let Some(event) = frame.get("event") {
        expect_text("event", event)?;
        return Ok((Expectation::Nothing, text));
    }
    if says_something(text, part("attachments")) {
        Ok((Expectation::Ack, text))
    } else {
        Err(DraftError::Empty)
    }
}

pub(super) fn draft(
    fields: String,
    custom_data: Option<&Value<'_>>,
    expectation: Expectation,
    text: &str,
) -> Draft {
    let mut canonical = String::with_capacity(fields.len());
    json::parse_own(&fields)
        .expect("put together from values that were read")
        .write_canonical(&mut canonical);
    if let Some(custom_data) = custom_data {
        custom_data.write_canonical(&mut canonical);
    }
    Draft {
        content: MessageContent {
            fields: Bytes::from(fields),
            bot_custom_data: custom_data.map(|value| Bytes::copy_from_slice(value.raw.as_bytes())),
        },
        expectation,
        fingerprint: Fingerprint::of(canonical.as_bytes()),
        text_fingerprint: Fingerprint::of(text.as_bytes()),
        trace: None,
    }
}

/// Where the members of a `/bot.message`'s `message` begin, with room for these.
fn bot_message_begin(members: &[Member<'_>]) -> String {
    const BEGIN: &str = r#"{"resourceid":"/bot.message","message":{"#;
    let length: usize = members.iter().map(|(key, value)| key.len() + value.raw.len() + 4).sum();
    let mut fields = String::with_capacity(BEGIN.len() + length + 2);
    fields.push_str(BEGIN);
    fields
}

/// Writes a member of an object that was begun.
fn push_member(object: &mut String, key: &str, raw: &str) {
    if !object.ends_with('{') {
        object.push(',');
    }
    json::write_quoted(key, object);
    object.push(':');
    object.push_str(raw);
}

fn says_something(text: &str, attachments: Option<&Value<'_>>) -> bool {
    let attached =
        attachments.is_some_and(|value| matches!(&value.node, Node::Array(items) if !items.is_empty()));
    attached || !text.trim().is_empty()
}

pub(super) fn given_id(value: &Value<'_>) -> Result<ClientMessageId, DraftError> {
    value.raw.parse().map_err(|_| DraftError::BadId)
}

fn unknown(key: &str) -> DraftError {
    let candidates = SIMPLE_KEYS.into_iter().chain([RESOURCE]);
    DraftError::UnknownKey { key: key.to_owned(), meant: closest(key, candidates) }
}

fn expect_text<'v>(key: &'static str, value: &'v Value<'_>) -> Result<&'v str, DraftError> {
    value.as_text().ok_or(DraftError::WrongType { key, wanted: "a string", found: value.kind() })
}

fn expect_array(key: &'static str, value: &Value<'_>) -> Result<(), DraftError> {
    match value.node {
        Node::Array(_) => Ok(()),
        _ => Err(DraftError::WrongType { key, wanted: "an array", found: value.kind() }),
    }
}

fn expect_object(key: &'static str, value: &Value<'_>) -> Result<(), DraftError> {
    match value.node {
        Node::Object(_) => Ok(()),
        _ => Err(DraftError::WrongType { key, wanted: "an object", found: value.kind() }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(body: &str) -> DraftAndId {
        Draft::from_json(body.as_bytes()).unwrap()
    }

    fn fields(draft: &Draft) -> serde_json::Value {
        serde_json::from_slice(&draft.content.fields).unwrap()
    }

    fn refuse(body: &str) -> DraftError {
        Draft::from_json(body.as_bytes()).unwrap_err()
    }

    #[test]
    fn the_simple_form_becomes_a_bot_message_with_only_the_given_keys() {
        let (draft, id) = read(
            r#"{"text":"hi","renderMsg":"Hi!","customData":{"tier":"gold"},"metaTags":{"m":[]},"clientMessageId":7}"#,
        );
        assert_eq!(id, Some(ClientMessageId::new(7).unwrap()));
        assert_eq!(draft.expectation, Expectation::Ack);
        let message =
            json!({"body": "hi", "renderMsg": "Hi!", "customData": {"tier": "gold"}, "metaTags": {"m": []}});
        assert_eq!(fields(&draft), json!({"resourceid": "/bot.message", "message": message}));
        assert_eq!(draft.text_fingerprint, Fingerprint::of(b"hi"));
    }

    #[test]
    fn a_whole_frame_passes_but_for_what_is_the_bridges() {
        let (draft, id) = read(
            r#"{"id":"x","clientMessageId":5,"client":"me","meta":{"a":1},"resourceid":"/bot.message",
                "botInfo":{"chatBot":"Other","customData":{"k":1.50}},"message":{"body":"hi","nlMeta":{}},"agentDesktopMeta":[]}"#,
        );
        assert_eq!(id, Some(ClientMessageId::new(5).unwrap()));
        let expected = json!({"resourceid": "/bot.message", "message": {"body": "hi", "nlMeta": {}}, "agentDesktopMeta": []});
        assert_eq!(fields(&draft), expected);
        assert_eq!(draft.content.bot_custom_data.unwrap(), r#"{"k":1.50}"#);
    }

    fn file(name: &str, digest: u8, attachment: &str) -> FilePart {
        FilePart { name: name.to_owned(), digest: [digest; 32], attachment: attachment.to_owned() }
    }

    fn with_files(form: &[(&str, &str)], files: &[FilePart]) -> DraftAndId {
        let form = form.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        Draft::from_fields(form, files).unwrap()
    }

    #[test]
    fn files_join_the_attachments_that_were_given() {
        let form = [
            ("attachments", "[ {\"fileId\": 1.50} ]"),
            ("text", "look"),
            ("clientMessageId", "7"),
            ("renderMsg", "Look!"),
        ];
        let (draft, id) =
            with_files(&form, &[file("a", 1, r#"{"fileId":"f-1"}"#), file("b", 2, r#"{"fileId":"f-2"}"#)]);
        assert_eq!(id, Some(ClientMessageId::new(7).unwrap()));
        let message = json!({
            "body": "look", "renderMsg": "Look!",
            "attachments": [{"fileId": 1.50}, {"fileId": "f-1"}, {"fileId": "f-2"}],
        });
        assert_eq!(fields(&draft), json!({"resourceid": "/bot.message", "message": message}));
        assert_eq!((draft.expectation, draft.text_fingerprint), (Expectation::Ack, Fingerprint::of(b"look")));
        let (alone, _) = with_files(&[], &[file("a", 1, "{}")]);
        assert_eq!(fields(&alone)["message"], json!({"attachments": [{}]}));
    }

    #[test]
    fn files_are_the_same_by_name_and_bytes_whatever_the_platform_calls_them() {
        let print = |form: &[(&str, &str)], files: &[FilePart]| with_files(form, files).0.fingerprint;
        let (text, a, b) = ([("text", "x")], file("a", 1, r#"{"fileId":"f-1"}"#), file("b", 2, "{}"));
        let same = print(&text, &[a.clone(), b.clone()]);
        assert_eq!(same, print(&text, &[file("a", 1, r#"{"fileId":"f-9"}"#), b.clone()]));
        for (what, other) in [
            ("no files", print(&text, &[])),
            ("fewer files", print(&text, std::slice::from_ref(&a))),
            ("another order", print(&text, &[b.clone(), a.clone()])),
            ("another name", print(&text, &[file("c", 1, "{}"), b.clone()])),
            ("other bytes", print(&text, &[file("a", 3, "{}"), b.clone()])),
            ("another text", print(&[("text", "y")], &[a.clone(), b.clone()])),
            ("more attachments", print(&[("text", "x"), ("attachments", "[{}]")], &[a.clone(), b.clone()])),
        ] {
            assert_ne!(same, other, "{what}");
        }
        // Without files, a form is what it always was.
        assert_eq!(print(&text, &[]), Draft::from_form(b"text=x").unwrap().0.fingerprint);
    }

    #[test]
    fn only_a_message_with_something_to_say_awaits_an_ack() {
        let expectation = |body: &str| read(body).0.expectation;
        assert_eq!(
            expectation(r#"{"resourceid":"/bot.message","message":{"attachments":[{"fileId":"f"}]}}"#),
            Expectation::Ack
        );
        for body in [
            r#"{"resourceid":"/bot.message","event":"typing","message":{"body":"","type":""}}"#,
            r#"{"resourceid":"/bot.clientEvent","customEvent":{"a":1},"message":{"body":"hi"}}"#,
            r#"{"resourceid":"/bot.closeConversationSession"}"#,
        ] {
            assert_eq!(expectation(body), Expectation::Nothing, "{body}");
        }
    }

    #[test]
    fn values_go_on_as_they_were_written() {
        let (draft, _) = read(r#"{"attachments":[ {"n":123456789012345678901234567890.10, "e":"\u00e4"} ]}"#);
        let text = std::str::from_utf8(&draft.content.fields).unwrap();
        assert!(
            text.contains(r#""attachments":[ {"n":123456789012345678901234567890.10, "e":"\u00e4"} ]"#),
            "{text}"
        );
    }

    #[test]
    fn the_deepest_body_allowed_is_taken() {
        let (open, close) = ("[".repeat(62), "]".repeat(62));
        let (draft, _) = read(&format!(r#"{{"text":"a","customData":{{"a":{open}{close}}}}}"#));
        assert!(draft.content.fields.ends_with(b"}}}"));
    }

    #[test]
    fn what_is_malformed_says_so() {
        for body in [
            &b""[..],
            b"{",
            b"{\"text\":\"a\"} x",
            b"{'text':1}",
            b"{\"text\":\"\xff\"}",
            b"\xef\xbb\xbf{\"text\":\"a\"}",
            b"{\"text\":\"a\",\"text\":\"a\"}",
            b"{\"text\":\"\\ud83d\"}",
            b"{\"text\":\"a\x01\"}",
            b"{\"text\":01}",
            b"NaN",
        ] {
            let error = Draft::from_json(body).unwrap_err();
            assert_eq!(error.fault(), DraftFault::Malformed, "{body:?}: {error}");
        }
        let brackets = "[".repeat(1_000_000);
        assert_eq!(refuse(&brackets).fault(), DraftFault::Malformed);
        for body in
            [&b"text=%zz"[..], b"text=%ff", b"text=a&text=b", b"text=a&attachments=[", b"text=a&customData="]
        {
            let error = Draft::from_form(body).unwrap_err();
            assert_eq!(error.fault(), DraftFault::Malformed, "{body:?}: {error}");
        }
        assert_eq!(Draft::from_text(b"\xff").unwrap_err(), DraftError::NotUtf8);
    }

    #[test]
    fn what_is_unusable_names_the_key_at_fault() {
        let deep = format!(r#"{{"text":"a","customData":{{"a":{}{}}}}}"#, "[".repeat(63), "]".repeat(63));
        for (body, key) in [
            (r#"{"txet":"a"}"#, Some("txet")),
            (r#"{"text":"a","resourceID":"/bot.message"}"#, Some("resourceID")),
            (r#"{"text":" \n\t\u00a0"}"#, Some("text")),
            (r#"{"text":"","attachments":[]}"#, Some("text")),
            ("{}", Some("text")),
            (r#"{"renderMsg":"x"}"#, Some("text")),
            (r#"{"text":5}"#, Some("text")),
            (r#"{"text":null}"#, Some("text")),
            (r#"{"text":"a","attachments":{}}"#, Some("attachments")),
            (r#"{"text":"a","customData":[]}"#, Some("customData")),
            (r#"{"text":"a","metaTags":"x"}"#, Some("metaTags")),
            (r#"{"text":"a","renderMsg":1}"#, Some("renderMsg")),
            (r#"{"text":"a","clientMessageId":0}"#, Some("clientMessageId")),
            (r#"{"text":"a","clientMessageId":1.0}"#, Some("clientMessageId")),
            (r#"{"text":"a","clientMessageId":"1"}"#, Some("clientMessageId")),
            (r#"{"text":"a","clientMessageId":9007199254740992}"#, Some("clientMessageId")),
            (r#"{"resourceid":"/bot.message","type":"x","message":{"body":"a"}}"#, Some("type")),
            (r#"{"resourceid":"/pwe_message"}"#, Some("resourceid")),
            (r#"{"resourceid":7}"#, Some("resourceid")),
            (r#"{"resourceid":"/bot.message","botInfo":"x","message":{"body":"a"}}"#, Some("botInfo")),
            (r#"{"resourceid":"/bot.message","message":"a"}"#, Some("message")),
            (r#"{"resourceid":"/bot.message","message":{"body":1}}"#, Some("message.body")),
            (r#"{"resourceid":"/bot.message","message":{"attachments":1}}"#, Some("message.attachments")),
            (r#"{"resourceid":"/bot.message","event":1,"message":{"body":"a"}}"#, Some("event")),
            (r#"{"resourceid":"/bot.message","message":{"body":""}}"#, Some("text")),
            (r#"{"resourceid":"/bot.message"}"#, Some("text")),
            (r#"["text"]"#, None),
            (r#""text""#, None),
            (&deep, None),
        ] {
            let error = refuse(body);
            assert_eq!((error.fault(), error.key()), (DraftFault::Unusable, key), "{body}: {error}");
        }
        assert!(refuse(r#"{"txet":"a"}"#).to_string().ends_with(r#"did you mean "text"?"#));
        for body in [
            &b"clientMessageId=&text=a"[..],
            b"clientMessageId=1e3&text=a",
            b"text=",
            b"{\"text\":\"a\"}",
            b"",
        ] {
            assert_eq!(Draft::from_form(body).unwrap_err().fault(), DraftFault::Unusable);
        }
        assert_eq!(Draft::from_text(b" \n").unwrap_err(), DraftError::Empty);
    }

    #[test]
    fn custom_data_of_the_bot_is_part_of_the_message() {
        let with = |custom| {
            let info =
                format!(r#"{{"resourceid":"/bot.message","botInfo":{custom},"message":{{"body":"a"}}}}"#);
            read(&info).0.fingerprint
        };
        assert_eq!(with("{}"), with(r#"{"chatBot":"x"}"#));
        assert_ne!(with("{}"), with(r#"{"customData":{}}"#));
        assert_eq!(with(r#"{"customData":{"a":1,"b":2}}"#), with(r#"{"customData": {"b":2, "a":1.0}}"#));
    }

    proptest! {
        #[test]
        fn white_space_key_order_and_content_type_never_change_the_fingerprint(
            text in "[^ ].{0,20}", data in proptest::collection::btree_map(".{0,4}", any::<i64>(), 0..4)
        ) {
            prop_assume!(!text.trim().is_empty());
            let data = json!(data);
            let there = format!(r#"{{"text":{},"customData":{data}}}"#, json!(text));
            let back = format!("{{ \"customData\" : {data:#} ,\n\"text\" : {} }}", json!(text));
            let frame = format!(r#"{{"message":{{"customData":{data},"body":{}}},"id":1,"resourceid":"/bot.message"}}"#, json!(text));
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            let form = form.append_pair("customData", &data.to_string()).append_pair("text", &text).finish();
            let first = read(&there).0;
            for other in [read(&back).0, read(&frame).0, Draft::from_form(form.as_bytes()).unwrap().0] {
                prop_assert_eq!(other.fingerprint, first.fingerprint);
                prop_assert_eq!(other.text_fingerprint, first.text_fingerprint);
            }
            let plain = Draft::from_text(text.as_bytes()).unwrap().0;
            prop_assert_eq!(plain.fingerprint, read(&json!({"text": text}).to_string()).0.fingerprint);
        }

        #[test]
        fn different_texts_have_different_fingerprints(one in ".{1,12}", other in ".{1,12}") {
            prop_assume!(!one.trim().is_empty() && !other.trim().is_empty());
            let (first, second) = (Draft::from_text(one.as_bytes()).unwrap().0, Draft::from_text(other.as_bytes()).unwrap().0);
            prop_assert_eq!(first.fingerprint == second.fingerprint, one == other);
            prop_assert_eq!(first.text_fingerprint == second.text_fingerprint, one == other);
        }

        #[test]
        fn no_body_makes_it_panic(body: Vec<u8>) {
            let _ = (Draft::from_json(&body), Draft::from_form(&body), Draft::from_text(&body));
        }
    }
}
