//! What is said on sockets.

use bytes::Bytes;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use super::client::{Client, End, message, send, soon, start, start_with, text_of};
use crate::sandbox::{
    App, BotScript, ConnectionMode, Direction, FrameKind, PageOrder, Push, Sandbox, SandboxOptions, Settings,
    SocketEnd,
};

fn types(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|frame| frame["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_first_connect_is_greeted_and_a_reconnect_is_not() {
    let (sandbox, control) = start().await;
    let client = Client::signed_in(&sandbox, "alice").await;
    let mut socket = client.connect("").await;
    let greeting = socket.drain().await;
    assert_eq!(types(&greeting), ["bot_active", "session_start", "bot_response"]);
    assert_eq!(text_of(&greeting[2]), "Welcome to the sandbox.");
    for query in ["&isReconnect=true", "&ConnectionMode=Reconnect", "&ConnectionMode=Default"] {
        let mut again = client.connect(query).await;
        assert_eq!(types(&again.drain().await), ["bot_active"], "{query}");
        again.close().await;
    }
    let mut anew = client.connect("&ConnectionMode=Start_New&isReconnect=true").await;
    assert_eq!(types(&anew.drain().await), ["bot_active", "session_end", "session_start", "bot_response"]);
    let open = soon(control.wait_connected("alice", 2)).await;
    assert_eq!((open[0].mode, open[1].mode), (ConnectionMode::Plain, ConnectionMode::StartNew));
    assert!(open[1].query.ends_with("&ConnectionMode=Start_New&isReconnect=true"));
    assert_eq!(control.connects("alice"), 5);
}

#[tokio::test]
async fn the_welcome_can_be_left_out() {
    let (sandbox, _control) = start_with(Settings { welcome: None, ..Settings::default() }).await;
    let mut socket = Client::signed_in(&sandbox, "alice").await.connect("").await;
    assert_eq!(types(&socket.drain().await), ["bot_active", "session_start"]);
}

#[tokio::test]
async fn a_message_is_acked_echoed_and_recorded() {
    let (sandbox, control) = start().await;
    let mut socket = Client::signed_in(&sandbox, "alice").await.connect_and_greet().await;
    socket.send(&message(1_466_692_440_896, "Hi there")).await;
    let frames = socket.drain().await;
    assert_eq!(frames[0], json!({"ok": true, "replyto": 1_466_692_440_896_u64, "type": "ack"}));
    assert_eq!(text_of(&frames[1]), "echo: Hi there");
    let history = control.history("alice");
    assert_eq!(
        history.iter().map(|item| (item.direction, &*item.text)).collect::<Vec<_>>(),
        [
            (Direction::Outgoing, "Welcome to the sandbox."),
            (Direction::Incoming, "Hi there"),
            (Direction::Outgoing, "echo: Hi there"),
        ]
    );
    assert_eq!(history[2].id, frames[1]["messageId"]);
    assert_eq!(history[1].user_msg_id, Some(json!(1_466_692_440_896_u64)));
    let received = soon(control.wait_messages("alice", 1)).await;
    assert_eq!(received[0].json()["message"]["body"], "Hi there");
}

#[tokio::test]
async fn every_answer_has_its_own_ids() {
    let (sandbox, _control) = start().await;
    let mut socket = Client::signed_in(&sandbox, "alice").await.connect_and_greet().await;
    socket.send(&message(1, "twice")).await;
    let frames = socket.drain().await;
    assert_eq!(types(&frames), ["ack", "bot_response", "bot_response"]);
    for key in ["messageId", "key", "traceId"] {
        assert_ne!(frames[1][key], frames[2][key], "{key}");
        assert!(frames[1][key].is_string(), "{key}");
    }
    for key in ["timestamp", "createdOn", "sessionId"] {
        assert!(!frames[1][key].is_null(), "{key}");
    }
}

#[tokio::test]
async fn what_is_no_message_is_acked_as_the_platform_does() {
    let (sandbox, control) = start().await;
    let mut socket = Client::signed_in(&sandbox, "alice").await.connect_and_greet().await;
    socket.send(&json!({"type": "ping", "id": 7})).await;
    assert_eq!(socket.json().await, json!({"type": "pong", "replyto": 7}));
    socket.send(&json!({"type": "ack", "replyto": 5, "id": 5})).await;
    socket.send(&json!({"resourceid": "/bot.clientEvent", "id": 6, "customEvent": {}})).await;
    socket.send(&json!({"resourceid": "/bot.message", "event": "typing", "message": {}, "id": "x"})).await;
    socket.send_text("not json").await;
    assert_eq!(
        socket.drain().await,
        [json!({"ok": true, "type": "ack"}), json!({"ok": true, "replyto": "x", "type": "ack"})]
    );
    let kinds: Vec<_> = control.frames("alice").iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, [FrameKind::Ack, FrameKind::ClientEvent, FrameKind::Event, FrameKind::NotJson]);
    assert_eq!(control.connections_of("alice")[0].pings, 2);
}

