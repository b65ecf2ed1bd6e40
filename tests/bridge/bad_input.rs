//! Everything that a broken or a hostile caller may send: each has its status and its code, and nothing of
//! it is left behind.

use std::collections::BTreeSet;

use reqwest::header::{HeaderMap, HeaderName};
use rtm_bridge::store::offline;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{ALICE, World, described, within};

const MESSAGES: &str = "/v1/users/alice/messages";
const JSON: &str = "content-type: application/json";
const FORM: &str = "content-type: application/x-www-form-urlencoded";
const TEXT: &str = "content-type: text/plain";

/// A request, and what it must be answered with.
struct Bad {
    method: &'static str,
    path: String,
    headers: Vec<String>,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    /// What the detail must say.
    says: &'static str,
}

fn bad(method: &'static str, path: impl Into<String>, status: u16, code: &'static str) -> Bad {
    Bad { method, path: path.into(), headers: Vec::new(), body: Vec::new(), status, code, says: "" }
}

fn post(content_type: &str, body: impl Into<Vec<u8>>, status: u16, code: &'static str) -> Bad {
    Bad { headers: vec![content_type.to_owned()], body: body.into(), ..bad("POST", MESSAGES, status, code) }
}

fn json_body(body: impl Into<Vec<u8>>, status: u16, code: &'static str) -> Bad {
    post(JSON, body, status, code)
}

impl Bad {
    fn says(self, says: &'static str) -> Self {
        Self { says, ..self }
    }

    fn with(mut self, headers: &[&str]) -> Self {
        self.headers.extend(headers.iter().map(|header| (*header).to_owned()));
        self
    }

