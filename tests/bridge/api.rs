//! The HTTP API over real connections: who may call, what waiting means, what errors look like.

use std::time::Duration;

use reqwest::{Method, header::HeaderMap};
use rtm_bridge::{
    config::{Client, Scopes, Secret},
    names::ClientName,
    sandbox::{BotScript, Fault, FaultKind, Push},
};
use serde_json::{Value, json};

use crate::support::{ALICE, BOB, World, add_user, answer, within};

/// An answer with its headers.
async fn full_answer(request: reqwest::RequestBuilder) -> (u16, HeaderMap, Value) {
    let response = within("an answer", request.send()).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.json().await.unwrap_or_default())
}

/// The client `crm` may send and read for users that start with `ali`; `admin` may do everything.
async fn with_clients() -> World {
    let client = |token: &str, users: &str, scopes: Scopes| Client {
        tokens: vec![Secret::new(token), Secret::new(format!("old-{token}"))],
        users: vec![users.to_owned()],
        scopes,
        rate: None,
    };
    let crm = client("crm-token", "ali*", Scopes { send: true, read: true, admin: false });
    let writer = client("writer-token", "*", Scopes { send: true, read: false, admin: false });
    World::start_with(|config| {
        add_user(config, BOB);
        for (name, client) in
            [("crm", crm), ("writer", writer), ("admin", client("admin-token", "*", Scopes::ALL))]
        {
            config.clients.insert(ClientName::new(name).unwrap(), client);
        }
    })
    .await
}

impl World {
    fn as_client(&self, token: &str, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.request(method, path).bearer_auth(token)
    }
}

// ---- Clients.

