//! What rows share.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    Outcome,
    daemon::{Daemon, Settings},
    feed::Feed,
    kernel,
    platform::{Bot, Platform},
    receiver::{Answer, Receiver},
    rows::Waiting,
    stats::{micros_each, rate},
};

/// What is deferred is done after this, and counts as well.
pub const SETTLES: Duration = Duration::from_millis(300);
/// Two processes of one program differ for as long as they live, in where the system put their memory for one thing: what
/// is near its limit is measured in so many of them, one after the other.
pub const STARTS: usize = 3;
/// What comes at a pace comes in so many rounds, and the median of their percentiles counts: a machine that stands still for a
/// moment stands still in one of them.
pub const PACED_ROUNDS: usize = 5;
/// So many pushes, and others get their turn.
const PUSHES_IN_A_ROW: usize = 8;

/// A run of rows.
#[derive(Debug)]
pub struct Bench {
    scale: f64,
    started: Instant,
    row: &'static str,
    /// A store with much in it, made once.
    waiting: Option<Waiting>,
}

impl Bench {
    /// With this share of everything.
    pub fn new(scale: f64) -> Self {
        Self { scale, started: Instant::now(), row: "", waiting: None }
    }

    /// The share of this that is done, at least 10.
    pub fn scaled(&self, whole: usize) -> usize {
        ((whole as f64 * self.scale) as usize).max(10)
    }

    /// A row begins.
    pub fn begin(&mut self, row: &'static str) {
        self.row = row;
    }

    /// Tells whoever watches what was done.
    pub fn step(&self, what: fmt::Arguments<'_>) {
        println!("[{:6.1} s] {}: {what}", self.started.elapsed().as_secs_f64(), self.row);
    }

    /// The store with much in it.
    pub async fn waiting(&mut self) -> Outcome<&Waiting> {
        if self.waiting.is_none() {
            self.waiting = Some(Waiting::make(self).await?);
        }
        self.waiting.as_ref().ok_or_else(|| "it was made just now".into())
    }
}

/// The directory that rows have theirs in: on the disk that is built on, not in memory.
pub fn scratch() -> Outcome<PathBuf> {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(&path)?;
    Ok(path)
}

/// A directory for a row.
pub fn directory() -> Outcome<TempDir> {
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(scratch()?)?)
}

/// A daemon with connected users, one webhook for their bot's answers, and all that it talks to.
#[derive(Debug)]
pub struct Scene {
    /// The platform.
    pub platform: Platform,
    /// The webhook's receiver.
    pub receiver: Receiver,
    /// The measured process.
    pub daemon: Daemon,
    feed: Feed,
    _directory: TempDir,
}

/// What a burst of events took.
#[derive(Debug, Clone, Copy)]
pub struct Burst {
    events: usize,
    /// From the first push to the last POST.
    took: Duration,
    cpu: Duration,
    driver: Duration,
}

impl Burst {
    /// Events a second.
    pub fn rate(&self) -> f64 {
        rate(self.events, self.took)
    }

    /// The daemon's CPU time for each, in microseconds.
    pub fn micros(&self) -> f64 {
        micros_each(self.cpu, self.events)
    }

    /// This process's.
    pub fn driver_micros(&self) -> f64 {
        micros_each(self.driver, self.events)
    }
}

impl Scene {
    /// Starts everything, in a directory of its own.
    pub async fn start(bot: Bot, users: usize) -> Outcome<Self> {
        Self::on(Platform::start(bot).await?, users).await
    }

    /// The same, on this platform.
    pub async fn on(platform: Platform, users: usize) -> Outcome<Self> {
        let receiver = Receiver::start(Answer::Takes).await?;
        let directory = directory()?;
        let daemon = Daemon::connected(&Settings {
            directory: directory.path(),
            platform: &platform,
            users,
            webhooks: &[("crm", &receiver, ANSWERS)],
        })
        .await?;
        let feed = Feed::new(ANSWERS, users);
        Ok(Self { platform, receiver, daemon, feed, _directory: directory })
    }

    /// Pushes events to the first `users` in turn, as fast as they are taken, and waits until all are
    /// delivered.
    pub async fn burst(&mut self, events: usize, users: usize) -> Outcome<Burst> {
        let Self { platform, receiver, daemon, feed, .. } = self;
        burst(platform, receiver, daemon, feed, events, users).await
    }

    /// Pushes events at this pace, and waits until all are delivered.
    pub async fn paced(&mut self, events: usize, users: usize, per_second: f64) -> Outcome<()> {
        let already = self.receiver.posts();
        let started = tokio::time::Instant::now();
        for index in 0..events {
            tokio::time::sleep_until(started + Duration::from_secs_f64(index as f64 / per_second)).await;
            let user = index % users;
            self.platform.push(user, self.feed.next(user)).await?;
        }
        self.receiver.received(already + events as u64).await
    }
}

/// The type of the events that webhooks here want.
pub const ANSWERS: &str = "bot_response";

/// Pushes events to the first `users` in turn, as fast as they are taken, and waits until all are
/// delivered.
pub async fn burst(
    platform: &Platform,
    receiver: &Receiver,
    daemon: &Daemon,
    feed: &mut Feed,
    events: usize,
    users: usize,
) -> Outcome<Burst> {
    let already = receiver.posts();
    let (cpu, driver, started) = (daemon.cpu()?, kernel::own_cpu()?, Instant::now());
    push(platform, feed, events, users).await?;
    receiver.received(already + events as u64).await?;
    let took = started.elapsed();
    tokio::time::sleep(SETTLES).await;
    Ok(Burst { events, took, cpu: daemon.cpu()? - cpu, driver: kernel::own_cpu()? - driver })
}

/// Pushes events to the first `users` in turn, as fast as they are taken.
pub async fn push(platform: &Platform, feed: &mut Feed, events: usize, users: usize) -> Outcome<()> {
    for index in 0..events {
        let user = index % users;
        platform.push(user, feed.next(user)).await?;
        if index.is_multiple_of(PUSHES_IN_A_ROW) {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Copies a directory, down to the disk.
pub async fn copy(from: &Path, to: &Path) -> Outcome<()> {
    let (from, to) = (from.to_owned(), to.to_owned());
    tokio::task::spawn_blocking(move || copy_all(&from, &to)).await??;
    Ok(())
}

fn copy_all(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
            // What is still to be written later would be in the way of what is measured then.
            std::fs::File::open(&target)?.sync_all()?;
        }
    }
    Ok(())
}
