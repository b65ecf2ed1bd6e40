//! The client against a responder that says one prepared thing.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{io::AsyncWriteExt, net::TcpListener};

use super::*;
use crate::rtm::{
    subject::Standing,
    testing::{bot, platform_settings, read_request},
};

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
    let grant = platform.sign_in(&bot(), &"alice".into()).await.unwrap();
    assert_eq!(grant.access.token, Secret::new("tok-1"));
    assert_eq!(grant.access.granted_for, platform.credentials(&bot(), &"alice".into()));
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
    assert_eq!(url.url.as_str(), "ws://127.0.0.1:1/rtm/bot?sid=x");
    let request = responder.request();
    assert!(request.starts_with("POST /base/path/api/1.1/rtm/start HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: bearer tok-1\r\n"), "{request}");
}

async fn sign_in_failure(status: &str, body: &str) -> Failure {
    Responder::json(status, body).await.platform().sign_in(&bot(), &"alice".into()).await.unwrap_err()
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
    let failure = platform.sign_in(&bot(), &"alice".into()).await.unwrap_err();
    assert_eq!(failure.retry_after, Some(Duration::from_secs(17)));
    let ahead = platform.skew().unwrap().to_platform(Timestamp::now());
    assert!(ahead.to_string().starts_with("2099-01-01T00:0"), "{ahead}");
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let body = format!("HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n{}", " ".repeat(2 << 20));
    let failure = Responder::new(body).await.platform().sign_in(&bot(), &"alice".into()).await.unwrap_err();
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
    assert_eq!(platform.sign_in(&bot(), &"a".into()).await.unwrap_err().kind, FailureKind::Timeout);
    drop(silent);
    let failure = platform.sign_in(&bot(), &"a".into()).await.unwrap_err();
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
    let page = responder.platform().raw_history(&Secret::new("tok"), &bot(), 40, 20).await;
    page.map(|page| page.read(&bot()))
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

// ---- A token service.

/// A bot whose token service is the responder, and a JWT of that bot for alice.
fn served_by(responder: &Responder, body: config::TokenServiceBody) -> Bot {
    let service = config::TokenService {
        url: format!("{}/jwt?tenant=1", responder.url).parse().unwrap(),
        bearer: Some(Secret::new("bearer-of-ours")),
        headers: vec![("x-tenant".into(), Secret::new("header-of-ours"))],
        body,
        fields: vec![("clientSecret".into(), Secret::new("field-of-ours"))],
        jwt_field: "jwt".into(),
    };
    Bot { credentials: Credentials::TokenService(service), ..bot() }
}

fn jwt(subject: &str, lifetime: Duration, now: Timestamp) -> String {
    let subject = Subject::from(subject);
    let assertion = Assertion { subject: &subject, audience: "", lifetime, now };
    assertion.sign(&bot()).unwrap().expose().to_owned()
}

#[tokio::test]
async fn a_token_service_is_told_who_and_shown_what_it_wants() {
    let jwt = jwt("alice", Duration::from_secs(60), Timestamp::now());
    let responder = Responder::json("201 Created", &json!({ "jwt": jwt }).to_string()).await;
    let service = served_by(&responder, config::TokenServiceBody::Json);
    let got = responder.platform().assertion(&service, &"alice".into()).await.unwrap();
    assert_eq!(got.expose(), jwt);
    let request = responder.request();
    assert!(request.starts_with("POST /jwt?tenant=1 HTTP/1.1\r\n"), "{request}");
    for header in ["authorization: Bearer bearer-of-ours\r\n", "x-tenant: header-of-ours\r\n"] {
        assert!(request.contains(header), "{request}");
    }
    let body: serde_json::Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
    let audience = "https://idproxy.kore.com/authorize";
    let told = json!({
        "clientId": "cs-1", "identity": "alice", "aud": audience, "isAnonymous": false,
        "clientSecret": "field-of-ours",
    });
    assert_eq!(body, told);
}

#[tokio::test]
async fn a_token_service_that_wants_a_form_gets_one() {
    let jwt = jwt("a b", Duration::from_secs(60), Timestamp::now());
    let responder = Responder::json("200 OK", &json!({ "jwt": jwt }).to_string()).await;
    let service = served_by(&responder, config::TokenServiceBody::Form);
    let nobody = Subject { standing: Standing::Anonymous, .."a b".into() };
    responder.platform().assertion(&service, &nobody).await.unwrap();
    let request = responder.request();
    assert!(request.contains("content-type: application/x-www-form-urlencoded\r\n"), "{request}");
    let body = request.split_once("\r\n\r\n").unwrap().1;
    for field in ["identity=a+b", "isAnonymous=true", "clientSecret=field-of-ours", "clientId=cs-1"] {
        assert!(body.split('&').any(|pair| pair == field), "{body}");
    }
}

#[tokio::test]
async fn what_a_token_service_answers_instead_has_its_class_and_shows_no_secret() {
    let (good, minute) = (Timestamp::now(), Duration::from_secs(60));
    let long_ago = Timestamp::from_millis(1_500_000_000_000);
    let jwt_body = |jwt: String| json!({ "jwt": jwt }).to_string();
    let echoed = r#"{"errors":[{"msg":"who is bearer-of-ours, header-of-ours, field-of-ours?"}]}"#;
    for (status, body, kind, words) in [
        (
            "401 Unauthorized",
            echoed.to_owned(),
            FailureKind::Unauthorized,
            "who is [secret], [secret], [secret]?",
        ),
        ("403 Forbidden", String::new(), FailureKind::Unauthorized, "check bearer, headers and fields"),
        (
            "302 Found\r\nlocation: http://127.0.0.1:1/",
            String::new(),
            FailureKind::Refused { status: 302 },
            "302",
        ),
        ("500 Oops", "<html>".to_owned(), FailureKind::Server { status: 500 }, "in trouble (500)"),
        ("200 OK", "<html>".to_owned(), FailureKind::Malformed, "line 1"),
        ("200 OK", "[]".to_owned(), FailureKind::Malformed, "lacks what is expected"),
        ("200 OK", r#"{"token":"x"}"#.to_owned(), FailureKind::Malformed, "no text `jwt` (sts.jwt_field)"),
        ("200 OK", jwt_body("hush".into()), FailureKind::Malformed, "it is not a JWT"),
        ("200 OK", jwt_body(jwt("alice", minute, long_ago)), FailureKind::Malformed, "expired already"),
        ("200 OK", jwt_body(jwt("bob", minute, good)), FailureKind::Malformed, "identity (sub)"),
    ] {
        let responder = Responder::json(status, &body).await;
        let service = served_by(&responder, config::TokenServiceBody::Json);
        let failure = responder.platform().sign_in(&service, &"alice".into()).await.unwrap_err();
        assert_eq!((failure.step, failure.kind), (Step::TokenService, kind), "{status} {failure}");
        let shown = failure.to_string();
        assert!(shown.contains(words), "{shown}");
        assert!(!shown.contains("of-ours") && !shown.contains("hush") && !shown.contains("eyJ"), "{shown}");
    }
}

// ---- The secure handshake.

#[tokio::test]
async fn a_socket_is_asked_for_with_a_nonce_only_where_that_is_configured() {
    let answer = r#"{"url":"ws://127.0.0.1:1/rtm/bot?sid=x","nonce":"n-1"}"#;
    for secure_handshake in [false, true] {
        let responder = Responder::json("200 OK", answer).await;
        let settings = config::Platform { secure_handshake, ..platform_settings(&responder.url) };
        let platform = Platform::new(&settings).unwrap();
        let (issued, _) = platform.start(&Secret::new("tok"), &bot()).await.unwrap();
        assert_eq!(responder.request().contains("x-rtm-v: 1\r\n"), secure_handshake);
        let offer = platform.subprotocols(&issued, &bot(), &"alice".into()).await.unwrap();
        assert_eq!(offer.is_some(), secure_handshake);
        let Some(offer) = offer else { continue };
        assert!(offer.is_sensitive());
        let parts: Vec<_> = offer.to_str().unwrap().split(", ").collect();
        assert_eq!((parts.len(), parts[0], parts[2]), (3, "x-rtm-v|1", "nonce|n-1"));
        assert_eq!(parts[1].strip_prefix("jwt|").unwrap().split('.').count(), 3);
    }
}

#[tokio::test]
async fn a_nonce_that_is_none_is_told() {
    for (nonce, kind) in [
        ("null", FailureKind::Impossible),
        (r#""a, jwt|b""#, FailureKind::Malformed),
        (r#""""#, FailureKind::Malformed),
        ("7", FailureKind::Malformed),
    ] {
        let body = format!(r#"{{"url":"ws://127.0.0.1:1/rtm/bot?sid=x","nonce":{nonce}}}"#);
        let responder = Responder::json("200 OK", &body).await;
        let settings = config::Platform { secure_handshake: true, ..platform_settings(&responder.url) };
        let platform = Platform::new(&settings).unwrap();
        let failure = platform.start(&Secret::new("tok"), &bot()).await.unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
    }
}
