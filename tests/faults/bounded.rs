//! The real binary with a backlog: its memory, its disk, its start.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use rtm_bridge::{
    receiver::{ReceivedEvent, Receiver, ReceiverOptions},
    sandbox::{App, BotScript, Sandbox, SandboxOptions, Settings},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::daemon::{Log, Process};

const USERS: usize = 100;
/// Bytes of an event's frame.
const FRAME: usize = 600;
const MIB: u64 = 1 << 20;
/// What is kept of recent events, by default.
const RECENT: u64 = 32 * MIB;
/// The largest frame and body that the bridge takes, by default.
const LARGEST_FRAME: usize = 4 << 20;
const LARGEST_BODY: usize = 256 << 10;
/// An orderly end takes no longer.
const END_WITHIN: Duration = Duration::from_secs(10);

/// How much there is, and what it may cost.
struct Load {
    /// Events that nobody takes, and as many final messages.
    items: usize,
    /// Resident memory.
    most_memory: u64,
    /// The database's log has garbage in segments, which a small load doesn't outweigh.
    spare_disk: u64,
    /// From the start of the process to its ready line.
    ready_within: Duration,
    /// No step takes longer.
    patience: Duration,
}

/// What the process costs at a moment.
#[derive(Debug, Clone, Copy)]
struct Cost {
    resident: u64,
    peak: u64,
    disk: u64,
}

struct Scene {
    sandbox: Sandbox,
    receiver: SocketAddr,
    directory: TempDir,
    http: reqwest::Client,
    log: Log,
    lives: usize,
    patience: Duration,
}

/// The daemon while it runs.
struct Life {
    process: Process,
    api: SocketAddr,
    ready_after: Duration,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_costs_bounded_memory_and_disk() {
    // What a debug build takes beside what it holds is not the question here.
    let load = Load {
        items: 2_000,
        most_memory: 128 * MIB,
        spare_disk: 32 * MIB,
        ready_within: Duration::from_secs(10),
        patience: Duration::from_secs(30),
    };
    hold(&load).await;
}

/// Meant for a release build: `cargo test --release --test faults -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a release build and a few minutes"]
async fn a_hundred_thousand_events_and_messages_cost_bounded_memory_and_disk() {
    let load = Load {
        items: 100_000,
        most_memory: 128 * MIB,
        spare_disk: 0,
        ready_within: Duration::from_secs(2),
        patience: Duration::from_secs(300),
    };
    hold(&load).await;
}

async fn hold(load: &Load) {
    let mut scene = Scene::new(load.patience).await;
    let life = scene.start().await;
    scene.all_connected(&life).await;
    let empty = scene.cost(&life);
    println!("{USERS} users connected: {empty}");

    let began = Instant::now();
    let report = scene.post_messages(&life, load.items / USERS).await;
    println!("{} messages acked after {:.1?}: {}", load.items, began.elapsed(), scene.cost(&life));
    let began = Instant::now();
    scene.push_events(&life, load.items).await;
    let full = scene.cost(&life);
    println!("{} events undelivered after {:.1?}: {full}", load.items, began.elapsed());
    let mut broken = Vec::new();
    let mut hold = |holds: bool, what: String| broken.extend((!holds).then_some(what));
    hold(full.peak <= load.most_memory, format!("memory with the backlog: {full}"));
    // The frames that nobody took, and the reports of messages' ends that are kept as recent.
    let payload = (load.items * FRAME) as u64 + RECENT.min((load.items * report) as u64);
    let most = 4 * payload + load.spare_disk;
    hold(
        full.disk <= most,
        format!("disk with the backlog, of which {} MiB are payload: {full}", payload / MIB),
    );

    // Killed: a start that has to recover.
    let mut process = life.process;
    process.kill();
    let life = scene.start().await;
    println!("ready {:.2?} after a kill: {}", life.ready_after, scene.cost(&life));
    hold(life.ready_after <= load.ready_within, format!("ready {:?} after a kill", life.ready_after));
    let life = scene.restart(life).await;
    println!("ready {:.2?} after an orderly end: {}", life.ready_after, scene.cost(&life));
    hold(life.ready_after <= load.ready_within, format!("ready {:?} after an orderly end", life.ready_after));
    assert_eq!(scene.backlog(&life).await, load.items as u64);
    scene.all_connected(&life).await;

    // Somebody takes the backlog.
    let options = ReceiverOptions { listen: scene.receiver, keep: 100, ..ReceiverOptions::default() };
    let receiver = Receiver::start(options).await.unwrap();
    let began = Instant::now();
    scene.enable(&life).await;
    scene.until_backlog(&life, 0).await;
    let drained = scene.cost(&life);
    println!("drained after {:.1?}: {drained}", began.elapsed());
    hold(drained.peak <= load.most_memory, format!("memory once it is drained: {drained}"));

    // The largest that may pass.
    scene.churn(&life, &receiver, 40).await;
    let before = scene.cost(&life);
    scene.churn(&life, &receiver, 40).await;
    let after = scene.cost(&life);
    println!("after 40 frames and bodies of the largest size: {before}; after 40 more: {after}");
    hold(
        after.disk <= before.disk + before.disk / 4 + 8 * MIB,
        format!("disk under churn: {before}, then {after}"),
    );
    let most = load.most_memory.max(before.resident + before.resident / 8);
    hold(after.resident <= most, format!("memory under churn: {before}, then {after}"));
    scene.end(life).await;
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { resident, peak, disk } = self;
        write!(f, "{} MiB resident, {} MiB at most, {} MiB on disk", resident / MIB, peak / MIB, disk / MIB)
    }
}

