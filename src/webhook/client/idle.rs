//! Connections that wait for their next request, without I/O and without a clock.

use std::time::Duration;

use tokio::time::Instant;

/// Idle connections are dropped before common servers drop them (Node's keep-alive: 5 s).
pub(in crate::webhook) const LONGEST_IDLE: Duration = Duration::from_secs(4);

/// Idle connections. The one that was used last is used next, so that those that are not needed any
/// more grow old.
#[derive(Debug)]
pub(super) struct Idle<C> {
    /// By when they became idle, the oldest first.
    kept: Vec<(Instant, C)>,
    most: usize,
}

impl<C> Idle<C> {
    /// Room for so many.
    pub(super) fn new(most: usize) -> Self {
        Self { kept: Vec::new(), most }
    }

    /// Keeps a connection; gives it back if there are enough.
    pub(super) fn put(&mut self, connection: C, now: Instant) -> Option<C> {
        if self.kept.len() >= self.most {
            return Some(connection);
        }
        self.kept.push((now, connection));
        None
    }

    /// The connection that was used last, unless it is too old. Then so are all others.
    pub(super) fn take(&mut self, now: Instant) -> Option<C> {
        let (_, connection) = self.kept.pop_if(|(since, _)| !is_too_old(*since, now))?;
        Some(connection)
    }

    /// Takes those out that are too old.
    pub(super) fn take_old(&mut self, now: Instant) -> Vec<C> {
        let old = self.kept.partition_point(|(since, _)| is_too_old(*since, now));
        self.kept.drain(..old).map(|(_, connection)| connection).collect()
    }

    /// When the next one will be too old.
    pub(super) fn next_old(&self) -> Option<Instant> {
        self.kept.first().map(|(since, _)| *since + LONGEST_IDLE)
    }
}

fn is_too_old(since: Instant, now: Instant) -> bool {
    now >= since + LONGEST_IDLE
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_last_used_is_used_next_and_there_are_never_too_many() {
        let now = Instant::now();
        let mut idle = Idle::new(2);
        assert_eq!(idle.take(now), None);
        assert_eq!((idle.put(1, now), idle.put(2, now), idle.put(3, now)), (None, None, Some(3)));
        assert_eq!((idle.take(now), idle.take(now), idle.take(now)), (Some(2), Some(1), None));
    }

    #[test]
    fn what_is_too_old_is_neither_used_nor_kept() {
        let now = Instant::now();
        let mut idle = Idle::new(9);
        assert_eq!(idle.next_old(), None);
        for second in 0..3 {
            assert_eq!(idle.put(second, now + second * SECOND), None);
        }
        assert_eq!(idle.next_old(), Some(now + LONGEST_IDLE));
        assert_eq!(idle.take_old(now + LONGEST_IDLE - Duration::from_millis(1)), [0; 0]);
        assert_eq!(idle.take_old(now + LONGEST_IDLE + SECOND), [0, 1]);
        assert_eq!(idle.next_old(), Some(now + 2 * SECOND + LONGEST_IDLE));
        assert_eq!(idle.take(now + 2 * SECOND + LONGEST_IDLE), None, "it may be closed already");
        assert_eq!(idle.take_old(now + 2 * SECOND + LONGEST_IDLE), [2]);
        assert_eq!(idle.next_old(), None);
    }
}
