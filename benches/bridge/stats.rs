//! Medians and percentiles.

use std::time::Duration;

/// The value in the middle; the lower of two. Not a number if there are none.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get((values.len().saturating_sub(1)) / 2).copied().unwrap_or(f64::NAN)
}

/// Spans of time in nanoseconds, and how they are spread. Negative ones are possible where two
/// things happen in either order.
#[derive(Debug, Clone, Default)]
pub struct Spread(Vec<i64>);

impl Spread {
    /// Of these spans.
    pub fn new(mut nanos: Vec<i64>) -> Self {
        nanos.sort_unstable();
        Self(nanos)
    }

    /// Of all that these have.
    pub fn of_all(spreads: &[Self]) -> Self {
        Self::new(spreads.iter().flat_map(|Self(nanos)| nanos.iter().copied()).collect())
    }

    /// The span that this share of all doesn't exceed, in milliseconds.
    pub fn percentile(&self, share: f64) -> f64 {
        let Some(last) = self.0.len().checked_sub(1) else { return f64::NAN };
        let index = (share * last as f64).round() as usize;
        self.0[index.min(last)] as f64 / 1e6
    }

    /// p50 in milliseconds.
    pub fn p50(&self) -> f64 {
        self.percentile(0.5)
    }

    /// p99 in milliseconds.
    pub fn p99(&self) -> f64 {
        self.percentile(0.99)
    }
}

/// The median of what each of these has as this percentile.
pub fn median_of(percentile: fn(&Spread) -> f64, spreads: &[Spread]) -> f64 {
    median(&spreads.iter().map(percentile).collect::<Vec<_>>())
}

/// So many in this time, a second.
pub fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// Microseconds of this time for each of so many.
pub fn micros_each(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}
