//! Connections that drop, and what comes on them.

use std::time::Duration;

use rtm_bridge::{
    sandbox::{Endpoint, Fault, FaultKind, Push, SocketEnd},
    users::ConnectionState,
};

use crate::support::{Bridge, sandbox, soon};

#[tokio::test]
async fn a_restart_costs_no_sign_in_and_no_second_welcome() {
    let (sandbox, control) = sandbox().await;
    let mut bridge = Bridge::start(&sandbox, &["alice"]);
    bridge.event_saying("Welcome to the sandbox").await;
    let mut bridge = bridge.restart().await;
    soon(control.wait_connects("alice", 2)).await;
    let connection = soon(control.wait_connected("alice", 1)).await.remove(0);
    assert!(connection.query.contains("isReconnect=true"), "{}", connection.query);
    assert_eq!(control.request_count(Endpoint::Jwtgrant), 1);
    control.push("alice", Push::text("marker"));
    loop {
        let event = bridge.event().await;
        let text = String::from_utf8_lossy(&event.frame).into_owned();
        assert!(!text.contains("Welcome to the sandbox"), "{text}");
        if text.contains("marker") {
            break;
        }
    }
}

#[tokio::test]
async fn every_connect_has_a_url_of_its_own() {
    let (sandbox, control) = sandbox().await;
    let bridge = Bridge::start(&sandbox, &["alice"]);
    for connects in 1..=4 {
        soon(control.wait_connects("alice", connects)).await;
        soon(control.wait_connected("alice", 1)).await;
        bridge.wait_state("alice", ConnectionState::Connected).await;
        control.end_sockets("alice", &SocketEnd::Reset);
    }
    assert!(control.request_count(Endpoint::RtmStart) >= 4);
    assert_eq!(control.request_count(Endpoint::Jwtgrant), 1);
}

#[tokio::test]
async fn a_half_open_socket_is_replaced() {
    let (sandbox, control) = sandbox().await;
    let bridge = Bridge::start_with(&sandbox, &["alice"], |config| {
        config.platform.ping_interval = Duration::from_millis(100);
        config.platform.pong_timeout = Duration::from_millis(100);
    });
    bridge.wait_state("alice", ConnectionState::Connected).await;
    control.end_sockets("alice", &SocketEnd::HalfOpen);
    soon(control.wait_connects("alice", 2)).await;
}

#[tokio::test]
async fn a_platform_that_comes_back_gets_everyone_back() {
    let (sandbox, control) = sandbox().await;
    let names: Vec<String> = (0..20).map(|n| format!("user{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let bridge = Bridge::start(&sandbox, &names);
    for name in &names {
        bridge.wait_state(name, ConnectionState::Connected).await;
    }
    control.stop_listening().await;
    control.end_all_sockets(&SocketEnd::Reset);
    for name in &names {
        bridge.wait_state(name, ConnectionState::BackingOff).await;
    }
    control.listen_again().await;
    for name in &names {
        bridge.wait_state(name, ConnectionState::Connected).await;
    }
}

#[tokio::test]
async fn what_is_no_frame_is_skipped_and_what_follows_is_not() {
    let (sandbox, control) = sandbox().await;
    let mut bridge = Bridge::start(&sandbox, &["alice"]);
    soon(control.wait_connected("alice", 1)).await;
    control.inject(Fault::once(FaultKind::Malformed));
    control.push("alice", Push::text("after the nonsense"));
    bridge.event_saying("after the nonsense").await;
    assert_eq!(bridge.supervisor.counters().frames_rejected.not_json.get(), 1);
}

#[tokio::test]
async fn a_suspended_bot_is_not_hammered() {
    let (sandbox, control) = sandbox().await;
    let bridge = Bridge::start(&sandbox, &["alice", "bob"]);
    bridge.wait_state("alice", ConnectionState::Connected).await;
    control.end_sockets("alice", &SocketEnd::close(1008));
    bridge.wait_state("alice", ConnectionState::BackingOff).await;
    // Bob's is the clock: he is dropped, and comes back, several times meanwhile.
    for connects in 1..=4 {
        soon(control.wait_connects("bob", connects)).await;
        bridge.wait_state("bob", ConnectionState::Connected).await;
        control.end_sockets("bob", &SocketEnd::Drop);
        bridge.wait_state("bob", ConnectionState::BackingOff).await;
    }
    assert_eq!(control.connects("alice"), 1);
    assert!(bridge.user("alice").status().last_error.unwrap().contains("1008"));
}

#[tokio::test]
async fn the_end_closes_every_socket() {
    let (sandbox, control) = sandbox().await;
    let bridge = Bridge::start(&sandbox, &["alice", "bob"]);
    for name in ["alice", "bob"] {
        bridge.wait_state(name, ConnectionState::Connected).await;
    }
    let goodbye = bridge.supervisor.shutdown().await;
    assert_eq!(goodbye, rtm_bridge::rtm::supervisor::Goodbye::Complete);
    assert!(control.connections().is_empty());
}

#[tokio::test]
async fn one_user_can_go_and_come_back_while_the_others_stay() {
    let (sandbox, control) = sandbox().await;
    let bridge = Bridge::start(&sandbox, &["alice", "bob"]);
    for name in ["alice", "bob"] {
        bridge.wait_state(name, ConnectionState::Connected).await;
    }
    let alice = bridge.user("alice");
    soon(bridge.supervisor.remove(&alice.name)).await;
    soon(control.wait_connected("bob", 1)).await;
    assert!(control.connections_of("alice").is_empty());
    bridge.supervisor.add(&bridge.config, &alice).unwrap();
    soon(control.wait_connects("alice", 2)).await;
    assert_eq!(control.connects("bob"), 1);
}
