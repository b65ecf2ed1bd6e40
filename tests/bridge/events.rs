//! Events: which frames become events, once each, and what a webhook is told of them.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Method;
use rtm_bridge::{
    clock::Timestamp,
    config::{BodyFormat, EventFilter},
    receiver::Verdict,
    sandbox::{App, BotScript, Fault, FaultKind, Push},
};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    ALICE, Request, SECRET, World, add_webhook, answer, at_webhook, crm, delivered, envelope, texts, within,
};

/// A frame of the bot's with this identity and text.
fn bot_says(message_id: &str, text: &str) -> String {
    let message = json!([{"type": "text", "cInfo": {"body": text}}]);
    json!({"type": "bot_response", "messageId": message_id, "message": message}).to_string()
}

fn typing() -> String {
    json!({"type": "typing_start", "from": "bot"}).to_string()
}

/// All event types of these tests, but not those with which the platform greets a connection.
fn wanted() -> EventFilter {
    let types = ["bot_response", "user_message", "typing_start", "agent_session_start", "agent_session_end"];
    EventFilter::Only(types.map(str::to_owned).to_vec())
}

async fn everything() -> World {
    World::start_silent(|config| crm(config).events = wanted()).await
}

impl World {
    /// Sends exact bytes to alice's socket.
    fn platform_sends(&self, frame: impl Into<Bytes>) {
        assert_eq!(self.control().push_raw(ALICE, frame), 1, "alice has one socket");
    }
}

// ---- Bytes and formats.

/// Frames that would not survive being parsed and printed.
const AWKWARD: [&str; 4] = [
    " {\t\"type\" : \"bot_response\",\n \"message\": [ ] , \"n\": 1.0e+2 }\r\n",
    r#"{"type":"bot_response","n":123456789012345678901234567890.00,"zero":-0.0,"e":1E400}"#,
    r#"{"type":"bot_response","text":"\u00e9\ud83d\udc4b\/\u0000","é":"👋"}"#,
    r#"{"a":1,"type":"typing","a":2,"type":"bot_response","data":{"data":{}}}"#,
];

#[tokio::test]
async fn frames_reach_webhooks_byte_for_byte_in_every_format() {
    let world = World::start_silent(|config| {
        add_webhook(config, "frame", |webhook| webhook.format = BodyFormat::Frame);
        add_webhook(config, "form", |webhook| webhook.format = BodyFormat::Form);
    })
    .await;
    AWKWARD.iter().for_each(|frame| world.platform_sends(*frame));
    let events = delivered(&world, 12).await;
    for (frame, event) in AWKWARD.iter().zip(at_webhook(&events, "crm")) {
        let body = std::str::from_utf8(&event.body).unwrap();
        assert!(body.ends_with(&format!(",\"data\":{frame}}}")), "{body}");
        assert!(serde_json::from_str::<&serde_json::value::RawValue>(body).is_ok(), "{body}");
    }
    for (frame, event) in AWKWARD.iter().zip(at_webhook(&events, "frame")) {
        assert_eq!(event.body, frame.as_bytes());
        assert_eq!(event.headers["content-type"], "application/json");
    }
    for (frame, event) in AWKWARD.iter().zip(at_webhook(&events, "form")) {
        let data = url::form_urlencoded::parse(&event.body).find(|(key, _)| key == "data");
        assert_eq!(data.unwrap().1, *frame);
        assert_eq!(event.headers["content-type"], "application/x-www-form-urlencoded");
    }
}

