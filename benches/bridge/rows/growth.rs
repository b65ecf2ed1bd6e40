//! Whether an event costs the same with many users, and with many events that wait for another
//! webhook.
//!
//! The cases with as much waiting live at once, each with a store of its own, and have their bursts by turns: what a
//! machine does beside changes its speed from one minute to the next, and would be taken for a difference between them.
//! For the same reason the first case is there again, and has its turns, while the others with much waiting are measured.
//! And processes of one program differ for as long as they live: so each case is started anew several times.

use std::path::Path;

use tempfile::TempDir;

use super::waiting::{self, THROUGH_THE_LOG, WAITS};
use crate::{
    Outcome,
    bench::{ANSWERS, Bench, STARTS, burst, copy, directory},
    daemon::{Daemon, Settings},
    feed::Feed,
    kernel,
    platform::{Bot, Platform},
    receiver::{Answer, Receiver},
    report::{Finding, Goal, Unit},
    stats::median,
};

/// How many users get events.
const USERS: [usize; 3] = [10, 1_000, 10_000];
const EVENTS: usize = 20_000;
/// Bursts of so many, of each start; the median of all counts.
const ROUNDS: usize = 5;

/// The store that a case begins with, its users, and a name for the store.
type Wanted<'a> = (&'a Path, usize, &'a str);

pub(super) async fn measure(bench: &mut Bench) -> Outcome<Vec<Finding>> {
    let lived = directory()?;
    waiting::live(lived.path()).await?;
    let filled = bench.waiting().await?.path().to_owned();
    let scaled = |whole| if whole == USERS[0] { whole } else { bench.scaled(whole) };
    let nothing = USERS.map(|whole| (lived.path(), scaled(whole), "nothing waiting"));
    let much = USERS.map(|whole| (filled.as_path(), scaled(whole), "much waiting"));
    let again = (lived.path(), USERS[0], "nothing waiting, again");
    let much = [&[again], &much[..]].concat();
    let (mut of_nothing, mut of_much) = (Vec::new(), Vec::new());
    for start in 1..=STARTS {
        bench.step(format_args!("start {start} of {STARTS}"));
        of_nothing.push(by_turns(bench, &nothing).await?);
        of_much.push(by_turns(bench, &much).await?);
    }
    Ok([findings(&nothing, &of_nothing), findings(&much, &of_much)].concat())
}

fn name(users: usize, among: &str) -> String {
    format!("{users} users, {among}")
}

/// The CPU time of an event in each burst of each of these cases.
async fn by_turns(bench: &Bench, wanted: &[Wanted<'_>]) -> Outcome<Vec<Vec<f64>>> {
    let mut cases = Vec::new();
    for (store, users, among) in wanted {
        cases.push(Case::start(store, *users, among).await?);
    }
    kernel::settle_disk();
    let events = bench.scaled(EVENTS);
    for case in &mut cases {
        case.warm_up(events).await?;
    }
    for round in 0..ROUNDS {
        // There and back, so that none is always behind the same one.
        let count = cases.len();
        for turn in 0..count {
            cases[if round % 2 == 0 { turn } else { count - 1 - turn }].burst(events).await?;
        }
    }
    let mut micros = Vec::new();
    for case in cases {
        let (name, bursts) = case.end().await?;
        bench.step(format_args!("{name}: {:.1} us CPU an event", median(&bursts)));
        micros.push(bursts);
    }
    Ok(micros)
}

/// Of the bursts of each case, in each start. Cases are compared by what had its turn in the same round, seconds apart: their
/// medians may be of different minutes.
fn findings(wanted: &[Wanted<'_>], starts: &[Vec<Vec<f64>>]) -> Vec<Finding> {
    let bursts = |case: usize| starts.iter().flat_map(|cases| cases[case].clone()).collect::<Vec<_>>();
    let all: Vec<_> = (0..wanted.len()).map(bursts).collect();
    let Some(smallest) = all.iter().min_by(|one, other| median(one).total_cmp(&median(other))) else {
        return Vec::new();
    };
    let names = || wanted.iter().map(|(_, users, among)| name(*users, among));
    let micros = names().zip(&all).map(|(case, bursts)| {
        Finding::new(format!("CPU per event, {case}"), Unit::Micros, median(bursts))
            .beside("smallest case", median(smallest))
    });
    let ratios = names().zip(&all).map(|(case, bursts)| {
        let by_round: Vec<_> =
            bursts.iter().zip(smallest).map(|(burst, smallest)| burst / smallest).collect();
        Finding::new(
            format!("beside the smallest case in the same round, {case}"),
            Unit::Times,
            median(&by_round),
        )
        .must(Goal::AtMost(1.2))
    });
    micros.chain(ratios).collect()
}

/// A bridge, and what it is connected to.
struct Case {
    name: String,
    /// How many users get events.
    users: usize,
    platform: Platform,
    crm: Receiver,
    /// The one that others wait for.
    _audit: Receiver,
    daemon: Daemon,
    feed: Feed,
    micros: Vec<f64>,
    _directory: TempDir,
}

impl Case {
    /// With a copy of this store.
    async fn start(store: &Path, users: usize, among: &str) -> Outcome<Self> {
        let directory = directory()?;
        copy(&store.join("data"), &directory.path().join("data")).await?;
        let platform = Platform::start(Bot::Acks).await?;
        let (crm, audit) = (Receiver::start(Answer::Takes).await?, Receiver::start(Answer::Refuses).await?);
        let daemon = Daemon::connected(&Settings {
            directory: directory.path(),
            platform: &platform,
            // Those whose events wait stay configured.
            users: users.max(waiting::USERS),
            webhooks: &[("crm", &crm, ANSWERS), ("audit", &audit, WAITS)],
        })
        .await?;
        let (name, feed) = (name(users, among), Feed::new(ANSWERS, users));
        let (micros, _audit, _directory) = (Vec::new(), audit, directory);
        Ok(Self { name, users, platform, crm, _audit, daemon, feed, micros, _directory })
    }

    /// Connections and caches are warm then, every user had events before, and what lay in the log at the start is
    /// carried over to the database, as it is in a life's middle.
    async fn warm_up(&mut self, events: usize) -> Outcome<()> {
        for _ in 0..THROUGH_THE_LOG / EVENTS {
            self.push(events).await?;
        }
        Ok(())
    }

    async fn burst(&mut self, events: usize) -> Outcome<()> {
        let micros = self.push(events).await?;
        self.micros.push(micros);
        Ok(())
    }

    /// The CPU time of each of so many events.
    async fn push(&mut self, events: usize) -> Outcome<f64> {
        let Self { platform, crm, daemon, feed, users, .. } = self;
        Ok(burst(platform, crm, daemon, feed, events, *users).await?.micros())
    }

    /// The case, and the CPU time of an event in each burst.
    async fn end(self) -> Outcome<(String, Vec<f64>)> {
        self.daemon.stop().await?;
        Ok((self.name, self.micros))
    }
}
