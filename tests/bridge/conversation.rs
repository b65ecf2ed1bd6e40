//! The main job: a POST becomes a frame, its ack is correlated, the bot's answer reaches the webhook.

use serde_json::{Value, json};

use crate::support::{ALICE, World, sent_texts, within};

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
