//! What this room counts, for metrics.

use super::{MessageRecord, MessageStatus, Verdict};
use crate::{
    clock::Timestamp,
    metrics::{Counter, Histogram},
};

/// From a frame that went out to its ack: a platform at its best, one under load, `messages.ack_timeout`.
const ACK_SECONDS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Counts since the daemon's start.
#[derive(Debug)]
pub struct MessageCounters {
    /// Messages that were accepted.
    pub accepted: Counter,
    /// From a message's last send to its ack.
    pub ack_seconds: Histogram,
    sent: Counter,
    acked: Counter,
    rejected: Counter,
    expired: Counter,
}

impl Default for MessageCounters {
    fn default() -> Self {
        Self {
            accepted: Counter::default(),
            ack_seconds: Histogram::new(ACK_SECONDS),
            sent: Counter::default(),
            acked: Counter::default(),
            rejected: Counter::default(),
            expired: Counter::default(),
        }
    }
}

impl MessageCounters {
    /// Messages that became final, by status.
    pub fn final_by_status(&self) -> [(&'static str, u64); 4] {
        [
            ("sent", self.sent.get()),
            ("acked", self.acked.get()),
            ("rejected", self.rejected.get()),
            ("expired", self.expired.get()),
        ]
    }

    /// Counts the end of a message, which stands in `record` as it was before.
    pub(super) fn ended(&self, verdict: &Verdict, record: &MessageRecord, at: Timestamp) {
        if let (Verdict::Acked(_), Some(sent_at)) = (verdict, record.sent_at) {
            self.ack_seconds.observe(at.since(sent_at));
        }
        match verdict.status() {
            MessageStatus::Acked => self.acked.add_one(),
            MessageStatus::Sent => self.sent.add_one(),
            MessageStatus::Rejected => self.rejected.add_one(),
            MessageStatus::Expired => self.expired.add_one(),
            MessageStatus::Queued => {}
        }
    }
}
