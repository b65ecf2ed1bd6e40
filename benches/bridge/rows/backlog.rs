//! A start with much in the store, beside sled alone opening the same.

use std::{path::Path, time::Instant};

use serde::Deserialize;

use super::{
    MIB, events,
    waiting::{USERS, WAITS},
};
use crate::{
    Outcome,
    bench::{ANSWERS, Bench, STARTS, Scene, copy, directory},
    child::Child,
    daemon::{Daemon, Settings},
    platform::{Bot, Platform},
    receiver::{Answer, Receiver},
    report::{Finding, Goal, Unit},
    roles::Role,
    stats::{median, micros_each, rate},
};

/// So many of those that wait are delivered first: users and connections are there then, as beside it.
const BEFORE: usize = 20_000;
/// How much is delivered then: enough to tell how fast.
const DRAINED: usize = 100_000;

/// A start, and the drain that follows.
struct Drain {
    /// Seconds from the start until it was ready.
    ready: f64,
    /// Events a second.
    rate: f64,
    /// CPU time of each.
    micros: f64,
    /// MiB in memory, at most.
    peak: f64,
    out_of_order: f64,
}

pub(super) async fn measure(bench: &mut Bench) -> Outcome<Vec<Finding>> {
    let (before, drained) = (bench.scaled(BEFORE), bench.scaled(DRAINED));
    let filled = bench.waiting().await?;
    let (store, all) = (filled.path().join("data"), filled.events);
    let sled = sled_alone(&store).await?;
    bench.step(format_args!("sled alone opens it in {sled:.2} s"));
    let mut beside = Beside::start(bench.scaled(events::EVENTS)).await?;
    let (mut drains, mut rates) = (Vec::new(), Vec::new());
    for start in 1..=STARTS {
        let directory = directory()?;
        copy(&store, &directory.path().join("data")).await?;
        let events_before = beside.rate().await?;
        // What it takes in memory depends on how much it has delivered.
        let end = if start == STARTS { all } else { before + drained };
        let drain = drain(directory.path(), before, drained, end).await?;
        let events_after = beside.rate().await?;
        bench.step(format_args!(
            "start {start} of {STARTS}: ready in {:.2} s, delivers {:.0}/s at {:.1} us CPU each, at most {:.1} MiB resident; events, before and after: {events_before:.0} and {events_after:.0}/s",
            drain.ready, drain.rate, drain.micros, drain.peak
        ));
        drains.push(drain);
        rates.push(f64::midpoint(events_before, events_after));
    }
    beside.scene.daemon.stop().await?;
    let of_all = |value: fn(&Drain) -> f64| drains.iter().map(value).collect::<Vec<_>>();
    let most = |value| of_all(value).into_iter().fold(0.0, f64::max);
    Ok(vec![
        Finding::new("ready after the start", Unit::Seconds, median(&of_all(|drain| drain.ready)))
            .beside("sled alone", sled)
            .must(Goal::TimesLimitAndAbove(1.5, 0.5)),
        Finding::new("resident, at most", Unit::MiB, most(|drain| drain.peak)).must(Goal::AtMost(96.0)),
        Finding::new("rate of the drain", Unit::PerSecond, median(&of_all(|drain| drain.rate)))
            .beside("events, in the same minute", median(&rates))
            .must(Goal::ShareOfLimit(1.0)),
        Finding::new("CPU per event of the drain", Unit::Micros, median(&of_all(|drain| drain.micros))),
        Finding::new("out of order", Unit::Pieces, most(|drain| drain.out_of_order)).must(Goal::AtMost(0.0)),
    ])
}

/// Starts a bridge in a directory with a store, and has so many of the events that wait delivered, some `before` them, and the
/// others up to the `end` as well.
async fn drain(directory: &Path, before: usize, events: usize, end: usize) -> Outcome<Drain> {
    let platform = Platform::start(Bot::Acks).await?;
    let (crm, audit) = (Receiver::start(Answer::Takes).await?, Receiver::start(Answer::Takes).await?);
    let webhooks = &[("crm", &crm, ANSWERS), ("audit", &audit, WAITS)];
    let daemon = Daemon::start(&Settings { directory, platform: &platform, users: USERS, webhooks }).await?;
    audit.received(before as u64).await?;
    let (began, already, cpu) = (Instant::now(), audit.posts(), daemon.cpu()?);
    audit.received(already + events as u64).await?;
    let posts = usize::try_from(audit.posts() - already)?;
    let (rate, micros) = (rate(posts, began.elapsed()), micros_each(daemon.cpu()? - cpu, posts));
    audit.received(end as u64).await?;
    let (ready, peak) = (daemon.ready_after.as_secs_f64(), daemon.memory()?.peak as f64 / MIB);
    daemon.stop().await?;
    Ok(Drain { ready, rate, micros, peak, out_of_order: audit.out_of_order() as f64 })
}

/// What the events row does, before and after the drain: minutes differ by more than the two do.
struct Beside {
    scene: Scene,
    events: usize,
}

impl Beside {
    /// Its connections and caches are warm.
    async fn start(events: usize) -> Outcome<Self> {
        let mut beside = Self { scene: Scene::start(Bot::Acks, events::USERS).await?, events };
        beside.rate().await?;
        Ok(beside)
    }

    async fn rate(&mut self) -> Outcome<f64> {
        Ok(self.scene.burst(self.events, events::USERS).await?.rate())
    }
}

/// How long sled takes to open a store's database, in seconds.
async fn sled_alone(store: &Path) -> Outcome<f64> {
    #[derive(Deserialize)]
    struct Opened {
        seconds: f64,
    }
    let role = Role::Database { path: store.join("sled") };
    let work = Child::start(&role).await?.work().await?;
    Ok(serde_json::from_value::<Opened>(work.result)?.seconds)
}
