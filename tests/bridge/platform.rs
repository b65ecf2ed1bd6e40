//! The connection to the platform: signing in, reconnecting, and being polite about it.

use std::time::Duration;

use base64::Engine as _;
use rtm_bridge::{
    clock::Timestamp,
    config::{Config, Credentials, HmacAlgorithm, ReconnectQuery, Secret},
    names::{BotName, UserName},
    sandbox::{App, Endpoint, Fault, FaultKind, Push, Settings, SocketEnd},
};
use serde_json::{Value, json};

use crate::{
    front::Front,
    support::{ALICE, BOB, World, add_user, delivered, eventually, texts, within},
};

fn refuse(at: Endpoint, status: u16, retry_after: Option<&str>) -> FaultKind {
    FaultKind::Refuse { at, status, retry_after: retry_after.map(str::to_owned) }
}

impl World {
    fn grants(&self) -> u64 {
        self.control().request_count(Endpoint::Jwtgrant)
    }

    /// Has alice's connection end, and waits for the next one.
    async fn drop_connection(&self, end: &SocketEnd) {
        let connects = self.control().connects(ALICE);
        assert_eq!(self.control().end_sockets(ALICE, end), 1);
        within("the next connection", self.control().wait_connects(ALICE, connects + 1)).await;
        self.until_state(ALICE, "connected").await;
    }

    /// Bob loses his connection three times and comes back: time in which alice could do so as well.
    async fn bob_flaps(&self) {
        for _ in 0..3 {
            let connects = self.control().connects(BOB);
            assert_eq!(self.control().end_sockets(BOB, &SocketEnd::Drop), 1);
            within("bob's next connection", self.control().wait_connects(BOB, connects + 1)).await;
        }
    }

    async fn is_usable(&self, user: &str) {
        let id = self.send(user, "still there?").await;
        assert_eq!(self.final_status(user, id).await["status"], "acked");
    }
}

async fn alice_and_bob() -> World {
    let world = World::start_with(|config| add_user(config, BOB)).await;
    world.all_connected().await;
    world
}

/// Bob talks to another bot than alice, of the same app: what is wrong with one isn't with the other.
fn with_bobs_bot(config: &mut Config) {
    add_user(config, BOB);
    let name = BotName::new("other").unwrap();
    config.bots.insert(name.clone(), config.bots["support"].clone());
    config.users.get_mut(BOB).unwrap().bot = name;
}

// ---- Tokens.

#[tokio::test]
async fn a_token_is_kept_over_reconnects_and_restarts() {
    let mut world = World::start().await;
    world.drop_connection(&SocketEnd::Drop).await;
    world.drop_connection(&SocketEnd::Reset).await;
    world.restart().await;
    world.all_connected().await;
    assert_eq!((world.grants(), world.control().connects(ALICE)), (1, 4));
}

#[tokio::test]
async fn a_revoked_token_costs_one_grant_with_a_fresh_assertion() {
    let mut world = World::start().await;
    for grants in 2..=3 {
        assert_eq!(world.control().revoke(ALICE), 1);
        // The stand-in takes no assertion twice.
        world.drop_connection(&SocketEnd::Drop).await;
        assert_eq!(world.grants(), grants);
    }
    assert_eq!(world.control().revoke(ALICE), 1);
    world.restart().await;
    world.all_connected().await;
    assert_eq!(world.grants(), 4);
    assert_eq!(world.control().request_count(Endpoint::RtmStart), 4 + 3, "one refusal for each token");
}

#[tokio::test]
async fn a_token_that_is_about_to_expire_is_not_used_again() {
    let lifetime = Duration::from_secs(30);
    let settings = Settings { welcome: None, token_lifetime: lifetime, ..Settings::default() };
    let world = World::start_on(settings, |_| {}).await;
    world.all_connected().await;
    world.drop_connection(&SocketEnd::Drop).await;
    assert_eq!((world.grants(), world.control().request_count(Endpoint::RtmStart)), (2, 2));
}

#[tokio::test]
async fn changed_credentials_sign_in_anew() {
    let mut world = World::start().await;
    world.stop_daemon().await;
    world.config.users.get_mut(ALICE).unwrap().identity = "alice@example.com".into();
    world.start_daemon().await;
    within("the new identity", world.control().wait_connected("alice@example.com", 1)).await;
    assert_eq!(world.grants(), 2);
}

