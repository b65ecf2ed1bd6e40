//! A token bucket, without a clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::config;

/// So many at once after a quiet time, then one each interval (the generic cell rate algorithm: one
/// moment of state instead of a level that must be topped up).
#[derive(Debug, Clone)]
pub struct Bucket {
    interval: Duration,
    /// How far ahead of time the schedule may run: `burst` intervals.
    tolerance: Duration,
    /// When the bucket will be full again.
    full_at: Option<Instant>,
}

impl Bucket {
    /// One each `interval`, `burst` at once; a burst of 0 counts as 1.
    pub fn new(interval: Duration, burst: u32) -> Self {
        // A day is as good as never, and keeps the sums below within what a clock can hold.
        let interval = interval.min(Duration::from_secs(86_400));
        Self { interval, tolerance: interval.saturating_mul(burst.max(1)), full_at: None }
    }

    /// `rate` a second, `burst` at once. A rate that is no positive number counts as one a minute.
    pub fn per_second(rate: f64, burst: u32) -> Self {
        let interval = Duration::try_from_secs_f64(rate.recip()).unwrap_or(Duration::from_secs(60));
        Self::new(interval, burst)
    }

    /// A configured rate; after a quiet time, its whole count at once.
    pub fn of(rate: config::Rate) -> Self {
        Self::new(rate.per / rate.count.max(1), rate.count)
    }

    /// The bucket that takes this one's place: as much is missing in it as in this one, if it can miss so
    /// much.
    pub fn replaced_by(&self, other: Self, now: Instant) -> Self {
        let ahead = self.full_at.map_or(Duration::ZERO, |full_at| full_at.saturating_duration_since(now));
        let missing = ahead.as_secs_f64() / self.interval.as_secs_f64().max(f64::MIN_POSITIVE);
        let ahead = other.interval.mul_f64(missing.clamp(0.0, 1e6)).min(other.tolerance);
        Self { full_at: Some(now + ahead), ..other }
    }

    /// Takes one; else says when one can be taken, which is later than `now`.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        self.full_at = Some(self.after_one(now, self.tolerance)?);
        Ok(())
    }

    /// Takes one if `reserve` are left after it (or the bucket was full); else says when to ask again,
    /// which is later than `now`.
    pub fn take_above(&mut self, now: Instant, reserve: u32) -> Result<(), Instant> {
        let reserved = self.interval.saturating_mul(reserve);
        let tolerance = self.tolerance.saturating_sub(reserved).max(self.interval);
        self.full_at = Some(self.after_one(now, tolerance)?);
        Ok(())
    }

    /// Whether one can be taken now; else says when, which is later than `now`.
    pub fn look(&self, now: Instant) -> Result<(), Instant> {
        self.after_one(now, self.tolerance).map(drop)
    }

    /// When the bucket would be full again after one more.
    fn after_one(&self, now: Instant, tolerance: Duration) -> Result<Instant, Instant> {
        let full_at = self.full_at.unwrap_or(now).max(now) + self.interval;
        match full_at.checked_duration_since(now + tolerance) {
            None | Some(Duration::ZERO) => Ok(full_at),
            Some(wait) => Err(now + wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::per_second(4.0, 3);
        for _ in 0..3 {
            assert_eq!(bucket.take(start), Ok(()));
        }
        assert_eq!(bucket.take(start), Err(start + Duration::from_millis(250)));
        assert_eq!(bucket.take(start + Duration::from_millis(250)), Ok(()));
        assert!(bucket.take(start + Duration::from_millis(250)).is_err());
        let rested = start + Duration::from_secs(60);
        assert_eq!((0..10).filter(|_| bucket.take(rested).is_ok()).count(), 3, "no more than the burst");
    }

    #[test]
    fn a_reserve_is_left_to_others() {
        let start = Instant::now();
        let mut bucket = Bucket::per_second(4.0, 5);
        let taken = (0..10).filter(|_| bucket.take_above(start, 3).is_ok()).count();
        assert_eq!(taken, 2);
        let at = bucket.take_above(start, 3).unwrap_err();
        assert_eq!(at, start + Duration::from_millis(250));
        assert_eq!((0..10).filter(|_| bucket.take(start).is_ok()).count(), 3);
        assert!(bucket.take_above(start + Duration::from_millis(250), 3).is_err(), "the reserve comes first");
        // Where all would be reserve, one is taken from a full bucket.
        let mut small = Bucket::per_second(4.0, 1);
        assert_eq!((small.take_above(start, 5), small.take(start).is_err()), (Ok(()), true));
    }

    proptest::proptest! {
        #[test]
        fn never_more_than_burst_and_rate_and_never_a_wait_that_does_not_help(
            rate in 0.5f64..50.0, burst in 0u32..20, gaps in proptest::collection::vec(0u64..400, 1..200)
        ) {
            let start = Instant::now();
            let mut bucket = Bucket::per_second(rate, burst);
            let (mut now, mut taken) = (start, 0u32);
            for gap in gaps {
                now += Duration::from_millis(gap);
                match bucket.take(now) {
                    Ok(()) => taken += 1,
                    Err(at) => {
                        proptest::prop_assert!(at > now);
                        proptest::prop_assert_eq!(bucket.look(now), Err(at));
                        proptest::prop_assert!(bucket.clone().take(at).is_ok());
                    }
                }
                let most = f64::from(burst.max(1)) + (now - start).as_secs_f64() * rate;
                proptest::prop_assert!(f64::from(taken) <= most + 1e-6);
            }
        }
    }
}
