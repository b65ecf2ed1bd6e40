//! The queue over a real store: what is forgotten, and what never is.

use std::sync::Arc;

use super::*;
use crate::{
    config,
    names::{BotName, UserName},
    store::{Store, testing},
    users::User,
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
