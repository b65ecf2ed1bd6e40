//! What is recorded of messages and deliveries. No text of a message, no header, no URL is.

use hyper::header::HeaderMap;
use tracing::field::{self, DisplayValue};

use super::{
    Delivery,
    otlp::{self, Kind, Span},
};
use crate::{
    clock::Timestamp,
    events::{Event, EventId},
    messages::{ClientMessageId, Fingerprint, MessageRecord, MessageStatus},
    names::WebhookName,
    trace::{SpanId, TraceContext, TraceId},
    users::User,
    webhook::{self, AttemptResult, Outcome},
};

/// A request with a message.
pub(crate) struct Post {
    given: Option<TraceContext>,
    own: Option<(TraceContext, Timestamp)>,
}

impl Post {
    pub(crate) fn begin(headers: &HeaderMap) -> Self {
        let given = TraceContext::of(headers);
        let own = otlp::is_on().then(|| {
            let context = match &given {
                Some(given) => given.within(SpanId::random()),
                None => TraceContext::new(random_trace(), SpanId::random()),
            };
            (context, Timestamp::now())
        });
        Self { given, own }
    }

    fn context(&self) -> Option<&TraceContext> {
        self.own.as_ref().map(|(context, _)| context).or(self.given.as_ref())
    }

    /// The trace that the message is a part of.
    pub(crate) fn trace(&self) -> Option<Box<TraceContext>> {
        self.context().cloned().map(Box::new)
    }

    /// The same, for the log.
    pub(crate) fn trace_id(&self) -> Option<DisplayValue<TraceId>> {
        self.context().map(|context| field::display(context.trace))
    }

    /// The message is on stable storage.
    pub(crate) fn stored(self, user: &User, id: ClientMessageId) {
        let Some((context, began)) = self.own.filter(|(context, _)| context.is_sampled()) else { return };
        otlp::export(Span {
            name: "POST messages",
            kind: Kind::Server,
            trace: context.trace,
            id: context.span,
            parent: self.given.map(|given| given.span),
            from: began,
            to: Timestamp::now(),
            fields: of_message(user, id),
            events: Vec::new(),
            failure: None,
        });
    }
}

pub(crate) fn message_ended(
    user: &User,
    id: ClientMessageId,
    record: &MessageRecord,
    trace: Option<&TraceContext>,
) {
    let Some(trace) = recorded(trace) else { return };
    let mut fields = of_message(user, id);
    fields.push(("rtm_bridge.status", record.status.as_str().into()));
    fields.push(("rtm_bridge.attempts", i64::from(record.attempts).into()));
    let reason = record.reason.map(|reason| reason.as_str().to_owned());
    let is_bad = matches!(record.status, MessageStatus::Rejected | MessageStatus::Expired);
    let times = [("sent", record.sent_at), ("acked", record.acked_at)];
    otlp::export(Span {
        name: "message",
        kind: Kind::Internal,
        trace: trace.trace,
        id: SpanId::random(),
        parent: Some(trace.span),
        from: record.created_at,
        to: record.final_at.unwrap_or(record.created_at),
        fields,
        events: times.into_iter().filter_map(|(what, at)| Some((what, at?))).collect(),
        failure: reason.filter(|_| is_bad),
    });
}

/// The trace that an attempt names to its receiver, with a span of its own.
pub(crate) fn trace_of_attempt(delivery: Delivery<'_>) -> Option<Box<TraceContext>> {
    let (trace, _) = context_of(delivery)?;
    Some(Box::new(trace.within(SpanId::random())))
}

pub(crate) fn attempted(delivery: Delivery<'_>, attempt: &webhook::Delivery, result: &AttemptResult) {
    let Some(trace) = recorded(attempt.trace.as_deref()) else { return };
    let Delivery { webhook, event, .. } = delivery;
    let mut fields = of_event(webhook, event);
    fields.push(("rtm_bridge.attempt", i64::from(attempt.attempt).into()));
    fields.push(("http.request.method", "POST".into()));
    fields.extend(result.status.map(|status| ("http.response.status_code", i64::from(status).into())));
    otlp::export(Span {
        name: "attempt",
        kind: Kind::Client,
        trace: trace.trace,
        id: trace.span,
        parent: Some(span_of(event.id, webhook)),
        from: attempt.at,
        to: attempt.at.plus(result.took),
        fields,
        events: Vec::new(),
        failure: (result.outcome != Outcome::Delivered).then(|| result.summary()),
    });
}

