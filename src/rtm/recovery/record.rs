//! A record of the platform's history, and the event that it becomes.

use std::{borrow::Cow, collections::HashMap};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{clock::Timestamp, config::Bot, events, messages::Fingerprint, store::Said};

/// A page of a user's history, in whatever order.
#[derive(Debug, Clone)]
pub struct Page {
    /// The records that can be read.
    pub records: Vec<Record>,
    /// How many records there were.
    pub returned: usize,
    /// Whether older ones follow.
    pub more: More,
}

/// Whether there are more records than a page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    /// This was the last page.
    No,
    /// There are, or nobody says.
    Perhaps,
}

/// Which way a record went, seen from the bot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the user.
    Incoming,
    /// From the bot or an agent.
    Outgoing,
}

/// A record of the history: the little that is read of it, and all of it as it came.
#[derive(Debug, Clone)]
pub struct Record {
    /// `_id`: the `messageId` of the live event, for outgoing records.
    pub id: String,
    /// Which way it went.
    pub direction: Direction,
    /// When, by the platform's clock.
    pub at: Timestamp,
    /// `userMsgId`: the `id` that its sender gave an incoming record, where the platform tells.
    pub user_msg_id: Option<String>,
    /// What it says, as the event that it becomes says it.
    pub text: String,
    /// Fingerprints of all texts under which its sender may know it.
    sent_texts: Vec<Fingerprint>,
    raw: Box<RawValue>,
}

impl Record {
    /// Reads a record. None for one that can't be placed: without an id, a direction or a time.
    pub fn parse(raw: Box<RawValue>) -> Option<Self> {
        let fields = Fields::of(&raw)?;
        let id = fields.text("_id").filter(|id| !id.is_empty())?;
        let direction = match fields.text("type")? {
            way if way.eq_ignore_ascii_case("incoming") => Direction::Incoming,
            way if way.eq_ignore_ascii_case("outgoing") => Direction::Outgoing,
            _ => return None,
        };
        let at = fields.time("timestampValue").or_else(|| fields.time("createdOn"))?;
        let user_msg_id = fields.scalar("userMsgId");
        let texts = fields.texts();
        let shown = fields.alternative_texts();
        let sent_texts = texts.iter().chain(&shown).map(|text| Fingerprint::of(text.as_bytes())).collect();
        let text = match direction {
            Direction::Incoming => texts.join("\n"),
            Direction::Outgoing => {
                let frame = serde_json::json!({"type": "bot_response", "message": entries(&texts)});
                events::plain_text(frame.to_string().as_bytes()).unwrap_or_default()
            }
        };
        Some(Self { id, direction, at, user_msg_id, text, sent_texts, raw })
    }

    /// What it says, for those who read it: a template with all that is on it.
    pub fn readable(&self) -> Option<String> {
        match self.direction {
            Direction::Incoming => Some(self.text.clone()).filter(|text| !text.is_empty()),
            Direction::Outgoing => {
                let texts = Fields::of(&self.raw).unwrap_or_default().texts();
                let frame = serde_json::json!({"type": "bot_response", "message": entries(&texts)});
                events::content(frame.to_string().as_bytes()).text
            }
        }
    }

    /// How many bytes it keeps.
    pub fn size(&self) -> usize {
        self.raw.get().len() + self.text.len() + self.id.len()
    }

    /// What it says and when.
    pub fn said(&self) -> Said {
        match self.direction {
            Direction::Incoming => Said::by_user(&self.text, self.at),
            Direction::Outgoing => Said::by_bot(&self.text, self.at),
        }
    }

    /// Whether its sender may have sent it with this text. Messages that are nothing but attachments
    /// have none that could be compared.
    pub fn is_sent_as(&self, text: Fingerprint) -> bool {
        text == Fingerprint::of(b"") || self.sent_texts.contains(&text)
    }

    /// Whether a human agent said it.
    pub fn is_agents(&self) -> bool {
        let fields = Fields::of(&self.raw).unwrap_or_default();
        let author = fields.0.get("author").copied();
        let is_theirs = || fields.texts().iter().any(|text| events::agent::is_agents_template(text));
        self.direction == Direction::Outgoing && (author.is_some_and(names_a_person) || is_theirs())
    }

    /// The event in the shape that it would have had live, with the record in it.
    pub fn to_frame(&self, bot: &Bot) -> Bytes {
        let fields = Fields::of(&self.raw).unwrap_or_default();
        let texts = fields.texts();
        let created_on = fields.text("createdOn").unwrap_or_else(|| self.at.to_string());
        let author = fields.0.get("author").copied();
        let is_agents = self.is_agents();
        let shape = match self.direction {
            Direction::Outgoing => {
                Shape { kind: "bot_response", from: "bot", message: Message::Entries(entries(&texts)) }
            }
            Direction::Incoming => {
                let (body, shown) = (self.text.as_str(), fields.alternative_texts().into_iter().next());
                Shape { kind: "user_message", from: "self", message: Message::Typed { body, shown } }
            }
        };
        let frame = Frame {
            shape,
            message_id: &self.id,
            id: fields.0.get("userMsgId").copied().filter(|_| self.direction == Direction::Incoming),
            created_on,
            timestamp: self.at.as_millis(),
            session_id: fields.text("sessionId"),
            bot_info: BotInfo { chat_bot: &bot.name, task_bot_id: &bot.id },
            from_agent: is_agents.then_some(true),
            author: author.filter(|_| is_agents),
            history_record: &self.raw,
        };
        serde_json::to_vec(&frame).expect("it is plain data, and JSON that was read").into()
    }
}

