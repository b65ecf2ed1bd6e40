//! Each fault of the platform in each state of a session where it can strike: afterwards the user is
//! connected again, each message has the end it should have, in order, and each event was delivered once,
//! in order. Another user of the same bot notices nothing.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use rtm_bridge::{
    config::Durability,
    sandbox::{Endpoint, Fault, FaultKind, Push, SocketEnd, Taken},
};
use serde_json::Value;

use crate::support::{ALICE, BOB, World, add_user, answer, crm, eventually, sent_texts, texts, within};

/// Where a session is when the fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    SigningIn,
    Starting,
    Opening,
    /// Open, with nothing under way.
    Idle,
    /// Open, with a message that was sent and not acked.
    Unacked,
    BackingOff,
}

/// What goes wrong.
#[derive(Debug, Clone)]
enum Trouble {
    /// The next time that the session gets there.
    Once(FaultKind),
    /// So many times.
    Times(FaultKind, u32),
    /// The open connection ends.
    End(SocketEnd),
    /// The access token is no good any more.
    Revoked,
    /// The platform's port is closed, for a while.
    Unreachable,
    /// The URL is too old whenever it is used, for a while.
    OldUrl,
}

use State::{BackingOff, Idle, Opening, SigningIn, Starting, Unacked};
use Trouble::{End, OldUrl, Once, Revoked, Times, Unreachable};

fn quick(config: &mut rtm_bridge::config::Config) {
    add_user(config, BOB);
    config.store.durability = Durability::Os;
    let platform = &mut config.platform;
    platform.request_timeout = Duration::from_millis(300);
    platform.connect_timeout = Duration::from_millis(300);
    platform.ping_interval = Duration::from_millis(250);
    platform.pong_timeout = Duration::from_millis(250);
    config.messages.ack_timeout = Duration::from_millis(400);
    crm(config).backoff_max = Duration::from_millis(50);
}

/// One row of the table.
struct Course {
    world: World,
    row: String,
}

impl Course {
    async fn start(row: String) -> Self {
        Self { world: World::start_silent(quick).await, row }
    }

    fn say(&self, user: &str, text: &str) {
        self.world.control().push(user, Push::text(text).live_only());
    }

    /// Waits until the receiver has taken an event with this text.
    async fn arrived(&self, text: &str) {
        let is_there = |events: &[crate::support::Request]| {
            events.iter().any(|event| event.user == ALICE && event.text.as_deref() == Some(text))
        };
        within(&format!("{}: the event {text}", self.row), self.world.receiver.wait_until(is_there)).await;
    }