#[tokio::test]
async fn assertions_are_signed_as_the_bot_is_configured() {
    for (algorithm, name) in [(HmacAlgorithm::Hs256, "HS256"), (HmacAlgorithm::Hs512, "HS512")] {
        let mut world = World::start().await;
        let front = Front::of(world.sandbox.url()).await;
        world.stop_daemon().await;
        world.config.platform.url = front.url();
        let secret = Secret::new(App::default().client_secret);
        let credentials = Credentials::ClientSecret { secret, algorithm };
        world.config.bots.get_mut("support").unwrap().credentials = credentials;
        world.start_daemon().await;
        world.all_connected().await;
        let grant = front.seen().into_iter().find(|seen| seen.path.ends_with("/jwtgrant")).unwrap();
        let parts: Vec<Value> = grant.body["assertion"]
            .as_str()
            .unwrap()
            .split('.')
            .take(2)
            .map(|part| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap())
            .map(|json| serde_json::from_slice(&json).unwrap())
            .collect();
        let (header, claims) = (&parts[0], &parts[1]);
        assert_eq!(header["alg"], name);
        let app = rtm_bridge::sandbox::App::default();
        assert_eq!((&claims["sub"], &claims["iss"]), (&json!(ALICE), &json!(app.client_id)));
        assert_eq!(claims["aud"], "https://idproxy.kore.com/authorize");
        assert!(claims["exp"].as_u64() > claims["iat"].as_u64() && claims["jti"].is_string(), "{claims}");
    }
}

// ---- URLs.

#[tokio::test]
async fn every_connect_asks_for_a_url_of_its_own() {
    let world = World::start().await;
    let mut sids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        sids.insert(world.control().connections_of(ALICE)[0].sid.clone());
        world.drop_connection(&SocketEnd::close(1001)).await;
    }
    assert_eq!((sids.len(), world.control().request_count(Endpoint::RtmStart)), (3, 4));
    assert_eq!(world.control().request_count(Endpoint::Upgrade), 4, "no URL is tried twice");
}

#[tokio::test]
async fn every_connect_but_the_first_ever_says_that_it_is_one() {
    for (query, text) in [
        (ReconnectQuery::IsReconnect, "isReconnect=true"),
        (ReconnectQuery::ConnectionMode, "ConnectionMode=Reconnect"),
    ] {
        let settings = Settings { welcome: Some("Welcome!".to_owned()), ..Settings::default() };
        let mut world = World::start_on(settings, |config| config.platform.reconnect_query = query).await;
        world.all_connected().await;
        let said = |world: &World| world.control().connections_of(ALICE)[0].query.clone();
        assert!(!said(&world).contains("econnect"), "{}", said(&world));
        world.drop_connection(&SocketEnd::Drop).await;
        assert!(said(&world).ends_with(&format!("&{text}")), "{}", said(&world));
        world.restart().await;
        world.all_connected().await;
        assert!(said(&world).ends_with(&format!("&{text}")), "{}", said(&world));
        world.control().push(ALICE, Push::text("Hi"));
        assert_eq!(texts(&delivered(&world, 2).await), ["Welcome!", "Hi"], "no second welcome");
    }
}

#[tokio::test]
async fn the_platform_may_have_a_base_path() {
    let mut world = World::start().await;
    let front = Front::of(world.sandbox.url()).await;
    world.stop_daemon().await;
    world.config.platform.url = front.url();
    world.start_daemon().await;
    world.all_connected().await;
    world.is_usable(ALICE).await;
    let paths: Vec<_> = front.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(
        paths,
        ["oAuth/token/jwtgrant", "rtm/start", "botmessages/rtm"]
            .map(|path| format!("/some/base/api/1.1/{path}"))
    );
    assert_eq!(world.control().request_count(Endpoint::History), 1);
    let start = &front.seen()[1];
    assert!(start.headers["authorization"].to_str().unwrap().starts_with("bearer "));
    assert_eq!(start.body["botInfo"]["chatBot"], "Sandbox Bot");
}

#[tokio::test]
async fn websocket_url_replaces_where_urls_lead_and_foreign_ones_are_refused() {
    let elsewhere = Some("ws://bots.elsewhere.example:1".to_owned());
    let settings = Settings { welcome: None, socket_base: elsewhere, ..Settings::default() };
    let mut world = World::start_on(settings, |_| {}).await;
    let alice = world.until_state(ALICE, "backing_off").await;
    assert!(alice["lastError"].as_str().unwrap().contains("websocket_url"), "{alice}");
    world.stop_daemon().await;
    let mut sockets = world.sandbox.url();
    sockets.set_scheme("ws").unwrap();
    world.config.platform.websocket_url = Some(sockets);
    world.start_daemon().await;
    world.all_connected().await;
    world.is_usable(ALICE).await;
}

// ---- Refusals.

