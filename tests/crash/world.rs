//! Platform, receivers and configuration.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use rtm_bridge::{
    receiver::{Receiver, ReceiverOptions},
    sandbox::{App, Sandbox, SandboxOptions},
    webhook::parse_secret,
};
use tempfile::TempDir;

/// How many users there are.
pub const USERS: usize = 8;
/// What the platform says to a user who connects, and not to one who connects again.
pub const WELCOME: &str = "Welcome!";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A user's name, and its identity.
pub fn user_name(user: usize) -> String {
    format!("u{user}")
}

/// Everything that the daemon talks to.
#[derive(Debug)]
pub struct World {
    /// The platform.
    pub sandbox: Sandbox,
    /// Gets bot responses, and fails now and then.
    pub crm: Receiver,
    /// Gets every event.
    pub audit: Receiver,
    /// Is told how every message ended.
    pub reports: Receiver,
    directory: TempDir,
}

impl World {
    /// Starts platform and receivers, and writes the configuration.
    pub async fn start(seed: u64) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut options = SandboxOptions { kept: 200_000, ..SandboxOptions::default() };
        options.settings.welcome = Some(WELCOME.to_owned());
        let sandbox = Sandbox::start(options).await.unwrap();
        let receiver = |fail: Option<&str>| {
            let secrets = vec![parse_secret(SECRET).unwrap()];
            let fail = fail.map(|plan| plan.parse().unwrap());
            Receiver::start(ReceiverOptions { secrets, fail, seed, ..ReceiverOptions::default() })
        };
        let crm = receiver(Some("503@10%")).await.unwrap();
        let (audit, reports) = (receiver(None).await.unwrap(), receiver(Some("503@10%")).await.unwrap());
        let world = Self { sandbox, crm, audit, reports, directory: tempfile::tempdir().unwrap() };
        std::fs::write(world.config_path(), world.config()).unwrap();
        world
    }

    /// The webhooks that get the platform's events, by name.
    pub fn event_webhooks(&self) -> [(&'static str, &Receiver); 2] {
        [("crm", &self.crm), ("audit", &self.audit)]
    }

    /// All webhooks by name.
    pub fn webhooks(&self) -> [(&'static str, &Receiver); 3] {
        [("crm", &self.crm), ("audit", &self.audit), ("reports", &self.reports)]
    }

    /// The configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.directory.path().join("bridge.toml")
    }

    /// The files of large bodies.
    pub fn payload_files(&self) -> Vec<String> {
        names_in(&self.directory.path().join("data/payloads"))
    }

    fn config(&self) -> String {
        let (platform, crm) = (self.sandbox.url(), self.crm.url());
        let (audit, reports) = (self.audit.url(), self.reports.url());
        let App { client_id, client_secret, bot_name, bot_id } = App::default();
        // Between a kill and the next start the old port may go to another program of this machine, which
        // must not answer our clients: so the daemon has a loopback address of its own.
        let own = Ipv4Addr::new(127, fastrand::u8(1..), fastrand::u8(..), fastrand::u8(1..255));
        // Hardly anything is recent: what is delivered must leave the disk.
        let mut config = format!(
            r#"
            [platform]
            url = "{platform}"
            delivery_acks = true
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
            [log]
            format = "json"
            [bots.support]
            name = "{bot_name}"
            id = "{bot_id}"
            client_id = "{client_id}"
            client_secret = "{client_secret}"
            [webhooks.crm]
            url = "{crm}"
            secret = "{SECRET}"
            backoff_min = "20ms"
            backoff_max = "200ms"
            [webhooks.audit]
            url = "{audit}"
            secret = "{SECRET}"
            events = ["*"]
            backoff_min = "20ms"
            backoff_max = "200ms"
            [webhooks.reports]
            url = "{reports}"
            secret = "{SECRET}"
            events = ["bridge.message"]
            backoff_min = "20ms"
            backoff_max = "200ms"
            "#
        );
        for user in (0..USERS).map(user_name) {
            config.push_str(&format!(
                "[users.{user}]\nbot = \"support\"\nidentity = \"{user}\"\nwebhooks = [\"crm\", \"audit\", \"reports\"]\n"
            ));
        }
        config
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}
