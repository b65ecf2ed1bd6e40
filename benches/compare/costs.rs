//! What an event and a message cost.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    callers::Load,
    install::Tools,
    kernel,
    peer::Peer,
    stage::{SETTLES, Stage},
    stats::{median, micros_each, rate},
    table::{Column, Metric},
};

/// Of the measurement that it is compared with.
pub const USERS: usize = 50;
const CALLERS: usize = 64;
const PACE: f64 = 500.0;
/// What a start needs is given back after this, as far as it is.
const RESTS: Duration = Duration::from_secs(4);
const MIB: f64 = 1024.0 * 1024.0;

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Amounts {
    rounds: usize,
    warm_up: usize,
    events: usize,
    paced: usize,
    messages: usize,
    many_users: usize,
}

impl Amounts {
    /// All of it, or what shows that it works.
    pub const fn new(quick: bool) -> Self {
        match quick {
            false => Self {
                rounds: 3,
                warm_up: 5_000,
                events: 20_000,
                paced: 5_000,
                messages: 20_000,
                many_users: 1_000,
            },
            true => Self {
                rounds: 1,
                warm_up: 1_000,
                events: 3_000,
                paced: 1_000,
                messages: 3_000,
                many_users: 200,
            },
        }
    }
}

/// Measures everything that a peer can do.
pub async fn measure(
    tools: &Tools,
    amounts: crate::arguments::Amounts,
    column: &mut Column,
    say: &impl Fn(fmt::Arguments<'_>),
) {
    let (peer, amounts) = (column.peer(), amounts.costs);
    column.note("events", events(tools, peer, amounts, say).await, say);
    if peer.takes_posts() {
        column.note("posts", posts(tools, peer, amounts, say).await, say);
        column.note("idle", idle(tools, peer, amounts, say).await, say);
    }
}

async fn events(
    tools: &Tools,
    peer: Peer,
    amounts: Amounts,
    say: &impl Fn(fmt::Arguments<'_>),
) -> Outcome<Vec<(Metric, f64)>> {
    let mut stage = Stage::start(peer, tools, USERS).await?;
    tokio::time::sleep(RESTS).await;
    let at_rest = stage.process()?.memory()?.resident as f64 / MIB;
    let at_once = peer.at_once(amounts.events);
    let mut lost = flood(&mut stage, amounts.warm_up).await?.lost;

    let already = stage.posts();
    stage.say_paced(amounts.paced, PACE).await?;
    stage.quiet(already + amounts.paced as u64).await;
    let spread = stage.receiver.take_spread();
    say(format_args!("{PACE} events a second: p50 {:.2} ms, p99 {:.2} ms", spread.p50(), spread.p99()));

    let (mut rates, mut micros) = (Vec::new(), Vec::new());
    for round in 1..=amounts.rounds {
        let flood = flood(&mut stage, at_once).await?;
        let came = at_once - flood.lost;
        let (rate, each) = (rate(came, flood.took), micros_each(flood.cpu, came));
        say(format_args!(
            "events, round {round} of {}: {rate:.0}/s, {each:.1} us CPU each, {} lost",
            amounts.rounds, flood.lost
        ));
        rates.push(rate);
        micros.push(each);
        lost += flood.lost;
    }
    let peak = stage.process()?.memory()?.peak as f64 / MIB;
    let (connections, out_of_order) = (stage.receiver.connections().in_all, stage.receiver.out_of_order());
    say(format_args!(
        "{at_rest:.1} MiB at rest, at most {peak:.1} MiB; {connections} connections, {out_of_order} out of order"
    ));
    stage.end().await?;
    Ok(vec![
        (Metric::EventsRate, median(&rates)),
        (Metric::EventsCpu, median(&micros)),
        (Metric::LatencyP50, spread.p50()),
        (Metric::LatencyP99, spread.p99()),
        (Metric::RestMemory, at_rest),
        (Metric::PeakMemory, peak),
        (Metric::Connections, connections as f64),
        (Metric::FloodOutOfOrder, out_of_order as f64),
        (Metric::FloodLost, lost as f64),
    ])
}

/// Events as fast as they are taken.
struct Flood {
    /// From the first push to the last POST.
    took: Duration,
    cpu: Duration,
    /// What never came.
    lost: usize,
}

async fn flood(stage: &mut Stage<'_>, events: usize) -> Outcome<Flood> {
    let already = stage.posts();
    stage.receiver.take_arrivals();
    let (cpu, started) = (stage.process()?.cpu()?, kernel::nanos());
    stage.say_at_once(events, |_| false).await?;
    stage.quiet(already + events as u64).await;
    tokio::time::sleep(SETTLES).await;
    let cpu = stage.process()?.cpu()? - cpu;
    let arrivals = stage.receiver.take_arrivals();
    let last = arrivals.iter().map(|arrival| arrival.at).max().ok_or("nothing came")?;
    let took = Duration::from_nanos(last.saturating_sub(started));
    Ok(Flood { took, cpu, lost: events.saturating_sub(arrivals.len()) })
}

async fn posts(
    tools: &Tools,
    peer: Peer,
    amounts: Amounts,
    say: &impl Fn(fmt::Arguments<'_>),
) -> Outcome<Vec<(Metric, f64)>> {
    let stage = Stage::start(peer, tools, USERS).await?;
    let api = stage.process()?.api().ok_or("it takes no messages")?;
    let (mut rates, mut micros, mut first) = (Vec::new(), Vec::new(), 0);
    for round in 0..=amounts.rounds {
        let messages = if round == 0 { amounts.warm_up } else { amounts.messages };
        let already = stage.platform.acks();
        let (cpu, started) = (stage.process()?.cpu()?, Instant::now());
        Load { api, callers: CALLERS, users: USERS, first, messages }.flood().await?;
        stage.platform.acked(already + messages as u64).await?;
        let took = started.elapsed();
        tokio::time::sleep(SETTLES).await;
        let cpu = stage.process()?.cpu()? - cpu;
        first += messages;
        if round == 0 {
            continue;
        }
        rates.push(rate(messages, took));
        micros.push(micros_each(cpu, messages));
        say(format_args!(
            "posts, round {round} of {}: {:.0}/s, {:.1} us CPU each",
            amounts.rounds,
            rate(messages, took),
            micros_each(cpu, messages)
        ));
    }
    stage.end().await?;
    Ok(vec![(Metric::PostsRate, median(&rates)), (Metric::PostsCpu, median(&micros))])
}

async fn idle(
    tools: &Tools,
    peer: Peer,
    amounts: Amounts,
    say: &impl Fn(fmt::Arguments<'_>),
) -> Outcome<Vec<(Metric, f64)>> {
    let mut resident = Vec::new();
    for users in [USERS, amounts.many_users] {
        let stage = Stage::start(peer, tools, users).await?;
        tokio::time::sleep(RESTS).await;
        let memory = stage.process()?.memory()?.resident;
        say(format_args!("{users} idle users: {:.1} MiB resident", memory as f64 / MIB));
        resident.push(memory as f64);
        stage.end().await?;
    }
    let further = (resident[1] - resident[0]) / (amounts.many_users - USERS) as f64;
    Ok(vec![(Metric::MemoryPerUser, further / 1024.0)])
}
