//! A webhook through which nothing gets: probing, and coming back.

use std::time::Duration;

use rtm_bridge::{config::Config, receiver::Reply, sandbox::Push};

use crate::support::{ALICE, Request, World, add_user, crm, delivered, texts, within};

const CROWD: usize = 30;

fn member(n: usize) -> String {
    format!("user{n}")
}

fn crowd(config: &mut Config) {
    (0..CROWD).for_each(|n| add_user(config, &member(n)));
}

impl World {
    /// Every one of the crowd is told these texts, and all of them wait at the webhook.
    async fn everyone_waits(&self, texts: &[&str]) {
        for n in 0..CROWD {
            for text in texts {
                self.control().push(&member(n), Push::text(*text));
            }
            let all = |user: &serde_json::Value| user["undelivered"] == texts.len();
            self.until_user(&member(n), "its events to wait", all).await;
        }
    }
}

/// The time between the first and the last of these.
fn span(events: &[Request]) -> Duration {
    let times = || events.iter().map(|event| event.at);
    times().max().unwrap().since(times().min().unwrap())
}

#[tokio::test]
async fn a_webhook_through_which_nothing_gets_is_asked_one_delivery_at_a_time() {
    let world = World::start_silent(crowd).await;
    let takes = Duration::from_millis(40);
    world.receiver.answer(Reply::status(500).after(takes));
    world.everyone_waits(&["1"]).await;
    // Those that were under way before the first failures are through by then.
    let before = world.receiver.attempts().len().max(CROWD + 2);
    let attempts = within("some probes", world.receiver.wait_attempts(before + 8)).await.split_off(before);
    for pair in attempts.windows(2) {
        let gap = pair[1].at.since(pair[0].at);
        assert!(gap + Duration::from_millis(5) >= takes, "two at once: {gap:?} apart");
    }
}

#[tokio::test]
async fn a_webhook_that_comes_back_gets_its_backlog_at_full_speed() {
    let world = World::start_silent(|config| {
        crowd(config);
        // By its own schedule, each event would wait for seconds.
        crm(config).backoff_min = Duration::from_secs(8);
        crm(config).backoff_max = Duration::from_secs(300);
    })
    .await;
    world.receiver.answer(503);
    world.everyone_waits(&["1", "2", "3", "4"]).await;
    world.receiver.answer(204);
    let events = delivered(&world, 4 * CROWD).await;
    let took = span(&events);
    assert!(took < Duration::from_secs(3), "it took {took:?} though the webhook was back");
    for n in 0..CROWD {
        let own: Vec<_> = events.iter().filter(|event| event.user == member(n)).cloned().collect();
        assert_eq!(texts(&own), ["1", "2", "3", "4"]);
    }
}

#[tokio::test]
async fn a_crowd_is_served_while_one_users_event_is_poison() {
    let world = World::start_silent(crowd).await;
    world.receiver.rule(|event| (event.user == ALICE).then(|| Reply::status(500)));
    world.control().push(ALICE, Push::text("poison"));
    within("its failures", world.receiver.wait_attempts(3)).await;
    for n in 0..CROWD {
        world.control().push(&member(n), Push::text("1"));
    }
    delivered(&world, CROWD).await;
    let others = world.receiver.attempts().iter().filter(|attempt| attempt.user != ALICE).count();
    assert_eq!(others, CROWD, "each at its first attempt");
}

#[tokio::test]
async fn no_more_are_under_way_than_allowed_whatever_fails() {
    let world = World::start_silent(|config| {
        crowd(config);
        crm(config).max_in_flight = 3;
        crm(config).ordered = false;
    })
    .await;
    world.receiver.fail(Some("503@30%".parse().unwrap()));
    world.receiver.answer(Reply::status(204).after(Duration::from_millis(3)));
    for n in 0..CROWD {
        for text in ["1", "2", "3"] {
            world.control().push(&member(n), Push::text(text));
        }
    }
    delivered(&world, 3 * CROWD).await;
    assert!(world.receiver.accepted_connections() <= 3 * 2, "one connection for each under way");
}
