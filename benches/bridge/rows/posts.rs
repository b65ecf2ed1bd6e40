//! Messages, as fast as they are accepted and at a pace, beside a server that stores nothing.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    bench::{Bench, PACED_ROUNDS, SETTLES, STARTS, Scene, scratch},
    callers::Load,
    child::Child,
    kernel,
    machine::{commits, paced_commits},
    platform::Bot,
    report::{Finding, Goal, Unit},
    roles::Role,
    stats::{Spread, median, median_of, micros_each, rate},
};

const USERS: usize = 100;
const CALLERS: usize = 64;
const MESSAGES: usize = 50_000;
/// Of each start.
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
    let (mut rates, mut acked, mut micros, mut driver) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut bare_rates, mut bare_micros) = (Vec::new(), Vec::new());
    for start in 1..=STARTS {
        let scene = Scene::start(Bot::Acks, USERS).await?;
        let server = Child::start(&Role::Server).await?;
        let limit: SocketAddr = serde_json::from_value(server.ready.clone())?;
        for round in 1..=ROUNDS {
            let first = (round - 1) * messages;
            let load = Load { api: scene.daemon.api, callers: CALLERS, users: USERS, first, messages };
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
                "start {start} of {STARTS}, round {round} of {ROUNDS}: {:.0}/s accepted, {:.1} us CPU a message; a server alone {:.0}/s",
                rate(messages, through.accepted),
                micros_each(through.cpu, messages),
                rate(messages, took)
            ));
        }
        scene.daemon.stop().await?;
    }
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
    let messages = bench.scaled(PACED_MESSAGES / PACED_ROUNDS);
    let scene = Scene::start(Bot::Acks, USERS).await?;
    let commit = commits(&scratch()?)?.p50();
    let (mut answers, mut frames, mut disks) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=PACED_ROUNDS {
        let first = (round - 1) * messages;
        let load = Load { api: scene.daemon.api, callers: CALLERS, users: USERS, first, messages };
        let [answer, frame] = paced_round(&scene, load).await?;
        let disk = paced_commits(&scratch()?, messages / 2, PACE)?;
        bench.step(format_args!(
            "round {round} of {PACED_ROUNDS}: 202: p50 {:.2} ms, p99 {:.2} ms; a commit {commit:.2} ms, at this pace p99 {:.2} ms; the frame {:.2} ms after the 202 (p50)",
            answer.p50(),
            answer.p99(),
            disk.p99(),
            frame.p50()
        ));
        answers.push(answer);
        frames.push(frame);
        disks.push(disk);
    }
    scene.daemon.stop().await?;
    Ok(vec![
        Finding::new("202, p50", Unit::Millis, median_of(Spread::p50, &answers)),
        Finding::new("202, p99", Unit::Millis, median_of(Spread::p99, &answers))
            .beside("a commit", commit)
            .must(Goal::TimesLimitAndAbove(3.0, 1.0)),
        Finding::new("202, p99 of all rounds", Unit::Millis, Spread::of_all(&answers).p99())
            .beside("the disk alone at this pace", Spread::of_all(&disks).p99()),
        Finding::new("frame after its 202, p50", Unit::Millis, median_of(Spread::p50, &frames))
            .must(Goal::AtMost(1.0)),
        Finding::new("frame after its 202, p99", Unit::Millis, median_of(Spread::p99, &frames)),
    ])
}

/// How long the `202`s took, and how long after them the frames were at the platform.
async fn paced_round(scene: &Scene, load: Load) -> Outcome<[Spread; 2]> {
    let already = scene.platform.acks();
    let posted = load.paced(PACE).await?;
    scene.platform.acked(already + load.messages as u64).await?;
    let arrivals = scene.platform.arrivals();
    let between = |from: u64, to: u64| to.cast_signed() - from.cast_signed();
    let answers = posted.iter().map(|post| between(post.sent_at, post.answered_at));
    let frames = posted.iter().map(|post| between(post.answered_at, arrivals[post.number]));
    Ok([Spread::new(answers.collect()), Spread::new(frames.collect())])
}
