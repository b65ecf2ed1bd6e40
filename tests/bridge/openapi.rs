//! `GET /openapi.json`. That the answers of all these tests are as it says is seen to by [`crate::support::described`].

use reqwest::{Method, header::HeaderMap};

use crate::support::{
    World, answer,
    described::{FILE, check},
};

#[tokio::test]
async fn the_document_is_served_to_whoever_may_reach_the_api() {
    let world = World::start_with(|config| config.clients = crate::inbox::clients()).await;
    let response = world.request(Method::GET, "/openapi.json").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.text().await.unwrap(), FILE);
    let (status, problem) = answer(world.request(Method::GET, "/openapi.json?pretty=1")).await;
    assert_eq!((status, &problem["code"]), (400, &"malformed_query".into()));
    let (status, _) = answer(world.request(Method::POST, "/openapi.json")).await;
    assert_eq!(status, 405);
}

#[tokio::test]
async fn without_clients_no_web_page_reads_the_document() {
    let world = World::start_with(|_| {}).await;
    let foreign = world.request(Method::GET, "/openapi.json").header("origin", "https://evil.example");
    assert_eq!(answer(foreign).await.0, 403);
}

#[test]
fn an_answer_that_is_not_described_is_found() {
    let json: HeaderMap =
        [("content-type".parse().unwrap(), "application/json".parse().unwrap())].into_iter().collect();
    let is_found = |method, path, status, body: &'static str| {
        let json = json.clone();
        std::panic::catch_unwind(move || check(method, path, status, &json, body.as_bytes())).is_err()
    };
    assert!(!is_found("GET", "/v1/users", 200, r#"{"users":[]}"#));
    assert!(is_found("GET", "/v1/users", 200, r#"{"users":[],"more":1}"#), "a key");
    assert!(is_found("GET", "/v1/users", 200, "{}"), "a missing key");
    assert!(is_found("GET", "/v1/users", 201, r#"{"users":[]}"#), "a status");
    assert!(is_found("GET", "/v1/users/alice/messages/1", 404, r#"{"users":[]}"#), "a content type");
    assert!(is_found("POST", "/v1/users/alice/messages", 202, "{}"), "a missing header");
}
