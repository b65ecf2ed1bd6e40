use std::collections::BTreeMap;

use axum::{
    body::Body,
    http::{Request, header},
};
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::*;
use crate::{
    api::{
        server::Application as _,
        tests::{state, untouched, user},
    },
    config::{Client, Scopes, Secret},
    names::ClientName,
    users::{ConnectionState, UserStatus},
};

fn ops() -> (OpsState, Gated) {
    let (messages, events, letters) = untouched();
    let ops = OpsState {
        health: Arc::default(),
        started_at: Timestamp::from_millis(0),
        users: Arc::default(),
        messages,
        events,
        letters,
        metrics: Arc::default(),
    };
    let router = router(ops.clone(), &state(&BTreeMap::new()));
    (ops, router)
}

async fn get_from(router: &Gated, path: &str) -> (u16, Value) {
    let request = Request::get(path).header(header::HOST, "localhost:8081").body(Body::empty()).unwrap();
    let response = router.answer(request).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn ready_means_serving_with_a_writable_store() {
    let (state, router) = ops();
    let mut statuses = Vec::new();
    for (stage, store) in [
        (Stage::Starting, StoreHealth::Writable),
        (Stage::Serving, StoreHealth::Unavailable),
        (Stage::Serving, StoreHealth::Full),
        (Stage::Serving, StoreHealth::Writable),
        (Stage::Draining, StoreHealth::Writable),
    ] {
        state.health.set_stage(stage);
        state.health.set_store(store);
        let (status, body) = get_from(&router, "/readyz").await;
        assert_eq!(body["ready"], status == 200);
        assert_eq!(get_from(&router, "/healthz").await.0, status);
        statuses.push(status);
    }
    assert_eq!(statuses, [503, 503, 503, 200, 503]);
}

#[tokio::test]
async fn every_user_can_be_asked_for() {
    let (state, router) = ops();
    state.health.set_stage(Stage::Serving);
    state.health.set_store(StoreHealth::Writable);
    let alice = user("alice", 1);
    state.users.insert(alice.clone());
    assert_eq!(get_from(&router, "/readyz").await.0, 200);
    assert_eq!(get_from(&router, "/readyz?users=connected").await.0, 503);
    let (connected, since) = (ConnectionState::Connected, Timestamp::from_millis(0));
    alice.set_status(UserStatus { state: connected, since, last_error: None, attempts: 0 });
    let (status, body) = get_from(&router, "/readyz?users=connected").await;
    assert_eq!((status, &body["users"]), (200, &json!({"connected": 1, "configured": 1})));
}

#[tokio::test]
async fn alive_is_whoever_makes_progress() {
    let (state, router) = ops();
    assert_eq!(get_from(&router, "/livez").await, (200, json!({"progress": "moving"})));
    state.health.set_progress(Progress::Stalled);
    assert_eq!(get_from(&router, "/livez").await.0, 503);
}

#[tokio::test]
async fn the_rest_is_as_on_the_apis_listener() {
    let (_, router) = ops();
    for (path, status, code) in [
        ("/nothing", 404, "not_found"),
        ("/v1/nothing", 404, "not_found"),
        ("/v1/users/carol", 404, "unknown_user"),
        ("/v1/users/alice/reconnect", 405, "method_not_allowed"),
        ("/readyz?user=connected", 400, "malformed_query"),
        ("/readyz?users=all", 400, "malformed_query"),
        ("/livez?x", 400, "malformed_query"),
        ("/counts?x", 400, "malformed_query"),
    ] {
        let (got, body) = get_from(&router, path).await;
        assert_eq!((got, body["code"].as_str()), (status, Some(code)), "{path}");
    }
    for path in ["/readyz", "/", "/page.js", "/counts"] {
        let foreign = Request::get(path).header(header::HOST, "evil.example").body(Body::empty()).unwrap();
        let answer = router.answer(foreign).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn counts_name_nobody_and_need_no_token() {
    let (state, router) = ops();
    state.health.set_stage(Stage::Serving);
    state.health.set_store(StoreHealth::Writable);
    let since = Timestamp::from_millis(0);
    for (number, connection) in [
        (1, ConnectionState::Connected),
        (2, ConnectionState::Connected),
        (3, ConnectionState::BackingOff),
        (4, ConnectionState::Unauthorized),
    ] {
        let user = user(&format!("alice-{number}"), number);
        let last_error = Some("alice's trouble".to_owned());
        user.set_status(UserStatus { state: connection, since, last_error, attempts: 0 });
        state.users.insert(user);
    }
    let (status, mut counts) = get_from(&router, "/counts").await;
    assert!(counts["now"].take().as_str() > Some("2026"));
    let expected = json!({
        "version": env!("CARGO_PKG_VERSION"), "startedAt": "1970-01-01T00:00:00.000Z", "now": null,
        "tokenRequired": false, "ready": true, "stage": "serving", "store": "writable", "progress": "moving",
        "users": {"connecting": 0, "connected": 2, "backingOff": 1, "unauthorized": 1},
        "messages": {"accepted": 0, "queued": 0, "sent": 0, "acked": 0, "rejected": 0, "expired": 0},
        "webhooks": {"ok": 0, "failing": 0, "disabled": 0}, "backlog": 0, "deadLetters": 0,
    });
    assert_eq!((status, counts), (200, expected));
    let client = Client {
        tokens: vec![Secret::new("token")],
        users: vec!["*".to_owned()],
        scopes: Scopes::ALL,
        rate: None,
    };
    let clients = BTreeMap::from([(ClientName::new("crm").unwrap(), client)]);
    let router = super::router(state, &api::tests::state(&clients));
    let (status, counts) = get_from(&router, "/counts").await;
    assert_eq!((status, &counts["tokenRequired"]), (200, &json!(true)));
    assert_eq!(get_from(&router, "/v1/users").await.0, 401);
}
