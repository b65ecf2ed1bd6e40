//! Traces that messages are a part of: only of those whose callers named one.

use std::sync::atomic::Ordering;

use super::{Store, UserNumber, commit::Write, keys, records::decode};
use crate::{messages::ClientMessageId, trace::TraceContext};

impl Store {
    /// The trace that a message is a part of, as long as the message is remembered. In a store without traces
    /// this looks at one number; what can't be read is none.
    pub fn trace(&self, user: UserNumber, id: ClientMessageId) -> Option<TraceContext> {
        if !self.has_traces() {
            return None;
        }
        let value = self.db.get(keys::trace(user, id)).ok()??;
        decode(TraceContext::VERSION, "trace", &value).ok()
    }

    /// Whether any message may have a trace.
    pub fn has_traces(&self) -> bool {
        self.traces.load(Ordering::Relaxed)
    }

    /// Notes a new message's trace.
    pub(super) fn put_trace(&self, user: UserNumber, id: ClientMessageId, trace: &TraceContext) -> Write {
        self.traces.store(true, Ordering::Relaxed);
        Self::put(keys::trace(user, id), TraceContext::VERSION, trace)
    }
}
