//! A request as a receiver sees it.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde::Deserialize;

use crate::{
    clock::Timestamp,
    events::content,
    webhook::{SignatureError, SignatureHeaders, Signer, visible},
};

/// A request that was received, whoever sent it: nothing in it is trusted.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedEvent {
    /// `webhook-id`; empty if it had none.
    pub id: String,
    /// `bridge-user`; empty if it had none.
    pub user: String,
    /// `bridge-event`; empty if it had none.
    pub event_type: String,
    /// `bridge-attempt`, from 1.
    pub attempt: Option<u32>,
    /// The envelope's `sequence`.
    pub sequence: Option<u64>,
    /// The envelope's `text`, or that of a frame that came alone.
    pub text: Option<String>,
    /// The request's method: `POST` or `PUT`.
    pub method: Method,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, as it came.
    pub body: Bytes,
    /// What the signature is worth.
    pub signature: Verdict,
    /// When it was received.
    pub at: Timestamp,
    /// The status that it is answered with.
    pub answered: u16,
}

/// What a request's signature is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the bridge's.
    Verified,
    /// It is not, or not any more.
    Invalid(SignatureError),
    /// There is none.
    Missing,
    /// There is one, and no secret to check it with.
    Unchecked,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verified => f.write_str("signature verified"),
            Self::Invalid(why) => write!(f, "signature INVALID ({why})"),
            Self::Missing => f.write_str("no signature"),
            Self::Unchecked => f.write_str("signature not checked"),
        }
    }
}

impl ReceivedEvent {
    /// Reads a request.
    pub(super) fn read(headers: HeaderMap, body: Bytes, signer: &Signer, at: Timestamp) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let text = |name| header(name).unwrap_or_default().to_owned();
        let peek = Peek::at(&body, header(CONTENT_TYPE.as_str()).unwrap_or_default());
        let given = SignatureHeaders {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp"),
            signature: header("webhook-signature"),
        };
        Self {
            id: text("webhook-id"),
            user: text("bridge-user"),
            event_type: text("bridge-event"),
            attempt: header("bridge-attempt").and_then(|attempt| attempt.parse().ok()),
            sequence: peek.sequence,
            text: peek.text,
            signature: judge(given, &body, signer, at),
            at,
            answered: 0,
            method: Method::POST,
            headers,
            body,
        }
    }

    /// About how much memory it takes.
    pub(super) fn size(&self) -> usize {
        const HEADERS: usize = 1024;
        HEADERS + self.body.len() + self.text.as_ref().map_or(0, String::len)
    }
}

fn judge(given: SignatureHeaders<'_>, body: &[u8], signer: &Signer, now: Timestamp) -> Verdict {
    match given.signature {
        None => Verdict::Missing,
        Some(_) if signer.is_empty() => Verdict::Unchecked,
        Some(_) => match signer.verify(given, body, now) {
            Ok(()) => Verdict::Verified,
            Err(why) => Verdict::Invalid(why),
        },
    }
}

/// One line for people, without control characters: time, user, type, text, attempt, signature,
/// answer.
impl fmt::Display for ReceivedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 200;
        write!(f, "{}  {}  {}", self.at, Shown(&self.user), Shown(&self.event_type))?;
        if let Some(text) = &self.text {
            let cut: String = text.chars().take(LONGEST).collect();
            let more = if cut.len() < text.len() { "…" } else { "" };
            write!(f, "  \"{}{more}\"", visible(&cut))?;
        }
        if let Some(attempt) = self.attempt {
            write!(f, "  attempt {attempt}")?;
        }
        write!(f, "  {}  -> {}", self.signature, self.answered)
    }
}

/// A word from outside, a dash if there is none.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&if self.0.is_empty() { Cow::Borrowed("-") } else { Cow::Owned(visible(self.0)) })
    }
}

/// The few fields of a body that are shown, whatever its format.
#[derive(Debug, Default)]
struct Peek {
    sequence: Option<u64>,
    text: Option<String>,
}

impl Peek {
    fn at(body: &[u8], content_type: &str) -> Self {
        if content_type.starts_with("application/x-www-form-urlencoded") {
            return Self::at_form(body);
        }
        /// Only an envelope has `data`.
        #[derive(Deserialize)]
        struct Envelope {
            sequence: Option<u64>,
            text: Option<String>,
            #[serde(rename = "data")]
            _data: serde::de::IgnoredAny,
        }
        match serde_json::from_slice::<Envelope>(body) {
            Ok(envelope) => Self { sequence: envelope.sequence, text: envelope.text },
            Err(_) => Self { sequence: None, text: content(body).text },
        }
    }

    fn at_form(body: &[u8]) -> Self {
        let mut peek = Self::default();
        for (key, value) in url::form_urlencoded::parse(body) {
            match &*key {
                "sequence" => peek.sequence = value.parse().ok(),
                "text" => peek.text = Some(value.into_owned()),
                _ => {}
            }
        }
        peek
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn event() -> ReceivedEvent {
        ReceivedEvent::read(
            HeaderMap::new(),
            Bytes::from_static(br#"{"sequence":7,"text":"Hi\u001b[2J","data":{}}"#),
            &Signer::default(),
            Timestamp::parse("2026-01-01T00:00:00Z").unwrap(),
        )
    }

    #[test]
    fn a_line_shows_everything_and_escapes_what_came_from_outside() {
        let shown = ReceivedEvent {
            user: "alice\r\n".into(),
            event_type: "bot_response".into(),
            attempt: Some(2),
            signature: Verdict::Invalid(SignatureError::NoMatch),
            answered: 401,
            ..event()
        };
        insta::assert_snapshot!(shown, @r#"2026-01-01T00:00:00.000Z  alice\r\n  bot_response  "Hi\u{1b}[2J"  attempt 2  signature INVALID (no signature matches: another secret, or a body that was changed)  -> 401"#);
        insta::assert_snapshot!(event(), @r#"2026-01-01T00:00:00.000Z  -  -  "Hi\u{1b}[2J"  no signature  -> 0"#);
    }

    #[test]
    fn every_format_is_looked_into() {
        let frame = br#"{"type":"bot_response","message":[{"cInfo":{"body":"Hi"}}]}"#;
        let cases = [
            (&br#"{"sequence":7,"text":"Hi","data":{}}"#[..], "application/json", Some(7), Some("Hi")),
            (b"sequence=7&text=Hi&data=%7B%7D", "application/x-www-form-urlencoded", Some(7), Some("Hi")),
            (frame, "application/json", None, Some("Hi")),
            (b"\xff", "", None, None),
        ];
        for (body, content_type, sequence, text) in cases {
            let peek = Peek::at(body, content_type);
            assert_eq!((peek.sequence, peek.text.as_deref()), (sequence, text), "{content_type}");
        }
    }
}
