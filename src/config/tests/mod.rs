//! Tests that load whole files.

mod broken;
mod event_types;
mod files;
mod leaks;
mod reload;
mod shipped;
mod shown;
mod sign_in;
mod wise;

use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{Config, ConfigErrors, Environment, Warning};

/// A signing secret of 32 bytes.
const WHSEC: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// A token that nobody guesses.
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A bot, a webhook and a user of both, to build on.
const BASE: &str = r#"[bots.support]
name = "Support"
id = "st-1"
client_id = "cs-1"
client_secret = { env = "BOT_SECRET" }
[webhooks.crm]
url = "https://crm.example.com/events"
secret = { env = "WHSEC" }
[users.alice]
bot = "support"
identity = "alice@example.com"
webhooks = ["crm"]
"#;

/// An environment that is the test's own.
#[derive(Default)]
struct Fake(HashMap<String, OsString>);

impl Fake {
    /// What [`BASE`] and the shipped file need.
    fn usual() -> Self {
        let secrets = ["BOT_SECRET", "SUPPORT_CLIENT_SECRET", "CRM_API_KEY", "CRM_BEARER", "CRM_PASSWORD"];
        let mut env = Self::default().with("WHSEC", WHSEC).with("CRM_WEBHOOK_SECRET", WHSEC);
        for name in secrets {
            env = env.with(name, "a-quite-secret-text");
        }
        for (name, file) in [("RSA_KEY", "signing-pkcs8.pem"), ("SMALL_KEY", "signing-small.pem")] {
            env = env.with(name, fs::read_to_string(fixture(file)).unwrap());
        }
        env.with("CRM_API_TOKEN", TOKEN).with("EMPTY", "")
    }

    fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }
}

impl Environment for Fake {
    fn var(&self, name: &str) -> Option<OsString> {
        self.0.get(name).cloned()
    }
}

/// A directory with a configuration in it.
struct Dir(TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file that only its owner can read.
    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        self.set_mode(name, 0o600);
        path
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn load(&self) -> Result<(Config, Vec<Warning>), ConfigErrors> {
        self.load_with(&Fake::usual())
    }

    fn load_with(&self, env: &Fake) -> Result<(Config, Vec<Warning>), ConfigErrors> {
        Config::load(&self.path("bridge.toml"), env)
    }

    /// Text with this directory's name left out.
    fn without_dir(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// Loads a text with nothing around it.
fn load(text: &str) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    let dir = Dir::new();
    dir.write("bridge.toml", text);
    dir.load()
}

/// Loads a text that must be fine.
fn valid(text: &str) -> Config {
    load(text).unwrap_or_else(|errors| panic!("{text}\n{errors}")).0
}

/// The warnings of a text that must be fine.
fn warnings(text: &str) -> Vec<Warning> {
    load(text).unwrap_or_else(|errors| panic!("{text}\n{errors}")).1
}

/// A certificate or key of `src/config/fixtures`: made for these tests, they guard nothing.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/fixtures").join(name)
}
