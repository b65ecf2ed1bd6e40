//! Events, as fast as they come and at a pace, beside a client that has nothing to do but to post.

use crate::{
    Outcome,
    bench::{Bench, Scene},
    child::{Child, Work},
    platform::Bot,
    receiver::Receiver,
    report::{Finding, Goal, Unit},
    roles::{Pace, Role},
    stats::{median, micros_each, rate},
};

pub(super) const USERS: usize = 100;
pub(super) const EVENTS: usize = 50_000;
const ROUNDS: usize = 3;
/// `max_in_flight`'s default.
const IN_FLIGHT: usize = 32;
const PACE: f64 = 500.0;
const PACED_EVENTS: usize = 5_000;

pub(super) async fn flood(bench: &mut Bench) -> Outcome<Vec<Finding>> {
    let events = bench.scaled(EVENTS);
    let mut scene = Scene::start(Bot::Acks, USERS).await?;
    let (mut rates, mut micros, mut driver) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bare_rates, mut bare_micros) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let burst = scene.burst(events, USERS).await?;
        rates.push(burst.rate());
        micros.push(burst.micros());
        driver.push(burst.driver_micros());
        let bare = bare_posts(&scene.receiver, events, Pace::InFlight(IN_FLIGHT)).await?;
        bare_rates.push(rate(events, bare.took));
        bare_micros.push(micros_each(bare.cpu, events));
        bench.step(format_args!(
            "round {round} of {ROUNDS}: {:.0}/s, {:.1} us CPU an event; a bare client {:.0}/s, {:.1} us",
            burst.rate(),
            burst.micros(),
            rate(events, bare.took),
            micros_each(bare.cpu, events)
        ));
    }
    scene.daemon.stop().await?;
    let micros = median(&micros);
    Ok(vec![
        Finding::new("rate", Unit::PerSecond, median(&rates))
            .beside("bare client", median(&bare_rates))
            .must(Goal::ShareOfLimit(0.4)),
        Finding::new("CPU per event", Unit::Micros, micros)
            .beside("bare client", median(&bare_micros))
            .must(Goal::TimesLimit(2.5)),
        Finding::new("CPU per event, aim 40 us", Unit::Micros, micros).must(Goal::AtMost(60.0)),
        Finding::new("CPU of the driver, per event", Unit::Micros, median(&driver)),
    ])
}

pub(super) async fn paced(bench: &mut Bench) -> Outcome<Vec<Finding>> {
    let events = bench.scaled(PACED_EVENTS);
    let mut scene = Scene::start(Bot::Acks, USERS).await?;
    // Its connections are open, as they are in a life's middle.
    scene.burst(USERS, USERS).await?;
    scene.receiver.take_spread();
    scene.paced(events, USERS, PACE).await?;
    let (bridge, out_of_order) = (scene.receiver.take_spread(), scene.receiver.out_of_order());
    bench.step(format_args!("bridge: p50 {:.2} ms, p99 {:.2} ms", bridge.p50(), bridge.p99()));
    bare_posts(&scene.receiver, events, Pace::PerSecond(PACE)).await?;
    let bare = scene.receiver.take_spread();
    bench.step(format_args!("bare client: p50 {:.2} ms, p99 {:.2} ms", bare.p50(), bare.p99()));
    scene.daemon.stop().await?;
    Ok(vec![
        Finding::new("from frame to POST, p50", Unit::Millis, bridge.p50())
            .beside("bare client", bare.p50())
            .must(Goal::AboveLimit(1.0)),
        Finding::new("from frame to POST, p99", Unit::Millis, bridge.p99())
            .beside("bare client", bare.p99())
            .must(Goal::AboveLimit(5.0)),
        Finding::new("out of order", Unit::Pieces, out_of_order as f64).must(Goal::AtMost(0.0)),
    ])
}

/// A bare client posts bodies as long as those that came.
async fn bare_posts(receiver: &Receiver, posts: usize, pace: Pace) -> Outcome<Work> {
    let role = Role::Client { url: receiver.url(), length: receiver.body_length(), posts, pace };
    Child::start(&role).await?.work().await
}
