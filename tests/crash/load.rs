//! Load in both directions: clients that POST, a platform that pushes, connections that drop.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rtm_bridge::{
    clock::Timestamp,
    sandbox::{Endpoint, Fault, FaultKind, FrameKind, Push, SandboxControl, SocketEnd, Taken},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    ledger::{Ledger, Message, Pushed, Way},
    world::user_name,
};

/// No answer may take longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Where the clients' own ids begin: far from what the bridge chooses.
const OWN_IDS: u64 = 1_000_000;

/// Whether the load goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shift {
    Working,
    Over,
}

/// One life of the daemon, as clients know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// Which life.
    pub life: usize,
    /// Where its API is.
    pub api: SocketAddr,
}

/// What clients and scenario share.
#[derive(Debug)]
pub struct Stage {
    pub control: SandboxControl,
    pub ledger: Ledger,
    /// The life that answers, or the last one that did.
    pub open: watch::Sender<Option<Open>>,
    /// How many POSTs were answered, ever.
    pub answered: watch::Sender<u64>,
    pub shift: watch::Sender<Shift>,
    pub http: reqwest::Client,
}

/// What came of one try.
enum Outcome {
    Accepted(u64),
    /// The connection died, or the daemon said that it is ending.
    Unknown(String),
    /// What must not happen.
    Wrong(String),
}

impl Stage {
    pub fn new(control: SandboxControl) -> Self {
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(ANSWER_WITHIN);
        Self {
            control,
            ledger: Ledger::default(),
            open: watch::channel(None).0,
            answered: watch::channel(0).0,
            shift: watch::channel(Shift::Working).0,
            http: http.build().unwrap(),
        }
    }

    /// Waits for a life after this one.
    async fn next_life(&self, after: usize) -> Open {
        let mut open = self.open.subscribe();
        let found = open.wait_for(|open| open.is_some_and(|open| open.life > after)).await;
        found.unwrap().unwrap()
    }

    /// The life that answers now, or answered last.
    pub fn life(&self) -> usize {
        self.open.borrow().map_or(0, |open| open.life)
    }

    /// GETs JSON from the present life.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        let api = self.open.borrow().unwrap().api;
        let response = self.http.get(format!("http://{api}{path}")).timeout(2 * ANSWER_WITHIN).send().await;
        let response = response.map_err(|error| format!("GET {path}: {error:?}"))?;
        let (status, body) = (response.status(), response.bytes().await);
        let body = body.map_err(|error| format!("GET {path}: {error:?}"))?;
        if !status.is_success() {
            return Err(format!("GET {path}: {status}: {}", String::from_utf8_lossy(&body)));
        }
        serde_json::from_slice(&body).map_err(|error| format!("GET {path}: {error}"))
    }
}

/// One user's client, and what the platform does to that user.
#[derive(Debug)]
pub struct Load {
    stage: Arc<Stage>,
    user: usize,
    name: String,
    dice: fastrand::Rng,
    messages: u32,
    pushes: u32,
    /// The last life that didn't answer.
    dead: usize,
}

impl Load {
    pub fn new(stage: Arc<Stage>, user: usize, seed: u64) -> Self {
        let dice = fastrand::Rng::with_seed(seed.wrapping_mul(1009).wrapping_add(user as u64));
        Self { stage, user, name: user_name(user), dice, messages: 0, pushes: 0, dead: 0 }
    }

    /// Goes on until the shift is over. Every message that is sent until an answer comes has one then.
    pub async fn run(mut self) -> Self {
        while *self.stage.shift.borrow() == Shift::Working {
            self.post_one().await;
            for _ in 0..self.dice.u32(..4) {
                self.push();
            }
            match self.dice.u32(..150) {
                0..=1 => self.end_connection(),
                2..=3 => self.break_next_ack(),
                4..=9 => self.push_again(),
                10..=12 => self.slow_next_history(),
                _ => {}
            }
        }
        self
    }

    /// Sends one more message, and waits for its ack.
    pub async fn post_last(&mut self) {
        self.post(Way::Waiting, String::new()).await;
    }

    async fn post_one(&mut self) {
        let way = match self.dice.u32(..10) {
            0..=4 => Way::Plain,
            5 => Way::Waiting,
            6..=8 => Way::Keyed,
            _ => Way::OwnId(OWN_IDS + u64::from(self.messages)),
        };
        let padding = self.padding();
        self.post(way, padding).await;
    }

    /// Makes some bodies too large for the database: they are files of their own.
    fn padding(&mut self) -> String {
        let bytes =
            if self.dice.u32(..8) == 0 { self.dice.usize(8_000..40_000) } else { self.dice.usize(..300) };
        "x".repeat(bytes)
    }

    async fn post(&mut self, way: Way, padding: String) {
        self.messages += 1;
        let number = self.messages;
        let text = format!("{} message {number} {padding}", self.name);
        let message =
            Message { user: self.user, number, text: text.clone(), way, tries: Vec::new(), id: None };
        let index = {
            let mut entries = self.stage.ledger.open();
            entries.messages.push(message);
            entries.messages.len() - 1
        };
        loop {
            let open = self.stage.next_life(self.dead).await;
            let outcome = self.try_post(open, way, number, &text).await;
            let is_unknown = matches!(outcome, Outcome::Unknown(_));
            self.note(index, open.life, outcome);
            if !is_unknown {
                return;
            }
            // Whoever gets no answer waits until there is somebody again.
            self.dead = open.life;
            if !way.repeats() {
                return;
            }
        }
    }

