//! The process under test, and the recorder inside it.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tokio::sync::watch;

use crate::PATIENCE;

/// The library that records what the daemon does to its store.
#[derive(Debug)]
pub struct Recorder {
    library: PathBuf,
    log: PathBuf,
    store: PathBuf,
}

impl Recorder {
    /// Compiles it, with the compiler that Rust links with. It records what happens under `store`.
    pub fn build(directory: &Path, store: &Path) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power/recorder.c");
        let library = directory.join("recorder.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).args(["-ldl", "-pthread"]);
        assert!(compiler.status().expect("a C compiler").success(), "the recorder does not compile");
        Self { library, log: directory.join("recording"), store: store.to_owned() }
    }

    /// What it wrote down.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How much it has written down by now: whatever was acknowledged before is in there.
    pub fn length(&self) -> u64 {
        std::fs::metadata(&self.log).unwrap().len()
    }
}

/// What is known of a process from its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Starting,
    Ready(SocketAddr),
    Ended,
}

/// A life of the daemon. It doesn't outlive this value.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stage: watch::Receiver<Stage>,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts the binary.
    pub fn start(config: &Path, recorder: Option<&Recorder>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rtm-bridge"));
        command.args(["run", "-c"]).arg(config).env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET");
        if let Some(recorder) = recorder {
            command.env("LD_PRELOAD", &recorder.library);
            command.env("RECORD_UNDER", &recorder.store).env("RECORD_TO", &recorder.log);
        }
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, stage) = watch::channel(Stage::Starting);
        let log = Arc::new(Mutex::new(String::new()));
        let lines = log.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some(api) = ready_line(&line) {
                    sender.send_replace(Stage::Ready(api));
                }
                lines.lock().unwrap().push_str(&format!("    {line}\n"));
            }
            sender.send_replace(Stage::Ended);
        });
        Self { child, stage, log }
    }

    /// Waits until it says that it is ready; answers with its API's address.
    pub async fn ready(&mut self) -> Result<SocketAddr, String> {
        let known = self.stage.wait_for(|stage| *stage != Stage::Starting);
        match tokio::time::timeout(PATIENCE, known).await.map(|stage| stage.map(|stage| *stage)) {
            Ok(Ok(Stage::Ready(api))) => Ok(api),
            Ok(_) => Err("it ended before it was ready".to_owned()),
            Err(_) => Err(format!("not ready within {PATIENCE:?}")),
        }
    }

    /// What it said.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// SIGKILL, now.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
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
