//! Nothing is recorded; a caller's trace is passed on.

use hyper::header::HeaderMap;
use tracing::field::{self, DisplayValue};

use super::Delivery;
use crate::{
    clock::Timestamp,
    messages::{ClientMessageId, MessageRecord},
    trace::{SpanId, TraceContext, TraceId},
    users::User,
    webhook::AttemptResult,
};

/// A request with a message.
pub(crate) struct Post(Option<TraceContext>);

impl Post {
    pub(crate) fn begin(headers: &HeaderMap) -> Self {
        Self(TraceContext::of(headers))
    }

    /// The trace that the message is a part of.
    pub(crate) fn trace(&self) -> Option<Box<TraceContext>> {
        self.0.clone().map(Box::new)
    }

    /// The same, for the log.
    pub(crate) fn trace_id(&self) -> Option<DisplayValue<TraceId>> {
        self.0.as_ref().map(|trace| field::display(trace.trace))
    }

    /// The message is on stable storage.
    pub(crate) fn stored(self, _: &User, _: ClientMessageId) {}
}

pub(crate) fn message_ended(_: &User, _: ClientMessageId, _: &MessageRecord, _: Option<&TraceContext>) {}

/// The trace that an attempt names to its receiver, with a span of its own.
pub(crate) fn trace_of_attempt(delivery: Delivery<'_>) -> Option<Box<TraceContext>> {
    let trace = delivery.events?.trace(delivery.user, delivery.event)?;
    Some(Box::new(trace.within(SpanId::random())))
}

pub(crate) fn attempted(_: Delivery<'_>, _: &crate::webhook::Delivery, _: &AttemptResult) {}

/// An event was delivered, or became a dead letter (`why`).
pub(crate) fn delivery_ended(_: Delivery<'_>, _: Timestamp, _: Option<&str>) {}