#[tokio::test]
async fn clients_come_with_a_bearer_token_or_basic_credentials() {
    let world = with_clients().await;
    let path = "/v1/users/alice";
    for token in ["crm-token", "old-crm-token"] {
        assert_eq!(answer(world.as_client(token, Method::GET, path)).await.0, 200);
        let basic = world.request(Method::GET, path).basic_auth("crm", Some(token));
        assert_eq!(answer(basic).await.0, 200);
    }
    let strangers = [
        world.request(Method::GET, path),
        world.as_client("crm-toke", Method::GET, path),
        world.request(Method::GET, path).basic_auth("admin", Some("crm-token")),
        world.request(Method::GET, path).basic_auth("crm", None::<&str>),
        world.request(Method::GET, path).header("authorization", "Digest x"),
    ];
    for stranger in strangers {
        let (status, headers, problem) = full_answer(stranger).await;
        assert_eq!((status, &problem["code"]), (401, &json!("unauthorized")), "{problem}");
        assert!(headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
    }
}

#[tokio::test]
async fn scopes_say_what_a_client_may_do() {
    let world = with_clients().await;
    let (send, read, reconnect) =
        ("/v1/users/alice/messages", "/v1/users/alice", "/v1/users/alice/reconnect");
    let code = async |token: &str, method: Method, path: &str| {
        let request = world.as_client(token, method, path).json(&json!({"text": "Hi"}));
        let (status, body) = answer(request).await;
        (status, body["code"].as_str().unwrap_or_default().to_owned())
    };
    let missing = (403, "scope_missing".to_owned());
    assert_eq!(code("writer-token", Method::POST, send).await.0, 202);
    assert_eq!(code("writer-token", Method::GET, read).await, missing);
    assert_eq!(code("writer-token", Method::GET, "/v1/users").await, missing);
    assert_eq!(code("crm-token", Method::POST, reconnect).await, missing);
    assert_eq!(code("crm-token", Method::POST, "/v1/webhooks/crm/enable").await, missing);
    assert_eq!(code("admin-token", Method::POST, reconnect).await.0, 202);
}

#[tokio::test]
async fn globs_say_for_whom_and_do_not_tell_who_exists() {
    let world = with_clients().await;
    for user in [BOB, "nobody"] {
        for (method, path) in [(Method::GET, ""), (Method::POST, "/messages"), (Method::GET, "/messages/1")] {
            let request = world.as_client("crm-token", method, &format!("/v1/users/{user}{path}"));
            let (status, problem) = answer(request.json(&json!({"text": "Hi"}))).await;
            assert_eq!((status, &problem["code"]), (403, &json!("user_not_allowed")), "{problem}");
        }
    }
    let (status, problem) = answer(world.as_client("crm-token", Method::GET, "/v1/users/alina")).await;
    assert_eq!((status, &problem["code"]), (404, &json!("unknown_user")), "{problem}");
    let names = async |token: &str| {
        let (_, body) = answer(world.as_client(token, Method::GET, "/v1/users")).await;
        let users = body["users"].as_array().unwrap().clone();
        users.into_iter().map(|user| user["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("crm-token").await, [ALICE]);
    assert_eq!(names("admin-token").await, [ALICE, BOB]);
}

#[tokio::test]
async fn idempotency_keys_are_each_clients_own() {
    let world = with_clients().await;
    let post = |token: &str, text: &str| {
        let request = world.as_client(token, Method::POST, "/v1/users/alice/messages");
        answer(request.header("idempotency-key", "key-1").json(&json!({"text": text})))
    };
    assert_eq!(post("crm-token", "one").await.0, 202);
    assert_eq!(post("writer-token", "two").await.0, 202);
    assert_eq!(post("crm-token", "one").await.0, 200);
    assert_eq!(post("writer-token", "one").await.0, 422);
}

#[tokio::test]
async fn a_clients_rate_is_kept_with_a_retry_after() {
    let mut world = with_clients().await;
    world.stop_daemon().await;
    let rate = rtm_bridge::config::Rate { count: 2, per: Duration::from_secs(3600) };
    world.config.clients.get_mut("crm").unwrap().rate = Some(rate);
    world.start_daemon().await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let request = world.as_client("crm-token", Method::GET, "/v1/users/alice");
        let (status, headers, problem) = full_answer(request).await;
        if status == 429 {
            assert_eq!(problem["code"], "rate_limited");
            assert!(headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
        }
        statuses.push(status);
    }
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(answer(world.as_client("admin-token", Method::GET, "/v1/users/alice")).await.0, 200);
}

// ---- Without clients.

#[tokio::test]
async fn without_clients_only_loopback_names_and_no_foreign_page_may_call() {
    let world = World::start().await;
    for listener in [world.daemon().api_address(), world.daemon().ops_address()] {
        let call = |headers: &[(&'static str, String)]| {
            let mut request = world.http.get(format!("http://{listener}/v1/users"));
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            answer(request)
        };
        let port = listener.port();
        assert_eq!(call(&[("host", format!("localhost:{port}"))]).await.0, 200);
        assert_eq!(call(&[("origin", format!("http://{listener}"))]).await.0, 200);
        for host in ["bridge.example.com".to_owned(), format!("127.0.0.1.example.com:{port}")] {
            let (status, problem) = call(&[("host", host)]).await;
            assert_eq!((status, &problem["code"]), (403, &json!("not_loopback")), "{problem}");
        }
        for origin in ["null".to_owned(), "https://evil.example".to_owned(), "http://127.0.0.1:1".to_owned()]
        {
            let (status, problem) = call(&[("origin", origin)]).await;
            assert_eq!((status, &problem["code"]), (403, &json!("foreign_origin")), "{problem}");
        }
    }
}

// ---- Errors.

#[tokio::test]
async fn every_error_is_a_problem_of_its_own() {
    let world = World::start_with(|config| config.messages.max_body = 1_000).await;
    let messages = "/v1/users/alice/messages";
    let post = |content_type: &str, body: &str| {
        world.message(ALICE).header("content-type", content_type).body(body.to_owned())
    };
    let json_body = |body: &str| post("application/json", body);
    let deep = format!("{{\"text\":\"a\",\"customData\":{{\"a\":{}{}}}}}", "[".repeat(70), "]".repeat(70));
    let get = |path: &str| world.request(Method::GET, path);
    let cases = [
        (json_body("{"), 400, "malformed_body"),
        (json_body(r#"{"text":"a","text":"b"}"#), 400, "malformed_body"),
        (post("application/x-www-form-urlencoded", "text=%zz"), 400, "malformed_body"),
        (get("/v1/users/alice/messages/1?wait=soon"), 400, "malformed_query"),
        (get("/v1/users/alice?unknown=1"), 400, "malformed_query"),
        (json_body(r#"{"text":"a"}"#).header("idempotency-key", ""), 400, "bad_idempotency_key"),
        (get("/v1/nothing"), 404, "not_found"),
        (get("/v1/users/nobody"), 404, "unknown_user"),
        (get("/v1/users/alice/messages/1"), 404, "unknown_message"),
        (world.request(Method::POST, "/v1/webhooks/none/enable"), 404, "unknown_webhook"),
        (world.request(Method::DELETE, messages), 405, "method_not_allowed"),
        (json_body(&format!(r#"{{"text":"{}"}}"#, "x".repeat(1_000))), 413, "body_too_large"),
        (post("application/xml", "<a/>"), 415, "unsupported_content_type"),
        (post("text/plain; charset=latin1", "a"), 415, "unsupported_charset"),
        (json_body("{}").header("content-encoding", "gzip"), 415, "unsupported_content_encoding"),
        (json_body(r#"{"txet":"a"}"#), 422, "unknown_key"),
        (json_body(r#"{"text":1}"#), 422, "wrong_type"),
        (json_body(r#"{"text":" "}"#), 422, "empty_message"),
        (json_body(&deep), 422, "too_deep"),
        (
            json_body(r#"{"resourceid":"/bot.message","type":"x","message":{"body":"a"}}"#),
            422,
            "type_refused",
        ),
        (json_body(r#"{"resourceid":"/bot.other"}"#), 422, "unknown_resource"),
    ];
    for (request, expected, code) in cases {
        let (status, headers, problem) = full_answer(request).await;
        assert_eq!((status, &problem["code"]), (expected, &json!(code)), "{problem}");
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(problem["status"], expected);
        for member in ["type", "title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
        }
        assert_eq!(headers.contains_key("allow"), expected == 405, "{code}");
    }
    assert_eq!(world.user(ALICE).await["queued"], 0, "nothing of all that was accepted");
}

// ---- Waiting.

#[tokio::test]
async fn waiting_for_the_ack_gives_the_final_status() {
    let world = World::start().await;
    let path = format!("/v1/users/{ALICE}/messages?wait=ack");
    let post = |text: &str| answer(world.request(Method::POST, &path).json(&json!({"text": text})));
    let (status, body) = post("yes").await;
    assert_eq!((status, &body["status"]), (200, &json!("acked")), "{body}");
    world.control().inject(Fault::once(FaultKind::NegativeAck));
    let (status, body) = post("no").await;
    assert_eq!(
        (status, &body["status"], &body["reason"]),
        (200, &json!("rejected"), &json!("refused_by_platform"))
    );
}

#[tokio::test]
async fn waiting_for_the_reply_gives_the_frames_that_came() {
    let world = World::start().await;
    let post = |query: &str, text: &str| {
        let path = format!("/v1/users/{ALICE}/messages?wait=reply&{query}");
        answer(world.request(Method::POST, &path).json(&json!({"text": text})))
    };
    let texts = |body: &Value| {
        let replies = body["replies"].as_array().unwrap().clone();
        let text = |reply: &Value| reply["message"][0]["cInfo"]["body"].as_str().unwrap().to_owned();
        replies.iter().map(text).collect::<Vec<_>>()
    };
    let (status, body) = post("", "Hi").await;
    assert_eq!((status, texts(&body)), (200, vec!["echo: Hi".to_owned()]));
    let (status, body) = post("collect=1s", "twice").await;
    assert_eq!(
        (status, texts(&body)),
        (200, vec!["echo: twice (1)".to_owned(), "echo: twice (2)".to_owned()])
    );
    // A message that ends badly has no answer to wait for.
    world.control().inject(Fault::once(FaultKind::NegativeAck));
    let (status, body) = post("", "no").await;
    assert_eq!((status, &body["status"]), (200, &json!("rejected")), "{body}");
}

#[tokio::test]
async fn what_does_not_come_in_time_is_504_and_the_message_goes_on() {
    let world = World::start().await;
    let path = format!("/v1/users/{ALICE}/messages?wait=reply&timeout=300ms");
    let (status, problem) = answer(world.request(Method::POST, &path).json(&json!({"text": "silent"}))).await;
    assert_eq!((status, &problem["code"]), (504, &json!("wait_timeout")), "{problem}");
    assert_eq!(problem["message"]["status"], "acked", "{problem}");
    let id = problem["message"]["clientMessageId"].as_u64().unwrap();
    world.control().push(ALICE, Push::text("at last"));
    let (status, body) = world.get(&format!("/v1/users/{ALICE}/messages/{id}?wait=reply")).await;
    assert_eq!((status, body["replies"].as_array().map(Vec::len)), (200, Some(1)), "{body}");
}

#[tokio::test]
async fn a_shutdown_answers_those_who_wait() {
    let mut world = World::start_with(|_| {}).await;
    world.control().configure(|settings| settings.bot = BotScript::Silent);
    world.all_connected().await;
    let path = format!("/v1/users/{ALICE}/messages?wait=reply&timeout=60s");
    let request = world.request(Method::POST, &path).json(&json!({"text": "Hi"}));
    let waiting = tokio::spawn(full_answer(request));
    within("the message", world.control().wait_messages(ALICE, 1)).await;
    world.stop_daemon().await;
    let (status, headers, problem) = within("the answer", waiting).await.unwrap();
    assert_eq!((status, &problem["code"]), (503, &json!("shutting_down")), "{problem}");
    assert!(headers.contains_key("retry-after"));
    assert_eq!(problem["message"]["user"], ALICE, "{problem}");
}

// ---- Health.

#[tokio::test]
async fn health_says_what_works() {
    let world = World::start().await;
    world.all_connected().await;
    let ask = |path: &str| answer(world.http.get(format!("http://{}{path}", world.daemon().ops_address())));
    for path in ["/livez", "/readyz", "/healthz", "/readyz?users=connected"] {
        let (status, body) = ask(path).await;
        assert_eq!(status, 200, "{path}: {body}");
    }
    world.cut_off().await;
    assert_eq!(ask("/readyz").await.0, 200, "a bridge without a platform still takes messages");
    assert_eq!(ask("/livez").await.0, 200);
    let (status, body) = ask("/readyz?users=connected").await;
    assert_eq!((status, &body["users"]), (503, &json!({"connected": 0, "configured": 1})), "{body}");
    let (_, body) = ask("/v1/users").await;
    assert_eq!(body["users"][0]["name"], ALICE, "the API's routes are served here too");
}