    fn name(&self) -> String {
        let body: String = String::from_utf8_lossy(&self.body).chars().take(80).collect();
        format!("{} {} {:?} {body}", self.method, self.path, self.headers)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", self.method, self.path);
        for header in &self.headers {
            head += &format!("{header}\r\n");
        }
        if !self.headers.iter().any(|header| header.to_ascii_lowercase().starts_with("transfer-encoding")) {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        [format!("{head}\r\n").as_bytes(), &self.body].concat()
    }
}

// ---- JSON.

fn malformed_json() -> Vec<Bad> {
    let bodies: [&[u8]; 33] = [
        b"",
        b" ",
        b"{",
        b"}",
        b"{]",
        b"[1",
        b"{\"text\"}",
        b"{\"text\":}",
        b"{\"text\":\"a\"",
        b"{\"text\":\"a}",
        b"{\"text\":\"a\"}}",
        b"{\"text\":\"a\"} x",
        b"{\"text\":\"a\",}",
        b"{\"text\":\"a\"\"b\":1}",
        b"{text:\"a\"}",
        b"{'text':'a'}",
        b"{\"text\":\"a\" /* b */}",
        b"// a\n{\"text\":\"a\"}",
        b"\xef\xbb\xbf{\"text\":\"a\"}",
        b"{\"text\":\"a\nb\"}",
        b"{\"text\":\"a\0b\"}",
        b"{\"text\":\"\\x41\"}",
        b"{\"text\":\"\\u12g4\"}",
        b"{\"text\":\"a\",\"customData\":{\"n\":01}}",
        b"{\"text\":\"a\",\"customData\":{\"n\":+1}}",
        b"{\"text\":\"a\",\"customData\":{\"n\":.5}}",
        b"{\"text\":\"a\",\"customData\":{\"n\":1.}}",
        b"{\"text\":\"a\",\"customData\":{\"n\":NaN}}",
        b"{\"text\":\"a\",\"customData\":{\"n\":Infinity}}",
        b"{\"text\":\"a\",\"customData\":{\"n\":tru}}",
        b"{\"text\":\"a\",\"customData\":{\"n\":0x10}}",
        b"text=a",
        b"<text>a</text>",
    ];
    let mut rows: Vec<_> = bodies.map(|body| json_body(body, 400, "malformed_body")).into();
    // Half a surrogate pair, in every place.
    for text in
        ["\\ud800", "\\udc00", "\\ud800x", "\\ud800\\ud800", "\\udc00\\ud800", "\\ud83d\\u0041", "\\uD800\\n"]
    {
        rows.push(json_body(format!("{{\"text\":\"{text}\"}}"), 400, "malformed_body"));
    }
    rows.push(json_body("{\"text\":\"a\",\"\\ud800\":1}", 400, "malformed_body"));
    // What is not UTF-8: a byte alone, a cut sequence, an overlong one, a surrogate, too large, UTF-16.
    for bytes in
        [&b"\xff"[..], b"\x80", b"\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"]
    {
        rows.push(json_body([b"{\"text\":\"a", bytes, b"\"}"].concat(), 400, "malformed_body"));
    }
    let utf16: Vec<u8> = "{\"text\":\"a\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    rows.push(json_body(utf16, 400, "malformed_body"));
    rows.extend([
        json_body("{\"text\":\"a\",\"text\":\"b\"}", 400, "malformed_body").says("given twice"),
        json_body("{\"text\":\"a\",\"\\u0074ext\":\"b\"}", 400, "malformed_body").says("given twice"),
        json_body("{\"text\":\"a\",\"customData\":{\"x\":{\"y\":1,\"y\":1}}}", 400, "malformed_body")
            .says("given twice"),
        json_body("{\"text\":\"a\",\"attachments\":[{\"id\":1,\"id\":2}]}", 400, "malformed_body")
            .says("given twice"),
        json_body(
            "{\"resourceid\":\"/bot.message\",\"resourceid\":\"/bot.clientEvent\"}",
            400,
            "malformed_body",
        )
        .says("given twice"),
        // Bombs.
        json_body("[".repeat(5_000), 400, "malformed_body"),
        json_body("{\"a\":".repeat(1_200), 400, "malformed_body"),
    ]);
    rows
}

fn unusable_json() -> Vec<Bad> {
    let deep = |levels: usize| {
        format!("{{\"text\":\"a\",\"customData\":{{\"a\":{}{}}}}}", "[".repeat(levels), "]".repeat(levels))
    };
    let mut rows = vec![
        json_body(deep(63), 422, "too_deep"),
        json_body(deep(1_500), 422, "too_deep"),
        json_body(
            format!(
                "{{\"resourceid\":\"/bot.message\",\"message\":{{\"body\":\"a\"}},\"x\":{}1{}}}",
                "{\"a\":".repeat(70),
                "}".repeat(70)
            ),
            422,
            "too_deep",
        ),
        json_body("{\"txet\":\"a\"}", 422, "unknown_key").says("did you mean \"text\""),
        json_body("{\"message\":\"a\"}", 422, "unknown_key"),
        json_body("{\"text\":\"a\",\"Text\":\"a\"}", 422, "unknown_key").says("did you mean \"text\""),
        json_body("{\"text\":\"a\",\"clientMessageID\":7}", 422, "unknown_key")
            .says("did you mean \"clientMessageId\""),
        json_body("{\"text\":\"a\",\"client_message_id\":7}", 422, "unknown_key")
            .says("did you mean \"clientMessageId\""),
        json_body("{\"text\":\"a\",\"custom_data\":{}}", 422, "unknown_key")
            .says("did you mean \"customData\""),
        json_body("{\"text\":\"a\",\"resourceId\":\"/bot.message\"}", 422, "unknown_key")
            .says("did you mean \"resourceid\""),
        json_body("{\"text\":\"a\",\"attachment\":[]}", 422, "unknown_key")
            .says("did you mean \"attachments\""),
        json_body("{\"text\":\"a\",\"\":1}", 422, "unknown_key"),
        json_body("{\"text\":\"a\",\"\\u0000\":1}", 422, "unknown_key"),
    ];
    for body in [
        "{}",
        "{\"text\":\"\"}",
        "{\"text\":\" \\t\\r\\n\"}",
        "{\"text\":\"\\u00a0\\u2003\"}",
        "{\"attachments\":[]}",
        "{\"text\":\"\",\"attachments\":[]}",
        "{\"renderMsg\":\"a\"}",
        "{\"clientMessageId\":5}",
        "{\"customData\":{\"a\":1}}",
        "{\"resourceid\":\"/bot.message\"}",
        "{\"resourceid\":\"/bot.message\",\"message\":{}}",
        "{\"resourceid\":\"/bot.message\",\"message\":{\"body\":\" \"}}",
        "{\"resourceid\":\"/bot.message\",\"message\":{\"attachments\":[]}}",
    ] {
        rows.push(json_body(body, 422, "empty_message"));
    }
    for body in [
        "null",
        "true",
        "7",
        "\"text\"",
        "[]",
        "[{\"text\":\"a\"}]",
        "{\"text\":1}",
        "{\"text\":null}",
        "{\"text\":true}",
        "{\"text\":[\"a\"]}",
        "{\"text\":{\"a\":1}}",
        "{\"text\":\"a\",\"attachments\":{}}",
        "{\"text\":\"a\",\"attachments\":\"a\"}",
        "{\"text\":\"a\",\"attachments\":null}",
        "{\"text\":\"a\",\"customData\":[]}",
        "{\"text\":\"a\",\"customData\":\"a\"}",
        "{\"text\":\"a\",\"metaTags\":7}",
        "{\"text\":\"a\",\"renderMsg\":{}}",
        "{\"resourceid\":null}",
        "{\"resourceid\":7}",
        "{\"resourceid\":\"/bot.message\",\"message\":\"a\"}",
        "{\"resourceid\":\"/bot.message\",\"message\":{\"body\":7}}",
        "{\"resourceid\":\"/bot.message\",\"message\":{\"body\":\"a\",\"attachments\":{}}}",
        "{\"resourceid\":\"/bot.message\",\"event\":7,\"message\":{\"body\":\"a\"}}",
        "{\"resourceid\":\"/bot.clientEvent\",\"botInfo\":\"a\"}",
    ] {
        rows.push(json_body(body, 422, "wrong_type"));
    }
    for id in [
        "0",
        "-1",
        "1.5",
        "1e3",
        "\"7\"",
        "null",
        "true",
        "[7]",
        "9007199254740992",
        "99999999999999999999999",
        "1e999",
        "-0",
    ] {
        rows.push(json_body(
            format!("{{\"text\":\"a\",\"clientMessageId\":{id}}}"),
            422,
            "bad_client_message_id",
        ));
    }
    for resource in
        ["", "/", "/bot.event", "/bot.Message", "bot.message", "/bot.message ", "/bot.message\\u0000"]
    {
        rows.push(json_body(
            format!("{{\"resourceid\":\"{resource}\",\"message\":{{\"body\":\"a\"}}}}"),
            422,
            "unknown_resource",
        ));
    }
    rows.push(json_body(
        "{\"resourceid\":\"/bot.message\",\"type\":\"ack\",\"message\":{\"body\":\"a\"}}",
        422,
        "type_refused",
    ));
    rows.push(json_body("{\"resourceid\":\"/bot.clientEvent\",\"type\":null}", 422, "type_refused"));
    rows
}

// ---- Other bodies.

fn other_bodies() -> Vec<Bad> {
    let mut rows = Vec::new();
    for body in [
        &b"text=%"[..],
        b"text=%4",
        b"text=%zz",
        b"text=%ff",
        b"text=%c3",
        b"%ff=a",
        b"text=a&text=b",
        b"text=a&te%78t=b",
        b"text=a&attachments=%5B",
        b"text=a&attachments=",
        b"text=a&customData=%7B%7D%7D",
        b"text=a&metaTags=x",
        b"text=\xff",
    ] {
        rows.push(post(FORM, body, 400, "malformed_body"));
    }
    for (body, code) in [
        (&b""[..], "empty_message"),
        (b"text=", "empty_message"),
        (b"text=+%20", "empty_message"),
        (b"text", "empty_message"),
        (b"attachments=%5B%5D", "empty_message"),
        (b"txt=a", "unknown_key"),
        (b"=a", "unknown_key"),
        (b"{\"text\":\"a\"}", "unknown_key"),
        (b"text=a&resourceid=%2Fbot.message", "unknown_key"),
        (b"text=a&customData=%5B%5D", "wrong_type"),
        (b"text=a&attachments=%7B%7D", "wrong_type"),
        (b"text=a&metaTags=7", "wrong_type"),
        (b"text=a&clientMessageId=x", "bad_client_message_id"),
        (b"text=a&clientMessageId=", "bad_client_message_id"),
        (b"text=a&clientMessageId=0", "bad_client_message_id"),
        (b"text=a&clientMessageId=7+", "bad_client_message_id"),
    ] {
        rows.push(post(FORM, body, 422, code));
    }
    for body in [&b"\xff"[..], b"a\xc3", b"\xed\xa0\x80"] {
        rows.push(post(TEXT, body, 400, "malformed_body"));
    }
    for body in ["", " ", "\r\n\t", "\u{3000}"] {
        rows.push(post(TEXT, body, 422, "empty_message"));
    }
    for (content_type, body) in [(JSON, "{\"text\":\"x\"}"), (FORM, "text=x"), (TEXT, "x")] {
        let large = body.replace('x', &"x".repeat(10_000));
        rows.push(post(content_type, large.clone(), 413, "body_too_large"));
        let chunked = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
        rows.push(post(content_type, chunked, 413, "body_too_large").with(&["Transfer-Encoding: chunked"]));
    }
    rows.push(
        post(TEXT, "zz\r\nhello\r\n0\r\n\r\n", 400, "malformed_body").with(&["Transfer-Encoding: chunked"]),
    );
    rows.push(
        post(TEXT, "5\r\nhello!!\r\n0\r\n\r\n", 400, "malformed_body").with(&["Transfer-Encoding: chunked"]),
    );
    rows
}

// ---- Headers.

fn headers() -> Vec<Bad> {
    let good = |headers: &[&str], status, code| {
        Bad { body: b"{\"text\":\"a\"}".into(), ..bad("POST", MESSAGES, status, code) }.with(headers)
    };
    let mut rows = vec![
        good(&[], 415, "unsupported_content_type"),
        good(&[JSON, JSON], 415, "unsupported_content_type"),
        good(&[JSON, TEXT], 415, "unsupported_content_type"),
    ];
    for kind in [
        "",
        "json",
        "application/xml",
        "application/jsonx",
        "application/json+x",
        "application/vnd.api+json",
        "text/html",
        "text/json",
        "multipart/form-data; boundary=x",
        "*/*",
        "application/json, text/plain",
    ] {
        rows.push(good(&[&format!("content-type: {kind}")], 415, "unsupported_content_type"));
    }
    for charset in ["iso-8859-1", "latin1", "utf-16", "\"utf-16\"", "utf-7", "ascii", "", "utf-88"] {
        rows.push(good(&[&format!("{JSON}; charset={charset}")], 415, "unsupported_charset"));
        rows.push(good(&[&format!("{TEXT}; format=flowed; CHARSET={charset}")], 415, "unsupported_charset"));
    }
    for encoding in ["gzip", "br", "deflate", "zstd", "identity, gzip", "x", ""] {
        rows.push(good(
            &[JSON, &format!("content-encoding: {encoding}")],
            415,
            "unsupported_content_encoding",
        ));
    }
    let too_long = "k".repeat(256);
    for keys in [vec![""], vec![&*too_long], vec!["a\tb"], vec!["a", "a"], vec!["a", "b"]] {
        let keys: Vec<_> = keys.iter().map(|key| format!("idempotency-key: {key}")).collect();
        let headers: Vec<&str> = std::iter::once(JSON).chain(keys.iter().map(String::as_str)).collect();
        rows.push(good(&headers, 400, "bad_idempotency_key"));
    }
    let filler = format!("x-filler: {}", "x".repeat(40_000));
    rows.push(good(&[JSON, &filler], 431, "head_too_large"));
    rows.push(bad("GET", format!("/v1/users?{}", "x".repeat(40_000)), 431, "head_too_large"));
    rows
}

// ---- Paths, queries, methods: for every endpoint.

/// What there is: its path, the methods that it takes, and its query parameters.
const ENDPOINTS: [(&str, &[&str]); 11] = [
    ("/v1/users", &["GET"]),
    ("/v1/users/alice", &["GET"]),
    ("/v1/users/alice/reconnect", &["POST"]),
    (MESSAGES, &["POST"]),
    ("/v1/users/alice/messages/1", &["GET"]),
    ("/v1/webhooks", &["GET"]),
    ("/v1/webhooks/crm/enable", &["POST"]),
    ("/v1/dead-letters", &["GET", "DELETE"]),
    ("/v1/dead-letters/replay", &["POST"]),
    ("/v1/dead-letters/dl_0000000000000001", &["GET", "DELETE"]),
    ("/v1/dead-letters/dl_0000000000000001/replay", &["POST"]),
];

fn endpoints() -> Vec<Bad> {
    let mut rows = Vec::new();
    for (path, methods) in ENDPOINTS {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "get"] {
            // Lists of messages are another's to serve.
            if !methods.contains(&method) && (path, method) != (MESSAGES, "GET") {
                rows.push(bad(method, path, 405, "method_not_allowed"));
            }
        }
        for method in methods {
            for query in ["unknown=1", "%zz=1", "x=%ff", "wait", "Limit=5"] {
                rows.push(bad(method, format!("{path}?{query}"), 400, "malformed_query"));
            }
        }
        rows.push(bad(methods[0], format!("{path}/"), 404, "not_found"));
        rows.push(bad(methods[0], path.replacen("/v1", "/v2", 1), 404, "not_found"));
    }
    rows
}

