//! Human agents: how their sessions are recognised, remembered and reported.

use rtm_bridge::{
    config::{Config, EventFilter, HistorySource, Streaming, Webhook},
    sandbox::{AgentPlay, AgentScript, BotScript, Endpoint, Fault, FaultKind, Persona, Push},
};
use serde_json::{Value, json};

use crate::{
    streams::chunk,
    support::{ALICE, Request, World, add_webhook, answer, at_webhook, crm, delivered, envelope, within},
};

const REPORT: &str = "bridge.agent_session";

fn wants(webhook: &mut Webhook, types: &[&str]) {
    webhook.events = EventFilter::Only(types.iter().map(|one| (*one).to_owned()).collect());
}

/// The webhook `crm` wants reports of agent sessions and what is said.
fn desk(config: &mut Config) {
    wants(crm(config), &["bot_response", "events", "agent_session_start", "agent_session_end", REPORT]);
}

impl World {
    async fn until_agent(&self, is_there: bool) -> Value {
        let what = format!("an agent session: {is_there}");
        self.until_user(ALICE, &what, |user| user["agentSession"] == is_there).await
    }

    fn agent(&self, play: AgentPlay) {
        self.control().agent(ALICE, play);
    }

    fn says(&self, text: &str) {
        self.agent(AgentPlay::Say { text: text.to_owned(), template: false });
    }

    /// Waits until so many reports are at the webhook, and gives all its events.
    async fn until_reports(&self, count: usize) -> Vec<Value> {
        let has_all = |events: &[Request]| events.iter().filter(|e| e.event_type == REPORT).count() == count;
        let events = within("reports of agent sessions", self.receiver.wait_until(has_all)).await;
        events.iter().map(|event| envelope(event)).collect()
    }
}

fn join() -> AgentPlay {
    AgentPlay::Join { agent: Persona::default() }
}

/// Agent sessions in a row: who is told of in the events, by type, signal and text.
fn told(events: &[Value]) -> Vec<String> {
    let word = |event: &Value, key: &str| event[key].as_str().unwrap_or("-").to_owned();
    events
        .iter()
        .map(|event| {
            let kind =
                if event["type"] == REPORT { word(&event["data"], "state") } else { word(event, "type") };
            let name = event["agent"]["name"].as_str().unwrap_or("-");
            format!("{kind} {} {name} {} {}", word(event, "from"), word(event, "signal"), word(event, "text"))
        })
        .collect()
}

