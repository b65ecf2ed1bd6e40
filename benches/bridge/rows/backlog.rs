//! A start with much in the store, beside sled alone opening the same.

use std::time::Instant;

use serde::Deserialize;

use super::{
    MIB, events,
    waiting::{USERS, WAITS},
};
use crate::{
    Outcome,
    bench::{ANSWERS, Bench, Scene, copy, directory},
    child::Child,
    daemon::{Daemon, Settings},
    platform::{Bot, Platform},
    receiver::{Answer, Receiver},
    report::{Finding, Goal, Unit},
    roles::Role,
    stats::{micros_each, rate},
};

/// How much of what waits is delivered: enough to tell how fast.
const DRAINED: usize = 100_000;

pub(super) async fn measure(bench: &mut Bench) -> Outcome<Vec<Finding>> {
    let drained = bench.scaled(DRAINED);
    let filled = bench.waiting().await?;
    let (store, waiting) = (filled.path().join("data"), filled.events);
    let directory = directory()?;
    copy(&store, &directory.path().join("data")).await?;
    let sled = sled_alone(&store).await?;
    bench.step(format_args!("sled alone opens it in {sled:.2} s"));

    let mut beside = Beside::start(bench.scaled(events::EVENTS)).await?;
    let before = beside.rate().await?;
    let platform = Platform::start(Bot::Acks).await?;
    let (crm, audit) = (Receiver::start(Answer::Takes).await?, Receiver::start(Answer::Takes).await?);
    let daemon = Daemon::start(&Settings {
        directory: directory.path(),
        platform: &platform,
        users: USERS,
        webhooks: &[("crm", &crm, ANSWERS), ("audit", &audit, WAITS)],
    })
    .await?;
    let ready = daemon.ready_after.as_secs_f64();
    let (drain_began, already, cpu) = (Instant::now(), audit.posts(), daemon.cpu()?);
    audit.received(already + drained.min(waiting / 2) as u64).await?;
    let posts = usize::try_from(audit.posts() - already)?;
    let (rate, each) = (rate(posts, drain_began.elapsed()), micros_each(daemon.cpu()? - cpu, posts));
    let peak = daemon.memory()?.peak as f64 / MIB;
    bench.step(format_args!(
        "ready in {ready:.2} s, delivers {rate:.0}/s at {each:.1} us CPU each, at most {peak:.1} MiB resident"
    ));
    daemon.stop().await?;
    let after = beside.rate().await?;
    bench.step(format_args!("events, before and after: {before:.0} and {after:.0}/s"));
    beside.scene.daemon.stop().await?;
    Ok(vec![
        Finding::new("ready after the start", Unit::Seconds, ready)
            .beside("sled alone", sled)
            .must(Goal::TimesLimitAndAbove(1.5, 0.5)),
        Finding::new("resident, at most", Unit::MiB, peak).must(Goal::AtMost(96.0)),
        Finding::new("rate of the drain", Unit::PerSecond, rate)
            .beside("events, in the same minute", f64::midpoint(before, after))
            .must(Goal::ShareOfLimit(1.0)),
        Finding::new("CPU per event of the drain", Unit::Micros, each),
        Finding::new("out of order", Unit::Pieces, audit.out_of_order() as f64).must(Goal::AtMost(0.0)),
    ])
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
async fn sled_alone(store: &std::path::Path) -> Outcome<f64> {
    #[derive(Deserialize)]
    struct Opened {
        seconds: f64,
    }
    let role = Role::Database { path: store.join("sled") };
    let work = Child::start(&role).await?.work().await?;
    Ok(serde_json::from_value::<Opened>(work.result)?.seconds)
}
