//! What is remembered of a user, so that a restart costs no sign-in and no second welcome.

use serde::{Deserialize, Serialize};

use crate::{clock::Timestamp, config::Secret};

/// What is remembered of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserRecord {
    /// Its access token, while it is good.
    pub access: Option<Access>,
    /// The platform's own id of the user (`u-...`), which its history APIs ask for.
    pub platform_user_id: Option<String>,
    /// Whether it was ever connected: each later connect says that it is a reconnect.
    pub history: ConnectHistory,
    /// What of the platform's history is known; none before the first connect.
    pub seen: Option<Seen>,
}

/// How far a user's events cover the platform's history. All times are the platform's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Whatever is older is known: the newest record that a complete recovery saw.
    pub up_to: Timestamp,
    /// Stretches after that which no recovery could look at, in the order of their recoveries.
    pub holes: Vec<Hole>,
    /// Until when the connection is known to have been up: what came before came on it.
    pub alive_at: Timestamp,
}

/// A stretch of time, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    /// Its first moment.
    pub from: Timestamp,
    /// Its last moment.
    pub to: Timestamp,
}

/// Whether a user was ever connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConnectHistory {
    /// Never: the platform greets it as new.
    #[default]
    Never,
    /// Before: the platform must not greet it again.
    Before,
}

/// An access token and what it is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The token.
    pub token: Secret,
    /// Until when, by our clock.
    pub expires_at: Timestamp,
    /// A fingerprint of the credentials it was granted for: other credentials need a new token.
    pub granted_for: [u8; 16],
}