    async fn try_post(&self, open: Open, way: Way, number: u32, text: &str) -> Outcome {
        let (api, name) = (open.api, &self.name);
        let mut url = format!("http://{api}/v1/users/{name}/messages");
        let mut body = json!({ "text": text });
        if way == Way::Waiting {
            url.push_str("?wait=ack");
        }
        if let Way::OwnId(id) = way {
            body["clientMessageId"] = id.into();
        }
        let mut request = self.stage.http.post(url).json(&body);
        if way == Way::Keyed {
            request = request.header("idempotency-key", format!("{name}-{number}"));
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_timeout() => return Outcome::Wrong(format!("no answer: {error:?}")),
            Err(error) => return Outcome::Unknown(format!("{error:?}")),
        };
        let status = response.status().as_u16();
        let answer: Value = match response.bytes().await {
            Ok(body) => serde_json::from_slice(&body).unwrap_or_default(),
            Err(error) => return Outcome::Unknown(format!("{status}, then {error:?}")),
        };
        self.stage.answered.send_modify(|answered| *answered += 1);
        match (status, answer["clientMessageId"].as_u64()) {
            (200 | 202, Some(id)) => Outcome::Accepted(id),
            // It is ending.
            (503, _) => Outcome::Unknown(format!("{status}: {answer}")),
            _ => Outcome::Wrong(format!("{status}: {answer}")),
        }
    }

    fn note(&self, index: usize, life: usize, outcome: Outcome) {
        let entries = &mut *self.stage.ledger.open();
        let message = &mut entries.messages[index];
        let (shown, id, wrong) = match outcome {
            Outcome::Accepted(id) => (format!("accepted as {id}"), Some(id), None),
            Outcome::Unknown(why) => (format!("unknown ({why})"), None, None),
            Outcome::Wrong(why) => (format!("answered {why}"), None, Some("a POST was answered wrongly")),
        };
        message.tries.push((life, shown));
        message.id = message.id.or(id);
        if let Some(wrong) = wrong {
            entries.surprises.push(format!("{wrong}: {message}"));
        }
    }

    /// Pushes one more frame, if a connection seems to be there. Whether the bridge read it is known
    /// only by its delivery ack.
    pub fn push(&mut self) -> Option<String> {
        if self.stage.control.connections_of(&self.name).is_empty() {
            return None;
        }
        self.pushes += 1;
        let (name, number, padding) = (&self.name.clone(), self.pushes, self.padding());
        let key = format!("k-{name}-{number}");
        let now = Timestamp::now();
        let frame = json!({
            "type": "bot_response", "from": "bot", "messageId": format!("ms-{name}-{number}"), "key": key,
            "timestamp": now.as_millis(), "createdOn": now.to_string(),
            "message": [{"type": "text", "cInfo": {"body": format!("{name} push {number} {padding}")}}],
        });
        let (frame, life) = (frame.to_string(), self.stage.life());
        let pushed =
            Pushed { user: self.user, number, key: key.clone(), frame: frame.clone(), life, repeats: 0 };
        self.stage.ledger.open().pushes.push(pushed);
        self.stage.control.push(name, Push::frame(frame));
        Some(key)
    }

    /// Pushes the same bytes again of which the bridge has confirmed that it has them.
    fn push_again(&mut self) {
        let frames = self.stage.control.frames(&self.name);
        let confirmed = frames.iter().rev().take(100).filter(|frame| frame.kind == FrameKind::Ack);
        let keys: Vec<_> = confirmed.map(|ack| ack.json()["key"].clone()).collect();
        let Some(key) = self.dice.choice(&keys) else { return };
        let frame = {
            let mut entries = self.stage.ledger.open();
            let Some(pushed) = entries.pushes.iter_mut().find(|pushed| pushed.key == *key) else { return };
            pushed.repeats += 1;
            pushed.frame.clone()
        };
        self.stage.control.push_raw(&self.name, frame);
    }

    fn any_end(&mut self) -> SocketEnd {
        match self.dice.u32(..4) {
            0 => SocketEnd::Drop,
            1 => SocketEnd::Reset,
            2 => SocketEnd::close(1001),
            _ => SocketEnd::close(1012),
        }
    }

    fn end_connection(&mut self) {
        let end = self.any_end();
        let ended = self.stage.control.end_sockets(&self.name, &end);
        self.stage.ledger.open().drops += u32::try_from(ended).unwrap();
    }

    /// The next look into the history takes long: the process dies or ends while much is held back for it.
    fn slow_next_history(&mut self) {
        let delay = FaultKind::Delay { at: Endpoint::History, ms: self.dice.u64(50..400) };
        self.stage.control.inject(Fault::once(delay).for_user(&self.name));
    }

    /// The next message's connection ends before its ack, whether or not the bot got it.
    fn break_next_ack(&mut self) {
        let taken = if self.dice.bool() { Taken::Yes } else { Taken::No };
        let end = self.any_end();
        let fault = Fault::once(FaultKind::EndBeforeAck { taken, end }).for_user(&self.name);
        self.stage.control.inject(fault);
        self.stage.ledger.open().drops += 1;
    }
}
