//! The newer ways of signing in: the secure handshake, keys, a token service, anonymous users.

use std::time::Duration;

use rtm_bridge::{
    config::{
        Config, Credentials, Identity, PrivateKey, RsaAlgorithm, Secret, TokenService, TokenServiceBody,
    },
    sandbox::{App, Endpoint, Fault, FaultKind, SandboxControl, Settings, SocketEnd, SubprotocolChoice},
    users::{Command, ConnectionState},
};

use crate::support::{Bridge, sandbox, sandbox_with, soon};

const PRIVATE_KEY: &str = include_str!("../../src/config/fixtures/signing-pkcs8.pem");

fn secure(config: &mut Config) {
    config.platform.secure_handshake = true;
}

fn credentials(config: &mut Config) -> &mut Credentials {
    &mut config.bots.values_mut().next().unwrap().credentials
}

fn last_error(bridge: &Bridge) -> String {
    bridge.user("alice").status().last_error.expect("something went wrong")
}

// ---- The secure handshake.

#[tokio::test]
async fn every_socket_is_opened_with_a_nonce_and_a_jwt_that_is_still_good() {
    for choice in [SubprotocolChoice::Version, SubprotocolChoice::Last] {
        let settings = Settings { fresh_handshake_jwt: true, subprotocol: choice, ..Settings::default() };
        let (sandbox, control) = sandbox_with(settings).await;
        let bridge = Bridge::start_with(&sandbox, &["alice"], |config| {
            secure(config);
        });
        bridge.wait_state("alice", ConnectionState::Connected).await;
        // What signed the user in expires, by the platform's clock.
        control.configure(|settings| settings.clock_skew_ms = 3_600_000);
        control.end_sockets("alice", &SocketEnd::Drop);
        soon(control.wait_connects("alice", 2)).await;
        // Who is asked to while it connects has nothing to do.
        bridge.wait_state("alice", ConnectionState::Connected).await;
        bridge.user("alice").mailbox.post(Command::Reconnect);
        soon(control.wait_connects("alice", 3)).await;
        let id = bridge.accept("alice", "Hello").await;
        assert_eq!(bridge.fate("alice", id).await.status, rtm_bridge::messages::MessageStatus::Acked);
        assert_eq!(control.request_count(Endpoint::Jwtgrant), 1, "only the handshake took a new JWT");
    }
}

#[tokio::test]
async fn a_platform_that_does_not_know_the_secure_handshake_is_told_of_and_not_hammered() {
    for (settings, starts) in [
        (Settings { secure_handshake: false, ..Settings::default() }, Endpoint::RtmStart),
        (Settings { subprotocol: SubprotocolChoice::None, ..Settings::default() }, Endpoint::Upgrade),
    ] {
        let (sandbox, control) = sandbox_with(settings).await;
        let bridge = Bridge::start_with(&sandbox, &["alice"], secure);
        bridge.wait_state("alice", ConnectionState::BackingOff).await;
        let error = last_error(&bridge);
        assert!(error.contains("does not know the secure handshake"), "{error}");
        assert!(error.contains("set platform.secure_handshake = false"), "{error}");
        // At the pace of refused credentials, which is a minute here.
        assert_eq!(control.request_count(starts), 1);
        assert_eq!(bridge.supervisor.counters().connects.refused.get(), 1);
    }
}

#[tokio::test]
async fn without_being_told_so_nothing_of_it_is_done() {
    let (sandbox, control) = sandbox().await;
    let bridge = Bridge::start(&sandbox, &["alice"]);
    bridge.wait_state("alice", ConnectionState::Connected).await;
    assert_eq!(control.connects("alice"), 1);
}

// ---- Keys.

fn with_key(algorithm: RsaAlgorithm) -> impl FnOnce(&mut Config) {
    move |config| {
        let key = PrivateKey::from_pem(PRIVATE_KEY).unwrap();
        *credentials(config) = Credentials::PrivateKey { key, algorithm };
        secure(config);
    }
}

