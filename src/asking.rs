//! Why the platform gave a caller nothing, whatever was asked of it.
//!
//! Callers know nothing of the platform; whoever knows it speaks to them in these words.

use std::time::Duration;

use crate::store::StoreError;

/// Why there is no answer of the platform for a caller.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AskError {
    /// The platform refused, could not be reached, or answered nonsense.
    #[error("{why}")]
    Failed {
        /// What happened, without secrets.
        why: String,
        /// When the platform said to come again.
        retry_after: Option<Duration>,
    },
    /// The platform refuses the user's or the bot's credentials.
    #[error("{0}")]
    Unauthorized(String),
    /// The platform did not answer in time.
    #[error("{0}")]
    Silent(String),
    /// The bot's share of requests is used up for the moment.
    #[error(
        "the requests that the platform allows the bot are needed for its connections at the moment (platform.request_rate)"
    )]
    Busy {
        /// When it may be worth to come again.
        retry_after: Duration,
    },
    /// What is remembered of the user can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}
