//! The router without a socket: who is let in, and what is refused before anything is asked of the
//! messages or the store. What happens to accepted messages is tested over real sockets.

use std::collections::BTreeMap;

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::{server::Application as _, *};
use crate::{
    attachments::{FileBytes, FileName, Upload},
    clock::Timestamp,
    config::{Client, Scopes, Secret},
    events::Subscribers,
    history::{self, HistoryQuery},
    names::{BotName, ClientName, UserName},
    store::UserNumber,
    store::testing,
};

/// Messages and events of an empty store, which no test of this file may write to.
pub(crate) fn untouched() -> (Messages, Events, DeadLetters) {
    let (_directory, store) = testing::store();
    let (settings, kept) = (crate::config::Messages::default(), testing::settings("unused".as_ref()));
    let messages = Messages::load(store.clone(), settings, &kept).unwrap();
    let letters = DeadLetters::load(store.clone()).unwrap();
    let events = Events::load(store, messages.clone(), &kept, Subscribers::default()).unwrap();
    (messages, events, letters)
}

/// A platform that no test of this file may ask.
#[derive(Debug)]
struct NoHistories;

impl Histories for NoHistories {
    fn page(&self, _: Arc<User>, _: HistoryQuery) -> history::Answer<'_> {
        panic!("asked for a history")
    }
}

/// No platform either.
#[derive(Debug)]
struct NoUploads;

impl Uploads for NoUploads {
    fn upload<'a>(&'a self, _: &'a Arc<User>, _: &'a FileName, _: &'a mut dyn FileBytes) -> Upload<'a> {
        panic!("asked to upload a file")
    }
}

pub(crate) fn user(name: &str, number: u32) -> Arc<User> {
    let (name, bot) = (UserName::new(name).unwrap(), BotName::new("support").unwrap());
    Arc::new(User::new(name, UserNumber(number), bot, Timestamp::from_millis(0)))
}

pub(super) fn client(token: &str, users: &[&str], scopes: Scopes) -> Client {
    Client {
        tokens: vec![Secret::new(token)],
        users: users.iter().map(|glob| (*glob).to_owned()).collect(),
        scopes,
        rate: None,
    }
}

fn some_clients() -> BTreeMap<ClientName, Client> {
    let scopes = |send, read, admin| Scopes { send, read, admin };
    BTreeMap::from([
        (
            ClientName::new("crm").unwrap(),
            client("crm-token", &["ali*", "nobody"], scopes(true, true, false)),
        ),
        (ClientName::new("reader").unwrap(), client("reader-token", &["*"], scopes(false, true, false))),
        (ClientName::new("admin").unwrap(), client("admin-token", &["*"], Scopes::ALL)),
        (ClientName::new("outsider").unwrap(), client("outsider-token", &["zoe"], Scopes::ALL)),
    ])
}

/// An API over the users alice and bob.
pub(crate) fn state(clients: &BTreeMap<ClientName, Client>) -> ApiState {
    let users = Users::default();
    users.insert(user("alice", 1));
    users.insert(user("bob", 2));
    let (messages, events, letters) = untouched();
    let settings = Settings { gate: Gate::new(clients), max_body: 1000, body_timeout: BODY_TIMEOUT };
    ApiState(Arc::new(Parts {
        settings: RwLock::new(Arc::new(settings)),
        users: Arc::new(users),
        messages,
        events,
        letters,
        histories: Arc::new(NoHistories),
        uploads: Arc::new(NoUploads),
        places: attachments::Places::default(),
        draining: CancellationToken::new(),
    }))
}

pub(super) async fn ask(routes: Gated, request: Request<Body>) -> (StatusCode, axum::http::HeaderMap, Value) {
    let (head, body) = routes.answer(request).await.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, head.headers, serde_json::from_slice(&body).unwrap_or_default())
}

pub(super) fn loopback_request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header(header::HOST, "localhost:8080")
}

pub(super) fn as_client(method: &str, path: &str, token: &str) -> Request<Body> {
    let builder = Request::builder().method(method).uri(path).header(header::HOST, "bridge.example.com");
    builder.header(header::AUTHORIZATION, format!("Bearer {token}")).body(Body::empty()).unwrap()
}

/// Checks that an answer is this problem, whole and well-formed.
fn assert_problem(answer: &(StatusCode, axum::http::HeaderMap, Value), status: u16, code: &str, what: &str) {
    let (got, headers, body) = answer;
    assert_eq!((got.as_u16(), body["code"].as_str()), (status, Some(code)), "{what}: {body}");
    assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json", "{what}");
    assert_eq!(body["status"], status, "{what}");
    assert_eq!(body["type"], format!("urn:rtm-bridge:problem:{code}"), "{what}");
    for member in ["title", "detail"] {
        assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{what}: {member}");
    }
}