#[tokio::test]
async fn refused_credentials_are_shown_and_not_tried_in_a_loop() {
    let world = World::start_with(|config| {
        with_bobs_bot(config);
        config.bots.get_mut("support").unwrap().credentials = Credentials::client_secret("wrong");
        config.platform.unauthorized_retry = Duration::from_secs(3600);
    })
    .await;
    let alice = world.until_state(ALICE, "unauthorized").await;
    let error = alice["lastError"].as_str().unwrap();
    assert!(error.contains("invalid signature") && !error.contains("wrong"), "{error}");
    world.until_state(BOB, "connected").await;
    world.bob_flaps().await;
    assert_eq!(world.control().requests_of(ALICE, Endpoint::Jwtgrant).len(), 1);
    world.reconnect(ALICE).await;
    within("a try at once", world.control().wait_requests_of(ALICE, Endpoint::Jwtgrant, 2)).await;
    world.until_state(ALICE, "unauthorized").await;
    world.is_usable(BOB).await;
}

#[tokio::test]
async fn trouble_at_any_endpoint_is_shown_and_got_over() {
    let world = World::start_with(|config| {
        config.platform.request_timeout = Duration::from_millis(300);
        config.platform.connect_timeout = Duration::from_millis(300);
    })
    .await;
    world.all_connected().await;
    for at in [Endpoint::Jwtgrant, Endpoint::RtmStart, Endpoint::Upgrade] {
        for (fault, words) in [(refuse(at, 503, None), "503"), (FaultKind::Hang { at }, "no answer in time")]
        {
            world.control().revoke(ALICE);
            world.control().inject(Fault::once(fault));
            world.control().end_sockets(ALICE, &SocketEnd::Drop);
            let alice = world
                .until_user(ALICE, words, |alice| {
                    let error = alice["lastError"].as_str().unwrap_or_default();
                    alice["state"] == "backing_off" && error.contains(words)
                })
                .await;
            assert!(alice["attempts"].as_u64().unwrap() >= 1, "{alice}");
            world.reconnect(ALICE).await;
            world.until_state(ALICE, "connected").await;
        }
    }
    world.is_usable(ALICE).await;
}

#[tokio::test]
async fn an_unreachable_platform_is_got_over_without_being_asked() {
    let world = World::start().await;
    world.cut_off().await;
    within("the platform to listen again", world.control().listen_again()).await;
    world.until_state(ALICE, "connected").await;
    world.is_usable(ALICE).await;
}

#[tokio::test]
async fn a_retry_after_is_kept_by_the_whole_bot_whoever_asks() {
    let world = World::start_with(|config| {
        add_user(config, BOB);
        let retries = &mut config.platform;
        retries.backoff_max = Duration::from_millis(100);
    })
    .await;
    world.all_connected().await;
    let before = world.control().requests_of(ALICE, Endpoint::RtmStart).len();
    world.control().inject(Fault::once(refuse(Endpoint::RtmStart, 429, Some("1"))).for_user(ALICE));
    world.control().end_sockets(ALICE, &SocketEnd::Drop);
    let alice = world
        .until_user(ALICE, "the refusal", |alice| {
            alice["lastError"].as_str().is_some_and(|error| error.contains("429"))
        })
        .await;
    assert_eq!(alice["state"], "backing_off");
    let bobs = world.control().requests_of(BOB, Endpoint::RtmStart).len();
    world.reconnect(ALICE).await;
    world.reconnect(BOB).await;
    let asked =
        within("alice's next try", world.control().wait_requests_of(ALICE, Endpoint::RtmStart, before + 2))
            .await;
    let refused = asked[before].at;
    assert!(asked[before + 1].at.since(refused) >= Duration::from_secs(1));
    let bobs = within("bob's", world.control().wait_requests_of(BOB, Endpoint::RtmStart, bobs + 1)).await;
    assert!(bobs.last().unwrap().at.since(refused) >= Duration::from_secs(1));
    world.all_connected().await;
}

// ---- Sockets.

#[tokio::test]
async fn an_idle_socket_is_pinged() {
    let world = World::start_with(|config| config.platform.ping_interval = Duration::from_millis(50)).await;
    world.all_connected().await;
    eventually("three pings", || async {
        let connections = world.control().connections_of(ALICE);
        connections.first().filter(|connection| connection.pings >= 3).map(drop)
    })
    .await;
    assert_eq!(world.control().connects(ALICE), 1, "its pongs keep the connection");
}

#[tokio::test]
async fn a_half_open_socket_is_noticed_and_what_was_sent_on_it_is_sent_again() {
    let world = World::start_with(|config| {
        config.platform.ping_interval = Duration::from_millis(200);
        config.platform.pong_timeout = Duration::from_millis(200);
    })
    .await;
    world.all_connected().await;
    let connects = world.control().connects(ALICE);
    world.control().end_sockets(ALICE, &SocketEnd::HalfOpen);
    let id = world.send(ALICE, "into the void").await;
    within("the next connection", world.control().wait_connects(ALICE, connects + 1)).await;
    assert_eq!(world.final_status(ALICE, id).await["status"], "acked");
    assert!(world.user(ALICE).await["lastError"].as_str().unwrap().contains("dead"));
}