#[tokio::test]
async fn the_envelope_and_the_headers_say_what_the_documentation_says() {
    let before = Timestamp::now();
    let world = World::start_silent(|_| {}).await;
    let id = world.send(ALICE, "Hello").await;
    world.final_status(ALICE, id).await;
    let frame = bot_says("ms-1", "Hi.");
    world.platform_sends(frame.clone());
    let event = &delivered(&world, 1).await[0];

    let mut body = envelope(event);
    let at = Timestamp::parse(body["timestamp"].as_str().unwrap()).unwrap();
    assert!(before <= at && at <= Timestamp::now(), "{at}");
    body["timestamp"] = json!("checked");
    let expected = json!({
        "type": "bot_response", "timestamp": "checked", "user": "alice", "bot": "support", "sequence": 1,
        "inReplyTo": id, "source": "live", "from": "bot", "text": "Hi.",
        "data": serde_json::from_str::<Value>(&frame).unwrap(),
    });
    assert_eq!(body, expected);

    let header = |name: &str| event.headers[name].to_str().unwrap().to_owned();
    assert!(!header("webhook-id").contains('.'));
    assert_eq!(header("bridge-user"), "alice");
    assert_eq!(header("bridge-event"), "bot_response");
    assert_eq!(header("bridge-attempt"), "1");
    assert_eq!(header("user-agent"), concat!("rtm-bridge/", env!("CARGO_PKG_VERSION")));
    assert_eq!(header("content-type"), "application/json");
    let oracle = standardwebhooks::Webhook::new(SECRET).unwrap();
    oracle.verify(&event.body, &event.headers).unwrap();
    let mut forged = event.body.to_vec();
    forged.push(b' ');
    assert!(oracle.verify(&forged, &event.headers).is_err());
    assert_eq!(event.signature, Verdict::Verified);
}

#[tokio::test]
async fn the_form_has_the_envelopes_fields_without_nulls() {
    let world = World::start_silent(|config| {
        crm(config).format = BodyFormat::Form;
        crm(config).events = wanted();
    })
    .await;
    world.platform_sends(typing());
    let event = &delivered(&world, 1).await[0];
    let fields: Vec<(String, String)> = url::form_urlencoded::parse(&event.body).into_owned().collect();
    let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["type", "timestamp", "user", "bot", "sequence", "source", "from", "data"]);
    let value = |name: &str| fields.iter().find(|(key, _)| key == name).unwrap().1.clone();
    let told =
        [value("type"), value("user"), value("bot"), value("sequence"), value("source"), value("from")];
    assert_eq!(told, ["typing_start", "alice", "support", "1", "live", "platform"]);
    assert_eq!(value("data"), typing());
}

// ---- What an event is told with.

