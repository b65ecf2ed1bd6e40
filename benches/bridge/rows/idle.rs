//! Many connected users who say nothing.

use std::time::Duration;

use super::MIB;
use crate::{
    Outcome,
    bench::{Bench, Scene},
    kernel::Memory,
    platform::{Bot, Platform},
    report::{Finding, Goal, Unit},
};

const FEW: usize = 1_000;
const MANY: usize = 10_000;
/// Each of them takes three descriptors here, and handshakes on both sides.
const MANY_OVER_TLS: usize = 3_000;
/// What a start needs is given back after this, as far as it is: connections of its requests stay open for 10 s.
const RESTS: Duration = Duration::from_secs(12);
/// Every socket is pinged twice in it, and once as the platform's own clients do.
const WATCHED: Duration = Duration::from_secs(30);

pub(super) async fn measure(bench: &mut Bench) -> Outcome<Vec<Finding>> {
    let (few, many) = (bench.scaled(FEW), bench.scaled(MANY));
    let base = resting(bench, Platform::start(Bot::Acks).await?, few).await?;

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
    let further = each_further(base, memory, many - few);
    Ok(vec![
        Finding::new("resident per further user", Unit::KiB, further).must(Goal::AtMost(12.0)),
        Finding::new("resident per further user over TLS", Unit::KiB, over_tls(bench).await?)
            .beside("without TLS", further),
        Finding::new("CPU", Unit::PercentOfCore, busy * 100.0).must(Goal::AtMost(3.0)),
        Finding::new("all connected after the start", Unit::Seconds, connected.as_secs_f64())
            .must(Goal::AtMost(15.0)),
        Finding::new(format!("resident with {many} users"), Unit::MiB, mebibytes(memory)),
    ])
}

/// KiB of each further user whose socket is a `wss`.
async fn over_tls(bench: &Bench) -> Outcome<f64> {
    let (few, many) = (bench.scaled(FEW), bench.scaled(MANY_OVER_TLS));
    let base = resting(bench, Platform::start_with_tls(Bot::Acks).await?, few).await?;
    let memory = resting(bench, Platform::start_with_tls(Bot::Acks).await?, many).await?;
    Ok(each_further(base, memory, many - few))
}

/// A daemon's memory when so many users have rested.
async fn resting(bench: &Bench, platform: Platform, users: usize) -> Outcome<Memory> {
    let how = platform.authority().map_or("", |_| " over TLS");
    let scene = Scene::on(platform, users).await?;
    tokio::time::sleep(RESTS).await;
    let memory = scene.daemon.memory()?;
    bench.step(format_args!("{users} users{how}: {:.1} MiB resident", mebibytes(memory)));
    scene.daemon.stop().await?;
    Ok(memory)
}

/// In KiB.
fn each_further(base: Memory, memory: Memory, users: usize) -> f64 {
    memory.resident.saturating_sub(base.resident) as f64 / users as f64 / 1024.0
}

fn mebibytes(memory: Memory) -> f64 {
    memory.resident as f64 / MIB
}