#[tokio::test]
async fn control_pings_are_answered_and_counted() {
    let (sandbox, control) = start().await;
    let mut socket = Client::signed_in(&sandbox, "alice").await.connect_and_greet().await;
    socket.send_frame(Message::Ping(Bytes::from_static(b"p"))).await;
    assert_eq!(socket.frame().await, Message::Pong(Bytes::from_static(b"p")));
    assert_eq!(control.connections()[0].pings, 1);
}

#[tokio::test]
async fn an_agent_session_has_its_frames() {
    let (sandbox, _control) = start().await;
    let mut socket = Client::signed_in(&sandbox, "alice").await.connect_and_greet().await;
    for (id, text) in [(1, "agent"), (2, "help"), (3, "bye"), (4, "back")] {
        socket.send(&message(id, text)).await;
    }
    let frames = socket.drain().await;
    assert_eq!(
        types(&frames),
        [
            "ack",
            "agent_session_start",
            "events",
            "bot_response",
            "ack",
            "bot_response",
            "ack",
            "events",
            "agent_session_end",
            "ack",
            "bot_response"
        ]
    );
    assert_eq!(frames[2]["message"]["type"], "agent_connected");
    assert_eq!((&frames[5]["fromAgent"], &frames[5]["author"]["lastName"]), (&json!(true), &json!("Lee")));
    assert_eq!(frames[7]["message"]["type"], "agent_disconnected");
    assert!(frames[10].get("fromAgent").is_none());
}

#[tokio::test]
async fn the_user_can_end_the_agents_chat_and_the_session() {
    let (sandbox, _control) = start().await;
    let mut socket = Client::signed_in(&sandbox, "alice").await.connect_and_greet().await;
    socket.send(&message(1, "agent")).await;
    socket.drain().await;
    let close = json!({"resourceid": "/bot.message", "event": "close_agent_chat", "message": {}, "id": 2});
    socket.send(&close).await;
    assert_eq!(types(&socket.drain().await), ["ack", "events", "agent_session_end"]);
    socket.send(&json!({"resourceid": "/bot.closeConversationSession", "id": 3})).await;
    assert_eq!(types(&socket.drain().await), ["ack", "session_end"]);
}

#[tokio::test]
async fn commands_with_numbers_do_what_they_say() {
    let (sandbox, control) = start().await;
    let mut socket = Client::signed_in(&sandbox, "alice").await.connect_and_greet().await;
    socket.send(&message(1, "big 300000")).await;
    assert_eq!(text_of(&socket.drain().await[1]).len(), 300_000);
    socket.send(&message(2, "slow 20")).await;
    assert_eq!(socket.json().await["type"], "ack");
    assert_eq!(text_of(&socket.json().await), "echo: slow 20");
    socket.send(&message(3, "close 4001")).await;
    assert_eq!(socket.end_code().await, 4001);
    soon(control.wait_connected("alice", 0)).await;
}

#[tokio::test]
async fn a_streamed_answer_comes_in_parts_and_is_one_item_of_history() {
    let (sandbox, control) = start().await;
    let mut socket = Client::signed_in(&sandbox, "alice").await.connect_and_greet().await;
    socket.send(&message(1, "stream")).await;
    let frames = socket.drain().await;
    let parts: Vec<_> = frames[1..].iter().map(|frame| (text_of(frame), &frame["endChunk"])).collect();
    assert_eq!(parts, [("Once ", &json!(false)), ("upon ", &json!(false)), ("a time", &json!(true))]);
    assert!(
        frames[1..].iter().all(|frame| frame["messageId"] == frames[1]["messageId"] && frame["sM"] == true)
    );
    assert_eq!(frames[3]["completeResponse"], "Once upon a time");
    // Pushed frames are put together alike.
    for text in ["a", "b"] {
        let chunk = json!({"type": "bot_response", "messageId": "ms-x", "sM": true, "message": [{"cInfo": {"body": text}}]});
        control.push("alice", Push::frame(chunk.to_string()));
    }
    let history = control.history("alice");
    let texts: Vec<_> = history.iter().map(|item| &*item.text).collect();
    assert_eq!(texts, ["Welcome to the sandbox.", "stream", "Once upon a time", "ab"]);
}

