//! Each behaviour of a receiver, met by an event's first attempt, by a retry, and by a probe: afterwards
//! every event is delivered once, in order, or a dead letter if the receiver refuses it.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use reqwest::Method;
use rtm_bridge::{
    config::Durability,
    names::UserName,
    receiver::{ReceivedEvent, Reply},
    sandbox::Push,
    store::DeadLetterId,
};

use crate::support::{ALICE, BOB, Request, World, add_user, answer, crm, eventually};

const TIMEOUT: Duration = Duration::from_millis(300);
const EVENTS: [&str; 3] = ["one", "two", "three"];

/// Which attempt meets the behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meets {
    First,
    Retry,
    /// The one delivery that is tried while nothing gets through from anybody.
    Probe,
}

/// What becomes of the event that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Delivered,
    /// Nothing is sent for the second that was asked for.
    Held,
    Dead,
    /// Once the webhook is enabled.
    Enabled,
}

fn behaviours() -> Vec<(&'static str, Reply, Then)> {
    let mut all = vec![
        ("takes it slowly", Reply::status(202).after(TIMEOUT / 3), Then::Delivered),
        ("takes it with many words", Reply::status(200).body(vec![b'x'; 200_000]), Then::Delivered),
        ("hangs", Reply::status(204).after(TIMEOUT * 100), Then::Delivered),
        ("asks for a second's rest (429)", Reply::status(429).retry_after("1"), Then::Held),
        ("asks for a second's rest (503)", Reply::status(503).retry_after("1"), Then::Held),
        ("says that it is gone", Reply::status(410), Then::Enabled),
    ];
    for status in [302, 401, 403, 404, 408, 409, 425, 429, 500, 502, 503] {
        all.push(("fails", Reply::status(status), Then::Delivered));
    }
    for status in [400, 413, 415, 422] {
        all.push(("refuses it", Reply::status(status), Then::Dead));
    }
    all
}

fn quick(config: &mut rtm_bridge::config::Config) {
    add_user(config, BOB);
    config.store.durability = Durability::Os;
    let webhook = crm(config);
    webhook.timeout = TIMEOUT;
    webhook.backoff_max = Duration::from_millis(50);
}

/// Whether this is the request that is to meet the behaviour.
fn is_met(meets: Meets, event: &ReceivedEvent) -> bool {
    let is_target = event.user == ALICE && event.text.as_deref() == Some("one");
    match meets {
        // The first that arrives: on a busy machine one may be given up before it does.
        Meets::First => is_target,
        Meets::Retry => is_target && event.attempt >= Some(2),
        // Whoever probes.
        Meets::Probe => true,
    }
}

async fn course(meets: Meets, (name, reply, then): (&'static str, Reply, Then)) {
    let row = format!("{name} ({}) at {meets:?}", reply.status);
    let mut world = World::start_silent(quick).await;
    let (met, failing) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(meets == Meets::Probe)));
    world.receiver.rule({
        let (met, failing, reply) = (met.clone(), failing.clone(), reply.clone());
        move |event| {
            if failing.load(Ordering::SeqCst) {
                return Some(Reply::status(500));
            }
            if is_met(meets, event) && !met.swap(true, Ordering::SeqCst) {
                return Some(reply.clone());
            }
            // The target's first attempt fails, for a retry.
            (meets == Meets::Retry && !met.load(Ordering::SeqCst) && event.user == ALICE)
                .then(|| Reply::status(500))
        }
    });
    for text in EVENTS {
        for user in [ALICE, BOB] {
            world.control().push(user, Push::text(text).live_only());
        }
    }
    if meets == Meets::Probe {
        // Both users have failed: from now on one at a time is tried.
        let failed = |events: &[Request], user: &str| events.iter().any(|event| event.user == user);
        eventually(&format!("{row}: failures of both"), || async {
            let attempts = world.receiver.attempts();
            (failed(&attempts, ALICE) && failed(&attempts, BOB)).then_some(())
        })
        .await;
        failing.store(false, Ordering::SeqCst);
    }
    if then == Then::Enabled {
        eventually(&format!("{row}: the webhook to be disabled"), || async {
            let (_, seen) = world.get("/v1/webhooks").await;
            (seen["webhooks"][0]["state"] == "disabled").then_some(())
        })
        .await;
        let (status, body) = answer(world.request(Method::POST, "/v1/webhooks/crm/enable")).await;
        assert_eq!(status, 202, "{row}: {body}");
    }
    eventually(&format!("{row}: every event to be tried, and nothing to be left"), || async {
        let attempts = world.receiver.attempts();
        let tried: HashSet<&str> = attempts.iter().map(|event| event.id.as_str()).collect();
        let (_, seen) = world.get("/v1/webhooks").await;
        (tried.len() == 2 * EVENTS.len() && seen["webhooks"][0]["backlog"] == 0).then_some(())
    })
    .await;
    assert!(met.load(Ordering::SeqCst), "{row}: nobody met it");
    let attempts = world.receiver.attempts();
    check(&row, then, &attempts, &world);
    world.stop_daemon().await;
    check_dead_letters(&row, then, &world);
}

