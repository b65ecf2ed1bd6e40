//! Delivery: retries, order, and what a webhook's answers lead to.

use std::time::{Duration, UNIX_EPOCH};

use rtm_bridge::{
    clock::Timestamp,
    config::{BodyFormat, Rate},
    names::UserName,
    receiver::{Receiver, ReceiverOptions, Reply},
    sandbox::{BotScript, Push},
    store::{DeadLetter, DeadLetterId, Store},
};
use serde_json::{Value, json};

use crate::support::{
    ALICE, BOB, LIMIT, Request, World, add_user, add_webhook, answer, at_webhook, crm, delivered, eventually,
    texts, webhook_of, within,
};

impl World {
    /// The bot says these texts to a user, in this order.
    fn bot_says(&self, user: &str, texts: impl IntoIterator<Item = impl Into<String>>) {
        for text in texts {
            assert_eq!(self.control().push(user, Push::text(text)).sockets, 1, "{user} has one socket");
        }
    }

    async fn with_alice_and_bob() -> Self {
        Self::start_silent(|config| add_user(config, BOB)).await
    }
}

fn letters(store: &Store) -> Vec<DeadLetter> {
    store.dead_letters_after(DeadLetterId(0)).map(Result::unwrap).collect()
}

fn of_user(events: &[Request], user: &str) -> Vec<Request> {
    events.iter().filter(|event| event.user == user).cloned().collect()
}