/// An event was delivered, or became a dead letter (`why`).
pub(crate) fn delivery_ended(delivery: Delivery<'_>, at: Timestamp, why: Option<&str>) {
    if !otlp::is_on() {
        return;
    }
    let Some((trace, parent)) = context_of(delivery).filter(|(trace, _)| trace.is_sampled()) else { return };
    let Delivery { webhook, event, .. } = delivery;
    otlp::export(Span {
        name: "deliver",
        kind: Kind::Producer,
        trace: trace.trace,
        id: span_of(event.id, webhook),
        parent,
        from: event.received_at,
        to: at,
        fields: of_event(webhook, event),
        events: Vec::new(),
        failure: why.map(str::to_owned),
    });
}

/// An event's trace, and the span in it that brought the event about.
fn context_of(delivery: Delivery<'_>) -> Option<(TraceContext, Option<SpanId>)> {
    let Delivery { events, user, event, webhook } = delivery;
    match events?.trace(user, event) {
        Some(trace) => {
            let parent = trace.span;
            Some((trace, Some(parent)))
        }
        None => {
            otlp::is_on().then(|| (TraceContext::new(own_trace(event.id), span_of(event.id, webhook)), None))
        }
    }
}

fn recorded(trace: Option<&TraceContext>) -> Option<&TraceContext> {
    trace.filter(|trace| otlp::is_on() && trace.is_sampled())
}

/// The same for all attempts of an event, also those after a restart.
fn own_trace(event: EventId) -> TraceId {
    TraceId::new(Fingerprint::of(event.to_string().as_bytes()).0).unwrap_or_else(random_trace)
}

/// The span of an event's delivery to a webhook; the same for all its attempts.
fn span_of(event: EventId, webhook: &WebhookName) -> SpanId {
    let Fingerprint(print) = Fingerprint::of(format!("{event} {webhook}").as_bytes());
    let (half, _) = print.split_at(8);
    half.try_into().ok().and_then(SpanId::new).unwrap_or_else(SpanId::random)
}

fn random_trace() -> TraceId {
    TraceId::new(fastrand::u128(1..).to_be_bytes()).expect("it is not zero")
}

fn of_message(user: &User, id: ClientMessageId) -> otlp::Fields {
    vec![
        ("rtm_bridge.user", user.name.to_string().into()),
        ("rtm_bridge.bot", user.bot.to_string().into()),
        ("rtm_bridge.client_message_id", (id.get() as i64).into()),
    ]
}

fn of_event(webhook: &WebhookName, event: &Event) -> otlp::Fields {
    vec![
        ("rtm_bridge.user", event.user.to_string().into()),
        ("rtm_bridge.bot", event.bot.to_string().into()),
        ("rtm_bridge.webhook", webhook.to_string().into()),
        ("rtm_bridge.event", event.id.to_string().into()),
        ("rtm_bridge.event_type", crate::events::event_type_label(&event.kind).to_owned().into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_events_spans_are_the_same_after_a_restart() {
        let (one, other) = (EventId { store: 1, number: 2 }, EventId { store: 1, number: 3 });
        let (crm, erp) = (WebhookName::new("crm").unwrap(), WebhookName::new("erp").unwrap());
        assert_eq!(own_trace(one), own_trace(one));
        assert_ne!(own_trace(one), own_trace(other));
        assert_eq!(span_of(one, &crm), span_of(one, &crm));
        assert_ne!(span_of(one, &crm), span_of(one, &erp));
        assert_ne!(span_of(one, &crm), span_of(other, &crm));
    }
}
