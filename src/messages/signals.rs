//! What the user's side lets an agent or the platform know beside words: that somebody is typing, has seen a
//! message, ends the agent's session or the whole conversation.
//!
//! Each is a frame that is sent once and awaits no ack. Callers name it by its route, with a small body or none.

use super::{
    ClientMessageId, Draft, DraftAndId, DraftError, Expectation,
    draft::{draft, given_id},
    json::{self, Value},
    urlencoded,
};
use crate::suggest::{closest, quoted};

/// What is signalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserSignal {
    /// The user types, or doesn't any more.
    Typing,
    /// The user got or read a message.
    Receipt,
    /// The user ends the session with the agent.
    CloseAgentSession,
    /// The user ends the conversation.
    CloseSession,
}

/// Why a body is none of a signal's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// It breaks the rules of all bodies.
    #[error(transparent)]
    Body(#[from] DraftError),
    /// It has a key that means nothing here.
    #[error("the key {} is unknown{}", quoted(.key), hint(*.meant, .known))]
    UnknownKey {
        /// The key.
        key: String,
        /// What was probably meant.
        meant: Option<&'static str>,
        /// What there is.
        known: &'static [&'static str],
    },
    /// A key that has to be there is not.
    #[error("the key {key:?} is missing: {wanted}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What it has to be.
        wanted: &'static str,
    },
    /// A value is none of those that can be.
    #[error("{key:?} must be {wanted}, and is {}", quoted(.given))]
    BadValue {
        /// The key.
        key: &'static str,
        /// What it must be.
        wanted: &'static str,
        /// What it is.
        given: String,
    },
}

fn hint(meant: Option<&str>, known: &[&str]) -> String {
    match meant {
        Some(meant) => format!("; did you mean {meant:?}?"),
        None => format!("; the keys are {}", known.join(", ")),
    }
}

impl SignalError {
    /// The key at fault, if one is.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Body(error) => error.key(),
            Self::UnknownKey { key, .. } => Some(key),
            Self::Missing { key, .. } | Self::BadValue { key, .. } => Some(key),
        }
    }
}

/// Longer ids of the platform's are none.
const MOST_ID: usize = 256;
const AN_ID: &str = "the messageId of an event, 1 to 256 characters";

/// What a caller gave.
#[derive(Debug, Default)]
struct Given {
    state: Option<String>,
    message_id: Option<String>,
    agent_message_id: Option<String>,
    id: Option<ClientMessageId>,
}

