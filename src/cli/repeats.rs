//! Log lines that come again and again: the first ones in full, then how many more there were.
//!
//! Ten thousand users that lose their connections at once say the same ten thousand times, each for itself.
//! What is told from one place in the code is limited; whoever looks at `debug` gets everything.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    callsite::Identifier,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Filter};

/// So many lines from one place...
const BURST: u32 = 50;
/// ... in so much time are written in full.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// Where the lines come from that tell of the others. They are not limited.
const TARGET: &str = "rtm_bridge::repeats";

/// Limits what is written; see the [module](self).
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<Limiter<Identifier>>);

impl Repeats {
    /// Tells how many lines were left out, of places whose time is over by `now`.
    pub(super) fn tell(&self, now: Instant) {
        let left_out = self.lock().over(now);
        for LeftOut { count, message, level } in left_out {
            // A level is a constant of a line.
            if level == Level::ERROR {
                tracing::error!(target: TARGET, more = count, "... and {count} more: {message}");
            } else if level == Level::WARN {
                tracing::warn!(target: TARGET, more = count, "... and {count} more: {message}");
            } else {
                tracing::info!(target: TARGET, more = count, "... and {count} more: {message}");
            }
        }
    }

    /// Tells it every few seconds.
    pub(super) async fn keep_telling(&self) {
        let mut every = tokio::time::interval(WINDOW);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            self.tell(Instant::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Limiter<Identifier>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Filter<S> for &'static Repeats {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == TARGET {
            return true;
        }
        let message = || {
            let mut message = Message::default();
            event.record(&mut message);
            message.0
        };
        self.lock().admit(metadata.callsite(), *metadata.level(), message, Instant::now())
    }
}

/// The words of an event.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

/// What was left out of one place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LeftOut {
    count: u32,
    /// The words of the first of them.
    message: String,
    level: Level,
}

/// The lines of one place since `began`.
#[derive(Debug)]
struct Place {
    began: Instant,
    written: u32,
    left_out: Option<LeftOut>,
}

/// Decides what is written in full.
#[derive(Debug)]
struct Limiter<K>(HashMap<K, Place>);

impl<K> Default for Limiter<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq> Limiter<K> {
    /// Whether a line is written. A place that left something out begins anew only once that was told.
    fn admit(&mut self, key: K, level: Level, message: impl FnOnce() -> String, now: Instant) -> bool {
        let new = || Place { began: now, written: 0, left_out: None };
        let place = self.0.entry(key).or_insert_with(new);
        if place.left_out.is_none() && now.saturating_duration_since(place.began) >= WINDOW {
            *place = new();
        }
        if place.written < BURST {
            place.written += 1;
            return true;
        }
        let left_out = place.left_out.get_or_insert_with(|| LeftOut { count: 0, message: message(), level });
        left_out.count = left_out.count.saturating_add(1);
        false
    }

    /// What was left out of places whose time is over; they begin anew.
    fn over(&mut self, now: Instant) -> Vec<LeftOut> {
        let mut told = Vec::new();
        self.0.retain(|_, place| {
            if now.saturating_duration_since(place.began) < WINDOW {
                return true;
            }
            told.extend(place.left_out.take());
            false
        });
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_of_a_place_are_written_and_the_others_counted() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        let admit = |limiter: &mut Limiter<_>, key, at| {
            limiter.admit(key, Level::WARN, || format!("{key} fails"), at)
        };
        let written = (0..BURST + 412).filter(|_| admit(&mut limiter, "a", start)).count();
        assert_eq!(written, BURST as usize);
        assert!(admit(&mut limiter, "b", start), "another place is not limited by this one");
        assert_eq!(limiter.over(start), [], "its time is not over");
        let later = start + WINDOW;
        assert!(!admit(&mut limiter, "a", later), "nothing is written before the rest was told");
        let left_out = LeftOut { count: 413, message: "a fails".to_owned(), level: Level::WARN };
        assert_eq!(limiter.over(later), [left_out]);
        assert!(admit(&mut limiter, "a", later), "it begins anew");
        assert_eq!(limiter.over(later + WINDOW), []);
    }

    #[test]
    fn who_speaks_now_and_then_is_always_heard() {
        let (mut limiter, mut now) = (Limiter::default(), Instant::now());
        for _ in 0..10 * BURST {
            now += Duration::from_secs(1);
            assert!(limiter.admit((), Level::INFO, String::new, now));
        }
    }
}
