//! Messages on their way to the bot, whatever happens on it.

use rtm_bridge::{
    messages::{FinalReason, MessageStatus},
    sandbox::{Fault, FaultKind, Settings, SocketEnd, Taken},
    users::ConnectionState,
};

use crate::support::{Bridge, sandbox, sandbox_with, soon};

#[tokio::test]
async fn a_message_is_acked_and_its_answer_found() {
    let (sandbox, control) = sandbox().await;
    let mut bridge = Bridge::start(&sandbox, &["alice"]);
    let id = bridge.accept("alice", "Hello there").await;
    let record = bridge.fate("alice", id).await;
    assert_eq!(record.status, MessageStatus::Acked);
    assert!(record.ack.unwrap().contains(&id.to_string()));
    let answer = bridge.event_saying("Hello there").await;
    assert_eq!((answer.in_reply_to, &*answer.kind), (Some(id), "bot_response"));
    let frame = soon(control.wait_messages("alice", 1)).await[0].json();
    assert_eq!(frame["clientMessageId"], id.get());
    assert_eq!(frame["botInfo"]["chatBot"], "Sandbox Bot");
}

#[tokio::test]
async fn messages_keep_their_order_through_drops_and_a_restart() {
    let (sandbox, control) = sandbox().await;
    let bridge = Bridge::start(&sandbox, &["alice"]);
    bridge.wait_state("alice", ConnectionState::Connected).await;
    let end = SocketEnd::Reset;
    control.inject(Fault::times(FaultKind::EndBeforeAck { taken: Taken::No, end }, 2));
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(bridge.accept("alice", &format!("message {number}")).await);
    }
    let bridge = bridge.restart().await;
    for id in &ids {
        assert_eq!(bridge.fate("alice", *id).await.status, MessageStatus::Acked);
    }
    let mut seen: Vec<u64> =
        control.messages("alice").iter().map(|frame| frame.json()["id"].as_u64().unwrap()).collect();
    seen.dedup();
    let sent: Vec<u64> = ids.iter().map(|id| id.get()).collect();
    assert_eq!(seen, sent);
}

#[tokio::test]
async fn a_lost_message_is_sent_again() {
    let (sandbox, control) = sandbox().await;
    control.inject(Fault::once(FaultKind::LostMessage));
    let bridge = Bridge::start(&sandbox, &["alice"]);
    let id = bridge.accept("alice", "once more").await;
    let record = bridge.fate("alice", id).await;
    assert_eq!((record.status, record.attempts), (MessageStatus::Acked, 2));
}

#[tokio::test]
async fn a_message_without_any_ack_expires_and_the_next_goes_on() {
    let (sandbox, control) = sandbox().await;
    control.inject(Fault::times(FaultKind::LostMessage, 3));
    let bridge = Bridge::start(&sandbox, &["alice"]);
    let [lost, next] = [bridge.accept("alice", "one").await, bridge.accept("alice", "two").await];
    let record = bridge.fate("alice", lost).await;
    assert_eq!((record.status, record.reason), (MessageStatus::Expired, Some(FinalReason::NoAck)));
    assert_eq!(record.attempts, 3);
    assert_eq!(bridge.fate("alice", next).await.status, MessageStatus::Acked);
}

#[tokio::test]
async fn a_poison_message_does_not_block_its_user_for_ever() {
    let (sandbox, control) = sandbox().await;
    let end = SocketEnd::Reset;
    control.inject(Fault::times(FaultKind::EndBeforeAck { taken: Taken::No, end }, 5));
    let bridge = Bridge::start(&sandbox, &["alice"]);
    let [poison, next] = [bridge.accept("alice", "one").await, bridge.accept("alice", "two").await];
    let record = bridge.fate("alice", poison).await;
    assert_eq!((record.status, record.reason), (MessageStatus::Expired, Some(FinalReason::NoAck)));
    assert_eq!(bridge.fate("alice", next).await.status, MessageStatus::Acked);
}

#[tokio::test]
async fn a_refused_and_an_oversized_message_are_rejected() {
    let (sandbox, control) = sandbox_with(Settings { max_frame: 2000, ..Settings::default() }).await;
    let bridge = Bridge::start(&sandbox, &["alice"]);
    let large = bridge.accept("alice", &"x".repeat(3000)).await;
    let record = bridge.fate("alice", large).await;
    assert_eq!((record.status, record.reason), (MessageStatus::Rejected, Some(FinalReason::TooLarge)));
    control.inject(Fault::once(FaultKind::NegativeAck));
    let refused = bridge.accept("alice", "no").await;
    let record = bridge.fate("alice", refused).await;
    assert_eq!(
        (record.status, record.reason),
        (MessageStatus::Rejected, Some(FinalReason::RefusedByPlatform))
    );
    let fine = bridge.accept("alice", "yes").await;
    assert_eq!(bridge.fate("alice", fine).await.status, MessageStatus::Acked);
}
