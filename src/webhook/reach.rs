//! How far a connection to a webhook gets: for `rtm-bridge check --online`.

use std::fmt;

use super::{Failure, FailureKind, Sender, client::ClientError};
use crate::unreachable::Unreachable;

/// A part of the way to a receiver, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leg {
    /// The address of its name.
    Dns,
    /// The connection.
    Tcp,
    /// The encryption.
    Tls,
}

/// Where the way to a receiver ends, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreached {
    /// The part that failed.
    pub leg: Leg,
    /// What happened, in words.
    pub failure: Failure,
    /// The same for giving advice.
    pub cause: Unreachable,
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

impl Sender {
    /// Opens a connection to the webhook as for an attempt, and keeps it for one that may follow.
    pub async fn reach(&self) -> Result<(), Unreached> {
        let client = &self.shared.client;
        match client.connect().await {
            Ok(connection) => {
                client.keep(connection);
                Ok(())
            }
            Err(error) => Err(self.unreached(&error).await),
        }
    }

    fn is_encrypted(&self) -> bool {
        self.shared.url.scheme() == "https"
    }

    async fn unreached(&self, error: &ClientError) -> Unreached {
        let failure = self.shared.explain(error);
        let leg = match failure.kind {
            FailureKind::Dns => Leg::Dns,
            FailureKind::Tls => Leg::Tls,
            // It may be either.
            _ if self.is_encrypted() && self.shared.client.connect_tcp().await.is_ok() => Leg::Tls,
            _ => Leg::Tcp,
        };
        let cause = match failure.kind {
            FailureKind::Dns => Unreachable::Name,
            FailureKind::Timeout => Unreachable::Silent,
            _ => Unreachable::of(error),
        };
        Unreached { leg, failure, cause }
    }
}
