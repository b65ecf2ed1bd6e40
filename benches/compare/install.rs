//! What is compared, brought here from the registries into a directory of its own.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;
use tokio::process::Command;

use crate::{Outcome, peer::Peer};

const PACKAGES: &str = include_str!("peers/package.json");
const REQUIREMENTS: &str = include_str!("peers/requirements.txt");
const NODE_SCRIPT: &str = include_str!("peers/bridge.mjs");
const PYTHON_SCRIPT: &str = include_str!("peers/bridge.py");

/// Where the peers' programs are, or why not.
#[derive(Debug)]
pub struct Tools {
    home: PathBuf,
    npm: Result<(), String>,
    pip: Result<(), String>,
}

impl Tools {
    /// Installs what these need; what was installed already stays.
    pub async fn install(home: &Path, peers: &[Peer]) -> Outcome<Self> {
        std::fs::write(home.join("bridge.mjs"), NODE_SCRIPT)?;
        std::fs::write(home.join("bridge.py"), PYTHON_SCRIPT)?;
        let not_wanted = || Err("not asked for".to_owned());
        let needs_npm = peers.iter().any(|peer| matches!(peer, Peer::Node | Peer::NodeRed | Peer::Stripe));
        let npm = if needs_npm { npm(home).await } else { not_wanted() };
        let pip = if peers.contains(&Peer::Python) { pip(home).await } else { not_wanted() };
        Ok(Self { home: home.to_owned(), npm, pip })
    }

    /// The directory that everything is in.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// What keeps a peer from running.
    pub fn why_not(&self, peer: Peer) -> Option<String> {
        match peer {
            Peer::Bridge => None,
            Peer::Python => self.pip.clone().err(),
            Peer::Node | Peer::NodeRed => self.npm.clone().err(),
            Peer::Stripe => self.npm.clone().err().or_else(|| {
                let program = self.stripe();
                (!program.exists())
                    .then(|| format!("@stripe/cli has no program for this machine: {}", program.display()))
            }),
        }
    }

    /// What exactly is compared.
    pub fn version(&self, peer: Peer) -> String {
        let package = |name: &str| {
            let text =
                std::fs::read_to_string(self.home.join("node_modules").join(name).join("package.json"));
            let json: Value = serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default();
            json["version"].as_str().unwrap_or("?").to_owned()
        };
        match peer {
            Peer::Bridge => env!("CARGO_PKG_VERSION").to_owned(),
            Peer::Node => {
                format!("{}, ws {}, undici {}", output("node", "--version"), package("ws"), package("undici"))
            }
            Peer::Python => {
                let python = self.python();
                format!(
                    "{}, {}",
                    output(&python.to_string_lossy(), "--version"),
                    REQUIREMENTS.trim().replace("==", " ")
                )
            }
            Peer::NodeRed => format!("{} on {}", package("node-red"), output("node", "--version")),
            Peer::Stripe => package("@stripe/cli"),
        }
    }

    /// The Python that has the packages.
    pub fn python(&self) -> PathBuf {
        self.home.join("venv/bin/python3")
    }

    /// Node-RED's program, for Node.
    pub fn node_red(&self) -> PathBuf {
        self.home.join("node_modules/node-red/red.js")
    }

    /// Stripe's program itself, without the script that starts it.
    pub fn stripe(&self) -> PathBuf {
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
        self.home.join(format!("node_modules/@stripe/cli-linux-{arch}/bin/stripe"))
    }
}

async fn npm(home: &Path) -> Result<(), String> {
    let unchanged = std::fs::read_to_string(home.join("package.json")).is_ok_and(|text| text == PACKAGES);
    if unchanged && home.join("node_modules/ws").exists() {
        return Ok(());
    }
    std::fs::write(home.join("package.json"), PACKAGES).map_err(|error| error.to_string())?;
    println!("installing from npm: ws, undici, node-red, @stripe/cli");
    let mut command = Command::new("npm");
    command.args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]);
    finish(command.current_dir(home)).await
}

async fn pip(home: &Path) -> Result<(), String> {
    let noted = home.join("venv/installed.txt");
    if std::fs::read_to_string(&noted).is_ok_and(|text| text == REQUIREMENTS) {
        return Ok(());
    }
    println!("installing from PyPI: aiohttp");
    finish(Command::new("python3").args(["-m", "venv", "venv"]).current_dir(home)).await?;
    std::fs::write(home.join("requirements.txt"), REQUIREMENTS).map_err(|error| error.to_string())?;
    let mut pip = Command::new(home.join("venv/bin/python3"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"]);
    finish(pip.current_dir(home)).await?;
    std::fs::write(noted, REQUIREMENTS).map_err(|error| error.to_string())
}

async fn finish(command: &mut Command) -> Result<(), String> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().await.map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name} can't install it: {}", errors.trim().lines().last().unwrap_or("no word why")))
}

fn output(program: &str, argument: &str) -> String {
    let output = std::process::Command::new(program).arg(argument).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
