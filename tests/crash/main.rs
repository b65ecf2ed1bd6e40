//! The real binary, killed with SIGKILL again and again under load in both directions. Platform and
//! receivers live in this process and survive; at the end every accepted message and every event
//! that the bridge confirmed is accounted for.
//!
//! `CRASH_SEED` repeats the choices of a run, `CRASH_KILLS` sets how many kills the long test makes.
//! What is staged, and what came out: `docs/reliability.md`.
//!
//! ```text
//! scenario  the course of a run: lives and deaths, the drain, the clean restart
//! plan      when the process dies
//! load      clients that POST, a platform that pushes, connections that drop
//! ledger    what the outside world knows: every message, every push, every death
//! daemon    the process
//! world     platform, receivers, configuration
//! verdict   the ledger against what arrived
//! ```

#![allow(clippy::unwrap_used, reason = "a test that can't go on panics")]

mod daemon;
mod ledger;
mod load;
mod plan;
mod scenario;
mod verdict;
mod world;

use std::time::Duration;

use plan::Moment;

/// Kills of the long test, unless `CRASH_KILLS` says otherwise.
const KILLS: usize = 12;

/// The seed of this run: `CRASH_SEED`, or a new one.
fn seed() -> u64 {
    number("CRASH_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000))
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_process_is_killed_at_any_moment() {
    let kills = number("CRASH_KILLS").map_or(KILLS, |kills| usize::try_from(kills).unwrap());
    scenario::run_rounds("killed at any moment", seed(), kills).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_it_is_killed_while_starting_or_stopping() {
    let seed = seed();
    let mut dice = fastrand::Rng::with_seed(seed);
    let first = Moment::Connected { user: dice.usize(..world::USERS) };
    let mut moments = vec![first, first, Moment::Accepted(30)];
    for _ in 0..3 {
        moments.push(Moment::Starting(Duration::from_millis(dice.u64(..300))));
        moments.push(Moment::stopping(&mut dice));
    }
    scenario::run("killed while starting or stopping", seed, moments).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_it_is_killed_while_a_webhook_hangs() {
    let moments = vec![Moment::Hanging(3), Moment::Hanging(1), Moment::Hanging(5)];
    scenario::run("killed while a webhook hangs", seed(), moments).await;
}
