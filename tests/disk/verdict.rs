//! The ledger against what arrived.

use std::collections::{HashMap, HashSet};

use rtm_bridge::sandbox::FrameKind;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    daemon::Addresses,
    load::Fate,
    world::{PATIENCE, USERS, World, user_name},
};

/// Whether an event may come twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    /// Nothing was killed: each comes once.
    None,
    /// What was delivered just before a kill comes again.
    AfterAKill,
}

/// Waits until everything that is to happen has happened, and holds it against what must hold.
pub async fn judge(world: &World, addresses: Addresses, repeats: Repeats) {
    settle(world, addresses).await;
    let mut wrong = world.ledger.open().surprises.clone();
    for user in 0..USERS {
        judge_messages(world, addresses, user, &mut wrong).await;
        judge_events(world, user, repeats, &mut wrong);
    }
    assert!(
        wrong.is_empty(),
        "{} findings: {:#?}\nthe log:\n{}",
        wrong.len(),
        &wrong[..wrong.len().min(8)],
        world.log.text()
    );
}

/// Waits until nothing is queued and nothing undelivered. What is delivered last is noted a moment later.
async fn settle(world: &World, addresses: Addresses) {
    let began = Instant::now();
    loop {
        let (status, users) = world.probe(addresses.ops, "/v1/users").await;
        let left =
            |user: &Value| user["queued"] != 0 || user["undelivered"] != 0 || user["state"] != "connected";
        if status == 200 && !users["users"].as_array().unwrap().iter().any(left) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "something stays: {users:#}\nthe log:\n{}", world.log.text());
        sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Every accepted message is acked and arrived in order; no refused one exists.
async fn judge_messages(world: &World, addresses: Addresses, user: usize, wrong: &mut Vec<String>) {
    let name = user_name(user);
    let own: Vec<_> =
        world.ledger.open().messages.iter().filter(|message| message.user == user).cloned().collect();
    let mut arrived = Vec::new();
    for frame in world.sandbox.control().messages(&name) {
        let text = frame.json()["message"]["body"].as_str().unwrap().to_owned();
        // Sent again after a reconnect: the first counts for the order.
        if !arrived.contains(&text) {
            arrived.push(text);
        }
    }
    let fates: HashMap<&str, Fate> = own.iter().map(|message| (&*message.text, message.fate)).collect();
    for text in &arrived {
        if fates.get(&**text).is_none_or(|fate| *fate == Fate::Refused) {
            wrong.push(format!("{name}: the platform got what was refused: {text:.40}"));
        }
    }
    let accepted: Vec<&str> =
        own.iter().filter(|m| matches!(m.fate, Fate::Accepted(_))).map(|message| &*message.text).collect();
    let arrived_accepted: Vec<&str> = arrived
        .iter()
        .map(String::as_str)
        .filter(|text| matches!(fates.get(text), Some(Fate::Accepted(_))))
        .collect();
    if accepted != arrived_accepted {
        let missing = accepted.iter().filter(|text| !arrived_accepted.contains(text)).count();
        wrong.push(format!(
            "{name}: {missing} of {} accepted messages never arrived, or out of order",
            accepted.len()
        ));
    }
    let known = statuses(world, addresses, &name).await;
    for message in &own {
        if let Fate::Accepted(id) = message.fate
            && known.get(&id).is_none_or(|status| status != "acked")
        {
            wrong.push(format!("{name}: accepted message {id} is {:?}", known.get(&id)));
        }
    }
    let unknown = own.iter().filter(|message| message.fate == Fate::Unknown).count();
    if known.len() > accepted.len() + unknown {
        wrong.push(format!(
            "{name}: {} messages are known, and {} were accepted",
            known.len(),
            accepted.len()
        ));
    }
}

/// The status of every message that the bridge knows.
async fn statuses(world: &World, addresses: Addresses, name: &str) -> HashMap<u64, String> {
    let mut known = HashMap::new();
    let own: Vec<u64> = {
        let entries = world.ledger.open();
        let ids = entries.messages.iter().filter(|message| user_name(message.user) == name);
        ids.filter_map(|message| if let Fate::Accepted(id) = message.fate { Some(id) } else { None })
            .collect()
    };
    for id in own {
        let (status, body) =
            world.probe(addresses.ops, &format!("/v1/users/{name}/messages/{id}?wait=ack")).await;
        if status == 200 {
            known.insert(id, body["status"].as_str().unwrap().to_owned());
        }
    }
    known
}

/// Every event that was confirmed was delivered; sequences have no holes; one event, one id.
fn judge_events(world: &World, user: usize, repeats: Repeats, wrong: &mut Vec<String>) {
    let name = user_name(user);
    let frames = world.sandbox.control().frames(&name);
    let confirmed: HashSet<String> = frames
        .iter()
        .filter(|frame| frame.kind == FrameKind::Ack)
        .map(|ack| ack.json()["key"].as_str().unwrap().to_owned())
        .collect();
    let (mut ids, mut keys, mut last) = (HashSet::new(), HashMap::new(), 0);
    for event in world.crm.events().iter().filter(|event| event.user == name) {
        if !ids.insert(event.id.clone()) {
            if repeats == Repeats::None {
                wrong.push(format!("{name}: event {} came twice", event.id));
            }
            continue;
        }
        let sequence = event.sequence.unwrap();
        if sequence != last + 1 {
            wrong.push(format!("{name}: after sequence {last} came {sequence}"));
        }
        last = sequence;
        let body: Value = serde_json::from_slice(&event.body).unwrap();
        if let Some(key) = body["data"]["key"].as_str()
            && let Some(other) = keys.insert(key.to_owned(), event.id.clone())
        {
            wrong.push(format!("{name}: one frame is two events, {other} and {}", event.id));
        }
    }
    let missing = confirmed.iter().filter(|key| !keys.contains_key(*key)).count();
    if missing > 0 {
        wrong.push(format!("{name}: {missing} of {} confirmed events were never delivered", confirmed.len()));
    }
}
