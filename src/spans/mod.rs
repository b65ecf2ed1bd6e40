//! Spans of what the bridge does, for whoever collects traces: the feature `otlp` exports them (docs/operations.md,
//! "Traces"). Without it, only a caller's trace context is passed on.
//!
//! ```text
//! POST messages                      the caller's span is its parent
//! ├── message                        from its acceptance to its final status: sent, acked
//! └── deliver                        an event in reply to it, from its receipt to its end
//!     └── attempt                    one POST to the webhook; the span that its `traceparent` names
//! ```
//!
//! An event that is in reply to no traced message has a trace of its own. A trace that its caller doesn't record
//! (the flag `sampled`) isn't recorded here either.

#[cfg(not(feature = "otlp"))]
mod off;
#[cfg(feature = "otlp")]
mod on;
#[cfg(feature = "otlp")]
mod otlp;

#[cfg(not(feature = "otlp"))]
pub(crate) use self::off::{Post, attempted, delivery_ended, message_ended, trace_of_attempt};
#[cfg(feature = "otlp")]
pub(crate) use self::{
    on::{Post, attempted, delivery_ended, message_ended, trace_of_attempt},
    otlp::{finish, start},
};

use crate::{
    events::{Event, Events},
    names::WebhookName,
    store::UserNumber,
};

/// An event on its way to a webhook.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivery<'a> {
    #[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "only what is recorded names it"))]
    pub(crate) webhook: &'a WebhookName,
    /// None before deliveries start, and then nothing is delivered.
    pub(crate) events: Option<&'a Events>,
    pub(crate) user: UserNumber,
    pub(crate) event: &'a Event,
}
