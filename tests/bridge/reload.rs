//! A changed configuration at run time: only what changed restarts, and nothing is lost by it.

use std::time::Duration;

use rtm_bridge::{
    config::{self, Config, Credentials, EventFilter, Scopes, Secret},
    daemon::{ReloadError, Reloaded},
    names::{BotName, ClientName, UserName, WebhookName},
    receiver::{Receiver, ReceiverOptions},
    sandbox::{BotScript, Endpoint, Fault, FaultKind, Push, SocketEnd},
};
use serde_json::json;

use crate::support::{
    ALICE, BOB, World, add_user, add_webhook, at_webhook, crm, delivered, envelope, eventually, sent_texts,
    texts, within,
};

const CAROL: &str = "carol";

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

impl World {
    /// Changes the configuration, and reloads it.
    pub async fn reload(&mut self, change: impl FnOnce(&mut Config)) -> Reloaded {
        self.try_reload(change).await.unwrap()
    }

    async fn try_reload(&mut self, change: impl FnOnce(&mut Config)) -> Result<Reloaded, ReloadError> {
        change(&mut self.config);
        within("the reload", self.daemon().reload(&self.config)).await
    }

    /// Checks that a user still has the one connection that it first made.
    pub fn assert_untouched(&self, name: &str) {
        assert_eq!((self.control().connects(name), self.control().goodbyes(name)), (1, vec![]), "{name}");
    }
}

#[tokio::test]
async fn users_come_go_and_change_and_the_others_keep_their_sockets() {
    let mut world = World::start_silent(|config| {
        add_user(config, BOB);
        add_user(config, CAROL);
    })
    .await;
    let reloaded = world
        .reload(|config| {
            add_user(config, "dave");
            config.users.remove(&user(BOB));
            config.users.get_mut(&user(CAROL)).unwrap().identity = "caroline".into();
        })
        .await;
    assert_eq!(reloaded.to_string(), "1 user added, 1 user removed, 1 user changed, 1 user reconnecting");
    world.all_connected().await;
    world.assert_untouched(ALICE);
    assert_eq!(within("bob's goodbye", world.control().wait_goodbyes(BOB, 1)).await, [1001]);
    assert_eq!(within("carol's goodbye", world.control().wait_goodbyes(CAROL, 1)).await, [1001]);
    assert_eq!(world.control().connects("caroline"), 1);
    assert_eq!(world.get("/v1/users/bob").await.1["code"], "unknown_user");
    for name in [ALICE, CAROL, "dave"] {
        let id = world.send(name, "Hi").await;
        assert_eq!(world.final_status(name, id).await["status"], "acked", "{name}");
    }
    // The same once more changes nothing.
    assert_eq!(world.reload(|_| {}).await.to_string(), "nothing changed");
    world.assert_untouched(ALICE);
}

#[tokio::test]
async fn a_removed_users_messages_end_and_its_events_are_still_delivered() {
    let mut world = World::start_silent(|config| {
        add_user(config, BOB);
        crm(config).events = EventFilter::Only(vec!["bot_response".to_owned(), "bridge.message".to_owned()]);
    })
    .await;
    world.receiver.hold();
    world.control().push(BOB, Push::text("one"));
    world.control().push(BOB, Push::text("two"));
    within("an attempt", world.receiver.wait_attempts(1)).await;
    world.until_user(BOB, "both events", |seen| seen["undelivered"] == 2).await;
    world.control().inject(Fault::always(FaultKind::LostMessage));
    world.send(BOB, "never acked").await;
    within("the message", world.control().wait_messages(BOB, 1)).await;
    world.send(BOB, "never sent").await;

    world.reload(|config| drop(config.users.remove(&user(BOB)))).await;
    assert_eq!(world.post(BOB, json!({"text": "too late"})).await.0, 404);
    world.receiver.release();
    let events = delivered(&world, 4).await;
    assert_eq!(texts(&events[..2]), ["one", "two"]);
    for (event, delivery) in events[2..].iter().zip(["unknown", "none"]) {
        let data = &envelope(event)["data"];
        assert_eq!((&data["status"], &data["reason"]), (&json!("expired"), &json!("user_removed")));
        assert_eq!(data["delivery"], delivery);
    }
    // It returns, and its numbers go on.
    world.control().clear_faults();
    world.reload(|config| add_user(config, BOB)).await;
    world.until_state(BOB, "connected").await;
    world.control().push(BOB, Push::text("three"));
    let events = delivered(&world, 5).await;
    assert_eq!(
        (envelope(&events[4])["text"].as_str(), &envelope(&events[4])["sequence"]),
        (Some("three"), &json!(5))
    );
}

