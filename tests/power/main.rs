//! Power loss: the real binary runs under load while everything that it writes and syncs is recorded;
//! then its store is put together again as a disk would have it that lost power at some moment, with what was synced
//! and with little, some or a torn mixture of what was not. The daemon starts on it, and whatever it
//! had acknowledged by that moment must be there.
//!
//! `POWER_SEED` repeats the choices of a run, `POWER_CUTS` sets how many moments are looked at, `POWER_MESSAGES` how
//! many messages each user sends. What is staged, and what came out: `docs/reliability.md`.
//!
//! ```text
//! recorder.c  inside the daemon: what it writes and syncs, in one order
//! record      the recording, and what of it a power loss leaves
//! load        clients that POST, a platform that pushes; the ledger of what was acknowledged
//! daemon      the process
//! world       platform, receivers, configuration
//! aftermath   a start after the power loss, held against the ledger
//! ```

#![allow(clippy::unwrap_used, reason = "a test that can't go on panics")]

mod aftermath;
mod daemon;
mod load;
mod record;
mod world;

use std::{collections::BTreeSet, time::Duration};

use daemon::{Process, Recorder};
use load::Ledger;
use record::{Luck, Recording};
use world::{Durability, World};

/// Nothing that is waited for may take longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Moments that are looked at, unless `POWER_CUTS` says otherwise.
const CUTS: usize = 9;

/// What a life of the daemon left: its recording, and what it had acknowledged when.
struct Life {
    world: World,
    recording: Recording,
    ledger: Ledger,
}

/// Runs the daemon under load, recorded, until the power goes.
async fn live(durability: Durability) -> Life {
    let world = World::start(durability).await;
    let recorder = Recorder::build(world.directory(), &world.store());
    let mut process = Process::start(&world.config_path(), Some(&recorder));
    let api = process.ready().await.unwrap();
    let ledger = load::run(&world, api, &recorder).await;
    process.kill();
    let recording = Recording::read(recorder.log());
    Life { world, recording, ledger }
}

fn number(variable: &str) -> Option<usize> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

/// The moments of the power loss: the last, the first seconds of a new store, any.
fn moments(life: &Life, dice: &mut fastrand::Rng) -> Vec<(u64, Luck)> {
    let count = number("POWER_CUTS").unwrap_or(CUTS);
    let (first, last) = (life.ledger.first(), life.recording.length());
    let lucks = [Luck::None, Luck::Some, Luck::Torn];
    let mut cuts = BTreeSet::from([first, last]);
    while cuts.len() < count.max(2) {
        cuts.insert(dice.u64(first..=last));
    }
    cuts.into_iter().zip(lucks.into_iter().cycle()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_power_loss_at_any_moment() {
    let seed = number("POWER_SEED").unwrap_or_else(|| fastrand::usize(..1_000_000));
    let mut dice = fastrand::Rng::with_seed(seed as u64);
    let life = live(Durability::Fsync).await;
    println!("seed {seed}: {} MiB recorded; {}", life.recording.length() >> 20, life.ledger);
    for (cut, luck) in moments(&life, &mut dice) {
        let found = aftermath::of(&life, cut, luck, &mut dice).await;
        println!("power loss at byte {cut}, {luck:?} of the unsynced survives: {found}");
        assert!(
            found.wrong.is_empty(),
            "POWER_SEED={seed}, power loss at byte {cut} ({luck:?}): {:#?}\nlog:\n{}",
            found.wrong,
            found.log
        );
    }
}

/// The test can see a loss: without syncs, the same moments lose something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_syncs_a_power_loss_loses_what_was_acknowledged() {
    let life = live(Durability::Os).await;
    let mut dice = fastrand::Rng::with_seed(1);
    let found = aftermath::of(&life, life.recording.length(), Luck::None, &mut dice).await;
    assert!(!found.wrong.is_empty(), "nothing was synced, and nothing is missed: {found}");
}
