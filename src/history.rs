//! The platform's conversation histories, as callers ask for them: two APIs of the platform, one shape.
//!
//! Callers know nothing of the platform; whoever knows it implements [`Histories`].

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{clock::Timestamp, users::User};

/// Which of the platform's APIs is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistorySource {
    /// `botmessages/rtm`, with the user's access token.
    Rtm,
    /// BotKit's `getMessages`, with the app's own token.
    Botkit,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Which API.
    pub source: HistorySource,
    /// How many messages; the platform may give fewer.
    pub limit: usize,
    /// From the one on that has so many newer ones.
    pub offset: usize,
}

/// A page of a history, newest message first.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HistoryPage {
    /// How many there are in all, where the platform tells.
    pub total: Option<u64>,
    /// Whether older ones follow.
    pub more_available: bool,
    /// The messages.
    pub messages: Vec<HistoryMessage>,
}

/// One message of a history. What can't be told of an odd record is null; `raw` has all of it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HistoryMessage {
    /// The platform's id, which is the `messageId` of the event, for what the bot said.
    pub id: Option<String>,
    /// Which way it went, seen from the bot.
    pub direction: Option<HistoryDirection>,
    /// Who said it.
    pub from: Option<HistoryAuthor>,
    /// Its plain text.
    pub text: Option<String>,
    /// When, by the platform's clock.
    pub created_on: Option<Timestamp>,
    /// The record, as the platform has it.
    pub raw: Box<RawValue>,
}

/// Which way a message went, seen from the bot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HistoryDirection {
    /// To the bot.
    Incoming,
    /// From the bot, or from an agent.
    Outgoing,
}

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HistoryAuthor {
    /// The user.
    User,
    /// The bot.
    Bot,
    /// A human agent.
    Agent,
}

/// Why there is no history.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HistoryError {
    /// The platform refused, could not be reached, or answered nonsense.
    #[error("{why}")]
    Failed {
        /// What happened, without secrets.
        why: String,
        /// When the platform said to come again.
        retry_after: Option<Duration>,
    },
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
    Store(#[from] crate::store::StoreError),
}

/// An answer on its way.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<HistoryPage, HistoryError>> + Send + 'a>>;

/// Who can ask the platform for histories.
pub trait Histories: fmt::Debug + Send + Sync {
    /// Asks for a page.
    fn page(&self, user: Arc<User>, query: HistoryQuery) -> Answer<'_>;
}
