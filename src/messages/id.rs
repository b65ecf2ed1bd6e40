//! The id that a message is known by.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A `clientMessageId`: an integer from 1 to 2^53 - 1 (what JavaScript counts exactly), unique per
/// user for as long as the message is retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ClientMessageId(u64);

/// A number that can't be a `clientMessageId`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("clientMessageId must be an integer from 1 to 9007199254740991")]
pub struct InvalidId;

impl ClientMessageId {
    /// The largest id.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// Checks the range.
    pub const fn new(value: u64) -> Result<Self, InvalidId> {
        if value >= 1 && value <= Self::MAX.0 { Ok(Self(value)) } else { Err(InvalidId) }
    }

    /// The integer.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ClientMessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ClientMessageId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        // `parse` alone would take "+5".
        if text.bytes().all(|b| b.is_ascii_digit()) {
            Self::new(text.parse().map_err(|_| InvalidId)?)
        } else {
            Err(InvalidId)
        }
    }
}

impl<'de> Deserialize<'de> for ClientMessageId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_javascript_counts_exactly() {
        assert_eq!("9007199254740991".parse(), Ok(ClientMessageId::MAX));
        for bad in ["0", "", "-1", "+5", "1.0", "9007199254740992", "99999999999999999999", "x"] {
            assert_eq!(bad.parse::<ClientMessageId>(), Err(InvalidId), "{bad}");
        }
    }
}
