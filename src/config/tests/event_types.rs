//! Which events a webhook wants.

use super::{BASE, valid};
use crate::config::EventFilter;

/// What the webhook wants with this value of `events`.
fn filter(events: &str) -> EventFilter {
    let secret = "secret = { env = \"WHSEC\" }\n";
    let config = valid(&BASE.replace(secret, &format!("{secret}events = {events}\n")));
    config.webhooks["crm"].events.clone()
}

#[test]
fn a_star_is_every_type_of_the_platforms() {
    for every in ["\"*\"", "[\"*\"]", "[\"bot_response\", \"*\"]"] {
        let filter = filter(every);
        assert_eq!(filter, EventFilter::All, "{every}");
        assert!(filter.wants_frame("anything") && filter.wants_frame("bridge.message"), "whatever it says");
        assert!(!filter.wants_report("bridge.message"));
    }
}

#[test]
fn the_bridges_own_types_come_when_they_are_named() {
    let both = filter("[\"*\", \"Bridge.Message\", \"typing\"]");
    assert_eq!(both, EventFilter::AllAnd(vec!["bridge.message".to_owned()]));
    assert!(both.wants_frame("anything") && both.wants_report("bridge.message"));
    assert!(!both.wants_report("bridge.gap"));
    let named = filter("[\"BOT_RESPONSE\", \"bridge.GAP\"]");
    assert!(named.wants_frame("Bot_Response") && named.wants_report("bridge.gap"));
    assert!(!named.wants_frame("typing") && !named.wants_report("bridge.message"));
    assert!(!named.wants_frame("bridge.gap"), "a frame of the platform's that only calls itself so");
}
