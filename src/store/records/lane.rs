//! Lanes and webhooks.

use serde::{Deserialize, Serialize};

use crate::{clock::Timestamp, config::BodyFormat};

/// A place in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Position {
    /// The event's number in the log.
    pub event: u64,
    /// Its sequence number in the lane.
    pub sequence: u64,
}

/// An event that was tried, or may have been, and has not got through yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempted {
    /// The event's number in the log.
    pub event: u64,
    /// How many attempts were made.
    pub attempts: u32,
    /// The body's shape, fixed by the first attempt.
    pub format: BodyFormat,
    /// The status of the last answer.
    pub last_status: Option<u16>,
}

/// How far a lane is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneRecord {
    /// Everything up to here is delivered or dead.
    pub done: Position,
    /// Beyond that, what is delivered or dead out of order (`ordered = false` only).
    pub done_ahead: Vec<Position>,
    /// What was tried and is still due.
    pub attempted: Vec<Attempted>,
}

impl LaneRecord {
    pub(in crate::store) const VERSION: u8 = 1;
}

/// What is remembered of a webhook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookRecord {
    /// Since when it is disabled (it answered 410).
    pub disabled_since: Option<Timestamp>,
    /// Until when it asked to be left alone (Retry-After).
    pub held_until: Option<Timestamp>,
    /// The shape of the bodies that it gets, since its last start.
    pub format: Option<BodyFormat>,
}

impl WebhookRecord {
    pub(in crate::store) const VERSION: u8 = 1;

    /// Neither is so any more.
    pub fn enable(&mut self) {
        (self.disabled_since, self.held_until) = (None, None);
    }

    /// It asked to be left alone until then; never for less than it asked before.
    pub fn hold(&mut self, until: Timestamp) {
        self.held_until = self.held_until.max(Some(until));
    }

    /// It said that it is gone; the first time counts.
    pub fn disable(&mut self, since: Timestamp) {
        self.disabled_since.get_or_insert(since);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::records::{decode, encode},
        template::TemplateId,
    };

    /// Deliveries under way end in any order, each with an answer of its own.
    #[test]
    fn a_webhook_that_is_gone_stays_gone_and_its_longest_hold_holds() {
        let at = Timestamp::from_millis;
        let mut webhook = WebhookRecord::default();
        webhook.hold(at(60));
        webhook.disable(at(10));
        webhook.hold(at(30));
        webhook.disable(at(20));
        let expected = WebhookRecord { disabled_since: Some(at(10)), held_until: Some(at(60)), format: None };
        assert_eq!(webhook, expected);
        webhook.enable();
        assert_eq!(webhook, WebhookRecord::default());
    }

    #[test]
    fn their_forms_are_stable() {
        let lane = LaneRecord {
            done: Position { event: 41, sequence: 7 },
            done_ahead: vec![Position { event: 44, sequence: 9 }],
            attempted: vec![Attempted {
                event: 42,
                attempts: 3,
                format: BodyFormat::Form,
                last_status: Some(503),
            }],
        };
        let bytes = encode(LaneRecord::VERSION, &lane);
        insta::assert_snapshot!(format!("{bytes:02x?}"), @"[01, 29, 07, 01, 2c, 09, 01, 2a, 03, 02, 01, f7, 03]");
        assert_eq!(decode::<LaneRecord>(LaneRecord::VERSION, "lane", &bytes).unwrap(), lane);

        let templated = WebhookRecord {
            format: Some(BodyFormat::Template(TemplateId([0xaa; 16]))),
            ..WebhookRecord::default()
        };
        let bytes = encode(WebhookRecord::VERSION, &templated);
        let id = ["aa"; 16].join(", ");
        assert_eq!(format!("{bytes:02x?}"), format!("[01, 00, 00, 01, 03, {id}]"));

        let webhook = WebhookRecord {
            disabled_since: Some(Timestamp::from_millis(5)),
            held_until: None,
            format: Some(BodyFormat::Form),
        };
        let bytes = encode(WebhookRecord::VERSION, &webhook);
        insta::assert_snapshot!(format!("{bytes:02x?}"), @"[01, 01, 05, 00, 01, 02]");
        assert_eq!(decode::<WebhookRecord>(WebhookRecord::VERSION, "webhook", &bytes).unwrap(), webhook);
    }
}
