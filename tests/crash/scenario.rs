//! The course of a run: lives and deaths under load, the drain, an orderly end, a clean restart.

use std::{future::Future, os::unix::process::ExitStatusExt, sync::Arc, time::Duration};

use futures_util::future::join_all;
use rtm_bridge::sandbox::FrameKind;
use serde_json::Value;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

use crate::{
    daemon::{Log, Process},
    ledger::Life,
    load::{Load, Open, Shift, Stage},
    plan::Moment,
    verdict::{self, Finals},
    world::{USERS, World, user_name},
};

/// A moment that doesn't come by then never comes.
const MOMENT_WITHIN: Duration = Duration::from_secs(30);
/// No orderly end may take longer.
const END_WITHIN: Duration = Duration::from_secs(10);
/// What is behind after the last kill is caught up by then.
const DRAIN_WITHIN: Duration = Duration::from_secs(60);

/// Two loads at once would only make each other slow.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// The run, as it goes.
struct Run {
    name: &'static str,
    seed: u64,
    world: World,
    stage: Arc<Stage>,
    log: Log,
    lives: usize,
    /// How many kills the plan has.
    kills: usize,
}

/// Kills the daemon at so many random moments, all of them the seed's choice. In rounds, each with a
/// new store, so that everything that happened in one fits into memory.
pub async fn run_rounds(name: &'static str, seed: u64, kills: usize) {
    const MOST: usize = 50;
    let mut left = kills;
    for seed in seed.. {
        let kills = left.min(MOST);
        let mut dice = fastrand::Rng::with_seed(seed);
        run(name, seed, (0..kills).map(|_| Moment::any(&mut dice)).collect()).await;
        left -= kills;
        if left == 0 {
            break;
        }
    }
}

/// Kills the daemon at these moments, one life each, and accounts for everything. Panics with what
/// is missing or wrong.
pub async fn run(name: &'static str, seed: u64, moments: Vec<Moment>) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let world = World::start(seed).await;
    let stage = Arc::new(Stage::new(world.sandbox.control()));
    let mut run = Run { name, seed, world, stage, log: Log::default(), lives: 0, kills: moments.len() };
    println!("{name}: CRASH_SEED={seed} CRASH_KILLS={}", moments.len());
    let began = Instant::now();
    let users: Vec<_> =
        (0..USERS).map(|user| tokio::spawn(Load::new(run.stage.clone(), user, seed).run())).collect();
    for moment in moments {
        run.live_and_die(moment).await;
    }
    let process = run.start().await;
    run.stage.shift.send_replace(Shift::Over);
    let users = run.within("the clients to finish", DRAIN_WITHIN, join_all(users)).await;
    let mut users: Vec<Load> = users.into_iter().map(Result::unwrap).collect();
    let killed_for = began.elapsed();
    let finals = run.settle(process, &mut users).await;
    let findings = verdict::judge(&run.world, &run.stage, &finals);
    run.report(&findings, killed_for, began.elapsed());
}

impl Run {
    /// Starts the daemon for good: clients may use it.
    async fn start(&mut self) -> Process {
        let mut process = self.spawn();
        self.publish(&mut process).await;
        process
    }

    fn spawn(&mut self) -> Process {
        self.lives += 1;
        Process::start(&self.world.config_path(), self.lives, &self.log)
    }

    async fn publish(&mut self, process: &mut Process) -> Duration {
        let began = Instant::now();
        match process.ready().await {
            Ok(api) => drop(self.stage.open.send_replace(Some(Open { life: self.lives, api }))),
            Err(why) => self.give_up(&why),
        }
        began.elapsed()
    }

    async fn live_and_die(&mut self, moment: Moment) {
        let connects = std::array::from_fn(|user| self.stage.control.connects(&user_name(user)));
        let mut process = self.spawn();
        let mut ready_after = None;
        if let Moment::Starting(after) = moment {
            sleep(after).await;
        } else {
            ready_after = Some(self.publish(&mut process).await);
            self.await_moment(moment, &process, &connects).await;
        }
        let status = process.kill();
        self.world.crm.release();
        let in_order = matches!(moment, Moment::Stopping { .. }) && status.success();
        if !in_order && status.signal() != Some(9) {
            self.give_up(&format!("it ended by itself ({status}) before it was killed at {moment:?}"));
        }
        self.stage.ledger.open().lives.push(Life { ready_after, moment });
    }

