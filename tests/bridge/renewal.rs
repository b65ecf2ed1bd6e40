//! Connections that are replaced before their token expires, while they are in use.

use std::time::Duration;

use rtm_bridge::{
    config::{Config, EventFilter},
    sandbox::{Endpoint, Fault, FaultKind, Push, Settings, SocketEnd},
};
use tokio::task::JoinHandle;

use crate::support::{ALICE, Request, World, crm, envelope, sent_texts, texts, within};

/// So short that a test sees several renewals.
const LIFE: Duration = Duration::from_millis(900);
const TYPING: &str = "typing";

/// Watches that a user is never without a connection, as the platform sees it.
struct NeverAlone(JoinHandle<()>);

impl NeverAlone {
    fn of(world: &World) -> Self {
        let control = world.control();
        Self(tokio::spawn(async move {
            control.wait_connected(ALICE, 0).await;
        }))
    }

    fn held(self) {
        assert!(!self.0.is_finished(), "for a moment there was no connection");
        self.0.abort();
    }
}

impl World {
    /// Alice is connected, with tokens that hardly live.
    async fn renewing(change: impl FnOnce(&mut Config)) -> Self {
        let welcome = Some("Welcome!".to_owned());
        let settings = Settings { welcome, token_lifetime: LIFE, ..Settings::default() };
        let world = Self::start_on(settings, |config| {
            let types = ["bot_response", "user_message", TYPING, "bridge.connection", "bridge.gap"];
            crm(config).events = EventFilter::Only(types.map(str::to_owned).to_vec());
            change(config);
        })
        .await;
        world.all_connected().await;
        world
    }

    async fn renewed(&self, times: u64) {
        let connects = self.control().connects(ALICE);
        within("renewals", self.control().wait_connects(ALICE, connects + times)).await;
    }

    async fn webhook_has(&self, what: &str, enough: impl Fn(&[Request]) -> bool) -> Vec<Request> {
        within(what, self.receiver.wait_until(enough)).await
    }
}

fn of_type(events: &[Request], wanted: &str) -> Vec<Request> {
    let mut events = events.to_vec();
    events.retain(|event| envelope(event)["type"] == wanted);
    events
}

fn refuse(at: Endpoint) -> FaultKind {
    FaultKind::Refuse { at, status: 503, retry_after: None }
}