#[tokio::test]
async fn a_message_after_the_session_ended_starts_another() {
    let (sandbox, _control) = start().await;
    let mut socket = Client::signed_in(&sandbox, "alice").await.connect_and_greet().await;
    socket.send(&json!({"resourceid": "/bot.closeConversationSession", "id": 1})).await;
    let ended = socket.drain().await;
    socket.send(&message(2, "hi")).await;
    let frames = socket.drain().await;
    assert_eq!(types(&frames), ["ack", "session_start", "bot_response"]);
    assert_ne!(ended[1]["sessionId"], frames[1]["sessionId"]);
    assert_eq!(frames[1]["sessionId"], frames[2]["sessionId"]);
}

#[tokio::test]
async fn several_sockets_of_a_user_see_the_same_conversation() {
    let (sandbox, control) = start().await;
    let client = Client::signed_in(&sandbox, "alice").await;
    let mut one = client.connect_and_greet().await;
    let mut two = client.connect("&isReconnect=true").await;
    soon(control.wait_connected("alice", 2)).await;
    two.json().await;
    one.send(&message(5, "hello")).await;
    assert_eq!(types(&one.drain().await), ["ack", "bot_response"]);
    let seen = two.drain().await;
    assert_eq!(types(&seen), ["user_message", "bot_response"]);
    assert_eq!(
        seen[0],
        json!({"type": "user_message", "from": "self", "id": 5, "message": {"body": "hello"},
               "botInfo": super::client::bot_info()})
    );
}

#[tokio::test]
async fn a_push_goes_where_it_is_told_to() {
    let (sandbox, control) = start().await;
    let client = Client::signed_in(&sandbox, "alice").await;
    let offline = control.push("alice", Push::text("while away"));
    assert_eq!(offline.sockets, 0);
    let mut socket = client.connect_and_greet().await;
    let frame = r#"{ "type":"bot_response",  "messageId":"ms-x", "message":[{"type":"text","cInfo":{"body":"A\u00e4"}}] }"#;
    assert_eq!(control.push("alice", Push::frame(frame)).message_id.as_deref(), Some("ms-x"));
    assert_eq!(socket.bytes().await, frame);
    control.push("alice", Push::text("live").live_only());
    control.push("alice", Push::text("lost").history_only());
    assert_eq!(socket.drain().await.iter().map(text_of).collect::<Vec<_>>(), ["live"]);
    let texts: Vec<_> = control.history("alice").into_iter().map(|item| item.text).collect();
    assert_eq!(texts, ["while away", "Welcome to the sandbox.", "Aä", "lost"]);
}

#[tokio::test]
async fn raw_bytes_go_out_as_they_are() {
    let (sandbox, control) = start().await;
    let mut socket = Client::signed_in(&sandbox, "alice").await.connect_and_greet().await;
    assert_eq!(control.push_raw("alice", "not json"), 1);
    assert_eq!(socket.frame().await, Message::text("not json"));
    control.push_raw("alice", &b"\xff\x00"[..]);
    assert_eq!(socket.frame().await, Message::binary(&b"\xff\x00"[..]));
    control.push_binary("alice", "{}");
    assert_eq!(socket.frame().await, Message::binary(&b"{}"[..]));
    assert_eq!(control.push_raw("bob", "x"), 0);
}

