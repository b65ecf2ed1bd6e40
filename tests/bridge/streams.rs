//! Streamed answers: as chunks, and as one event.

use rtm_bridge::config::{BodyFormat, EventFilter, Streaming};
use serde_json::{Value, json};

use crate::support::{ALICE, World, add_webhook, at_webhook, crm, delivered, envelope, eventually, texts};

/// A part of a streamed answer.
pub fn chunk(id: &str, text: &str, is_last: bool) -> String {
    json!({"type": "bot_response", "messageId": id, "sM": true, "endChunk": is_last,
        "message": [{"type": "text", "component": {"type": "text", "payload": {"text": text}}}]})
    .to_string()
}

fn whole(id: &str, text: &str) -> String {
    json!({"type": "bot_response", "messageId": id, "message": [{"type": "text", "cInfo": {"body": text}}]})
        .to_string()
}

fn assembled(world: &mut rtm_bridge::config::Config) {
    crm(world).streaming = Streaming::Assembled;
}

impl World {
    /// What the inbox has, by text.
    async fn answers_in_inbox(&self) -> Vec<Value> {
        let (status, page) = self.get(&format!("/v1/users/{ALICE}/events")).await;
        assert_eq!(status, 200, "{page}");
        let events = page["events"].as_array().unwrap().iter();
        events.filter(|event| event["type"] == "bot_response").map(|event| event["text"].clone()).collect()
    }

    async fn inbox_holds(&self, events: usize) -> Vec<Value> {
        let looked = || async { Some(self.answers_in_inbox().await).filter(|texts| texts.len() >= events) };
        eventually(&format!("{events} events in the inbox"), looked).await
    }
}

#[tokio::test]
async fn one_event_for_those_who_want_it_so_and_each_chunk_for_the_others() {
    let world = World::start_with(|config| {
        add_webhook(config, "each", |_| {});
        assembled(config);
        add_webhook(config, "frame", |webhook| webhook.format = BodyFormat::Frame);
    })
    .await;
    world.send(ALICE, "stream").await;
    let events = delivered(&world, 5).await;
    world.send(ALICE, "next").await;
    let events_and_next = delivered(&world, 8).await;
    assert_eq!(events.len(), 5);

    let one = at_webhook(&events_and_next, "crm");
    assert_eq!(texts(&one), ["Once upon a time", "echo: next"]);
    let (first, next) = (envelope(&one[0]), envelope(&one[1]));
    assert_eq!((&first["chunks"], &first["complete"]), (&json!(3), &json!(true)));
    assert_eq!(
        (&first["type"], &first["from"], &first["source"]),
        (&json!("bot_response"), &json!("bot"), &json!("live"))
    );
    assert_eq!((&first["sequence"], &next["sequence"]), (&json!(1), &json!(2)), "chunks leave no holes");
    assert!(next.get("chunks").is_none(), "left out: {next}");
    assert!(first["inReplyTo"].is_u64());

    let each = at_webhook(&events_and_next, "each");
    assert_eq!(texts(&each), ["Once ", "upon ", "a time", "echo: next"]);
    let last = envelope(&each[2]);
    assert_eq!(first["data"], last["data"], "the last chunk's frame");
    assert_ne!(one[0].headers["webhook-id"], each[2].headers["webhook-id"], "another event than that");
    assert_eq!(last["sequence"], 3);

    let frame = &at_webhook(&events_and_next, "frame")[0];
    assert_eq!(serde_json::from_slice::<Value>(&frame.body).unwrap(), first["data"]);
    assert_eq!(world.inbox_holds(4).await, ["Once ", "upon ", "a time", "echo: next"], "nothing twice");
}

