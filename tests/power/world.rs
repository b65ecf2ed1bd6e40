//! Platform, receivers and configuration.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use rtm_bridge::{
    receiver::{Receiver, ReceiverOptions},
    sandbox::{App, Sandbox, SandboxOptions},
};
use tempfile::TempDir;

/// How many users there are.
pub const USERS: usize = 4;
/// The first users have a second webhook, which takes nothing before the power loss.
pub const STUCK_USERS: usize = 2;

/// A user's name, and its identity.
pub fn user_name(user: usize) -> String {
    format!("u{user}")
}

/// `store.durability`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    Fsync,
    Os,
}

/// Everything that the daemon talks to, and where it lives.
#[derive(Debug)]
pub struct World {
    /// The platform.
    pub sandbox: Sandbox,
    /// Takes everything at once, so that the store's content keeps changing.
    pub crm: Receiver,
    /// Takes nothing until it is told otherwise.
    pub stuck: Receiver,
    durability: Durability,
    directory: TempDir,
}

impl World {
    /// Starts platform and receivers, and writes the configuration.
    pub async fn start(durability: Durability) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let options = SandboxOptions { kept: 200_000, ..SandboxOptions::default() };
        let sandbox = Sandbox::start(options).await.unwrap();
        let receiver = || Receiver::start(ReceiverOptions::default());
        let (crm, stuck) = (receiver().await.unwrap(), receiver().await.unwrap());
        let world = Self { sandbox, crm, stuck, durability, directory: tempfile::tempdir().unwrap() };
        std::fs::write(world.config_path(), world.config()).unwrap();
        std::fs::create_dir(world.store()).unwrap();
        world
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.directory().join("bridge.toml")
    }

    /// The store's directory.
    pub fn store(&self) -> PathBuf {
        self.directory().join("data")
    }

    fn config(&self) -> String {
        let (platform, crm, stuck) = (self.sandbox.url(), self.crm.url(), self.stuck.url());
        let App { client_id, client_secret, bot_name, bot_id } = App::default();
        let durability = match self.durability {
            Durability::Fsync => "fsync",
            Durability::Os => "os",
        };
        let own = Ipv4Addr::new(127, fastrand::u8(1..), fastrand::u8(..), fastrand::u8(1..255));
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
            recent = "64KiB"
            durability = "{durability}"
            [log]
            format = "json"
            [bots.support]
            name = "{bot_name}"
            id = "{bot_id}"
            client_id = "{client_id}"
            client_secret = "{client_secret}"
            [webhooks.crm]
            url = "{crm}"
            [webhooks.stuck]
            url = "{stuck}"
            backoff_min = "50ms"
            backoff_max = "200ms"
            "#
        );
        for user in 0..USERS {
            let name = user_name(user);
            let webhooks = if user < STUCK_USERS { r#"["crm", "stuck"]"# } else { r#"["crm"]"# };
            config.push_str(&format!(
                "[users.{name}]\nbot = \"support\"\nidentity = \"{name}\"\nwebhooks = {webhooks}\n"
            ));
        }
        config
    }
}
