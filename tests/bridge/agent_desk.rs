//! The desk in `examples/agent-desk`, with the bridge, the stand-in platform, and somebody who plays the agent.

use std::{io::Write as _, process::Stdio, sync::Arc};

use bytes::Bytes;
use rtm_bridge::{
    clock::Timestamp,
    config::{EventFilter, Streaming},
    events::{Body, Event, EventId, Source, Speaker},
    names::{BotName, UserName, WebhookName},
    sandbox::{AgentPlay, AgentScript, Persona, ReceivedFrame},
    webhook::{Delivery, Sender},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::support::{ALICE, SECRET, World, crm, eventually, within};

/// A running desk; ended when it is dropped.
struct Desk {
    url: String,
    http: reqwest::Client,
    _process: Child,
}

impl Desk {
    /// None, and a note, if there is no Python.
    async fn start(world: &World) -> Option<Self> {
        let started = Command::new("python3")
            .arg("examples/agent-desk/desk.py")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("PORT", "0")
            .env("BRIDGE_URL", world.url(""))
            .env("WEBHOOK_SECRET", SECRET)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut process = match started {
            Ok(process) => process,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // Not by a macro: those are heard of only when a test fails.
                let _ = writeln!(std::io::stderr(), "SKIPPED: python3 is not installed");
                return None;
            }
            Err(error) => panic!("python3: {error}"),
        };
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let url =
            within("the desk to start", lines.next_line()).await.unwrap().expect("it tells where it is");
        Some(Self {
            url: url.trim().trim_end_matches('/').to_owned(),
            http: reqwest::Client::builder()
                .no_proxy()
                .tls_certs_only([])
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .unwrap(),
            _process: process,
        })
    }

    /// As a clerk's browser does.
    async fn post(&self, what: &str, form: &[(&str, &str)]) -> u16 {
        let request = self.http.post(format!("{}/cases/{ALICE}/{what}", self.url)).form(form);
        let answer = within("an answer of the desk", request.send()).await.unwrap();
        answer.status().as_u16()
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let answer =
            within("an answer of the desk", self.http.get(format!("{}{path}", self.url)).send()).await;
        let answer = answer.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Waits until alice's case is as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let wanted = &wanted;
        let look = || async move {
            let (status, text) = self.get(&format!("/cases/{ALICE}.json")).await;
            (status == 200).then(|| serde_json::from_str(&text).unwrap()).filter(wanted)
        };
        eventually(what, look).await
    }

    async fn until_said(&self, text: &str) -> Value {
        self.until(text, |case| said(case).iter().any(|said| said.ends_with(text))).await
    }
}

/// Who said what.
fn said(case: &Value) -> Vec<String> {
    let lines = case["lines"].as_array().unwrap();
    let word = |line: &Value, key: &str| line[key].as_str().unwrap_or("-").to_owned();
    lines.iter().map(|line| format!("{}: {}", word(line, "who"), word(line, "text"))).collect()
}

impl World {
    /// From now on alice's events go to the desk.
    async fn connect_desk(&mut self, desk: &Desk) {
        let webhook = crm(&mut self.config);
        webhook.url = format!("{}/events", desk.url).parse().unwrap();
        let types = ["bot_response", "user_message", "events", "bridge.agent_session"];
        webhook.events = EventFilter::Only(types.map(str::to_owned).to_vec());
        webhook.transcript = 20;
        webhook.streaming = Streaming::Assembled;
        within("the reload", self.daemon().reload(&self.config)).await.unwrap();
    }

    /// Waits until a signal of the user's side is at the platform.
    async fn until_signal(&self, event: &str) -> Value {
        let look = || async {
            let frames = self.control().frames(ALICE);
            frames.iter().map(ReceivedFrame::json).find(|frame| frame["event"] == event)
        };
        eventually(&format!("{event} at the platform"), look).await
    }
}

