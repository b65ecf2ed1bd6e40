//! The measured process: the real binary with a configuration of its own.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStderr, Command},
    sync::oneshot,
};

use crate::{
    Outcome,
    kernel::{self, Memory},
    platform::{Platform, user_name},
    receiver::Receiver,
};

/// The measured program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rtm-bridge");
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// `platform.request_rate`: what 10,000 users need to be connected in time.
const REQUEST_RATE: u32 = 5_000;
/// The longest that any start may take, with whatever it finds in its store.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// A daemon that was asked to end and doesn't is killed.
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// Lines of its log that a failure shows.
const LINES: usize = 5;

/// Everything that a configuration says here.
#[derive(Debug)]
pub struct Settings<'a> {
    /// The directory of configuration and store.
    pub directory: &'a Path,
    /// The platform.
    pub platform: &'a Platform,
    /// How many users.
    pub users: usize,
    /// Their webhooks: name, receiver, event types.
    pub webhooks: &'a [(&'a str, &'a Receiver, &'a str)],
}

impl Settings<'_> {
    /// Writes the configuration. Knobs that limit the load are raised, all else is as by default.
    fn write(&self) -> Outcome<PathBuf> {
        let platform = self.platform.url();
        let ca = match self.platform.authority() {
            Some(authority) => {
                std::fs::write(self.directory.join("ca.pem"), authority)?;
                r#"ca = "ca.pem""#
            }
            None => "",
        };
        let mut text = format!(
            r#"
            [platform]
            url = "{platform}"
            request_rate = {REQUEST_RATE}.0
            {ca}
            [http]
            api = "127.0.0.1:0"
            ops = "127.0.0.1:0"
            [store]
            path = "data"
            durability = "fsync"
            [messages]
            max_queued = 100000
            [log]
            format = "json"
            [bots.bench]
            name = "Bench"
            id = "st-0"
            client_id = "cs-0"
            client_secret = "not much of a secret"
            "#
        );
        let mut names = Vec::new();
        for (name, receiver, events) in self.webhooks {
            let url = receiver.url();
            writeln!(
                text,
                "[webhooks.{name}]\nurl = \"{url}\"\nsecret = \"{SECRET}\"\nevents = [\"{events}\"]"
            )?;
            names.push(format!("\"{name}\""));
        }
        let webhooks = names.join(", ");
        for number in 0..self.users {
            let user = user_name(number);
            writeln!(
                text,
                "[users.{user}]\nbot = \"bench\"\nidentity = \"{user}\"\nwebhooks = [{webhooks}]"
            )?;
        }
        let file = self.directory.join("bridge.toml");
        std::fs::write(&file, text)?;
        Ok(file)
    }
}

/// A running daemon. It doesn't outlive this value.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    pid: u32,
    /// The API's address.
    pub api: SocketAddr,
    /// When it was started.
    pub started: Instant,
    /// From there until it was ready.
    pub ready_after: Duration,
}

impl Daemon {
    /// Starts one, and waits until it is ready; its users may still be connecting.
    pub async fn start(settings: &Settings<'_>) -> Outcome<Self> {
        Self::start_as(Command::new(PROGRAM), settings).await
    }

    /// The same, of a program that takes the daemon's arguments behind its own.
    pub async fn start_as(mut command: Command, settings: &Settings<'_>) -> Outcome<Self> {
        let file = settings.write()?;
        let started = Instant::now();
        let mut child = command
            .args(["run", "-c"])
            .arg(file)
            .env_remove("RUST_LOG")
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().ok_or("the daemon ended at once")?;
        let stderr = child.stderr.take().ok_or("the daemon has no stderr")?;
        let (ready, last_lines) = watch_log(stderr);
        match tokio::time::timeout(READY_WITHIN, ready).await {
            Ok(Ok(api)) => Ok(Self { child, pid, api, started, ready_after: started.elapsed() }),
            Ok(Err(_)) => {
                let lines = last_lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
                Err(format!("the daemon did not start:\n{lines}").into())
            }
            Err(_) => Err(format!("the daemon was not ready within {READY_WITHIN:?}").into()),
        }
    }

    /// Starts one, and waits until all its users are connected.
    pub async fn connected(settings: &Settings<'_>) -> Outcome<Self> {
        let daemon = Self::start(settings).await?;
        settings.platform.opened(settings.users).await?;
        Ok(daemon)
    }

    /// Its CPU time so far.
    pub fn cpu(&self) -> Outcome<Duration> {
        kernel::cpu(self.pid)
    }

    /// Its memory.
    pub fn memory(&self) -> Outcome<Memory> {
        kernel::memory(self.pid)
    }

    /// Kills it.
    pub async fn kill(mut self) -> Outcome<()> {
        Ok(self.child.kill().await?)
    }

    /// Ends it in order.
    pub async fn stop(mut self) -> Outcome<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid)?).ok_or("no process has this id")?;
        kill_process(pid, Signal::TERM)?;
        if tokio::time::timeout(ENDS_WITHIN, self.child.wait()).await.is_err() {
            self.child.kill().await?;
            return Err(format!("the daemon was still running {ENDS_WITHIN:?} after SIGTERM").into());
        }
        Ok(())
    }
}

/// Reads a log until its end: answers with the API's address once it says that it is ready, and
/// keeps what else was said until then.
fn watch_log(stderr: ChildStderr) -> (oneshot::Receiver<SocketAddr>, Arc<Mutex<Vec<String>>>) {
    let (sender, ready) = oneshot::channel();
    let last_lines = Arc::new(Mutex::new(Vec::new()));
    let kept = last_lines.clone();
    tokio::spawn(async move {
        let mut lines = BufReader::new(stderr).lines();
        let mut sender = Some(sender);
        while let Ok(Some(line)) = lines.next_line().await {
            if sender.is_none() {
                continue;
            }
            if let Some(api) = ready_line(&line) {
                sender.take().map(|sender| sender.send(api));
                continue;
            }
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == LINES {
                kept.remove(0);
            }
            kept.push(line);
        }
    });
    (ready, last_lines)
}

fn ready_line(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = &line["fields"];
    (fields["message"] == "ready").then(|| fields["api"].as_str()?.parse().ok())?
}