    async fn await_moment(&self, moment: Moment, process: &Process, connects: &[u64; USERS]) {
        let Self { world, stage, .. } = self;
        let what = format!("{moment:?}");
        match moment {
            Moment::Starting(_) | Moment::Ready => {}
            Moment::Running(after) => sleep(after).await,
            Moment::Accepted(count) => self.within(&what, MOMENT_WITHIN, self.answers(count)).await,
            Moment::Connected { user } => {
                let name = user_name(user);
                self.within(&what, MOMENT_WITHIN, stage.control.wait_connects(&name, connects[user] + 1))
                    .await;
            }
            Moment::Frames { user, frames } => {
                let name = user_name(user);
                let before = stage.control.frames(&name).len() as u64;
                self.within(&what, MOMENT_WITHIN, stage.control.wait_frames(&name, before + frames)).await;
            }
            Moment::Deliveries(count) => {
                let before = world.crm.attempts().len();
                self.within(&what, MOMENT_WITHIN, world.crm.wait_attempts(before + count)).await;
            }
            Moment::Hanging(count) => {
                // Some work first, so that every lane has something to hang with.
                self.within(&what, MOMENT_WITHIN, self.answers(20)).await;
                world.crm.hold();
                let before = world.crm.attempts().len();
                self.within(&what, MOMENT_WITHIN, world.crm.wait_attempts(before + count)).await;
            }
            Moment::Stopping { accepted, after } => {
                self.within(&what, MOMENT_WITHIN, self.answers(accepted)).await;
                process.terminate();
                sleep(after).await;
            }
        }
    }

    /// Waits for so many more answers to POSTs.
    async fn answers(&self, count: u64) {
        let mut answered = self.stage.answered.subscribe();
        let wanted = *answered.borrow_and_update() + count;
        answered.wait_for(|answered| *answered >= wanted).await.unwrap();
    }

    /// No more kills and faults: everything arrives; then an orderly end and a clean restart.
    async fn settle(&mut self, mut process: Process, users: &mut [Load]) -> Finals {
        self.world.crm.fail(None);
        self.world.reports.fail(None);
        self.stage.control.clear_faults();
        // Proves that every user's connection is this life's.
        let last_words = join_all(users.iter_mut().map(Load::post_last));
        self.within("every user's last message to be acked", DRAIN_WITHIN, last_words).await;
        let statuses =
            self.within("every message to be final", DRAIN_WITHIN, self.statuses("?wait=ack")).await;
        self.arrive_everywhere(users).await;
        self.end(&mut process).await;
        let left_files = self.world.payload_files();

        let known_before = self.world.webhooks().map(|(_, receiver)| receiver.attempts().len());
        let mut process = self.start().await;
        let again = self.within("the messages after the restart", DRAIN_WITHIN, self.statuses("")).await;
        for user in 0..USERS {
            let name = user_name(user);
            let connected = self.stage.control.wait_connected(&name, 1);
            self.within("the connections after the restart", DRAIN_WITHIN, connected).await;
        }
        self.arrive_everywhere(users).await;
        self.end(&mut process).await;
        self.must_remember_all();
        Finals { statuses, again, left_files, known_before }
    }

    /// What a receiver forgot would be taken for lost.
    fn must_remember_all(&self) {
        for (webhook, receiver) in self.world.webhooks() {
            let forgotten = receiver.forgotten();
            if forgotten > 0 {
                self.give_up(&format!(
                    "the receiver of {webhook} forgot {forgotten} requests: a round needs fewer kills"
                ));
            }
        }
    }

