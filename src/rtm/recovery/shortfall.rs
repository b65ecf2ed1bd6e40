//! Why not everything that was missed was recovered.

use std::fmt;

use super::Halt;

/// Why not everything that was missed was recovered: the `reason` of `bridge.gap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortfall {
    /// There was too much at once.
    TooMany,
    /// It is too old.
    TooOld,
    /// It took too long.
    TooLate,
    /// The platform's history can't be read.
    Failed,
}

impl Shortfall {
    pub(super) fn of(halt: Halt) -> Option<Self> {
        match halt {
            Halt::Enough => None,
            Halt::TooMany => Some(Self::TooMany),
            Halt::TimedOut => Some(Self::TooLate),
            Halt::Failed => Some(Self::Failed),
        }
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooMany => "more events were missed than are recovered at once (history.max_messages)",
            Self::TooOld => "events were missed that are too old to be recovered (history.max_age)",
            Self::TooLate => "the platform's history was not read in time (history.timeout)",
            Self::Failed => "the platform's history can't be read",
        })
    }
}
