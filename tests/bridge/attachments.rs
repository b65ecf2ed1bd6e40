//! Files: through the platform's endpoints, to messages.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use rtm_bridge::{
    config::Config,
    names::BotName,
    sandbox::{BotScript, Endpoint, Fault, FaultKind},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{ALICE, BOB, World, add_user, answer, within};

const MIB: usize = 1024 * 1024;
const UPLOADING: [Endpoint; 5] =
    [Endpoint::FileToken, Endpoint::FileUpload, Endpoint::FileChunk, Endpoint::FileCommit, Endpoint::FileUrl];

/// A multipart form.
pub struct Form(Vec<u8>);

impl Form {
    pub const CONTENT_TYPE: &str = "multipart/form-data; boundary=XxBoundaryxX";

    pub fn new() -> Self {
        Self(Vec::new())
    }

    pub fn part(mut self, head: &str, content: impl AsRef<[u8]>) -> Self {
        self.0.extend(format!("--XxBoundaryxX\r\n{head}\r\n\r\n").as_bytes());
        self.0.extend(content.as_ref());
        self.0.extend(b"\r\n");
        self
    }

    pub fn field(self, name: &str, text: &str) -> Self {
        self.part(&format!("Content-Disposition: form-data; name=\"{name}\""), text)
    }

    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let head = format!(
            "Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream"
        );
        self.part(&head, content)
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend(b"--XxBoundaryxX--\r\n");
        self.0
    }
}

/// Bytes that no two places have in common for long.
pub fn content(size: usize) -> Bytes {
    let mut state = 0x2545_f491_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..size).map(next).collect()
}

impl World {
    fn attachments(&self, user: &str, query: &str) -> reqwest::RequestBuilder {
        self.request(Method::POST, &format!("/v1/users/{user}/attachments{query}"))
    }

    async fn upload(&self, name: &str, content: impl Into<Bytes>) -> (u16, Value) {
        let request = self.attachments(ALICE, &format!("?name={name}"));
        answer(request.header("content-type", "application/octet-stream").body(content.into())).await
    }

    async fn upload_form(&self, form: Form) -> (u16, Value) {
        let request = self.attachments(ALICE, "").header("content-type", Form::CONTENT_TYPE);
        answer(request.body(form.end())).await
    }

    async fn post_form(&self, query: &str, key: Option<&str>, form: Form) -> (u16, Value) {
        let mut request = self.request(Method::POST, &format!("/v1/users/{ALICE}/messages{query}"));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        answer(request.header("content-type", Form::CONTENT_TYPE).body(form.end())).await
    }

    fn uploading_requests(&self) -> u64 {
        UPLOADING.iter().map(|endpoint| self.control().request_count(*endpoint)).sum()
    }

    /// The attachments of every message that reached the platform.
    fn sent_attachments(&self) -> Vec<Value> {
        let frames = self.control().messages(ALICE);
        frames.iter().map(|frame| frame.json()["message"]["attachments"].clone()).collect()
    }

    async fn served(&self, attachment: &Value) -> Bytes {
        let response = self.http.get(attachment["fileUrl"].as_str().unwrap()).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.bytes().await.unwrap()
    }
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["code"].as_str().unwrap_or_default())
}

fn refuse(at: Endpoint, status: u16) -> FaultKind {
    FaultKind::Refuse { at, status, retry_after: None }
}

