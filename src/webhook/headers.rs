//! The headers of an attempt: those of all attempts, and its own.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut as _, BytesMut};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};

use super::{Delivery, SenderProblem, Signer, client::authority};
use crate::{
    config::{Webhook, WebhookAuth},
    events::event_type_label,
    trace::{TRACEPARENT, TRACESTATE, TraceContext},
};

/// The most that an attempt's id, timestamp, number and length take: `evt_` and 24 digits, and 20, 10 and 20 digits.
const OWN_VALUES: usize = 28 + 20 + 10 + 20;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const BRIDGE_USER: HeaderName = HeaderName::from_static("bridge-user");
const BRIDGE_EVENT: HeaderName = HeaderName::from_static("bridge-event");
const BRIDGE_ATTEMPT: HeaderName = HeaderName::from_static("bridge-attempt");

/// What the headers of a webhook's attempts are made with.
#[derive(Debug)]
pub(super) struct Headers {
    /// In their order.
    all: Vec<Header>,
    signer: Signer,
}

/// A header that every attempt has.
#[derive(Debug)]
struct Header {
    name: HeaderName,
    value: Value,
}

/// What a header says.
#[derive(Debug)]
enum Value {
    /// The same in every attempt.
    Fixed(HeaderValue),
    /// One of the attempt's own.
    Own(Own),
}

/// The headers that say something else in each attempt.
#[derive(Debug, Clone, Copy)]
enum Own {
    ContentType,
    ContentLength,
    WebhookId,
    WebhookTimestamp,
    WebhookSignature,
    BridgeUser,
    BridgeEvent,
    BridgeAttempt,
}

impl Header {
    fn fixed(name: &HeaderName, value: &HeaderValue) -> Self {
        Self { name: name.clone(), value: Value::Fixed(value.clone()) }
    }

    fn own(name: HeaderName, which: Own) -> Self {
        Self { name, value: Value::Own(which) }
    }
}

impl Headers {
    /// Prepares those of this webhook's attempts.
    pub(super) fn new(settings: &Webhook) -> Result<Self, SenderProblem> {
        let signer = Signer::new(&settings.secrets);
        Ok(Self { all: headers(settings, &signer)?, signer })
    }

    /// Those of an attempt: a function of the delivery alone. They are put into `room`, which is empty.
    pub(super) fn of(&self, delivery: &Delivery, room: HeaderMap) -> HeaderMap {
        let mut own = OwnValues::new(delivery, &self.signer);
        let mut headers = room;
        for Header { name, value } in &self.all {
            let value = match value {
                Value::Fixed(value) => value.clone(),
                Value::Own(which) => own.value(*which),
            };
            headers.append(name, value);
        }
        if let Some(trace) = &delivery.trace {
            insert_trace(&mut headers, trace);
        }
        headers
    }
}

/// The values of an attempt's own headers, all in one piece of memory.
struct OwnValues<'a> {
    delivery: &'a Delivery,
    signer: &'a Signer,
    id: HeaderValue,
    timestamp: HeaderValue,
    room: BytesMut,
}

impl<'a> OwnValues<'a> {
    fn new(delivery: &'a Delivery, signer: &'a Signer) -> Self {
        let event = &delivery.event;
        let size = OWN_VALUES
            + signer.header_size()
            + event.user.as_str().len()
            + event_type_label(&event.kind).len();
        let mut room = BytesMut::with_capacity(size);
        write!(room, "{}", event.id).expect("writing to memory can't fail");
        let id = cut(&mut room);
        let timestamp = number(&mut room, delivery.at.as_secs());
        Self { delivery, signer, id, timestamp, room }
    }

    fn value(&mut self, which: Own) -> HeaderValue {
        let Delivery { event, attempt, body, .. } = self.delivery;
        match which {
            Own::ContentType => body.content_type.clone(),
            Own::ContentLength => number(&mut self.room, body.bytes.len()),
            Own::WebhookId => self.id.clone(),
            Own::WebhookTimestamp => self.timestamp.clone(),
            Own::WebhookSignature => {
                let (id, timestamp) = (self.id.as_bytes(), self.timestamp.as_bytes());
                self.signer.sign_into(&mut self.room, id, timestamp, &body.bytes);
                cut(&mut self.room)
            }
            Own::BridgeUser => text(&mut self.room, event.user.as_str()),
            Own::BridgeEvent => text(&mut self.room, event_type_label(&event.kind)),
            Own::BridgeAttempt => number(&mut self.room, *attempt),
        }
    }
}