#[tokio::test]
async fn messages_of_a_user_that_is_connected_anew_go_on_in_order() {
    let mut world = World::start_silent(|_| {}).await;
    world.control().inject(Fault::always(FaultKind::LostMessage));
    let ids =
        [world.send(ALICE, "one").await, world.send(ALICE, "two").await, world.send(ALICE, "three").await];
    within("the first message", world.control().wait_messages(ALICE, 1)).await;
    world.control().clear_faults();
    world.reload(|config| config.users.get_mut(&user(ALICE)).unwrap().identity = "alicia".into()).await;
    for id in ids {
        assert_eq!(world.final_status(ALICE, id).await["status"], "acked");
    }
    assert_eq!(sent_texts(&world.control(), "alicia"), ["one", "two", "three"]);
}

#[tokio::test]
async fn nothing_posted_during_reloads_is_lost() {
    let mut world = World::start_silent(|config| add_user(config, BOB)).await;
    let requests: Vec<_> = (1..=120)
        .map(|n| world.message(ALICE).json(&json!({"text": format!("{n}"), "clientMessageId": n})))
        .collect();
    let sending = tokio::spawn(async {
        for request in requests {
            assert_eq!(request.send().await.unwrap().status(), 202);
        }
    });
    for round in 0..6 {
        world
            .reload(|config| {
                config.users.get_mut(&user(ALICE)).unwrap().identity =
                    format!("alice{round}").as_str().into();
                config.messages.max_attempts = 3 + round;
            })
            .await;
        world.until_state(ALICE, "connected").await;
    }
    within("all answers", sending).await.unwrap();
    for id in 1..=120 {
        assert_eq!(world.final_status(ALICE, id).await["status"], "acked", "{id}");
    }
    world.assert_untouched(BOB);
}

#[tokio::test]
async fn a_webhooks_settings_change_without_a_repeat_or_a_gap() {
    let mut world = World::start_silent(|_| {}).await;
    world.control().push(ALICE, Push::text("one"));
    delivered(&world, 1).await;
    world.receiver.hold();
    world.control().push(ALICE, Push::text("two"));
    world.control().push(ALICE, Push::text("three"));
    within("an attempt", world.receiver.wait_attempts(2)).await;
    world.until_user(ALICE, "both events", |seen| seen["undelivered"] == 2).await;
    let other = Receiver::start(ReceiverOptions::default()).await.unwrap();
    let url = other.url();
    let reloaded = world.reload(|config| crm(config).url = url).await;
    assert_eq!(reloaded.to_string(), "1 webhook changed");
    // What was under way ends where it began.
    world.receiver.release();
    assert_eq!(texts(&delivered(&world, 2).await), ["one", "two"]);
    let moved = within("the third event", other.wait_events(1)).await;
    let body = envelope(&moved[0]);
    assert_eq!((body["text"].as_str(), &body["sequence"]), (Some("three"), &json!(3)));
    world.assert_untouched(ALICE);
}

