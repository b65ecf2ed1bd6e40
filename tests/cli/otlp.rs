//! Traces at a collector, which this test is.

use std::collections::BTreeMap;

use axum::{Router, body::Bytes, http::HeaderMap, routing::post};
use rtm_bridge::receiver::{Receiver, ReceiverOptions};
use tokio::{net::TcpListener, sync::mpsc};

use crate::support::{World, within};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const TEXT: &str = "a text that nobody else may read";

/// What a field of a protobuf message holds.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a protobuf message, by their numbers.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Value<'_>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (byte, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    fn split<'a>(bytes: &mut &'a [u8], at: usize) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(at);
        *bytes = rest;
        taken
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut bytes)),
            1 => Value::Number(u64::from_le_bytes(split(&mut bytes, 8).try_into().unwrap())),
            2 => {
                let length = varint(&mut bytes) as usize;
                Value::Bytes(split(&mut bytes, length))
            }
            5 => Value::Number(u32::from_le_bytes(split(&mut bytes, 4).try_into().unwrap()).into()),
            other => panic!("wire type {other}"),
        };
        found.push((tag >> 3, value));
    }
    found
}

/// All messages under this field.
fn inner(bytes: &[u8], field: u64) -> Vec<&[u8]> {
    let of = |(number, value)| match value {
        Value::Bytes(bytes) if number == field => Some(bytes),
        _ => None,
    };
    fields(bytes).into_iter().filter_map(of).collect()
}

fn text(bytes: &[u8], field: u64) -> String {
    String::from_utf8(inner(bytes, field).first().unwrap_or(&&b""[..]).to_vec()).unwrap()
}