fn queries_and_paths() -> Vec<Bad> {
    let mut rows = Vec::new();
    let waits = [
        "wait=",
        "wait=acks",
        "wait=ACK",
        "wait=true",
        "wait=ack&wait=ack",
        "wait=ack&timeout=5",
        "wait=ack&timeout=",
        "wait=ack&timeout=121s",
        "wait=ack&timeout=3m",
        "wait=ack&timeout=-1s",
        "wait=ack&timeout=1.5s",
        "wait=ack&timeout=1h",
        "wait=ack&timeout=99999999999999999999s",
        "timeout=5s",
        "collect=1s",
        "wait=ack&collect=1s",
        "wait=reply&collect=x",
        "wait=reply&collect=121s",
        "wiat=ack",
        "wait=reply&Timeout=5s",
    ];
    for query in waits {
        rows.push(bad("GET", format!("{MESSAGES}/1?{query}"), 400, "malformed_query"));
        let path = format!("{MESSAGES}?{query}");
        rows.push(Bad { path, ..json_body("{\"text\":\"a\"}", 400, "malformed_query") });
    }
    for query in [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=x",
        "limit=5&limit=5",
        "cursor=x",
        "cursor=",
        "webhook=a%20b",
        "user=a%20b",
    ] {
        let (status, code) = match query {
            "webhook=a%20b" => (404, "unknown_webhook"),
            "user=a%20b" => (404, "unknown_user"),
            _ => (400, "malformed_query"),
        };
        rows.push(bad("GET", format!("/v1/dead-letters?{query}"), status, code));
    }
    rows.extend([
        bad("DELETE", "/v1/dead-letters", 400, "malformed_query"),
        bad("POST", "/v1/dead-letters/replay", 400, "malformed_query"),
        bad("DELETE", "/v1/dead-letters?all=false", 400, "malformed_query"),
        bad("DELETE", "/v1/dead-letters?all=yes", 400, "malformed_query"),
    ]);
    for (path, status, code) in [
        ("/v1/users/%ff", 400, "malformed_path"),
        ("/v1/users/%c3/messages/1", 400, "malformed_path"),
        ("/", 404, "not_found"),
        ("/v1", 404, "not_found"),
        ("/v1/", 404, "not_found"),
        ("//v1/users", 404, "not_found"),
        ("/V1/users", 404, "not_found"),
        ("/v1/user", 404, "not_found"),
        ("/v1/users/alice/message", 404, "not_found"),
        ("/v1/users/../users", 404, "not_found"),
        ("/v1/users//messages/1", 404, "unknown_user"),
        ("/v1/users/ALICE", 404, "unknown_user"),
        ("/v1/users/carol", 404, "unknown_user"),
        ("/v1/users/al%2fice", 404, "unknown_user"),
        ("/v1/users/alice%00", 404, "unknown_user"),
        ("/v1/users/..%2falice", 404, "unknown_user"),
        ("/v1/users/%0d%0a", 404, "unknown_user"),
        ("/v1/users/carol/messages/1", 404, "unknown_user"),
        ("/v1/users/alice/messages/0", 404, "unknown_message"),
        ("/v1/users/alice/messages/1", 404, "unknown_message"),
        ("/v1/users/alice/messages/abc", 404, "unknown_message"),
        ("/v1/users/alice/messages/1e3", 404, "unknown_message"),
        ("/v1/users/alice/messages/01", 404, "unknown_message"),
        ("/v1/users/alice/messages/9007199254740992", 404, "unknown_message"),
        ("/v1/dead-letters/x", 404, "unknown_dead_letter"),
        ("/v1/dead-letters/dl_0000000000000001", 404, "unknown_dead_letter"),
    ] {
        rows.push(bad("GET", path, status, code));
    }
    for (path, code) in [
        ("/v1/users/carol/messages", "unknown_user"),
        ("/v1/users/carol/reconnect", "unknown_user"),
        ("/v1/webhooks/none/enable", "unknown_webhook"),
        ("/v1/dead-letters/dl_0000000000000001/replay", "unknown_dead_letter"),
    ] {
        rows.push(bad("POST", path, 404, code));
    }
    rows
}

