//! The process under test.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::sync::watch;

use crate::faults::Faults;

/// No start may take longer, on the slowest machine and disk.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Where a daemon listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    pub api: SocketAddr,
    pub ops: SocketAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Starting,
    Ready(Addresses),
    Ended,
}

/// The log lines of all lives.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// The lines, oldest first.
    pub fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

/// One life of the daemon. It doesn't outlive this value.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stage: watch::Receiver<Stage>,
    log: Log,
}

impl Process {
    /// Starts the binary on this disk.
    pub fn start(config: &Path, faults: &Faults, log: &Log) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rtm-bridge"))
            .args(["run", "-c"])
            .arg(config)
            .envs(faults.environment())
            .env_remove("RUST_LOG")
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, stage) = watch::channel(Stage::Starting);
        let (log, kept) = (log.clone(), log.clone());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some(addresses) = ready_line(&line) {
                    sender.send_replace(Stage::Ready(addresses));
                }
                log.0.lock().unwrap().push(line);
            }
            sender.send_replace(Stage::Ended);
        });
        Self { child, stage, log: kept }
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&mut self) -> Addresses {
        let known = self.stage.wait_for(|stage| *stage != Stage::Starting);
        match tokio::time::timeout(READY_WITHIN, known).await.ok().and_then(Result::ok).as_deref() {
            Some(Stage::Ready(addresses)) => *addresses,
            _ => panic!("not ready within {READY_WITHIN:?}; the log:\n{}", self.log.text()),
        }
    }

    /// SIGTERM; it must end within the limit. Answers with how it ended.
    pub async fn terminate(&mut self, limit: Duration) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        // It may have ended by itself: whoever waits for it finds that out.
        let _ = kill_process(pid, Signal::TERM);
        self.ended(limit).await
    }

    /// SIGKILL, now.
    pub fn kill(&mut self) -> ExitStatus {
        self.child.kill().unwrap();
        self.child.wait().unwrap()
    }

    /// Waits for its end, within a limit.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let over = self.stage.wait_for(|stage| *stage == Stage::Ended);
        let is_over = tokio::time::timeout(limit, over).await.is_ok();
        assert!(is_over, "still running after {limit:?}; the log:\n{}", self.log.text());
        tokio::task::block_in_place(|| self.child.wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already, but for a test that failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ready_line(line: &str) -> Option<Addresses> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = &line["fields"];
    let address = |name: &str| fields[name].as_str()?.parse().ok();
    (fields["message"] == "ready").then(|| Some(Addresses { api: address("api")?, ops: address("ops")? }))?
}
