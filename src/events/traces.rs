//! The traces that events go on with.

use serde::Deserialize;

use super::{Event, Events};
use crate::{messages::ClientMessageId, store::UserNumber, trace::TraceContext};

impl Events {
    /// The trace of the message that an event is in reply to, or whose end it reports: as long as that message is
    /// remembered, and if its caller named one. Where nobody does, this costs nothing.
    pub fn trace(&self, user: UserNumber, event: &Event) -> Option<TraceContext> {
        let store = &self.shared.store;
        if !store.has_traces() {
            return None;
        }
        store.trace(user, event.in_reply_to.or_else(|| message_of_report(event))?)
    }
}

/// The message that a `bridge.message` reports.
fn message_of_report(event: &Event) -> Option<ClientMessageId> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Report {
        client_message_id: u64,
    }
    if event.kind != super::report::MESSAGE {
        return None;
    }
    let Report { client_message_id } = serde_json::from_slice(&event.frame).ok()?;
    ClientMessageId::new(client_message_id).ok()
}
