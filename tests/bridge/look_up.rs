//! Before a message is sent again: the platform's history is asked for it.

use rtm_bridge::sandbox::{Direction, Endpoint, Fault, FaultKind, SocketEnd, Taken};
use serde_json::json;

use crate::{
    recovery::{HISTORY_TIMEOUT, NEVER},
    support::{ALICE, World, eventually, sent_texts, within},
};

#[tokio::test]
async fn a_message_whose_ack_was_lost_is_found_and_not_sent_again() {
    for user_msg_ids in [true, false] {
        let world = World::recovering(|_| {}).await;
        world.control().configure(|settings| settings.user_msg_ids = user_msg_ids);
        world.control().inject(Fault::once(FaultKind::LostAck));
        let id = world.send(ALICE, "Hi").await;
        let next = world.send(ALICE, "next").await;
        let status = world.final_status(ALICE, id).await;
        let end = json!([status["status"], status["delivery"], status["attempts"], status["ack"]]);
        assert_eq!(end, json!(["acked", "confirmed", 1, null]));
        assert_eq!(world.final_status(ALICE, next).await["status"], "acked");
        assert_eq!(sent_texts(&world.control(), ALICE), ["Hi", "next"]);
    }
}

#[tokio::test]
async fn a_message_that_was_lost_is_looked_for_and_sent_again() {
    let world = World::recovering(|_| {}).await;
    world.control().inject(Fault::once(FaultKind::LostMessage));
    let (id, next) = (world.send(ALICE, "Hi").await, world.send(ALICE, "next").await);
    assert_eq!(world.final_status(ALICE, id).await["attempts"], 2);
    assert_eq!(world.final_status(ALICE, next).await["attempts"], 1);
    assert_eq!(sent_texts(&world.control(), ALICE), ["Hi", "Hi", "next"]);
    assert_eq!(world.history_requests(), 1);
}

#[tokio::test]
async fn the_same_words_sent_before_are_not_taken_for_a_lost_message() {
    for user_msg_ids in [true, false] {
        let world = World::recovering(|_| {}).await;
        world.control().configure(|settings| settings.user_msg_ids = user_msg_ids);
        let first = world.send(ALICE, "yes").await;
        world.final_status(ALICE, first).await;
        world.control().inject(Fault::once(FaultKind::LostMessage));
        let lost = world.send(ALICE, "yes").await;
        assert_eq!(world.final_status(ALICE, lost).await["attempts"], 2);
        let incoming = world.control().history(ALICE);
        let incoming = incoming.iter().filter(|item| item.direction == Direction::Incoming);
        assert_eq!(incoming.count(), 2, "each reached the bot once");
    }
}

#[tokio::test]
async fn after_a_drop_one_request_answers_both_and_the_order_stays() {
    for taken in [Taken::Yes, Taken::No] {
        let world = World::recovering(|config| config.messages.ack_timeout = NEVER).await;
        let end = SocketEnd::Reset;
        world.control().inject(Fault::once(FaultKind::EndBeforeAck { taken, end }));
        let (cut, next) = (world.send(ALICE, "cut off").await, world.send(ALICE, "next").await);
        for id in [cut, next] {
            assert_eq!(world.final_status(ALICE, id).await["status"], "acked");
        }
        let sent = match taken {
            Taken::Yes => vec!["cut off", "next"],
            Taken::No => vec!["cut off", "cut off", "next"],
        };
        assert_eq!(sent_texts(&world.control(), ALICE), sent);
        assert_eq!(world.history_requests(), 1);
    }
}

#[tokio::test]
async fn a_message_that_waits_for_its_ack_over_a_restart_is_looked_for_first() {
    let mut world = World::recovering(|config| config.messages.ack_timeout = NEVER).await;
    world.control().inject(Fault::once(FaultKind::LostAck));
    let id = world.send(ALICE, "Hi").await;
    within("the message", world.control().wait_messages(ALICE, 1)).await;
    eventually("it to be sent", || async {
        (world.status(ALICE, id).await["status"] == "sent").then_some(())
    })
    .await;
    world.restart().await;
    assert_eq!(world.final_status(ALICE, id).await["status"], "acked");
    assert_eq!(sent_texts(&world.control(), ALICE), ["Hi"]);
}

#[tokio::test]
async fn a_history_that_hangs_holds_a_resend_up_no_longer_than_its_timeout() {
    for recover in [true, false] {
        let world = World::recovering(|config| {
            config.history.timeout = HISTORY_TIMEOUT;
            config.history.recover = recover;
        })
        .await;
        world.control().inject(Fault::always(FaultKind::Hang { at: Endpoint::History }));
        world.control().inject(Fault::once(FaultKind::LostMessage));
        let began = tokio::time::Instant::now();
        let id = world.send(ALICE, "Hi").await;
        assert_eq!(world.final_status(ALICE, id).await["attempts"], 2);
        assert!(began.elapsed() >= HISTORY_TIMEOUT, "it was asked for, whatever history.recover says");
        assert_eq!(sent_texts(&world.control(), ALICE), ["Hi", "Hi"]);
    }
}

#[tokio::test]
async fn a_late_ack_ends_the_look_up() {
    let world = World::recovering(|_| {}).await;
    world.control().inject(Fault::always(FaultKind::Hang { at: Endpoint::History }));
    world.control().inject(Fault::once(FaultKind::DelayedAck { ms: 600 }));
    let (id, next) = (world.send(ALICE, "Hi").await, world.send(ALICE, "next").await);
    let status = world.final_status(ALICE, id).await;
    assert!(status["ack"].is_object(), "{status}");
    assert_eq!(world.final_status(ALICE, next).await["status"], "acked");
    assert_eq!(sent_texts(&world.control(), ALICE), ["Hi", "next"]);
}