#[tokio::test]
async fn a_restart_in_the_middle_costs_nothing() {
    let mut world = World::start_silent(assembled).await;
    world.control().push_raw(ALICE, chunk("ms-1", "Once ", false));
    world.control().push_raw(ALICE, whole("ms-2", "meanwhile"));
    world.control().push_raw(ALICE, chunk("ms-1", "upon ", false));
    world.inbox_holds(3).await;
    assert_eq!(texts(&delivered(&world, 1).await), ["meanwhile"], "what comes later doesn't wait");
    world.restart().await;
    world.all_connected().await;
    world.control().push_raw(ALICE, chunk("ms-1", "a time", true));
    world.control().push_raw(ALICE, whole("ms-3", "the end"));
    let events = delivered(&world, 3).await;
    assert_eq!(texts(&events), ["meanwhile", "Once upon a time", "the end"]);
    let told: Vec<_> = events.iter().map(|event| envelope(event)).collect();
    assert_eq!((&told[1]["chunks"], &told[1]["complete"]), (&json!(3), &json!(true)));
    let sequences: Vec<_> = told.iter().map(|event| event["sequence"].clone()).collect();
    assert_eq!(sequences, [1, 2, 3]);

    // Nothing is left to be assembled again.
    world.restart().await;
    world.all_connected().await;
    world.control().push_raw(ALICE, whole("ms-4", "after"));
    assert_eq!(texts(&delivered(&world, 4).await)[3], "after");
}

#[tokio::test]
async fn a_caller_that_waits_gets_the_whole_answer() {
    let world = World::start().await;
    for _ in 0..2 {
        let path = format!("/v1/users/{ALICE}/messages?wait=reply");
        let request = world.request(reqwest::Method::POST, &path).json(&json!({"text": "stream"}));
        let (status, message) = crate::support::answer(request).await;
        assert_eq!(status, 200, "{message}");
        let said =
            |frame: &Value| frame["message"][0]["cInfo"]["body"].as_str().unwrap_or_default().to_owned();
        let replies: Vec<_> = message["replies"].as_array().unwrap().iter().map(said).collect();
        assert_eq!(replies, ["Once ", "upon ", "a time"]);
    }
}

/// The same of an agent's answer.
fn agents_chunk(id: &str, text: &str, is_last: bool) -> String {
    let mut frame: Value = serde_json::from_str(&chunk(id, text, is_last)).unwrap();
    frame["fromAgent"] = json!(true);
    frame["author"] = json!({"id": "a-1", "firstName": "Ann", "lastName": "Lee", "type": "AGENT"});
    frame.to_string()
}

#[tokio::test]
async fn an_agent_session_may_begin_in_a_streamed_answer_and_outlives_a_restart_in_its_middle() {
    const REPORT: &str = "bridge.agent_session";
    let mut world = World::start_silent(|config| {
        assembled(config);
        crm(config).events = EventFilter::Only(vec!["bot_response".into(), REPORT.into()]);
        add_webhook(config, "each", |webhook| webhook.streaming = Streaming::Chunks);
    })
    .await;
    world.control().push_raw(ALICE, agents_chunk("ms-1", "How can ", false));
    world.until_user(ALICE, "an agent", |user| user["agentSession"] == true).await;
    delivered(&world, 3).await;
    world.restart().await;
    world.all_connected().await;
    assert_eq!(world.user(ALICE).await["agent"], json!({"id": "a-1", "name": "Ann Lee"}));
    world.control().push_raw(ALICE, agents_chunk("ms-1", "I help?", true));
    world.control().push_raw(ALICE, r#"{"type":"agent_session_end"}"#.to_owned());
    world.until_user(ALICE, "no agent", |user| user["agentSession"] == false).await;
    let events = delivered(&world, 7).await;
    let told = |name: &str| -> Vec<String> {
        let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let line = |event: &Value| match event["type"].as_str() {
            Some(REPORT) => word(&event["data"]["state"]),
            _ => format!(
                "{} {}: {}",
                word(&event["from"]),
                word(&event["agent"]["name"]),
                word(&event["text"])
            ),
        };
        at_webhook(&events, name).iter().map(|event| line(&envelope(event))).collect()
    };
    assert_eq!(told("crm"), ["started", "agent Ann Lee: How can I help?", "ended"]);
    let each = ["agent Ann Lee: How can ", "started", "agent Ann Lee: I help?", "ended"];
    assert_eq!(told("each"), each);
    let sequences: Vec<_> =
        at_webhook(&events, "crm").iter().map(|event| envelope(event)["sequence"].clone()).collect();
    assert_eq!(sequences, [1, 2, 3]);
}
