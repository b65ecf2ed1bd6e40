//! A waited-for reply, beside a message and its answer on the socket itself.

use serde::Deserialize;

use crate::{
    Outcome,
    bench::{Bench, Scene},
    callers::Caller,
    child::Child,
    kernel,
    platform::{Bot, Platform},
    report::{Finding, Goal, Unit},
    roles::Role,
    stats::Spread,
};

const USERS: usize = 100;
const MESSAGES: usize = 3_000;

pub(super) async fn measure(bench: &mut Bench) -> Outcome<Vec<Finding>> {
    let messages = bench.scaled(MESSAGES);
    let scene = Scene::start(Bot::Answers, USERS).await?;
    let mut caller = Caller::to(scene.daemon.api).await?;
    let mut took = Vec::with_capacity(messages);
    for number in 0..messages {
        let sent_at = kernel::nanos();
        caller.post(number % USERS, number, "?wait=reply", "200").await?;
        took.push((kernel::nanos() - sent_at).cast_signed());
    }
    scene.daemon.stop().await?;
    let bridge = Spread::new(took);
    bench.step(format_args!("bridge: p50 {:.2} ms, p99 {:.2} ms", bridge.p50(), bridge.p99()));
    let raw = round_trips(messages).await?;
    bench.step(format_args!("a raw socket: p50 {:.2} ms, p99 {:.2} ms", raw.p50(), raw.p99()));
    Ok(vec![
        Finding::new("from POST to reply, p50", Unit::Millis, bridge.p50())
            .beside("raw socket", raw.p50())
            .must(Goal::AboveLimit(2.0)),
        Finding::new("from POST to reply, p99", Unit::Millis, bridge.p99()).beside("raw socket", raw.p99()),
    ])
}

async fn round_trips(messages: usize) -> Outcome<Spread> {
    #[derive(Deserialize)]
    struct RoundTrips {
        nanos: Vec<i64>,
    }
    let platform = Platform::start(Bot::Answers).await?;
    let role = Role::Sockets { platform: platform.address(), users: USERS, messages };
    let work = Child::start(&role).await?.work().await?;
    Ok(Spread::new(serde_json::from_value::<RoundTrips>(work.result)?.nanos))
}
