//! The client against a responder that says one prepared thing.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{io::AsyncWriteExt, net::TcpListener};

use super::*;
use crate::rtm::testing::{bot, platform_settings, read_request};

/// Answers every connection with the same bytes, and keeps the requests.
struct Responder {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Responder {
    async fn new(answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, kept) = (answer.into(), requests.clone());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (answer, kept) = (answer.clone(), kept.clone());
                tokio::spawn(async move {
                    let request = read_request(&mut socket).await;
                    kept.lock().unwrap().push(request);
                    let _ = socket.write_all(&answer).await;
                });
            }
        });
        Self { url, requests }
    }

    async fn json(status: &str, body: &str) -> Self {
        Self::with_headers(status, "", body).await
    }

    async fn with_headers(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::new(format!(
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
        ))
        .await
    }

    fn platform(&self) -> Platform {
        Platform::new(&platform_settings(&self.url)).unwrap()
    }

    fn request(&self) -> String {
        self.requests.lock().unwrap().first().cloned().expect("a request came")
    }
}

const GRANT: &str = r#"{"authorization":{"accessToken":"tok-1","token_type":"bearer","expiresDate":"2100-01-01T00:00:00.000Z"},
 "userInfo":{"userId":"u-7","identity":"cs-1/alice"}}"#;

#[tokio::test]
async fn signs_in_as_documented() {
    let responder = Responder::json("200 OK", GRANT).await;
    let platform = responder.platform();
    let grant = platform.sign_in(&bot(), "alice").await.unwrap();
    assert_eq!(grant.access.token, Secret::new("tok-1"));
    assert_eq!(grant.access.granted_for, platform.credentials(&bot(), "alice"));
    assert_eq!(grant.access.expires_at.to_string(), "2100-01-01T00:00:00.000Z");
    assert_eq!(grant.platform_user_id.as_deref(), Some("u-7"));
    let request = responder.request();
    assert!(request.starts_with("POST /api/1.1/oAuth/token/jwtgrant HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("user-agent: {USER_AGENT}\r\n")), "{request}");
    let body: serde_json::Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["botInfo"], json!({"chatBot": "Support", "taskBotId": "st-1"}));
    assert_eq!(body["assertion"].as_str().unwrap().split('.').count(), 3);
}

#[tokio::test]
async fn asks_for_a_socket_with_the_token_under_the_base_path() {
    let responder = Responder::json("200 OK", r#"{"url":"ws://127.0.0.1:1/rtm/bot?sid=x"}"#).await;
    let settings = platform_settings(&format!("{}/base/path", responder.url));
    let (url, _) = Platform::new(&settings).unwrap().start(&Secret::new("tok-1"), &bot()).await.unwrap();
    assert_eq!(url.0.as_str(), "ws://127.0.0.1:1/rtm/bot?sid=x");
    let request = responder.request();
    assert!(request.starts_with("POST /base/path/api/1.1/rtm/start HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: bearer tok-1\r\n"), "{request}");
}

async fn sign_in_failure(status: &str, body: &str) -> Failure {
    Responder::json(status, body).await.platform().sign_in(&bot(), "alice").await.unwrap_err()
}

async fn start_failure(status: &str, body: &str) -> Failure {
    let responder = Responder::json(status, body).await;
    responder.platform().start(&Secret::new("tok-1"), &bot()).await.unwrap_err()
}

#[tokio::test]
async fn refused_credentials_are_told_from_other_trouble() {
    let said = r#"{"errors":[{"msg":"error verifying the jwt: possibly a replay","code":401}]}"#;
    let failure = sign_in_failure("401 Unauthorized", said).await;
    assert_eq!(failure.kind, FailureKind::Unauthorized);
    assert!(failure.to_string().contains("possibly a replay"), "{failure}");
    for (status, kind) in [
        ("400 Bad Request", FailureKind::Unauthorized),
        ("403 Forbidden", FailureKind::Unauthorized),
        ("404 Not Found", FailureKind::Refused { status: 404 }),
        ("302 Found\r\nlocation: http://127.0.0.1:1/", FailureKind::Refused { status: 302 }),
        ("429 Too Many Requests", FailureKind::RateLimited),
        ("503 Service Unavailable", FailureKind::Server { status: 503 }),
        ("200 OK", FailureKind::Malformed),
    ] {
        assert_eq!(sign_in_failure(status, "<html>").await.kind, kind, "{status}");
    }
}

#[tokio::test]
async fn a_refused_token_is_told_from_other_trouble() {
    let expired = r#"{"errors":[{"msg":"x","code":"TOKEN_EXPIRED"}]}"#;
    for (status, body, kind) in [
        ("401 Unauthorized", "", FailureKind::TokenRefused),
        ("400 Bad Request", expired, FailureKind::TokenRefused),
        ("400 Bad Request", "{}", FailureKind::Refused { status: 400 }),
        ("500 Oops", expired, FailureKind::Server { status: 500 }),
        ("200 OK", r#"{"url":"ws://elsewhere.example/?sid=x"}"#, FailureKind::Malformed),
        ("200 OK", "{}", FailureKind::Malformed),
    ] {
        assert_eq!(start_failure(status, body).await.kind, kind, "{status} {body}");
    }
}

#[tokio::test]
async fn what_the_platform_repeats_of_a_secret_is_not_shown() {
    let failure = start_failure("404 Not Found", r#"{"errors":[{"msg":"no such tok-1"}]}"#).await;
    assert!(failure.to_string().ends_with("no such [secret]"), "{failure}");
}

#[tokio::test]
async fn retry_after_and_the_platforms_clock_are_noted() {
    let headers = "retry-after: 17\r\ndate: Thu, 01 Jan 2099 00:00:00 GMT\r\n";
    let responder = Responder::with_headers("429 Slow Down", headers, "").await;
    let platform = responder.platform();
    assert_eq!(platform.skew(), None);
    let failure = platform.sign_in(&bot(), "alice").await.unwrap_err();
    assert_eq!(failure.retry_after, Some(Duration::from_secs(17)));
    let ahead = platform.skew().unwrap().to_platform(Timestamp::now());
    assert!(ahead.to_string().starts_with("2099-01-01T00:0"), "{ahead}");
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let body = format!("HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n{}", " ".repeat(2 << 20));
    let failure = Responder::new(body).await.platform().sign_in(&bot(), "alice").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Malformed);
    assert!(failure.to_string().contains("1 MiB"), "{failure}");
}

#[tokio::test]
async fn silence_is_a_timeout_and_a_closed_port_is_the_network() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let impatient =
        config::Platform { request_timeout: Duration::from_millis(50), ..platform_settings(&url) };
    let platform = Platform::new(&impatient).unwrap();
    assert_eq!(platform.sign_in(&bot(), "a").await.unwrap_err().kind, FailureKind::Timeout);
    drop(silent);
    let failure = platform.sign_in(&bot(), "a").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Network);
    assert!(failure.to_string().contains("refused"), "the cause is shown: {failure}");
}

#[test]
fn a_bad_ca_file_says_what_to_do() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"no certificate").unwrap();
    let settings =
        config::Platform { ca: Some(file.path().to_owned()), ..platform_settings("https://x.example") };
    let error = Platform::new(&settings).unwrap_err().to_string();
    assert!(error.starts_with("platform.ca: /") && error.contains("CERTIFICATE"), "{error}");
}

