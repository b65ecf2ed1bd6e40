//! The process under test.

use std::{
    collections::VecDeque,
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

/// No start may take longer, on the slowest machine.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Log lines that a failure shows.
const LINES: usize = 60;

/// What is known of a process from its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Starting,
    Ready(SocketAddr),
    Ended,
}

/// The latest log lines of all lives.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<VecDeque<String>>>);

impl Log {
    fn add(&self, line: String) {
        let mut lines = self.0.lock().unwrap();
        lines.push_back(line);
        if lines.len() > LINES {
            lines.pop_front();
        }
    }

    /// The lines, oldest first.
    pub fn tail(&self) -> String {
        let lines = self.0.lock().unwrap();
        lines.iter().map(|line| format!("    {line}\n")).collect()
    }
}

/// One life of the daemon. It doesn't outlive this value.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stage: watch::Receiver<Stage>,
}

impl Process {
    /// Starts the binary.
    pub fn start(config: &Path, life: usize, log: &Log) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rtm-bridge"))
            .args(["run", "-c"])
            .arg(config)
            .env_remove("RUST_LOG")
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, stage) = watch::channel(Stage::Starting);
        let log = log.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some(api) = ready_line(&line) {
                    sender.send_replace(Stage::Ready(api));
                }
                log.add(format!("life {life}: {line}"));
            }
            sender.send_replace(Stage::Ended);
        });
        Self { child, stage }
    }

    /// Waits until it says that it is ready; answers with its API's address.
    pub async fn ready(&mut self) -> Result<SocketAddr, String> {
        let known = self.stage.wait_for(|stage| *stage != Stage::Starting);
        let stage = match tokio::time::timeout(READY_WITHIN, known).await {
            Ok(Ok(stage)) => *stage,
            Ok(Err(_)) => Stage::Ended,
            Err(_) => return Err(format!("not ready within {READY_WITHIN:?}")),
        };
        match stage {
            Stage::Ready(api) => Ok(api),
            Stage::Starting | Stage::Ended => Err(format!("ended before it was ready: {}", self.wait())),
        }
    }

    /// Its id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        // It may have ended by itself: whoever waits for it finds that out.
        let _ = kill_process(self.pid(), Signal::TERM);
    }

    /// SIGKILL, now. Answers with how it ended, which may have been earlier.
    pub fn kill(&mut self) -> ExitStatus {
        self.child.kill().unwrap();
        self.wait()
    }

    /// Waits for its end, within a limit.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus, String> {
        let over = self.stage.wait_for(|stage| *stage == Stage::Ended);
        let is_over = tokio::time::timeout(limit, over).await.is_ok();
        if is_over { Ok(self.wait()) } else { Err(format!("still running {limit:?} after SIGTERM")) }
    }

    fn wait(&mut self) -> ExitStatus {
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

fn ready_line(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = &line["fields"];
    (fields["message"] == "ready").then(|| fields["api"].as_str()?.parse().ok())?
}
