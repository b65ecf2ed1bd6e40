//! Running the binary.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Output, Stdio},
    time::Duration,
};

use rtm_bridge::sandbox::{App, Sandbox, SandboxOptions};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// No wait of a test takes longer than this; a test that hangs says where.
const LIMIT: Duration = Duration::from_secs(30);

/// Waits for something, and panics with its name if it doesn't come.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .unwrap_or_else(|_| panic!("waited {LIMIT:?} in vain for: {what}"))
}

/// The binary with these arguments, and nothing of this process's environment that it reads.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rtm-bridge"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    for name in ["CONFIG", "URL", "TOKEN", "WEBHOOK_SECRET"] {
        command.env_remove(format!("RTM_BRIDGE_{name}"));
    }
    for name in [
        "RUST_LOG",
        "JOURNAL_STREAM",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "STATE_DIRECTORY",
        "CREDENTIALS_DIRECTORY",
    ] {
        command.env_remove(name);
    }
    command
}

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end.
pub async fn ended(mut command: Command) -> Ended {
    let Output { status, stdout, stderr } = within("a command to end", command.output()).await.unwrap();
    Ended {
        code: status.code().expect("an exit code, not a signal"),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// Runs the binary with these arguments to its end.
pub async fn run(arguments: &[&str]) -> Ended {
    ended(command(arguments)).await
}

/// A daemon's log, line by line.
pub type Log = Lines<BufReader<Box<dyn AsyncRead + Send + Unpin>>>;

/// A command that goes on until it is stopped.
pub struct Running {
    pub child: Child,
    pub stdout: Lines<BufReader<ChildStdout>>,
    pub stderr: Log,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr: Box<dyn AsyncRead + Send + Unpin> = Box::new(child.stderr.take().unwrap());
        let stderr = BufReader::new(stderr).lines();
        Self { child, stdout, stderr }
    }

    /// Reads its log from here on to its end, whatever else happens meanwhile.
    pub fn collect_stderr(&mut self) -> tokio::task::JoinHandle<Vec<String>> {
        let (read, _) = tokio::io::duplex(1);
        let nothing: Log = BufReader::new(Box::new(read) as Box<dyn AsyncRead + Send + Unpin>).lines();
        let mut stderr = std::mem::replace(&mut self.stderr, nothing);
        tokio::spawn(async move {
            let mut lines = Vec::new();
            while let Some(line) = stderr.next_line().await.unwrap() {
                lines.push(line);
            }
            lines
        })
    }

    /// Sends it a signal, such as `HUP`.
    pub async fn signal(&self, name: &str) {
        let id = self.child.id().expect("it still runs").to_string();
        let kill = Command::new("kill").args(["-s", name, &id]).status();
        assert!(within("the signal", kill).await.unwrap().success());
    }

    /// Waits for its end, and gives its exit code.
    pub async fn end(mut self) -> Option<i32> {
        within("the end", self.child.wait()).await.unwrap().code()
    }

    /// Terminates one that has nothing to finish, and so ends by the signal. (Whoever is started in the background
    /// of a shell inherits that SIGINT is ignored.)
    pub async fn terminate(mut self) {
        self.signal("TERM").await;
        assert!(!within("the end", self.child.wait()).await.unwrap().success());
    }

    /// Interrupts it, as Ctrl-C does, and gives its exit code.
    pub async fn interrupt(self) -> Option<i32> {
        self.signal("INT").await;
        self.end().await
    }
}

/// Reads lines until one has this in it, and gives it.
pub async fn line_with<R: AsyncRead + Unpin>(lines: &mut Lines<BufReader<R>>, wanted: &str) -> String {
    let mut seen = Vec::new();
    let reading = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(wanted) {
                return Some(line);
            }
            seen.push(line);
        }
        None
    };
    let found = within(wanted, reading).await;
    found.unwrap_or_else(|| panic!("no line with {wanted:?} in:\n{}", seen.join("\n")))
}

/// An address of this machine that nobody listens on at the moment.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// A platform, and a bridge of alice's, both running.
pub struct World {
    pub sandbox: Sandbox,
    pub daemon: Running,
    pub config: String,
    pub url: String,
    directory: TempDir,
}

/// The token of the client `operator`, who may do everything.
pub const TOKEN: &str = "a-token-of-the-operator-for-tests";

impl World {
    /// Without clients: everyone on this machine may do everything.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// With more in its configuration; alice is connected.
    pub async fn start_with(more: &str) -> Self {
        Self::start_as(more, |command| command).await
    }

    /// As [`World::start_with`], with the daemon's command changed.
    pub async fn start_as(more: &str, change: impl FnOnce(Command) -> Command) -> Self {
        let mut options = SandboxOptions::default();
        options.settings.welcome = None;
        let sandbox = Sandbox::start(options).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        // The daemon takes free ports; the commands' configuration names the one that it got.
        let write = |name: &str, api: SocketAddr| {
            let file = directory.path().join(name).display().to_string();
            std::fs::write(&file, configuration(&sandbox, api, more)).unwrap();
            file
        };
        let daemon = write("daemon.toml", SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let mut daemon = Running::start(change(command(&["--config", &daemon])));
        let is_json = more.contains("format = \"json\"");
        let (ready, key) =
            if is_json { ("\"message\":\"ready\"", "\"api\":\"") } else { ("ready api=", "api=") };
        let ready = line_with(&mut daemon.stderr, ready).await;
        let (_, api) = ready.split_once(key).unwrap();
        let api: SocketAddr = api.split([' ', '"']).next().unwrap().parse().unwrap();
        let config = write("bridge.toml", api);
        // The platform knows of the connection a moment before the bridge does: not a matter here.
        within("alice's connection", sandbox.control().wait_connected("alice", 1)).await;
        Self { sandbox, daemon, config, url: format!("http://{api}"), directory }
    }

    /// Gives the daemon another configuration to reload: `more` in the place of the one before.
    pub fn rewrite(&self, more: &str) {
        let text = configuration(&self.sandbox, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), more);
        // In one step: a daemon that reads meanwhile must not see a part.
        let new = self.directory.path().join("new.toml");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.directory.path().join("daemon.toml")).unwrap();
    }

    /// A command that finds this bridge through its configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command.env("RTM_BRIDGE_CONFIG", &self.config);
        command
    }

    /// Runs such a command to its end.
    pub async fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.command(arguments)).await
    }
}

fn configuration(sandbox: &Sandbox, api: SocketAddr, more: &str) -> String {
    let App { client_id, client_secret, bot_name, bot_id } = App::default();
    let platform = sandbox.url();
    format!(
        r#"
[platform]
url = "{platform}"
[http]
api = "{api}"
ops = "127.0.0.1:0"
[store]
path = "data"
[bots.support]
name = "{bot_name}"
id = "{bot_id}"
client_id = "{client_id}"
client_secret = "{client_secret}"
[users.alice]
bot = "support"
identity = "alice"
webhooks = []
{more}"#
    )
}
