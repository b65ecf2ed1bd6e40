//! What this room counts, for metrics.

use crate::metrics::Counter;

/// The event types that the platform documents, but for `other`, which stands for all others.
const TYPES: [&str; 16] = [
    "bot_response",
    "user_message",
    "events",
    "bot_active",
    "session_start",
    "session_end",
    "agent_session_start",
    "agent_session_end",
    "waiting_for_user_input",
    "botKitUnreachable",
    "form_delivered",
    "form_submitted",
    "form_failure",
    "initial_language",
    "language_switched",
    "other",
];

/// Received events since the daemon's start, by type.
#[derive(Debug, Default)]
pub struct EventCounters([Counter; TYPES.len()]);

impl EventCounters {
    pub(super) fn received(&self, kind: &str) {
        let documented = TYPES.iter().position(|known| known.eq_ignore_ascii_case(kind));
        self.0[documented.unwrap_or(TYPES.len() - 1)].add_one();
    }

    /// How many of each type.
    pub fn received_by_type(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        TYPES.into_iter().zip(self.0.iter().map(Counter::get))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_documented_is_other() {
        let counters = EventCounters::default();
        for kind in ["bot_response", "Bot_Response", "invented", "", "other"] {
            counters.received(kind);
        }
        let counted: Vec<_> = counters.received_by_type().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("bot_response", 2), ("other", 3)]);
    }
}
