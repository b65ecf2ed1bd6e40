//! Load in both directions, and the ledger of what came of it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use rtm_bridge::{
    clock::Timestamp,
    sandbox::{Push, SandboxControl},
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use crate::world::user_name;

/// A refusal must come at once: nobody is kept waiting by a disk that takes nothing.
const REFUSED_WITHIN: Duration = Duration::from_secs(3);

/// What a client knows of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Accepted(u64),
    /// `503`: it must never exist.
    Refused,
    /// No answer: the process was gone, or its disk broke meanwhile.
    Unknown,
}

/// One message of a client.
#[derive(Debug, Clone)]
pub struct Message {
    pub user: usize,
    pub text: String,
    pub fate: Fate,
}

/// What the outside world knows.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Entries>);

#[derive(Debug, Default)]
pub struct Entries {
    /// Each user's in order.
    pub messages: Vec<Message>,
    /// What must not happen, noticed while it happened.
    pub surprises: Vec<String>,
}

impl Ledger {
    pub fn open(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap()
    }

    /// How many messages have been accepted, and how many refused.
    pub fn counts(&self) -> (usize, usize) {
        let entries = self.open();
        let count = |is_it: fn(&Fate) -> bool| entries.messages.iter().filter(|m| is_it(&m.fate)).count();
        (count(|fate| matches!(fate, Fate::Accepted(_))), count(|fate| *fate == Fate::Refused))
    }
}

/// The load of all users, while it lasts.
#[derive(Debug)]
pub struct Shift {
    over: watch::Sender<bool>,
    users: Vec<JoinHandle<()>>,
}

impl Shift {
    pub fn begin(users: impl Iterator<Item = Load>) -> Self {
        let over = watch::Sender::new(false);
        let users = users.map(|user| tokio::spawn(user.run(over.subscribe()))).collect();
        Self { over, users }
    }

    /// Ends the load. Every message has an answer then, or its process is gone.
    pub async fn end(self) {
        self.over.send_replace(true);
        for user in self.users {
            user.await.unwrap();
        }
    }
}

/// One user's client, and what the platform does to that user.
#[derive(Debug)]
pub struct Load {
    user: usize,
    api: SocketAddr,
    http: reqwest::Client,
    control: SandboxControl,
    ledger: Arc<Ledger>,
}

impl Load {
    pub fn new(
        user: usize,
        api: SocketAddr,
        http: reqwest::Client,
        control: SandboxControl,
        ledger: Arc<Ledger>,
    ) -> Self {
        Self { user, api, http, control, ledger }
    }

    async fn run(self, over: watch::Receiver<bool>) {
        while !*over.borrow() {
            for _ in 0..fastrand::u32(..4) {
                self.push();
            }
            match self.post().await {
                Fate::Accepted(_) => {}
                // A client that comes back, but does not wait as long as it is told.
                Fate::Refused => tokio::time::sleep(Duration::from_millis(50)).await,
                Fate::Unknown => return,
            }
        }
    }

    /// Some bodies are too large for the database: they are files of their own.
    fn padding() -> String {
        let bytes =
            if fastrand::u32(..8) == 0 { fastrand::usize(8_000..40_000) } else { fastrand::usize(..300) };
        "x".repeat(bytes)
    }

    async fn post(&self) -> Fate {
        let number = fastrand::u64(..);
        let text = format!("{} message {number:x} {}", user_name(self.user), Self::padding());
        let url = format!("http://{}/v1/users/{}/messages", self.api, user_name(self.user));
        let began = Instant::now();
        let answer = self.http.post(url).json(&json!({ "text": text })).send().await;
        let (fate, surprise) = match answer {
            Err(_) => (Fate::Unknown, None),
            Ok(answer) => {
                let (status, retry_after) =
                    (answer.status().as_u16(), answer.headers().get("retry-after").cloned());
                match (status, answer.bytes().await) {
                    (202, Ok(body)) => {
                        let body: Value = serde_json::from_slice(&body).unwrap();
                        (Fate::Accepted(body["clientMessageId"].as_u64().unwrap()), None)
                    }
                    (503, Ok(_)) => {
                        let late = began.elapsed() > REFUSED_WITHIN;
                        let surprise = (retry_after.is_none() || late)
                            .then(|| format!("503 after {:?}, Retry-After {retry_after:?}", began.elapsed()));
                        (Fate::Refused, surprise)
                    }
                    // The disk broke while it was stored: nobody knows.
                    (500, Ok(_)) | (_, Err(_)) => (Fate::Unknown, None),
                    (status, Ok(body)) => {
                        (Fate::Unknown, Some(format!("{status}: {}", String::from_utf8_lossy(&body))))
                    }
                }
            }
        };
        let mut entries = self.ledger.open();
        entries.messages.push(Message { user: self.user, text, fate });
        entries.surprises.extend(surprise);
        fate
    }

    /// Pushes a frame. Whether the bridge has it is known only by its delivery ack.
    pub fn push(&self) {
        let (name, number, padding) = (user_name(self.user), fastrand::u64(..), Self::padding());
        let now = Timestamp::now();
        let frame = json!({
            "type": "bot_response", "from": "bot", "messageId": format!("ms-{name}-{number:x}"),
            "key": format!("k-{name}-{number:x}"),
            "timestamp": now.as_millis(), "createdOn": now.to_string(),
            "message": [{"type": "text", "cInfo": {"body": padding}}],
        });
        self.control.push(&name, Push::frame(frame.to_string()));
    }
}