#[tokio::test]
async fn a_clerk_takes_part_from_the_hand_over_to_the_hand_back() {
    let mut world = World::start().await;
    world.control().configure(|settings| settings.agent = AgentScript::Played);
    let Some(desk) = Desk::start(&world).await else { return };
    world.connect_desk(&desk).await;
    let agent = |play| world.control().agent(ALICE, play);

    // The bot hands over, and the case opens with what was said before.
    for (text, answer) in [
        ("My order is late", "echo: My order is late"),
        ("stream", "bot: Once upon a time"),
        ("agent", "a colleague takes over."),
    ] {
        assert_eq!(desk.post("say", &[("text", text), ("key", text)]).await, 303);
        desk.until_said(answer).await;
    }
    desk.until("an open case", |case| case["open"] == true).await;
    agent(AgentPlay::Join { agent: Persona::default() });
    agent(AgentPlay::Type);
    desk.until("Ann to type", |case| case["agent"] == "Ann Lee" && case["doing"] == "typing").await;

    // The agent speaks, and is told that it arrived, and that it was read.
    agent(AgentPlay::Say { text: "Which <order>?".to_owned(), template: false });
    desk.until_said("agent: Which <order>?").await;
    let receipt = world.until_signal("message_delivered").await;
    assert!(receipt["messageId"].as_str().is_some_and(|id| id.starts_with("ms-")), "{receipt}");
    let (status, page) = desk.get(&format!("/cases/{ALICE}")).await;
    assert!(
        status == 200 && page.contains("Which &lt;order&gt;?") && page.contains("with Ann Lee"),
        "{page}"
    );
    world.until_signal("message_read").await;

    // The agent sends a file, and the clerk fetches it.
    agent(AgentPlay::File {
        name: "terms of use.txt".to_owned(),
        url: format!("{}sandbox", world.sandbox.url()),
        kind: "attachment".to_owned(),
        size: 0.01,
    });
    let files = |case: &Value| -> Vec<Value> {
        let lines = case["lines"].as_array().unwrap().iter();
        lines.flat_map(|line| line["files"].as_array().unwrap().clone()).collect()
    };
    let case = desk.until("the agent's file", |case| !files(case).is_empty()).await;
    let file = json!({"name": "terms of use.txt", "type": "attachment", "url": format!("{}sandbox", world.sandbox.url()), "size": 0.01});
    assert_eq!(files(&case), [file]);
    let (status, content) = desk.get(&format!("/cases/{ALICE}/files/0")).await;
    assert!(status == 200 && content.contains("Sandbox Bot"), "{status} {content}");

    // The clerk answers.
    assert_eq!(desk.post("typing", &[]).await, 303);
    assert_eq!(desk.post("say", &[("text", "Number 17"), ("key", "17")]).await, 303);
    world.until_signal("typing").await;
    let sent =
        || async { world.control().messages(ALICE).last().map(|frame| frame.json()["message"].clone()) };
    assert_eq!(eventually("the answer", sent).await["body"], "Number 17");

    // And hands back to the bot.
    assert_eq!(desk.post("close", &[]).await, 303);
    let case = desk.until("a closed case", |case| case["open"] == false).await;
    let lines = said(&case);
    let place = |text: &str| {
        lines.iter().position(|line| line.ends_with(text)).unwrap_or_else(|| panic!("{lines:?}"))
    };
    assert!(
        place("My order is late") < place("Which <order>?") && place("Which <order>?") < place("Number 17")
    );
    for once in [
        "bot: One moment, please: a colleague takes over.",
        "bot: Once upon a time",
        "user: My order is late",
        "user: agent",
    ] {
        assert_eq!(lines.iter().filter(|line| *line == once).count(), 1, "{once} in {lines:?}");
    }
}

#[tokio::test]
async fn a_repeated_event_is_shown_once_and_strangers_are_refused() {
    let world = World::start().await;
    let Some(desk) = Desk::start(&world).await else { return };
    let mut webhook = world.config.webhooks["crm"].clone();
    webhook.url = format!("{}/events", desk.url).parse().unwrap();
    let file = json!({"name": "terms of use.txt", "type": "attachment", "url": format!("{}sandbox", world.sandbox.url()), "size": 0.01});
    let envelope = json!({
        "type": "bot_response", "timestamp": Timestamp::now(), "user": ALICE, "bot": "support", "sequence": 1,
        "inReplyTo": null, "source": "live", "from": "agent", "agent": {"id": "a-1", "name": "Ann Lee"},
        "text": null, "attachments": [file], "data": {"type": "bot_response", "messageId": "ms-1"},
    });
    let event = Event {
        id: EventId { store: 1, number: 1 },
        user: UserName::new(ALICE).unwrap(),
        bot: BotName::new("support").unwrap(),
        kind: "bot_response".into(),
        received_at: Timestamp::now(),
        in_reply_to: None,
        source: Source::Live,
        speaker: Speaker::Agent,
        frame: Bytes::new(),
    };
    let delivery = Delivery {
        event: Arc::new(event),
        attempt: 1,
        body: Body { content_type: "application/json".parse().unwrap(), bytes: envelope.to_string().into() },
        at: Timestamp::now(),
        trace: None,
    };
    let name = WebhookName::new("crm").unwrap();
    let sender = Sender::new(&name, &webhook).unwrap();
    for _ in 0..2 {
        assert_eq!(sender.attempt(&delivery).await.status, Some(204));
    }
    let case = desk.until("the file", |case| case["lines"][0]["files"][0].is_object()).await;
    assert_eq!((case["lines"].as_array().unwrap().len(), &case["lines"][0]["files"][0]), (1, &file));
    let (status, content) = desk.get(&format!("/cases/{ALICE}/files/0")).await;
    assert!(status == 200 && content.contains("Sandbox Bot"), "{status} {content}");
    assert_eq!(desk.get(&format!("/cases/{ALICE}/files/1")).await.0, 404);
    webhook.secrets = vec![rtm_bridge::config::SigningKey(vec![9; 32])];
    let stranger = Sender::new(&name, &webhook).unwrap();
    assert_eq!(stranger.attempt(&delivery).await.status, Some(401));
}