fn hex(bytes: &[u8], field: u64) -> String {
    inner(bytes, field).first().unwrap_or(&&b""[..]).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn number(bytes: &[u8], field: u64) -> u64 {
    let of = |(number, value)| match value {
        Value::Number(value) if number == field => Some(value),
        _ => None,
    };
    fields(bytes).into_iter().find_map(of).unwrap_or_default()
}

/// A span, as far as this test asks for it (`opentelemetry/proto/trace/v1/trace.proto`).
#[derive(Debug, Clone)]
struct Span {
    name: String,
    trace: String,
    id: String,
    parent: String,
    kind: u64,
    from: u64,
    to: u64,
    texts: BTreeMap<String, String>,
    events: Vec<String>,
    service: String,
}

fn spans(export: &[u8]) -> Vec<Span> {
    let mut found = Vec::new();
    for resource_spans in inner(export, 1) {
        let attributes = |bytes, field| -> BTreeMap<String, String> {
            let pairs = inner(bytes, field).into_iter();
            pairs.map(|pair| (text(pair, 1), text(inner(pair, 2)[0], 1))).collect()
        };
        let service = attributes(inner(resource_spans, 1)[0], 1).remove("service.name").unwrap();
        for span in inner(resource_spans, 2).into_iter().flat_map(|scope| inner(scope, 2)) {
            found.push(Span {
                name: text(span, 5),
                trace: hex(span, 1),
                id: hex(span, 2),
                parent: hex(span, 4),
                kind: number(span, 6),
                from: number(span, 7),
                to: number(span, 8),
                texts: attributes(span, 9),
                events: inner(span, 11).into_iter().map(|event| text(event, 2)).collect(),
                service: service.clone(),
            });
        }
    }
    found
}

struct Collector {
    url: String,
    exports: mpsc::UnboundedReceiver<(HeaderMap, Bytes)>,
    seen: Vec<Span>,
}

impl Collector {
    async fn start() -> Self {
        let (sender, exports) = mpsc::unbounded_channel();
        let take = move |headers: HeaderMap, body: Bytes| async move {
            let _ = sender.send((headers, body));
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().route("/v1/traces", post(take));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, exports, seen: Vec::new() }
    }

    /// The first span that is as wanted, now or later.
    async fn wait(&mut self, what: &str, wanted: impl Fn(&Span) -> bool) -> Span {
        let waiting = async {
            loop {
                if let Some(span) = self.seen.iter().find(|span| wanted(span)) {
                    return span.clone();
                }
                let (headers, body) = self.exports.recv().await.unwrap();
                assert_eq!(headers["content-type"], "application/x-protobuf");
                assert_eq!(headers["x-key"], "a-key-of-the-collector");
                assert!(!body.windows(TEXT.len()).any(|part| part == TEXT.as_bytes()), "no text is exported");
                self.seen.extend(spans(&body));
            }
        };
        within(what, waiting).await
    }
}

#[tokio::test]
async fn a_message_and_its_answer_are_one_trace_at_the_collector() {
    let mut collector = Collector::start().await;
    let receiver = Receiver::start(ReceiverOptions::default()).await.unwrap();
    let more = format!(
        "[users.bob]\nbot = \"support\"\nidentity = \"bob\"\nwebhooks = [\"crm\"]\n[webhooks.crm]\nurl = \"{}\"\nbackoff_min = \"20ms\"\nbackoff_max = \"40ms\"\n",
        receiver.url()
    );
    let world = World::start_as(&more, |mut daemon| {
        daemon.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url);
        daemon.env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a-key-of-the-collector");
        daemon.env("OTEL_BSP_SCHEDULE_DELAY", "50");
        daemon
    })
    .await;
    within("bob's connection", world.sandbox.control().wait_connected("bob", 1)).await;
    receiver.script([503]);
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let send = |parent: Option<String>| {
        let request =
            http.post(format!("{}/v1/users/bob/messages?wait=ack", world.url)).form(&[("text", TEXT)]);
        match parent {
            Some(parent) => request.header("traceparent", parent),
            None => request,
        }
        .send()
    };
    let sent = within("the message", send(Some(format!("00-{TRACE}-{CALLER}-01")))).await.unwrap();
    assert_eq!(sent.status(), 200);
    let is = |name: &'static str| move |span: &Span| span.name == name && span.trace == TRACE;
    let root = collector.wait("the POST", is("POST messages")).await;
    assert_eq!((root.parent.as_str(), root.kind, root.service.as_str()), (CALLER, 2, "rtm-bridge"));
    let message = collector.wait("the message", is("message")).await;
    assert_eq!((&message.parent, message.events.join(" ")), (&root.id, "sent acked".to_owned()));
    assert_eq!(message.texts["rtm_bridge.status"], "acked");
    let delivery = collector.wait("the delivery", is("deliver")).await;
    assert_eq!((&delivery.parent, delivery.texts["rtm_bridge.webhook"].as_str()), (&root.id, "crm"));
    assert!(delivery.from <= delivery.to && message.from <= message.to);
    let attempts = within("both attempts", receiver.wait_attempts(2)).await;
    for attempt in attempts {
        let parent = attempt.headers["traceparent"].to_str().unwrap();
        let span = parent.strip_prefix(&format!("00-{TRACE}-")).and_then(|rest| rest.get(..16)).unwrap();
        let exported = collector.wait("the attempt", |seen| seen.id == span).await;
        assert_eq!((exported.name.as_str(), exported.kind, &exported.parent), ("attempt", 3, &delivery.id));
    }
    // Who names no trace begins one here; who doesn't record his is left alone.
    let unrecorded = "1".repeat(32);
    within("one", send(Some(format!("00-{unrecorded}-{CALLER}-00")))).await.unwrap();
    within("its answer", receiver.wait_attempts(3)).await;
    within("another", send(None)).await.unwrap();
    within("its answer", receiver.wait_attempts(4)).await;
    let own = collector
        .wait("a trace of its own", |span| span.name == "POST messages" && span.trace != TRACE)
        .await;
    assert_eq!(own.parent, "");
    // What the end has left goes out as well.
    assert_eq!(world.daemon.interrupt().await, Some(0));
    collector.wait("its delivery", |span| span.name == "deliver" && span.trace == own.trace).await;
    assert!(collector.seen.iter().all(|span| span.trace != unrecorded));
}

#[tokio::test]
async fn a_collector_that_is_gone_changes_nothing() {
    let world = World::start_as("", |mut daemon| {
        daemon.env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9/v1/traces");
        daemon.env("OTEL_BSP_SCHEDULE_DELAY", "50");
        daemon
    })
    .await;
    assert_eq!(world.run(&["send", "alice", TEXT, "--wait", "ack"]).await.code, 0);
    assert_eq!(world.daemon.interrupt().await, Some(0));
}
