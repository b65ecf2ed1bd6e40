//! What the least bridge costs.

use super::MIB;
use crate::{
    Outcome,
    bench::{Bench, SETTLES, Scene},
    callers::Caller,
    daemon::PROGRAM,
    platform::Bot,
    report::{Finding, Goal, Unit},
};

pub(super) async fn measure(bench: &mut Bench) -> Outcome<Vec<Finding>> {
    let mut scene = Scene::start(Bot::Acks, 1).await?;
    // One of each, so that everything has been in use.
    scene.burst(1, 1).await?;
    Caller::to(scene.daemon.api).await?.post(0, 0, "?wait=ack", "200").await?;
    tokio::time::sleep(SETTLES).await;
    let resident = scene.daemon.memory()?.resident as f64 / MIB;
    let size = std::fs::metadata(PROGRAM)?.len() as f64 / MIB;
    bench.step(format_args!("{resident:.1} MiB resident; the program has {size:.1} MiB"));
    scene.daemon.stop().await?;
    Ok(vec![
        Finding::new("resident", Unit::MiB, resident).must(Goal::AtMost(12.0)),
        Finding::new("the program's file", Unit::MiB, size).must(Goal::AtMost(10.0)),
    ])
}