#[tokio::test]
async fn what_is_uploaded_is_what_was_sent_and_goes_into_a_message() {
    let world = World::start().await;
    let large = content(2 * MIB + 77);
    let (status, body) = world.upload("big%20report.pdf", large.clone()).await;
    assert_eq!(status, 200, "{body}");
    let attachment = &body["attachments"][0];
    assert_eq!(world.served(attachment).await, large);
    let expected = json!({
        "fileId": attachment["fileId"], "fileName": "big report.pdf", "fileType": "attachment",
        "fileUrl": attachment["fileUrl"], "size": 2.0, "uniqueId": attachment["uniqueId"],
    });
    assert_eq!(*attachment, expected);
    assert_eq!(attachment["uniqueId"].as_str().unwrap().len(), 6);
    assert_eq!(world.control().uploads()[0].chunks, 3);

    let form = Form::new().file("hello.txt", "hello").file("C:\\dir\\photo.JPG", content(MIB));
    let (status, body) = world.upload_form(form).await;
    assert_eq!(status, 200, "{body}");
    let [text, photo] = body["attachments"].as_array().unwrap().as_slice() else { panic!("{body}") };
    assert_eq!((&text["fileName"], &text["fileType"]), (&json!("hello.txt"), &json!("attachment")));
    assert_eq!((&photo["fileName"], &photo["fileType"]), (&json!("photo.JPG"), &json!("image")));
    assert_eq!(world.served(text).await, "hello");
    assert_eq!(world.served(photo).await, content(MIB));
    assert_eq!(world.control().uploads()[2].chunks, 0, "1 MiB goes in one request");

    let (status, sent) = world.post(ALICE, json!({"text": "look", "attachments": [attachment, text]})).await;
    assert_eq!(status, 202, "{sent}");
    world.final_status(ALICE, sent["clientMessageId"].as_u64().unwrap()).await;
    assert_eq!(world.sent_attachments(), [json!([attachment, text])]);
}

#[tokio::test]
async fn a_file_has_its_name_from_the_query_or_from_a_header() {
    let world = World::start().await;
    for (query, disposition, expected) in [
        ("?name=a.txt", None, "a.txt"),
        ("?name=..%2F..%2Fetc%2Fpasswd", None, "passwd"),
        ("", Some("attachment; filename=\"b c.txt\""), "b c.txt"),
        ("", Some("attachment; filename=\"x\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe.txt"), "Grüße.txt"),
        ("?name=a.txt", Some("attachment; filename=b.txt"), "a.txt"),
    ] {
        let mut request =
            world.attachments(ALICE, query).header("content-type", "text/plain; charset=latin1");
        if let Some(disposition) = disposition {
            request = request.header("content-disposition", disposition);
        }
        let (status, body) = answer(request.body("x")).await;
        assert_eq!((status, &body["attachments"][0]["fileName"]), (200, &json!(expected)), "{body}");
    }
}

#[tokio::test]
async fn chunks_go_on_while_the_rest_is_still_to_come() {
    let world = World::start().await;
    let file = content(3 * MIB);
    let mut caller = TcpStream::connect(world.daemon().api_address()).await.unwrap();
    let head = format!(
        "POST /v1/users/alice/attachments?name=a.bin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
        file.len()
    );
    let (first, rest) = file.split_at(MIB + MIB / 2);
    within("the first half", async {
        caller.write_all(head.as_bytes()).await.unwrap();
        caller.write_all(first).await.unwrap();
    })
    .await;
    within("the first chunk", world.control().wait_requests(Endpoint::FileChunk, 1)).await;
    assert_eq!(world.control().request_count(Endpoint::FileCommit), 0);
    let mut answer = Vec::new();
    within("the answer", async {
        caller.write_all(rest).await.unwrap();
        caller.read_to_end(&mut answer).await.unwrap();
    })
    .await;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(world.control().uploads()[0].size, file.len());
}

#[tokio::test]
async fn a_slow_platform_slows_its_caller() {
    let world = World::start().await;
    world.control().inject(Fault::always(FaultKind::Hang { at: Endpoint::FileChunk }));
    let mut caller = TcpStream::connect(world.daemon().api_address()).await.unwrap();
    let head = "POST /v1/users/alice/attachments?name=a.bin HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: 26214400\r\n\r\n";
    caller.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![0; MIB];
    let mut written = 0;
    // The caller gets rid of what is in buffers, and then of nothing more.
    while let Ok(writing) = tokio::time::timeout(Duration::from_millis(500), caller.write(&piece)).await {
        written += writing.unwrap();
    }
    assert!((MIB..20 * MIB).contains(&written), "{written}");
}

