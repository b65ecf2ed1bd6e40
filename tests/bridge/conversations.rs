//! What was missed, read with the app's own histories: the same as with the user's own.

use std::time::Instant;

use futures_util::future::join_all;
use rtm_bridge::{
    config::{Config, HistorySource},
    sandbox::{Endpoint, Fault, FaultKind, SocketEnd, Taken},
};
use serde_json::json;

use crate::support::{ALICE, World, sent_texts};

fn from(source: HistorySource) -> impl Fn(&mut Config) {
    move |config| config.bots.values_mut().for_each(|bot| bot.history = source)
}

/// How often each kind of history was read: the user's, BotKit's, the Conversation History API's.
fn asked(world: &World) -> [u64; 3] {
    [Endpoint::History, Endpoint::GetMessages, Endpoint::Conversations]
        .map(|endpoint| world.control().request_count(endpoint))
}

#[tokio::test]
async fn what_was_missed_comes_once_and_in_order_whatever_the_pages_are_like() {
    for (source, page, inclusive) in [
        (HistorySource::Botkit, 7, false),
        (HistorySource::Conversations, 7, false),
        (HistorySource::Conversations, 7, true),
        (HistorySource::Conversations, 100, true),
    ] {
        let world = World::recovering(from(source)).await;
        world.control().configure(|settings| {
            (settings.max_page, settings.cursor_inclusive) = (page, inclusive);
        });
        world.say("before");
        world.told_until("before").await;
        let missed: Vec<String> = (0..25).map(|n| format!("missed {n}")).collect();
        world.miss(&missed.iter().map(String::as_str).collect::<Vec<_>>()).await;
        world.say("after");
        world.told_until("after").await;
        let stars = missed.iter().map(|text| format!("*{text}"));
        let expected: Vec<String> =
            ["before".to_owned()].into_iter().chain(stars).chain(["after".to_owned()]).collect();
        world.and_nothing_else(&expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!(world.gaps(1).await, [json!([25, true, null])]);
        let [rtm, botkit, conversations] = asked(&world);
        assert_eq!(rtm, 0, "{source:?}");
        assert_eq!(
            (botkit > 0, conversations > 0),
            (source == HistorySource::Botkit, source != HistorySource::Botkit)
        );
    }
}

#[tokio::test]
async fn what_comes_live_meanwhile_has_its_place_behind_what_was_missed() {
    let world = World::recovering(from(HistorySource::Conversations)).await;
    world.say("before");
    world.told_until("before").await;
    world.control().inject(Fault::once(FaultKind::Delay { at: Endpoint::Conversations, ms: 400 }));
    world.miss(&["one", "two"]).await;
    world.say("live");
    world.told_until("live").await;
    world.and_nothing_else(&["before", "*one", "*two", "live"]).await;
}

#[tokio::test]
async fn a_message_that_may_have_arrived_is_looked_for_there() {
    for taken in [Taken::Yes, Taken::No] {
        let world = World::recovering(from(HistorySource::Conversations)).await;
        let end = SocketEnd::Reset;
        world.control().inject(Fault::once(FaultKind::EndBeforeAck { taken, end }));
        let id = world.send(ALICE, "Hi").await;
        assert_eq!(world.final_status(ALICE, id).await["status"], "acked");
        let sent = if taken == Taken::Yes { vec!["Hi"] } else { vec!["Hi", "Hi"] };
        assert_eq!(sent_texts(&world.control(), ALICE), sent);
        assert_eq!(asked(&world)[0], 0);
    }
}

#[tokio::test]
async fn nothing_is_lost_where_the_app_may_not_read_it_or_the_platform_can_not() {
    let refuse = |status| FaultKind::Refuse { at: Endpoint::Conversations, status, retry_after: None };
    for fault in [None, Some(refuse(404)), Some(refuse(429)), Some(refuse(503))] {
        let world = World::recovering(from(HistorySource::Conversations)).await;
        world.say("before");
        world.told_until("before").await;
        match fault {
            None => world.control().configure(|settings| settings.chat_history_scope = false),
            Some(fault) => world.control().inject(Fault::once(fault)),
        }
        world.miss(&["one", "two"]).await;
        world.told_until("two").await;
        world.and_nothing_else(&["before", "*one", "*two"]).await;
        assert_eq!(world.gaps(1).await, [json!([2, true, null])]);
        assert_eq!(asked(&world), [1, 0, 1]);
    }
}

#[tokio::test]
async fn its_documented_limit_is_kept_and_costs_nobody_anything() {
    const AT_ONCE: u64 = 30;
    let world = World::recovering(from(HistorySource::Conversations)).await;
    world.say("before");
    world.told_until("before").await;
    let began = Instant::now();
    let path = format!("/v1/users/{ALICE}/history?source=conversations");
    let answers = join_all((0..40).map(|_| world.get(&path))).await;
    let busy =
        answers.iter().filter(|(status, body)| *status == 503 && body["code"] == "platform_busy").count();
    let answered = answers.iter().filter(|(status, _)| *status == 200).count();
    assert_eq!(answered + busy, 40);
    assert!(busy > 0 && answered >= 14, "half of what may be asked at once is the callers': {answered}");
    let (status, _) = world.get(&format!("/v1/users/{ALICE}/history?source=rtm")).await;
    assert_eq!(status, 200, "the other histories have limits of their own");
    let mut expected = vec!["before".to_owned()];
    while asked(&world)[0] < 2 {
        let text = format!("missed {}", expected.len());
        world.miss(&[&text]).await;
        world.told_until(&text).await;
        expected.push(format!("*{text}"));
        let allowed = AT_ONCE + 1 + began.elapsed().as_secs() / 2;
        assert!(asked(&world)[2] <= allowed, "{:?} after {:?}", asked(&world), began.elapsed());
    }
    world.and_nothing_else(&expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
}
