//! What the platform sees of many users in trouble: no storm, no hot loop, no sign-in that isn't needed.

use std::time::Duration;

use rtm_bridge::{
    clock::Timestamp,
    config::{Config, Credentials, Durability, User},
    names::UserName,
    sandbox::{BotScript, Endpoint, Fault, FaultKind, SandboxControl, Settings, SocketEnd},
};

use crate::support::{ALICE, BOB, World, add_user, crm, eventually, within};

fn name(user: usize) -> String {
    format!("user{user}")
}

/// So many users without webhooks, and no other.
fn crowd(config: &mut Config, users: usize) {
    let alice = config.users.remove(ALICE).unwrap();
    for identity in (0..users).map(name) {
        let user = User { identity: identity.as_str().into(), webhooks: Vec::new(), ..alice.clone() };
        config.users.insert(UserName::new(&identity).unwrap(), user);
    }
    crm(config);
    config.store.durability = Durability::Os;
}

fn settings() -> Settings {
    Settings { welcome: None, bot: BotScript::Silent, ..Settings::default() }
}

/// When the platform was asked for anything that counts, in order.
fn requests(control: &SandboxControl) -> Vec<Timestamp> {
    let all = [Endpoint::Jwtgrant, Endpoint::RtmStart].map(|endpoint| control.requests(endpoint));
    let mut times: Vec<_> = all.into_iter().flatten().map(|request| request.at).collect();
    times.sort_unstable();
    times
}

/// That there is no span of time in which more came than a burst and the rate allow.
fn check_pace(times: &[Timestamp], rate: f64, burst: u32) {
    /// A request is noted when it is read, not when it leaves.
    const LATE: Duration = Duration::from_millis(250);
    for (first, from) in times.iter().enumerate() {
        let most = |to: Timestamp| f64::from(burst) + (to.since(*from) + LATE).as_secs_f64() * rate + 1.0;
        let broken = times[first..].iter().zip(1u32..).find(|(to, count)| f64::from(*count) > most(**to));
        assert!(
            broken.is_none(),
            "{} requests within {:?}",
            broken.unwrap().1,
            broken.unwrap().0.since(*from)
        );
    }
}

