//! Tokens, credentials, limits of the pace.

use std::time::{Duration, Instant};

use rtm_bridge::{
    sandbox::{Endpoint, Fault, FaultKind},
    users::{Command, ConnectionState},
};

use crate::support::{Bridge, sandbox, soon};

fn refuse(at: Endpoint, status: u16, retry_after: Option<&str>) -> FaultKind {
    FaultKind::Refuse { at, status, retry_after: retry_after.map(str::to_owned) }
}

#[tokio::test]
async fn a_revoked_token_is_replaced_once_and_at_once() {
    let (sandbox, control) = sandbox().await;
    let bridge = Bridge::start(&sandbox, &["alice"]);
    bridge.wait_state("alice", ConnectionState::Connected).await;
    control.revoke("alice");
    bridge.user("alice").mailbox.post(Command::Reconnect);
    soon(control.wait_connects("alice", 2)).await;
    assert_eq!(control.request_count(Endpoint::Jwtgrant), 2);
    bridge.wait_state("alice", ConnectionState::Connected).await;
}

#[tokio::test]
async fn refused_credentials_are_visible_and_tried_again_when_someone_asks() {
    let (sandbox, control) = sandbox().await;
    control.inject(Fault::once(refuse(Endpoint::Jwtgrant, 401, None)));
    let bridge = Bridge::start(&sandbox, &["alice"]);
    bridge.wait_state("alice", ConnectionState::Unauthorized).await;
    let error = bridge.user("alice").status().last_error.unwrap();
    assert!(error.contains("refused the credentials"), "{error}");
    assert_eq!(bridge.supervisor.counters().connects.unauthorized.get(), 1);
    bridge.user("alice").mailbox.post(Command::Reconnect);
    bridge.wait_state("alice", ConnectionState::Connected).await;
}

#[tokio::test]
async fn retry_after_holds_everyone_of_the_bot() {
    let (sandbox, control) = sandbox().await;
    control.inject(Fault::once(refuse(Endpoint::Jwtgrant, 429, Some("2"))).for_user("alice"));
    let began = Instant::now();
    let bridge = Bridge::start_with(&sandbox, &["alice", "bob"], |config| {
        // One request at a time, so that bob's second comes after alice's refusal.
        config.platform.request_rate = 5.0;
        config.platform.request_burst = 1;
    });
    bridge.wait_state("bob", ConnectionState::Connected).await;
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    bridge.wait_state("alice", ConnectionState::Connected).await;
}

#[tokio::test]
async fn trouble_at_the_platform_is_waited_out() {
    let (sandbox, control) = sandbox().await;
    control.inject(Fault::once(refuse(Endpoint::RtmStart, 503, None)));
    control.inject(Fault::once(refuse(Endpoint::Upgrade, 403, None)));
    let bridge = Bridge::start(&sandbox, &["alice"]);
    soon(control.wait_connected("alice", 1)).await;
    assert_eq!(control.request_count(Endpoint::Jwtgrant), 1, "neither says anything of the token");
    let counters = bridge.supervisor.counters();
    assert_eq!((counters.connects.failed.get(), counters.connects.refused.get()), (1, 1));
}

#[tokio::test]
async fn a_platform_whose_clock_is_far_off_lets_users_in() {
    let (sandbox, control) = sandbox().await;
    // Beyond an assertion's lifetime: the first one is refused, and its answer says what time it is.
    control.configure(|settings| settings.clock_skew_ms = 3_600_000);
    let bridge = Bridge::start(&sandbox, &["alice"]);
    bridge.wait_state("alice", ConnectionState::Connected).await;
    assert_eq!(control.request_count(Endpoint::Jwtgrant), 2);
}
