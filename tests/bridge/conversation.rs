//! The main job: a POST becomes a frame, its ack is correlated, the bot's answer reaches the webhook.

use serde_json::{Value, json};

use crate::support::{ALICE, World, answer, sent_texts, within};

#[tokio::test]
async fn a_post_becomes_a_frame_its_ack_is_known_and_the_reply_reaches_the_webhook() {
    let world = World::start().await;
    let id = world.send(ALICE, "Hi there").await;

    let status = world.final_status(ALICE, id).await;
    assert_eq!(status["status"], "acked", "{status}");
    assert_eq!(status["delivery"], "confirmed");
    assert_eq!(status["ack"]["replyto"], id);
    assert_eq!(sent_texts(&world.control(), ALICE), ["Hi there"]);

    let reply = within(
        "the reply at the webhook",
        world.receiver.wait_until(|events| events.iter().any(|event| event.event_type == "bot_response")),
    )
    .await;
    let reply = reply.iter().find(|event| event.event_type == "bot_response").unwrap().clone();
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(body["text"], "echo: Hi there");
    assert_eq!(body["inReplyTo"], id);
    assert_eq!(
        (&body["user"], &body["from"], &body["sequence"]),
        (&json!("alice"), &json!("bot"), &json!(1))
    );
}

#[tokio::test]
async fn messages_and_events_survive_a_restart() {
    let mut world = World::start().await;
    world.receiver.answer(500);
    let first = world.send(ALICE, "one").await;
    within("a failed attempt", world.receiver.wait_attempts(1)).await;
    world.stop_daemon().await;
    world.receiver.answer(204);
    world.start_daemon().await;
    let events = within("the event after the restart", world.receiver.wait_events(1)).await;
    let body: Value = serde_json::from_slice(&events[0].body).unwrap();
    assert_eq!((&body["text"], &body["sequence"]), (&json!("echo: one"), &json!(1)));
    assert_eq!(world.final_status(ALICE, first).await["status"], "acked");
    let attempts = world.receiver.attempts();
    assert!(attempts.iter().all(|attempt| attempt.id == events[0].id && attempt.body == events[0].body));
}

#[tokio::test]
async fn a_caller_may_wait_for_the_reply_itself() {
    let world = World::start().await;
    let url = world.url("/v1/users/alice/messages?wait=reply&timeout=10s");
    let (status, body) = answer(world.http.post(url).json(&json!({ "text": "Hi" }))).await;
    assert_eq!((status, &body["status"]), (200, &json!("acked")), "{body}");
    assert_eq!(body["replies"][0]["type"], "bot_response", "{body}");
    assert_eq!(body["replies"][0]["message"][0]["cInfo"]["body"], "echo: Hi");
}

#[tokio::test]
async fn a_webhook_that_says_gone_is_disabled_until_it_is_enabled_and_loses_nothing() {
    let mut world = World::start().await;
    world.receiver.answer(410);
    world.send(ALICE, "one").await;
    within("the 410", world.receiver.wait_attempts(1)).await;
    world.send(ALICE, "two").await;
    world.restart().await;
    world.receiver.answer(204);
    let (_, body) = world.get("/v1/webhooks").await;
    assert_eq!(body["webhooks"][0]["state"], "disabled", "{body}");
    let (status, _) = answer(world.http.post(world.url("/v1/webhooks/crm/enable"))).await;
    assert_eq!(status, 202);
    let events = within("both events", world.receiver.wait_events(2)).await;
    let texts: Vec<Value> = events
        .iter()
        .map(|event| serde_json::from_slice::<Value>(&event.body).unwrap()["text"].clone())
        .collect();
    assert_eq!(texts, [json!("echo: one"), json!("echo: two")]);
    assert_eq!(world.receiver.attempts().len(), 3, "nothing was sent meanwhile");
}