// ---- The history.

const PAGE: &str = r#"{"total":2,"moreAvailable":true,"messages":[
    {"_id":"ms-1","type":"outgoing","timestampValue":17,"components":[{"data":{"text":"Hi"}}]},
    {"_id":"ms-2","type":"outgoing"}, 7]}"#;

async fn history(responder: &Responder) -> Result<crate::rtm::recovery::Page, Failure> {
    responder.platform().history(&Secret::new("tok"), &bot(), 40, 20).await
}

#[tokio::test]
async fn a_page_of_the_history_is_asked_for_and_read() {
    let responder = Responder::json("200 OK", PAGE).await;
    let page = history(&responder).await.unwrap();
    let request = responder.request();
    assert!(
        request.starts_with("GET /api/1.1/botmessages/rtm?botId=st-1&limit=20&offset=40 HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(request.to_ascii_lowercase().contains("authorization: bearer tok\r\n"), "{request}");
    let texts: Vec<_> = page.records.iter().map(|record| (&*record.id, &*record.text)).collect();
    assert_eq!(
        (texts, page.returned),
        (vec![("ms-1", "Hi")], 3),
        "what can't be placed is skipped, but counts"
    );
    assert_eq!(page.more, crate::rtm::recovery::More::Perhaps);
    let last = Responder::json("200 OK", r#"{"moreAvailable":false,"messages":[]}"#).await;
    assert_eq!(history(&last).await.unwrap().more, crate::rtm::recovery::More::No);
}

#[tokio::test]
async fn what_the_history_answers_instead_has_its_class() {
    let expired = r#"{"errors":[{"msg":"token expired","code":"TOKEN_EXPIRED"}]}"#;
    for (status, body, kind) in [
        ("401 Unauthorized", "{}", FailureKind::TokenRefused),
        ("400 Bad Request", expired, FailureKind::TokenRefused),
        ("404 Not Found", "{}", FailureKind::Refused { status: 404 }),
        ("503 Service Unavailable", "", FailureKind::Server { status: 503 }),
        ("429 Too Many Requests", "", FailureKind::RateLimited),
        ("200 OK", "nonsense", FailureKind::Malformed),
        ("200 OK", r#"{"messages":7}"#, FailureKind::Malformed),
    ] {
        let responder = Responder::with_headers(status, "retry-after: 7\r\n", body).await;
        let failure = history(&responder).await.unwrap_err();
        assert_eq!((failure.step, failure.kind), (Step::History, kind), "{status} {body}");
        let told = matches!(kind, FailureKind::Server { .. } | FailureKind::RateLimited);
        assert!(!told || failure.retry_after == Some(Duration::from_secs(7)), "{failure}");
    }
}

#[tokio::test]
async fn a_page_of_the_history_may_be_larger_than_other_answers_but_not_endless() {
    let page = |megabytes: usize| {
        let text = "x".repeat(megabytes << 20);
        format!(
            r#"{{"messages":[{{"_id":"a","type":"outgoing","timestampValue":1,"components":[{{"data":{{"text":"{text}"}}}}]}}]}}"#
        )
    };
    let large = Responder::json("200 OK", &page(3)).await;
    assert_eq!(history(&large).await.unwrap().records[0].text.len(), 3 << 20);
    let endless = Responder::json("200 OK", &page(9)).await;
    assert_eq!(history(&endless).await.unwrap_err().kind, FailureKind::Malformed);
}
