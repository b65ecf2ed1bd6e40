//! What is reported of a gap: the `data` of `bridge.gap`.

use serde::Serialize;

use super::Halt;
use crate::clock::Timestamp;

/// A stretch of time in which events were missed, or may have been. By our clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// How many events were recovered.
    pub recovered: usize,
    /// Whether that is all that was missed.
    pub complete: bool,
    /// Why it is not.
    pub reason: Option<Shortfall>,
}

/// Why not everything that was missed was recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shortfall {
    /// It is more than `history.max_messages`.
    MaxMessages,
    /// It is older than `history.max_age`.
    MaxAge,
    /// `history.timeout` was over.
    Timeout,
    /// The platform's history can't be read.
    Failed,
}

impl Shortfall {
    pub(super) fn of(halt: Halt) -> Option<Self> {
        match halt {
            Halt::Enough => None,
            Halt::TooMany => Some(Self::MaxMessages),
            Halt::TimedOut => Some(Self::Timeout),
            Halt::Failed => Some(Self::Failed),
        }
    }
}

impl Gap {
    /// What is to be reported; nothing if nothing was missed.
    pub fn of(
        (from, to): (Timestamp, Timestamp),
        recovered: usize,
        reason: Option<Shortfall>,
    ) -> Option<Self> {
        let complete = reason.is_none();
        (recovered > 0 || !complete).then_some(Self { from, to, recovered, complete, reason })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn is_reported_only_if_something_was_missed() {
        let stretch = (Timestamp::from_millis(0), Timestamp::from_millis(1000));
        assert_eq!(Gap::of(stretch, 0, None), None);
        let told = |recovered, reason| json!(Gap::of(stretch, recovered, reason).unwrap());
        let (from, to) = ("1970-01-01T00:00:00.000Z", "1970-01-01T00:00:01.000Z");
        assert_eq!(
            told(2, None),
            json!({"from": from, "to": to, "recovered": 2, "complete": true, "reason": null})
        );
        assert_eq!(
            told(0, Some(Shortfall::MaxAge)),
            json!({"from": from, "to": to, "recovered": 0, "complete": false, "reason": "max_age"})
        );
    }
}