#[tokio::test]
async fn under_load_in_both_directions_nothing_is_lost_repeated_or_reordered() {
    let world = World::renewing(|_| {}).await;
    let watch = NeverAlone::of(&world);
    let mut n = 0;
    while world.control().connects(ALICE) < 6 {
        world.send(ALICE, &format!("message {n}")).await;
        world.control().push(ALICE, Push::text(format!("push {n}")));
        world.control().push(ALICE, Push::frame(format!(r#"{{"type":"{TYPING}","n":{n}}}"#)));
        n += 1;
    }
    let in_order = |what: &str| (0..n).map(|n| format!("{what} {n}")).collect::<Vec<_>>();
    let expected = 1 + 3 * n;
    // Counted first: to read thousands of them anew with each one that comes takes longer than they do.
    let is_all = |events: &[Request]| {
        events.len() >= expected
            && of_type(events, "bot_response").len() + of_type(events, TYPING).len() >= expected
    };
    let events = world.webhook_has("all events", is_all).await;
    assert_eq!(sent_texts(&world.control(), ALICE), in_order("message"));
    let responses = texts(&of_type(&events, "bot_response"));
    let saying =
        |what: &str| responses.iter().filter(|text| text.starts_with(what)).cloned().collect::<Vec<_>>();
    assert_eq!(saying("Welcome").len(), 1);
    assert_eq!(saying("push"), in_order("push"));
    assert_eq!(saying("echo: message"), in_order("echo: message"));
    let typed: Vec<_> =
        of_type(&events, TYPING).iter().map(|event| envelope(event)["data"]["n"].as_u64()).collect();
    assert_eq!(typed, (0..n as u64).map(Some).collect::<Vec<_>>());
    assert_eq!(events.len() - of_type(&events, "bridge.connection").len(), expected, "and nothing else");
    watch.held();
}

#[tokio::test]
async fn a_renewal_is_seen_by_nobody_but_the_platform() {
    let world = World::renewing(|_| {}).await;
    let told = |events: &[Request]| of_type(events, "bridge.connection").len();
    world.webhook_has("the connection", |events| told(events) >= 1).await;
    let before = world.user(ALICE).await;
    let watch = NeverAlone::of(&world);
    world.renewed(3).await;
    world.control().push(ALICE, Push::text("the end"));
    let ended = |events: &[Request]| texts(events).last().is_some_and(|text| text == "the end");
    let events = world.webhook_has("the end", ended).await;
    assert_eq!((told(&events), of_type(&events, "bridge.gap").len()), (1, 0));
    let after = world.user(ALICE).await;
    for key in ["state", "since", "lastError"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    watch.held();
    let control = world.control();
    assert_eq!(control.request_count(Endpoint::History), 0, "there is no gap to look into");
    assert!(control.request_count(Endpoint::Jwtgrant) >= 4 && control.request_count(Endpoint::RtmStart) >= 4);
    let goodbyes = within("the goodbyes", control.wait_goodbyes(ALICE, 3)).await;
    assert!(goodbyes.iter().all(|code| *code == 1000), "{goodbyes:?}");
    let modes: Vec<_> =
        control.connections_of(ALICE).into_iter().map(|connection| connection.query).collect();
    assert!(modes.iter().all(|query| query.contains("isReconnect=true")), "{modes:?}");
}

/// A step of a renewal fails in two ways, and then it works: the old socket serves meanwhile.
async fn fails_without_harm(at: Endpoint) {
    let world = World::renewing(|config| {
        config.platform.request_timeout = Duration::from_millis(300);
        config.platform.connect_timeout = Duration::from_millis(300);
    })
    .await;
    let watch = NeverAlone::of(&world);
    for (fault, words) in [(refuse(at), "503"), (FaultKind::Hang { at }, "no answer in time")] {
        world.control().inject(Fault::once(fault));
        let alice = world
            .until_user(ALICE, words, |alice| {
                let error = alice["lastError"].as_str().unwrap_or_default();
                error.contains("could not be renewed") && error.contains(words)
            })
            .await;
        assert_eq!(alice["state"], "connected");
        let id = world.send(ALICE, "still there?").await;
        assert_eq!(world.final_status(ALICE, id).await["status"], "acked");
        world.renewed(1).await;
    }
    watch.held();
}

#[tokio::test]
async fn a_renewal_without_a_token_leaves_the_old_socket() {
    fails_without_harm(Endpoint::Jwtgrant).await;
}

#[tokio::test]
async fn a_renewal_without_a_url_leaves_the_old_socket() {
    fails_without_harm(Endpoint::RtmStart).await;
}

#[tokio::test]
async fn a_renewal_without_a_second_socket_leaves_the_old_one() {
    fails_without_harm(Endpoint::Upgrade).await;
}

#[tokio::test]
async fn a_second_socket_that_is_let_in_and_thrown_out_leaves_the_old_one() {
    let world = World::renewing(|_| {}).await;
    let watch = NeverAlone::of(&world);
    for end in [SocketEnd::Reset, SocketEnd::close(1011), SocketEnd::Drop] {
        world.control().inject(Fault::once(FaultKind::OnConnect { end }));
        within("the fault", world.control().wait_faults_over()).await;
        world.renewed(1).await;
    }
    watch.held();
}

#[tokio::test]
async fn refused_credentials_are_shown_and_cost_no_connection() {
    let world =
        World::renewing(|config| config.platform.unauthorized_retry = Duration::from_secs(3600)).await;
    let at = Endpoint::Jwtgrant;
    world.control().inject(Fault::always(FaultKind::Refuse { at, status: 401, retry_after: None }));
    let alice = world
        .until_user(ALICE, "the refusal", |alice| {
            alice["lastError"].as_str().is_some_and(|error| error.contains("refused the credentials"))
        })
        .await;
    assert_eq!(alice["state"], "connected");
    let id = world.send(ALICE, "still there?").await;
    assert_eq!(world.final_status(ALICE, id).await["status"], "acked");
    // The platform has enough.
    world.control().end_sockets(ALICE, &SocketEnd::close(1008));
    world.until_state(ALICE, "backing_off").await;
}

#[tokio::test]
async fn a_renewal_needs_nothing_of_the_old_token() {
    let world = World::renewing(|_| {}).await;
    let watch = NeverAlone::of(&world);
    for _ in 0..2 {
        world.control().revoke(ALICE);
        world.renewed(1).await;
    }
    watch.held();
}

#[tokio::test]
async fn a_renewal_of_a_socket_with_nobody_there_brings_what_was_missed() {
    let world = World::renewing(|config| config.messages.ack_timeout = Duration::from_millis(1500)).await;
    assert!(world.control().end_sockets(ALICE, &SocketEnd::HalfOpen) >= 1);
    let id = world.send(ALICE, "into the void").await;
    world.control().push(ALICE, Push::text("missed"));
    let has = |events: &[Request]| texts(events).contains(&"missed".to_owned());
    let events = world.webhook_has("what was missed", has).await;
    let missed = events.iter().find(|event| event.text.as_deref() == Some("missed")).unwrap();
    assert_eq!(envelope(missed)["source"], "history");
    assert_eq!(world.final_status(ALICE, id).await["status"], "acked");
    assert_eq!(world.user(ALICE).await["state"], "connected");
}

#[tokio::test]
async fn what_waits_for_its_ack_gets_it_on_the_old_socket() {
    let world = World::renewing(|_| {}).await;
    let mut ids = Vec::new();
    // Longer than a connection lives.
    world.control().inject(Fault::once(FaultKind::DelayedAck { ms: 1500 }));
    for n in 0..3 {
        ids.push(world.send(ALICE, &format!("message {n}")).await);
    }
    for id in ids {
        let status = world.final_status(ALICE, id).await;
        assert_eq!((&status["status"], &status["attempts"]), (&"acked".into(), &1.into()));
    }
    let control = world.control();
    assert_eq!(sent_texts(&control, ALICE), ["message 0", "message 1", "message 2"]);
    let lines: Vec<_> = control.messages(ALICE).iter().map(|frame| frame.connection).collect();
    assert!(lines[0] < lines[1] && lines[1] <= lines[2], "{lines:?}");
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_renewal_loses_nothing() {
    let mut world = World::renewing(|_| {}).await;
    for (round, at) in [Endpoint::Jwtgrant, Endpoint::RtmStart, Endpoint::Upgrade].into_iter().enumerate() {
        let before = world.control().request_count(at);
        world.control().inject(Fault::once(FaultKind::Hang { at }));
        within("the renewal", world.control().wait_requests(at, before + 1)).await;
        let id = world.send(ALICE, &format!("message {round}")).await;
        world.control().push(ALICE, Push::text(format!("push {round}")));
        world.restart().await;
        world.all_connected().await;
        assert_eq!(world.final_status(ALICE, id).await["status"], "acked");
    }
    let pushes = |events: &[Request]| {
        let mut texts = texts(events);
        texts.retain(|text| text.starts_with("push"));
        texts
    };
    let events = world.webhook_has("the pushes", |events| pushes(events).len() >= 3).await;
    assert_eq!(pushes(&events), ["push 0", "push 1", "push 2"]);
    assert_eq!(texts(&events).iter().filter(|text| *text == "Welcome!").count(), 1);
}