#[tokio::test]
async fn bad_bodies_are_refused_with_their_reason() {
    let deep = format!(r#"{{"text":"a","customData":{{"a":{}{}}}}}"#, "[".repeat(70), "]".repeat(70));
    let bomb = "[".repeat(900);
    let large = format!(r#"{{"text":"{}"}}"#, "a".repeat(1000));
    let json: &[(&[u8], u16, &str)] = &[
        (b"", 400, "malformed_body"),
        (b"{", 400, "malformed_body"),
        (b"{\"text\":\"a\"", 400, "malformed_body"),
        (b"{\"text\":\"a\"}}", 400, "malformed_body"),
        (b"{\"text\":\"a\",}", 400, "malformed_body"),
        (b"{text:\"a\"}", 400, "malformed_body"),
        (b"{'text':'a'}", 400, "malformed_body"),
        (b"{\"text\":\"a\" /* b */}", 400, "malformed_body"),
        (b"{\"text\":\"a\",\"text\":\"b\"}", 400, "malformed_body"),
        (b"{\"text\":\"a\",\"\\u0074ext\":\"b\"}", 400, "malformed_body"),
        (b"{\"text\":\"\xff\"}", 400, "malformed_body"),
        (b"{\"text\":\"\xed\xa0\x80\"}", 400, "malformed_body"),
        (b"{\"text\":\"\\ud800\"}", 400, "malformed_body"),
        (b"{\"text\":\"\\udc00x\"}", 400, "malformed_body"),
        (b"{\"text\":\"\\x41\"}", 400, "malformed_body"),
        (b"{\"text\":\"a\nb\"}", 400, "malformed_body"),
        (b"\xef\xbb\xbf{\"text\":\"a\"}", 400, "malformed_body"),
        (b"\xff\xfe{\x00}\x00", 400, "malformed_body"),
        (b"{\"text\":\"a\",\"clientMessageId\":01}", 400, "malformed_body"),
        (b"{\"text\":\"a\",\"clientMessageId\":NaN}", 400, "malformed_body"),
        (bomb.as_bytes(), 400, "malformed_body"),
        (b"{}", 422, "empty_message"),
        (b"{\"text\":\"\"}", 422, "empty_message"),
        (b"{\"text\":\" \\t\\r\\n \"}", 422, "empty_message"),
        (b"{\"attachments\":[]}", 422, "empty_message"),
        (b"{\"text\":\"\",\"attachments\":[]}", 422, "empty_message"),
        (b"{\"renderMsg\":\"a\"}", 422, "empty_message"),
        (b"{\"clientMessageId\":5}", 422, "empty_message"),
        (b"{\"txet\":\"a\"}", 422, "unknown_key"),
        (b"{\"text\":\"a\",\"Text\":\"a\"}", 422, "unknown_key"),
        (b"{\"text\":\"a\",\"message\":{\"body\":\"a\"}}", 422, "unknown_key"),
        (b"{\"\":\"a\"}", 422, "unknown_key"),
        (b"null", 422, "wrong_type"),
        (b"[]", 422, "wrong_type"),
        (b"\"a\"", 422, "wrong_type"),
        (b"5", 422, "wrong_type"),
        (b"{\"text\":5}", 422, "wrong_type"),
        (b"{\"text\":null}", 422, "wrong_type"),
        (b"{\"text\":[\"a\"]}", 422, "wrong_type"),
        (b"{\"text\":\"a\",\"attachments\":\"b\"}", 422, "wrong_type"),
        (b"{\"text\":\"a\",\"customData\":5}", 422, "wrong_type"),
        (b"{\"text\":\"a\",\"metaTags\":[]}", 422, "wrong_type"),
        (b"{\"text\":\"a\",\"renderMsg\":{}}", 422, "wrong_type"),
        (b"{\"text\":\"a\",\"clientMessageId\":0}", 422, "bad_client_message_id"),
        (b"{\"text\":\"a\",\"clientMessageId\":-1}", 422, "bad_client_message_id"),
        (b"{\"text\":\"a\",\"clientMessageId\":1.5}", 422, "bad_client_message_id"),
        (b"{\"text\":\"a\",\"clientMessageId\":1e3}", 422, "bad_client_message_id"),
        (b"{\"text\":\"a\",\"clientMessageId\":\"7\"}", 422, "bad_client_message_id"),
        (b"{\"text\":\"a\",\"clientMessageId\":null}", 422, "bad_client_message_id"),
        (b"{\"text\":\"a\",\"clientMessageId\":9007199254740992}", 422, "bad_client_message_id"),
        (b"{\"text\":\"a\",\"clientMessageId\":1e999}", 422, "bad_client_message_id"),
        (deep.as_bytes(), 422, "too_deep"),
        (b"{\"resourceid\":\"/bot.event\"}", 422, "unknown_resource"),
        (b"{\"resourceid\":\"/BOT.MESSAGE\",\"message\":{\"body\":\"a\"}}", 422, "unknown_resource"),
        (b"{\"resourceid\":null}", 422, "wrong_type"),
        (b"{\"resourceid\":\"/bot.message\",\"type\":\"ack\"}", 422, "type_refused"),
        (b"{\"resourceid\":\"/bot.message\"}", 422, "empty_message"),
        (b"{\"resourceid\":\"/bot.message\",\"message\":{\"body\":\" \"}}", 422, "empty_message"),
        (b"{\"resourceid\":\"/bot.message\",\"message\":[]}", 422, "wrong_type"),
        (b"{\"resourceid\":\"/bot.clientEvent\",\"clientMessageId\":0}", 422, "bad_client_message_id"),
        (b"{\"resourceid\":\"/bot.clientEvent\",\"botInfo\":1}", 422, "wrong_type"),
        (large.as_bytes(), 413, "body_too_large"),
    ];
    let form: &[(&[u8], u16, &str)] = &[
        (b"text=%", 400, "malformed_body"),
        (b"text=%e4", 400, "malformed_body"),
        (b"text=a&text=b", 400, "malformed_body"),
        (b"text=a&attachments=%5B", 400, "malformed_body"),
        (b"text=a&customData=", 400, "malformed_body"),
        (b"text=a&metaTags=%5B%5D", 422, "wrong_type"),
        (b"text=a&clientMessageId=x", 422, "bad_client_message_id"),
        (b"text=a&resourceid=%2Fbot.message", 422, "unknown_key"),
        (b"{\"text\":\"a\"}", 422, "unknown_key"),
        (b"text=+", 422, "empty_message"),
        (b"", 422, "empty_message"),
    ];
    let text: &[(&[u8], u16, &str)] =
        &[(b"\xff", 400, "malformed_body"), (b" \n", 422, "empty_message"), (b"", 422, "empty_message")];
    let kinds = [
        ("application/json", json),
        ("application/x-www-form-urlencoded", form),
        ("text/plain; charset=UTF-8", text),
    ];
    for (content_type, table) in kinds {
        for (body, status, code) in table {
            let request = loopback_request("POST", "/v1/users/alice/messages")
                .header(header::CONTENT_TYPE, content_type)
                .body(Body::from(body.to_vec()))
                .unwrap();
            let answer = ask(router(&state(&BTreeMap::new())), request).await;
            assert_problem(&answer, *status, code, &String::from_utf8_lossy(body));
        }
    }
}

#[tokio::test]
async fn bad_paths_queries_and_methods_are_refused() {
    const MESSAGES: &str = "/v1/users/alice/messages";
    let with = |query: &str| format!("{MESSAGES}?{query}");
    let one = |query: &str| format!("{MESSAGES}/1?{query}");
    let rows: Vec<(&str, String, u16, &str)> = vec![
        ("POST", with("wiat=ack"), 400, "malformed_query"),
        ("POST", with("wait="), 400, "malformed_query"),
        ("POST", with("wait=acks"), 400, "malformed_query"),
        ("POST", with("wait=ACK"), 400, "malformed_query"),
        ("POST", with("wait=ack&wait=ack"), 400, "malformed_query"),
        ("POST", with("wait=ack&timeout=5"), 400, "malformed_query"),
        ("POST", with("wait=ack&timeout=121s"), 400, "malformed_query"),
        ("POST", with("wait=ack&timeout=-1s"), 400, "malformed_query"),
        ("POST", with("wait=ack&timeout=%zz"), 400, "malformed_query"),
        ("POST", with("timeout=5s"), 400, "malformed_query"),
        ("POST", with("wait=ack&collect=1s"), 400, "malformed_query"),
        ("GET", one("wait=ack&collect=1s"), 400, "malformed_query"),
        ("GET", one("x"), 400, "malformed_query"),
        ("GET", "/v1/users?limit=5".into(), 400, "malformed_query"),
        ("GET", "/v1/users/alice?x=%ff".into(), 400, "malformed_query"),
        ("POST", "/v1/users/alice/reconnect?now".into(), 400, "malformed_query"),
        ("GET", "/v1/users/%ff".into(), 400, "malformed_path"),
        ("POST", "/v1/users/%c3/messages".into(), 400, "malformed_path"),
        ("GET", "/".into(), 404, "not_found"),
        ("GET", "/v1".into(), 404, "not_found"),
        ("GET", "/v1/user".into(), 404, "not_found"),
        ("GET", "/v1/users/".into(), 404, "not_found"),
        ("GET", "/v1/users/alice/".into(), 404, "not_found"),
        ("POST", "/v1/users/alice/messages/".into(), 404, "not_found"),
        ("GET", "/v1/users/al%2fice/messages/1".into(), 404, "unknown_user"),
        ("GET", "/v1/users/carol".into(), 404, "unknown_user"),
        ("GET", "/v1/users/ALICE".into(), 404, "unknown_user"),
        ("POST", "/v1/users/carol/messages".into(), 404, "unknown_user"),
        ("POST", "/v1/users/carol/reconnect".into(), 404, "unknown_user"),
        ("GET", format!("{MESSAGES}/0"), 404, "unknown_message"),
        ("GET", format!("{MESSAGES}/abc"), 404, "unknown_message"),
        ("GET", format!("{MESSAGES}/9007199254740992"), 404, "unknown_message"),
        ("PUT", MESSAGES.into(), 405, "method_not_allowed"),
        ("OPTIONS", MESSAGES.into(), 405, "method_not_allowed"),
        ("DELETE", "/v1/users/alice".into(), 405, "method_not_allowed"),
        ("POST", format!("{MESSAGES}/1"), 405, "method_not_allowed"),
        ("GET", "/v1/users/alice/reconnect".into(), 405, "method_not_allowed"),
        ("BREW", "/v1/users".into(), 405, "method_not_allowed"),
    ];
    for (method, path, status, code) in rows {
        let request = loopback_request(method, &path).body(Body::empty()).unwrap();
        let answer = ask(router(&state(&BTreeMap::new())), request).await;
        assert_problem(&answer, status, code, &format!("{method} {path}"));
        assert_eq!(answer.1.contains_key(header::ALLOW), status == 405, "{method} {path}");
    }
}

#[tokio::test]
async fn bad_headers_are_refused() {
    let json = [("content-type", "application/json")];
    let long_key = "k".repeat(256);
    type Headers<'a> = Vec<(&'a str, &'a str)>;
    let rows: Vec<(Headers<'_>, u16, &str)> = vec![
        (vec![], 415, "unsupported_content_type"),
        (vec![("content-type", "")], 415, "unsupported_content_type"),
        (vec![("content-type", "application/xml")], 415, "unsupported_content_type"),
        (vec![("content-type", "multipart/mixed; boundary=x")], 415, "unsupported_content_type"),
        (vec![("content-type", "text/html")], 415, "unsupported_content_type"),
        (vec![("content-type", "application/jsonx")], 415, "unsupported_content_type"),
        ([json[0], json[0]].to_vec(), 415, "unsupported_content_type"),
        (vec![("content-type", "application/json; charset=iso-8859-1")], 415, "unsupported_charset"),
        (vec![("content-type", "text/plain; charset=\"utf-16\"")], 415, "unsupported_charset"),
        (vec![("content-type", "text/plain; charset")], 415, "unsupported_charset"),
        (vec![json[0], ("content-encoding", "gzip")], 415, "unsupported_content_encoding"),
        (vec![json[0], ("content-encoding", "identity, br")], 415, "unsupported_content_encoding"),
        (vec![json[0], ("idempotency-key", "")], 400, "bad_idempotency_key"),
        (vec![json[0], ("idempotency-key", &long_key)], 400, "bad_idempotency_key"),
        (vec![json[0], ("idempotency-key", "a"), ("idempotency-key", "a")], 400, "bad_idempotency_key"),
    ];
    for (headers, status, code) in rows {
        let mut request = loopback_request("POST", "/v1/users/alice/messages");
        for (name, value) in &headers {
            request = request.header(*name, *value);
        }
        let answer =
            ask(router(&state(&BTreeMap::new())), request.body(Body::from("{\"text\":\"a\"}")).unwrap())
                .await;
        assert_problem(&answer, status, code, &format!("{headers:?}"));
    }
}

#[tokio::test]
async fn without_a_known_token_everything_looks_the_same() {
    let state = state(&some_clients());
    for path in ["/v1/users", "/v1/users/alice", "/v1/users/carol", "/v1/nothing", "/v1/users/alice/messages"]
    {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            for token in ["", "crm", "wrong"] {
                let answer = ask(router(&state), as_client(method.as_str(), path, token)).await;
                assert_problem(&answer, 401, "unauthorized", &format!("{method} {path} {token}"));
                assert!(answer.1[header::WWW_AUTHENTICATE].to_str().unwrap().starts_with("Bearer"));
            }
        }
    }
}

#[tokio::test]
async fn a_client_sees_only_its_users_and_does_only_what_it_may() {
    let state = state(&some_clients());
    for (token, method, path, status, code) in [
        // Not in its globs: the same whether the user exists (bob) or not (carol).
        ("crm-token", "GET", "/v1/users/bob", 403, "user_not_allowed"),
        ("crm-token", "GET", "/v1/users/carol", 403, "user_not_allowed"),
        ("crm-token", "POST", "/v1/users/bob/messages", 403, "user_not_allowed"),
        ("crm-token", "GET", "/v1/users/carol/messages/1", 403, "user_not_allowed"),
        ("crm-token", "GET", "/v1/users/nobody", 404, "unknown_user"),
        ("crm-token", "POST", "/v1/users/alice/reconnect", 403, "scope_missing"),
        ("reader-token", "POST", "/v1/users/alice/messages", 403, "scope_missing"),
        ("reader-token", "POST", "/v1/users/carol/messages", 403, "scope_missing"),
        ("admin-token", "DELETE", "/v1/users/alice", 405, "method_not_allowed"),
        ("admin-token", "GET", "/v1/nothing", 404, "not_found"),
    ] {
        let answer = ask(router(&state), as_client(method, path, token)).await;
        assert_problem(&answer, status, code, &format!("{token} {method} {path}"));
    }
    let (status, _, body) = ask(router(&state), as_client("GET", "/v1/users", "outsider-token")).await;
    assert_eq!((status, body), (StatusCode::OK, serde_json::json!({"users": []})));
}

#[tokio::test]
async fn a_reconnect_reaches_the_session() {
    let state = state(&some_clients());
    let request = as_client("POST", "/v1/users/bob/reconnect", "admin-token");
    let (status, _, body) = ask(router(&state), request).await;
    assert_eq!((status, body), (StatusCode::ACCEPTED, serde_json::json!({"user": "bob"})));
    let mailbox = |name| state.users.get(name).unwrap().mailbox.try_take();
    assert!(matches!(mailbox("bob"), Some(crate::users::Command::Reconnect)));
    assert!(mailbox("alice").is_none());
}

#[tokio::test]
async fn a_web_page_can_not_post_through_an_operators_browser() {
    let state = state(&BTreeMap::new());
    let post = |host: &str, origin: Option<&str>| {
        let mut request = Request::post("/v1/users/bob/reconnect").header(header::HOST, host);
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        request.body(Body::empty()).unwrap()
    };
    for (host, origin, code) in [
        ("localhost:8080", Some("https://evil.example"), "foreign_origin"),
        ("localhost:8080", Some("null"), "foreign_origin"),
        ("localhost:8080", Some("http://localhost:3000"), "foreign_origin"),
        ("rebound.example:8080", Some("http://rebound.example:8080"), "not_loopback"),
        ("rebound.example:8080", None, "not_loopback"),
    ] {
        let answer = ask(router(&state), post(host, origin)).await;
        assert_problem(&answer, 403, code, &format!("{host} {origin:?}"));
    }
    assert!(state.users.get("bob").unwrap().mailbox.try_take().is_none());
    let own = post("127.0.0.1:8080", Some("http://127.0.0.1:8080"));
    assert_eq!(ask(router(&state), own).await.0, StatusCode::ACCEPTED);
    let nothing = Request::get("/nothing").header(header::HOST, "evil.example").body(Body::empty()).unwrap();
    assert_problem(&ask(router(&state), nothing).await, 403, "not_loopback", "also where there is nothing");
}

#[tokio::test]
async fn a_reload_changes_who_is_let_in() {
    let state = state(&some_clients());
    let routes = router(&state);
    *state.settings.write().unwrap() =
        Arc::new(Settings { gate: Gate::new(&BTreeMap::new()), max_body: 1, body_timeout: BODY_TIMEOUT });
    let request = loopback_request("POST", "/v1/users/alice/reconnect").body(Body::empty()).unwrap();
    assert_eq!(ask(routes, request).await.0, StatusCode::ACCEPTED);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_given_up() {
    let never = Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let request =
        loopback_request("POST", "/v1/users/alice/messages").header(header::CONTENT_TYPE, "text/plain");
    let answer = ask(router(&state(&BTreeMap::new())), request.body(never).unwrap()).await;
    assert_problem(&answer, 408, "body_timeout", "a body that never comes");
}