fn trust_key(control: &SandboxControl) {
    let key = PrivateKey::from_pem(PRIVATE_KEY).unwrap();
    control.trust_public_key(&App::default().client_id, key.public_key());
}

#[tokio::test]
async fn a_private_key_signs_users_in_once_the_platform_has_its_public_half() {
    for algorithm in [RsaAlgorithm::Rs256, RsaAlgorithm::Rs512] {
        let (sandbox, control) = sandbox().await;
        let bridge = Bridge::start_with(&sandbox, &["alice"], with_key(algorithm));
        bridge.wait_state("alice", ConnectionState::Unauthorized).await;
        let error = last_error(&bridge);
        assert!(error.contains("private_key") && error.contains("invalid algorithm"), "{error}");
        trust_key(&control);
        bridge.user("alice").mailbox.post(Command::Reconnect);
        bridge.wait_state("alice", ConnectionState::Connected).await;
    }
}

// ---- A token service.

/// The sandbox's own.
fn service(config: &Config) -> TokenService {
    TokenService {
        url: config.platform.url.join("/sandbox/sts").unwrap(),
        bearer: None,
        headers: Vec::new(),
        body: TokenServiceBody::Json,
        fields: vec![("clientSecret".into(), Secret::new(App::default().client_secret))],
        jwt_field: "jwt".into(),
    }
}

fn with_service(change: impl FnOnce(&mut TokenService)) -> impl FnOnce(&mut Config) {
    move |config| {
        let mut service = service(config);
        change(&mut service);
        *credentials(config) = Credentials::TokenService(service);
    }
}

#[tokio::test]
async fn a_token_service_is_asked_for_each_sign_in_and_each_secure_socket() {
    for body in [TokenServiceBody::Json, TokenServiceBody::Form] {
        let (sandbox, control) = sandbox().await;
        let bridge = Bridge::start_with(&sandbox, &["alice"], |config| {
            with_service(|service| service.body = body)(config);
            secure(config);
        });
        bridge.wait_state("alice", ConnectionState::Connected).await;
        assert_eq!(control.requests_of("alice", Endpoint::Sts).len(), 2);
        control.revoke("alice");
        control.end_sockets("alice", &SocketEnd::Drop);
        soon(control.wait_connects("alice", 2)).await;
        assert_eq!(control.requests_of("alice", Endpoint::Sts).len(), 4);
    }
}

#[tokio::test]
async fn a_token_services_trouble_is_told_and_waited_out() {
    let at = Endpoint::Sts;
    let refuse = |status, retry_after: Option<&str>| FaultKind::Refuse {
        at,
        status,
        retry_after: retry_after.map(str::to_owned),
    };
    for (fault, state, words) in [
        (refuse(503, None), ConnectionState::BackingOff, "the token service is in trouble (503)"),
        (refuse(404, None), ConnectionState::BackingOff, "the token service refused the request (404)"),
        (FaultKind::Hang { at }, ConnectionState::BackingOff, "no answer in time"),
        (refuse(403, None), ConnectionState::Unauthorized, "check bearer, headers and fields"),
        (refuse(429, Some("600")), ConnectionState::BackingOff, "to be tried again in 600 s"),
    ] {
        let (sandbox, control) = sandbox().await;
        control.inject(Fault::once(fault.clone()));
        let bridge = Bridge::start_with(&sandbox, &["alice"], |config| {
            with_service(|_| {})(config);
            config.platform.request_timeout = Duration::from_millis(500);
        });
        bridge.wait_state("alice", state).await;
        let error = last_error(&bridge);
        assert!(error.starts_with("asking the token service (sts) for a JWT: "), "{error}");
        assert!(error.contains(words), "{error}");
        assert_eq!(control.request_count(Endpoint::Jwtgrant), 0, "{error}");
        if matches!(state, ConnectionState::BackingOff) && !error.contains("600 s") {
            bridge.wait_state("alice", ConnectionState::Connected).await;
        }
    }
}

