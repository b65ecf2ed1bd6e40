//! Who is compared, and how each is started.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::{
    Outcome,
    daemon::{Daemon, Settings},
    install::Tools,
    kernel::{self, Memory},
    node_red,
    platform::{Platform, user_name},
    receiver::Receiver,
};

/// The longest that any start may take.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// Who is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Bridge,
    Node,
    Python,
    NodeRed,
    Stripe,
}

impl Peer {
    /// All of them, in the table's order.
    pub const ALL: [Self; 5] = [Self::Bridge, Self::Node, Self::Python, Self::NodeRed, Self::Stripe];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Node => "node",
            Self::Python => "python",
            Self::NodeRed => "node-red",
            Self::Stripe => "stripe",
        }
    }

    /// The name in the table.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Bridge => "rtm-bridge",
            Self::Node => "Node script",
            Self::Python => "Python script",
            Self::NodeRed => "Node-RED",
            Self::Stripe => "Stripe CLI",
        }
    }

    /// Whether what is posted to it goes to the platform.
    pub const fn takes_posts(self) -> bool {
        !matches!(self, Self::Stripe)
    }

    /// How many sockets it has for so many users: Stripe's tool has one for all.
    pub const fn sockets(self, users: usize) -> usize {
        match self {
            Self::Stripe => 1,
            _ => users,
        }
    }

    /// How many events it can be given at once: Node-RED opens a connection for each that waits, and with
    /// more it uses up all ports of the machine, and loses thousands.
    pub fn at_once(self, events: usize) -> usize {
        match self {
            Self::NodeRed => events.min(5_000),
            _ => events,
        }
    }

    /// How long nothing may come from it before it is certain that nothing more will: a bit more than
    /// the longest that it waits before it tries again.
    pub const fn patience(self) -> Duration {
        match self {
            Self::Bridge => Duration::from_secs(45),
            Self::Node | Self::Python => Duration::from_secs(8),
            Self::NodeRed => Duration::from_secs(6),
            // It waits ten seconds before it connects again.
            Self::Stripe => Duration::from_secs(12),
        }
    }
}

/// What a peer is told.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Its directory.
    pub directory: &'a Path,
    /// The platform.
    pub platform: &'a Platform,
    /// Where events go.
    pub receiver: &'a Receiver,
    /// How many users.
    pub users: usize,
}

/// A peer's process. It doesn't outlive this value.
#[derive(Debug)]
pub enum Process {
    Daemon(Daemon),
    Other { child: Child, pid: u32, api: Option<SocketAddr> },
}

impl Process {
    /// Starts a peer; its users may still be connecting.
    pub async fn start(peer: Peer, tools: &Tools, around: Surroundings<'_>) -> Outcome<Self> {
        match peer {
            Peer::Bridge => {
                let webhooks = &[("crm", around.receiver, crate::stage::ANSWERS)][..];
                let Surroundings { directory, platform, users, .. } = around;
                Ok(Self::Daemon(Daemon::start(&Settings { directory, platform, users, webhooks }).await?))
            }
            Peer::Node => {
                let mut command = Command::new("node");
                command.arg(tools.home().join("bridge.mjs"));
                Self::script(command, around).await
            }
            Peer::Python => {
                let mut command = Command::new(tools.python());
                command.arg(tools.home().join("bridge.py"));
                Self::script(command, around).await
            }
            Peer::NodeRed => Self::node_red(tools, around),
            Peer::Stripe => Self::stripe(tools, around),
        }
    }

