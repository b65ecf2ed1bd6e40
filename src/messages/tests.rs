//! The queue over a real store: what is forgotten, and what never is.

use std::{cell::RefCell, sync::Arc, time::Duration};

use super::*;
use crate::{
    config,
    events::EventId,
    names::{BotName, UserName},
    store::{ClientNumber, Idempotency, NewMessage, Store, testing},
    users::{Command, ConnectionState, User, UserStatus},
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

#[tokio::test]
async fn an_answer_that_comes_while_a_messages_end_is_prepared_is_kept() {
    let (_directory, store) = testing::store();
    let (messages, user) = load(&store);
    let (id, number) = accept(&messages, &user, "Hi").await;
    let answer = EventId { store: 1, number: 1 };
    let told = RefCell::new(Vec::new());
    let prepare = |_, record: &MessageRecord| {
        if told.borrow().is_empty() {
            messages.replied(user.number, id, answer);
        }
        told.borrow_mut().push((record.status, record.replies.len()));
    };
    messages.finished_with(
        user.number,
        number,
        Timestamp::now(),
        Verdict::Found,
        prepare,
        |end, record, ()| {
            assert_eq!(record.replies, [answer]);
            store.finish_message(end);
        },
    );
    assert_eq!(told.into_inner(), [(MessageStatus::Acked, 0), (MessageStatus::Acked, 1)]);
    let found = messages.find(user.number, id).unwrap();
    store.settled().await.unwrap();
    assert_eq!(store.message(user.number, id).unwrap(), found);
    assert_eq!(found.unwrap().replies, [answer]);
}

/// Who talks on without being asked has no message read for it each time; a later message hears of its own answers
/// all the same, also under an id that was somebody else's before.
#[tokio::test]
async fn a_message_is_told_of_so_many_answers_and_the_next_of_its_own() {
    let (_directory, store) = testing::store();
    let (messages, user) = load(&store);
    let alice = user.number;
    let at = Timestamp::now();
    let replies = |id| messages.find(alice, id).unwrap().map(|record| record.replies.len());
    let answer = |id, many: u64| {
        (0..many).for_each(|number| messages.replied(alice, id, EventId { store: 1, number }));
    };
    let end = |number| {
        messages.finished(alice, number, at, Verdict::Acked("{}".to_owned()), |end| {
            store.finish_message(end);
        });
    };
    let send = async |id: u64| {
        let id = ClientMessageId::new(id).unwrap();
        let accepted = messages.accept(&user, text(&id.to_string()), Some(id), None).await.unwrap();
        messages.sent(alice, accepted.record.number, at);
        (id, accepted.record.number)
    };
    let (first, number) = send(7).await;
    answer(first, 100);
    assert_eq!(replies(first), Some(MessageRecord::MAX_REPLIES));
    end(number);
    answer(first, 1);
    let (second, number) = send(8).await;
    answer(second, 2);
    assert_eq!((replies(first), replies(second)), (Some(MessageRecord::MAX_REPLIES), Some(2)));
    end(number);
    for n in 0..700 {
        end(accept(&messages, &user, &n.to_string()).await.1);
    }
    assert_eq!(replies(first), None, "it is forgotten");
    answer(first, 1);
    let (again, _) = send(7).await;
    answer(again, 1);
    assert_eq!((again, replies(again)), (first, Some(1)));
}

fn draft() -> Draft {
    Draft::from_text(b"Hi").unwrap().0
}

#[tokio::test]
async fn what_a_message_says_is_in_memory_only_while_it_is_about_to_be_sent() {
    let (_directory, store) = testing::store();
    let (messages, user) = load(&store);
    let text_of = |number| {
        let content = messages.content(user.number, number).unwrap();
        serde_json::from_slice::<serde_json::Value>(&content.fields).unwrap()["message"]["body"].take()
    };
    let end = |number| {
        messages.finished(user.number, number, Timestamp::now(), Verdict::Found, |end| {
            store.finish_message(end);
        });
    };
    let (_, offline) = accept(&messages, &user, "offline").await;
    assert_eq!(messages.shared.fresh.bytes(), 0, "nobody knows when it is sent");
    let (state, since) = (ConnectionState::Connected, Timestamp::now());
    user.set_status(UserStatus { state, since, last_error: None, attempts: 1 });
    let (_, behind) = accept(&messages, &user, "behind").await;
    assert_eq!(messages.shared.fresh.bytes(), 0, "others are sent before it");
    assert_eq!([text_of(offline), text_of(behind)], ["offline", "behind"]);
    [offline, behind].into_iter().for_each(end);
    let (_, next) = accept(&messages, &user, "next").await;
    assert!(messages.shared.fresh.bytes() > 0);
    assert_eq!(text_of(next), "next");
    assert_eq!(messages.shared.fresh.bytes(), 0);
    assert_eq!(text_of(next), "next", "sent again");
    end(next);
    let (_, never) = accept(&messages, &user, "never sent").await;
    end(never);
    assert_eq!(messages.shared.fresh.bytes(), 0);
}

/// What a session would be told now.
fn told(user: &User) -> Vec<String> {
    std::iter::from_fn(|| user.mailbox.try_take())
        .map(|command| match command {
            Command::BeginTurn(number) => format!("begin {}", number.0),
            Command::Send(message) => format!("send {}", message.number.0),
            Command::EndTurn(number) => format!("end {}", number.0),
            Command::Reconfigure => "reconfigure".to_owned(),
            Command::Reconnect => "reconnect".to_owned(),
            Command::Stop => "stop".to_owned(),
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
            store.finish_message(end);
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

// ---- Idempotency keys.

fn key(name: &str) -> IdempotencyKey {
    IdempotencyKey { client: None, key: name.to_owned() }
}

fn text(text: &str) -> Draft {
    Draft::from_text(text.as_bytes()).unwrap().0
}

/// A message as it was accepted so long ago.
async fn accept_earlier(store: &Store, user: &User, id: u64, draft: Draft, name: &str, ago: Duration) {
    let key = Idempotency { client: ClientNumber(0), key: Fingerprint::of(name.as_bytes()) };
    let at = Timestamp::now().minus(ago);
    let record = draft.record(MessageNumber(id), at);
    let new = NewMessage {
        user: user.number,
        id: ClientMessageId::new(id).unwrap(),
        generated: false,
        expires_at: at,
        record,
        content: draft.content,
        idempotency: Some(key),
        trace: draft.trace,
    };
    let (sender, done) = tokio::sync::oneshot::channel();
    let reserved = store.reserve(512).await.unwrap();
    store.accept_message(new, reserved, |result| sender.send(result).unwrap()).unwrap();
    done.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_key_is_known_for_24_hours_and_then_free_for_another_message() {
    const HOUR: Duration = Duration::from_secs(3600);
    let (_directory, store) = testing::store();
    let (_, user) = load(&store);
    accept_earlier(&store, &user, 1, text("old"), "old", 25 * HOUR).await;
    accept_earlier(&store, &user, 2, text("young"), "young", 23 * HOUR).await;
    let (messages, user) = load(&store);
    for number in [1, 2].map(MessageNumber) {
        let acked = Verdict::Acked("{}".to_owned());
        messages.finished(user.number, number, Timestamp::now(), acked, |end| store.finish_message(end));
    }
    let post = |draft, name| messages.accept(&user, draft, None, Some(key(name)));
    let young = post(text("young"), "young").await.unwrap();
    assert_eq!((young.id.get(), young.novelty), (2, Novelty::Repeat));
    assert!(matches!(post(text("other"), "young").await, Err(AcceptError::KeyReused)));
    let again = post(text("another"), "old").await.unwrap();
    assert_eq!(again.novelty, Novelty::New);
    assert_eq!(post(text("another"), "old").await.unwrap().id, again.id);

    // What forgets the old message leaves the key to the new one.
    let old = store.accepted_after(MessageNumber(0)).next().unwrap().unwrap();
    assert_eq!(old.messages[0].id.get(), 1);
    store.forget_accepted(&old, 0).unwrap();
    store.settled().await.unwrap();
    assert!(messages.find(user.number, ClientMessageId::new(1).unwrap()).unwrap().is_none());
    assert_eq!(post(text("another"), "old").await.unwrap().novelty, Novelty::Repeat);
}

#[tokio::test]
async fn a_retention_of_less_than_24_hours_leaves_the_keys_their_time() {
    const HOUR: Duration = Duration::from_secs(3600);
    let (_directory, store) = testing::store();
    let (_, user) = load(&store);
    for id in 1..=4 {
        accept_earlier(&store, &user, id, text("Hi"), &id.to_string(), Duration::ZERO).await;
    }
    let forget = async |most, later| {
        let short = config::Store { retention: HOUR, max_messages: most, ..kept() };
        let mut retention = retention::Retention::new(&short, 0);
        retention.accepted(MessageNumber(1), 4);
        retention.forget_old(&store, Timestamp::now().plus(later), |_, _| false).unwrap();
        store.settled().await.unwrap();
        store.accepted_after(MessageNumber(0)).count()
    };
    assert_eq!(forget(KEPT, 2 * HOUR).await, 4);
    assert_eq!(forget(KEPT, 23 * HOUR).await, 4);
    assert_eq!(forget(3, Duration::ZERO).await, 3, "as many as are kept at all");
    assert_eq!(forget(KEPT, 25 * HOUR).await, 1, "the newest commit stays");
}

#[tokio::test]
async fn a_key_with_another_id_is_another_message() {
    let (_directory, store) = testing::store();
    let (messages, user) = load(&store);
    let id = |id| Some(ClientMessageId::new(id).unwrap());
    let post = |id, name: &str| messages.accept(&user, text("Hi"), id, Some(key(name)));
    assert_eq!(post(id(7), "a").await.unwrap().novelty, Novelty::New);
    for same in [id(7), None] {
        assert_eq!(post(same, "a").await.unwrap().id.get(), 7);
    }
    assert!(matches!(post(id(8), "a").await, Err(AcceptError::KeyReused)));
    assert!(messages.find(user.number, id(8).unwrap()).unwrap().is_none());
    // Another key with the same id and content is the same message, too.
    assert_eq!(post(id(7), "b").await.unwrap().novelty, Novelty::Repeat);
}

#[tokio::test]
async fn of_different_messages_under_one_key_or_id_at_once_one_is_accepted() {
    let (_directory, store) = testing::store();
    let (messages, user) = load(&store);
    let texts = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let id = ClientMessageId::new(7).unwrap();
    let keyed = texts.map(|said| messages.accept(&user, text(said), None, Some(key("k"))));
    let named = texts.map(|said| messages.accept(&user, text(said), Some(id), None));
    let (keyed, named) =
        tokio::join!(futures_util::future::join_all(keyed), futures_util::future::join_all(named));
    let (accepted, refused): (Vec<_>, Vec<_>) = keyed.iter().partition(|answer| answer.is_ok());
    assert_eq!((accepted.len(), refused.len()), (1, 7));
    assert!(refused.iter().all(|answer| matches!(answer, Err(AcceptError::KeyReused))), "{refused:?}");
    let (accepted, refused): (Vec<_>, Vec<_>) = named.iter().partition(|answer| answer.is_ok());
    assert_eq!((accepted.len(), refused.len()), (1, 7));
    assert!(refused.iter().all(|answer| matches!(answer, Err(AcceptError::IdTaken(_)))), "{refused:?}");
    assert_eq!(messages.queued(user.number), 2);
}

#[tokio::test]
async fn a_given_id_that_the_bridge_would_choose_next_is_skipped() {
    let (_directory, store) = testing::store();
    let (messages, user) = load(&store);
    let ahead = Timestamp::now().as_millis() + 60_000;
    for offset in 0..5 {
        let id = ClientMessageId::new(ahead + offset).unwrap();
        messages.accept(&user, text("given"), Some(id), None).await.unwrap();
    }
    let (chosen, _) = accept(&messages, &user, "chosen").await;
    assert!(chosen.get() < ahead, "{chosen}: given ids don't move it");
    accept_earlier(&store, &user, ahead + 100, text("x"), "x", Duration::ZERO).await;
    let (next, _) = accept(&messages, &user, "chosen").await;
    assert!(next > chosen && next.get() < ahead);
}
