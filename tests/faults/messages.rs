//! Random faults, one after the other, while clients send: each message that was accepted has the end it
//! should have, in each user's order, and is reported once.

use std::{collections::HashMap, time::Duration};

use futures_util::future::join_all;
use rtm_bridge::{
    config::{Durability, EventFilter},
    sandbox::{Fault, FaultKind, SocketEnd, Taken},
};
use serde_json::{Value, json};

use crate::support::{ALICE, World, add_user, crm, envelope, eventually, within};

const USERS: [&str; 4] = [ALICE, "bob", "carol", "dave"];
const MESSAGES: usize = 40;
/// The queue is full most of the time.
const MOST_QUEUED: usize = 6;

/// What may befall a message.
fn any_fault(dice: &mut fastrand::Rng) -> FaultKind {
    // Not the codes that blame a message (1007, 1009): the platform would mean one by its content, not by chance.
    let ends = [SocketEnd::Drop, SocketEnd::Reset, SocketEnd::HalfOpen, SocketEnd::close(1001)];
    let end = ends[dice.usize(..ends.len())].clone();
    match dice.u32(..10) {
        0 => FaultKind::LostAck,
        1 => FaultKind::LostMessage,
        2 => FaultKind::NegativeAck,
        3 => FaultKind::DelayedAck { ms: dice.u64(..400) },
        4 => FaultKind::AckAfterReply,
        5 => FaultKind::OnConnect { end },
        _ => FaultKind::EndBeforeAck { taken: if dice.bool() { Taken::Yes } else { Taken::No }, end },
    }
}

/// Sends a message again and again until there is room for it; tells how often there was none.
async fn post(world: &World, user: &str, text: &str) -> (u64, usize) {
    let mut refused = 0;
    loop {
        let (status, body) = world.post(user, json!({ "text": text })).await;
        match status {
            202 => return (body["clientMessageId"].as_u64().unwrap(), refused),
            429 => {
                assert_eq!(body["code"], "queue_full", "{body}");
                refused += 1;
                world
                    .until_user(user, "room in the queue", |seen| {
                        seen["queued"].as_u64().is_some_and(|queued| queued < MOST_QUEUED as u64)
                    })
                    .await;
            }
            _ => panic!("{status}: {body}"),
        }
    }
}

/// What may become of a message under these faults. Three lost acks or five cut connections in a row are
/// no accident, but random faults may bring them.
fn is_an_end(status: &Value) -> bool {
    let end = ["status", "reason", "delivery"].map(|key| status[key].as_str().unwrap_or_default());
    matches!(
        end,
        ["acked", "", "confirmed"]
            | ["rejected", "refused_by_platform", "confirmed"]
            | ["expired", "no_ack", "unknown"]
    )
}

async fn storm(seed: u64) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let world = World::start_silent(|config| {
        USERS[1..].iter().for_each(|user| add_user(config, user));
        crm(config).events = EventFilter::Only(vec!["bridge.message".to_owned()]);
        config.store.durability = Durability::Os;
        config.platform.ping_interval = Duration::from_millis(150);
        config.platform.pong_timeout = Duration::from_millis(150);
        config.messages.ack_timeout = Duration::from_millis(200);
        config.messages.max_queued = MOST_QUEUED;
    })
    .await;
    let control = world.control();
    for user in USERS {
        for _ in 0..MESSAGES / 2 {
            control.inject(Fault::once(any_fault(&mut dice)).for_user(user));
        }
    }
    let clients = USERS.map(|user| {
        let world = &world;
        async move {
            let (mut ids, mut refused) = (Vec::new(), 0);
            for n in 0..MESSAGES {
                let (id, times) = post(world, user, &n.to_string()).await;
                ids.push(id);
                refused += times;
            }
            (ids, refused)
        }
    });
    let accepted = within("every message to be accepted", join_all(clients)).await;
    assert!(accepted.iter().any(|(_, refused)| *refused > 0), "seed {seed}: the queues were never full");
    let mut ends = HashMap::new();
    for (user, (ids, _)) in USERS.iter().zip(&accepted) {
        assert!(ids.is_sorted_by(|one, next| one < next), "seed {seed}: {user}'s ids grow");
        for id in ids {
            let status = world.final_status(user, *id).await;
            assert!(is_an_end(&status), "seed {seed}: {status}");
            ends.insert((*user, *id), status);
        }
        // One that ended without an ack may have gone into dying sockets only.
        let must_arrive = |id: &u64| ends[&(*user, *id)]["delivery"] == "confirmed";
        check_arrivals(&world, seed, user, ids, must_arrive);
    }
    check_reports(&world, seed, &ends).await;
}

/// The platform saw each message of the user first in its order, and the same bytes each time.
fn check_arrivals(world: &World, seed: u64, user: &str, ids: &[u64], must_arrive: impl Fn(&u64) -> bool) {
    let mut first: HashMap<u64, Vec<u8>> = HashMap::new();
    let mut order = Vec::new();
    for frame in world.control().messages(user) {
        let id = frame.json()["id"].as_u64().unwrap();
        let bytes = frame.bytes.to_vec();
        if let Some(known) = first.get(&id) {
            assert_eq!(*known, bytes, "seed {seed}: sent again with other bytes");
        } else {
            first.insert(id, bytes);
            order.push(id);
        }
    }
    let expected: Vec<u64> =
        ids.iter().copied().filter(|id| first.contains_key(id) || must_arrive(id)).collect();
    assert_eq!(order, expected, "seed {seed}: {user}'s messages arrived in another order, or not at all");
}

/// Each end was told once, as the API tells it.
async fn check_reports(world: &World, seed: u64, ends: &HashMap<(&str, u64), Value>) {
    let events = eventually("every end to be told", || async {
        let events = world.receiver.events();
        (events.len() >= ends.len()).then_some(events)
    })
    .await;
    assert_eq!(events.len(), ends.len(), "seed {seed}");
    for event in events {
        let told = envelope(&event)["data"].clone();
        let id = told["clientMessageId"].as_u64().unwrap();
        assert_eq!(told, ends[&(event.user.as_str(), id)], "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_any_faults_each_message_ends_as_it_should_in_order() {
    let seed = fastrand::u64(..1_000_000);
    println!("seeds from {seed}");
    join_all((seed..seed + 4).map(storm)).await;
}
