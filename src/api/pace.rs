//! A client's rate limit.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Rate;

/// Lets so many requests through in any span of `rate.per`, the first ones at once (GCRA).
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    span: Duration,
    /// When the requests let through so far are paid off.
    paid_at: Option<Instant>,
}

impl Pace {
    pub fn new(rate: Rate) -> Self {
        Self { interval: rate.per / rate.count.max(1), span: rate.per, paid_at: None }
    }

    /// Lets a request through, or says how long it should wait.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let from = self.paid_at.map_or(now, |at| at.max(now));
        let owed = from - now + self.interval;
        if owed > self.span {
            return Err(owed - self.span);
        }
        self.paid_at = Some(from + self.interval);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lets_the_burst_through_and_then_the_rate() {
        let start = Instant::now();
        let mut pace = Pace::new(Rate { count: 4, per: Duration::from_secs(1) });
        for _ in 0..4 {
            assert_eq!(pace.take(start), Ok(()));
        }
        let wait = pace.take(start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(250));
        assert_eq!(pace.take(start + wait), Ok(()));
        assert!(pace.take(start + wait).is_err());
        assert_eq!(pace.take(start + Duration::from_secs(9)), Ok(()));
    }
}