/// An author with a name is a human agent: nobody else's records have one.
fn names_a_person(author: &RawValue) -> bool {
    let Some(author) = Fields::of(author) else { return false };
    let is_bot = author.text("type").is_some_and(|kind| kind.eq_ignore_ascii_case("bot"));
    let has_name = ["firstName", "lastName"]
        .iter()
        .any(|name| author.text(name).is_some_and(|name| !name.trim().is_empty()));
    let is_agent = author.text("type").is_some_and(|kind| kind.eq_ignore_ascii_case("agent"));
    is_agent || (has_name && !is_bot)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Frame<'a> {
    #[serde(flatten)]
    shape: Shape<'a>,
    message_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    created_on: String,
    timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    bot_info: BotInfo<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_agent: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<&'a RawValue>,
    history_record: &'a RawValue,
}

/// What tells a bot's frame from a user's.
#[derive(Serialize)]
struct Shape<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    from: &'static str,
    message: Message<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Message<'a> {
    Entries(Vec<serde_json::Value>),
    Typed {
        body: &'a str,
        #[serde(rename = "renderMsg", skip_serializing_if = "Option::is_none")]
        shown: Option<String>,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BotInfo<'a> {
    chat_bot: &'a str,
    task_bot_id: &'a str,
}

/// A bot's `message`: an entry for each component. The history has templates as JSON texts.
fn entries(texts: &[String]) -> Vec<serde_json::Value> {
    let entry = |text: &String| {
        let template = serde_json::from_str(text).ok().filter(serde_json::Value::is_object);
        let component = match template {
            Some(payload) => serde_json::json!({"type": "template", "payload": payload}),
            None => serde_json::json!({"type": "text", "payload": {"text": text}}),
        };
        serde_json::json!({"type": "text", "component": component, "cInfo": {"body": text}})
    };
    texts.iter().map(entry).collect()
}

/// The fields of a JSON object; of duplicate keys the last.
#[derive(Default)]
struct Fields<'a>(HashMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Fields<'a> {
    fn of(json: &'a RawValue) -> Option<Self> {
        #[derive(Deserialize, PartialEq, Eq, Hash)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
        let fields: HashMap<Key<'a>, &'a RawValue> = serde_json::from_str(json.get()).ok()?;
        Some(Self(fields.into_iter().map(|(key, value)| (key.0, value)).collect()))
    }

    fn text(&self, key: &str) -> Option<String> {
        serde_json::from_str(self.0.get(key)?.get()).ok()
    }

    /// A string's text or a number's digits.
    fn scalar(&self, key: &str) -> Option<String> {
        let json = self.0.get(key)?.get();
        let is_number = json.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        if is_number { Some(json.to_owned()) } else { self.text(key).filter(|text| !text.is_empty()) }
    }

    /// Milliseconds, as a number or its digits, or an RFC 3339 time.
    fn time(&self, key: &str) -> Option<Timestamp> {
        let text = self.scalar(key)?;
        let millis = text.parse::<u64>().ok().or_else(|| {
            let fraction: f64 = text.parse().ok()?;
            (fraction.is_finite() && fraction > 0.0).then_some(fraction as u64)
        });
        millis.map(Timestamp::from_millis).or_else(|| Timestamp::parse(&text))
    }