#[tokio::test]
async fn a_close_for_policy_is_shown_and_waited_out_slowly() {
    let world = alice_and_bob().await;
    let reason = "Rate limit for this API has been reached.".to_owned();
    world.control().end_sockets(ALICE, &SocketEnd::Close { code: 1008, reason });
    let alice = world.until_state(ALICE, "backing_off").await;
    let error = alice["lastError"].as_str().unwrap();
    assert!(error.contains("1008") && error.contains("Rate limit for this API"), "{error}");
    world.bob_flaps().await;
    assert_eq!(world.user(ALICE).await["state"], "backing_off");
    assert_eq!(world.control().connects(ALICE), 1);
    world.reconnect(ALICE).await;
    world.until_state(ALICE, "connected").await;
}

#[tokio::test]
async fn a_reconnect_that_is_asked_for_says_goodbye_and_loses_nothing() {
    let world = World::start().await;
    let ids = futures_util::future::join_all((0..5).map(|_| world.send(ALICE, "Hi"))).await;
    world.reconnect(ALICE).await;
    within("the next connection", world.control().wait_connects(ALICE, 2)).await;
    for id in ids {
        assert_eq!(world.final_status(ALICE, id).await["status"], "acked");
    }
    assert_eq!(within("the goodbye", world.control().wait_goodbyes(ALICE, 1)).await, [1000]);
}

#[tokio::test]
async fn a_user_who_cannot_connect_disturbs_nobody() {
    let mut world = alice_and_bob().await;
    world.stop_daemon().await;
    world.control().revoke(ALICE);
    world.control().inject(Fault::always(FaultKind::Hang { at: Endpoint::RtmStart }).for_user(ALICE));
    world.start_daemon().await;
    world.until_state(BOB, "connected").await;
    world.is_usable(BOB).await;
    world.bob_flaps().await;
    world.control().push(BOB, Push::text("news"));
    let events =
        |events: &[crate::support::Request]| events.iter().any(|event| event.text.as_deref() == Some("news"));
    within("bob's event", world.receiver.wait_until(events)).await;
    assert_eq!(world.user(ALICE).await["state"], "connecting");
    let waiting = world.send(ALICE, "later").await;
    assert_eq!(world.status(ALICE, waiting).await["status"], "queued");
}

#[tokio::test]
async fn delivery_acks_are_sent_only_when_they_are_asked_for() {
    let world = World::start_with(|config| config.platform.delivery_acks = true).await;
    world.all_connected().await;
    let frame = r#"{"type":"bot_response","messageId":"ms-1","key":"k-1","timestamp":1795212087192.5}"#;
    world.control().push_raw(ALICE, frame);
    let frames = within("the delivery ack", world.control().wait_frames(ALICE, 1)).await;
    let ack = frames[0].json();
    assert_eq!(
        (&ack["type"], &ack["status"], &ack["key"]),
        (&json!("ack"), &json!("delivered"), &json!("k-1"))
    );
    assert_eq!(ack["replyto"], json!(1_795_212_087_192.5));

    let world = World::start().await;
    world.control().push_raw(ALICE, frame);
    world.is_usable(ALICE).await;
    assert_eq!(world.control().frames(ALICE).len(), 1, "nothing but the message");
}

// ---- Pace.

#[tokio::test]
async fn many_users_keep_to_the_pace() {
    let (users, rate, burst) = (10, 40.0, 4);
    let began = Timestamp::now();
    let world = World::start_with(|config| {
        config.users.remove(ALICE);
        config.platform.request_rate = rate;
        config.platform.request_burst = burst;
        let alice = rtm_bridge::config::User {
            bot: BotName::new("support").unwrap(),
            identity: "".into(),
            webhooks: Vec::new(),
        };
        for n in 0..users {
            let identity = format!("user{n}");
            let user = rtm_bridge::config::User { identity: identity.as_str().into(), ..alice.clone() };
            config.users.insert(UserName::new(&identity).unwrap(), user);
        }
    })
    .await;
    world.all_connected().await;
    let control = world.control();
    let mut times: Vec<_> = [Endpoint::Jwtgrant, Endpoint::RtmStart]
        .into_iter()
        .flat_map(|endpoint| control.requests(endpoint))
        .map(|request| request.at)
        .collect();
    times.sort_unstable();
    assert_eq!(times.len(), 2 * users);
    for (index, at) in times.iter().enumerate() {
        let least = Duration::from_secs_f64((index as f64 + 1.0 - f64::from(burst)).max(0.0) / rate);
        assert!(at.since(began) + Duration::from_millis(2) >= least, "request {index} came too early");
    }
}