/// The two go together: a state of the settings' own is none of this trace.
fn insert_trace(headers: &mut HeaderMap, trace: &TraceContext) {
    const PLAIN: &str = "a trace's ids and its state are plain ASCII";
    headers.insert(TRACEPARENT, HeaderValue::try_from(trace.traceparent()).expect(PLAIN));
    match trace.tracestate() {
        Some(state) => headers.insert(TRACESTATE, HeaderValue::from_str(state).expect(PLAIN)),
        None => headers.remove(TRACESTATE),
    };
}

fn text(room: &mut BytesMut, text: &str) -> HeaderValue {
    room.put_slice(text.as_bytes());
    cut(room)
}

fn number(room: &mut BytesMut, number: impl itoa::Integer) -> HeaderValue {
    text(room, itoa::Buffer::new().format(number))
}

/// Makes a header's value of what was written since the last one; they share one piece of memory.
fn cut(values: &mut BytesMut) -> HeaderValue {
    HeaderValue::from_maybe_shared(values.split().freeze())
        .expect("ids, numbers, names, labels and base64 are plain ASCII")
}

/// Whether a header is the bridge's own, so that a webhook's settings can't have it.
pub fn is_reserved_header(name: &str) -> bool {
    const FRAMING: [&str; 8] = [
        "connection",
        "content-length",
        "content-type",
        "expect",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let name = name.to_ascii_lowercase();
    name.starts_with("webhook-") || name.starts_with("bridge-") || FRAMING.contains(&&*name)
}

/// All headers of an attempt, in their order.
fn headers(settings: &Webhook, signer: &Signer) -> Result<Vec<Header>, SenderProblem> {
    let asked = fixed_headers(settings)?;
    let host = HeaderValue::from_str(authority(&settings.url)).map_err(|_| SenderProblem::Url)?;
    let unless_asked =
        |name: HeaderName, value| (!asked.contains_key(&name)).then(|| Header::fixed(&name, &value));
    let signature = (!signer.is_empty()).then(|| Header::own(WEBHOOK_SIGNATURE, Own::WebhookSignature));
    let mut headers: Vec<_> = asked.iter().map(|(name, value)| Header::fixed(name, value)).collect();
    headers.push(Header::own(CONTENT_TYPE, Own::ContentType));
    headers.push(Header::own(WEBHOOK_TIMESTAMP, Own::WebhookTimestamp));
    headers.extend(signature);
    headers.push(Header::own(WEBHOOK_ID, Own::WebhookId));
    headers.push(Header::own(BRIDGE_USER, Own::BridgeUser));
    headers.push(Header::own(BRIDGE_EVENT, Own::BridgeEvent));
    headers.push(Header::own(BRIDGE_ATTEMPT, Own::BridgeAttempt));
    headers.extend(unless_asked(ACCEPT, HeaderValue::from_static("*/*")));
    headers.extend(unless_asked(HOST, host));
    headers.push(Header::own(CONTENT_LENGTH, Own::ContentLength));
    Ok(headers)
}

/// The headers that the settings ask for.
fn fixed_headers(settings: &Webhook) -> Result<HeaderMap, SenderProblem> {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("rtm-bridge/", env!("CARGO_PKG_VERSION"))));
    for (name, value) in &settings.headers {
        if is_reserved_header(name) {
            return Err(SenderProblem::ReservedHeader(name.clone()));
        }
        let invalid = || SenderProblem::InvalidHeader(name.clone());
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        headers.insert(header, sensitive(value.expose()).ok_or_else(invalid)?);
    }
    let authorization = match &settings.auth {
        WebhookAuth::None => return Ok(headers),
        WebhookAuth::Bearer(token) => format!("Bearer {}", token.expose()),
        WebhookAuth::Basic { user, password } => {
            format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose())))
        }
    };
    let value = sensitive(&authorization).ok_or(SenderProblem::InvalidToken)?;
    match headers.insert(AUTHORIZATION, value) {
        None => Ok(headers),
        Some(_) => Err(SenderProblem::TwoAuthorizations),
    }
}

/// A header value that no `Debug` shows.
fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