    /// The objects in an array, or the array's absence as none.
    fn objects(&self, key: &str) -> Vec<Fields<'a>> {
        let array: Option<Vec<&'a RawValue>> =
            self.0.get(key).and_then(|array| serde_json::from_str(array.get()).ok());
        array.unwrap_or_default().into_iter().filter_map(Fields::of).collect()
    }

    fn object(&self, key: &str) -> Option<Fields<'a>> {
        Fields::of(self.0.get(key)?)
    }

    /// `components[].data.text`, as far as there are any.
    fn texts(&self) -> Vec<String> {
        let components = self.objects("components");
        components.iter().filter_map(|component| component.object("data")?.text("text")).collect()
    }

    /// `tags.altText[].value`: what the user saw in place of the text.
    fn alternative_texts(&self) -> Vec<String> {
        let tags = self.object("tags");
        let tags = tags.iter().flat_map(|tags| tags.objects("altText"));
        tags.filter_map(|tag| tag.text("value")).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        events::{Speaker, plain_text, speaker},
        rtm::{frame::FrameHead, testing::bot},
    };

    fn record(json: &Value) -> Option<Record> {
        Record::parse(serde_json::value::to_raw_value(json).unwrap())
    }

    fn documented(which: usize) -> Value {
        let answer: Value = serde_json::from_str(include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/vectors/documented/botmessages-rtm.response.json"
        )))
        .unwrap();
        answer["messages"][which].clone()
    }

    fn frame(record: &Record) -> Value {
        serde_json::from_slice(&record.to_frame(&bot())).unwrap()
    }

    #[test]
    fn a_bots_record_becomes_a_bot_response() {
        let json = documented(1);
        let record = record(&json).unwrap();
        assert_eq!((record.direction, record.at.as_millis()), (Direction::Outgoing, 1_575_349_665_171));
        let frame = frame(&record);
        assert_eq!(frame["type"], "bot_response");
        assert_eq!((&frame["messageId"], &frame["from"]), (&json["_id"], &json!("bot")));
        assert_eq!((&frame["timestamp"], &frame["createdOn"]), (&json["timestampValue"], &json["createdOn"]));
        let text = "Please enter the text to comment on the issue";
        assert_eq!(frame["message"][0]["cInfo"]["body"], text);
        assert_eq!(frame["message"][0]["component"]["payload"]["text"], text);
        assert_eq!(frame["botInfo"], json!({"chatBot": "Support", "taskBotId": "st-1"}));
        assert_eq!(frame["historyRecord"], json);
        assert_eq!(record.text, text);
        let bytes = record.to_frame(&bot());
        assert_eq!(plain_text(&bytes).as_deref(), Some(text));
        assert_eq!(speaker(&FrameHead::parse(&bytes).unwrap()), Speaker::Bot);
        assert_eq!(frame.get("fromAgent").or(frame.get("author")), None);
    }

    #[test]
    fn a_users_record_becomes_a_user_message() {
        let mut json = documented(0);
        json["userMsgId"] = json!(1_466_692_440_896_u64);
        json["tags"]["altText"] = json!([{"name": "renderMsg", "value": "Hello"}]);
        let record = record(&json).unwrap();
        let frame = frame(&record);
        assert_eq!((&frame["type"], &frame["from"]), (&json!("user_message"), &json!("self")));
        assert_eq!(frame["message"], json!({"body": "Hi", "renderMsg": "Hello"}));
        assert_eq!((&frame["id"], &frame["messageId"]), (&json["userMsgId"], &json["_id"]));
        for text in ["Hi", "Hello", ""] {
            assert!(record.is_sent_as(Fingerprint::of(text.as_bytes())), "{text}");
        }
        assert!(!record.is_sent_as(Fingerprint::of(b"hi")));
    }

    #[test]
    fn an_agents_record_is_the_agents() {
        let mut json = documented(1);
        for (author, expected) in [
            (json!({"firstName": "Ann", "lastName": "Lee"}), Speaker::Agent),
            (json!({"type": "AGENT"}), Speaker::Agent),
            (json!({"type": "Bot", "firstName": "Support"}), Speaker::Bot),
            (json!({"firstName": " "}), Speaker::Bot),
            (json!("Ann"), Speaker::Bot),
        ] {
            json["author"] = author.clone();
            let record = record(&json).unwrap();
            let bytes = record.to_frame(&bot());
            assert_eq!(speaker(&FrameHead::parse(&bytes).unwrap()), expected, "{author}");
            let shown = (expected == Speaker::Agent).then_some(author);
            assert_eq!(frame(&record).get("author").cloned(), shown);
        }
    }

    #[test]
    fn a_template_is_one_again() {
        let payload = json!({"type": "template", "payload": {"template_type": "button", "text": "Choose."}});
        let mut json = documented(1);
        json["components"][0]["data"]["text"] = json!(payload.to_string());
        let record = record(&json).unwrap();
        assert_eq!(record.text, "Choose.");
        let component = &frame(&record)["message"][0]["component"];
        assert_eq!(component, &json!({"type": "template", "payload": payload}));
    }

    #[test]
    fn what_is_odd_is_taken_as_far_as_it_can_be_placed() {
        let minimal =
            record(&json!({"_id": "a", "type": "OUTGOING", "createdOn": "2026-01-01T00:00:00Z"})).unwrap();
        assert_eq!((minimal.text.as_str(), minimal.at.as_millis()), ("", 1_767_225_600_000));
        assert_eq!(frame(&minimal)["message"], json!([]));
        for time in [json!(17), json!(17.9), json!("17")] {
            let record = record(&json!({"_id": "a", "type": "incoming", "timestampValue": time})).unwrap();
            assert_eq!(record.at.as_millis(), 17, "{time}");
        }
        for unplaceable in [
            json!({"type": "incoming", "timestampValue": 17}),
            json!({"_id": "", "type": "incoming", "timestampValue": 17}),
            json!({"_id": "a", "timestampValue": 17}),
            json!({"_id": "a", "type": "sideways", "timestampValue": 17}),
            json!({"_id": "a", "type": "incoming", "timestampValue": "soon"}),
            json!([1]),
        ] {
            assert!(record(&unplaceable).is_none(), "{unplaceable}");
        }
    }
}
