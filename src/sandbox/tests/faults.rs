//! What goes wrong on demand, as a client sees it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, error::ProtocolError};

use super::client::{Client, End, Socket, message, send, soon, start, text_of};
use crate::sandbox::{
    Direction, Endpoint, Fault, FaultKind, Push, Sandbox, SandboxControl, SocketEnd, Taken,
};

async fn connected(sandbox: &Sandbox) -> (Client, Socket) {
    let client = Client::signed_in(sandbox, "alice").await;
    let socket = client.connect_and_greet().await;
    (client, socket)
}

fn incoming(control: &SandboxControl) -> usize {
    control.history("alice").iter().filter(|item| item.direction == Direction::Incoming).count()
}

fn kinds(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|frame| frame["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_dropped_connection_ends_without_a_close_frame() {
    let (sandbox, control) = start().await;
    let (client, mut socket) = connected(&sandbox).await;
    assert_eq!(control.end_sockets("alice", &SocketEnd::Drop), 1);
    assert!(control.connections().is_empty());
    let end = socket.end().await;
    let without_close = tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake);
    assert!(matches!(&end, End::Broken(error) if error.to_string() == without_close.to_string()), "{end:?}");
    let _again = client.connect("&isReconnect=true").await;
    soon(control.wait_connects("alice", 2)).await;
    soon(control.wait_connected("alice", 1)).await;
}

