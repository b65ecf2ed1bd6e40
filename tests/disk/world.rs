//! Platform, receiver, configuration, disk.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rtm_bridge::{
    receiver::{Receiver, ReceiverOptions},
    sandbox::{App, Sandbox, SandboxOptions},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{
    daemon::{Addresses, Log, Process},
    faults::Faults,
    load::{Ledger, Load, Shift},
};

/// How many users there are.
pub const USERS: usize = 4;
/// What must happen happens by then, on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A user's name, and its identity.
pub fn user_name(user: usize) -> String {
    format!("u{user}")
}

/// Everything around the daemon, and what is known of it.
#[derive(Debug)]
pub struct World {
    pub sandbox: Sandbox,
    pub crm: Receiver,
    pub faults: Faults,
    pub log: Log,
    pub ledger: Arc<Ledger>,
    pub http: reqwest::Client,
    directory: TempDir,
}

impl World {
    /// Starts platform and receiver; `store` goes into the `[store]` table.
    pub async fn start(store: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let options = SandboxOptions { kept: 200_000, ..SandboxOptions::default() };
        let sandbox = Sandbox::start(options).await.unwrap();
        let crm =
            Receiver::start(ReceiverOptions { keep: 200_000, ..ReceiverOptions::default() }).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().canonicalize().unwrap().join("data");
        let faults = Faults::new(&data, directory.path().join("faults"));
        let http =
            reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(PATIENCE).build().unwrap();
        let (log, ledger) = (Log::default(), Arc::default());
        let world = Self { sandbox, crm, faults, log, ledger, http, directory };
        std::fs::write(world.config_path(), world.config(store)).unwrap();
        world
    }

    /// The configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.directory.path().join("bridge.toml")
    }

    /// The store's directory.
    pub fn store_path(&self) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join("data")
    }

    /// Bytes of all files of the store.
    pub fn store_size(&self) -> u64 {
        size_of(&self.store_path())
    }

    /// Starts the daemon, without waiting for it.
    pub fn spawn(&self) -> Process {
        Process::start(&self.config_path(), &self.faults, &self.log)
    }

    /// Starts the daemon, and waits until every user is connected.
    pub async fn launch(&self) -> (Process, Addresses) {
        let mut process = self.spawn();
        let before: Vec<u64> =
            (0..USERS).map(|user| self.sandbox.control().connects(&user_name(user))).collect();
        let addresses = process.ready().await;
        for (user, before) in before.into_iter().enumerate() {
            self.sandbox.control().wait_connects(&user_name(user), before + 1).await;
        }
        (process, addresses)
    }

    /// Load in both directions for every user, until it is told to end.
    pub fn load(&self, api: std::net::SocketAddr) -> Shift {
        let users = (0..USERS).map(|user| {
            Load::new(user, api, self.http.clone(), self.sandbox.control(), Arc::clone(&self.ledger))
        });
        Shift::begin(users)
    }

    /// What a probe is told: the status, and the body.
    pub async fn probe(&self, ops: std::net::SocketAddr, path: &str) -> (u16, Value) {
        let answer = self.http.get(format!("http://{ops}{path}")).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
    }

    /// Waits until `/readyz` answers so; tells how long that took. Probes poll: nobody tells them.
    pub async fn wait_ready(&self, ops: std::net::SocketAddr, status: u16) -> Duration {
        let began = Instant::now();
        while self.probe(ops, "/readyz").await.0 != status {
            assert!(began.elapsed() < PATIENCE, "never {status}; the log:\n{}", self.log.text());
            sleep(Duration::from_millis(20)).await;
        }
        began.elapsed()
    }

    fn config(&self, store: &str) -> String {
        let (platform, crm) = (self.sandbox.url(), self.crm.url());
        let App { client_id, client_secret, bot_name, bot_id } = App::default();
        // Between two lives the old port may go to another program of this machine, which must not answer
        // our clients: so the daemon has a loopback address of its own.
        let own = Ipv4Addr::new(127, fastrand::u8(1..), fastrand::u8(..), fastrand::u8(1..255));
        // Pings so often that a disk's failure lasts longer than a dead connection is waited for.
        let mut config = format!(
            r#"
            [platform]
            url = "{platform}"
            delivery_acks = true
            ping_interval = "1s"
            pong_timeout = "1s"
            backoff_min = "20ms"
            backoff_max = "200ms"
            request_rate = 1000.0
            request_burst = 1000
            [http]
            api = "{own}:0"
            ops = "{own}:0"
            [store]
            path = "data"
            recent = "4KiB"
            {store}
            [log]
            format = "json"
            [bots.support]
            name = "{bot_name}"
            id = "{bot_id}"
            client_id = "{client_id}"
            client_secret = "{client_secret}"
            [webhooks.crm]
            url = "{crm}"
            backoff_min = "20ms"
            backoff_max = "200ms"
            "#
        );
        for user in (0..USERS).map(user_name) {
            config.push_str(&format!(
                "[users.{user}]\nbot = \"support\"\nidentity = \"{user}\"\nwebhooks = [\"crm\"]\n"
            ));
        }
        config
    }
}

fn size_of(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => size_of(&entry.path()),
            Ok(found) => found.len(),
            // Gone meanwhile.
            Err(_) => 0,
        })
        .sum()
}