#[tokio::test]
async fn a_body_that_was_begun_keeps_its_format() {
    let mut world = World::start_silent(|_| {}).await;
    world.receiver.rule(|attempt| (attempt.attempt == Some(1)).then_some(503.into()));
    world.receiver.hold();
    world.control().push(ALICE, Push::text("one"));
    within("an attempt", world.receiver.wait_attempts(1)).await;
    world.control().push(ALICE, Push::text("two"));
    world.until_user(ALICE, "both events", |seen| seen["undelivered"] == 2).await;
    world.reload(|config| crm(config).format = config::BodyFormat::Frame).await;
    world.receiver.release();
    let events = delivered(&world, 2).await;
    let attempts = world.receiver.attempts();
    assert_eq!(attempts[0].body, events[0].body, "the same, byte for byte, in every attempt");
    assert_eq!(envelope(&events[0])["text"], "one");
    assert!(envelope(&events[1]).get("sequence").is_none(), "a frame alone");
}

#[tokio::test]
async fn a_wrong_url_put_right_is_tried_at_once() {
    let mut world = World::start_silent(|config| {
        let webhook = crm(config);
        (webhook.backoff_min, webhook.backoff_max) = (Duration::from_secs(600), Duration::from_secs(3600));
    })
    .await;
    let right = world.config.webhooks[&WebhookName::new("crm").unwrap()].url.clone();
    world.reload(|config| crm(config).url.set_port(Some(9)).unwrap()).await;
    world.control().push(ALICE, Push::text("one"));
    eventually("the failure", || async {
        let (_, body) = world.get("/v1/webhooks").await;
        (!body["webhooks"][0]["lastOutcome"].is_null()).then_some(())
    })
    .await;
    world.reload(|config| crm(config).url = right).await;
    assert_eq!(texts(&delivered(&world, 1).await), ["one"]);
}

#[tokio::test]
async fn webhooks_come_and_go() {
    let mut world = World::start_silent(|_| {}).await;
    world.control().push(ALICE, Push::text("one"));
    delivered(&world, 1).await;
    world.reload(|config| add_webhook(config, "erp", |_| {})).await;
    world.control().push(ALICE, Push::text("two"));
    let events = delivered(&world, 3).await;
    assert_eq!(texts(&at_webhook(&events, "erp")), ["two"]);
    assert_eq!(texts(&at_webhook(&events, "crm")), ["one", "two"]);
    // One that goes while its receiver is down: its backlog becomes dead letters.
    world.receiver.rule(|attempt| (crate::support::webhook_of(attempt) == "erp").then_some(503.into()));
    world.control().push(ALICE, Push::text("three"));
    delivered(&world, 4).await;
    let erp = WebhookName::new("erp").unwrap();
    world
        .reload(|config| {
            config.webhooks.remove(&erp);
            config.users.get_mut(&user(ALICE)).unwrap().webhooks.pop();
        })
        .await;
    let letters = eventually("the dead letter", || async {
        let (_, body) = world.get("/v1/dead-letters").await;
        body["deadLetters"].as_array().filter(|letters| letters.len() == 1).cloned()
    })
    .await;
    assert_eq!(letters[0]["webhook"], "erp");
    let replay = format!("/v1/dead-letters/{}/replay", letters[0]["id"].as_str().unwrap());
    let post = |path: &str| crate::support::answer(world.request(reqwest::Method::POST, path));
    assert_eq!(post(&replay).await.0, 409, "its webhook is not configured");
    assert_eq!(world.get("/v1/webhooks").await.1["webhooks"].as_array().unwrap().len(), 1);
    world.control().push(ALICE, Push::text("four"));
    delivered(&world, 5).await;
    // It returns: the letter can be replayed with its number, and new events have the next ones.
    world.receiver.rule(|_| None);
    world.reload(|config| add_webhook(config, "erp", |_| {})).await;
    let post = |path: &str| crate::support::answer(world.request(reqwest::Method::POST, path));
    assert_eq!(post(&replay).await.0, 202);
    let replayed = at_webhook(&delivered(&world, 6).await, "erp");
    assert_eq!(
        (envelope(&replayed[1])["text"].as_str(), &envelope(&replayed[1])["sequence"]),
        (Some("three"), &json!(2))
    );
    world.control().push(ALICE, Push::text("five"));
    let events = at_webhook(&delivered(&world, 8).await, "erp");
    assert_eq!(envelope(&events[2])["sequence"], 3);
    world.assert_untouched(ALICE);
}

