//! What the store calls users, webhooks and clients: small numbers, given once and for ever, so
//! that keys are short and a name that goes and comes back finds its records.

use serde::{Deserialize, Serialize};

/// A user's number in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UserNumber(pub u32);

/// A webhook's number in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WebhookNumber(pub u32);

/// An API client's number in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientNumber(pub u32);

/// A bot's number in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BotNumber(pub u32);
