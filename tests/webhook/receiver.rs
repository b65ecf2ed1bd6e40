//! The receiver itself.

use std::{sync::Arc, time::Duration};

use rtm_bridge::{
    clock::Timestamp,
    receiver::{Receiver, ReceiverOptions, Reply, Verdict},
    webhook::{Outcome, SignatureError},
};
use tokio::time::timeout;

use crate::support::{PLENTY, delivery, key, receiver, sender, sender_to, settings};

#[tokio::test]
async fn what_is_not_the_bridges_is_turned_away() {
    let receiver = receiver().await;
    let mut stranger = settings(&receiver.url());
    stranger.secrets = vec![key(9)];
    assert_eq!(sender(&stranger).attempt(&delivery(1)).await.status, Some(401));
    stranger.secrets.clear();
    assert_eq!(sender(&stranger).attempt(&delivery(2)).await.status, Some(401));
    let mut late = delivery(3);
    late.at = Timestamp::now().minus(Duration::from_secs(3600));
    assert_eq!(sender_to(&receiver.url()).attempt(&late).await.status, Some(401));
    let verdicts: Vec<_> = receiver.attempts().iter().map(|event| event.signature).collect();
    use SignatureError::{NoMatch, TooOld};
    assert_eq!(verdicts, [Verdict::Invalid(NoMatch), Verdict::Missing, Verdict::Invalid(TooOld)]);
    assert!(receiver.events().is_empty());
}

#[tokio::test]
async fn what_is_held_is_answered_on_release() {
    let receiver = Arc::new(receiver().await);
    receiver.hold();
    let sender = sender_to(&receiver.url());
    let waiting = tokio::spawn(async move { sender.attempt(&delivery(1)).await.outcome });
    assert_eq!(receiver.wait_attempts(1).await.len(), 1);
    assert!(receiver.events().is_empty() && !waiting.is_finished());
    assert_eq!(receiver.open_connections(), 1);
    receiver.release();
    assert_eq!(waiting.await.unwrap(), Outcome::Delivered);
    assert_eq!(receiver.wait_events(1).await.len(), 1);
}

#[tokio::test]
async fn a_script_goes_before_a_rule_and_a_rule_before_a_plan() {
    let receiver = receiver().await;
    receiver.fail(Some("500".parse().unwrap()));
    receiver.rule(|event| (event.sequence == Some(2)).then(|| Reply::status(422)));
    receiver.script([429]);
    let sender = sender_to(&receiver.url());
    let mut answers = receiver.subscribe();
    for number in [2, 2, 1] {
        sender.attempt(&delivery(number)).await;
    }
    receiver.fail(None);
    sender.attempt(&delivery(1)).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(timeout(PLENTY, answers.recv()).await.unwrap().unwrap().answered);
    }
    assert_eq!(statuses, [429, 422, 500, 204]);
    let delivered = receiver.wait_until(|events| events.iter().any(|event| event.sequence == Some(1))).await;
    assert_eq!(delivered.len(), 1);
}

#[tokio::test]
async fn a_stopped_receiver_can_start_again_at_its_address() {
    let first = receiver().await;
    let (url, listen) = (first.url(), first.address());
    let sender = sender_to(&url);
    assert_eq!(sender.attempt(&delivery(1)).await.outcome, Outcome::Delivered);
    first.stop().await;
    assert_eq!(sender.attempt(&delivery(2)).await.status, None);
    let _second = Receiver::start(ReceiverOptions { listen, ..ReceiverOptions::default() }).await.unwrap();
    assert_eq!(sender.attempt(&delivery(2)).await.outcome, Outcome::Delivered);
}

#[tokio::test]
async fn an_address_in_use_is_an_error() {
    let first = receiver().await;
    let options = ReceiverOptions { listen: first.address(), ..ReceiverOptions::default() };
    let error = Receiver::start(options).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}