#[tokio::test]
async fn a_webhook_that_returns_at_once_takes_up_its_backlog() {
    let mut world = World::start_silent(|config| add_webhook(config, "erp", |_| {})).await;
    world.receiver.rule(|attempt| (crate::support::webhook_of(attempt) == "erp").then_some(503.into()));
    for n in 0..30 {
        world.control().push(ALICE, Push::text(format!("{n}")));
    }
    delivered(&world, 30).await;
    let with = world.config.clone();
    let erp = WebhookName::new("erp").unwrap();
    world
        .reload(|config| {
            config.webhooks.remove(&erp);
            config.users.get_mut(&user(ALICE)).unwrap().webhooks.pop();
        })
        .await;
    world.receiver.rule(|_| None);
    world.reload(|config| *config = with).await;
    // Every event is at the webhook or a dead letter, once.
    eventually("all events to be somewhere", || async {
        let (_, body) = world.get("/v1/dead-letters?limit=100").await;
        let dead = body["deadLetters"].as_array().unwrap().len();
        let got = at_webhook(&world.receiver.events(), "erp").len();
        (dead + got == 30).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_user_without_a_webhook_gets_what_was_received_with_it() {
    let mut world = World::start_silent(|_| {}).await;
    world.receiver.hold();
    world.control().push(ALICE, Push::text("one"));
    within("an attempt", world.receiver.wait_attempts(1)).await;
    world.control().push(ALICE, Push::text("two"));
    world.until_user(ALICE, "both events", |seen| seen["undelivered"] == 2).await;
    world.reload(|config| config.users.get_mut(&user(ALICE)).unwrap().webhooks.clear()).await;
    world.control().push(ALICE, Push::text("three"));
    world.receiver.release();
    assert_eq!(texts(&delivered(&world, 2).await), ["one", "two"]);
    let crm = WebhookName::new("crm").unwrap();
    world.reload(|config| config.users.get_mut(&user(ALICE)).unwrap().webhooks.push(crm)).await;
    world.control().push(ALICE, Push::text("four"));
    let events = delivered(&world, 3).await;
    assert_eq!(
        (envelope(&events[2])["text"].as_str(), &envelope(&events[2])["sequence"]),
        (Some("four"), &json!(3))
    );
    world.assert_untouched(ALICE);
}

#[tokio::test]
async fn a_rotated_secret_is_for_the_next_sign_in_and_lets_in_who_was_refused() {
    let mut world = World::start_silent(|config| {
        add_user(config, BOB);
        config.platform.unauthorized_retry = Duration::from_secs(3600);
    })
    .await;
    let bot = BotName::new("support").unwrap();
    let right = world.config.bots[&bot].credentials.clone();
    let sign_ins = world.control().requests(Endpoint::Jwtgrant).len();
    world
        .reload(|config| config.bots.get_mut(&bot).unwrap().credentials = Credentials::client_secret("wrong"))
        .await;
    // Those who are in stay in; whoever must sign in is refused.
    world.control().end_sockets(BOB, &SocketEnd::Drop);
    world.until_state(BOB, "unauthorized").await;
    world.assert_untouched(ALICE);
    world.reload(|config| config.bots.get_mut(&bot).unwrap().credentials = right).await;
    world.until_state(BOB, "connected").await;
    world.assert_untouched(ALICE);
    assert!(world.control().requests(Endpoint::Jwtgrant).len() > sign_ins);
}

#[tokio::test]
async fn knobs_are_applied_to_open_connections() {
    let mut world = World::start_silent(|_| {}).await;
    world.control().inject(Fault::always(FaultKind::LostMessage));
    let reloaded = world
        .reload(|config| {
            config.messages.ack_timeout = Duration::from_millis(30);
            config.messages.max_attempts = 1;
            config.messages.max_queued = 1;
        })
        .await;
    assert_eq!(reloaded.to_string(), "[messages] changed");
    let id = world.send(ALICE, "lost").await;
    let ended = world.final_status(ALICE, id).await;
    assert_eq!((&ended["status"], &ended["reason"]), (&json!("expired"), &json!("no_ack")));
    world.reload(|config| config.messages.ack_timeout = Duration::from_secs(600)).await;
    world.send(ALICE, "queued").await;
    assert_eq!(world.post(ALICE, json!({"text": "one too many"})).await.1["code"], "queue_full");
    world.assert_untouched(ALICE);
}

#[tokio::test]
async fn another_platform_gets_everyone() {
    let mut world = World::start_silent(|config| add_user(config, BOB)).await;
    let other = World::start_silent(|config| config.users.clear()).await;
    let url = other.sandbox.url();
    other.control().configure(|settings| settings.bot = BotScript::Silent);
    let reloaded = world.reload(|config| config.platform.url = url).await;
    assert_eq!(reloaded.to_string(), "[platform] changed, 2 users reconnecting");
    for name in [ALICE, BOB] {
        within(name, other.control().wait_connected(name, 1)).await;
    }
}

#[tokio::test]
async fn clients_come_and_go_and_listeners_are_never_laid_open() {
    let mut world = World::start_silent(|_| {}).await;
    let client = config::Client {
        tokens: vec![Secret::new("the-token-of-the-crm")],
        users: vec!["*".to_owned()],
        scopes: Scopes::ALL,
        rate: None,
    };
    world.reload(|config| drop(config.clients.insert(ClientName::new("crm").unwrap(), client))).await;
    assert_eq!(world.get("/v1/users").await.0, 401);
    let with_token = world.request(reqwest::Method::GET, "/v1/users").bearer_auth("the-token-of-the-crm");
    assert_eq!(crate::support::answer(with_token).await.0, 200);
    world.reload(|config| config.clients.clear()).await;
    assert_eq!(world.get("/v1/users").await.0, 200);
}

#[tokio::test]
async fn without_clients_a_listener_beyond_loopback_is_refused() {
    let client = config::Client {
        tokens: vec![Secret::new("the-token-of-the-crm")],
        users: vec!["*".to_owned()],
        scopes: Scopes::ALL,
        rate: None,
    };
    let mut world = World::start_with(|config| {
        config.clients.insert(ClientName::new("crm").unwrap(), client);
        config.http.ops = ([0, 0, 0, 0], 0).into();
    })
    .await;
    let refused = world
        .try_reload(|config| {
            config.clients.clear();
            config.http.ops = ([127, 0, 0, 1], 0).into();
            add_user(config, BOB);
        })
        .await;
    assert!(matches!(refused, Err(ReloadError::Exposed)), "{refused:?}");
    assert_eq!(world.get("/v1/users").await.0, 401, "nothing changed");
    assert!(world.daemon().users().get(BOB).is_none());
}

#[tokio::test]
async fn what_can_not_be_made_ready_changes_nothing() {
    let mut world = World::start_silent(|_| {}).await;
    let refused = world
        .try_reload(|config| {
            add_user(config, BOB);
            crm(config).ca = Some("/no/such/file.pem".into());
        })
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("/no/such/file.pem"), "{refused}");
    assert!(world.daemon().users().get(BOB).is_none());
    world.control().push(ALICE, Push::text("one"));
    assert_eq!(texts(&delivered(&world, 1).await), ["one"]);
}

#[tokio::test]
async fn listeners_and_store_are_left_and_told() {
    let mut world = World::start_silent(|_| {}).await;
    let reloaded = world
        .reload(|config| {
            config.http.idle_timeout = Duration::from_secs(1);
            config.store.retention = Duration::from_secs(60);
            add_user(config, BOB);
        })
        .await;
    assert_eq!(reloaded.to_string(), "1 user added, [http] needs a restart, [store] needs a restart");
    world.until_state(BOB, "connected").await;
    assert_eq!(world.reload(|_| {}).await.changes.restart, ["http", "store"], "as long as it is so");
}
