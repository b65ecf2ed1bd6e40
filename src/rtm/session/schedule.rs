//! How long to wait before the next try to connect.

use std::time::Duration;

use crate::{
    retry::Backoff,
    rtm::{
        failure::{Failure, FailureKind},
        session::{CloseCause, SessionSettings},
    },
};

/// How carefully the next try is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// A connection that worked was lost: soon.
    Dropped,
    /// Refused, unreachable or in trouble: slower.
    Refused,
    /// Too many requests.
    RateLimited,
    /// Bad credentials: at the configured pace, until someone corrects them.
    Unauthorized,
    /// Close code 1008: rate limit, suspended bot, blocked user.
    Policy,
    /// It can't work as configured: at the pace of bad credentials, until someone changes something.
    Impossible,
}

/// A second try within this is never worth it once the platform refused the first.
const REFUSED_FLOOR: Duration = Duration::from_secs(1);
/// The platform's rate limits count in windows of a minute and an hour.
const RATE_LIMITED_FLOOR: Duration = Duration::from_secs(5);
const POLICY_FLOOR: Duration = Duration::from_secs(60);
const POLICY_MOST: Duration = Duration::from_secs(300);

impl Class {
    pub(super) fn of_failure(failure: &Failure) -> Self {
        match failure.kind {
            FailureKind::Unauthorized | FailureKind::TokenRefused => Self::Unauthorized,
            FailureKind::RateLimited => Self::RateLimited,
            FailureKind::Impossible => Self::Impossible,
            FailureKind::Refused { .. }
            | FailureKind::Server { .. }
            | FailureKind::Network
            | FailureKind::Timeout
            | FailureKind::Malformed => Self::Refused,
        }
    }

    pub(super) fn of_close(cause: &CloseCause) -> Self {
        match cause {
            CloseCause::Code(1008, _) => Self::Policy,
            CloseCause::EncryptionRequired => Self::Impossible,
            // The platform's own trouble: an unhandled error, try again later, a bad gateway.
            CloseCause::Code(1011 | 1013 | 1014, _) => Self::Refused,
            CloseCause::Code(..) | CloseCause::Lost(_) | CloseCause::FrameTooLarge | CloseCause::Dead => {
                Self::Dropped
            }
        }
    }

    /// The delay before the next try, after `failures` in a row before this one.
    pub(super) fn delay(
        self,
        settings: &SessionSettings,
        failures: u32,
        rng: &mut fastrand::Rng,
    ) -> Duration {
        let (min, max) = (settings.backoff_min, settings.backoff_max);
        match self {
            Self::Dropped => Backoff::resumed(min, max, failures).next(rng),
            Self::Refused => above(REFUSED_FLOOR, min, max, failures, rng),
            Self::RateLimited => above(RATE_LIMITED_FLOOR, min, max, failures, rng),
            Self::Policy => above(POLICY_FLOOR, POLICY_FLOOR / 2, POLICY_MOST, failures, rng),
            // Spread a little, so that a bot's thousand users don't come back in the same moment.
            Self::Unauthorized | Self::Impossible => {
                settings.unauthorized_retry.mul_f64(1.0 + 0.1 * rng.f64())
            }
        }
    }
}

/// A delay that is never below `floor` and, while `max` allows it, spread above it.
fn above(floor: Duration, min: Duration, max: Duration, failures: u32, rng: &mut fastrand::Rng) -> Duration {
    let spread = max.saturating_sub(floor).max(min);
    floor + Backoff::resumed(min, spread, failures).next(rng)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtm::session::tests::settings;

    proptest::proptest! {
        #[test]
        fn delays_keep_to_their_class(seed: u64, failures in 0u32..100) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let settings = settings();
            let mut delay = |class: Class| class.delay(&settings, failures, &mut rng).as_secs_f64();
            proptest::prop_assert!((0.02..=30.0).contains(&delay(Class::Dropped)));
            proptest::prop_assert!((1.0..=30.0).contains(&delay(Class::Refused)));
            proptest::prop_assert!((5.0..=30.0).contains(&delay(Class::RateLimited)));
            proptest::prop_assert!((60.0..=300.0).contains(&delay(Class::Policy)));
            proptest::prop_assert!((60.0..=66.0).contains(&delay(Class::Unauthorized)));
        }
    }

    #[test]
    fn the_first_try_after_a_drop_comes_at_once_and_later_ones_take_longer() {
        let mut rng = fastrand::Rng::with_seed(7);
        let settings = settings();
        let mut most =
            |failures| (0..200).map(|_| Class::Dropped.delay(&settings, failures, &mut rng)).max().unwrap();
        assert!(most(0) <= Duration::from_millis(500));
        assert!(most(10) > Duration::from_secs(20));
    }
}
