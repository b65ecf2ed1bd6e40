//! Dead letters: events that a webhook refused or did not take in time.
//!
//! They are kept to be looked at, replayed and deleted, until `store.dead_letter_retention` is over.
//! [`DeadLetters`] is the one place where they come and go, so it can count them, and settle who
//! wins when a replay ends while somebody deletes the letter. A replay itself is made by the webhook
//! ([`Replayer`]), through the same gate as its other deliveries.

mod filter;
mod history;
mod replays;
mod retention;
mod shelf;
#[cfg(test)]
mod tests;

pub use filter::{Filter, UnknownName};
pub use history::{AttemptEnd, FailedAttempt, History};
pub use replays::{Replay, ReplayOutcome, Replayed, Replayer};
pub use retention::keep;
pub use shelf::{DeadLetters, Details, Listed, Page, Removal, Rest};
