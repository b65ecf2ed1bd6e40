//! The real binary on a disk that fails: full, over quota, read-only, broken, slow; and the tools of its
//! store. Platform and receiver
//! live in this process; at the end every message and every confirmed event is accounted for.
//!
//! What is staged, and what came out: `docs/reliability.md`.
//!
//! ```text
//! faults    the disk: a preloaded library that refuses what the test says
//! daemon    the process
//! world     platform, receiver, configuration
//! load      clients that POST, a platform that pushes; the ledger
//! verdict   the ledger against what arrived
//! ```

#![allow(clippy::unwrap_used, reason = "a test that can't go on panics")]

mod daemon;
mod faults;
mod load;
mod verdict;
mod world;

use std::{os::unix::fs::PermissionsExt as _, process::Command, time::Duration};

use faults::Failure;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use verdict::{Repeats, judge};
use world::{PATIENCE, USERS, World, user_name};

/// Many loads at once would only make each other slow.
static A_FEW_AT_A_TIME: Semaphore = Semaphore::const_new(2);

/// Waits until so many more messages were accepted and refused.
async fn wait_counts(world: &World, accepted: usize, refused: usize) {
    let (began, before) = (Instant::now(), world.ledger.counts());
    loop {
        let now = world.ledger.counts();
        if now.0 >= before.0 + accepted && now.1 >= before.1 + refused {
            return;
        }
        let waited = began.elapsed();
        assert!(
            waited < PATIENCE,
            "from {before:?} to {now:?} in {waited:?}; the log:\n{}",
            world.log.text()
        );
        sleep(Duration::from_millis(10)).await;
    }
}

