//! The inbox: events for systems that can only ask.

use std::collections::BTreeMap;

use reqwest::Method;
use rtm_bridge::{
    config::{Client, Config, EventFilter, Scopes, Secret},
    names::{ClientName, UserName},
    receiver::Reply,
    sandbox::Push,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{ALICE, BOB, World, add_user, answer, crm, delivered, envelope, within};

/// What events say: their text, else their type.
fn told(events: &[Value]) -> Vec<String> {
    let word = |event: &Value| event["text"].as_str().or(event["type"].as_str()).unwrap().to_owned();
    events.iter().map(word).collect()
}

fn id(event: &Value) -> &str {
    event["id"].as_str().unwrap()
}

impl World {
    pub fn push_text(&self, user: &str, text: &str) {
        self.control().push(user, Push::text(text));
    }

    /// `GET /v1/users/{user}/events?{query}`, which must succeed.
    pub async fn inbox(&self, user: &str, query: &str) -> Vec<Value> {
        let (status, body) = self.get(&format!("/v1/users/{user}/events?{query}")).await;
        assert_eq!(status, 200, "{query}: {body}");
        body["events"].as_array().unwrap().clone()
    }

    /// The user's events that are kept once the last of them says this, as a system reads them that asks
    /// again and again.
    pub async fn inbox_until(&self, user: &str, last: &str) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        let reading = async {
            while told(&events).last().map(String::as_str) != Some(last) {
                let after = events.last().map(|event| format!("&after={}", id(event))).unwrap_or_default();
                events.extend(self.inbox(user, &format!("limit=1000&wait=20s{after}")).await);
            }
        };
        within(&format!("{last:?} in the inbox"), reading).await;
        events
    }

    /// Says more than is kept, in so many commits, and gives what is kept then.
    async fn push_more_than_is_kept(&self, user: &str) -> Vec<Value> {
        let mut kept = Vec::new();
        for n in 0..12 {
            let text = format!("{n}{}", " ".repeat(600));
            self.push_text(user, &text);
            kept = self.inbox_until(user, &text).await;
        }
        kept
    }
}

/// What the bot said.
fn said(events: &[Value]) -> Vec<String> {
    events.iter().filter_map(|event| event["text"].as_str()).map(str::to_owned).collect()
}

/// Nothing is delivered anywhere, and few events are recent.
fn small(config: &mut Config) {
    config.users.get_mut(ALICE).unwrap().webhooks.clear();
    config.store.recent = 4096;
}