#[tokio::test]
async fn a_reset_connection_is_reset() {
    let (sandbox, control) = start().await;
    let (_client, mut socket) = connected(&sandbox).await;
    control.end_sockets("alice", &SocketEnd::Reset);
    let end = socket.end().await;
    assert!(
        matches!(&end, End::Broken(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::ConnectionReset),
        "{end:?}"
    );
}

#[tokio::test]
async fn a_close_comes_after_what_was_sent_before() {
    let (sandbox, control) = start().await;
    let (_client, mut socket) = connected(&sandbox).await;
    control.push("alice", Push::text("last words"));
    control.end_sockets("alice", &SocketEnd::Close { code: 1011, reason: "boom".into() });
    assert_eq!(control.push("alice", Push::text("too late")).sockets, 0);
    assert_eq!(text_of(&socket.json().await), "last words");
    assert_eq!(socket.end_code().await, 1011);
}

#[tokio::test]
async fn a_half_open_connection_neither_answers_nor_sends() {
    let (sandbox, control) = start().await;
    let (client, mut socket) = connected(&sandbox).await;
    control.end_sockets("alice", &SocketEnd::HalfOpen);
    assert!(control.connections().is_empty());
    socket.send(&json!({"type": "ping", "id": 1})).await;
    assert_eq!(control.push("alice", Push::text("unheard")).sockets, 0);
    // A second connection of the user works meanwhile; the first has got nothing when it ends.
    let mut again = client.connect("&isReconnect=true").await;
    again.drain().await;
    assert_eq!(control.end_sockets("alice", &SocketEnd::Drop), 2);
    assert!(matches!(socket.end().await, End::Broken(_) | End::Eof));
    assert_eq!(control.frames("alice").len(), 0);
}

#[tokio::test]
async fn a_connection_can_end_as_soon_as_it_is_open() {
    let (sandbox, control) = start().await;
    let client = Client::signed_in(&sandbox, "alice").await;
    control.inject(Fault::once(FaultKind::OnConnect { end: SocketEnd::close(1008) }));
    assert_eq!(client.connect("").await.end_code().await, 1008);
    let mut socket = client.connect("").await;
    assert_eq!(socket.json().await["type"], "bot_active");
    assert_eq!(control.connects("alice"), 2);
}

#[tokio::test]
async fn endpoints_refuse_as_told() {
    let (sandbox, control) = start().await;
    let client = Client::signed_in(&sandbox, "alice").await;
    let refuse = |at, status, retry_after: Option<&str>| {
        Fault::once(FaultKind::Refuse { at, status, retry_after: retry_after.map(str::to_owned) })
    };
    control.inject(refuse(Endpoint::Jwtgrant, 403, None));
    control.inject(refuse(Endpoint::RtmStart, 503, Some("7")).for_user("alice"));
    control.inject(refuse(Endpoint::RtmStart, 401, None));
    control.inject(refuse(Endpoint::History, 429, Some("1")));
    assert_eq!(client.grant().await.status, 403);
    let answer = client.rtm_start().await;
    assert_eq!((answer.status, answer.retry_after.as_deref()), (503, Some("7")));
    assert_eq!(client.rtm_start().await.body["errors"][0]["code"], "TOKEN_EXPIRED");
    assert_eq!(client.history("").await.retry_after.as_deref(), Some("1"));
    assert_eq!((client.rtm_start().await.status, client.history("").await.status), (200, 200));
    // A refused handshake doesn't use the sid up.
    control.inject(refuse(Endpoint::Upgrade, 503, None));
    let url = client.socket_url().await;
    assert!(matches!(Socket::open(&url).await, Err(tungstenite::Error::Http(r)) if r.status() == 503));
    assert!(Socket::open(&url).await.is_ok());
}

#[tokio::test]
async fn a_fault_for_one_user_leaves_others_alone() {
    let (sandbox, control) = start().await;
    let alice = Client::signed_in(&sandbox, "alice").await;
    let bob = Client::signed_in(&sandbox, "bob").await;
    control.inject(Fault::always(FaultKind::RateLimit { retry_after: Some("3".into()) }).for_user("alice"));
    assert_eq!(bob.rtm_start().await.status, 200);
    let answer = alice.rtm_start().await;
    assert_eq!((answer.status, answer.retry_after.as_deref()), (429, Some("3")));
    assert_eq!(control.requests_of("bob", Endpoint::RtmStart).len(), 1);
    soon(control.wait_requests_of("alice", Endpoint::RtmStart, 1)).await;
    control.clear_faults();
    soon(control.wait_faults_over()).await;
    assert_eq!(alice.rtm_start().await.status, 200);
}

#[tokio::test]
async fn a_hanging_endpoint_answers_nobody_until_shutdown() {
    let (sandbox, control) = start().await;
    let client = Client::signed_in(&sandbox, "alice").await;
    control.inject(Fault::once(FaultKind::Hang { at: Endpoint::RtmStart }));
    let request = client.http.post(client.url("/api/rtm/start")).bearer_auth(&client.token).send();
    let hanging = tokio::spawn(request);
    soon(control.wait_requests(Endpoint::RtmStart, 1)).await;
    assert_eq!(client.rtm_start().await.status, 200);
    assert!(!hanging.is_finished());
    soon(sandbox.shutdown()).await;
    let ended = soon(hanging).await.unwrap();
    assert!(ended.is_err_and(|error| !error.is_timeout()));
}

#[tokio::test]
async fn a_delayed_endpoint_answers_late() {
    let (sandbox, control) = start().await;
    let client = Client::signed_in(&sandbox, "alice").await;
    control.inject(Fault::once(FaultKind::Delay { at: Endpoint::History, ms: 80 }));
    let asked = std::time::Instant::now();
    assert_eq!(client.history("").await.status, 200);
    assert!(asked.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn acks_get_lost_come_late_or_say_no() {
    let (sandbox, control) = start().await;
    let (_client, mut socket) = connected(&sandbox).await;
    for (fault, expected, recorded) in [
        (FaultKind::LostAck, &["bot_response"][..], 1),
        (FaultKind::LostMessage, &[], 1),
        (FaultKind::AckAfterReply, &["bot_response", "ack"], 2),
        (FaultKind::NegativeAck, &["ack"], 2),
    ] {
        control.inject(Fault::once(fault.clone()));
        socket.send(&message(7, "hi")).await;
        let frames = socket.drain().await;
        assert_eq!(kinds(&frames), expected, "{fault:?}");
        assert_eq!(incoming(&control), recorded, "{fault:?}");
        let refused = frames.iter().any(|frame| frame["ok"] == false && frame["replyto"] == 7);
        assert_eq!(refused, fault == FaultKind::NegativeAck);
    }
    control.inject(Fault::once(FaultKind::DelayedAck { ms: 30 }));
    socket.send(&message(8, "hi")).await;
    assert_eq!(socket.json().await["type"], "bot_response");
    assert_eq!(socket.json().await, json!({"ok": true, "replyto": 8, "type": "ack"}));
    // All were received, whatever became of them.
    assert_eq!(soon(control.wait_messages("alice", 5)).await.len(), 5);
}

#[tokio::test]
async fn a_late_answer_can_be_followed_by_its_ack() {
    let (sandbox, control) = start().await;
    let (_client, mut socket) = connected(&sandbox).await;
    control.inject(Fault::once(FaultKind::AckAfterReply));
    socket.send(&message(1, "slow 20")).await;
    assert_eq!(socket.json().await["type"], "bot_response");
    assert_eq!(socket.json().await["type"], "ack");
}

#[tokio::test]
async fn a_connection_can_end_before_the_ack_with_the_message_taken_or_not() {
    let (sandbox, control) = start().await;
    let client = Client::signed_in(&sandbox, "alice").await;
    for (taken, recorded) in [(Taken::Yes, 1), (Taken::No, 1)] {
        let mut socket = client.connect("&isReconnect=true").await;
        socket.json().await;
        control.inject(Fault::once(FaultKind::EndBeforeAck { taken, end: SocketEnd::close(1011) }));
        socket.send(&message(1, "hi")).await;
        assert_eq!(socket.end_code().await, 1011);
        assert_eq!(incoming(&control), recorded, "{taken:?}");
    }
    let mut socket = client.connect("&isReconnect=true").await;
    socket.json().await;
    control.inject(Fault::once(FaultKind::EndBeforeAck { taken: Taken::Yes, end: SocketEnd::Drop }));
    socket.send(&message(2, "hi")).await;
    assert!(matches!(socket.end().await, End::Broken(_)));
    assert_eq!(control.history("alice").last().unwrap().text, "echo: hi");
}

#[tokio::test]
async fn a_rate_limit_closes_with_1008() {
    let (sandbox, control) = start().await;
    let (_client, mut socket) = connected(&sandbox).await;
    control.inject(Fault::once(FaultKind::RateLimit { retry_after: None }));
    socket.send(&message(1, "hi")).await;
    assert_eq!(socket.end_code().await, 1008);
    assert_eq!(incoming(&control), 0);
}

#[tokio::test]
async fn events_are_duplicated_lost_or_preceded_by_rubbish() {
    let (sandbox, control) = start().await;
    let (_client, mut socket) = connected(&sandbox).await;
    control.inject(Fault::once(FaultKind::Duplicate));
    control.inject(Fault::once(FaultKind::LostPush));
    control.inject(Fault::once(FaultKind::Malformed));
    for text in ["one", "two", "three"] {
        control.push("alice", Push::text(text));
    }
    let (first, second) = (socket.bytes().await, socket.bytes().await);
    assert_eq!(first, second);
    assert_eq!(socket.bytes().await, "not json");
    assert_eq!(text_of(&socket.json().await), "three");
    let texts: Vec<_> = control.history("alice").into_iter().skip(1).map(|item| item.text).collect();
    assert_eq!(texts, ["one", "two", "three"]);
}

#[tokio::test]
async fn a_fault_of_events_waits_for_somebody_to_be_connected() {
    let (sandbox, control) = start().await;
    control.inject(Fault::once(FaultKind::LostPush));
    control.push("alice", Push::text("nobody there"));
    assert_eq!(control.faults().len(), 1);
    let client = Client::signed_in(&sandbox, "alice").await;
    let mut socket = client.connect("&isReconnect=true").await;
    socket.json().await;
    assert_eq!(control.push("alice", Push::text("lost")).sockets, 0);
    assert_eq!(control.push("alice", Push::text("not lost")).sockets, 1);
}

#[tokio::test]
async fn an_outage_refuses_connections_until_it_is_over() {
    let (sandbox, control) = start().await;
    let (client, _socket) = connected(&sandbox).await;
    soon(control.stop_listening()).await;
    control.end_all_sockets(&SocketEnd::Reset);
    let fresh = Client::new(&sandbox, "alice");
    let refused = fresh.http.get(fresh.url("/sandbox")).send().await.unwrap_err();
    assert!(refused.is_connect(), "{refused}");
    soon(control.listen_again()).await;
    assert_eq!(send(fresh.http.get(fresh.url("/sandbox"))).await.status, 200);
    // What was granted before is still good.
    assert_eq!(client.rtm_start().await.status, 200);
}