#[tokio::test]
async fn a_token_service_that_says_to_wait_leaves_the_bots_pace_alone() {
    let (sandbox, control) = sandbox().await;
    let refused = FaultKind::Refuse { at: Endpoint::Sts, status: 429, retry_after: Some("600".to_owned()) };
    control.inject(Fault::once(refused).for_user("alice"));
    let bridge = Bridge::start_with(&sandbox, &["alice", "bob"], with_service(|_| {}));
    bridge.wait_state("alice", ConnectionState::BackingOff).await;
    bridge.wait_state("bob", ConnectionState::Connected).await;
}

#[tokio::test]
async fn a_token_service_that_refuses_the_bridge_is_not_asked_in_a_loop_and_shows_no_secret() {
    let (sandbox, control) = sandbox().await;
    let bridge = Bridge::start_with(
        &sandbox,
        &["alice"],
        with_service(|service| service.fields[0].1 = Secret::new("a-wrong-one")),
    );
    bridge.wait_state("alice", ConnectionState::Unauthorized).await;
    assert!(!last_error(&bridge).contains("a-wrong-one"), "{}", last_error(&bridge));
    assert_eq!(control.request_count(Endpoint::Sts), 1);
}

// ---- Nobody in particular.

#[tokio::test]
async fn an_anonymous_user_is_the_same_after_a_restart_and_no_two_are() {
    let (sandbox, control) = sandbox().await;
    let bridge = Bridge::start_with(&sandbox, &["guest", "visitor", "alice"], |config| {
        for name in ["guest", "visitor"] {
            config.users.get_mut(name).unwrap().identity = Identity::Anonymous(None);
        }
    });
    for user in ["guest", "visitor", "alice"] {
        bridge.wait_state(user, ConnectionState::Connected).await;
    }
    let made = control.identities();
    assert_eq!(made.len(), 3, "{made:?}");
    for identity in &made {
        assert_eq!(control.is_anonymous(identity), identity != "alice", "{identity}");
        assert_eq!(control.connects(identity), 1);
    }
    let bridge = bridge.restart().await;
    for user in ["guest", "visitor", "alice"] {
        bridge.wait_state(user, ConnectionState::Connected).await;
    }
    assert_eq!(control.identities(), made);
    for identity in &made {
        assert_eq!(control.connects(identity), 2, "{identity}");
    }
    assert_eq!(control.request_count(Endpoint::Jwtgrant), 3, "their tokens are still good");
}

#[tokio::test]
async fn an_anonymous_user_may_have_an_identity_of_its_own() {
    let (sandbox, control) = sandbox().await;
    let bridge = Bridge::start_with(&sandbox, &["guest"], |config| {
        config.users.get_mut("guest").unwrap().identity = Identity::Anonymous(Some("kiosk-7".into()));
    });
    bridge.wait_state("guest", ConnectionState::Connected).await;
    assert_eq!(control.identities(), ["kiosk-7"]);
    assert!(control.is_anonymous("kiosk-7"));
}

// ---- A platform that wants more than TLS.

#[tokio::test]
async fn encryption_that_the_bridge_does_not_know_is_told_of_and_tried_again_slowly() {
    let (sandbox, control) = sandbox().await;
    let mut bridge = Bridge::start(&sandbox, &["alice"]);
    bridge.wait_state("alice", ConnectionState::Connected).await;
    // One that merely can is no reason to stop.
    control.push_raw("alice", r#"{"type":"protocol_capabilities","encryption":"optional"}"#);
    control.push_raw("alice", r#"{"type":"protocol_capabilities","v":1,"encryption":"required"}"#);
    bridge.wait_state("alice", ConnectionState::BackingOff).await;
    let error = last_error(&bridge);
    assert!(error.contains("requires this app's messages to be encrypted"), "{error}");
    assert!(error.contains("duplexEncryptionEnabled"), "{error}");
    bridge.event_saying("required").await;
    assert_eq!((control.connects("alice"), soon(control.wait_goodbyes("alice", 1)).await), (1, vec![1000]));
    bridge.user("alice").mailbox.post(Command::Reconnect);
    bridge.wait_state("alice", ConnectionState::Connected).await;
}
