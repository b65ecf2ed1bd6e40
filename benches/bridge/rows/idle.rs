//! Many connected users who say nothing.

use std::time::Duration;

use super::MIB;
use crate::{
    Outcome,
    bench::{Bench, Scene},
    kernel::Memory,
    platform::Bot,
    report::{Finding, Goal, Unit},
};

const FEW: usize = 1_000;
const MANY: usize = 10_000;
/// What a start needs is given back after this, as far as it is.
const RESTS: Duration = Duration::from_secs(3);
/// Every socket is pinged twice in it, and once as the platform's own clients do.
const WATCHED: Duration = Duration::from_secs(30);

pub(super) async fn measure(bench: &mut Bench) -> Outcome<Vec<Finding>> {
    let (few, many) = (bench.scaled(FEW), bench.scaled(MANY));
    let scene = Scene::start(Bot::Acks, few).await?;
    tokio::time::sleep(RESTS).await;
    let base = scene.daemon.memory()?;
    bench.step(format_args!("{few} users: {:.1} MiB resident", mebibytes(base)));
    scene.daemon.stop().await?;

    let scene = Scene::start(Bot::Acks, many).await?;
    let connected = scene.daemon.started.elapsed();
    bench.step(format_args!("{many} users connected {:.1} s after the start", connected.as_secs_f64()));
    tokio::time::sleep(RESTS).await;
    let cpu = scene.daemon.cpu()?;
    tokio::time::sleep(WATCHED).await;
    let busy = (scene.daemon.cpu()? - cpu).as_secs_f64() / WATCHED.as_secs_f64();
    let memory = scene.daemon.memory()?;
    bench.step(format_args!(
        "{many} users: {:.1} MiB resident, {:.2} % of a core",
        mebibytes(memory),
        busy * 100.0
    ));
    scene.daemon.stop().await?;
    let further = memory.resident.saturating_sub(base.resident) as f64 / (many - few) as f64;
    Ok(vec![
        Finding::new("resident per further user", Unit::KiB, further / 1024.0).must(Goal::AtMost(12.0)),
        Finding::new("CPU", Unit::PercentOfCore, busy * 100.0).must(Goal::AtMost(3.0)),
        Finding::new("all connected after the start", Unit::Seconds, connected.as_secs_f64())
            .must(Goal::AtMost(15.0)),
        Finding::new(format!("resident with {many} users"), Unit::MiB, mebibytes(memory)),
    ])
}

fn mebibytes(memory: Memory) -> f64 {
    memory.resident as f64 / MIB
}
