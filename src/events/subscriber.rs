//! Whoever wants events: a webhook, as the events see it.

use std::{fmt, sync::Arc};

use serde::Serialize;

use super::{Event, Source};
use crate::{
    clock::Timestamp,
    names::WebhookName,
    store::{LaneSlot, UserNumber, WebhookNumber},
};

/// Whoever wants events: a webhook.
pub trait Subscriber: fmt::Debug + Send + Sync {
    /// The webhook's number.
    fn webhook(&self) -> WebhookNumber;

    /// Gives an event of this type and source its place in the user's lane, if it is wanted. Events of
    /// one user come one after the other, in the order in which they will arrive.
    fn give(&self, user: UserNumber, event_type: &str, source: Source) -> LanePlace;

    /// Gives an event that is not for it, whatever its type, its place in the user's lane.
    fn pass_by(&self, user: UserNumber) -> LaneSlot;

    /// Whether it wants events of this type, and streamed answers as one of them.
    fn assembles(&self, event_type: &str) -> bool;

    /// An event that was given a place is on stable storage.
    fn arrived(&self, user: UserNumber, event: &Arc<Event>, sequence: u64);

    /// Whether the lane is past this event.
    fn is_past(&self, user: UserNumber, event: u64) -> bool;

    /// How many events of the user are not delivered.
    fn undelivered(&self, user: UserNumber) -> u64;

    /// How many of the last messages it wants to be told when an agent takes over.
    fn transcript(&self) -> usize {
        0
    }

    /// How the webhook is.
    fn status(&self) -> WebhookStatus;

    /// Lifts a disabling (410) and a hold (Retry-After): what waits goes out now.
    fn enable(&self);
}

/// The place that an event was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LanePlace {
    /// In the user's lane.
    pub slot: LaneSlot,
    /// What goes out before it, if it is wanted.
    pub ahead: Ahead,
}

/// What goes out before an event, of all users' events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ahead {
    /// Nothing, or so little that the event may go out as soon as it is on stable storage.
    Little,
    /// So much that the event goes out no later for being stored a little later.
    Much,
}

/// A webhook's state, for people and programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WebhookState {
    /// The latest deliveries got through.
    Ok,
    /// They don't, or it asked to be left alone.
    Failing,
    /// It said that it is gone; nothing is sent until it is enabled.
    Disabled,
}

/// What came of a webhook's latest attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LastOutcome {
    /// In one line.
    pub summary: String,
    /// When.
    pub at: Timestamp,
}

/// How deliveries ended since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// With a 2xx.
    pub delivered: u64,
    /// To be tried again.
    pub retried: u64,
    /// As dead letters.
    pub dead: u64,
}

/// How a webhook is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookStatus {
    /// Its name.
    pub name: WebhookName,
    /// Its state.
    pub state: WebhookState,
    /// Events that are not delivered.
    pub backlog: u64,
    /// What came of the latest attempt.
    pub last_outcome: Option<LastOutcome>,
    /// How deliveries ended since the start.
    pub counts: DeliveryCounts,
}
