//! Messages, as fast as they are accepted and at a pace, beside a server that stores nothing.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    bench::{Bench, SETTLES, Scene, scratch},
    callers::Load,
    child::Child,
    kernel,
    machine::{commits, paced_commits},
    platform::Bot,
    report::{Finding, Goal, Unit},
    roles::Role,
    stats::{Spread, median, micros_each, rate},
};

const USERS: usize = 100;
const CALLERS: usize = 64;
const MESSAGES: usize = 50_000;
const ROUNDS: usize = 3;
const PACE: f64 = 1_000.0;
const PACED_MESSAGES: usize = 10_000;

/// What a round took.
struct Round {
    accepted: Duration,
    acked: Duration,
    cpu: Duration,
    driver: Duration,
}

pub(super) async fn flood(bench: &mut Bench) -> Outcome<Vec<Finding>> {
    let messages = bench.scaled(MESSAGES);
    let scene = Scene::start(Bot::Acks, USERS).await?;
    let server = Child::start(&Role::Server).await?;
    let limit: SocketAddr = serde_json::from_value(server.ready.clone())?;
    let (mut rates, mut acked, mut micros, mut driver) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut bare_rates, mut bare_micros) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let load =
            Load { api: scene.daemon.api, callers: CALLERS, users: USERS, first: round * messages, messages };
        let through = through(&scene, load).await?;
        rates.push(rate(messages, through.accepted));
        acked.push(rate(messages, through.acked));
        micros.push(micros_each(through.cpu, messages));
        driver.push(micros_each(through.driver, messages));
        let cpu = server.cpu()?;
        let took = Load { api: limit, ..load }.flood().await?;
        bare_rates.push(rate(messages, took));
        bare_micros.push(micros_each(server.cpu()? - cpu, messages));
        bench.step(format_args!(
            "round {} of {ROUNDS}: {:.0}/s accepted, {:.1} us CPU a message; a server alone {:.0}/s",
            round + 1,
            rate(messages, through.accepted),
            micros_each(through.cpu, messages),
            rate(messages, took)
        ));
    }
    scene.daemon.stop().await?;
    Ok(vec![
        Finding::new("rate of 202", Unit::PerSecond, median(&rates))
            .beside("server alone", median(&bare_rates))
            .must(Goal::ShareOfLimit(0.3)),
        Finding::new("CPU per message, ack included, aim 55 us", Unit::Micros, median(&micros))
            .beside("server alone", median(&bare_micros))
            .must(Goal::AtMost(90.0)),
        Finding::new("rate of acks", Unit::PerSecond, median(&acked)),
        Finding::new("CPU of the driver, per message", Unit::Micros, median(&driver)),
    ])
}

/// Messages through the bridge, until the last is acked.
async fn through(scene: &Scene, load: Load) -> Outcome<Round> {
    let already = scene.platform.acks();
    let (cpu, driver, started) = (scene.daemon.cpu()?, kernel::own_cpu()?, Instant::now());
    let accepted = load.flood().await?;
    scene.platform.acked(already + load.messages as u64).await?;
    let acked = started.elapsed();
    tokio::time::sleep(SETTLES).await;
    Ok(Round { accepted, acked, cpu: scene.daemon.cpu()? - cpu, driver: kernel::own_cpu()? - driver })
}

pub(super) async fn paced(bench: &mut Bench) -> Outcome<Vec<Finding>> {
    let messages = bench.scaled(PACED_MESSAGES);
    let scene = Scene::start(Bot::Acks, USERS).await?;
    let commit = commits(&scratch()?)?.p50();
    let load = Load { api: scene.daemon.api, callers: CALLERS, users: USERS, first: 0, messages };
    let posted = load.paced(PACE).await?;
    scene.platform.acked(messages as u64).await?;
    let arrivals = scene.platform.arrivals();
    scene.daemon.stop().await?;
    let disk = paced_commits(&scratch()?, messages / 2, PACE)?;
    let between = |from: u64, to: u64| to.cast_signed() - from.cast_signed();
    let answers = Spread::new(posted.iter().map(|post| between(post.sent_at, post.answered_at)).collect());
    let frames =
        Spread::new(posted.iter().map(|post| between(post.answered_at, arrivals[post.number])).collect());
    bench.step(format_args!(
        "202: p50 {:.2} ms, p99 {:.2} ms; a commit {commit:.2} ms, at this pace p99 {:.2} ms; the frame {:.2} ms after the 202 (p50)",
        answers.p50(),
        answers.p99(),
        disk.p99(),
        frames.p50()
    ));
    Ok(vec![
        Finding::new("202, p50", Unit::Millis, answers.p50()),
        Finding::new("202, p99", Unit::Millis, answers.p99())
            .beside("a commit", commit)
            .must(Goal::TimesLimitAndAbove(3.0, 1.0)),
        Finding::new("the disk alone at this pace, p99", Unit::Millis, disk.p99()),
        Finding::new("frame after its 202, p50", Unit::Millis, frames.p50()).must(Goal::AtMost(1.0)),
        Finding::new("frame after its 202, p99", Unit::Millis, frames.p99()),
    ])
}