impl UserSignal {
    /// The keys that its body may have.
    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Typing => &["state", "clientMessageId"],
            Self::Receipt => &["state", "messageId", "agentMessageId", "clientMessageId"],
            Self::CloseAgentSession | Self::CloseSession => &["clientMessageId"],
        }
    }

    /// Without a body.
    pub fn from_nothing(self) -> Result<DraftAndId, SignalError> {
        self.draft(Given::default())
    }

    /// Reads `application/json`.
    pub fn from_json(self, body: &[u8]) -> Result<DraftAndId, SignalError> {
        let text = std::str::from_utf8(body).map_err(|_| DraftError::NotUtf8)?;
        let value = json::parse(text, 0).map_err(|error| DraftError::of_json(error, None))?;
        let members = value.as_object().ok_or(DraftError::NotAnObject(value.kind()))?;
        let mut given = Given::default();
        for (key, value) in members {
            let key = self.key(key)?;
            if key == "clientMessageId" {
                given.id = Some(given_id(value)?);
            } else {
                given.set(key, text_of(key, value)?);
            }
        }
        self.draft(given)
    }

    /// Reads `application/x-www-form-urlencoded`.
    pub fn from_form(self, body: &[u8]) -> Result<DraftAndId, SignalError> {
        let (mut given, mut seen) = (Given::default(), Vec::new());
        for (key, text) in urlencoded::parse(body).map_err(DraftError::NotAForm)? {
            let key = self.key(&key)?;
            if seen.contains(&key) {
                return Err(DraftError::DuplicateKey(key.to_owned()).into());
            }
            seen.push(key);
            if key == "clientMessageId" {
                given.id = Some(text.parse().map_err(|_| DraftError::BadId)?);
            } else {
                given.set(key, text);
            }
        }
        self.draft(given)
    }

    fn key(self, key: &str) -> Result<&'static str, SignalError> {
        let known = self.keys();
        known.iter().copied().find(|one| *one == key).ok_or_else(|| SignalError::UnknownKey {
            key: key.to_owned(),
            meant: closest(key, known.iter().copied()),
            known,
        })
    }

    fn draft(self, given: Given) -> Result<DraftAndId, SignalError> {
        let id = given.id;
        let fields = match self {
            Self::Typing => event(given.state_among([("start", "typing"), ("stop", "stop_typing")])?, ""),
            Self::Receipt => {
                let states = [("read", "message_read"), ("delivered", "message_delivered")];
                let state = given.state_among(states)?;
                let Given { message_id, agent_message_id, .. } = given;
                let message_id =
                    message_id.ok_or(SignalError::Missing { key: "messageId", wanted: AN_ID })?;
                let mut ids = format!(r#","messageId":{}"#, id_json("messageId", message_id)?);
                if let Some(id) = agent_message_id {
                    ids.push_str(&format!(r#","agent_MessageId":{}"#, id_json("agentMessageId", id)?));
                }
                event(state, &ids)
            }
            Self::CloseAgentSession => event("close_agent_chat", ""),
            Self::CloseSession => r#"{"resourceid":"/bot.closeConversationSession"}"#.to_owned(),
        };
        let draft: Draft = draft(fields, None, Expectation::Nothing, "");
        Ok((draft, id))
    }
}

impl Given {
    fn set(&mut self, key: &str, text: String) {
        match key {
            "state" => self.state = Some(text),
            "messageId" => self.message_id = Some(text),
            _ => self.agent_message_id = Some(text),
        }
    }

    /// The event that the state stands for; that of the first one, where none is given.
    fn state_among(&self, [first, second]: [(&str, &'static str); 2]) -> Result<&'static str, SignalError> {
        match self.state.as_deref() {
            None => Ok(first.1),
            Some(state) if state == first.0 => Ok(first.1),
            Some(state) if state == second.0 => Ok(second.1),
            Some(other) => Err(SignalError::BadValue {
                key: "state",
                wanted: if first.0 == "start" { "start or stop" } else { "delivered or read" },
                given: other.to_owned(),
            }),
        }
    }
}

fn text_of(key: &'static str, value: &Value<'_>) -> Result<String, DraftError> {
    let wrong = || DraftError::WrongType { key, wanted: "a string", found: value.kind() };
    value.as_text().map(str::to_owned).ok_or_else(wrong)
}

fn id_json(key: &'static str, id: String) -> Result<String, SignalError> {
    let is_one = (1..=MOST_ID).contains(&id.chars().count()) && !id.chars().any(char::is_control);
    if is_one { Ok(json::quote(&id)) } else { Err(SignalError::BadValue { key, wanted: AN_ID, given: id }) }
}

/// A `/bot.message` that is an event, as the official clients write it.
fn event(name: &str, more: &str) -> String {
    format!(r#"{{"resourceid":"/bot.message","event":"{name}","message":{{"body":"","type":""}}{more}}}"#)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fields(read: Result<DraftAndId, SignalError>) -> Value {
        let (draft, _) = read.unwrap();
        assert_eq!(draft.expectation, Expectation::Nothing);
        serde_json::from_slice(&draft.content.fields).unwrap()
    }

    fn event(name: &str) -> Value {
        json!({"resourceid": "/bot.message", "event": name, "message": {"body": "", "type": ""}})
    }

    #[test]
    fn each_is_the_frame_of_the_official_clients() {
        use UserSignal::{CloseAgentSession, CloseSession, Receipt, Typing};
        assert_eq!(fields(Typing.from_nothing()), event("typing"));
        assert_eq!(fields(Typing.from_form(b"")), event("typing"));
        assert_eq!(fields(Typing.from_form(b"state=stop")), event("stop_typing"));
        assert_eq!(fields(Typing.from_json(br#"{"state":"start"}"#)), event("typing"));
        let mut read = event("message_read");
        read["messageId"] = json!("ms-\"1\"");
        assert_eq!(fields(Receipt.from_json(br#"{"messageId":"ms-\"1\""}"#)), read);
        let delivered = Receipt.from_form(b"state=delivered&messageId=ms-1&agentMessageId=am-1");
        let expected = json!({"resourceid": "/bot.message", "event": "message_delivered",
            "message": {"body": "", "type": ""}, "messageId": "ms-1", "agent_MessageId": "am-1"});
        assert_eq!(fields(delivered), expected);
        assert_eq!(fields(CloseAgentSession.from_json(b"{}")), event("close_agent_chat"));
        let close = json!({"resourceid": "/bot.closeConversationSession"});
        assert_eq!(fields(CloseSession.from_nothing()), close);
        let (_, id) = CloseSession.from_json(br#"{"clientMessageId":7}"#).unwrap();
        assert_eq!(id, ClientMessageId::new(7).ok());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = format!("messageId={}", "x".repeat(MOST_ID + 1));
        for (signal, form, key) in [
            (UserSignal::Typing, "state=begin", "state"),
            (UserSignal::Typing, "state=", "state"),
            (UserSignal::Typing, "stat=start", "stat"),
            (UserSignal::Receipt, "", "messageId"),
            (UserSignal::Receipt, "messageId=", "messageId"),
            (UserSignal::Receipt, "messageId=a%0ab", "messageId"),
            (UserSignal::Receipt, &long, "messageId"),
            (UserSignal::Receipt, "messageId=a&state=seen", "state"),
            (UserSignal::Receipt, "messageId=a&messageId=a", "messageId"),
            (UserSignal::CloseAgentSession, "state=start", "state"),
            (UserSignal::CloseSession, "clientMessageId=0", "clientMessageId"),
        ] {
            let error = signal.from_form(form.as_bytes()).unwrap_err();
            assert_eq!(error.key(), Some(key), "{form}: {error}");
        }
        let error = UserSignal::Typing.from_json(br#"{"state":true}"#).unwrap_err();
        assert_eq!(error.to_string(), "\"state\" must be a string, and is a boolean");
        let error = UserSignal::Typing.from_form(b"stat=start").unwrap_err();
        assert!(error.to_string().ends_with("did you mean \"state\"?"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn no_body_makes_it_panic(body: Vec<u8>) {
            let _ = (UserSignal::Receipt.from_json(&body), UserSignal::Receipt.from_form(&body));
        }
    }
}