fn user_name(user: usize) -> String {
    format!("u{user}")
}

impl Scene {
    async fn new(patience: Duration) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let settings = Settings { bot: BotScript::Silent, welcome: None, ..Settings::default() };
        let settings = Settings { max_frame: 2 * LARGEST_FRAME, ..settings };
        let sandbox =
            Sandbox::start(SandboxOptions { settings, kept: 16, ..SandboxOptions::default() }).await.unwrap();
        // Its address is kept free for later: until then connections are refused.
        let receiver = Receiver::start(ReceiverOptions::default()).await.unwrap();
        let address = receiver.address();
        receiver.stop().await;
        let scene = Self {
            sandbox,
            receiver: address,
            directory: tempfile::tempdir().unwrap(),
            http: reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap(),
            log: Log::default(),
            lives: 0,
            patience,
        };
        fs::write(scene.config_path(), scene.config()).unwrap();
        scene
    }

    fn config_path(&self) -> PathBuf {
        self.directory.path().join("bridge.toml")
    }

    fn config(&self) -> String {
        let (platform, receiver) = (self.sandbox.url(), self.receiver);
        let App { client_id, client_secret, bot_name, bot_id } = App::default();
        let mut config = format!(
            r#"
            [platform]
            url = "{platform}"
            request_rate = 1000.0
            request_burst = 1000
            [http]
            api = "127.0.0.1:0"
            ops = "127.0.0.1:0"
            [store]
            path = "data"
            [log]
            format = "json"
            [bots.support]
            name = "{bot_name}"
            id = "{bot_id}"
            client_id = "{client_id}"
            client_secret = "{client_secret}"
            [webhooks.crm]
            url = "http://{receiver}/"
            backoff_max = "1s"
            "#
        );
        for user in (0..USERS).map(user_name) {
            config.push_str(&format!(
                "[users.{user}]\nbot = \"support\"\nidentity = \"{user}\"\nwebhooks = [\"crm\"]\n"
            ));
        }
        config
    }

    async fn start(&mut self) -> Life {
        self.lives += 1;
        let began = Instant::now();
        let mut process = Process::start(&self.config_path(), self.lives, &self.log);
        match process.ready().await {
            Ok(api) => Life { process, api, ready_after: began.elapsed() },
            Err(why) => panic!("{why}\n{}", self.log.tail()),
        }
    }

    async fn end(&self, mut life: Life) {
        life.process.terminate();
        let ended = life.process.ended(END_WITHIN).await;
        assert!(
            ended.as_ref().is_ok_and(std::process::ExitStatus::success),
            "{ended:?}\n{}",
            self.log.tail()
        );
    }

    async fn restart(&mut self, life: Life) -> Life {
        self.end(life).await;
        self.start().await
    }

    fn cost(&self, life: &Life) -> Cost {
        let status = fs::read_to_string(format!("/proc/{}/status", life.process.pid())).unwrap();
        let kib = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
            line.trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
        };
        Cost {
            resident: kib("VmRSS:"),
            peak: kib("VmHWM:"),
            disk: on_disk(&self.directory.path().join("data")),
        }
    }

    async fn within<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        match timeout(self.patience, future).await {
            Ok(done) => done,
            Err(_) => panic!("waited {:?} in vain for {what}\n{}", self.patience, self.log.tail()),
        }
    }

    async fn get(&self, life: &Life, path: &str) -> Value {
        let response = self.http.get(format!("http://{}{path}", life.api)).send().await.unwrap();
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }

    async fn all_connected(&self, life: &Life) {
        let connected = async {
            loop {
                let users = self.get(life, "/v1/users").await;
                if users["users"].as_array().unwrap().iter().all(|user| user["state"] == "connected") {
                    break;
                }
                // Nobody announces it.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        self.within("everyone to be connected", connected).await;
    }

    async fn backlog(&self, life: &Life) -> u64 {
        self.get(life, "/v1/webhooks").await["webhooks"][0]["backlog"].as_u64().unwrap()
    }

    async fn until_backlog(&self, life: &Life, wanted: u64) {
        let reached = async {
            while self.backlog(life).await != wanted {
                // Nobody announces it.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        self.within(&format!("{wanted} undelivered events"), reached).await;
    }

    async fn enable(&self, life: &Life) {
        let url = format!("http://{}/v1/webhooks/crm/enable", life.api);
        assert_eq!(self.http.post(url).send().await.unwrap().status(), 202);
    }

    /// Sends a message and waits for its ack. Answers with the length of its status.
    async fn post(&self, life: &Life, user: usize, text: &str) -> usize {
        let url = format!("http://{}/v1/users/{}/messages?wait=ack", life.api, user_name(user));
        let response = self.http.post(url).json(&json!({ "text": text })).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.bytes().await.unwrap().len()
    }

    /// So many messages of each user, one after the other. Answers with the length of a status.
    async fn post_messages(&self, life: &Life, each: usize) -> usize {
        let text = "x".repeat(FRAME);
        let users = (0..USERS).map(|user| {
            let text = &text;
            async move {
                let mut length = 0;
                for _ in 0..each {
                    length = self.post(life, user, text).await;
                }
                length
            }
        });
        self.within("every message to be acked", join_all(users)).await[0]
    }

    /// So many events, over all users, that nobody takes.
    async fn push_events(&self, life: &Life, count: usize) {
        const AT_ONCE: usize = 1_000;
        let control = self.sandbox.control();
        for from in (0..count).step_by(AT_ONCE) {
            for n in from..(from + AT_ONCE).min(count) {
                assert_eq!(control.push_raw(&user_name(n % USERS), frame(n, FRAME)), 1);
            }
            self.until_backlog(life, (from + AT_ONCE).min(count) as u64).await;
        }
        // What is accepted after them is on disk after them.
        self.post(life, 0, "the last").await;
    }

    /// Frames and bodies of the largest size pass through, one after the other, each of another user, who
    /// then gets what users usually get.
    async fn churn(&self, life: &Life, receiver: &Receiver, rounds: usize) {
        let control = self.sandbox.control();
        let body = "x".repeat(LARGEST_BODY - r#"{"text":""}"#.len());
        for n in 0..rounds {
            let user = n % USERS;
            for usual in 0..16 {
                assert_eq!(
                    control.push_raw(&user_name((n + USERS - 1) % USERS), self::frame(usual, FRAME)),
                    1
                );
            }
            let frame = frame(n, LARGEST_FRAME);
            assert_eq!(control.push_raw(&user_name(user), frame.clone()), 1);
            let is_frame = |event: &ReceivedEvent| {
                event.body.strip_suffix(b"}").is_some_and(|body| body.ends_with(frame.as_bytes()))
            };
            let arrived = receiver.wait_until(|events| events.iter().rev().any(|event| is_frame(event)));
            self.within("the largest frame", arrived).await;
            self.within("the largest body to be acked", self.post(life, user, &body)).await;
        }
    }
}

/// A frame of exactly so many bytes.
fn frame(number: usize, bytes: usize) -> String {
    let start =
        format!(r#"{{"type":"bot_response","messageId":"ms-{number}-{bytes}-{}","x":""#, fastrand::u64(..));
    format!("{start}{}\"}}", "x".repeat(bytes - start.len() - 2))
}

/// Bytes of all files in a directory.
fn on_disk(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => on_disk(&entry.path()),
        Ok(metadata) => metadata.len(),
        // Removed meanwhile.
        Err(_) => 0,
    };
    entries.map(size).sum()
}
