//! What this room counts, for metrics.

use super::{
    failure::{Failure, FailureKind},
    frame::NotAFrame,
};
use crate::metrics::Counter;

/// Counts since the daemon's start.
#[derive(Debug, Default)]
pub struct RtmCounters {
    /// Tries to connect, by outcome.
    pub connects: Connects,
    /// Frames that could not be taken, by reason.
    pub frames_rejected: FramesRejected,
}

/// Tries to connect, by outcome.
#[derive(Debug, Default)]
pub struct Connects {
    /// The socket opened.
    pub opened: Counter,
    /// The credentials, or a token, were refused.
    pub unauthorized: Counter,
    /// Too many requests (429).
    pub rate_limited: Counter,
    /// Refused for another reason, or answered with something unusable.
    pub refused: Counter,
    /// The platform is in trouble, silent, or out of reach.
    pub failed: Counter,
}

impl Connects {
    /// How many of each outcome.
    pub fn by_outcome(&self) -> [(&'static str, u64); 5] {
        [
            ("opened", self.opened.get()),
            ("unauthorized", self.unauthorized.get()),
            ("rate_limited", self.rate_limited.get()),
            ("refused", self.refused.get()),
            ("failed", self.failed.get()),
        ]
    }

    pub(super) fn failed(&self, failure: &Failure) {
        match failure.kind {
            FailureKind::Unauthorized | FailureKind::TokenRefused => &self.unauthorized,
            FailureKind::RateLimited => &self.rate_limited,
            FailureKind::Refused { .. } | FailureKind::Malformed | FailureKind::Impossible => &self.refused,
            FailureKind::Server { .. } | FailureKind::Network | FailureKind::Timeout => &self.failed,
        }
        .add_one();
    }
}

/// Frames that could not be taken, by reason.
#[derive(Debug, Default)]
pub struct FramesRejected {
    /// Not UTF-8.
    pub not_utf8: Counter,
    /// Not JSON.
    pub not_json: Counter,
    /// JSON, but not an object.
    pub not_an_object: Counter,
    /// Over `platform.max_frame`.
    pub too_large: Counter,
}

impl FramesRejected {
    /// How many for each reason.
    pub fn by_reason(&self) -> [(&'static str, u64); 4] {
        [
            ("not_utf8", self.not_utf8.get()),
            ("not_json", self.not_json.get()),
            ("not_an_object", self.not_an_object.get()),
            ("too_large", self.too_large.get()),
        ]
    }

    pub(super) fn add(&self, why: NotAFrame) {
        match why {
            NotAFrame::NotUtf8 => &self.not_utf8,
            NotAFrame::NotJson => &self.not_json,
            NotAFrame::NotAnObject => &self.not_an_object,
        }
        .add_one();
    }
}
