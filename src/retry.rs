//! Exponential backoff with full jitter: every retry schedule of the daemon.
//!
//! The `backoff` crate supplies the exponential ceilings; the jitter is ours, because full jitter
//! (uniform between nothing and the ceiling) spreads a crowd best and must be seedable in tests.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};

/// Delays that grow from `min` to `max`, doubling. It never gives up by itself: whoever retries
/// decides when to stop.
#[derive(Debug, Clone)]
pub struct Backoff {
    ceilings: ExponentialBackoff,
    attempts: u32,
}

impl Backoff {
    /// A schedule whose first ceiling is `min` and whose last is `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        let ceilings = ExponentialBackoffBuilder::new()
            .with_initial_interval(min)
            .with_max_interval(max.max(min))
            .with_multiplier(2.0)
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        Self { ceilings, attempts: 0 }
    }

    /// The schedule as it stands after `attempts` delays, for what goes on after a restart.
    pub fn resumed(min: Duration, max: Duration, attempts: u32) -> Self {
        let mut schedule = Self::new(min, max);
        // 64 doublings reach any ceiling.
        for _ in 0..attempts.min(64) {
            schedule.ceiling();
        }
        schedule.attempts = attempts;
        schedule
    }

    /// The next delay: uniform between a twentieth of the ceiling (so that it is never a hot loop)
    /// and the ceiling.
    pub fn next(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let ceiling = self.ceiling();
        self.attempts = self.attempts.saturating_add(1);
        ceiling.mul_f64(0.05 + 0.95 * rng.f64())
    }

    /// How many delays have been given since the start or the last reset.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Starts over from `min`.
    pub fn reset(&mut self) {
        self.ceilings.reset();
        self.attempts = 0;
    }

    fn ceiling(&mut self) -> Duration {
        // `None` would mean that an elapsed-time limit is over; there is none.
        self.ceilings.next_backoff().unwrap_or(self.ceilings.max_interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(500);
    const MAX: Duration = Duration::from_secs(30);

    #[test]
    fn ceilings_double_and_stay_at_the_maximum() {
        let mut schedule = Backoff::new(MIN, MAX);
        let ceilings: Vec<_> = (0..9).map(|_| schedule.ceiling().as_millis()).collect();
        assert_eq!(ceilings, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
    }

    #[test]
    fn a_resumed_schedule_goes_on_where_it_was() {
        let mut resumed = Backoff::resumed(MIN, MAX, 3);
        assert_eq!(resumed.attempts(), 3);
        assert_eq!(resumed.ceiling(), Duration::from_secs(4));
    }

    proptest::proptest! {
        #[test]
        fn a_delay_is_never_nothing_and_never_above_its_ceiling(seed: u64, steps in 1usize..20) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut schedule = Backoff::new(MIN, MAX);
            for step in 0..steps {
                let ceiling = MIN.saturating_mul(1 << step.min(10)).min(MAX);
                let delay = schedule.next(&mut rng);
                proptest::prop_assert!(delay <= ceiling && delay >= ceiling.mul_f64(0.05));
            }
            schedule.reset();
            proptest::prop_assert_eq!(schedule.ceiling(), MIN);
        }
    }
}
