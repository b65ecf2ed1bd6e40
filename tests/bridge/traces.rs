//! A caller's trace: in the POSTs of what comes of its message, and nowhere else.

use rtm_bridge::{
    config::{EventFilter, Streaming},
    sandbox::Push,
};
use serde_json::json;

use crate::{
    streams::chunk,
    support::{ALICE, Request, World, answer, crm, delivered, texts, within},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const STATE: &str = "vendor=a-value,other=1";

fn parent() -> String {
    format!("00-{TRACE}-{CALLER}-01")
}

impl World {
    /// Sends a text as a part of a trace, and gives its id once it is acked.
    async fn send_traced(&self, text: &str, parent: &str) -> u64 {
        let request = self.message(ALICE).header("traceparent", parent).header("tracestate", STATE);
        let (status, body) = answer(request.json(&json!({ "text": text }))).await;
        assert_eq!(status, 202, "{body}");
        let id = body["clientMessageId"].as_u64().unwrap();
        assert_eq!(self.final_status(ALICE, id).await["status"], "acked");
        id
    }
}

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers.get(name).map(|value| value.to_str().unwrap())
}

/// The span that a request of the trace names: one of the bridge's own.
fn span_of(request: &Request) -> String {
    let given = header(request, "traceparent").unwrap_or_else(|| panic!("no trace: {request:?}"));
    let span = given.strip_prefix(&format!("00-{TRACE}-")).and_then(|rest| rest.strip_suffix("-01"));
    let span = span.unwrap_or_else(|| panic!("not of the trace: {given}"));
    assert!(span.len() == 16 && span != CALLER && span != "0".repeat(16), "{given}");
    assert_eq!(header(request, "tracestate"), Some(STATE));
    span.to_owned()
}

#[tokio::test]
async fn a_trace_goes_on_in_every_attempt_of_what_comes_of_its_message_also_after_a_restart() {
    let mut world = World::start_silent(|config| {
        crm(config).events = EventFilter::Only(vec!["bot_response".into(), "bridge.message".into()]);
    })
    .await;
    world.receiver.script([204, 500, 503]);
    world.send_traced("Hi", &parent()).await;
    let ended = &delivered(&world, 1).await[0];
    assert_eq!(ended.event_type, "bridge.message");
    world.control().push(ALICE, Push::text("an answer"));
    let attempts = within("three attempts", world.receiver.wait_attempts(4)).await;
    let mut spans: Vec<_> = attempts.iter().map(span_of).collect();
    assert_eq!(texts(&attempts[1..]), ["an answer"; 3]);
    spans.dedup();
    assert_eq!(spans.len(), 4, "each attempt is a span of its own");

    // What is not delivered yet goes on with it after a restart.
    world.receiver.answer(503);
    world.control().push(ALICE, Push::text("another answer"));
    let seen = within("an attempt", world.receiver.wait_attempts(5)).await.len();
    world.stop_daemon().await;
    let seen = seen.max(world.receiver.attempts().len());
    world.receiver.answer(204);
    world.start_daemon().await;
    let attempts = within("the rest", world.receiver.wait_attempts(seen + 1)).await;
    let last = attempts.last().unwrap();
    assert_eq!(texts(std::slice::from_ref(last)), ["another answer"]);
    span_of(last);
}

#[tokio::test]
async fn who_names_no_trace_or_a_broken_one_gets_none() {
    let world = World::start_silent(|config| {
        crm(config).headers =
            vec![("tracestate".to_owned(), rtm_bridge::config::Secret::new("a=state-of-the-settings"))];
    })
    .await;
    let of_the_settings = |request: &Request| {
        header(request, "traceparent").is_none()
            && header(request, "tracestate") == Some("a=state-of-the-settings")
    };
    world.control().push(ALICE, Push::text("before any message"));
    world.send_traced("broken", &parent().to_uppercase()).await;
    world.control().push(ALICE, Push::text("to the broken one"));
    assert!(delivered(&world, 2).await.iter().all(of_the_settings));
    world.send_traced("traced", &parent()).await;
    world.control().push(ALICE, Push::text("to the traced one"));
    span_of(&delivered(&world, 3).await[2]);
    let id = world.send(ALICE, "untraced").await;
    world.final_status(ALICE, id).await;
    world.control().push(ALICE, Push::text("to the untraced one"));
    assert!(of_the_settings(&delivered(&world, 4).await[3]));
}

#[tokio::test]
async fn a_repeat_is_the_same_message_whatever_trace_it_names() {
    let world = World::start_silent(|_| {}).await;
    let body = json!({"text": "Hi", "clientMessageId": 7});
    let traced = |trace: &str| {
        let parent = format!("00-{trace}-{CALLER}-01");
        answer(world.message(ALICE).header("traceparent", parent).json(&body))
    };
    assert_eq!(traced(&"1".repeat(32)).await.0, 202);
    world.final_status(ALICE, 7).await;
    assert_eq!(traced(&"2".repeat(32)).await.0, 200);
    world.control().push(ALICE, Push::text("an answer"));
    let answer = &delivered(&world, 1).await[0];
    let given = header(answer, "traceparent").unwrap();
    assert!(given.contains(&"1".repeat(32)), "it is a part of the first one's: {given}");
}

#[tokio::test]
async fn a_streamed_answer_goes_on_with_the_trace_as_one_event_and_an_agents_session_does_not() {
    let mut world = World::start_silent(|config| {
        let webhook = crm(config);
        webhook.streaming = Streaming::Assembled;
        webhook.events = EventFilter::Only(vec!["bot_response".into(), "bridge.agent_session".into()]);
    })
    .await;
    world.send_traced("Hi", &parent()).await;
    world.control().push_raw(ALICE, chunk("ms-1", "Once ", false));
    world.control().push(ALICE, Push::text("meanwhile"));
    delivered(&world, 1).await;
    world.restart().await;
    world.all_connected().await;
    world.control().push_raw(ALICE, chunk("ms-1", "upon a time", true));
    world.control().push_raw(ALICE, r#"{"type":"agent_session_start"}"#.to_owned());
    let events = delivered(&world, 3).await;
    assert_eq!(texts(&events[..2]), ["meanwhile", "Once upon a time"]);
    assert_ne!(span_of(&events[0]), span_of(&events[1]));
    assert_eq!(events[2].event_type, "bridge.agent_session");
    assert_eq!(header(&events[2], "traceparent"), None, "it answers nothing");
}