    /// A script says on what port it listens.
    async fn script(mut command: Command, around: Surroundings<'_>) -> Outcome<Self> {
        let users: Vec<_> = (0..around.users).map(user_name).collect();
        let config = json!({
            "platform": format!("http://{}", around.platform.address()),
            "bot": { "name": "Bench", "id": "st-0", "clientId": "cs-0", "clientSecret": "not much of a secret" },
            "webhook": around.receiver.url(),
            "users": users,
        });
        command.env("BRIDGE", config.to_string()).stdout(Stdio::piped());
        let (mut child, pid) = spawn(command, around.directory)?;
        let output = child.stdout.take().ok_or("the script has no output")?;
        let line = tokio::time::timeout(STARTS_WITHIN, BufReader::new(output).lines().next_line()).await??;
        let said: Value = serde_json::from_str(&line.ok_or_else(|| said_before_the_end(around.directory))?)?;
        let port = said["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or("the script doesn't say its port")?;
        Ok(Self::Other { child, pid, api: Some((Ipv4Addr::LOCALHOST, port).into()) })
    }

    fn node_red(tools: &Tools, around: Surroundings<'_>) -> Outcome<Self> {
        node_red::write(around.directory, around.platform.address(), around.users, &around.receiver.url())?;
        // It must be told a port: one that was free a moment ago.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = Command::new("node");
        command.arg(tools.node_red()).arg("--userDir").arg(around.directory);
        command.args(["--settings"]).arg(around.directory.join("settings.js"));
        command.args(["--port", &address.port().to_string(), "flows.json"]).stdout(Stdio::null());
        let (child, pid) = spawn(command, around.directory)?;
        Ok(Self::Other { child, pid, api: Some(address) })
    }

    fn stripe(tools: &Tools, around: Surroundings<'_>) -> Outcome<Self> {
        let mut command = Command::new(tools.stripe());
        let (platform, webhook) = (format!("http://{}", around.platform.address()), around.receiver.url());
        command.args([
            "listen",
            "--api-key",
            "sk_test_00000000000000000000000000",
            "--skip-update",
            "--no-wss",
        ]);
        command.args(["--all-snapshot", "--api-base", &platform, "--forward-to", &webhook]);
        // It is to reach nothing but this machine, and to leave nothing outside its directory.
        command.env("STRIPE_CLI_TELEMETRY_OPTOUT", "1").env("HTTPS_PROXY", "http://127.0.0.1:9");
        command.env("XDG_CONFIG_HOME", around.directory).stdout(Stdio::null());
        let (child, pid) = spawn(command, around.directory)?;
        Ok(Self::Other { child, pid, api: None })
    }

    /// Waits for its end.
    pub async fn ended(&mut self) {
        match self {
            // What waits for it says itself when nothing comes any more.
            Self::Daemon(_) => std::future::pending().await,
            Self::Other { child, .. } => drop(child.wait().await),
        }
    }

    /// Where messages are posted.
    pub fn api(&self) -> Option<SocketAddr> {
        match self {
            Self::Daemon(daemon) => Some(daemon.api),
            Self::Other { api, .. } => *api,
        }
    }

    /// Its CPU time so far.
    pub fn cpu(&self) -> Outcome<Duration> {
        match self {
            Self::Daemon(daemon) => daemon.cpu(),
            Self::Other { pid, .. } => kernel::cpu(*pid),
        }
    }

    /// Its memory.
    pub fn memory(&self) -> Outcome<Memory> {
        match self {
            Self::Daemon(daemon) => daemon.memory(),
            Self::Other { pid, .. } => kernel::memory(*pid),
        }
    }

    /// Kills it.
    pub async fn kill(self) -> Outcome<()> {
        match self {
            Self::Daemon(daemon) => daemon.kill().await,
            Self::Other { mut child, .. } => Ok(child.kill().await?),
        }
    }
}

/// Starts a program in its directory; what it says goes into a file there.
fn spawn(mut command: Command, directory: &Path) -> Outcome<(Child, u32)> {
    let errors = std::fs::File::create(directory.join(ERRORS))?;
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    command.current_dir(directory).stdin(Stdio::null()).stderr(errors).kill_on_drop(true);
    let child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
    let pid = child.id().ok_or("it ended at once")?;
    Ok((child, pid))
}

const ERRORS: &str = "stderr.txt";

/// The last that a peer said.
pub fn said_before_the_end(directory: &Path) -> String {
    let said = std::fs::read_to_string(directory.join(ERRORS)).unwrap_or_default();
    let lines: Vec<_> = said.trim().lines().rev().take(3).collect();
    format!("the last that it said: {}", lines.into_iter().rev().collect::<Vec<_>>().join(" / "))
}
