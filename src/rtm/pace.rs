//! The pace of requests to the platform: one token bucket per bot, shared by all its users.
//!
//! Those who wait are served first come, first served, and a user waits with one request at a time,
//! so one that flaps gets its turn in the row and no more.
//!
//! Who asks only because a caller wants to know stands in a row beside that one, and takes nothing of
//! the half of the burst that is kept for connections.

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
    /// The same for the callers' row.
    callers_turn: tokio::sync::Mutex<()>,
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
    /// What is kept for connections.
    reserve: u32,
    held_until: Option<Instant>,
}

/// Who waits where.
#[derive(Debug, Clone, Copy)]
enum Row {
    Connections,
    Callers,
}

impl Allowance {
    /// Takes leave for one request, else says when to ask again.
    fn take(&mut self, now: Instant, whose: Row) -> Result<(), Instant> {
        match (self.held_until, whose) {
            (Some(until), _) if until > now => Err(until),
            (_, Row::Connections) => self.bucket.take(now),
            (_, Row::Callers) => self.bucket.take_above(now, self.reserve),
        }
    }

    /// Goes by another rate; the burst is not given anew.
    fn set(&mut self, rate: f64, burst: u32, now: Instant) {
        self.bucket = self.bucket.replaced_by(Bucket::per_second(rate, burst), now);
        self.reserve = burst / 2;
    }

    fn hold(&mut self, until: Instant) {
        self.held_until = Some(self.held_until.map_or(until, |held| held.max(until)));
    }
}

impl Pace {
    /// `rate` requests a second, `burst` after a quiet time.
    pub fn new(rate: f64, burst: u32) -> Self {
        let bucket = Bucket::per_second(rate, burst);
        let allowance = Mutex::new(Allowance { bucket, reserve: burst / 2, held_until: None });
        Self {
            turn: tokio::sync::Mutex::default(),
            callers_turn: tokio::sync::Mutex::default(),
            allowance,
            under_way: Semaphore::new(AT_ONCE),
        }
    }

    /// Waits for leave to make one request. Cancel-safe: who goes away takes nothing.
    pub async fn wait(&self) -> Turn<'_> {
        let _first = self.turn.lock().await;
        self.leave(Row::Connections).await
    }

    /// Waits for leave to make a request that no connection needs. Cancel-safe.
    pub async fn wait_for_caller(&self) -> Turn<'_> {
        let _first = self.callers_turn.lock().await;
        self.leave(Row::Callers).await
    }

    async fn leave(&self, whose: Row) -> Turn<'_> {
        let permit = self.under_way.acquire().await.expect("it is never closed");
        loop {
            // Bound to a name: the guard must not live until the sleep is over.
            let taken = self.allowance().take(Instant::now(), whose);
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
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rate: f64,
    burst: u32,
    bots: BTreeMap<BotName, Arc<Pace>>,
}

impl Paces {
    /// The same pace for each bot.
    pub fn new(rate: f64, burst: u32) -> Self {
        Self { state: Mutex::new(State { rate, burst, bots: BTreeMap::new() }) }
    }

    /// Another pace for each bot, from now on.
    pub fn set(&self, rate: f64, burst: u32) {
        let mut state = self.lock();
        if (rate, burst) == (state.rate, state.burst) {
            return;
        }
        (state.rate, state.burst) = (rate, burst);
        for pace in state.bots.values() {
            pace.allowance().set(rate, burst, Instant::now());
        }
    }

    /// The pace of this bot.
    pub fn of(&self, bot: &BotName) -> Arc<Pace> {
        let mut state = self.lock();
        let (rate, burst) = (state.rate, state.burst);
        state.bots.entry(bot.clone()).or_insert_with(|| Arc::new(Pace::new(rate, burst))).clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    #[test]
    fn a_hold_outlasts_the_bucket_and_a_shorter_hold() {
        let now = Instant::now();
        let mut allowance = Allowance { bucket: Bucket::per_second(10.0, 5), reserve: 0, held_until: None };
        assert_eq!(allowance.take(now, Row::Connections), Ok(()));
        let until = now + Duration::from_secs(30);
        allowance.hold(until);
        allowance.hold(now + Duration::from_secs(10));
        assert_eq!(allowance.take(now + Duration::from_secs(29), Row::Callers), Err(until));
        assert_eq!(allowance.take(until, Row::Connections), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn callers_leave_half_of_the_burst_to_connections() {
        let pace = Arc::new(Pace::new(1.0, 10));
        let start = Instant::now();
        let mut callers = JoinSet::new();
        for _ in 0..8 {
            let pace = pace.clone();
            callers.spawn(async move { drop(pace.wait_for_caller().await) });
        }
        for _ in 0..5 {
            callers.join_next().await.unwrap().unwrap();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..5 {
            drop(pace.wait().await);
        }
        assert_eq!(start.elapsed(), Duration::ZERO, "connections don't wait behind callers");
        callers.join_all().await;
        assert!(start.elapsed() >= Duration::from_secs(8), "{:?}", start.elapsed());
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
    fn another_rate_gives_no_new_burst() {
        let now = Instant::now();
        let mut allowance = Allowance { bucket: Bucket::per_second(1.0, 3), reserve: 1, held_until: None };
        let take = |allowance: &mut Allowance, at| allowance.take(at, Row::Connections);
        (0..3).for_each(|_| take(&mut allowance, now).unwrap());
        allowance.set(10.0, 3, now);
        assert!(take(&mut allowance, now).is_err(), "the burst is used up");
        assert!(take(&mut allowance, now + Duration::from_millis(100)).is_ok(), "and fills at the new rate");
        allowance.set(1.0, 3, now + Duration::from_secs(60));
        (0..3).for_each(|_| take(&mut allowance, now + Duration::from_secs(60)).unwrap());
    }

    #[test]
    fn a_bot_has_its_own_pace() {
        let paces = Paces::new(1.0, 1);
        let [one, two] = ["one", "two"].map(|name| BotName::new(name).unwrap());
        assert!(Arc::ptr_eq(&paces.of(&one), &paces.of(&one)));
        assert!(!Arc::ptr_eq(&paces.of(&one), &paces.of(&two)));
    }
}
