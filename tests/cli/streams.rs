//! Streamed answers, and a bridge that is killed in their middle.

use std::{collections::HashSet, sync::Arc};

use rtm_bridge::receiver::{ReceivedEvent, Receiver, ReceiverOptions};
use serde_json::{Value, json};

use crate::support::{Running, World, command, within};

fn frame(id: &str, text: &str, is_last: Option<bool>) -> String {
    let mut frame = json!({"type": "bot_response", "messageId": id,
        "message": [{"type": "text", "component": {"type": "text", "payload": {"text": text}}}]});
    if let Some(is_last) = is_last {
        (frame["sM"], frame["endChunk"]) = (json!(true), json!(is_last));
    }
    frame.to_string()
}

/// What came until this text did, with what the envelope says of it. An event that comes again after a kill, because
/// that it was delivered was not stored yet, is one event.
async fn told_until(receiver: &Receiver, text: &str) -> Vec<(String, Value, Value)> {
    let has_it = |events: &[Arc<ReceivedEvent>]| events.iter().any(|one| one.text.as_deref() == Some(text));
    let came = within(text, receiver.wait_until(has_it)).await;
    let mut seen = HashSet::new();
    let new = came.iter().filter(|event| seen.insert(event.headers["webhook-id"].clone()));
    let read = |event: &Arc<ReceivedEvent>| {
        let envelope: Value = serde_json::from_slice(&event.body).unwrap();
        (event.text.clone().unwrap_or_default(), envelope["chunks"].clone(), envelope["complete"].clone())
    };
    new.map(read).collect()
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_streamed_answer_costs_neither_the_whole_nor_a_chunk() {
    let (whole, each) = tokio::join!(
        Receiver::start(ReceiverOptions::default()),
        Receiver::start(ReceiverOptions::default())
    );
    let (whole, each) = (whole.unwrap(), each.unwrap());
    let mut world = World::start_with(&format!(
        "[users.bob]\nbot = \"support\"\nidentity = \"bob\"\nwebhooks = [\"whole\", \"each\"]\n\
         [webhooks.whole]\nurl = \"{}\"\nstreaming = \"assembled\"\n[webhooks.each]\nurl = \"{}\"\n",
        whole.url(),
        each.url()
    ))
    .await;
    let control = world.sandbox.control();
    within("bob's connection", control.wait_connected("bob", 1)).await;
    control.push_raw("bob", frame("ms-1", "Once ", Some(false)));
    control.push_raw("bob", frame("ms-2", "Meanwhile.", None));
    control.push_raw("bob", frame("ms-1", "upon ", Some(false)));
    told_until(&each, "upon ").await;
    told_until(&whole, "Meanwhile.").await;

    within("the end", world.daemon.child.kill()).await.unwrap();
    within("the platform to notice", control.wait_connected("bob", 0)).await;
    world.daemon = Running::start(command(&["--config", &world.config]));
    within("bob's new connection", control.wait_connected("bob", 1)).await;
    control.push_raw("bob", frame("ms-1", "a time", Some(true)));
    control.push_raw("bob", frame("ms-3", "The end.", None));

    let plain = |text: &str| (text.to_owned(), Value::Null, Value::Null);
    let once = ("Once upon a time".to_owned(), json!(3), json!(true));
    assert_eq!(told_until(&whole, "The end.").await, [plain("Meanwhile."), once, plain("The end.")]);
    let chunks = ["Once ", "Meanwhile.", "upon ", "a time", "The end."].map(plain);
    assert_eq!(told_until(&each, "The end.").await, chunks);
}
