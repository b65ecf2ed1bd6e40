//! A store with much in it: events that wait for a webhook that is out of order, and messages that
//! are kept though they are final. It costs a minute to make, so rows share it.

use std::{net::SocketAddr, path::Path, time::Duration};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Outcome,
    bench::{ANSWERS, Bench, directory, push},
    callers::{Caller, Load},
    daemon::{Daemon, Settings},
    feed::Feed,
    platform::{Bot, Platform},
    receiver::{Answer, Receiver},
};

/// Whose it is.
pub const USERS: usize = 100;
const EVENTS: usize = 1_000_000;
const MESSAGES: usize = 100_000;
/// So many events have the log go through all its files once.
pub const THROUGH_THE_LOG: usize = 200_000;
/// So many come and go behind those that wait, whatever the scale: what a message ended with is written once more in the
/// log before the database gets it.
const PASSED: usize = 3 * THROUGH_THE_LOG;
/// They come in pieces of so many, each after the one before was delivered: what waits for too long is carried over to
/// the database, and leaves it while something else is measured.
const PIECE: usize = 10_000;
const CALLERS: usize = 64;
/// The type of the events that wait.
pub const WAITS: &str = "user_message";
/// How often the API is asked how much waits, while it grows.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The last events that were pushed are stored by then.
const FILLS_WITHIN: Duration = Duration::from_secs(60);

/// That store, and how much is in it.
#[derive(Debug)]
pub struct Waiting {
    directory: TempDir,
    /// Events that wait.
    pub events: usize,
}

impl Waiting {
    /// Fills a store.
    pub async fn make(bench: &Bench) -> Outcome<Self> {
        let (events, messages) = (bench.scaled(EVENTS), bench.scaled(MESSAGES));
        let directory = directory()?;
        let platform = Platform::start(Bot::Acks).await?;
        let (crm, audit) = (Receiver::start(Answer::Takes).await?, Receiver::start(Answer::Refuses).await?);
        let daemon = Daemon::connected(&Settings {
            directory: directory.path(),
            platform: &platform,
            users: USERS,
            webhooks: &[("crm", &crm, ANSWERS), ("audit", &audit, WAITS)],
        })
        .await?;
        let load = Load { api: daemon.api, callers: CALLERS, users: USERS, first: 0, messages };
        load.flood().await?;
        platform.acked(messages as u64).await?;
        bench.step(format_args!("{messages} messages to be kept"));
        push(&platform, &mut Feed::new(WAITS, USERS), events, USERS).await?;
        let filled = filled(daemon.api, events as u64);
        tokio::time::timeout(FILLS_WITHIN, filled)
            .await
            .map_err(|_| "not every event that was pushed waits")??;
        bench.step(format_args!("{events} events wait for a webhook that is out of order"));
        pass(&platform, &crm).await?;
        bench.step(format_args!("{PASSED} others were delivered meanwhile"));
        daemon.stop().await?;
        Ok(Self { directory, events })
    }

    /// The directory, with `bridge.toml` and the store (`data`).
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Fills the store of this directory with what came and went: the log has been through all its files, and there are
/// as many recent events as are kept, so each new one is one old one's end.
pub async fn live(directory: &Path) -> Outcome<()> {
    let platform = Platform::start(Bot::Acks).await?;
    let crm = Receiver::start(Answer::Takes).await?;
    let webhooks = &[("crm", &crm, ANSWERS)];
    let daemon =
        Daemon::connected(&Settings { directory, platform: &platform, users: USERS, webhooks }).await?;
    pass(&platform, &crm).await?;
    daemon.stop().await
}

/// Events come and go.
async fn pass(platform: &Platform, crm: &Receiver) -> Outcome<()> {
    let mut feed = Feed::new(ANSWERS, USERS);
    for passed in (PIECE..=PASSED).step_by(PIECE) {
        push(platform, &mut feed, PIECE, USERS).await?;
        crm.received(passed as u64).await?;
    }
    Ok(())
}

/// Waits until so many events wait.
async fn filled(api: SocketAddr, events: u64) -> Outcome<()> {
    let mut caller = Caller::to(api).await?;
    while backlog(&mut caller, "audit").await? < events {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// How many events wait for a webhook.
async fn backlog(caller: &mut Caller, webhook: &str) -> Outcome<u64> {
    let answer = caller.get("/v1/webhooks").await?;
    let webhooks = answer["webhooks"].as_array().ok_or("the API lists no webhooks")?;
    let found = webhooks.iter().find(|found| found["name"] == webhook).unwrap_or(&Value::Null);
    found["backlog"].as_u64().ok_or_else(|| format!("the API says nothing about {webhook}").into())
}
