//! The pace of requests to the platform: one token bucket per bot, shared by all its users.
//!
//! Those who wait are served first come, first served, and a user waits with one request at a time,
//! so one that flaps gets its turn in the row and no more.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use crate::{names::BotName, rate::Bucket};

/// Requests of a bot that are under way at once. The documented pace needs no more, even if the
/// platform takes as long as it may for each; a higher one would open connections by the thousand.
const AT_ONCE: usize = 128;

/// The pace of one bot's requests.
#[derive(Debug)]
pub struct Pace {
    /// Held by whoever is first in the row; tokio's mutex is fair.
    turn: tokio::sync::Mutex<()>,
    allowance: Mutex<Allowance>,
    under_way: Semaphore,
}

/// Leave to make one request, for as long as it is under way.
#[derive(Debug)]
#[must_use = "others go on when it is dropped"]
pub struct Turn<'a> {
    _permit: SemaphorePermit<'a>,
}

/// What decides when the next request may go out; no clock and no waiting.
#[derive(Debug)]
struct Allowance {
    bucket: Bucket,
    held_until: Option<Instant>,
}

impl Allowance {
    /// Takes leave for one request, else says when to ask again.
    fn take(&mut self, now: Instant) -> Result<(), Instant> {
        match self.held_until {
            Some(until) if until > now => Err(until),
            _ => self.bucket.take(now),
        }
    }

    fn hold(&mut self, until: Instant) {
        self.held_until = Some(self.held_until.map_or(until, |held| held.max(until)));
    }
}

impl Pace {
    /// `rate` requests a second, `burst` after a quiet time.
    pub fn new(rate: f64, burst: u32) -> Self {
        let allowance = Allowance { bucket: Bucket::per_second(rate, burst), held_until: None };
        Self {
            turn: tokio::sync::Mutex::default(),
            allowance: Mutex::new(allowance),
            under_way: Semaphore::new(AT_ONCE),
        }
    }

    /// Waits for leave to make one request. Cancel-safe: who goes away takes nothing.
    pub async fn wait(&self) -> Turn<'_> {
        let _first = self.turn.lock().await;
        let permit = self.under_way.acquire().await.expect("it is never closed");
        loop {
            // Bound to a name: the guard must not live until the sleep is over.
            let taken = self.allowance().take(Instant::now());
            match taken {
                Ok(()) => return Turn { _permit: permit },
                Err(at) => tokio::time::sleep_until(at).await,
            }
        }
    }

    /// The platform said 429: nobody asks again before this is over (a day at most).
    pub fn hold(&self, span: Duration) {
        self.allowance().hold(Instant::now() + span.min(Duration::from_secs(86_400)));
    }

    fn allowance(&self) -> MutexGuard<'_, Allowance> {
        self.allowance.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The paces of all bots.
#[derive(Debug)]
pub struct Paces {
    rate: f64,
    burst: u32,
    bots: Mutex<BTreeMap<BotName, Arc<Pace>>>,
}

impl Paces {
    /// The same pace for each bot.
    pub fn new(rate: f64, burst: u32) -> Self {
        Self { rate, burst, bots: Mutex::default() }
    }

    /// The pace of this bot.
    pub fn of(&self, bot: &BotName) -> Arc<Pace> {
        let mut bots = self.bots.lock().unwrap_or_else(PoisonError::into_inner);
        bots.entry(bot.clone()).or_insert_with(|| Arc::new(Pace::new(self.rate, self.burst))).clone()
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    #[test]
    fn a_hold_outlasts_the_bucket_and_a_shorter_hold() {
        let now = Instant::now();
        let mut allowance = Allowance { bucket: Bucket::per_second(10.0, 5), held_until: None };
        assert_eq!(allowance.take(now), Ok(()));
        let until = now + Duration::from_secs(30);
        allowance.hold(until);
        allowance.hold(now + Duration::from_secs(10));
        assert_eq!(allowance.take(now + Duration::from_secs(29)), Err(until));
        assert_eq!(allowance.take(until), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn first_come_first_served_at_the_rate() {
        let pace = Arc::new(Pace::new(2.0, 1));
        let start = Instant::now();
        let mut waiters = JoinSet::new();
        for number in 0..6u32 {
            let pace = pace.clone();
            waiters.spawn(async move {
                let _turn = pace.wait().await;
                (number, start.elapsed())
            });
            tokio::task::yield_now().await;
        }
        let mut served = waiters.join_all().await;
        served.sort_by_key(|(_, at)| *at);
        let order: Vec<_> = served.iter().map(|(number, _)| *number).collect();
        assert_eq!(order, [0, 1, 2, 3, 4, 5]);
        assert!(served[5].1 >= Duration::from_millis(2500), "{served:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_reaches_those_who_wait_already() {
        let pace = Arc::new(Pace::new(1.0, 1));
        drop(pace.wait().await);
        let start = Instant::now();
        let waiter = tokio::spawn({
            let pace = pace.clone();
            async move { drop(pace.wait().await) }
        });
        tokio::task::yield_now().await;
        pace.hold(Duration::from_secs(60));
        waiter.await.unwrap();
        assert!(start.elapsed() >= Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_are_under_way_at_once() {
        let pace = Pace::new(1000.0, 1000);
        let mut under_way = Vec::new();
        for _ in 0..AT_ONCE {
            under_way.push(pace.wait().await);
        }
        assert!(tokio::time::timeout(Duration::from_secs(60), pace.wait()).await.is_err());
        under_way.pop();
        drop(pace.wait().await);
    }

    #[test]
    fn a_bot_has_its_own_pace() {
        let paces = Paces::new(1.0, 1);
        let [one, two] = ["one", "two"].map(|name| BotName::new(name).unwrap());
        assert!(Arc::ptr_eq(&paces.of(&one), &paces.of(&one)));
        assert!(!Arc::ptr_eq(&paces.of(&one), &paces.of(&two)));
    }
}