#[tokio::test]
async fn sequences_have_no_holes_across_filters_and_restarts() {
    let mut world = World::start_silent(|config| {
        add_webhook(config, "all", |webhook| webhook.events = wanted());
    })
    .await;
    for round in 0..3 {
        for part in 0..3 {
            world.platform_sends(bot_says(&format!("ms-{round}-{part}"), "Hi"));
            world.platform_sends(typing());
        }
        delivered(&world, (round + 1) * 9).await;
        world.restart().await;
        world.all_connected().await;
    }
    let sequences = |name| {
        let events = at_webhook(&world.receiver.events(), name);
        events.iter().map(|event| event.sequence.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(sequences("crm"), (1..=9).collect::<Vec<_>>());
    assert_eq!(sequences("all"), (1..=18).collect::<Vec<_>>());
}

#[tokio::test]
async fn in_reply_to_is_the_latest_message_sent_before() {
    let mut world = everything().await;
    world.platform_sends(bot_says("ms-1", "a push"));
    delivered(&world, 1).await;
    let first = world.send(ALICE, "one").await;
    world.final_status(ALICE, first).await;
    world.platform_sends(bot_says("ms-2", "an answer"));
    world.platform_sends(r#"{"type":"user_message","id":5,"message":{"body":"elsewhere"}}"#);
    delivered(&world, 3).await;
    // Remembered over a restart.
    world.restart().await;
    world.all_connected().await;
    world.platform_sends(typing());
    delivered(&world, 4).await;
    let second = world.send(ALICE, "two").await;
    world.final_status(ALICE, second).await;
    world.platform_sends(bot_says("ms-3", "another answer"));
    let events = delivered(&world, 5).await;
    let told: Vec<Value> = events.iter().map(|event| envelope(event)["inReplyTo"].clone()).collect();
    assert_eq!(told, [json!(null), json!(first), json!(null), json!(first), json!(second)]);
}

#[tokio::test]
async fn from_tells_bot_agent_user_and_platform_apart() {
    let world = everything().await;
    world.control().configure(|settings| settings.bot = BotScript::Echo);
    for text in ["Hi", "agent", "help me", "bye"] {
        let id = world.send(ALICE, text).await;
        world.final_status(ALICE, id).await;
    }
    let ended = |events: &[Request]| events.iter().any(|event| event.event_type == "agent_session_end");
    within("the session's end", world.receiver.wait_until(ended)).await;
    world.platform_sends(r#"{"type":"user_message","id":5,"message":{"body":"elsewhere"}}"#);
    let seen = |events: &[Request]| events.iter().any(|event| event.event_type == "user_message");
    let events = within("the user's message", world.receiver.wait_until(seen)).await;
    let said: Vec<_> = events
        .iter()
        .map(|event| envelope(event))
        .filter(|body| body["text"].is_string())
        .map(|body| format!("{}: {}", body["from"].as_str().unwrap(), body["text"].as_str().unwrap()))
        .collect();
    assert_eq!(
        said,
        [
            "bot: echo: Hi",
            "agent: Hello, this is Ann. How can I help?",
            "agent: Ann says: help me",
            "user: elsewhere"
        ]
    );
    let statuses: Vec<_> =
        events.iter().filter(|event| event.event_type.starts_with("agent_session")).collect();
    assert_eq!(statuses.len(), 2);
    assert!(statuses.iter().all(|event| envelope(event)["from"] == "platform"));
}

#[tokio::test]
async fn an_agent_session_shows_at_the_user() {
    let world = everything().await;
    assert_eq!(world.user(ALICE).await["agentSession"], false);
    world.platform_sends(r#"{"type":"agent_session_start"}"#);
    delivered(&world, 1).await;
    assert_eq!(world.user(ALICE).await["agentSession"], true);
    world.platform_sends(r#"{"type":"agent_session_end"}"#);
    delivered(&world, 2).await;
    assert_eq!(world.user(ALICE).await["agentSession"], false);
}

#[tokio::test]
async fn filters_ignore_letter_case_and_odd_types_are_unknown_in_headers_only() {
    let world = World::start_silent(|config| {
        add_webhook(config, "all", |webhook| webhook.events = EventFilter::All);
    })
    .await;
    for frame in [r#"{"type":"BOT_Response","messageId":"ms-1"}"#, r#"{"type":"x\ny"}"#, r#"{"no":"type"}"#] {
        world.platform_sends(frame);
    }
    let all_there =
        |events: &[Request]| events.iter().filter(|event| event.event_type == "unknown").count() == 2;
    let events = within("the odd ones", world.receiver.wait_until(all_there)).await;
    let told = |name| {
        let greetings = ["bot_active", "session_start"];
        let events = at_webhook(&events, name).into_iter();
        let events = events.filter(|event| !greetings.contains(&event.event_type.as_str()));
        events.map(|event| (event.event_type.clone(), envelope(&event)["type"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(told("crm"), [("BOT_Response".to_owned(), json!("BOT_Response"))]);
    let all = told("all");
    assert_eq!(all[0], ("BOT_Response".to_owned(), json!("BOT_Response")));
    assert_eq!(all[1], ("unknown".to_owned(), json!("x\ny")));
    assert_eq!(all[2], ("unknown".to_owned(), json!("unknown")));
}

// ---- Which frames are events.

#[tokio::test]
async fn frames_that_are_no_json_object_are_skipped_and_cost_nothing() {
    let world = everything().await;
    for junk in ["not json", "[]", "42", "", "{\"type\":\"bot_response\"", "\u{0}"] {
        world.platform_sends(junk);
    }
    assert_eq!(world.control().push_binary(ALICE, &b"\xff\xfe{}"[..]), 1);
    world.platform_sends(bot_says("ms-1", "after"));
    assert_eq!(texts(&delivered(&world, 1).await), ["after"]);
    assert_eq!(world.control().connects(ALICE), 1, "the connection stays");
}

#[tokio::test]
async fn a_binary_frame_is_read_like_a_text_one() {
    let world = everything().await;
    world.control().push_binary(ALICE, bot_says("ms-1", "binary"));
    assert_eq!(texts(&delivered(&world, 1).await), ["binary"]);
}

#[tokio::test]
async fn what_only_answers_the_connection_is_no_event() {
    let world = everything().await;
    for reply in [r#"{"type":"pong"}"#, r#"{"type":"ack","ok":true,"replyto":1}"#, r#"{"type":"hello"}"#] {
        world.platform_sends(reply);
    }
    world.platform_sends(bot_says("ms-1", "Hi"));
    assert_eq!(texts(&delivered(&world, 1).await), ["Hi"]);
}

const MAX_FRAME: usize = 128 * 1024;

#[tokio::test]
async fn a_frame_of_max_frame_passes_and_one_beyond_costs_the_connection_but_no_loop() {
    let mut world = World::start_silent(|config| config.platform.max_frame = MAX_FRAME).await;
    let of_size = |size: usize| bot_says("ms-1", &"x".repeat(size - bot_says("ms-1", "").len()));
    world.receiver.answer(500);
    world.platform_sends(of_size(MAX_FRAME));
    within("an attempt", world.receiver.wait_attempts(1)).await;
    // From the store, where a body this large is a file.
    world.restart().await;
    world.receiver.answer(204);
    let events = delivered(&world, 1).await;
    let expected = of_size(MAX_FRAME);
    assert!(events[0].body.windows(MAX_FRAME).any(|part| part == expected.as_bytes()));

    world.all_connected().await;
    let connects = world.control().connects(ALICE);
    world.platform_sends(of_size(MAX_FRAME + 1));
    within("the next connection", world.control().wait_connects(ALICE, connects + 1)).await;
    let user = world.until_state(ALICE, "connected").await;
    assert!(user["lastError"].as_str().unwrap().contains("max_frame"), "{user}");
    world.platform_sends(bot_says("ms-2", "after"));
    assert_eq!(texts(&delivered(&world, 2).await)[1], "after");
    assert_eq!(world.control().connects(ALICE), connects + 1);
}

// ---- Once each.

#[tokio::test]
async fn a_repeated_frame_is_suppressed_also_over_a_restart() {
    let mut world = everything().await;
    let (first, second) = (bot_says("ms-1", "one"), bot_says("ms-2", "two"));
    world.platform_sends(first.clone());
    world.platform_sends(first.clone());
    world.platform_sends(second.clone());
    delivered(&world, 2).await;
    world.restart().await;
    world.all_connected().await;
    world.platform_sends(first);
    world.platform_sends(second);
    world.control().inject(Fault::once(FaultKind::Duplicate));
    world.control().push(ALICE, Push::text("three"));
    world.platform_sends(bot_says("ms-4", "four"));
    assert_eq!(texts(&delivered(&world, 4).await), ["one", "two", "three", "four"]);
}

#[tokio::test]
async fn other_content_under_the_same_id_is_no_repeat_and_neither_is_typing() {
    let world = everything().await;
    let chunk = |n: u32, last: bool| {
        json!({"type": "bot_response", "messageId": "ms-1", "sM": true, "endChunk": last, "n": n,
               "message": [{"type": "text", "cInfo": {"body": "same"}}]})
        .to_string()
    };
    for frame in [chunk(1, false), typing(), chunk(2, false), typing(), chunk(3, true), typing()] {
        world.platform_sends(frame);
    }
    let kinds: Vec<_> = delivered(&world, 6).await.iter().map(|event| event.event_type.clone()).collect();
    assert_eq!(kinds, ["bot_response", "typing_start"].repeat(3));
}

#[tokio::test]
async fn a_streamed_answer_arrives_chunk_by_chunk() {
    let world = World::start().await;
    world.send(ALICE, "stream").await;
    let events = delivered(&world, 3).await;
    assert_eq!(texts(&events)[..2], ["Once ", "upon "]);
    let ids: Vec<Value> = events.iter().map(|event| envelope(event)["data"]["messageId"].clone()).collect();
    assert!(ids[0].is_string() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

/// Signs in as alice beside the bridge, sends a message, and gives the first frame that came of the
/// message which `bridge_says` gets from the bridge's own.
async fn from_elsewhere(world: &World, text: &str, bridge_says: &str) -> Value {
    let app = App::default();
    let base = world.sandbox.url();
    let post = |path: &str, body: Value| world.http.post(base.join(path).unwrap()).json(&body);
    let bot = json!({"chatBot": app.bot_name, "taskBotId": app.bot_id});
    let credentials =
        json!({"clientId": app.client_id, "clientSecret": app.client_secret, "identity": ALICE});
    let (_, signed) = answer(post("sandbox/sts", credentials)).await;
    let grant = json!({"assertion": signed["jwt"], "botInfo": bot, "token": {}});
    let (_, granted) = answer(post("api/1.1/oAuth/token/jwtgrant", grant)).await;
    let token = granted["authorization"]["accessToken"].as_str().unwrap();
    let start = post("api/1.1/rtm/start", json!({"botInfo": bot})).bearer_auth(token);
    let (_, started) = answer(start).await;
    let url = format!("{}&isReconnect=true", started["url"].as_str().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    within("both connections", world.control().wait_connected(ALICE, 2)).await;
    let frame = json!({"resourceid": "/bot.message", "message": {"body": text}, "botInfo": bot, "id": 77});
    socket.send(Message::text(frame.to_string())).await.unwrap();
    world.send(ALICE, bridge_says).await;
    loop {
        let message = within("the bridge's message elsewhere", socket.next()).await.unwrap().unwrap();
        let frame: Value = serde_json::from_slice(&message.into_data()).unwrap_or_default();
        if frame["type"] == "user_message" {
            return frame;
        }
    }
}

#[tokio::test]
async fn what_the_user_says_elsewhere_arrives() {
    let world = everything().await;
    let echo = from_elsewhere(&world, "from the phone", "from the bridge").await;
    assert_eq!(echo["message"]["body"], "from the bridge", "the platform tells the other client");
    let said = |events: &[Request]| events.iter().any(|event| event.event_type == "user_message");
    let events = within("the user's message", world.receiver.wait_until(said)).await;
    let event = events.iter().find(|event| event.event_type == "user_message").unwrap();
    let body = envelope(event);
    let told = (&body["from"], &body["text"], &body["inReplyTo"]);
    assert_eq!(told, (&json!("user"), &json!("from the phone"), &json!(null)));
}

#[tokio::test]
async fn what_the_bridge_sent_itself_does_not_come_back() {
    let mut world = everything().await;
    let id = world.send(ALICE, "mine").await;
    world.final_status(ALICE, id).await;
    let user_message = |id: u64, text: &str| {
        json!({"type": "user_message", "from": "self", "id": id, "message": {"body": text}}).to_string()
    };
    world.platform_sends(user_message(id, "mine"));
    // The same id with another text, or the same text with another id, is somebody else's.
    world.platform_sends(user_message(id, "not mine"));
    world.platform_sends(user_message(id + 1, "mine"));
    delivered(&world, 2).await;
    world.restart().await;
    world.all_connected().await;
    world.platform_sends(user_message(id, "mine"));
    world.platform_sends(bot_says("ms-1", "after"));
    assert_eq!(texts(&delivered(&world, 3).await), ["not mine", "mine", "after"]);
}

#[tokio::test]
async fn a_user_without_webhooks_has_no_backlog() {
    let world = World::start_silent(|config| {
        config.users.values_mut().for_each(|user| user.webhooks.clear());
    })
    .await;
    world.platform_sends(bot_says("ms-1", "Hi"));
    let id = world.send(ALICE, "Hello").await;
    assert_eq!(world.final_status(ALICE, id).await["status"], "acked");
    assert_eq!(world.user(ALICE).await["undelivered"], 0);
    let (status, _) = answer(world.request(Method::GET, "/v1/users")).await;
    assert_eq!((status, world.receiver.attempts().len()), (200, 0));
}
