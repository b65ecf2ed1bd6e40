//! What the user's side says beside words: typing, receipts, and that it closes a session.

use reqwest::{Method, StatusCode};
use rtm_bridge::sandbox::{FrameKind, ReceivedFrame};
use serde_json::{Value, json};

use crate::support::{ALICE, World, answer, eventually, within};

const SIGNALS: [&str; 4] = ["typing", "receipts", "agent-session/close", "session/close"];

impl World {
    fn signal(&self, route: &str) -> reqwest::RequestBuilder {
        self.request(Method::POST, &format!("/v1/users/alice/{route}"))
    }

    /// Waits until so many frames have come that are no messages, and gives them without what is always the bridge's.
    async fn signals(&self, count: usize) -> Vec<Value> {
        let ours = ["id", "clientMessageId", "botInfo", "client", "meta"];
        let what = format!("{count} signals");
        let frames = eventually(&what, || async {
            let mut frames = self.control().frames(ALICE);
            frames.retain(|frame| frame.kind != FrameKind::Message);
            (frames.len() >= count).then_some(frames)
        });
        let mut frames: Vec<Value> = frames.await.iter().map(ReceivedFrame::json).collect();
        for frame in &mut frames {
            assert!(frame["botInfo"]["chatBot"].is_string() && frame["id"].is_u64(), "{frame}");
            frame.as_object_mut().unwrap().retain(|key, _| !ours.contains(&&**key));
        }
        frames
    }
}

fn event(name: &str) -> Value {
    json!({"resourceid": "/bot.message", "event": name, "message": {"body": "", "type": ""}})
}

#[tokio::test]
async fn each_signal_is_the_platforms_frame_sent_once_in_order() {
    let world = World::start_silent(|_| {}).await;
    let requests = [
        world.signal("typing"),
        world.signal("typing").json(&json!({"state": "stop"})),
        world.signal("receipts").form(&[("state", "delivered"), ("messageId", "ms-1")]),
        world.signal("receipts").json(&json!({"messageId": "ms-1", "agentMessageId": "am-1"})),
        world.signal("agent-session/close").json(&json!({})),
        world.signal("session/close"),
    ];
    for request in requests {
        let response = within("an answer", request.send()).await.unwrap();
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        let place = response.headers()["location"].to_str().unwrap().to_owned();
        let body: Value = response.json().await.unwrap();
        assert_eq!((&body["user"], &body["status"]), (&json!(ALICE), &json!("queued")));
        assert_eq!(place, format!("/v1/users/alice/messages/{}", body["clientMessageId"]));
        let status = world.final_status(ALICE, body["clientMessageId"].as_u64().unwrap()).await;
        assert_eq!(status["status"], "sent", "{status}");
    }
    let mut delivered = event("message_delivered");
    delivered["messageId"] = json!("ms-1");
    let mut read = event("message_read");
    (read["messageId"], read["agent_MessageId"]) = (json!("ms-1"), json!("am-1"));
    let expected = [
        event("typing"),
        event("stop_typing"),
        delivered,
        read,
        event("close_agent_chat"),
        json!({"resourceid": "/bot.closeConversationSession"}),
    ];
    assert_eq!(world.signals(6).await, expected);
}

#[tokio::test]
async fn a_signal_can_be_waited_for_and_is_one_however_often_it_is_sent() {
    let world = World::start_silent(|_| {}).await;
    for _ in 0..2 {
        let request =
            world.signal("typing?wait=ack").header("idempotency-key", "k").form(&[("state", "start")]);
        let (status, body) = answer(request).await;
        assert_eq!(
            (status, &body["status"], &body["delivery"]),
            (200, &json!("sent"), &json!("unknown")),
            "{body}"
        );
    }
    let (status, _) = answer(world.signal("typing").json(&json!({"clientMessageId": 7}))).await;
    assert_eq!(status, 202);
    assert_eq!(world.status(ALICE, 7).await["clientMessageId"], 7);
    world.final_status(ALICE, 7).await;
    assert_eq!(world.signals(2).await.len(), 2);
}

