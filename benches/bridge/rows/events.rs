//! Events, as fast as they come and at a pace, beside a client that has nothing to do but to post.

use crate::{
    Outcome,
    bench::{Bench, PACED_ROUNDS, STARTS, Scene},
    child::{Child, Work},
    platform::Bot,
    receiver::Receiver,
    report::{Finding, Goal, Unit},
    roles::{Pace, Role},
    stats::{Spread, median, median_of, micros_each, rate},
};

pub(super) const USERS: usize = 100;
pub(super) const EVENTS: usize = 50_000;
/// Of each start.
const ROUNDS: usize = 3;
/// `max_in_flight`'s default.
const IN_FLIGHT: usize = 32;
const PACE: f64 = 500.0;
const PACED_EVENTS: usize = 5_000;

pub(super) async fn flood(bench: &mut Bench) -> Outcome<Vec<Finding>> {
    let events = bench.scaled(EVENTS);
    let (mut rates, mut micros, mut driver) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bare_rates, mut bare_micros) = (Vec::new(), Vec::new());
    for start in 1..=STARTS {
        let mut scene = Scene::start(Bot::Acks, USERS).await?;
        for round in 1..=ROUNDS {
            let burst = scene.burst(events, USERS).await?;
            rates.push(burst.rate());
            micros.push(burst.micros());
            driver.push(burst.driver_micros());
            let bare = bare_posts(&scene.receiver, events, Pace::InFlight(IN_FLIGHT)).await?;
            bare_rates.push(rate(events, bare.took));
            bare_micros.push(micros_each(bare.cpu, events));
            bench.step(format_args!(
                "start {start} of {STARTS}, round {round} of {ROUNDS}: {:.0}/s, {:.1} us CPU an event; a bare client {:.0}/s, {:.1} us",
                burst.rate(),
                burst.micros(),
                rate(events, bare.took),
                micros_each(bare.cpu, events)
            ));
        }
        scene.daemon.stop().await?;
    }
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
    let events = bench.scaled(PACED_EVENTS / PACED_ROUNDS);
    let mut scene = Scene::start(Bot::Acks, USERS).await?;
    // Its connections are open, as they are in a life's middle.
    scene.burst(USERS, USERS).await?;
    scene.receiver.take_spread();
    let (mut bridge, mut bare, mut out_of_order) = (Vec::new(), Vec::new(), 0);
    for round in 1..=PACED_ROUNDS {
        // The bare client's numbers are no order.
        let before = scene.receiver.out_of_order();
        scene.paced(events, USERS, PACE).await?;
        out_of_order += scene.receiver.out_of_order() - before;
        let ours = scene.receiver.take_spread();
        bare_posts(&scene.receiver, events, Pace::PerSecond(PACE)).await?;
        let beside = scene.receiver.take_spread();
        bench.step(format_args!(
            "round {round} of {PACED_ROUNDS}: p50 {:.2} ms, p99 {:.2} ms; a bare client {:.2} and {:.2} ms",
            ours.p50(),
            ours.p99(),
            beside.p50(),
            beside.p99()
        ));
        bridge.push(ours);
        bare.push(beside);
    }
    scene.daemon.stop().await?;
    Ok(vec![
        Finding::new("from frame to POST, p50", Unit::Millis, median_of(Spread::p50, &bridge))
            .beside("bare client", median_of(Spread::p50, &bare))
            .must(Goal::AboveLimit(1.0)),
        Finding::new("from frame to POST, p99", Unit::Millis, median_of(Spread::p99, &bridge))
            .beside("bare client", median_of(Spread::p99, &bare))
            .must(Goal::AboveLimit(5.0)),
        Finding::new("from frame to POST, p99 of all rounds", Unit::Millis, Spread::of_all(&bridge).p99())
            .beside("bare client", Spread::of_all(&bare).p99()),
        Finding::new("out of order", Unit::Pieces, out_of_order as f64).must(Goal::AtMost(0.0)),
    ])
}

/// A bare client posts bodies as long as those that came.
async fn bare_posts(receiver: &Receiver, posts: usize, pace: Pace) -> Outcome<Work> {
    let role = Role::Client { url: receiver.url(), length: receiver.body_length(), posts, pace };
    Child::start(&role).await?.work().await
}