#[tokio::test]
async fn tens_of_thousands_of_pushes_arrive_in_order_and_what_is_kept_is_bounded() {
    const PUSHES: usize = 30_000;
    let (sandbox, control) = start().await;
    let mut socket = Client::signed_in(&sandbox, "alice").await.connect_and_greet().await;
    for i in 0..PUSHES {
        control.push("alice", Push::text(i.to_string()));
    }
    for i in 0..PUSHES {
        assert_eq!(text_of(&socket.json().await), i.to_string());
    }
    assert_eq!(control.history("alice").len(), SandboxOptions::default().kept);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_reset_at_last() {
    let options = SandboxOptions { max_queued: 8 * 1024 * 1024, ..SandboxOptions::default() };
    let sandbox = Sandbox::start(options).await.unwrap();
    let control = sandbox.control();
    let _socket = Client::signed_in(&sandbox, "alice").await.connect_and_greet().await;
    let big = "x".repeat(1024 * 1024);
    for _ in 0..64 {
        control.push_raw("alice", big.clone());
    }
    soon(control.wait_connected("alice", 0)).await;
}

#[tokio::test]
async fn a_silent_bot_leaves_the_talking_to_the_control_api() {
    let (sandbox, control) = start_with(Settings { bot: BotScript::Silent, ..Settings::default() }).await;
    let mut socket = Client::signed_in(&sandbox, "alice").await.connect_and_greet().await;
    socket.send(&message(1, "agent")).await;
    assert_eq!(types(&socket.drain().await), ["ack"]);
    assert_eq!(control.history("alice").len(), 2);
}

#[tokio::test]
async fn an_oversized_message_closes_with_1009() {
    let (sandbox, control) = start_with(Settings { max_frame: 1000, ..Settings::default() }).await;
    let mut socket = Client::signed_in(&sandbox, "alice").await.connect_and_greet().await;
    socket.send(&message(1, &"x".repeat(1000))).await;
    assert_eq!(socket.end_code().await, 1009);
    assert_eq!(control.history("alice").len(), 1);
}

#[tokio::test]
async fn text_that_is_not_utf8_closes_with_1007() {
    let (sandbox, _control) = start().await;
    let mut socket = Client::signed_in(&sandbox, "alice").await.connect_and_greet().await;
    let text = OpCode::Data(Data::Text);
    socket.send_frame(Message::Frame(Frame::message(&b"\xff"[..], text, true))).await;
    assert_eq!(socket.end_code().await, 1007);
}

#[tokio::test]
async fn what_comes_after_the_platform_closed_is_nothing_to_it() {
    let (sandbox, control) = start().await;
    let mut socket = Client::signed_in(&sandbox, "alice").await.connect_and_greet().await;
    control.end_sockets("alice", &SocketEnd::close(1011));
    // Sent before the close frame is read.
    socket.send(&message(1, "too late")).await;
    assert_eq!(socket.end_code().await, 1011);
    assert!(control.frames("alice").is_empty());
    assert_eq!(control.history("alice").len(), 1);
}

#[tokio::test]
async fn the_history_pages_as_set() {
    let (sandbox, control) = start().await;
    let client = Client::signed_in(&sandbox, "alice").await;
    for i in 0..5 {
        control.push("alice", Push::text(i.to_string()));
    }
    let texts = |body: &Value| -> Vec<String> {
        let messages = body["messages"].as_array().unwrap();
        messages.iter().map(|m| m["components"][0]["data"]["text"].as_str().unwrap().to_owned()).collect()
    };
    let page = client.history("&limit=2").await.body;
    assert_eq!(
        (texts(&page), &page["moreAvailable"], &page["total"]),
        (vec!["3".into(), "4".into()], &json!(true), &json!(5))
    );
    let page = client.history("&limit=2&offset=4").await.body;
    assert_eq!((texts(&page), &page["moreAvailable"]), (vec!["0".into()], &json!(false)));
    let id = control.history("alice")[2].id.clone();
    let page = client.history(&format!("&limit=10&forward=true&msgId={id}")).await.body;
    assert_eq!(texts(&page), ["3", "4"]);
    control.configure(|settings| (settings.page_order, settings.max_page) = (PageOrder::NewestFirst, 3));
    assert_eq!(texts(&client.history("&limit=50").await.body), ["4", "3", "2"]);
}

#[tokio::test]
async fn two_bots_keep_a_user_apart() {
    let other = App {
        client_id: "cs-2".into(),
        client_secret: "second secret of thirty-two bytes".into(),
        bot_name: "Other".into(),
        bot_id: "st-2".into(),
    };
    let options = SandboxOptions { apps: vec![App::default(), other], ..SandboxOptions::default() };
    let sandbox = Sandbox::start(options).await.unwrap();
    let control = sandbox.control();
    Client::signed_in(&sandbox, "alice").await;
    control.for_bot("st-2").push("alice", Push::text("for the other"));
    assert!(control.for_bot(&App::default().bot_id).history("alice").is_empty());
    assert_eq!(control.for_bot("st-2").history("alice").len(), 1);
    assert_eq!(control.history("alice").len(), 1);
}

#[tokio::test]
async fn a_reset_forgets_everything() {
    let (sandbox, control) = start().await;
    let client = Client::signed_in(&sandbox, "alice").await;
    let mut socket = client.connect_and_greet().await;
    control.configure(|settings| settings.welcome = None);
    control.reset();
    assert!(matches!(socket.end().await, End::Eof | End::Broken(_)));
    assert_eq!(client.rtm_start().await.status, 401);
    assert!(control.history("alice").is_empty());
    assert_eq!(control.connects("alice"), 0);
    assert!(control.settings().welcome.is_some());
}

#[tokio::test]
async fn shutdown_ends_everything_that_is_open() {
    let (sandbox, control) = start().await;
    let client = Client::signed_in(&sandbox, "alice").await;
    let mut socket = client.connect_and_greet().await;
    let half_open = client.connect_and_greet().await;
    control.end_sockets("alice", &SocketEnd::HalfOpen);
    let base = client.base.clone();
    soon(sandbox.shutdown()).await;
    assert!(matches!(socket.end().await, End::Eof | End::Broken(_)));
    drop(half_open);
    assert!(client.http.get(base).send().await.unwrap_err().is_connect());
}

#[tokio::test]
async fn the_control_api_does_over_http_what_the_handle_does() {
    let (sandbox, control) = start().await;
    let client = Client::signed_in(&sandbox, "alice@example.com").await;
    let mut socket = client.connect_and_greet().await;
    let users = |path: &str| client.url(&format!("/sandbox/users/alice%40example.com/{path}"));
    let pushed = send(client.http.post(users("push")).body(r#"{"text":"hello"}"#)).await.body;
    assert_eq!(pushed["sockets"], 1);
    let frame = r#"{"type" : "events", "text":"kept as it is"}"#;
    assert_eq!(send(client.http.post(users("push?record=false")).body(frame)).await.status, 200);
    assert_eq!(text_of(&socket.json().await), "hello");
    assert_eq!(socket.bytes().await, frame);
    assert_eq!(send(client.http.post(users("push")).body("nonsense")).await.status, 400);

    let connections = send(client.http.get(client.url("/sandbox/connections"))).await.body;
    assert_eq!(connections[0]["user"], "alice@example.com");
    assert!(connections[0]["query"].as_str().unwrap().starts_with("sid="));
    socket.send(&message(9, "silent")).await;
    soon(control.wait_messages("alice@example.com", 1)).await;
    let frames = send(client.http.get(client.url("/sandbox/frames?user=alice%40example.com"))).await.body;
    assert_eq!((&frames[0]["kind"], &frames[0]["frame"]["id"]), (&json!("message"), &json!(9)));
    let requests = send(client.http.get(client.url("/sandbox/requests"))).await.body;
    assert_eq!((&requests["jwtgrant"]["count"], &requests["upgrade"]["count"]), (&json!(1), &json!(1)));

    let patch = client.http.patch(client.url("/sandbox/settings")).body(r#"{"bot":"silent","welcome":null}"#);
    assert_eq!(send(patch).await.body["bot"], "silent");
    assert_eq!(
        send(client.http.patch(client.url("/sandbox/settings")).body(r#"{"bto":1}"#)).await.status,
        400
    );
    let faults = r#"[{"fault":"lost-ack","times":"always"},{"fault":"hang","at":"history"}]"#;
    let listed = send(client.http.post(client.url("/sandbox/faults")).body(faults)).await.body;
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(send(client.http.delete(client.url("/sandbox/faults"))).await.status, 200);
    assert!(control.faults().is_empty());

    assert_eq!(send(client.http.post(users("revoke"))).await.body["tokens"], 1);
    assert_eq!(send(client.http.post(users("explode"))).await.status, 404);
    assert_eq!(send(client.http.post(users("close?code=1006"))).await.status, 400);
    assert_eq!(send(client.http.post(users("close?code=1012&reason=restart"))).await.body["connections"], 1);
    assert_eq!(socket.end_code().await, 1012);
    assert_eq!(send(client.http.post(client.url("/sandbox/reset"))).await.status, 200);
    assert_eq!(send(client.http.get(client.url("/sandbox"))).await.body["apps"][0]["botName"], "Sandbox Bot");
}