#[tokio::test]
async fn nothing_waits_for_a_connection() {
    let world = World::start_silent(|_| {}).await;
    world.cut_off().await;
    for route in SIGNALS {
        let request = world.signal(route);
        let request = if route == "receipts" { request.form(&[("messageId", "ms-1")]) } else { request };
        let (status, problem) = answer(request).await;
        assert_eq!((status, &problem["code"]), (503, &json!("not_connected")), "{route}: {problem}");
    }
}

/// What a broken caller may send, and its answer; nothing of it reaches the platform.
#[tokio::test]
async fn bad_signals_have_their_answers_and_leave_no_trace() {
    const JSON: &str = "application/json";
    const FORM: &str = "application/x-www-form-urlencoded";
    let world = World::start_silent(|config| config.messages.max_body = 8_000).await;
    let large = format!(r#"{{"state":"{}"}}"#, "x".repeat(9_000));
    let rows: [(&str, &str, &[u8], u16, &str); 26] = [
        ("typing", JSON, b"{", 400, "malformed_body"),
        ("typing", JSON, b"{\"state\":\"start\",\"state\":\"stop\"}", 400, "malformed_body"),
        ("typing", JSON, b"\xff", 400, "malformed_body"),
        ("typing", JSON, b"[]", 422, "wrong_type"),
        ("typing", JSON, b"{\"state\":1}", 422, "wrong_type"),
        ("typing", JSON, b"{\"state\":null}", 422, "wrong_type"),
        ("typing", JSON, b"{\"state\":\"begin\"}", 422, "bad_value"),
        ("typing", JSON, b"{\"state\":\"START\"}", 422, "bad_value"),
        ("typing", JSON, b"{\"text\":\"start\"}", 422, "unknown_key"),
        ("typing", JSON, b"{\"clientMessageId\":\"7\"}", 422, "bad_client_message_id"),
        ("typing", JSON, large.as_bytes(), 413, "body_too_large"),
        ("typing", FORM, b"state=%zz", 400, "malformed_body"),
        ("typing", FORM, b"state=start&state=start", 400, "malformed_body"),
        ("typing", FORM, b"messageId=ms-1", 422, "unknown_key"),
        ("typing", "text/plain", b"start", 415, "unsupported_content_type"),
        ("typing", "application/json; charset=latin1", b"{}", 415, "unsupported_charset"),
        ("typing?wait=reply", JSON, b"{}", 400, "malformed_query"),
        ("typing?state=start", JSON, b"{}", 400, "malformed_query"),
        ("receipts", FORM, b"", 422, "bad_value"),
        ("receipts", JSON, b"{\"state\":\"read\"}", 422, "bad_value"),
        ("receipts", JSON, b"{\"messageId\":\"\"}", 422, "bad_value"),
        ("receipts", JSON, b"{\"messageId\":7}", 422, "wrong_type"),
        ("receipts", JSON, b"{\"messageId\":\"a\",\"state\":\"seen\"}", 422, "bad_value"),
        ("agent-session/close", FORM, b"state=start", 422, "unknown_key"),
        ("session/close", JSON, b"true", 422, "wrong_type"),
        ("session/open", JSON, b"{}", 404, "not_found"),
    ];
    for (route, content_type, body, status, code) in rows {
        let request = world.signal(route).header("content-type", content_type).body(body.to_vec());
        let (found, problem) = answer(request).await;
        let body = String::from_utf8_lossy(&body[..body.len().min(60)]);
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{route} {body}: {problem}");
    }
    for route in SIGNALS {
        let (status, problem) = answer(world.request(Method::GET, &format!("/v1/users/alice/{route}"))).await;
        assert_eq!((status, &problem["code"]), (405, &json!("method_not_allowed")), "{route}");
        let (status, _) = answer(world.request(Method::POST, &format!("/v1/users/carol/{route}"))).await;
        assert_eq!(status, 404, "{route}");
    }
    let (status, body) = answer(world.signal("typing").body("state=start")).await;
    assert_eq!((status, &body["code"]), (415, &json!("unsupported_content_type")), "{body}");
    assert_eq!(world.user(ALICE).await["queued"], 0);
    assert!(world.control().frames(ALICE).is_empty(), "nothing reached the platform");
}
