//! Whether an event costs the same with many users, and with many events that wait for another
//! webhook.

use std::path::Path;

use super::waiting::{self, WAITS};
use crate::{
    Outcome,
    bench::{ANSWERS, Bench, burst, copy, directory},
    daemon::{Daemon, Settings},
    feed::Feed,
    platform::{Bot, Platform},
    receiver::{Answer, Receiver},
    report::{Finding, Goal, Unit},
    stats::median,
};

/// How many users get events.
const USERS: [usize; 3] = [10, 1_000, 10_000];
const EVENTS: usize = 20_000;
/// Bursts of so many; the median counts.
const ROUNDS: usize = 3;

pub(super) async fn measure(bench: &mut Bench) -> Outcome<Vec<Finding>> {
    let mut findings: Vec<Finding> = Vec::new();
    let mut smallest = None;
    for with_waiting in [false, true] {
        let directory = directory()?;
        if with_waiting {
            let filled = bench.waiting().await?;
            copy(&filled.path().join("data"), &directory.path().join("data")).await?;
        } else {
            waiting::live(directory.path()).await?;
        }
        for whole in USERS {
            let users = if whole == USERS[0] { whole } else { bench.scaled(whole) };
            let micros = micros(directory.path(), users, bench.scaled(EVENTS)).await?;
            let among = if with_waiting { "much waiting" } else { "nothing waiting" };
            bench.step(format_args!("{users} users, {among}: {micros:.1} us CPU an event"));
            let finding =
                Finding::new(format!("CPU per event, {users} users, {among}"), Unit::Micros, micros);
            findings.push(match smallest {
                None => {
                    smallest = Some(micros);
                    finding
                }
                Some(smallest) => finding.beside("smallest case", smallest).must(Goal::TimesLimit(1.2)),
            });
        }
    }
    Ok(findings)
}

/// The CPU time of an event, with this store, at so many users.
async fn micros(directory: &Path, users: usize, events: usize) -> Outcome<f64> {
    let platform = Platform::start(Bot::Acks).await?;
    let (crm, audit) = (Receiver::start(Answer::Takes).await?, Receiver::start(Answer::Refuses).await?);
    let daemon = Daemon::connected(&Settings {
        directory,
        platform: &platform,
        // Those whose events wait stay configured.
        users: users.max(waiting::USERS),
        webhooks: &[("crm", &crm, ANSWERS), ("audit", &audit, WAITS)],
    })
    .await?;
    let mut feed = Feed::new(ANSWERS, users);
    // Connections and caches are warm, and every user had events before, as it is in a life's middle.
    burst(&platform, &crm, &daemon, &mut feed, users.max(events / 10), users).await?;
    let mut micros = Vec::new();
    for _ in 0..ROUNDS {
        micros.push(burst(&platform, &crm, &daemon, &mut feed, events, users).await?.micros());
    }
    daemon.stop().await?;
    Ok(median(&micros))
}