    /// Asks for the next try whenever the user waits for one: backoffs are tested elsewhere.
    async fn hurried<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        let hurry = async {
            loop {
                let alice = self.world.user(ALICE).await;
                if alice["state"] == "backing_off" || alice["state"] == "unauthorized" {
                    let path = format!("/v1/users/{ALICE}/reconnect");
                    answer(self.world.request(Method::POST, &path)).await;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let row = &self.row;
        within(&format!("{row}: {what}"), async {
            tokio::select! {
                done = future => done,
                () = hurry => unreachable!("it never ends"),
            }
        })
        .await
    }

    /// Brings the session into the state, and has the trouble strike there.
    async fn strike(&self, state: State, trouble: &Trouble) -> u64 {
        let control = self.world.control();
        let inject = |kind: &FaultKind, times| {
            control.inject(Fault::times(kind.clone(), times).for_user(ALICE));
        };
        if state == BackingOff {
            let refusal = FaultKind::Refuse { at: Endpoint::RtmStart, status: 503, retry_after: None };
            inject(&refusal, 1);
            control.end_sockets(ALICE, &SocketEnd::Drop);
            self.world.until_state(ALICE, "backing_off").await;
        }
        if state == SigningIn {
            control.revoke(ALICE);
        }
        match trouble {
            Once(kind) => inject(kind, 1),
            Times(kind, times) => inject(kind, *times),
            Revoked => drop(control.revoke(ALICE)),
            Unreachable => within("the platform to stop listening", control.stop_listening()).await,
            OldUrl => control.configure(|settings| settings.sid_lifetime = Duration::ZERO),
            End(_) => {}
        }
        match state {
            SigningIn | Starting | Opening => drop(control.end_sockets(ALICE, &SocketEnd::Drop)),
            Idle | Unacked | BackingOff => {}
        }
        if let (Unacked, End(_)) = (state, trouble) {
            inject(&FaultKind::LostAck, 1);
        }
        let during = self.world.send(ALICE, "during").await;
        if state == Unacked {
            within("the message at the platform", control.wait_messages(ALICE, 2)).await;
        }
        if let End(end) = trouble {
            assert_eq!(control.end_sockets(ALICE, end), 1, "{}", self.row);
        }
        during
    }

    /// The platform is well again, but for what was to happen once.
    async fn recover(&self, trouble: &Trouble) {
        let control = self.world.control();
        match trouble {
            Unreachable => {
                self.world.until_state(ALICE, "backing_off").await;
                within("the platform to listen again", control.listen_again()).await;
            }
            OldUrl => {
                self.world.until_state(ALICE, "backing_off").await;
                control.configure(|settings| settings.sid_lifetime = Duration::from_secs(30));
            }
            Once(_) | Times(..) | End(_) | Revoked => {}
        }
    }
}

/// The whole course: a message and an event before, the trouble with a message during it, a message and
/// an event after it.
async fn course(state: State, trouble: Trouble, end: &str) {
    let course = Course::start(format!("{trouble:?} while {state:?}")).await;
    let (world, row, control) = (&course.world, &course.row, course.world.control());
    let before = world.send(ALICE, "before").await;
    assert_eq!(world.final_status(ALICE, before).await["status"], "acked", "{row}");
    course.say(ALICE, "event before");
    course.arrived("event before").await;
    let requests = control.request_count(Endpoint::RtmStart);

    let during = course.strike(state, &trouble).await;
    course.hurried("the fault to strike", course.recover(&trouble)).await;
    course.hurried("every fault to strike", control.wait_faults_over()).await;
    let after = world.send(ALICE, "after").await;
    let ended: Value = course.hurried("the last message", world.final_status(ALICE, after)).await;
    assert_eq!((&ended["status"], &ended["delivery"]), (&"acked".into(), &"confirmed".into()), "{row}");
    let ended = world.final_status(ALICE, during).await;
    assert_eq!(ended["status"], end, "{row}: {ended}");

    course.hurried("alice to be connected", control.wait_connected(ALICE, 1)).await;
    course.hurried("alice to be shown as connected", world.until_state(ALICE, "connected")).await;
    course.say(ALICE, "event after");
    course.arrived("event after").await;

    let mut order = sent_texts(&control, ALICE);
    order.dedup();
    assert_eq!(order, ["before", "during", "after"], "{row}");
    check_events(world, row, &["event before", "event after"]).await;
    let asked = control.request_count(Endpoint::RtmStart) - requests;
    assert!(asked <= 8, "{row}: {asked} requests for a socket");

    assert_eq!(control.connects(BOB), 1, "{row}: bob's connection stayed");
    let bobs = world.send(BOB, "me too").await;
    assert_eq!(world.final_status(BOB, bobs).await["status"], "acked", "{row}");
}

/// That alice's events are these, each delivered once, in this order, without a hole.
async fn check_events(world: &World, row: &str, expected: &[&str]) {
    eventually(&format!("{row}: nothing to be left"), || async {
        (world.user(ALICE).await["undelivered"] == 0).then_some(())
    })
    .await;
    let mut events = world.receiver.events();
    events.retain(|event| event.user == ALICE);
    assert_eq!(texts(&events), expected, "{row}");
    let sequences: Vec<u64> = events.iter().filter_map(|event| event.sequence).collect();
    assert_eq!(sequences, (1..=expected.len() as u64).collect::<Vec<_>>(), "{row}");
}

async fn table(rows: impl IntoIterator<Item = (State, Trouble, &'static str)>) {
    join_all(rows.into_iter().map(|(state, trouble, end)| course(state, trouble, end))).await;
}

fn refuse(at: Endpoint, status: u16) -> Trouble {
    Once(FaultKind::Refuse { at, status, retry_after: None })
}

const STEPS: [(State, Endpoint); 3] =
    [(SigningIn, Endpoint::Jwtgrant), (Starting, Endpoint::RtmStart), (Opening, Endpoint::Upgrade)];

fn ends() -> [SocketEnd; 6] {
    let [away, error, policy] = [1001, 1011, 1008].map(SocketEnd::close);
    [SocketEnd::Drop, SocketEnd::Reset, SocketEnd::HalfOpen, away, error, policy]
}

#[tokio::test]
async fn a_step_of_connecting_that_is_refused() {
    let statuses = [400, 401, 403, 404, 429, 500, 503];
    table(
        STEPS.into_iter().flat_map(|(state, at)| statuses.map(|status| (state, refuse(at, status), "acked"))),
    )
    .await;
}

#[tokio::test]
async fn a_step_of_connecting_that_is_refused_with_a_retry_after() {
    let told = |at| FaultKind::Refuse { at, status: 429, retry_after: Some("1".to_owned()) };
    let all = FaultKind::RateLimit { retry_after: Some("1".to_owned()) };
    table(
        STEPS
            .into_iter()
            .flat_map(|(state, at)| [(state, Once(told(at)), "acked"), (state, Once(all.clone()), "acked")]),
    )
    .await;
}

#[tokio::test]
async fn a_step_of_connecting_that_hangs_or_is_slow() {
    table(STEPS.into_iter().flat_map(|(state, at)| {
        [
            (state, Once(FaultKind::Hang { at }), "acked"),
            (state, Times(FaultKind::Hang { at }, 2), "acked"),
            (state, Once(FaultKind::Delay { at, ms: 100 }), "acked"),
        ]
    }))
    .await;
}

#[tokio::test]
async fn a_token_or_a_url_that_is_too_old() {
    table([
        (Starting, Revoked, "acked"),
        (Idle, Revoked, "acked"),
        (Unacked, Revoked, "acked"),
        (BackingOff, Revoked, "acked"),
        (Opening, OldUrl, "acked"),
        (BackingOff, OldUrl, "acked"),
    ])
    .await;
}

#[tokio::test]
async fn a_platform_that_cannot_be_reached() {
    table([(Starting, Unreachable, "acked"), (BackingOff, Unreachable, "acked")]).await;
}

#[tokio::test]
async fn a_connection_that_ends() {
    let rows = ends().into_iter().flat_map(|end| {
        [
            (Opening, Once(FaultKind::OnConnect { end: end.clone() }), "acked"),
            (Idle, End(end.clone()), "acked"),
            (Unacked, End(end), "acked"),
        ]
    });
    table(rows).await;
}

#[tokio::test]
async fn a_connection_that_ends_between_a_message_and_its_ack() {
    let rows = ends().into_iter().flat_map(|end| {
        [Taken::Yes, Taken::No]
            .map(|taken| (Unacked, Once(FaultKind::EndBeforeAck { taken, end: end.clone() }), "acked"))
    });
    table(rows).await;
}

#[tokio::test]
async fn a_message_that_goes_wrong() {
    table([
        (Unacked, Once(FaultKind::LostAck), "acked"),
        (Unacked, Times(FaultKind::LostMessage, 2), "acked"),
        (Unacked, Once(FaultKind::LostMessage), "acked"),
        (Unacked, Once(FaultKind::DelayedAck { ms: 600 }), "acked"),
        (Unacked, Once(FaultKind::AckAfterReply), "acked"),
        (Unacked, Once(FaultKind::RateLimit { retry_after: None }), "acked"),
        (Unacked, Once(FaultKind::NegativeAck), "rejected"),
        (
            Unacked,
            Once(FaultKind::EndBeforeAck { taken: Taken::No, end: SocketEnd::close(1009) }),
            "rejected",
        ),
        (
            Unacked,
            Once(FaultKind::EndBeforeAck { taken: Taken::No, end: SocketEnd::close(1007) }),
            "rejected",
        ),
        (Unacked, Times(FaultKind::LostMessage, 3), "expired"),
    ])
    .await;
}

#[tokio::test]
async fn an_event_that_goes_wrong() {
    for (fault, expected) in [
        (FaultKind::Duplicate, &["one", "two", "three"][..]),
        (FaultKind::Malformed, &["one", "two", "three"]),
        // The push is lost: only the history has it.
        (FaultKind::LostPush, &["one", "three"]),
    ] {
        let course = Course::start(format!("{fault:?}")).await;
        course.say(ALICE, "one");
        course.arrived("one").await;
        course.world.control().inject(Fault::once(fault).for_user(ALICE));
        course.say(ALICE, "two");
        course.say(ALICE, "three");
        course.arrived("three").await;
        assert!(course.world.control().faults().is_empty());
        check_events(&course.world, &course.row, expected).await;
        assert_eq!(course.world.control().connects(ALICE), 1, "{}: the connection stayed", course.row);
    }
}