#[tokio::test]
async fn every_mark_begins_a_session_and_shows_at_the_user() {
    let world = World::start_silent(|_| {}).await;
    let template = json!({"type": "template", "payload": {"template_type": "live_agent", "text": "Hi"}});
    let of_payload = |payload: Value| json!({"type": "bot_response", "message": [{"component": {"type": "template", "payload": payload}}]});
    let marks = [
        json!({"type": "Agent_Session_Start"}),
        json!({"type": "bot_response", "fromAgent": true, "message": []}),
        json!({"type": "bot_response", "author": {"type": "agent", "firstName": "Ann"}}),
        json!({"type": "bot_response", "agent_MessageId": "am-1"}),
        of_payload(template.clone()),
        of_payload(json!(template.to_string())),
        of_payload(json!({"template_type": "system", "text": "Ann has joined"})),
        json!({"type": "events", "message": {"type": "Agent_Connected", "agentInfo": {"name": "Ann"}}}),
        json!({"type": "events", "message": {"type": "agent_session_active"}}),
    ];
    for mark in marks {
        world.control().push_raw(ALICE, mark.to_string());
        let user = world.until_agent(true).await;
        if mark.to_string().contains(r#":"Ann""#) {
            assert_eq!(user["agent"], json!({"id": null, "name": "Ann"}), "{mark}");
        }
        world.control().push_raw(ALICE, r#"{"type":"AGENT_session_end"}"#);
        assert_eq!(world.until_agent(false).await["agent"], json!(null));
    }
}

#[tokio::test]
async fn a_session_is_told_from_its_beginning_to_its_end() {
    let world = World::start_silent(desk).await;
    world.agent(join());
    world.agent(AgentPlay::Type);
    world.says("How can I help?");
    world.agent(AgentPlay::Stop);
    world.agent(AgentPlay::Deliver { client_message_id: Some(7) });
    world.agent(AgentPlay::Read { client_message_id: None });
    world.agent(AgentPlay::Say { text: "In a template".to_owned(), template: true });
    world.agent(AgentPlay::Transfer { agent: Persona::new("a-2", "Bob", "Ray") });
    world.says("This is Bob.");
    world.agent(AgentPlay::Leave);
    let events = world.until_reports(2).await;
    let expected = [
        "agent_session_start platform - - -",
        "started platform - - -",
        "events agent Ann joined -",
        "bot_response agent - joined Ann Lee has joined",
        "events agent Ann Lee typing -",
        "bot_response agent Ann Lee - How can I help?",
        "events agent Ann Lee stop_typing -",
        "events agent Ann Lee delivered -",
        "events agent Ann Lee read -",
        "bot_response agent Ann Lee - In a template",
        "bot_response agent - left Ann Lee has left",
        "events agent Ann left -",
        "events agent Bob joined -",
        "bot_response agent - joined Bob Ray has joined",
        "bot_response agent Bob Ray - This is Bob.",
        "bot_response agent - left Bob Ray has left",
        "events agent Bob left -",
        "agent_session_end platform - - -",
        "ended platform - - -",
    ];
    assert_eq!(told(&events), expected);
    let (started, ended) = (&events[1]["data"], &events[18]["data"]);
    assert_eq!((&started["state"], &started["agent"]), (&json!("started"), &json!(null)));
    assert!(started["at"].is_string() && started.get("transcript").is_none(), "{started}");
    assert_eq!(ended["agent"], json!({"id": "a-2", "name": "Bob Ray"}));
}

#[tokio::test]
async fn a_session_outlives_the_bridge() {
    let mut world = World::start_with(desk).await;
    world.all_connected().await;
    let id = world.send(ALICE, "agent").await;
    world.final_status(ALICE, id).await;
    let user = world.until_agent(true).await;
    assert_eq!(user["agent"], json!({"id": "a-1", "name": "Ann Lee"}));
    world.restart().await;
    world.all_connected().await;
    assert_eq!(world.user(ALICE).await["agent"], user["agent"]);
    // Nobody waits for answers that an agent doesn't owe, and the agent's are answers.
    for text in ["one", "two"] {
        let asking = world.request(reqwest::Method::POST, "/v1/users/alice/messages?wait=reply");
        let (status, body) = answer(asking.json(&json!({ "text": text }))).await;
        assert_eq!((status, &body["replies"][0]["fromAgent"]), (200, &json!(true)), "{body}");
    }
    let id = world.send(ALICE, "bye").await;
    world.final_status(ALICE, id).await;
    world.until_agent(false).await;
    let reports = told(&world.until_reports(2).await);
    let turns: Vec<_> = reports.iter().filter(|told| told.ends_with("ed platform - - -")).collect();
    assert_eq!(turns, ["started platform - - -", "ended platform - - -"]);
}

#[tokio::test]
async fn an_end_that_was_missed_is_told_by_who_speaks_next() {
    let mut world = World::start_silent(desk).await;
    world.agent(join());
    world.says("Hello");
    world.until_agent(true).await;
    world.stop_daemon().await;
    world.agent(AgentPlay::Leave);
    world.control().push(ALICE, Push::text("The bot again."));
    world.start_daemon().await;
    world.all_connected().await;
    world.until_agent(false).await;
    assert_eq!(world.until_reports(2).await.last().unwrap()["data"]["state"], "ended");
}

// ---- Transcripts.

#[tokio::test]
async fn a_webhook_that_wants_it_is_told_what_was_said_before() {
    let world = World::start_with(|config| {
        wants(crm(config), &[REPORT]);
        crm(config).transcript = 3;
        add_webhook(config, "longer", |webhook| webhook.transcript = 20);
        add_webhook(config, "none", |webhook| webhook.transcript = 0);
    })
    .await;
    world.all_connected().await;
    // So small that the history is read page by page.
    world.control().configure(|settings| settings.max_page = 2);
    for text in ["My order is late", "agent"] {
        let id = world.send(ALICE, text).await;
        world.final_status(ALICE, id).await;
    }
    let events = delivered(&world, 3).await;
    let of = |name: &str| envelope(&at_webhook(&events, name)[0]);
    let said = |event: &Value| -> Vec<String> {
        let messages = event["data"]["transcript"].as_array().unwrap();
        let word = |message: &Value, key: &str| message[key].as_str().unwrap().to_owned();
        messages.iter().map(|m| format!("{}: {}", word(m, "from"), word(m, "text"))).collect()
    };
    let all = [
        "user: My order is late",
        "bot: echo: My order is late",
        "user: agent",
        "agent: Hello, this is Ann. How can I help?",
    ];
    let long = of("longer");
    assert_eq!(
        (said(&long), &long["data"]["transcriptSource"]),
        (all.map(str::to_owned).to_vec(), &json!("platform"))
    );
    assert_eq!(said(&of("crm")), all[1..]);
    assert_eq!(of("none")["data"].get("transcript"), None);
    let message = &long["data"]["transcript"][0];
    assert_eq!(message["direction"], "incoming");
    assert!(
        message["id"].is_string() && message["createdOn"].is_string() && message["raw"]["_id"].is_string()
    );
    let (_, inbox) = world.get("/v1/users/alice/events").await;
    let listed = inbox["events"].as_array().unwrap().iter().find(|event| event["type"] == REPORT).unwrap();
    assert_eq!(listed["data"], long["data"], "whoever may read everything sees the most");
    assert!(listed["data"].get("shares").is_none());
}

#[tokio::test]
async fn without_the_platforms_history_the_bridge_tells_what_it_has_kept() {
    let world = World::start_silent(|config| {
        desk(config);
        crm(config).transcript = 20;
    })
    .await;
    world.control().push(ALICE, Push::text("Welcome."));
    world.control().push_raw(ALICE, chunk("ms-stream", "Once ", false));
    world.control().push(ALICE, Push::text("Meanwhile."));
    world.control().push_raw(ALICE, chunk("ms-stream", "upon a time", true));
    delivered(&world, 4).await;
    let refused = FaultKind::Refuse { at: Endpoint::History, status: 500, retry_after: None };
    world.control().inject(Fault::always(refused));
    world.agent(join());
    let events = world.until_reports(1).await;
    let report = events.iter().find(|event| event["type"] == REPORT).unwrap();
    assert_eq!(report["data"]["transcriptSource"], "bridge");
    let transcript = report["data"]["transcript"].as_array().unwrap();
    let texts: Vec<_> =
        transcript.iter().filter(|one| one["from"] == "bot").map(|one| &one["text"]).collect();
    assert_eq!(texts, ["Welcome.", "Meanwhile.", "Once upon a time"], "a streamed answer is one message");
}

#[tokio::test]
async fn a_transcript_is_the_users_history_whichever_one_recoveries_read() {
    for source in [HistorySource::Botkit, HistorySource::Conversations] {
        let world = World::start_with(|config| {
            wants(crm(config), &[REPORT]);
            crm(config).transcript = 20;
            crm(config).streaming = Streaming::Assembled;
            config.bots.values_mut().for_each(|bot| bot.history = source);
        })
        .await;
        world.all_connected().await;
        for text in ["stream", "agent"] {
            let id = world.send(ALICE, text).await;
            world.final_status(ALICE, id).await;
        }
        let report = &world.until_reports(1).await[0]["data"];
        assert_eq!(report["transcriptSource"], "platform", "{source:?}");
        let said: Vec<_> = report["transcript"].as_array().unwrap().iter().map(|one| &one["text"]).collect();
        assert_eq!(said[..3], ["stream", "Once upon a time", "agent"], "{source:?}");
    }
}

#[tokio::test]
async fn a_history_that_hangs_holds_nothing_up_and_the_report_comes_after_a_restart() {
    let mut world = World::start_silent(|config| {
        desk(config);
        crm(config).transcript = 20;
    })
    .await;
    world.control().inject(Fault::always(FaultKind::Hang { at: Endpoint::History }));
    world.agent(join());
    within("the history to be asked for", world.control().wait_requests(Endpoint::History, 1)).await;
    world.says("Hello");
    let said = |events: &[Request]| events.iter().any(|event| event.text.as_deref() == Some("Hello"));
    within("the agent's words", world.receiver.wait_until(said)).await;
    world.stop_daemon().await;
    world.control().clear_faults();
    world.start_daemon().await;
    let events = world.until_reports(1).await;
    let report = events.iter().find(|event| event["type"] == REPORT).unwrap();
    assert_eq!(report["data"]["state"], "started");
    assert_eq!(report["data"]["agent"], json!({"id": "a-1", "name": "Ann Lee"}), "told meanwhile");
    let words = report["data"]["transcript"].as_array().unwrap().iter().any(|one| one["text"] == "Hello");
    assert!(words, "{report}");
}

// ---- The stand-in's agents.

#[tokio::test]
async fn an_agent_who_is_played_answers_only_when_somebody_plays() {
    let world = World::start_silent(desk).await;
    world.control().configure(|settings| {
        settings.bot = BotScript::Echo;
        settings.agent = AgentScript::Played;
    });
    for text in ["agent", "anybody?"] {
        let id = world.send(ALICE, text).await;
        world.final_status(ALICE, id).await;
    }
    world.agent(join());
    world.says("Here I am.");
    let (status, _) =
        answer(world.request(reqwest::Method::POST, "/v1/users/alice/agent-session/close")).await;
    assert_eq!(status, 202);
    let events = world.until_reports(2).await;
    let words: Vec<_> = events.iter().filter_map(|event| event["text"].as_str()).collect();
    assert_eq!(words, ["One moment, please: a colleague takes over.", "Ann Lee has joined", "Here I am."]);
}