/// The disk fails twice under load, and works again each time.
async fn survives(failure: Failure) {
    let _turn = A_FEW_AT_A_TIME.acquire().await;
    let world = World::start("").await;
    let (mut process, addresses) = world.launch().await;
    let shift = world.load(addresses.api);
    for round in 0..2 {
        wait_counts(&world, 40, 0).await;
        world.faults.begin(failure, fastrand::u32(..12));
        let off_after = world.wait_ready(addresses.ops, 503).await;
        wait_counts(&world, 0, 20).await;
        assert_eq!(world.probe(addresses.ops, "/livez").await.0, 200);
        // Longer than a dead connection is waited for.
        sleep(Duration::from_millis(2500)).await;
        let (accepted, _) = world.ledger.counts();
        wait_counts(&world, 0, 20).await;
        assert_eq!(world.ledger.counts().0, accepted, "nothing is accepted on a disk that takes nothing");
        world.faults.end();
        let on_after = world.wait_ready(addresses.ops, 200).await;
        println!("{failure:?}, round {round}: off after {off_after:.1?}, on after {on_after:.1?}");
        assert!(on_after < Duration::from_secs(10), "on again after {on_after:?}");
    }
    wait_counts(&world, 40, 0).await;
    shift.end().await;
    judge(&world, addresses, Repeats::None).await;
    for user in (0..USERS).map(user_name) {
        assert_eq!(world.sandbox.control().connects(&user), 1, "{user} kept its socket");
    }
    let status = process.terminate(Duration::from_secs(10)).await;
    assert!(status.success(), "{status}; the log:\n{}", world.log.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_waited_for_and_loses_nothing() {
    survives(Failure::Full).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_waited_for_and_loses_nothing() {
    survives(Failure::OverQuota).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_disk_is_waited_for_and_loses_nothing() {
    survives(Failure::ReadOnly).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_it_is_killed_or_stopped_while_the_disk_is_full() {
    let _turn = A_FEW_AT_A_TIME.acquire().await;
    let world = World::start("").await;
    let (mut process, addresses) = world.launch().await;
    for round in 0..4 {
        let shift = world.load(if round == 0 { addresses.api } else { process.ready().await.api });
        wait_counts(&world, 40, 0).await;
        world.faults.begin(Failure::Full, fastrand::u32(..12));
        wait_counts(&world, 0, 20).await;
        if round % 2 == 0 {
            process.kill();
        } else {
            // What could not be committed is as after a kill.
            let status = process.terminate(Duration::from_secs(10)).await;
            println!("stopped while the disk was full: {status}");
        }
        shift.end().await;
        // Nor does it start on a full disk: it says what to do, and that trying again may help.
        let mut hopeless = world.spawn();
        let status = hopeless.ended(PATIENCE).await;
        assert_eq!(status.code(), Some(1), "the log:\n{}", world.log.text());
        assert!(world.log.text().contains("make room on that disk"), "the log:\n{}", world.log.text());
        world.faults.end();
        process = world.launch().await.0;
    }
    let addresses = process.ready().await;
    judge(&world, addresses, Repeats::AfterAKill).await;
}

/// After an I/O error nobody knows what is on the disk: the process ends, and its restart finds out.
async fn ends(failure: Failure) {
    let _turn = A_FEW_AT_A_TIME.acquire().await;
    let world = World::start("").await;
    let (mut process, addresses) = world.launch().await;
    let mut api = addresses.api;
    for _ in 0..3 {
        let shift = world.load(api);
        wait_counts(&world, 40, 0).await;
        world.faults.begin(failure, fastrand::u32(..12));
        let status = process.ended(PATIENCE).await;
        assert_eq!(status.code(), Some(1), "the log:\n{}", world.log.text());
        shift.end().await;
        world.faults.end();
        process = world.launch().await.0;
        api = process.ready().await.api;
    }
    let addresses = process.ready().await;
    judge(&world, addresses, Repeats::AfterAKill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_io_error_ends_the_process_and_loses_nothing() {
    ends(Failure::Broken).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_ends_the_process_and_loses_nothing() {
    ends(Failure::Unsynced).await;
}

/// Each sync takes so long, and everything comes through all the same.
async fn bears(delay: Duration, messages: usize) {
    let world = World::start("").await;
    let (mut process, addresses) = world.launch().await;
    world.faults.slow_down(delay);
    let shift = world.load(addresses.api);
    wait_counts(&world, messages, 0).await;
    assert_eq!(world.probe(addresses.ops, "/livez").await.0, 200);
    shift.end().await;
    judge(&world, addresses, Repeats::None).await;
    for user in (0..USERS).map(user_name) {
        assert_eq!(world.sandbox.control().connects(&user), 1, "{user} kept its socket");
    }
    world.faults.slow_down(Duration::ZERO);
    assert!(process.terminate(Duration::from_secs(10)).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_slows_everything_down_and_loses_nothing() {
    bears(Duration::from_millis(300), 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_takes_seconds_for_a_sync_loses_nothing() {
    bears(Duration::from_secs(2), 4).await;
}

/// `store.max_size` is like a disk of that size: what is new is refused while the webhook is down, and
/// taken again when its backlog is delivered, although sled's file never shrinks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_at_its_largest_size_refuses_what_is_new_until_its_backlog_is_delivered() {
    const MAX: u64 = 24 << 20;
    let _turn = A_FEW_AT_A_TIME.acquire().await;
    let world = World::start("max_size = \"24MiB\"").await;
    let (mut process, addresses) = world.launch().await;
    let shift = world.load(addresses.api);
    for round in 0..3 {
        world.crm.fail(Some("503@100%".parse().unwrap()));
        world.wait_ready(addresses.ops, 503).await;
        let (_, health) = world.probe(addresses.ops, "/readyz").await;
        assert_eq!(health["store"], "full");
        assert_eq!(world.probe(addresses.ops, "/livez").await.0, 200);
        wait_counts(&world, 0, 20).await;
        let size = world.store_size();
        println!("round {round}: full at {size} bytes on disk");
        assert!(size < MAX + MAX / 2, "{size} bytes on disk");
        world.crm.fail(None);
        world.wait_ready(addresses.ops, 200).await;
        wait_counts(&world, 40, 0).await;
    }
    shift.end().await;
    judge(&world, addresses, Repeats::None).await;
    for user in (0..USERS).map(user_name) {
        assert_eq!(world.sandbox.control().connects(&user), 1, "{user} kept its socket");
    }
    assert!(process.terminate(Duration::from_secs(10)).await.success());
}

/// Runs `rtm-bridge store` with these arguments; answers with the exit code and all that it said.
fn store_command(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rtm-bridge"));
    command.arg("store").args(arguments).arg("-c").arg(world.config_path());
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_exported_and_imported_goes_on_where_it_was() {
    let _turn = A_FEW_AT_A_TIME.acquire().await;
    let world = World::start("").await;
    let (mut process, addresses) = world.launch().await;
    let shift = world.load(addresses.api);
    wait_counts(&world, 40, 0).await;
    // From here on nothing is delivered, and so nothing noted late.
    world.crm.fail(Some("503@100%".parse().unwrap()));
    wait_counts(&world, 80, 0).await;
    let (code, said) = store_command(&world, &["verify"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("in use by another rtm-bridge"), "{said}");
    shift.end().await;
    assert!(process.terminate(Duration::from_secs(10)).await.success());

    let (store, export) = (world.store_path(), world.store_path().with_extension("jsonl"));
    let export_name = export.to_str().unwrap();
    for (arguments, says) in [
        (&["verify"][..], "Everything can be read."),
        (&["compact"], "bytes before"),
        (&["export", export_name], "records exported"),
    ] {
        let (code, said) = store_command(&world, arguments);
        assert!(code == Some(0) && said.contains(says), "{arguments:?}: {said}");
    }
    assert_eq!(std::fs::metadata(&export).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(store_command(&world, &["import", export_name]).0, Some(2), "there is a store");
    std::fs::rename(&store, store.with_extension("before")).unwrap();
    let (code, said) = store_command(&world, &["import", export_name]);
    assert!(code == Some(0) && said.contains("records imported"), "{said}");

    world.crm.fail(None);
    let (mut process, addresses) = world.launch().await;
    let shift = world.load(addresses.api);
    wait_counts(&world, 40, 0).await;
    shift.end().await;
    judge(&world, addresses, Repeats::None).await;
    assert!(process.terminate(Duration::from_secs(10)).await.success());
}