#[tokio::test]
async fn everything_is_there_in_order_also_what_no_webhook_wants() {
    let world = World::start_silent(|config| {
        config.users.get_mut(ALICE).unwrap().webhooks.clear();
        add_user(config, BOB);
    })
    .await;
    let id = world.send(ALICE, "Hello").await;
    world.final_status(ALICE, id).await;
    world.push_text(ALICE, "one");
    world.push_text(BOB, "for bob");
    world.control().push(ALICE, Push::frame(r#"{ "type":"session_end",  "n":1.50 }"#));
    world.push_text(ALICE, "two");
    let events = world.inbox_until(ALICE, "two").await;
    let expected =
        ["bridge.connection", "bot_active", "session_start", "bridge.message", "one", "session_end", "two"];
    assert_eq!(told(&events), expected);
    let message = &events[3];
    assert_eq!(
        (&message["data"]["clientMessageId"], &message["data"]["status"]),
        (&json!(id), &json!("acked"))
    );
    let one = &events[4];
    assert_eq!(one["sequence"], Value::Null);
    assert_eq!(
        (&one["user"], &one["bot"], &one["source"]),
        (&json!(ALICE), &json!("support"), &json!("live"))
    );
    assert_eq!((&one["from"], &one["inReplyTo"]), (&json!("bot"), &json!(id)));
    let (_, body) = text(&world, &format!("/v1/users/{ALICE}/events?after={}", super::inbox::id(one))).await;
    assert!(body.contains(r#""data":{ "type":"session_end",  "n":1.50 }"#), "byte for byte: {body}");
}

/// The status and the body as they came.
async fn text(world: &World, path: &str) -> (u16, String) {
    let response = within("an answer", world.request(Method::GET, path).send()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn an_event_has_the_id_and_the_envelope_that_its_webhook_gets() {
    let world = World::start_silent(|_| {}).await;
    world.push_text(ALICE, "Hi");
    let request = delivered(&world, 1).await.remove(0);
    let event = world.inbox_until(ALICE, "Hi").await.pop().unwrap();
    assert_eq!(id(&event), request.id);
    let mut body = envelope(&request);
    body["sequence"] = Value::Null;
    body["id"] = event["id"].clone();
    assert_eq!(event, body);
}

#[tokio::test]
async fn pages_follow_one_another_over_a_restart() {
    let mut world = World::start_silent(|_| {}).await;
    let texts: Vec<String> = (0..7).map(|n| n.to_string()).collect();
    texts.iter().for_each(|text| world.push_text(ALICE, text));
    let all = world.inbox_until(ALICE, "6").await;
    let (mut seen, mut after) = (Vec::new(), String::new());
    for round in 0.. {
        let page = world.inbox(ALICE, &format!("limit=3{after}")).await;
        let Some(last) = page.last() else { break };
        after = format!("&after={}", id(last));
        seen.extend(page);
        if round == 0 {
            world.restart().await;
        }
    }
    assert_eq!(seen[..all.len()], all);
    assert_eq!(said(&seen), texts);
}

#[tokio::test]
async fn an_answer_ends_before_it_grows_too_large() {
    let world = World::start_silent(|_| {}).await;
    let large = "x".repeat(400_000);
    for n in 0..5 {
        world.push_text(ALICE, &format!("{n}{large}"));
    }
    world.push_text(ALICE, "end");
    world.inbox_until(ALICE, "end").await;
    let page = world.inbox(ALICE, "limit=1000").await;
    assert!(said(&page).len() < 5, "{}", page.len());
    let bytes: usize = page.iter().map(|event| event.to_string().len()).sum();
    assert!(bytes < 4 << 20, "{bytes}");
}

#[tokio::test]
async fn who_waits_gets_the_first_event_that_comes_and_nobody_elses() {
    let world = World::start_silent(|config| add_user(config, BOB)).await;
    world.push_text(ALICE, "before");
    let last = world.inbox_until(ALICE, "before").await.pop().unwrap();
    let query = format!("wait=60s&after={}", id(&last));
    let (waiting, ()) = tokio::join!(world.inbox(ALICE, &query), async {
        world.push_text(BOB, "for bob");
        world.inbox_until(BOB, "for bob").await;
        world.push_text(ALICE, "for alice");
    });
    assert_eq!(told(&waiting), ["for alice"]);
}

#[tokio::test]
async fn a_wait_that_is_over_answers_with_nothing() {
    let world = World::start_silent(|_| {}).await;
    world.push_text(ALICE, "before");
    let last = world.inbox_until(ALICE, "before").await.pop().unwrap();
    for query in ["", "&wait=0s", "&wait=50ms"] {
        assert_eq!(world.inbox(ALICE, &format!("after={}{query}", id(&last))).await, Vec::<Value>::new());
    }
}

#[tokio::test]
async fn a_thousand_waiters_are_told_at_once() {
    const WAITERS: usize = 1000;
    let world = World::start_silent(|config| add_user(config, BOB)).await;
    world.push_text(ALICE, "before");
    let last = world.inbox_until(ALICE, "before").await.pop().unwrap();
    let url = world.url(&format!("/v1/users/{ALICE}/events?wait=60s&after={}", id(&last)));
    let mut waiters = tokio::task::JoinSet::new();
    for _ in 0..WAITERS {
        let request = world.http.get(&url);
        waiters.spawn(async move { answer(request).await });
    }
    // They may still be on their way: who asks later is answered at once.
    world.push_text(BOB, "for bob");
    world.inbox_until(BOB, "for bob").await;
    world.push_text(ALICE, "now");
    while let Some(answered) = within("everyone's answer", waiters.join_next()).await {
        let (status, body) = answered.unwrap();
        assert_eq!((status, &body["events"][0]["text"]), (200, &json!("now")), "{body}");
    }
}

#[tokio::test]
async fn a_shutdown_answers_those_who_wait() {
    let mut world = World::start_silent(|_| {}).await;
    world.push_text(ALICE, "before");
    let last = world.inbox_until(ALICE, "before").await.pop().unwrap();
    let mut socket = TcpStream::connect(world.daemon().api_address()).await.unwrap();
    // Two requests at once: when the first is answered, the second is on its way through the daemon.
    let head = |wait| {
        let path = format!("/v1/users/{ALICE}/events?wait={wait}&after={}", id(&last));
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")
    };
    socket.write_all(format!("{}{}", head("0s"), head("60s")).as_bytes()).await.unwrap();
    let mut answers = String::new();
    while !answers.ends_with("{\"events\":[]}") {
        let mut some = [0; 4096];
        let count = within("the first answer", socket.read(&mut some)).await.unwrap();
        assert!(count > 0, "{answers}");
        answers.push_str(std::str::from_utf8(&some[..count]).unwrap());
    }
    world.stop_daemon().await;
    within("the second answer", socket.read_to_string(&mut answers)).await.unwrap();
    let (_, second) = answers.split_once("{\"events\":[]}").unwrap();
    assert!(second.starts_with("HTTP/1.1 503 "), "{answers}");
    assert!(
        second.contains("\r\nretry-after: ") && second.contains("\"code\":\"shutting_down\""),
        "{answers}"
    );
}

#[tokio::test]
async fn what_is_no_longer_recent_is_gone_and_its_cursor_with_it() {
    let mut world = World::start_silent(small).await;
    world.push_text(ALICE, "first");
    let first = world.inbox_until(ALICE, "first").await.pop().unwrap();
    let kept = world.push_more_than_is_kept(ALICE).await;
    let numbers: Vec<u32> = told(&kept).iter().map(|text| text.trim().parse().unwrap()).collect();
    assert!((2..12).contains(&numbers.len()), "{numbers:?}");
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "no holes: {numbers:?}");
    for _ in 0..2 {
        let (status, body) = world.get(&format!("/v1/users/{ALICE}/events?after={}", id(&first))).await;
        assert_eq!((status, &body["code"]), (410, &json!("event_gone")), "{body}");
        let after = world.inbox(ALICE, &format!("after={}", id(&kept[0]))).await;
        assert_eq!(told(&after)[..kept.len() - 1], told(&kept)[1..]);
        world.stop_daemon().await;
        // With more room, what is gone doesn't look as if it were there.
        world.config.store.recent = 1 << 20;
        world.start_daemon().await;
    }
}

#[tokio::test]
async fn a_quiet_users_cursor_outlives_what_comes_for_others() {
    let mut world = World::start_silent(|config| {
        small(config);
        add_user(config, BOB);
    })
    .await;
    world.push_text(ALICE, "long ago");
    let last = world.inbox_until(ALICE, "long ago").await.pop().unwrap();
    let query = format!("after={}", id(&last));
    world.push_more_than_is_kept(BOB).await;
    assert_eq!(world.inbox(ALICE, "").await, Vec::<Value>::new(), "none of hers is kept");
    assert_eq!(world.inbox(ALICE, &query).await, Vec::<Value>::new());
    world.push_text(ALICE, "now");
    assert_eq!(told(&world.inbox(ALICE, &format!("{query}&wait=20s")).await), ["now"]);
    world.restart().await;
    assert_eq!(said(&world.inbox(ALICE, &query).await), ["now"]);
}

#[tokio::test]
async fn what_a_webhook_has_still_to_get_is_not_kept_for_the_inbox() {
    let world = World::start_silent(|config| {
        config.store.recent = 4096;
        crm(config).events = EventFilter::Only(vec!["bot_response".into()]);
    })
    .await;
    world.receiver.answer(Reply::status(503));
    world.push_text(ALICE, "first");
    let first = world.inbox_until(ALICE, "first").await.pop().unwrap();
    let kept = world.push_more_than_is_kept(ALICE).await;
    assert!(kept.len() < 12, "only what is recent");
    let (status, body) = world.get(&format!("/v1/users/{ALICE}/events?after={}", id(&first))).await;
    assert_eq!((status, &body["code"]), (410, &json!("event_gone")), "{body}");
}

#[tokio::test]
async fn what_is_no_event_of_this_user_is_gone_and_what_is_no_id_is_malformed() {
    let world = World::start_silent(|config| add_user(config, BOB)).await;
    world.push_text(ALICE, "hers");
    world.push_text(BOB, "his");
    let hers = world.inbox_until(ALICE, "hers").await.pop().unwrap();
    let his = world.inbox_until(BOB, "his").await.pop().unwrap();
    let of_another_store = format!("evt_{:08x}{}", 1, &id(&hers)[12..]);
    let future = format!("{}{:016x}", &id(&hers)[..12], 1_000_000);
    let none = format!("{}{:016x}", &id(&hers)[..12], 0);
    for gone in [id(&his), &of_another_store, &future, &none] {
        let (status, body) = world.get(&format!("/v1/users/{ALICE}/events?after={gone}")).await;
        assert_eq!((status, &body["code"]), (410, &json!("event_gone")), "{gone}: {body}");
    }
    for (query, key) in [
        ("after=", "after"),
        ("after=1", "after"),
        ("after=evt_1", "after"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=%2B1", "limit"),
        ("wait=121s", "wait"),
        ("wait=30", "wait"),
        ("afer=x", "afer"),
        ("wait=1s&wait=1s", "wait"),
    ] {
        let (status, body) = world.get(&format!("/v1/users/{ALICE}/events?{query}")).await;
        let got = (status, &body["code"], &body["key"]);
        assert_eq!(got, (400, &json!("malformed_query"), &json!(key)), "{query}: {body}");
    }
    let (status, body) = world.get("/v1/users/nobody/events").await;
    assert_eq!((status, &body["code"]), (404, &json!("unknown_user")));
    let (status, _) = answer(world.request(Method::POST, "/v1/users/alice/events")).await;
    assert_eq!(status, 405);
}

/// Clients with these scopes: `crm` may act for alice alone.
pub fn clients() -> BTreeMap<ClientName, Client> {
    let client = |token: &str, users: &str, scopes| Client {
        tokens: vec![Secret::new(token)],
        users: vec![users.to_owned()],
        scopes,
        rate: None,
    };
    let reads = Scopes { send: false, read: true, admin: false };
    let sends = Scopes { send: true, read: false, admin: false };
    BTreeMap::from([
        (ClientName::new("crm").unwrap(), client("crm-token", ALICE, reads)),
        (ClientName::new("sender").unwrap(), client("sender-token", "*", sends)),
        (ClientName::new("admin").unwrap(), client("admin-token", "*", Scopes::ALL)),
    ])
}

#[tokio::test]
async fn clients_read_what_they_may() {
    let world = World::start_with(|config| {
        add_user(config, BOB);
        config.clients = clients();
        config.users.insert(UserName::new("carol").unwrap(), config.users[BOB].clone());
        config.users.get_mut("carol").unwrap().identity = "carol".into();
    })
    .await;
    for (token, user, status) in [
        ("crm-token", ALICE, 200),
        ("crm-token", BOB, 403),
        ("crm-token", "nobody", 403),
        ("sender-token", ALICE, 403),
        ("wrong", ALICE, 401),
        ("admin-token", "nobody", 404),
    ] {
        for route in ["events", "messages", "history?limit=1"] {
            if (route, status) == ("history?limit=1", 200) {
                // Asks the platform, which may not know alice yet.
                continue;
            }
            let request = world.request(Method::GET, &format!("/v1/users/{user}/{route}")).bearer_auth(token);
            let (got, body) = answer(request).await;
            assert_eq!(got, status, "{token} {user} {route}: {body}");
        }
    }
}
