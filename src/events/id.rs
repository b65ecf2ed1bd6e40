//! The id that an event is known by.

use std::{fmt, str::FromStr};

/// An event's `webhook-id`: the same at every webhook, in every attempt, for ever.
///
/// It is the event's number in its store's log, beside a random number that the store drew when it
/// was made, so that events of two stores are never taken for one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct EventId {
    /// The store's random number.
    pub store: u32,
    /// The event's number in the store's log, from 1.
    pub number: u64,
}

/// A text that is no event's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event id looks like evt_1a2b3c4d000000000000002a")]
pub struct InvalidEventId;

/// `evt_` and 24 hexadecimal digits: no dots, which would break the signature's `id.timestamp.body`.
impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "evt_{:08x}{:016x}", self.store, self.number)
    }
}

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, InvalidEventId> {
        let digits = text.strip_prefix("evt_").ok_or(InvalidEventId)?;
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if digits.len() != 24 || !digits.bytes().all(lower_hex) {
            return Err(InvalidEventId);
        }
        let (store, number) = digits.split_at(8);
        Ok(Self {
            store: u32::from_str_radix(store, 16).map_err(|_| InvalidEventId)?,
            number: u64::from_str_radix(number, 16).map_err(|_| InvalidEventId)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn text_and_back(store: u32, number: u64) {
            let id = EventId { store, number };
            proptest::prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn refuses_other_texts() {
        for bad in [
            "",
            "evt_",
            "evt_1A2b3c4d000000000000002a",
            "evt_1a2b3c4d000000000000002",
            "msg_1a2b3c4d000000000000002a",
        ] {
            assert_eq!(bad.parse::<EventId>(), Err(InvalidEventId), "{bad}");
        }
    }
}