    /// Pushes one frame to every user, and waits until it, and so all before it, is at every webhook.
    async fn arrive_everywhere(&self, users: &mut [Load]) {
        let keys: Vec<String> = users.iter_mut().map(|user| user.push().expect("it is connected")).collect();
        for user in (0..USERS).map(user_name) {
            let confirmed = async {
                let mut frames = 0;
                loop {
                    let seen = self.stage.control.wait_frames(&user, frames + 1).await;
                    frames = seen.len() as u64;
                    let is_last = |ack: Value| keys.iter().any(|key| ack["key"] == **key);
                    let mut acks = seen.iter().rev().filter(|frame| frame.kind == FrameKind::Ack);
                    if acks.any(|ack| is_last(ack.json())) {
                        break;
                    }
                }
            };
            self.within("the last delivery ack", DRAIN_WITHIN, confirmed).await;
        }
        let nothing_left = async {
            loop {
                let users = self.stage.get("/v1/users").await.unwrap_or_else(|why| self.give_up(&why));
                let left = |user: &Value| user["queued"] != 0 || user["undelivered"] != 0;
                if !users["users"].as_array().unwrap().iter().any(left) {
                    break;
                }
                // The next delivery may have been the last; its success is noted a moment later.
                let delivered = self.world.crm.wait_attempts(self.world.crm.attempts().len() + 1);
                let _ = timeout(Duration::from_millis(50), delivered).await;
            }
        };
        self.within("every event to be delivered", DRAIN_WITHIN, nothing_left).await;
    }

    /// The status of every message that was accepted, by its place in the ledger.
    async fn statuses(&self, query: &str) -> Vec<(usize, Result<Value, String>)> {
        let accepted: Vec<_> = {
            let entries = self.stage.ledger.open();
            let known = entries.messages.iter().enumerate();
            known.filter_map(|(index, message)| Some((index, message.user, message.id?))).collect()
        };
        let by_user = (0..USERS).map(|user| {
            let own = accepted.iter().filter(move |(_, owner, _)| *owner == user);
            async move {
                let mut statuses = Vec::new();
                for (index, _, id) in own {
                    let path = format!("/v1/users/{}/messages/{id}{query}", user_name(user));
                    statuses.push((*index, self.stage.get(&path).await));
                }
                statuses
            }
        });
        join_all(by_user).await.concat()
    }

    async fn end(&self, process: &mut Process) {
        process.terminate();
        match process.ended(END_WITHIN).await {
            Ok(status) if status.success() => {}
            Ok(status) => self.give_up(&format!("an orderly end ended with {status}")),
            Err(why) => self.give_up(&why),
        }
    }

    async fn within<T>(&self, what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
        match timeout(limit, future).await {
            Ok(done) => done,
            Err(_) => self.give_up(&format!("waited {limit:?} in vain for: {what}")),
        }
    }

    fn report(&self, findings: &verdict::Findings, killed_for: Duration, took: Duration) {
        println!("{}: {}", self.name, findings.figures);
        println!("{}: {killed_for:.1?} of kills, {took:.1?} in all", self.name);
        if !findings.wrong.is_empty() {
            const SHOWN: usize = 12;
            let count = findings.wrong.len();
            let shown: String =
                findings.wrong.iter().take(SHOWN).map(|wrong| format!("  - {wrong}\n")).collect();
            self.give_up(&format!("{count} findings, the first of them:\n{shown}"));
        }
    }

    /// Fails the test, with what helps to find out why.
    fn give_up(&self, why: &str) -> ! {
        let lives: String = {
            let entries = self.stage.ledger.open();
            let lives = entries.lives.iter().zip(1..);
            lives
                .map(|(life, number)| {
                    format!(
                        "    life {number}: ready after {:?}, killed at {:?}\n",
                        life.ready_after, life.moment
                    )
                })
                .collect()
        };
        panic!(
            "{}: {why}\n  repeat it: CRASH_SEED={} CRASH_KILLS={}\n  lives:\n{lives}  the daemon's last log lines:\n{}",
            self.name,
            self.seed,
            self.kills,
            self.log.tail(),
        );
    }
}