#[tokio::test]
async fn what_is_too_large_is_refused_early_or_on_the_way() {
    let world = World::start().await;
    let announced = world
        .attachments(ALICE, "?name=a.bin")
        .header("content-type", "application/octet-stream")
        .body(content(25 * MIB + 1));
    let refused = answer(announced).await;
    assert_eq!(code(&refused), (413, "file_too_large"), "{}", refused.1);
    assert_eq!(refused.1["limit"], 25 * MIB);
    assert_eq!(world.uploading_requests(), 0, "its length said so");

    let (status, body) = world.upload_form(Form::new().file("a.bin", content(25 * MIB))).await;
    assert_eq!((status, &body["attachments"][0]["size"]), (200, &json!(25.0)), "{body}");
    let refused = world.upload_form(Form::new().file("a.bin", content(25 * MIB + 1)).file("b", "b")).await;
    assert_eq!(code(&refused), (413, "file_too_large"), "{}", refused.1);
    assert_eq!(world.control().uploads().len(), 1);
}

#[tokio::test]
async fn a_caller_who_only_writes_reads_all_the_same_why_it_was_refused() {
    let world = World::start().await;
    world.control().inject(Fault::once(refuse(Endpoint::FileChunk, 500)));
    let mut caller = TcpStream::connect(world.daemon().api_address()).await.unwrap();
    let head = format!(
        "POST /v1/users/alice/attachments?name=a.bin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
        8 * MIB
    );
    let mut answer = Vec::new();
    within("the answer", async {
        caller.write_all(head.as_bytes()).await.unwrap();
        caller.write_all(&content(8 * MIB)).await.unwrap();
        caller.read_to_end(&mut answer).await.unwrap();
    })
    .await;
    assert!(answer.starts_with(b"HTTP/1.1 502"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn the_platforms_refusals_are_told_in_its_words() {
    let world =
        World::start_with(|config| config.platform.request_timeout = Duration::from_millis(400)).await;
    world.all_connected().await;
    let large = content(MIB + 1);
    for at in UPLOADING {
        let file = if at == Endpoint::FileUpload { Bytes::from("x") } else { large.clone() };
        world.control().inject(Fault::once(refuse(at, 500)));
        let failed = world.upload("a.txt", file.clone()).await;
        assert_eq!(code(&failed), (502, "platform_failed"), "{at:?}: {}", failed.1);
        let detail = failed.1["detail"].as_str().unwrap();
        assert!(detail.contains("refused on demand") && !detail.contains("ft-"), "{detail}");
        world.control().inject(Fault::once(FaultKind::Hang { at }));
        assert_eq!(code(&world.upload("a.txt", file).await), (504, "platform_silent"), "{at:?}");
    }
    let kind = FaultKind::Refuse { at: Endpoint::FileToken, status: 429, retry_after: Some("1".to_owned()) };
    world.control().inject(Fault::once(kind));
    let request = world.attachments(ALICE, "?name=a.txt").header("content-type", "text/plain").body("x");
    let response = within("an answer", request.send()).await.unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["retry-after"], "1");
    // What took too long for the platform, it says.
    world.control().configure(|settings| settings.file_token_lifetime = Duration::ZERO);
    let failed = world.upload("a.txt", "x").await;
    assert!(failed.0 == 502 && failed.1["detail"].as_str().unwrap().contains("expired"), "{failed:?}");
    world.control().configure(|settings| settings.file_token_lifetime = Duration::from_secs(600));
    assert_eq!(world.upload("a.txt", "x").await.0, 200);
    assert_eq!(world.control().uploads().len(), 3, "and those whose URL was asked for in vain");
}

#[tokio::test]
async fn a_token_that_ends_on_the_way_is_granted_anew() {
    let world = World::start().await;
    world.all_connected().await;
    for at in UPLOADING {
        let file = if at == Endpoint::FileUpload { Bytes::from("x") } else { content(2 * MIB + 1) };
        world.control().inject(Fault::once(refuse(at, 401)));
        let (status, body) = world.upload("a.txt", file.clone()).await;
        assert_eq!(status, 200, "{at:?}: {body}");
        assert_eq!(world.served(&body["attachments"][0]).await, file, "{at:?}");
        let grants = world.control().request_count(Endpoint::Jwtgrant);
        world.control().inject(Fault::always(refuse(at, 401)));
        let failed = world.upload("a.txt", file).await;
        assert_eq!(code(&failed), (502, "platform_failed"), "{at:?}: {}", failed.1);
        world.control().clear_faults();
        assert_eq!(world.control().request_count(Endpoint::Jwtgrant), grants + 1, "{at:?}");
    }
    // Neither the session's nor the one from here is any good then.
    for _ in 0..2 {
        world.control().revoke(ALICE);
        assert_eq!(world.upload("a.txt", "x").await.0, 200);
    }
}

fn with_stranger(config: &mut Config) {
    add_user(config, BOB);
    config.platform.unauthorized_retry = Duration::from_secs(600);
    let bot = BotName::new("support").unwrap();
    let wrong = rtm_bridge::config::Bot {
        credentials: rtm_bridge::config::Credentials::client_secret("wrong"),
        ..config.bots[&bot].clone()
    };
    let other = BotName::new("other").unwrap();
    config.bots.insert(other.clone(), wrong);
    config.users.get_mut(BOB).unwrap().bot = other;
}

#[tokio::test]
async fn who_may_not_upload_is_told_so_at_once() {
    let world = World::start_with(with_stranger).await;
    world.until_state(BOB, "unauthorized").await;
    let request = |user: &str| {
        let request = world.attachments(user, "?name=a.txt").header("content-type", "text/plain");
        answer(request.body(content(MIB)))
    };
    let refused = request(BOB).await;
    assert_eq!(code(&refused), (503, "user_unauthorized"), "{}", refused.1);
    assert!(refused.1["detail"].as_str().unwrap().contains("client_secret"), "{}", refused.1);
    assert_eq!(code(&request("nobody").await), (404, "unknown_user"));
    assert_eq!(world.uploading_requests(), 0);
    // Alice's credentials are good for her connection, but the platform no longer thinks so.
    world.until_state(ALICE, "connected").await;
    world.control().revoke(ALICE);
    world.control().inject(Fault::always(refuse(Endpoint::Jwtgrant, 401)).for_user(ALICE));
    let refused = request(ALICE).await;
    assert_eq!(code(&refused), (503, "user_unauthorized"), "{}", refused.1);
}

#[tokio::test]
async fn who_hangs_up_leaves_nothing_but_room_for_the_next() {
    let world = World::start().await;
    let mut caller = TcpStream::connect(world.daemon().api_address()).await.unwrap();
    let head = "POST /v1/users/alice/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\
         Content-Type: multipart/form-data; boundary=XxBoundaryxX\r\n\r\n";
    let begun = Form::new().file("a.bin", content(2 * MIB));
    within("the beginning", async {
        caller.write_all(head.as_bytes()).await.unwrap();
        caller.write_all(&begun.0).await.unwrap();
    })
    .await;
    within("the first chunk", world.control().wait_requests(Endpoint::FileChunk, 1)).await;
    drop(caller);
    assert_eq!(world.upload("b.txt", "x").await.0, 200, "its place is free again");
    assert_eq!(world.control().request_count(Endpoint::FileCommit), 0);
    assert_eq!(world.user(ALICE).await["queued"], 0);
    assert!(world.control().frames(ALICE).is_empty());
}

#[tokio::test]
async fn a_shutdown_answers_who_is_uploading() {
    let mut world = World::start().await;
    world.control().inject(Fault::always(FaultKind::Hang { at: Endpoint::FileChunk }));
    let url = world.url("/v1/users/alice/attachments?name=a.bin");
    let request = world.http.post(url).header("content-type", "application/octet-stream");
    let uploading = tokio::spawn(answer(request.body(content(4 * MIB))));
    within("the first chunk", world.control().wait_requests(Endpoint::FileChunk, 1)).await;
    world.stop_daemon().await;
    let refused = within("the answer", uploading).await.unwrap();
    assert_eq!(code(&refused), (503, "shutting_down"), "{}", refused.1);
}

#[tokio::test]
async fn uploads_leave_the_bots_pace_to_its_connections() {
    let world = World::start_silent(|config| {
        config.platform.request_rate = 0.001;
        config.platform.request_burst = 16;
    })
    .await;
    let mut uploaded = 0;
    let refused = loop {
        match world.upload("a.txt", "x").await {
            (200, _) => uploaded += 1,
            refused => break refused,
        }
    };
    assert_eq!(code(&refused), (503, "platform_busy"), "{}", refused.1);
    assert!(uploaded <= 2, "{uploaded}");
    let connects = world.control().connects(ALICE);
    world.reconnect(ALICE).await;
    within("a connection all the same", world.control().wait_connects(ALICE, connects + 1)).await;
}

// ---- Messages with files.

#[tokio::test]
async fn a_message_brings_its_files_along() {
    let world = World::start().await;
    let form = Form::new()
        .field("text", "Grüße & mehr")
        .file("a.txt", "first")
        .field("customData", "{\"n\": 1.50}")
        .field("attachments", "[{\"given\": true}]")
        .part("Content-Disposition: form-data; name=\"none\"; filename=\"\"", "")
        .file("b.png", content(MIB + 5));
    let (status, body) = world.post_form("?wait=reply", None, form).await;
    assert_eq!((status, &body["status"]), (200, &json!("acked")), "{body}");
    assert_eq!(body["replies"][0]["message"][0]["cInfo"]["body"], "echo: Grüße & mehr");
    let frame = world.control().messages(ALICE)[0].json();
    assert_eq!(frame["message"]["customData"], json!({"n": 1.5}));
    let [given, first, second] = frame["message"]["attachments"].as_array().unwrap().as_slice() else {
        panic!("{frame}")
    };
    assert_eq!(*given, json!({"given": true}));
    assert_eq!(world.served(first).await, "first");
    assert_eq!((&second["fileName"], &second["fileType"]), (&json!("b.png"), &json!("image")));
    assert_eq!(world.served(second).await, content(MIB + 5));
    // A file alone, and no file at all, are messages too.
    let (status, body) = world.post_form("?wait=ack", None, Form::new().file("c.txt", "c")).await;
    assert_eq!((status, &body["status"]), (200, &json!("acked")), "{body}");
    let (status, body) = world.post_form("", None, Form::new().field("text", "only")).await;
    assert_eq!(status, 202, "{body}");
}

#[tokio::test]
async fn a_repeat_is_the_same_message_and_uploads_nothing() {
    let mut world = World::start().await;
    world.control().configure(|settings| settings.bot = BotScript::Silent);
    let form = |text: &str, file: &Bytes| Form::new().field("text", text).file("a.bin", file);
    let file = content(MIB + 9);
    let (status, first) = world.post_form("", Some("k"), form("x", &file)).await;
    assert_eq!(status, 202, "{first}");
    world.final_status(ALICE, first["clientMessageId"].as_u64().unwrap()).await;
    let uploading = world.uploading_requests();
    for round in ["at once", "after a restart"] {
        for query in ["", "?wait=ack", "?wait=reply&timeout=0ms"] {
            let (status, again) = world.post_form(query, Some("k"), form("x", &file)).await;
            let message = if status == 504 { &again["message"] } else { &again };
            assert_eq!(message["clientMessageId"], first["clientMessageId"], "{round} {query}: {again}");
        }
        let mut other = file.to_vec();
        *other.last_mut().unwrap() ^= 1;
        for (what, form) in [
            ("other bytes", form("x", &other.into())),
            ("fewer bytes", form("x", &file.slice(1..))),
            ("another text", form("y", &file)),
            ("another name", Form::new().field("text", "x").file("b.bin", &file)),
            ("no file", Form::new().field("text", "x")),
            ("two files", form("x", &file).file("b", "b")),
        ] {
            let refused = world.post_form("", Some("k"), form).await;
            assert_eq!(code(&refused), (422, "idempotency_key_reused"), "{round}, {what}: {}", refused.1);
        }
        assert_eq!(world.uploading_requests(), uploading, "{round}");
        if round == "at once" {
            world.restart().await;
            world.all_connected().await;
        }
    }
    assert_eq!(world.sent_attachments().len(), 1);
    let refused = world.post_keyed(ALICE, "k", json!({"text": "x"})).await;
    assert_eq!(code(&refused), (422, "idempotency_key_reused"), "{}", refused.1);
}

#[tokio::test]
async fn a_message_is_known_by_its_own_number_too() {
    let world = World::start().await;
    let form = |file: &str| Form::new().field("clientMessageId", "4711").file("a.txt", file);
    let (status, first) = world.post_form("", None, form("x")).await;
    assert_eq!((status, &first["clientMessageId"]), (202, &json!(4711)), "{first}");
    world.final_status(ALICE, 4711).await;
    let uploading = world.uploading_requests();
    let (status, again) = world.post_form("", None, form("x")).await;
    assert_eq!((status, &again["status"]), (200, &json!("acked")), "{again}");
    assert_eq!(code(&world.post_form("", None, form("y")).await), (409, "id_taken"));
    let late = Form::new().file("a.txt", "x").field("clientMessageId", "4711");
    assert_eq!(world.uploading_requests(), uploading);
    assert_eq!(code(&world.post_form("", None, late).await), (422, "id_after_file"));
    assert_eq!(world.sent_attachments().len(), 1);
}

#[tokio::test]
async fn however_many_come_at_once_they_are_one_message_and_one_upload() {
    let world = World::start().await;
    let posts = (0..4).map(|_| {
        world.post_form("", Some("k"), Form::new().field("text", "x").file("a.bin", content(MIB + 1)))
    });
    let answers = futures_util::future::join_all(posts).await;
    let new = answers.iter().filter(|(status, _)| *status == 202).count();
    let repeats = answers.iter().filter(|(status, _)| *status == 200).count();
    assert_eq!((new, repeats), (1, 3), "{answers:?}");
    let id = &answers[0].1["clientMessageId"];
    assert!(answers.iter().all(|(_, body)| body["clientMessageId"] == *id), "{answers:?}");
    assert_eq!(world.control().uploads().len(), 1);
    world.final_status(ALICE, id.as_u64().unwrap()).await;
    assert_eq!(world.sent_attachments().len(), 1);
}

#[tokio::test]
async fn a_message_whose_file_fails_is_none_and_its_key_is_free() {
    let world = World::start().await;
    let form = |file: &str| Form::new().field("text", "x").file("a.txt", file);
    world.control().inject(Fault::once(refuse(Endpoint::FileUrl, 500)));
    let failed = world.post_form("", Some("k"), form("x")).await;
    assert_eq!(code(&failed), (502, "platform_failed"), "{}", failed.1);
    // A file that is whole, in a form that is not.
    let mut half = form("x").end();
    half.truncate(half.len() - 4);
    let request =
        world.message(ALICE).header("content-type", Form::CONTENT_TYPE).header("idempotency-key", "k");
    assert_eq!(code(&answer(request.body(half)).await), (400, "malformed_body"));
    assert_eq!(world.get("/v1/users/alice/messages").await.1["messages"], json!([]));
    let (status, body) = world.post_form("", Some("k"), form("y")).await;
    assert_eq!(status, 202, "{body}");
}

#[tokio::test]
async fn what_would_be_refused_anyway_is_not_uploaded() {
    let world = World::start_with(|config| config.messages.max_queued = 1).await;
    world.all_connected().await;
    world.cut_off().await;
    world.send(ALICE, "waits").await;
    let refused = world.post_form("", None, Form::new().file("a.txt", "x")).await;
    assert_eq!(code(&refused), (429, "queue_full"), "{}", refused.1);
}
