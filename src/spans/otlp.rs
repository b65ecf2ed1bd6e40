//! The way out: spans in batches, as OTLP over HTTP with protobuf. The standard variables say where to
//! (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_HEADERS`, and so on).
//!
//! A collector that hangs or is gone costs spans, and nothing else: what waits for it is bounded, and nobody else
//! waits.

use std::{
    env,
    pin::Pin,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId as OtelSpanId, TraceFlags, TraceId as OtelTraceId, Value,
    trace::{Event, SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor},
};
use tokio::runtime::Handle;

use crate::{
    clock::Timestamp,
    trace::{SpanId, TraceId},
};

/// Where to, for all kinds of telemetry or for traces alone. Without one, nothing is exported.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// Switches everything off that the standard knows.
const DISABLED: &str = "OTEL_SDK_DISABLED";
const SERVICE: &str = "rtm-bridge";
/// How long a collector may take, where the exporter sets no limit itself.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// How long the last spans may take at the end.
const FINISH_LIMIT: Duration = Duration::from_secs(2);

static PROCESSOR: OnceLock<BatchSpanProcessor> = OnceLock::new();

/// What is known of a span, beside its ids and times.
pub(super) type Fields = Vec<(&'static str, Value)>;

/// What a span is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Server,
    Internal,
    Producer,
    Client,
}

/// Something that is over.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) trace: TraceId,
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    pub(super) fields: Fields,
    pub(super) events: Vec<(&'static str, Timestamp)>,
    /// Why it failed, if it did.
    pub(super) failure: Option<String>,
}

/// Why nothing can be exported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// There is no client.
    #[error("the client for the collector can't be built: {0}")]
    Client(#[from] reqwest::Error),
    /// The variables make no sense.
    #[error("{0}; see the variables OTEL_EXPORTER_OTLP_*")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Begins to export, if the environment names a collector. Within a runtime, which does the sending.
pub(crate) fn start() -> Result<(), StartError> {
    let is_set = |name: &&str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_disabled = env::var(DISABLED).is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    if is_disabled || !ENDPOINTS.iter().any(is_set) {
        return Ok(());
    }
    let http =
        reqwest::Client::builder().timeout(SEND_LIMIT).redirect(reqwest::redirect::Policy::none()).build()?;
    let client = Client { http, runtime: Handle::current() };
    let exporter = SpanExporter::builder().with_http().with_http_client(client).build()?;
    let mut processor = BatchSpanProcessor::builder(exporter).build();
    let resource = Resource::builder();
    // The variable says otherwise, perhaps.
    let resource = if is_set(&"OTEL_SERVICE_NAME") { resource } else { resource.with_service_name(SERVICE) };
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    processor.set_resource(&resource.with_attribute(version).build());
    // A second start (a test in this process) keeps the first.
    let _ = PROCESSOR.set(processor);
    tracing::info!("traces are exported over OTLP");
    Ok(())
}

/// Sends what is left. Blocks for two seconds at most.
pub(crate) fn finish() {
    if let Some(processor) = PROCESSOR.get()
        && let Err(error) = processor.shutdown_with_timeout(FINISH_LIMIT)
    {
        tracing::warn!(%error, "the last spans were not exported");
    }
}

/// Whether anything is exported.
pub(super) fn is_on() -> bool {
    PROCESSOR.get().is_some()
}

/// Hands a span over. When too many wait, it is dropped.
pub(super) fn export(span: Span) {
    let Some(processor) = PROCESSOR.get() else { return };
    let Span { name, kind, trace, id, parent, from, to, fields, events, failure } = span;
    let span_context = SpanContext::new(
        OtelTraceId::from_bytes(trace.bytes()),
        OtelSpanId::from_bytes(id.bytes()),
        TraceFlags::SAMPLED,
        false,
        TraceState::NONE,
    );
    let mut moments = SpanEvents::default();
    moments.events = events.into_iter().map(|(what, at)| Event::new(what, time(at), Vec::new(), 0)).collect();
    processor.on_end(SpanData {
        span_context,
        parent_span_id: parent.map_or(OtelSpanId::INVALID, |parent| OtelSpanId::from_bytes(parent.bytes())),
        parent_span_is_remote: kind == Kind::Server,
        span_kind: match kind {
            Kind::Server => SpanKind::Server,
            Kind::Internal => SpanKind::Internal,
            Kind::Producer => SpanKind::Producer,
            Kind::Client => SpanKind::Client,
        },
        name: name.into(),
        start_time: time(from),
        end_time: time(to.max(from)),
        attributes: fields.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect(),
        dropped_attributes_count: 0,
        events: moments,
        links: SpanLinks::default(),
        status: failure.map_or(Status::Unset, Status::error),
        instrumentation_scope: InstrumentationScope::builder(SERVICE)
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    });
}

fn time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(at.as_millis())
}

/// The bridge's own HTTP client. The exporter's thread has no runtime: the daemon's sends.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Handle,
}

impl HttpClient for Client {
    // As `async_trait` has it.
    fn send_bytes<'s, 'f>(
        &'s self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Sent> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        let http = self.http.clone();
        let sending = self.runtime.spawn(async move { send(&http, request).await });
        Box::pin(async move {
            let sent = sending.await?;
            match &sent {
                Ok(answer) if !answer.status().is_success() => {
                    tracing::warn!(status = answer.status().as_u16(), "the collector refuses spans");
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "spans can't be exported"),
            }
            sent
        })
    }
}

type Sent = Result<Response<Bytes>, HttpError>;

async fn send(http: &reqwest::Client, request: Request<Bytes>) -> Sent {
    // Its address may have a key in it.
    let answer = http.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
    let mut response = Response::builder().status(answer.status());
    if let Some(headers) = response.headers_mut() {
        headers.clone_from(answer.headers());
    }
    let body = answer.bytes().await.map_err(reqwest::Error::without_url)?;
    Ok(response.body(body)?)
}
