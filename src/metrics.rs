//! What is counted: plain atomics, which cost a hot path one addition. Names, labels and help texts are given
//! to them where they are shown (`daemon::metrics`).

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more.
    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// How long things took: how often each of some spans.
#[derive(Debug)]
pub struct Histogram {
    /// The upper bounds of the buckets, in seconds, growing.
    bounds: &'static [f64],
    /// One more than bounds: the last is for what is longer than all.
    counts: Box<[Counter]>,
    nanoseconds: AtomicU64,
}

/// What a histogram counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// All spans together, in seconds.
    pub sum: f64,
    /// How many there were.
    pub count: u64,
    /// How many were not longer than this bound (in seconds), and longer than the one before. The last bound is
    /// [`f64::INFINITY`].
    pub buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// Nothing counted yet, in buckets with these upper bounds in seconds, growing.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| Counter::default()).collect(),
            nanoseconds: AtomicU64::new(0),
        }
    }

    /// Counts a span.
    pub fn observe(&self, span: Duration) {
        let seconds = span.as_secs_f64();
        self.counts[self.bounds.partition_point(|bound| *bound < seconds)].add_one();
        let nanoseconds = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// What was counted.
    pub fn observed(&self) -> Observed {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(self.counts.iter().map(Counter::get)).collect();
        let sum = self.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
        Observed { sum, count: buckets.iter().map(|(_, count)| count).sum(), buckets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&[0.1, 1.0]);
        for millis in [50, 100, 101, 1000, 60_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let observed = histogram.observed();
        assert_eq!(observed.buckets, [(0.1, 2), (1.0, 2), (f64::INFINITY, 1)]);
        assert_eq!(observed.count, 5);
        assert!((observed.sum - 61.251).abs() < 1e-9, "{}", observed.sum);
    }
}
