//! What the tests share.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use rtm_bridge::{
    clock::Timestamp,
    config::{BodyFormat, EventFilter, Method, PlainFormat, SigningKey, Streaming, Webhook, WebhookAuth},
    events::{Body, Event, EventId, Source, Speaker},
    names::{BotName, UserName, WebhookName},
    receiver::{Receiver, ReceiverOptions},
    webhook::{AttemptResult, Delivery, FailureKind, Outcome, RetryCause, Sender, SenderError},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use url::Url;

/// The limit of an attempt in tests that must not reach it.
pub const PLENTY: Duration = Duration::from_secs(30);

pub fn settings(url: &Url) -> Webhook {
    Webhook {
        url: url.clone(),
        events: EventFilter::All,
        secrets: vec![key(1)],
        timeout: PLENTY,
        backoff_min: Duration::from_millis(500),
        backoff_max: Duration::from_secs(300),
        max_age: Duration::from_secs(86400),
        max_in_flight: 32,
        rate: None,
        ordered: true,
        format: BodyFormat::Envelope,
        template: None,
        method: Method::Post,
        streaming: Streaming::Chunks,
        transcript: 0,
        headers: Vec::new(),
        auth: WebhookAuth::None,
        client_certificate: None,
        ca: None,
    }
}

pub fn key(byte: u8) -> SigningKey {
    SigningKey(vec![byte; 32])
}

pub fn sender(settings: &Webhook) -> Sender {
    try_sender(settings).unwrap()
}

pub fn try_sender(settings: &Webhook) -> Result<Sender, SenderError> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Sender::new(&WebhookName::new("crm").unwrap(), settings)
}

/// A sender with plain settings.
pub fn sender_to(url: &Url) -> Sender {
    sender(&settings(url))
}

/// The first attempt of event number `number`.
pub fn delivery(number: u64) -> Delivery {
    let event = Event {
        id: EventId { store: 7, number },
        user: UserName::new("alice").unwrap(),
        bot: BotName::new("support").unwrap(),
        kind: "bot_response".into(),
        received_at: Timestamp::parse("2026-01-01T00:00:00Z").unwrap(),
        in_reply_to: None,
        source: Source::Live,
        speaker: Speaker::Bot,
        frame: Bytes::from_static(br#"{"type":"bot_response","message":[{"cInfo":{"body":"Hi."}}]}"#),
    };
    let body = Body::render(&event, Some(number), PlainFormat::Envelope);
    Delivery { event: Arc::new(event), attempt: 1, body, at: Timestamp::now(), trace: None }
}

pub async fn receiver() -> Receiver {
    Receiver::start(ReceiverOptions { secrets: vec![key(1)], ..ReceiverOptions::default() }).await.unwrap()
}

/// A server that does with each connection what it is told; the first is number 0.
pub async fn raw_server<F, Fut>(connection: F) -> Url
where
    F: Fn(usize, TcpStream) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/hook", listener.local_addr().unwrap())).unwrap();
    let connection = Arc::new(connection);
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(connection(number, stream));
        }
    });
    url
}

/// A server that reads a request, writes these bytes, and then keeps the connection open and silent.
pub async fn answers(bytes: &'static str) -> Url {
    raw_server(move |_, mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        // Until the client hangs up.
        let _ = stream.read_u8().await;
    })
    .await
}

/// Reads one request, head and body, and gives its head.
pub async fn read_request(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    head
}

/// Asserts that no answer came, and why; gives the text.
#[track_caller]
pub fn no_answer(result: &AttemptResult, kind: FailureKind) -> String {
    let expected = Outcome::Retry { cause: RetryCause::NoAnswer(kind), hold: None };
    assert_eq!(result.outcome, expected, "{result:?}");
    assert_eq!(result.status, None);
    let failure = result.failure.as_ref().unwrap();
    assert_eq!(failure.kind, kind);
    failure.text.clone()
}
