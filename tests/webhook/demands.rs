//! Receivers that demand something of a request, and take none without it.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
};
use rtm_bridge::{
    config::{PlainFormat, Secret, Webhook, WebhookAuth},
    events::{Body, Event, EventId, Source, Speaker},
    names::{BotName, UserName},
    webhook::{Delivery, Outcome, RetryCause},
};
use url::Url;

use crate::support::{delivery, sender, settings};

/// What a receiver lets in.
type Demand = Arc<dyn Fn(&HeaderMap, &[u8]) -> bool + Send + Sync>;

/// A receiver that answers 204 to what it lets in, and with `refusal` to the rest.
async fn demanding(refusal: StatusCode, demand: Demand) -> Url {
    let answer = move |headers: HeaderMap, body: Bytes| async move {
        if demand(&headers, &body) { StatusCode::NO_CONTENT } else { refusal }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/hook", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async { axum::serve(listener, Router::new().fallback(answer)).await });
    url
}

fn has(name: &'static str, value: &'static str) -> Demand {
    Arc::new(move |headers, _| {
        let mut values = headers.get_all(name).iter();
        values.next().is_some_and(|given| given == value) && values.next().is_none()
    })
}

fn secret(text: &str) -> Secret {
    Secret::new(text)
}

#[tokio::test]
async fn credentials_and_headers_open_what_is_closed_without_them() {
    type Change = fn(&mut Webhook);
    let demands: [(Demand, Change, Change); 5] = [
        (
            has("authorization", "Bearer t0k3n"),
            |webhook| webhook.auth = WebhookAuth::Bearer(secret("t0k3n")),
            |webhook| webhook.auth = WebhookAuth::Bearer(secret("other")),
        ),
        (
            has("authorization", "Basic Y3JtOsOkIHBhc3M6d29yZA=="),
            |webhook| {
                webhook.auth = WebhookAuth::Basic { user: "crm".into(), password: secret("ä pass:word") }
            },
            |webhook| webhook.auth = WebhookAuth::Basic { user: "crm".into(), password: secret("ä pass") },
        ),
        (
            has("x-api-key", "k-1"),
            |webhook| webhook.headers = vec![("X-Api-Key".into(), secret("k-1"))],
            |webhook| webhook.headers = vec![("X-Api-Key2".into(), secret("k-1"))],
        ),
        (
            Arc::new(|headers, _| {
                headers.get("x-a").is_some_and(|a| a == "1") && headers.get("x-b").is_some_and(|b| b == "2")
            }),
            |webhook| webhook.headers = vec![("x-a".into(), secret("1")), ("x-b".into(), secret("2"))],
            |webhook| webhook.headers = vec![("x-a".into(), secret("1"))],
        ),
        // A header of the operator's beside credentials.
        (
            Arc::new(|headers, _| headers.contains_key("authorization") && headers.contains_key("x-tenant")),
            |webhook| {
                webhook.auth = WebhookAuth::Bearer(secret("t"));
                webhook.headers = vec![("x-tenant".into(), secret("north"))];
            },
            |webhook| webhook.auth = WebhookAuth::Bearer(secret("t")),
        ),
    ];
    for (number, (demand, right, wrong)) in demands.into_iter().enumerate() {
        let url = demanding(StatusCode::UNAUTHORIZED, demand).await;
        let denied = Outcome::Retry { cause: RetryCause::Denied, hold: None };
        let nothing: Change = |_| {};
        for (change, outcome) in [(nothing, denied), (wrong, denied), (right, Outcome::Delivered)] {
            let mut settings = settings(&url);
            change(&mut settings);
            let result = sender(&settings).attempt(&delivery(1)).await;
            assert_eq!(result.outcome, outcome, "demand {number}: {}", result.summary());
        }
    }
}

/// An event whose text has all that a form must escape.
fn event() -> Event {
    Event {
        id: EventId { store: 7, number: 42 },
        user: UserName::new("alice").unwrap(),
        bot: BotName::new("support").unwrap(),
        kind: "bot_response".into(),
        received_at: rtm_bridge::clock::Timestamp::parse("2026-01-01T00:00:00Z").unwrap(),
        in_reply_to: None,
        source: Source::Live,
        speaker: Speaker::Bot,
        frame: Bytes::from_static(
            "{\"type\": \"bot_response\",\"message\":[{\"cInfo\":{\"body\":\"a=1&b=2 + 100% ä 👋\\n\"}}],\"n\":1.50}".as_bytes(),
        ),
    }
}

#[tokio::test]
async fn each_format_is_read_by_a_receiver_that_knows_no_other() {
    let frame = event().frame;
    let envelope: Demand = {
        let frame = frame.clone();
        Arc::new(move |headers, body| {
            let body = std::str::from_utf8(body).unwrap();
            let data = body.split_once(",\"data\":").and_then(|(_, data)| data.strip_suffix('}'));
            headers["content-type"] == "application/json"
                && serde_json::from_str::<serde_json::Value>(body).is_ok_and(|body| body["sequence"] == 42)
                && data.is_some_and(|data| data.as_bytes() == frame)
        })
    };
    let bare: Demand = {
        let frame = frame.clone();
        Arc::new(move |headers, body| headers["content-type"] == "application/json" && body == frame)
    };
    let form: Demand = Arc::new(move |headers, body| {
        let fields: Vec<(String, String)> = url::form_urlencoded::parse(body).into_owned().collect();
        let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        headers["content-type"] == "application/x-www-form-urlencoded"
            && field("type") == Some("bot_response")
            && field("sequence") == Some("42")
            && field("inReplyTo").is_none()
            && field("text") == Some("a=1&b=2 + 100% ä 👋\n")
            && field("data").is_some_and(|data| data.as_bytes() == frame)
    });
    let formats = [(PlainFormat::Envelope, envelope), (PlainFormat::Frame, bare), (PlainFormat::Form, form)];
    for (wanted, demand) in &formats {
        let url = demanding(StatusCode::UNPROCESSABLE_ENTITY, demand.clone()).await;
        let sender = sender(&settings(&url));
        for (format, _) in &formats {
            let body = Body::render(&event(), Some(42), *format);
            let result = sender.attempt(&Delivery { body, ..delivery(42) }).await;
            let outcome = if format == wanted { Outcome::Delivered } else { Outcome::Refused };
            assert_eq!(result.outcome, outcome, "{format:?} to one that wants {wanted:?}");
        }
    }
}
