//! The table of all kinds of records: how each is read for an export, and written by an import.
//!
//! **A new kind is one entry in [`KINDS`]**; a test compares the table with `keys::kind`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sled::IVec;

use super::super::{
    DeadLetter, LaneRecord, ReplayMark, StoreError, UserNumber, WebhookRecord, keys,
    messages::CHOSEN_UP_TO,
    payload::{PayloadId, Payloads},
    recent::{RECENT_BYTES, RECENT_FLOOR},
    records::{
        AcceptedRecord, BodyPlace, EventRecord, IdempotencyRecord, JournalRecord, QueueRecord, UserRecordV1,
        decode_with, encode_with,
    },
};
use crate::{
    events::AgentRecord,
    letters::History,
    messages::{MessageNumber, MessageRecord},
    trace::TraceContext,
};

/// A kind of record.
pub(super) struct Kind {
    pub byte: u8,
    /// What an export calls it.
    pub word: &'static str,
    /// What its keys consist of, behind the first byte.
    key: &'static [Part],
    form: Form,
}

/// A part of a key; numbers are big-endian.
enum Part {
    U8(&'static str),
    U32(&'static str),
    U64(&'static str),
    /// In hexadecimal digits.
    Fingerprint(&'static str),
    /// The rest.
    Text(&'static str),
}

type Read = fn(&[u8]) -> Result<(Value, usize), StoreError>;
type Write = fn(Value, &[u8]) -> Result<Vec<u8>, serde_json::Error>;

/// What its values consist of.
enum Form {
    /// A big-endian number.
    U32,
    U64,
    /// Bytes as they are.
    Bytes,
    Record {
        /// The fields, and where the body starts.
        read: Read,
        write: Write,
        body: Body,
        /// Fields that no export shows.
        secret: &'static [&'static str],
    },
}

/// Whether a record has a body.
enum Body {
    None,
    /// Behind the fields, or in the payload file of this id.
    Somewhere(fn(&[u8]) -> Option<PayloadId>),
    /// In the payload file of this id, or in a record of its own.
    Apart(fn(&[u8], &Value) -> Option<PayloadId>),
}

/// One record of an export.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub kind: String,
    pub key: Map<String, Value>,
    pub fields: Value,
    /// The body, where it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The body, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

impl Line {
    fn set_body(&mut self, body: Vec<u8>) {
        match String::from_utf8(body) {
            Ok(text) => self.text = Some(text),
            Err(bytes) => self.base64 = Some(STANDARD.encode(bytes.as_bytes())),
        }
    }
}

/// A record as the database has it, and its payload file.
pub(super) struct Stored {
    pub key: IVec,
    pub value: Vec<u8>,
    pub payload: Option<(PayloadId, Vec<u8>)>,
}

/// The field that tells where a body is: an import decides anew.
const BODY_PLACE: &str = "body";

macro_rules! record {
    ($record:ty, $body:expr, $secret:expr) => {
        Form::Record {
            read: |bytes| {
                let (record, body) = decode_with::<$record>(<$record>::VERSION, "stored", bytes)?;
                let fields =
                    serde_json::to_value(record).map_err(|e| StoreError::Unreadable(e.to_string()))?;
                Ok((fields, body))
            },
            write: |fields, body| {
                let record: $record = serde_json::from_value(fields)?;
                Ok(encode_with(<$record>::VERSION, &record, body))
            },
            body: $body,
            secret: $secret,
        }
    };
    ($record:ty) => {
        record!($record, Body::None, &[])
    };
}

/// Every kind.
pub(super) static KINDS: &[Kind] = &[
    Kind { byte: keys::kind::META, word: "meta", key: &[Part::Text("name")], form: Form::U64 },
    Kind {
        byte: keys::kind::NAME,
        word: "name",
        key: &[Part::U8("of"), Part::Text("name")],
        form: Form::U32,
    },
    // Access tokens are granted anew.
    Kind {
        byte: keys::kind::USER,
        word: "user",
        key: &[Part::U32("user")],
        form: record!(UserRecordV1, Body::None, &["access"]),
    },
    Kind {
        byte: keys::kind::WEBHOOK,
        word: "webhook",
        key: &[Part::U32("webhook")],
        form: record!(WebhookRecord),
    },
    Kind { byte: keys::kind::IDENTITY, word: "identity", key: &[Part::U32("user")], form: Form::Bytes },
    Kind {
        byte: keys::kind::MESSAGE,
        word: "message",
        key: &[Part::U32("user"), Part::U64("id")],
        form: record!(MessageRecord),
    },
    Kind {
        byte: keys::kind::QUEUE,
        word: "queue",
        key: &[Part::U32("user"), Part::U64("number")],
        form: record!(
            QueueRecord,
            Body::Somewhere(|key| {
                let number = MessageNumber(keys::trailing_u64(key)?);
                Some(PayloadId::Message(UserNumber(keys::leading_u32(key)?), number))
            }),
            &[]
        ),
    },
    Kind {
        byte: keys::kind::ACCEPTED,
        word: "accepted",
        key: &[Part::U64("first")],
        form: record!(AcceptedRecord),
    },
    Kind {
        byte: keys::kind::IDEMPOTENCY,
        word: "idempotency",
        key: &[Part::U32("client"), Part::U32("user"), Part::Fingerprint("key")],
        form: record!(IdempotencyRecord),
    },
    Kind {
        byte: keys::kind::TRACE,
        word: "trace",
        key: &[Part::U32("user"), Part::U64("id")],
        form: record!(TraceContext),
    },
    Kind {
        byte: keys::kind::EVENT,
        word: "event",
        key: &[Part::U32("user"), Part::U64("number")],
        form: record!(
            EventRecord,
            Body::Somewhere(|key| {
                Some(PayloadId::Event(UserNumber(keys::leading_u32(key)?), keys::trailing_u64(key)?))
            }),
            &[]
        ),
    },
    Kind {
        byte: keys::kind::LANE,
        word: "lane",
        key: &[Part::U32("webhook"), Part::U32("user")],
        form: record!(LaneRecord),
    },
    Kind {
        byte: keys::kind::JOURNAL,
        word: "journal",
        key: &[Part::U64("first")],
        form: Form::Record {
            read: |bytes| {
                let fields = serde_json::to_value(JournalRecord::read(bytes)?);
                Ok((fields.map_err(|error| StoreError::Unreadable(error.to_string()))?, bytes.len()))
            },
            write: |fields, body| {
                let record: JournalRecord = serde_json::from_value(fields)?;
                Ok(encode_with(JournalRecord::VERSION, &record, body))
            },
            body: Body::None,
            secret: &[],
        },
    },
    Kind { byte: keys::kind::AGENTS, word: "agents", key: &[Part::U32("user")], form: record!(AgentRecord) },
    Kind { byte: keys::kind::STREAMS, word: "streams", key: &[Part::U32("user")], form: Form::U64 },
    Kind {
        byte: keys::kind::DEAD,
        word: "dead_letter",
        key: &[Part::U64("id")],
        form: record!(DeadLetter, Body::Apart(file_of_dead_letter), &[]),
    },
    Kind {
        byte: keys::kind::DEAD_FRAME,
        word: "dead_letter_frame",
        key: &[Part::U64("id")],
        form: Form::Bytes,
    },
    Kind {
        byte: keys::kind::HISTORY,
        word: "attempts",
        key: &[Part::U32("user"), Part::U64("id")],
        form: record!(History),
    },
    Kind {
        byte: keys::kind::REPLAY,
        word: "replay",
        key: &[Part::U32("webhook"), Part::U32("user"), Part::U64("id")],
        form: record!(ReplayMark),
    },
    Kind {
        byte: keys::kind::TEMPLATE,
        word: "template_part",
        key: &[Part::Fingerprint("template"), Part::U8("part")],
        form: Form::Bytes,
    },
];

/// The file of a dead letter's frame, where that is too long for a record.
fn file_of_dead_letter(key: &[u8], fields: &Value) -> Option<PayloadId> {
    let length = usize::try_from(fields["frame_length"].as_u64()?).ok()?;
    let is_file = BodyPlace::of(length) == BodyPlace::File;
    keys::trailing_u64(key).filter(|_| is_file).map(PayloadId::DeadLetter)
}

/// Meta records that an export carries. The others say of a store what is its own, or are in the
/// export's head.
const CARRIED: &[&str] = &[CHOSEN_UP_TO, RECENT_BYTES, RECENT_FLOOR];

impl Kind {
    /// The kind of this word.
    pub(super) fn of_word(word: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.word == word)
    }

    /// Whether an export carries the record of this key.
    pub(super) fn is_carried(&self, key: &[u8]) -> bool {
        self.byte != keys::kind::META || CARRIED.iter().any(|name| key[1..] == *name.as_bytes())
    }

    /// A record as an export has it.
    pub(super) fn read(&self, key: &[u8], value: &[u8], payloads: &Payloads) -> Result<Line, StoreError> {
        let damaged = || StoreError::Unreadable("its value is not a number".to_owned());
        let fields = self.read_key(key)?;
        let mut line =
            Line { kind: self.word.to_owned(), key: fields, fields: Value::Null, text: None, base64: None };
        match &self.form {
            Form::U32 => {
                line.fields =
                    <[u8; 4]>::try_from(value).map(u32::from_be_bytes).map_err(|_| damaged())?.into();
            }
            Form::U64 => {
                line.fields =
                    <[u8; 8]>::try_from(value).map(u64::from_be_bytes).map_err(|_| damaged())?.into();
            }
            Form::Bytes => line.set_body(value.to_vec()),
            Form::Record { read, body, secret, .. } => {
                let (mut fields, start) = read(value)?;
                for name in *secret {
                    fields[*name] = Value::Null;
                }
                if let (Body::Somewhere(payload), Value::Object(fields)) = (body, &mut fields) {
                    let is_file = fields.remove(BODY_PLACE) == serde_json::to_value(BodyPlace::File).ok();
                    let body = match (is_file, payload(key)) {
                        (false, _) => value[start..].to_vec(),
                        (true, Some(id)) => payloads.read(id)?,
                        (true, None) => return Err(StoreError::Unreadable("its key is damaged".to_owned())),
                    };
                    line.set_body(body);
                } else if let Body::Apart(payload) = body
                    && let Some(id) = payload(key, &fields)
                {
                    line.set_body(payloads.read(id)?);
                }
                line.fields = fields;
            }
        }
        Ok(line)
    }

    /// The record that a line of an export stands for.
    pub(super) fn write(&self, line: Line) -> Result<Stored, String> {
        let key = self.write_key(&line.key)?;
        let body = match (line.text, line.base64) {
            (Some(text), None) => Some(text.into_bytes()),
            (None, Some(base64)) => Some(STANDARD.decode(base64).map_err(|error| error.to_string())?),
            (None, None) => None,
            (Some(_), Some(_)) => return Err("it has two bodies".to_owned()),
        };
        let mut payload = None;
        let value = match (&self.form, body) {
            (Form::U32, None) => number(&line.fields)?.to_be_bytes()[4..].to_vec(),
            (Form::U64, None) => number(&line.fields)?.to_be_bytes().to_vec(),
            (Form::Record { write, body: Body::None, .. }, None) => {
                write(line.fields, &[]).map_err(|error| error.to_string())?
            }
            (Form::Record { write, body: Body::Somewhere(id), .. }, Some(body)) => {
                let place = BodyPlace::of(body.len());
                let mut fields = line.fields;
                fields[BODY_PLACE] = serde_json::to_value(place).map_err(|error| error.to_string())?;
                let inline: &[u8] = if place == BodyPlace::Inline { &body } else { &[] };
                let value = write(fields, inline).map_err(|error| error.to_string())?;
                if place == BodyPlace::File {
                    payload = Some((id(&key).ok_or("its key is too short")?, body));
                }
                value
            }
            (Form::Bytes, Some(body)) => body,
            (Form::Record { write, body: Body::Apart(id), .. }, body) => {
                payload = match (id(&key, &line.fields), body) {
                    (Some(id), Some(body)) => Some((id, body)),
                    (None, None) => None,
                    (Some(_), None) => return Err("it has no body".to_owned()),
                    (None, Some(_)) => return Err("it has a body, which has a record of its own".to_owned()),
                };
                write(line.fields, &[]).map_err(|error| error.to_string())?
            }
            (Form::Bytes | Form::Record { body: Body::Somewhere(_), .. }, None) => {
                return Err("it has no body".to_owned());
            }
            (_, Some(_)) => return Err("it has a body, which its kind has not".to_owned()),
        };
        Ok(Stored { key: IVec::from(key), value, payload })
    }

    fn read_key(&self, key: &[u8]) -> Result<Map<String, Value>, StoreError> {
        let damaged = || StoreError::Unreadable(format!("a key of a {} record is damaged", self.word));
        let mut rest = key.get(1..).ok_or_else(damaged)?;
        let mut fields = Map::new();
        for part in self.key {
            let length = part.length().unwrap_or(rest.len());
            let (bytes, behind) = rest.split_at_checked(length).ok_or_else(damaged)?;
            rest = behind;
            let (name, value) = part.read(bytes).ok_or_else(damaged)?;
            fields.insert(name.to_owned(), value);
        }
        if rest.is_empty() { Ok(fields) } else { Err(damaged()) }
    }

    fn write_key(&self, fields: &Map<String, Value>) -> Result<Vec<u8>, String> {
        let mut key = vec![self.byte];
        for part in self.key {
            part.write(fields, &mut key)?;
        }
        if fields.len() == self.key.len() { Ok(key) } else { Err("its key has unknown fields".to_owned()) }
    }
}

impl Part {
    fn name(&self) -> &'static str {
        let (Self::U8(name) | Self::U32(name) | Self::U64(name) | Self::Fingerprint(name) | Self::Text(name)) =
            self;
        name
    }

    /// In bytes; none for the rest.
    fn length(&self) -> Option<usize> {
        match self {
            Self::U8(_) => Some(1),
            Self::U32(_) => Some(4),
            Self::U64(_) => Some(8),
            Self::Fingerprint(_) => Some(16),
            Self::Text(_) => None,
        }
    }

    fn read(&self, bytes: &[u8]) -> Option<(&'static str, Value)> {
        let value = match self {
            Self::U8(_) | Self::U32(_) | Self::U64(_) => {
                bytes.iter().fold(0u64, |number, byte| (number << 8) | u64::from(*byte)).into()
            }
            Self::Fingerprint(_) => format!("{:032x}", u128::from_be_bytes(bytes.try_into().ok()?)).into(),
            Self::Text(_) => std::str::from_utf8(bytes).ok()?.into(),
        };
        Some((self.name(), value))
    }

    fn write(&self, fields: &Map<String, Value>, key: &mut Vec<u8>) -> Result<(), String> {
        let name = self.name();
        let value = fields.get(name).ok_or_else(|| format!("its key has no {name}"))?;
        let wrong = || format!("{name} of its key is wrong");
        match self {
            Self::U8(_) | Self::U32(_) | Self::U64(_) => {
                let (bytes, length) = (number(value)?.to_be_bytes(), self.length().unwrap_or(8));
                let (zeros, digits) = bytes.split_at(8 - length);
                if zeros.iter().any(|byte| *byte != 0) {
                    return Err(wrong());
                }
                key.extend(digits);
            }
            Self::Fingerprint(_) => {
                let digits = value.as_str().filter(|digits| digits.len() == 32).ok_or_else(wrong)?;
                key.extend(u128::from_str_radix(digits, 16).map_err(|_| wrong())?.to_be_bytes());
            }
            Self::Text(_) => key.extend(value.as_str().ok_or_else(wrong)?.as_bytes()),
        }
        Ok(())
    }
}

fn number(value: &Value) -> Result<u64, String> {
    value.as_u64().ok_or_else(|| "it has something else where a number belongs".to_owned())
}
