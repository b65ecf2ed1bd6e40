//! Lists: a user's messages, page by page; webhooks and users with every field.

use reqwest::Method;
use rtm_bridge::{
    config::{Client, Scopes, Secret},
    names::ClientName,
    receiver::Reply,
    sandbox::{Fault, FaultKind},
};
use serde_json::{Value, json};

use crate::support::{ALICE, BOB, World, add_user, answer, eventually, within};

impl World {
    /// `GET /v1/users/{user}/messages?{query}`, which must succeed: the ids, and the next cursor.
    async fn messages_page(&self, user: &str, query: &str) -> (Vec<u64>, Value) {
        let (status, body) = self.get(&format!("/v1/users/{user}/messages?{query}")).await;
        assert_eq!(status, 200, "{query}: {body}");
        let ids = body["messages"].as_array().unwrap();
        (ids.iter().map(|one| one["clientMessageId"].as_u64().unwrap()).collect(), body["nextCursor"].clone())
    }
}

#[tokio::test]
async fn messages_are_listed_newest_first_page_by_page_over_a_restart() {
    let mut world = World::start_with(|config| add_user(config, BOB)).await;
    world.all_connected().await;
    assert_eq!(world.messages_page(ALICE, "").await, (vec![], Value::Null));
    let mut sent = Vec::new();
    for n in 0..7 {
        sent.push(world.send(ALICE, &n.to_string()).await);
        world.send(BOB, "his").await;
    }
    // A given id has its place by its acceptance, not by its number.
    let (status, _) = world.post(ALICE, json!({"text": "own id", "clientMessageId": 7})).await;
    assert_eq!(status, 202);
    sent.push(7);
    sent.reverse();
    let (mut seen, mut query) = (Vec::new(), "limit=3".to_owned());
    for round in 0.. {
        let (ids, next) = world.messages_page(ALICE, &query).await;
        assert!(ids.len() <= 3);
        seen.extend(ids);
        let Some(cursor) = next.as_str() else { break };
        query = format!("limit=3&cursor={cursor}");
        if round == 0 {
            world.restart().await;
            // What comes meanwhile moves nothing.
            world.send(ALICE, "later").await;
        }
    }
    assert_eq!(seen, sent);
    let (ids, next) = world.messages_page(ALICE, "limit=9").await;
    assert_eq!((&ids[1..], next), (&sent[..], Value::Null));
}

#[tokio::test]
async fn a_message_in_a_list_is_what_it_is_alone_and_can_be_asked_for_by_status() {
    let world = World::start().await;
    let acked = world.send(ALICE, "Hi").await;
    world.final_status(ALICE, acked).await;
    world.control().inject(Fault::once(FaultKind::NegativeAck).for_user(ALICE));
    let rejected = world.send(ALICE, "No").await;
    world.final_status(ALICE, rejected).await;
    world.cut_off().await;
    let queued = world.send(ALICE, "Later").await;
    for (status, id) in [("acked", acked), ("rejected", rejected), ("queued", queued)] {
        assert_eq!(world.messages_page(ALICE, &format!("status={status}")).await, (vec![id], Value::Null));
    }
    assert_eq!(world.messages_page(ALICE, "status=expired").await.0, [0; 0]);
    // The answer may be noted a moment later.
    let same = async || {
        let (_, list) = world.get(&format!("/v1/users/{ALICE}/messages?status=acked")).await;
        let alone = world.status(ALICE, acked).await;
        (list["messages"][0] == alone && !alone["replies"].as_array().unwrap().is_empty()).then_some(())
    };
    eventually("the message with its answer, alone and in the list", same).await;
    let path = format!("/v1/users/{ALICE}/messages?status=acked");
    let list =
        within("the list", world.request(Method::GET, &path).send()).await.unwrap().text().await.unwrap();
    let path = format!("/v1/users/{ALICE}/messages/{acked}");
    let alone =
        within("the message", world.request(Method::GET, &path).send()).await.unwrap().text().await.unwrap();
    assert_eq!(list, format!("{{\"messages\":[{alone}],\"nextCursor\":null}}"), "to the letter");
}

#[tokio::test]
async fn a_list_goes_through_many_commits() {
    let world = World::start_with(|config| add_user(config, BOB)).await;
    world.all_connected().await;
    let first = world.send(ALICE, "first").await;
    // Each is a commit of its own.
    for n in 0..300 {
        world.send(BOB, &n.to_string()).await;
    }
    assert_eq!(world.messages_page(ALICE, "limit=1").await, (vec![first], Value::Null));
    let (ids, next) = world.messages_page(BOB, "limit=299").await;
    assert_eq!((ids.len(), next.is_string()), (299, true));
    let (ids, next) = world.messages_page(BOB, &format!("cursor={}", next.as_str().unwrap())).await;
    assert_eq!((ids.len(), next), (1, Value::Null));
}

#[tokio::test]
async fn bad_queries_are_refused() {
    let world = World::start().await;
    for (query, key) in [
        ("status=final", "status"),
        ("status=", "status"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("cursor=1", "cursor"),
        ("cursor=", "cursor"),
        ("state=acked", "state"),
    ] {
        let (status, body) = world.get(&format!("/v1/users/{ALICE}/messages?{query}")).await;
        let got = (status, &body["code"], &body["key"]);
        assert_eq!(got, (400, &json!("malformed_query"), &json!(key)), "{query}: {body}");
    }
}

#[tokio::test]
async fn webhooks_are_listed_with_all_that_waits_and_all_that_is_dead() {
    let world = World::start().await;
    world.receiver.answer(Reply::status(422));
    world.push_text(ALICE, "refused");
    let webhook = eventually("a dead letter", async || {
        let (_, body) = world.get("/v1/webhooks").await;
        Some(body["webhooks"][0].clone()).filter(|webhook| webhook["deadLetters"] == 1)
    })
    .await;
    let keys: Vec<_> = webhook.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["backlog", "deadLetters", "lastOutcome", "name", "state"]);
    assert_eq!(
        (&webhook["name"], &webhook["state"], &webhook["backlog"]),
        (&json!("crm"), &json!("ok"), &json!(0))
    );
}

#[tokio::test]
async fn users_are_listed_with_every_field_and_only_to_who_may_see_them() {
    let world = World::start_with(|config| {
        add_user(config, BOB);
        let client = Client {
            tokens: vec![Secret::new("crm-token")],
            users: vec!["a*".to_owned()],
            scopes: Scopes { send: false, read: true, admin: false },
            rate: None,
        };
        config.clients.insert(ClientName::new("crm").unwrap(), client);
    })
    .await;
    within("alice's first connection", world.control().wait_connected(ALICE, 1)).await;
    let (status, body) = answer(world.request(Method::GET, "/v1/users").bearer_auth("crm-token")).await;
    assert_eq!(status, 200);
    let users = body["users"].as_array().unwrap();
    assert_eq!(users.len(), 1);
    let mut keys: Vec<_> = users[0].as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = [
        "agent",
        "agentSession",
        "attempts",
        "bot",
        "lastError",
        "name",
        "queued",
        "since",
        "state",
        "undelivered",
    ];
    assert_eq!((users[0]["name"].as_str(), keys), (Some(ALICE), expected.to_vec()));
}
