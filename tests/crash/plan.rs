//! When the process dies.

use std::time::Duration;

/// The moment of a kill. Most are the n-th time that something is seen from outside, so that the
/// kill hits the middle of work; some are a random time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// So long after the process was started, ready or not; nobody talks to it.
    Starting(Duration),
    /// As soon as it says that it is ready.
    Ready,
    /// As soon as the platform sees a connection of this user.
    Connected {
        /// The user's index.
        user: usize,
    },
    /// So long after it said that it is ready.
    Running(Duration),
    /// When so many POSTs of this life were answered.
    Accepted(u64),
    /// When so many frames of this user (messages, delivery acks) reached the platform in this life.
    Frames {
        /// The user's index.
        user: usize,
        /// How many.
        frames: u64,
    },
    /// When so many deliveries of this life reached the webhook, before they are answered.
    Deliveries(usize),
    /// With so many deliveries waiting for an answer of a webhook that hangs.
    Hanging(usize),
    /// SIGTERM after so many answered POSTs, and SIGKILL so long after it.
    Stopping {
        /// POSTs answered before SIGTERM.
        accepted: u64,
        /// From SIGTERM to SIGKILL.
        after: Duration,
    },
}

impl Moment {
    /// Any moment.
    pub fn any(dice: &mut fastrand::Rng) -> Self {
        match dice.u32(..20) {
            0..=1 => Self::Starting(Duration::from_millis(dice.u64(..300))),
            2 => Self::Ready,
            3 => Self::Connected { user: dice.usize(..crate::world::USERS) },
            4 => Self::Running(Duration::from_millis(dice.u64(..400))),
            5..=8 => Self::Accepted(dice.u64(1..150)),
            9..=12 => Self::Frames { user: dice.usize(..crate::world::USERS), frames: dice.u64(1..60) },
            13..=16 => Self::Deliveries(dice.usize(1..200)),
            17 => Self::Hanging(dice.usize(1..=5)),
            _ => Self::stopping(dice),
        }
    }

    /// In the middle of an orderly end.
    pub fn stopping(dice: &mut fastrand::Rng) -> Self {
        Self::Stopping { accepted: dice.u64(1..80), after: Duration::from_micros(dice.u64(..60_000)) }
    }
}