/// An answer's headers, as its head has them.
fn headers_of(head: &str) -> HeaderMap {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    fields.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
}

/// An answer: its status, its headers in lower case, and its body.
async fn answer_to(world: &World, request: &Bad) -> (u16, String, Value) {
    let mut caller = TcpStream::connect(world.daemon().api_address()).await.unwrap();
    // One that is refused early may be closed while it still writes.
    let _ = caller.write_all(&request.bytes()).await;
    let mut bytes = Vec::new();
    let _ = within(&request.name(), caller.read_to_end(&mut bytes)).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{}: {text:?}", request.name()));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    let path = request.path.split('?').next().unwrap();
    described::check(request.method, path, status, &headers_of(head), body.as_bytes());
    (status, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or_default())
}

#[tokio::test]
async fn bad_input_has_its_answer_and_leaves_no_trace() {
    let rows: Vec<Bad> =
        [malformed_json(), unusable_json(), other_bodies(), headers(), endpoints(), queries_and_paths()]
            .into_iter()
            .flatten()
            .collect();
    assert!(rows.len() >= 120, "{} rows", rows.len());
    let mut world = World::start_with(|config| config.messages.max_body = 8_000).await;
    world.all_connected().await;
    let connects = world.control().connects(ALICE);
    let mut wrong = Vec::new();
    for row in &rows {
        let (status, head, problem) = answer_to(&world, row).await;
        let is_right = status == row.status
            && problem["code"] == row.code
            && problem["status"] == row.status
            && head.contains("content-type: application/problem+json")
            && head.contains("\r\nallow: ") == (status == 405)
            && problem["detail"]
                .as_str()
                .is_some_and(|detail| detail.contains(row.says) && detail.len() < 1_000);
        if !is_right {
            wrong.push(format!(
                "{}\n    wanted {} {} {:?}, got {status} {problem}",
                row.name(),
                row.status,
                row.code,
                row.says
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));

    assert_eq!(world.user(ALICE).await["queued"], 0);
    assert!(world.control().frames(ALICE).is_empty(), "nothing reached the platform");
    assert_eq!(world.control().connects(ALICE), connects, "nothing reconnected");
    world.stop_daemon().await;
    let mut exported = Vec::new();
    offline::export(&world.config.store, &mut exported).unwrap();
    let kinds: BTreeSet<String> = String::from_utf8(exported)
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].as_str().map(str::to_owned))
        .collect();
    let traces: Vec<_> = kinds
        .iter()
        .filter(|kind| {
            ["message", "queue", "accepted", "idempotency", "dead", "replay"]
                .iter()
                .any(|trace| kind.to_ascii_lowercase().contains(trace))
        })
        .collect();
    assert!(traces.is_empty(), "{traces:?} of {kinds:?}");
    assert!(!kinds.is_empty() && json!(kinds).to_string().contains("user"), "{kinds:?}");
}
