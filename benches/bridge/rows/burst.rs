//! Many events at once to one webhook.

use super::MIB;
use crate::{
    Outcome,
    bench::{Bench, Scene},
    platform::Bot,
    report::{Finding, Goal, Unit},
};

const USERS: usize = 100;
/// At every scale: it is about the moment, not about the amount.
const EVENTS: usize = 5_000;
/// `max_in_flight`'s default.
const IN_FLIGHT: f64 = 32.0;

pub(super) async fn measure(bench: &mut Bench) -> Outcome<Vec<Finding>> {
    let mut scene = Scene::start(Bot::Acks, USERS).await?;
    let burst = scene.burst(EVENTS, USERS).await?;
    let (connections, peak) = (scene.receiver.connections(), scene.daemon.memory()?.peak as f64 / MIB);
    bench.step(format_args!(
        "{EVENTS} events at {:.0}/s: {} connections at once, {} in all, at most {peak:.1} MiB resident",
        burst.rate(),
        connections.most_open,
        connections.in_all
    ));
    scene.daemon.stop().await?;
    Ok(vec![
        Finding::new("connections at once", Unit::Pieces, connections.most_open as f64)
            .beside("max_in_flight", IN_FLIGHT)
            .must(Goal::TimesLimit(2.0)),
        Finding::new("connections in all", Unit::Pieces, connections.in_all as f64)
            .beside("max_in_flight", IN_FLIGHT)
            .must(Goal::TimesLimit(4.0)),
        Finding::new("resident, at most", Unit::MiB, peak).must(Goal::AtMost(48.0)),
    ])
}