fn numbers(from: u32, to: u32) -> Vec<String> {
    (from..=to).map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn every_attempt_carries_the_same_id_and_body_and_its_own_number() {
    let mut world = World::start_silent(|_| {}).await;
    world.receiver.script([500_u16, 404, 302]);
    world.bot_says(ALICE, ["Hi"]);
    delivered(&world, 1).await;
    world.receiver.answer(503);
    world.bot_says(ALICE, ["Ho"]);
    within("a failed attempt", world.receiver.wait_attempts(5)).await;
    world.stop_daemon().await;
    world.receiver.answer(200);
    world.start_daemon().await;
    delivered(&world, 2).await;
    let attempts = world.receiver.attempts();
    let ids: std::collections::BTreeSet<_> = attempts.iter().map(|attempt| attempt.id.clone()).collect();
    assert_eq!(ids.len(), 2);
    for id in ids {
        let attempts: Vec<_> = attempts.iter().filter(|attempt| attempt.id == id).collect();
        assert!(attempts.iter().all(|attempt| attempt.body == attempts[0].body));
        let counted: Vec<_> = attempts.iter().map(|attempt| attempt.attempt.unwrap()).collect();
        let expected: Vec<_> = (1..).take(counted.len()).collect();
        assert_eq!(counted, expected, "also over a restart");
    }
}

#[tokio::test]
async fn each_users_order_is_kept_whatever_fails() {
    let world = World::with_alice_and_bob().await;
    world.receiver.fail(Some("503@40%".parse().unwrap()));
    for n in numbers(1, 20) {
        world.bot_says(ALICE, [n.clone()]);
        world.bot_says(BOB, [n]);
    }
    let events = delivered(&world, 40).await;
    for user in [ALICE, BOB] {
        let events = of_user(&events, user);
        assert_eq!(texts(&events), numbers(1, 20));
        let sequences: Vec<_> = events.iter().map(|event| event.sequence.unwrap()).collect();
        assert_eq!(sequences, (1..=20).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn one_users_refused_events_hold_up_nobody_else() {
    let world = World::with_alice_and_bob().await;
    world.receiver.rule(|event| (event.user == ALICE).then(|| Reply::status(500)));
    world.bot_says(ALICE, ["poison", "behind it"]);
    within("alice's failure", world.receiver.wait_attempts(1)).await;
    world.bot_says(BOB, numbers(1, 10));
    assert_eq!(texts(&delivered(&world, 10).await), numbers(1, 10));
    assert_eq!(world.user(ALICE).await["undelivered"], 2);
    world.until_user(BOB, "bob's deliveries to be noted", |bob| bob["undelivered"] == 0).await;
    world.receiver.rule(|_| None);
    let events = delivered(&world, 12).await;
    assert_eq!(texts(&of_user(&events, ALICE)), ["poison", "behind it"]);
}

/// What waits in memory is 8 MiB of a webhook's; the rest is read back when its turn comes.
#[tokio::test]
async fn what_waits_beyond_memory_is_delivered_in_order_too() {
    const EVENTS: usize = 16;
    let mut world = World::start_silent(|config| {
        add_user(config, BOB);
        crm(config).backoff_max = Duration::from_millis(50);
    })
    .await;
    world.receiver.answer(500);
    let large: Vec<_> = (0..EVENTS).map(|n| format!("{n}{}", "-".repeat(600 << 10))).collect();
    world.bot_says(ALICE, large.clone());
    world.until_user(ALICE, "all to wait", |alice| alice["undelivered"] == EVENTS).await;
    world.bot_says(BOB, large[..1].to_vec());
    world.until_user(BOB, "his to wait", |bob| bob["undelivered"] == 1).await;
    world.receiver.answer(204);
    let events = delivered(&world, EVENTS + 1).await;
    assert!(texts(&of_user(&events, ALICE)) == large, "alice's are out of order, or not hers");
    assert!(texts(&of_user(&events, BOB)) == large[..1], "bob's is another one");
    for user in [ALICE, BOB] {
        world.until_user(user, "nothing to be left", |user| user["undelivered"] == 0).await;
    }
    world.stop_daemon().await;
}

#[tokio::test]
async fn a_hanging_webhook_holds_up_no_other_webhook_and_its_attempts_time_out() {
    let world = World::start_silent(|config| {
        add_webhook(config, "slow", |webhook| webhook.timeout = Duration::from_millis(300));
    })
    .await;
    let slow = |event: &rtm_bridge::receiver::ReceivedEvent| webhook_of(event) == "slow";
    world.receiver.rule(move |event| slow(event).then(|| Reply::status(200).after(LIMIT)));
    world.bot_says(ALICE, numbers(1, 3));
    let others = |events: &[Request]| at_webhook(events, "crm").len() == 3;
    within("the other webhook's events", world.receiver.wait_until(others)).await;
    within("a second attempt", world.receiver.wait_attempts(5)).await;
    world.receiver.rule(|_| None);
    let all = |events: &[Request]| at_webhook(events, "slow").len() == 3;
    let events = within("the slow webhook's events", world.receiver.wait_until(all)).await;
    assert_eq!(texts(&at_webhook(&events, "slow")), numbers(1, 3));
}

#[tokio::test]
async fn a_refused_event_becomes_a_dead_letter_and_the_next_goes_on() {
    let mut world = World::start_silent(|_| {}).await;
    world.receiver.script([204_u16, 422, 204]);
    world.bot_says(ALICE, ["good", "refused", "good again"]);
    let events = delivered(&world, 2).await;
    assert_eq!(texts(&events), ["good", "good again"]);
    let sequences: Vec<_> = events.iter().map(|event| event.sequence.unwrap()).collect();
    assert_eq!(sequences, [1, 3], "a dead letter is a hole");
    world.until_user(ALICE, "nothing to be undelivered", |user| user["undelivered"] == 0).await;
    world.stop_daemon().await;
    let store = world.store();
    let letters = letters(&store);
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.last_status, letter.attempts, letter.position.sequence), (Some(422), 1, 2));
    assert_eq!(store.user_name(letter.user).unwrap(), UserName::new(ALICE).unwrap());
    assert!(String::from_utf8_lossy(&store.dead_letter_frame(letter).unwrap()).contains("refused"));
}

#[tokio::test]
async fn an_event_past_max_age_becomes_a_dead_letter_after_an_attempt_of_its_own() {
    let mut world = World::start_silent(|config| crm(config).max_age = Duration::from_millis(300)).await;
    world.receiver.answer(500);
    world.bot_says(ALICE, ["old", "older"]);
    world.until_user(ALICE, "both to be given up", |user| user["undelivered"] == 0).await;
    world.receiver.answer(204);
    world.bot_says(ALICE, ["new"]);
    assert_eq!(texts(&delivered(&world, 1).await), ["new"]);
    let attempts = world.receiver.attempts();
    for text in ["old", "older"] {
        assert!(attempts.iter().any(|attempt| attempt.text.as_deref() == Some(text)), "{text} was tried");
    }
    world.stop_daemon().await;
    let statuses: Vec<_> = letters(&world.store()).iter().map(|letter| letter.last_status).collect();
    assert_eq!(statuses, [Some(500), Some(500)]);
}

#[tokio::test]
async fn a_webhook_that_says_gone_is_left_alone_also_over_a_restart() {
    let mut world = World::start_silent(|config| add_webhook(config, "other", |_| {})).await;
    world.receiver.rule(|event| (webhook_of(event) == "crm").then(|| Reply::status(410)));
    let others = |wanted: usize| move |events: &[Request]| at_webhook(events, "other").len() == wanted;
    world.bot_says(ALICE, ["1"]);
    within("both attempts", world.receiver.wait_attempts(2)).await;
    world.bot_says(ALICE, ["2"]);
    within("the other's second", world.receiver.wait_until(others(2))).await;
    world.restart().await;
    world.all_connected().await;
    world.bot_says(ALICE, ["3"]);
    // Whatever the other webhook gets, this one would have got long ago.
    within("the other's third", world.receiver.wait_until(others(3))).await;
    let attempts = at_webhook(&world.receiver.attempts(), "crm");
    assert_eq!(attempts.len(), 1, "nothing is posted after the 410");
    world.until_user(ALICE, "all of it to wait", |user| user["undelivered"] == 3).await;
    assert_eq!(world.daemon().summary().failing_webhooks, 1);
}

#[tokio::test]
async fn a_late_retry_after_does_not_undo_a_gone() {
    let mut world = World::start_silent(|config| {
        add_user(config, BOB);
        add_webhook(config, "other", |_| {});
    })
    .await;
    world.receiver.rule(|event| {
        let busy = || Reply::status(503).retry_after("1").after(Duration::from_millis(200));
        match (webhook_of(event), event.user.as_str()) {
            ("crm", ALICE) => Some(Reply::status(410)),
            ("crm", _) => Some(busy()),
            _ => None,
        }
    });
    world.receiver.hold();
    world.bot_says(ALICE, ["1"]);
    world.bot_says(BOB, ["1"]);
    within("all four under way", world.receiver.wait_attempts(4)).await;
    world.receiver.release();
    // It stops only after the late answer.
    world.restart().await;
    let (_, body) = world.get("/v1/webhooks").await;
    let crm = body["webhooks"].as_array().unwrap().iter().find(|webhook| webhook["name"] == "crm").unwrap();
    assert_eq!((&crm["state"], &crm["backlog"]), (&json!("disabled"), &json!(2)));
}

#[tokio::test]
async fn a_retry_after_holds_the_whole_webhook_and_never_for_less_than_told() {
    let world = World::with_alice_and_bob().await;
    world.receiver.script([Reply::status(503).retry_after("1")]);
    world.bot_says(ALICE, ["1"]);
    let refused = within("the refusal", world.receiver.wait_attempts(1)).await[0].at;
    world.until_user(ALICE, "the hold", |_| world.daemon().summary().failing_webhooks == 1).await;
    world.bot_says(BOB, ["2"]);
    let events = delivered(&world, 2).await;
    for event in &events {
        let waited = event.at.since(refused);
        assert!(waited >= Duration::from_secs(1), "{} came after {waited:?}", event.user);
    }
    assert_eq!(world.receiver.attempts().len(), 3);
}

#[tokio::test]
async fn a_retry_after_is_kept_over_a_restart() {
    let mut world = World::start_silent(|_| {}).await;
    let told = Duration::from_secs(2);
    world.receiver.script([Reply::status(429).retry_after("2")]);
    world.bot_says(ALICE, ["1"]);
    let refused = within("the refusal", world.receiver.wait_attempts(1)).await[0].at;
    world.until_user(ALICE, "the hold", |_| world.daemon().summary().failing_webhooks == 1).await;
    world.restart().await;
    let waited = delivered(&world, 1).await[0].at.since(refused);
    // Kept by the wall clock, in milliseconds.
    assert!(waited >= told - Duration::from_millis(5), "{waited:?}");
}

#[tokio::test]
async fn undelivered_events_are_counted_kept_and_delivered_in_order_after_a_restart() {
    let mut world = World::start_silent(|_| {}).await;
    world.receiver.answer(500);
    world.bot_says(ALICE, numbers(1, 30));
    world.until_user(ALICE, "all events to wait", |user| user["undelivered"] == 30).await;
    world.restart().await;
    assert_eq!(world.user(ALICE).await["undelivered"], 30);
    world.all_connected().await;
    world.bot_says(ALICE, numbers(31, 35));
    world.until_user(ALICE, "the new ones beside them", |user| user["undelivered"] == 35).await;
    world.receiver.answer(204);
    let events = delivered(&world, 35).await;
    assert_eq!(texts(&events), numbers(1, 35));
    world.until_user(ALICE, "nothing to wait", |user| user["undelivered"] == 0).await;
    world.restart().await;
    world.all_connected().await;
    world.bot_says(ALICE, ["36"]);
    let after = delivered(&world, 36).await;
    assert_eq!(after.last().unwrap().sequence, Some(36), "nothing is delivered again");
}

#[tokio::test]
async fn no_more_deliveries_are_under_way_than_allowed() {
    let world = World::start_silent(|config| {
        (1..=5).for_each(|n| add_user(config, &format!("user{n}")));
        crm(config).max_in_flight = 2;
    })
    .await;
    world.receiver.hold();
    (1..=5).for_each(|n| world.bot_says(&format!("user{n}"), ["Hi"]));
    for n in 1..=5 {
        world.until_user(&format!("user{n}"), "its event", |user| user["undelivered"] == 1).await;
    }
    assert_eq!(within("two", world.receiver.wait_attempts(2)).await.len(), 2);
    world.receiver.release();
    delivered(&world, 5).await;
}

#[tokio::test]
async fn after_a_burst_its_connections_are_closed() {
    let world =
        World::start_silent(|config| (1..=5).for_each(|n| add_user(config, &format!("user{n}")))).await;
    world.receiver.hold();
    (1..=5).for_each(|n| world.bot_says(&format!("user{n}"), ["Hi"]));
    within("all five", world.receiver.wait_attempts(5)).await;
    world.receiver.release();
    delivered(&world, 5).await;
    assert_eq!(world.receiver.accepted_connections(), 5);
    let is_closed = async || (world.receiver.open_connections() == 0).then_some(());
    eventually("the connections to be closed", is_closed).await;
}

#[tokio::test]
async fn without_order_a_users_event_does_not_wait_for_the_one_before() {
    let world = World::start_silent(|config| crm(config).ordered = false).await;
    world.receiver.rule(|event| (event.text.as_deref() == Some("1")).then(|| Reply::status(500)));
    world.bot_says(ALICE, numbers(1, 3));
    let mut others = texts(&delivered(&world, 2).await);
    others.sort();
    assert_eq!(others, ["2", "3"]);
    world.receiver.rule(|_| None);
    let events = delivered(&world, 3).await;
    assert_eq!((texts(&events)[2].as_str(), events[2].sequence), ("1", Some(1)));
}

#[tokio::test]
async fn replies_are_noted_at_their_message() {
    let world = World::start_silent(|_| {}).await;
    world.control().configure(|settings| settings.bot = BotScript::Echo);
    let id = world.send(ALICE, "twice").await;
    let events = delivered(&world, 2).await;
    let ids: Vec<_> = events.iter().map(|event| event.id.clone()).collect();
    world.final_status(ALICE, id).await;
    assert_eq!(world.status(ALICE, id).await["replies"], json!(ids));
}

#[tokio::test]
async fn what_a_removed_user_received_is_still_delivered() {
    let mut world = World::start_silent(|config| add_user(config, BOB)).await;
    world.receiver.answer(500);
    world.control().push(BOB, Push::text("kept"));
    within("attempt", world.receiver.wait_attempts(1)).await;
    world.stop_daemon().await;
    world.config.users.remove(&UserName::new(BOB).unwrap());
    world.receiver.answer(204);
    world.start_daemon().await;
    delivered(&world, 1).await;
}

#[tokio::test]
async fn a_removed_webhooks_backlog_becomes_dead_letters() {
    let mut world = World::start_silent(|_| {}).await;
    world.receiver.answer(500);
    world.control().push(ALICE, Push::text("kept"));
    within("attempt", world.receiver.wait_attempts(1)).await;
    world.stop_daemon().await;
    world.config.webhooks.clear();
    world.config.users.values_mut().for_each(|u| u.webhooks.clear());
    world.start_daemon().await;
    world.stop_daemon().await;
    assert_eq!(letters(&world.store()).len(), 1);
}

#[tokio::test]
async fn what_nobody_wanted_does_not_pile_up() {
    let mut world = World::start_silent(|config| config.store.recent = 20_000).await;
    let typing = |n: usize| format!(r#"{{"type":"events","n":{n},"pad":"{}"}}"#, "x".repeat(500));
    for n in 0..400 {
        world.control().push_raw(ALICE, typing(n));
    }
    // The last one is wanted: when it is delivered, all before it were received.
    world.bot_says(ALICE, ["end"]);
    delivered(&world, 1).await;
    world.stop_daemon().await;
    let store = world.store();
    let kept = store.events_after(store.known_users()[0], 0).count();
    assert!(kept < 150, "{kept} of 401 events are kept, though 20 KB are to be");
}

#[tokio::test]
async fn each_answer_that_may_change_is_asked_for_again() {
    let world = World::start_silent(|_| {}).await;
    let statuses = [301, 302, 304, 307, 308, 401, 403, 404, 408, 409, 425, 429, 500, 502, 503, 504, 599, 600];
    for (count, status) in (1..).zip(statuses) {
        world.receiver.script([status]);
        world.bot_says(ALICE, [status.to_string()]);
        let events = delivered(&world, count).await;
        let event = &events[count - 1];
        assert_eq!((event.text.clone(), event.attempt), (Some(status.to_string()), Some(2)));
    }
}

#[tokio::test]
async fn every_other_4xx_makes_a_dead_letter_at_once_and_the_next_goes_on() {
    let mut world = World::start_silent(|_| {}).await;
    let statuses = [400, 402, 405, 406, 407, 411, 412, 413, 414, 415, 417, 418, 421, 422, 426, 431, 451, 499];
    world.receiver.script(statuses);
    world.bot_says(ALICE, statuses.map(|status| status.to_string()));
    world.bot_says(ALICE, ["next"]);
    assert_eq!(texts(&delivered(&world, 1).await), ["next"]);
    assert_eq!(world.receiver.attempts().len(), statuses.len() + 1, "one attempt each");
    world.stop_daemon().await;
    let dead: Vec<_> = letters(&world.store()).iter().map(|letter| letter.last_status.unwrap()).collect();
    assert_eq!(dead, statuses);
}

#[tokio::test]
async fn what_waited_for_a_disabled_webhook_comes_in_order_that_event_first() {
    let mut world = World::start_silent(|_| {}).await;
    world.receiver.script([204_u16, 410]);
    world.bot_says(ALICE, numbers(1, 4));
    world
        .until_user(ALICE, "the webhook to be disabled", |_| world.daemon().summary().failing_webhooks == 1)
        .await;
    for _ in 0..2 {
        world.restart().await;
    }
    world.all_connected().await;
    world.bot_says(ALICE, numbers(5, 6));
    world.until_user(ALICE, "all of it to wait", |user| user["undelivered"] == 5).await;
    assert_eq!(world.receiver.attempts().len(), 2, "nothing is posted meanwhile");
    let enable = world.request(reqwest::Method::POST, "/v1/webhooks/crm/enable");
    assert_eq!(answer(enable).await.0, 202);
    let events = delivered(&world, 6).await;
    assert_eq!(texts(&events), numbers(1, 6));
    assert_eq!(events[1].attempt, Some(2));
    world.restart().await;
    assert_eq!(world.daemon().summary().failing_webhooks, 0, "it stays enabled");
}

#[tokio::test]
async fn a_date_in_retry_after_is_kept_as_well() {
    for status in [429, 503] {
        let world = World::start_silent(|_| {}).await;
        // Dates have whole seconds: this is between one and two from now.
        let told = Timestamp::from_millis((Timestamp::now().as_secs() + 2) * 1000);
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(told.as_millis()));
        world.receiver.script([Reply::status(status).retry_after(&date)]);
        world.bot_says(ALICE, ["1"]);
        let event = delivered(&world, 1).await.remove(0);
        assert!(event.at >= told, "told {told}, came {}", event.at);
        assert_eq!(event.attempt, Some(2));
    }
}

#[tokio::test]
async fn events_do_not_age_while_the_webhook_is_held() {
    let mut world = World::start_silent(|config| crm(config).max_age = Duration::from_secs(1)).await;
    // After the hold the event is two seconds old, and fails once more.
    world.receiver.script([Reply::status(503).retry_after("2"), Reply::status(500)]);
    world.bot_says(ALICE, ["1", "2"]);
    assert_eq!(texts(&delivered(&world, 2).await), ["1", "2"]);
    world.stop_daemon().await;
    assert_eq!(letters(&world.store()).len(), 0);
}

#[tokio::test]
async fn a_receiver_that_was_down_gets_everything_when_it_is_back() {
    let mut world = World::with_alice_and_bob().await;
    let address = world.receiver.address();
    let options = || ReceiverOptions { listen: address, ..ReceiverOptions::default() };
    let down =
        std::mem::replace(&mut world.receiver, Receiver::start(ReceiverOptions::default()).await.unwrap());
    down.stop().await;
    for user in [ALICE, BOB] {
        world.bot_says(user, numbers(1, 3));
        world.until_user(user, "its events to wait", |user| user["undelivered"] == 3).await;
    }
    let refused = |outcome: &Value| {
        outcome["summary"].as_str().is_some_and(|text| text.contains("refuses connections"))
    };
    eventually("a refused connection", || async {
        refused(&world.get("/v1/webhooks").await.1["webhooks"][0]["lastOutcome"]).then_some(())
    })
    .await;
    world.receiver = Receiver::start(options()).await.unwrap();
    let events = delivered(&world, 6).await;
    for user in [ALICE, BOB] {
        assert_eq!(texts(&of_user(&events, user)), numbers(1, 3));
    }
}

#[tokio::test]
async fn a_rate_holds_for_all_users_and_attempts_together() {
    let rate = Rate { count: 5, per: Duration::from_secs(1) };
    let world = World::start_silent(|config| {
        (1..=4).for_each(|n| add_user(config, &format!("user{n}")));
        crm(config).rate = Some(rate);
        crm(config).backoff_max = Duration::from_millis(20);
    })
    .await;
    world.receiver.fail(Some("500@30%".parse().unwrap()));
    (1..=4).for_each(|n| world.bot_says(&format!("user{n}"), numbers(1, 2)));
    delivered(&world, 8).await;
    let came: Vec<_> = world.receiver.attempts().iter().map(|attempt| attempt.at).collect();
    for (first, from) in came.iter().enumerate() {
        for (count, to) in (1..).zip(&came[first..]) {
            // A request is noted when it arrives, a moment after it went out.
            let window = to.since(*from) + Duration::from_millis(100);
            let most = 5.0 + window.as_secs_f64() * 5.0;
            assert!(f64::from(count) <= most, "{count} within {window:?}");
        }
    }
}

#[tokio::test]
async fn a_body_stays_what_it_was_though_its_first_attempt_was_cut_off() {
    let mut world = World::with_alice_and_bob().await;
    world.receiver.rule(|event| (event.user == ALICE).then(|| Reply::status(204).after(LIMIT)));
    world.bot_says(ALICE, ["1", "2"]);
    within("the first attempt", world.receiver.wait_attempts(1)).await;
    // Gives the attempt up; nothing tells the next run that it was made.
    world.stop_daemon().await;
    crm(&mut world.config).format = BodyFormat::Form;
    world.start_daemon().await;
    within("another attempt", world.receiver.wait_attempts(2)).await;
    world.stop_daemon().await;
    world.receiver.rule(|_| None);
    world.start_daemon().await;
    let events = delivered(&world, 2).await;
    let first = &world.receiver.attempts()[0];
    assert_eq!((&events[0].id, &events[0].body), (&first.id, &first.body));
    assert_eq!(events[1].headers["content-type"], "application/x-www-form-urlencoded");
}

#[tokio::test]
async fn a_retry_comes_though_the_webhook_was_full_when_it_was_put_off() {
    let world = World::start_silent(|config| {
        add_user(config, BOB);
        crm(config).max_in_flight = 1;
        crm(config).backoff_min = Duration::from_millis(300);
        crm(config).backoff_max = Duration::from_millis(300);
    })
    .await;
    world.receiver.hold();
    world.receiver.script([500_u16]);
    world.bot_says(ALICE, ["1"]);
    within("alice's attempt", world.receiver.wait_attempts(1)).await;
    world.bot_says(BOB, ["2"]);
    world.until_user(BOB, "bob's event to wait", |bob| bob["undelivered"] == 1).await;
    // Bob's goes out in the moment in which alice's comes back, and is through before her retry.
    world.receiver.release();
    let mut delivered = texts(&delivered(&world, 2).await);
    delivered.sort();
    assert_eq!(delivered, ["1", "2"]);
}