fn check(row: &str, then: Then, attempts: &[Request], world: &World) {
    let is_taken = |event: &&Request| (200..300).contains(&event.answered);
    let mut delivered = 0;
    for user in [ALICE, BOB] {
        let mut taken: Vec<&Request> = Vec::new();
        for event in attempts.iter().filter(is_taken).filter(|event| event.user == user) {
            // One that hung was answered behind the bridge's back: it comes once more.
            if !taken.iter().any(|earlier| earlier.id == event.id) {
                taken.push(event);
            }
        }
        let sequences: Vec<_> = taken.iter().filter_map(|event| event.sequence).collect();
        assert!(sequences.is_sorted(), "{row}: {user} got {sequences:?}");
        delivered += taken.len();
        for event in attempts.iter().filter(|event| event.user == user) {
            let same = attempts.iter().find(|other| other.id == event.id).unwrap();
            assert_eq!(same.body, event.body, "{row}: the body stays the same");
        }
    }
    let dead = usize::from(then == Then::Dead);
    assert_eq!(delivered, 2 * EVENTS.len() - dead, "{row}");
    if then == Then::Held {
        let held = attempts.iter().position(|event| [429, 503].contains(&event.answered)).unwrap();
        // What was under way already may arrive at the same moment.
        let resumed =
            attempts.iter().map(|event| event.at).filter(|at| at.since(attempts[held].at) > TIMEOUT).min();
        let pause = resumed.unwrap().since(attempts[held].at);
        assert!(pause >= Duration::from_millis(990), "{row}: resumed after {pause:?}");
    }
    assert!(world.receiver.open_connections() <= 64, "{row}");
}

fn check_dead_letters(row: &str, then: Then, world: &World) {
    let store = world.store();
    let letters = store.dead_letters_after(DeadLetterId(0)).count();
    assert_eq!(letters, usize::from(then == Then::Dead), "{row}");
    for user in [ALICE, BOB] {
        let number = store.user_number(&UserName::new(user).unwrap()).unwrap();
        let webhook = store.webhook_number(world.config.webhooks.keys().next().unwrap()).unwrap();
        let lane = store.lane(webhook, number).unwrap().unwrap();
        assert_eq!((lane.done.sequence, lane.attempted.len()), (3, 0), "{row}: the lane of {user} is done");
    }
}

async fn table(meets: Meets) {
    join_all(behaviours().into_iter().map(|behaviour| course(meets, behaviour))).await;
}

#[tokio::test]
async fn behaviours_that_a_first_attempt_meets() {
    table(Meets::First).await;
}

#[tokio::test]
async fn behaviours_that_a_retry_meets() {
    table(Meets::Retry).await;
}

#[tokio::test]
async fn behaviours_that_a_probe_meets() {
    table(Meets::Probe).await;
}
