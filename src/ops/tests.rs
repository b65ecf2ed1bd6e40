use std::collections::BTreeMap;

use axum::{
    body::Body,
    http::{Request, header},
};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;
use crate::{
    api::tests::{state, untouched, user},
    users::{ConnectionState, UserStatus},
};

fn ops() -> (OpsState, Router) {
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

async fn get_from(router: &Router, path: &str) -> (u16, Value) {
    let request = Request::get(path).header(header::HOST, "localhost:8081").body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
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
    ] {
        let (got, body) = get_from(&router, path).await;
        assert_eq!((got, body["code"].as_str()), (status, Some(code)), "{path}");
    }
    let foreign = Request::get("/readyz").header(header::HOST, "evil.example").body(Body::empty()).unwrap();
    assert_eq!(router.oneshot(foreign).await.unwrap().status(), StatusCode::FORBIDDEN);
}