impl World {
    async fn crowd_connected(&self, users: usize) {
        let control = self.control();
        eventually(&format!("{users} connections"), || async {
            (control.connections().len() == users).then_some(())
        })
        .await;
        eventually("the bridge to know", || async {
            (self.daemon().summary().connected == users).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_users_come_back_at_the_pace_and_sign_in_once() {
    const USERS: usize = 1_000;
    let (rate, burst) = (500.0, 50);
    let mut world = World::start_on(settings(), |config| {
        crowd(config, USERS);
        config.platform.request_rate = rate;
        config.platform.request_burst = burst;
    })
    .await;
    let control = world.control();
    world.crowd_connected(USERS).await;
    assert_eq!(control.request_count(Endpoint::Jwtgrant), USERS as u64);
    let connects = || control.request_count(Endpoint::RtmStart);
    assert_eq!(connects(), USERS as u64);

    // All of them at once.
    assert_eq!(control.end_all_sockets(&SocketEnd::Reset), USERS);
    eventually("everyone's next connection", || async {
        (control.request_count(Endpoint::Upgrade) >= 2 * USERS as u64).then_some(())
    })
    .await;
    world.crowd_connected(USERS).await;
    assert_eq!(connects(), 2 * USERS as u64, "one request each");

    world.restart().await;
    world.crowd_connected(USERS).await;
    assert_eq!(connects(), 3 * USERS as u64);
    assert_eq!(control.request_count(Endpoint::Jwtgrant), USERS as u64, "nobody signs in anew");
    let times = requests(&control);
    assert_eq!(times.len(), 4 * USERS);
    check_pace(&times, rate, burst);
}

#[tokio::test]
async fn revoked_tokens_cost_everyone_one_grant() {
    const USERS: usize = 50;
    let world = World::start_on(settings(), |config| crowd(config, USERS)).await;
    world.crowd_connected(USERS).await;
    let control = world.control();
    for user in (0..USERS).map(name) {
        assert_eq!(control.revoke(&user), 1);
    }
    assert_eq!(control.end_all_sockets(&SocketEnd::Drop), USERS);
    eventually("everyone's next connection", || async {
        (control.request_count(Endpoint::Upgrade) == 2 * USERS as u64).then_some(())
    })
    .await;
    world.crowd_connected(USERS).await;
    assert_eq!(control.request_count(Endpoint::Jwtgrant), 2 * USERS as u64);
    assert_eq!(control.request_count(Endpoint::RtmStart), 3 * USERS as u64, "one refusal each");
}

#[tokio::test]
async fn while_everything_is_rate_limited_nobody_of_the_bot_asks_before_it_was_told() {
    const USERS: usize = 20;
    let world = World::start_on(settings(), |config| crowd(config, USERS)).await;
    world.crowd_connected(USERS).await;
    let control = world.control();
    let before = requests(&control).len();
    let limited = FaultKind::RateLimit { retry_after: Some("1".to_owned()) };
    control.inject(Fault::times(limited, 3));
    let began = Timestamp::now();
    control.end_all_sockets(&SocketEnd::Drop);
    within("the limits to be met", control.wait_faults_over()).await;
    world.crowd_connected(USERS).await;
    let times: Vec<_> = requests(&control)[before..].iter().map(|at| at.since(began)).collect();
    // What had left before the first refusal was back may have come as well.
    let (early, late): (Vec<Duration>, Vec<Duration>) =
        times.iter().copied().partition(|at| *at < Duration::from_millis(900));
    assert!(early.len() <= USERS, "{early:?}");
    assert!(late.len() <= USERS + 3, "{late:?}");
}

/// How many requests each of some users makes while nothing works, in the span that a third try takes.
async fn tries_while(fault: FaultKind) {
    const USERS: usize = 10;
    let world = World::start_on(settings(), |config| {
        crowd(config, USERS);
        config.platform.request_timeout = Duration::from_millis(200);
        config.platform.backoff_max = Duration::from_secs(2);
    })
    .await;
    world.crowd_connected(USERS).await;
    let control = world.control();
    control.inject(Fault::always(fault.clone()));
    let first = control.request_count(Endpoint::RtmStart);
    control.end_all_sockets(&SocketEnd::Drop);
    within(
        "a third try of somebody",
        control.wait_requests(Endpoint::RtmStart, first + 2 * USERS as u64 + 1),
    )
    .await;
    let times: Vec<_> = control.requests(Endpoint::RtmStart)[first as usize..].to_vec();
    for user in (0..USERS).map(name) {
        let own: Vec<_> = times.iter().filter(|request| request.user.as_deref() == Some(&user)).collect();
        assert!(own.len() <= 3, "{fault:?}: {user} asked {} times", own.len());
        for pair in own.windows(2) {
            let pause = pair[1].at.since(pair[0].at);
            assert!(pause >= Duration::from_millis(990), "{fault:?}: {user} asked again after {pause:?}");
        }
    }
    control.clear_faults();
    for user in (0..USERS).map(name) {
        world.reconnect(&user).await;
    }
    world.crowd_connected(USERS).await;
}

#[tokio::test]
async fn a_platform_in_trouble_is_not_asked_in_a_loop() {
    let at = Endpoint::RtmStart;
    tokio::join!(
        tries_while(FaultKind::Refuse { at, status: 503, retry_after: None }),
        tries_while(FaultKind::Refuse { at, status: 404, retry_after: None }),
        tries_while(FaultKind::Hang { at }),
    );
}

#[tokio::test]
async fn refused_assertions_are_tried_again_slowly_and_all_come_in_once_they_are_good() {
    const USERS: usize = 10;
    let mut world = World::start_on(settings(), |config| {
        crowd(config, USERS);
        config.bots.get_mut("support").unwrap().credentials = Credentials::client_secret("wrong");
        config.platform.unauthorized_retry = Duration::from_millis(700);
    })
    .await;
    let control = world.control();
    within("the second tries", control.wait_requests(Endpoint::Jwtgrant, 2 * USERS as u64)).await;
    for user in (0..USERS).map(name) {
        let shown = world.until_state(&user, "unauthorized").await;
        assert!(shown["lastError"].as_str().unwrap().contains("credentials"), "{shown}");
        let asked = control.requests_of(&user, Endpoint::Jwtgrant);
        let pause = asked[1].at.since(asked[0].at);
        assert!(pause >= Duration::from_millis(690), "{user} asked again after {pause:?}");
    }
    assert_eq!(control.request_count(Endpoint::RtmStart), 0);
    world.stop_daemon().await;
    let good = rtm_bridge::sandbox::App::default().client_secret;
    world.config.bots.get_mut("support").unwrap().credentials = Credentials::client_secret(good);
    world.start_daemon().await;
    world.crowd_connected(USERS).await;
}

#[tokio::test]
async fn a_clock_that_is_minutes_off_costs_one_refusal_and_no_more() {
    for skew in [-10, 10] {
        let skewed = Settings {
            clock_skew_ms: skew * 60_000,
            token_lifetime: Duration::from_secs(5 * 60),
            ..settings()
        };
        let mut world = World::start_on(skewed, |_| {}).await;
        let control = world.control();
        world.until_state(ALICE, "connected").await;
        let grants = control.request_count(Endpoint::Jwtgrant);
        assert!(grants <= 2, "{skew} min: {grants} sign-ins");
        // The token is good for five minutes by the platform's clock, whatever ours says.
        control.end_sockets(ALICE, &SocketEnd::Drop);
        within("the next connection", control.wait_connects(ALICE, 2)).await;
        world.restart().await;
        within("the connection after the restart", control.wait_connects(ALICE, 3)).await;
        assert_eq!(control.request_count(Endpoint::Jwtgrant), grants, "{skew} min");
        let id = world.send(ALICE, "Hello").await;
        assert_eq!(world.final_status(ALICE, id).await["status"], "acked", "{skew} min");
    }
}

#[tokio::test]
async fn a_connection_that_never_lives_long_does_not_end_the_backoff() {
    let world = World::start_on(settings(), |config| {
        add_user(config, BOB);
        config.platform.backoff_min = Duration::from_millis(20);
        config.platform.backoff_max = Duration::from_secs(60);
    })
    .await;
    world.all_connected().await;
    let control = world.control();
    control.inject(Fault::always(FaultKind::OnConnect { end: SocketEnd::Drop }).for_user(ALICE));
    control.end_sockets(ALICE, &SocketEnd::Drop);
    // Each delay is drawn from twice the span of the one before: the sixth from 640 ms.
    within("a few short connections", control.wait_connects(ALICE, 7)).await;
    let alice = world
        .until_user(ALICE, "alice's tries to be counted", |alice| alice["attempts"].as_u64() >= Some(7))
        .await;
    assert_eq!(
        alice["attempts"].as_u64().unwrap(),
        control.connects(ALICE),
        "none of them counted as stable"
    );
    assert_eq!(control.connects(BOB), 1);
}

#[tokio::test]
async fn one_users_flapping_does_not_eat_the_others_share_of_the_pace() {
    const USERS: usize = 20;
    let (rate, burst) = (40.0, 2);
    let world = World::start_on(settings(), |config| {
        crowd(config, USERS);
        config.platform.request_rate = rate;
        config.platform.request_burst = burst;
        // As fast as it can be set.
        config.platform.backoff_min = Duration::from_millis(1);
        config.platform.backoff_max = Duration::from_millis(2);
    })
    .await;
    world.crowd_connected(USERS).await;
    let control = world.control();
    let flapping = name(0);
    control.inject(Fault::always(FaultKind::OnConnect { end: SocketEnd::Drop }).for_user(&flapping));
    let before = control.request_count(Endpoint::RtmStart);
    control.end_all_sockets(&SocketEnd::Drop);
    eventually("everyone else to be back", || async {
        (control.connections().iter().filter(|open| open.user != flapping).count() == USERS - 1).then_some(())
    })
    .await;
    let asked = control.requests(Endpoint::RtmStart)[before as usize..].to_vec();
    let own = asked.iter().filter(|request| request.user.as_deref() == Some(&flapping)).count();
    // It waits its turn: one request in the row, behind all who were there first.
    assert!(own <= 4, "{own} of {} requests were the flapping user's", asked.len());
    check_pace(&requests(&control), rate, burst);
}
