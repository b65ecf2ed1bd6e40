//! Load in both directions, and the ledger of what was acknowledged by when.

use std::{fmt, net::SocketAddr};

use rtm_bridge::sandbox::{FrameKind, Push, SandboxControl};
use serde_json::{Value, json};

use crate::{
    PATIENCE,
    daemon::Recorder,
    world::{USERS, World, user_name},
};

/// How many messages each user's client sends, one after the other, unless `POWER_MESSAGES` says otherwise.
const MESSAGES: usize = 150;

/// An accepted message.
#[derive(Debug)]
pub struct Accepted {
    pub user: usize,
    pub id: u64,
    pub text: String,
    /// The recording's length when the answer was there.
    pub at: u64,
}

/// A frame that the bridge confirmed to the platform.
#[derive(Debug)]
pub struct Confirmed {
    pub user: usize,
    pub frame: String,
    /// The recording's length when the confirmation was there.
    pub at: u64,
}

/// What was acknowledged, each user's in order.
#[derive(Debug, Default)]
pub struct Ledger {
    pub accepted: Vec<Accepted>,
    pub confirmed: Vec<Confirmed>,
}

impl Ledger {
    /// When the first thing was acknowledged.
    pub fn first(&self) -> u64 {
        self.accepted.iter().map(|accepted| accepted.at).min().unwrap()
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} messages accepted, {} frames confirmed", self.accepted.len(), self.confirmed.len())
    }
}

/// Runs the load until every client is done.
pub async fn run(world: &World, api: SocketAddr, recorder: &Recorder) -> Ledger {
    world.stuck.answer(rtm_bridge::receiver::Reply::status(503));
    let clients = (0..USERS).map(|user| client(world.sandbox.control(), user, api, recorder));
    let mut ledger = Ledger::default();
    for one in futures_util::future::join_all(clients).await {
        ledger.accepted.extend(one.accepted);
        ledger.confirmed.extend(one.confirmed);
    }
    ledger
}

/// One user's client: a message, a push, and what is confirmed of the pushes so far.
async fn client(control: SandboxControl, user: usize, api: SocketAddr, recorder: &Recorder) -> Ledger {
    let name = user_name(user);
    control.wait_connected(&name, 1).await;
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(PATIENCE).build().unwrap();
    let url = format!("http://{api}/v1/users/{name}/messages");
    let mut dice = fastrand::Rng::with_seed(user as u64);
    let (mut ledger, mut pushed) = (Ledger::default(), Vec::new());
    for number in 0..crate::number("POWER_MESSAGES").unwrap_or(MESSAGES) {
        let text = format!("{name} message {number} {}", padding(&mut dice));
        let answer = http.post(&url).json(&json!({ "text": text })).send().await.unwrap();
        assert_eq!(answer.status(), 202);
        let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        let id = answer["clientMessageId"].as_u64().unwrap();
        ledger.accepted.push(Accepted { user, id, text, at: recorder.length() });
        let frame = frame(&name, number, &padding(&mut dice));
        control.push(&name, Push::frame(frame.clone()));
        pushed.push(frame);
        note_confirmed(&control, user, &pushed, recorder, &mut ledger);
    }
    ledger
}

/// Bodies of all sizes: most in the database, some files of their own.
fn padding(dice: &mut fastrand::Rng) -> String {
    let bytes = match dice.u32(..10) {
        0 => dice.usize(9_000..40_000),
        1..=5 => dice.usize(2_000..7_500),
        _ => dice.usize(..300),
    };
    "x".repeat(bytes)
}

fn frame(name: &str, number: usize, padding: &str) -> String {
    json!({
        "type": "bot_response", "from": "bot", "messageId": format!("ms-{name}-{number}"), "key": number.to_string(),
        "message": [{"type": "text", "cInfo": {"body": format!("{name} push {number} {padding}")}}],
    })
    .to_string()
}

fn note_confirmed(
    control: &SandboxControl,
    user: usize,
    pushed: &[String],
    recorder: &Recorder,
    ledger: &mut Ledger,
) {
    let frames = control.frames(&user_name(user));
    let acks = frames.iter().filter(|frame| frame.kind == FrameKind::Ack);
    let keys = acks.filter_map(|ack| ack.json()["key"].as_str()?.parse::<usize>().ok());
    let at = recorder.length();
    for key in keys.skip(ledger.confirmed.len()) {
        ledger.confirmed.push(Confirmed { user, frame: pushed[key].clone(), at });
    }
}
