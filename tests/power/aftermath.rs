//! A start after the power loss, held against the ledger.

use std::{collections::HashMap, fmt, net::SocketAddr, sync::Arc};

use rtm_bridge::{
    receiver::ReceivedEvent,
    sandbox::{ReceivedFrame, SandboxControl},
};
use serde_json::Value;

use crate::{
    Life, PATIENCE,
    daemon::Process,
    load::{Accepted, Confirmed},
    record::Luck,
    world::{Durability, STUCK_USERS, World, user_name},
};

/// So many messages are asked for of those that were accepted, the newest and any others.
const ASKED_NEWEST: usize = 60;
const ASKED_OTHERS: usize = 60;

/// What a start after a power loss found.
#[derive(Debug, Default)]
pub struct Findings {
    /// What must not be.
    pub wrong: Vec<String>,
    /// What the daemon said.
    pub log: String,
    messages: usize,
    events: usize,
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, events, wrong, .. } = self;
        write!(f, "{messages} messages and {events} events looked for, {} wrong", wrong.len())
    }
}

/// Puts the store together as the power loss left it, starts the daemon on it, and looks for what was
/// acknowledged.
pub async fn of(life: &Life, cut: u64, luck: Luck, dice: &mut fastrand::Rng) -> Findings {
    let world = World::start(Durability::Fsync).await;
    life.recording.restore(cut, luck, dice, &life.world.store(), &world.store());
    let mut process = Process::start(&world.config_path(), None);
    let mut findings = Findings::default();
    match process.ready().await {
        Ok(api) => {
            look_for_messages(life, cut, api, &world.sandbox.control(), dice, &mut findings).await;
            if findings.wrong.is_empty() {
                look_for_events(life, cut, &world, &mut findings).await;
            }
        }
        Err(why) => findings.wrong.push(why),
    }
    process.kill();
    findings.log = process.log();
    findings
}

/// Every message is known and gets to the bot, if it had not got there before.
async fn look_for_messages(
    life: &Life,
    cut: u64,
    api: SocketAddr,
    control: &SandboxControl,
    dice: &mut fastrand::Rng,
    findings: &mut Findings,
) {
    let mut accepted: Vec<_> = life.ledger.accepted.iter().filter(|message| message.at <= cut).collect();
    accepted.sort_by_key(|message| std::cmp::Reverse(message.at));
    let others = accepted.split_off(accepted.len().min(ASKED_NEWEST));
    accepted.extend(dice.choose_multiple(others, ASKED_OTHERS));
    let http =
        reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(2 * PATIENCE).build().unwrap();
    for message in accepted {
        findings.messages += 1;
        let Accepted { user, id, text, at } = message;
        let url = format!("http://{api}/v1/users/{}/messages/{id}?wait=ack&timeout=30s", user_name(*user));
        let outcome = match http.get(url).send().await {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        let record: Value = serde_json::from_str(&outcome).unwrap_or_default();
        if record["status"] != "acked" {
            findings.wrong.push(format!("message {id} of user {user}, accepted at {at}: {outcome}"));
        }
        let sent = control.messages(&user_name(*user));
        let sent = sent.iter().map(ReceivedFrame::json).find(|frame| frame["clientMessageId"] == *id);
        if sent.is_some_and(|frame| frame["message"]["body"] != **text) {
            findings.wrong.push(format!("message {id} of user {user} says something else"));
        }
        if findings.wrong.len() > 5 {
            return;
        }
    }
}

/// Every event that was confirmed gets to the webhook that had taken none, byte for byte, in order.
async fn look_for_events(life: &Life, cut: u64, world: &World, findings: &mut Findings) {
    for user in 0..STUCK_USERS {
        let of_user = life.ledger.confirmed.iter().filter(|event| event.user == user && event.at <= cut);
        let expected: Vec<&Confirmed> = of_user.collect();
        findings.events += expected.len();
        let name = user_name(user);
        let events = wait_for(&expected, &name, world).await;
        let places = places(&events, &name);
        let missing = missing(&expected, &places);
        if missing > 0 {
            findings
                .wrong
                .push(format!("{missing} of {} confirmed events of {name} don't come", expected.len()));
        }
        let order: Vec<_> = expected.iter().filter_map(|event| places.get(event.frame.as_str())).collect();
        if !order.is_sorted() {
            findings.wrong.push(format!("the events of {name} come out of order"));
        }
        let mut sequences: Vec<_> = events.iter().filter(|e| e.user == name).map(|e| e.sequence).collect();
        sequences.dedup();
        if sequences.iter().zip(1..).any(|(sequence, expected)| *sequence != Some(expected)) {
            findings.wrong.push(format!("the sequence of {name} has a hole"));
        }
    }
}

/// Waits until they have all come, or nothing more comes.
async fn wait_for(expected: &[&Confirmed], name: &str, world: &World) -> Vec<Arc<ReceivedEvent>> {
    loop {
        let events = world.stuck.events();
        let missing = missing(expected, &places(&events, name));
        let more = world.stuck.wait_events(events.len() + missing);
        if missing == 0 || tokio::time::timeout(PATIENCE, more).await.is_err() {
            return events;
        }
    }
}

fn missing(expected: &[&Confirmed], places: &HashMap<String, usize>) -> usize {
    expected.iter().filter(|event| !places.contains_key(event.frame.as_str())).count()
}

/// Where each frame came in a user's order.
fn places(events: &[Arc<ReceivedEvent>], name: &str) -> HashMap<String, usize> {
    let of_user = events.iter().filter(|event| event.user == name).enumerate();
    of_user.map(|(place, event)| (frame_in(&event.body).to_owned(), place)).collect()
}

/// The frame inside an envelope, byte for byte.
fn frame_in(body: &[u8]) -> &str {
    let text = std::str::from_utf8(body).unwrap();
    let start = text.find("\"data\":").unwrap() + "\"data\":".len();
    &text[start..text.len() - 1]
}
