//! The queue over a real store: what is forgotten, and what never is.

use std::sync::Arc;

use super::*;
use crate::{
    config,
    names::{BotName, UserName},
    store::{Store, testing},
    users::{Command, User},
};

const KEPT: usize = 100;

fn kept() -> config::Store {
    config::Store { max_messages: KEPT, ..testing::settings("unused".as_ref()) }
}

fn load(store: &Arc<Store>) -> (Messages, Arc<User>) {
    let name = UserName::new("alice").unwrap();
    let number = store.user_number(&name).unwrap();
    let user = User::new(name, number, BotName::new("support").unwrap(), Timestamp::now());
    let messages = Messages::load(store.clone(), config::Messages::default(), &kept()).unwrap();
    (messages, Arc::new(user))
}

async fn accept(messages: &Messages, user: &Arc<User>, text: &str) -> (ClientMessageId, MessageNumber) {
    let (draft, _) = Draft::from_text(text.as_bytes()).unwrap();
    let accepted = messages.accept(user, draft, None, None).await.unwrap();
    (accepted.id, accepted.record.number)
}

#[tokio::test]
async fn final_messages_beyond_the_limit_are_forgotten_oldest_first_and_live_ones_never() {
    let (directory, store) = testing::store();
    let (messages, user) = load(&store);
    let mut ids = Vec::new();
    for n in 0..700 {
        let (id, number) = accept(&messages, &user, &n.to_string()).await;
        messages.finished(user.number, number, Timestamp::now(), Verdict::Acked("{}".to_owned()), |end| {
            store.finish_message(end);
        });
        ids.push(id);
    }
    assert!(ids.is_sorted(), "chosen ids only grow");
    let (live, _) = accept(&messages, &user, "stays").await;
    let known = |id: &&ClientMessageId| messages.find(user.number, **id).unwrap().is_some();
    assert_eq!(ids.iter().rev().take(KEPT).filter(known).count(), KEPT, "the newest are remembered");
    assert!(!known(&&ids[0]), "the oldest is forgotten");
    assert!(messages.find(user.number, live).unwrap().is_some());
    store.close();
    drop((messages, store));

    let store = Store::open(&testing::settings(directory.path())).unwrap();
    let (messages, user) = load(&store);
    assert_eq!(messages.pending(user.number).iter().map(|message| message.id).collect::<Vec<_>>(), [live]);
    let (next, _) = accept(&messages, &user, "after the restart").await;
    assert!(next > live, "{next} was chosen after {live}");
}

#[tokio::test]
async fn a_live_message_keeps_those_after_it() {
    let (_directory, store) = testing::store();
    let (messages, user) = load(&store);
    let (live, _) = accept(&messages, &user, "waits").await;
    let mut second = None;
    for n in 0..600 {
        let (id, number) = accept(&messages, &user, &n.to_string()).await;
        second.get_or_insert(id);
        messages.finished(user.number, number, Timestamp::now(), Verdict::Expired(FinalReason::Ttl), |end| {
            store.finish_message(end);
        });
    }
    assert!(messages.find(user.number, live).unwrap().is_some());
    assert!(messages.find(user.number, second.unwrap()).unwrap().is_some());
}

fn draft() -> Draft {
    Draft::from_text(b"Hi").unwrap().0
}

/// What a session would be told now.
fn told(user: &User) -> Vec<String> {
    std::iter::from_fn(|| user.mailbox.try_take())
        .map(|command| match command {
            Command::BeginTurn(number) => format!("begin {}", number.0),
            Command::Send(message) => format!("send {}", message.number.0),
            Command::EndTurn(number) => format!("end {}", number.0),
            Command::Reconnect => "reconnect".to_owned(),
        })
        .collect()
}

#[tokio::test]
async fn a_turn_begins_before_its_message_and_ends_with_its_last_caller() {
    let (_directory, store) = testing::store();
    let (messages, user) = load(&store);
    let id = ClientMessageId::new(7).unwrap();
    let ask = || messages.accept_awaited(&user, draft(), Some(id), None);
    let (accepted, first) = ask().await.unwrap();
    assert_eq!(accepted.novelty, Novelty::New);
    assert_eq!(told(&user), ["begin 1", "send 1"]);
    // A repeat takes part.
    let (repeat, second) = ask().await.unwrap();
    assert_eq!(repeat.novelty, Novelty::Repeat);
    assert_eq!(messages.awaited(user.number), [MessageNumber(1)].into());
    drop(first);
    assert_eq!(told(&user), [""; 0], "the second still waits");
    drop(second);
    assert_eq!(told(&user), ["end 1"]);
    let (_, again) = ask().await.unwrap();
    assert_eq!(told(&user), ["begin 1"]);
    drop(again);
    assert_eq!(told(&user), ["end 1"]);
    assert!(messages.awaited(user.number).is_empty());
}

#[tokio::test]
async fn there_is_no_turn_where_no_answer_can_come() {
    let (_directory, store) = testing::store();
    let (messages, user) = load(&store);
    let [first, second] = [7, 8].map(|id| ClientMessageId::new(id).unwrap());
    let ask = |id| messages.accept_awaited(&user, draft(), Some(id), None);
    for (id, number) in [(first, 1), (second, 2)] {
        messages.accept(&user, draft(), Some(id), None).await.unwrap();
        messages.sent(user.number, MessageNumber(number), Timestamp::now());
        let acked = Verdict::Acked("{}".to_owned());
        messages.finished(user.number, MessageNumber(number), Timestamp::now(), acked, |end| {
            store.finish_message(end)
        });
    }
    assert!(ask(first).await.unwrap().1.is_none(), "an answer would be taken for one to the second");
    assert!(ask(second).await.unwrap().1.is_some());
    assert!(messages.unanswered_for(user.number, Timestamp::now()).is_some());
    messages.replied(user.number, second, crate::events::EventId { store: 1, number: 1 });
    assert!(ask(second).await.unwrap().1.is_none(), "it is there");
    assert_eq!(messages.unanswered_for(user.number, Timestamp::now()), None);
}

#[tokio::test]
async fn a_caller_that_is_gone_before_the_commit_leaves_no_turn() {
    let (_directory, store) = testing::store();
    let (messages, user) = load(&store);
    let asking = messages.accept_awaited(&user, draft(), None, None);
    // Polled once, so that the message is handed over, and dropped.
    assert!(futures_util::FutureExt::now_or_never(asking).is_none());
    store.settled().await.unwrap();
    let told = told(&user);
    assert!(
        told.iter().filter(|command| command.starts_with("begin")).count()
            <= told.iter().filter(|command| command.starts_with("end")).count(),
        "{told:?}"
    );
    assert!(told.contains(&"send 1".to_owned()), "the message goes on: {told:?}");
    assert!(messages.awaited(user.number).is_empty());
}
