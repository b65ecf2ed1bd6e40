//! `rtm-bridge sandbox`: the stand-in platform alone.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Args;

use super::{
    CommandError,
    listen::Reach,
    logs, output,
    process::{Stop, Threads, block_on},
};
use crate::{
    config::Log,
    sandbox::{App, COMMANDS, Sandbox, SandboxOptions},
};

const AFTER_HELP: &str = "\
Prints what bridge.toml needs to use it, then logs each sign-in, connection and
frame to stderr until Ctrl-C. It checks what the platform checks; everything it
knows is gone when it ends.

Examples:
  rtm-bridge sandbox
  curl -H 'Content-Type: application/json' -d '{\"text\": \"Hello\"}' \\
      http://127.0.0.1:9080/sandbox/users/alice@example.com/push";

/// What it takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9080")]
    listen: SocketAddr,
    #[command(flatten)]
    reach: Reach,
}

/// Runs until Ctrl-C or SIGTERM.
pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    arguments.reach.check(arguments.listen)?;
    logs::start(&Log::default());
    let app = App::default();
    let options =
        SandboxOptions { listen: arguments.listen, apps: vec![app.clone()], ..SandboxOptions::default() };
    block_on(Threads::Many, async {
        let mut stop = Stop::listen()?;
        let sandbox =
            Sandbox::start(options).await.map_err(|error| CommandError::Failed(format!("error: {error}")))?;
        output::line(welcome(&app, sandbox.address()))?;
        stop.requested().await;
        sandbox.shutdown().await;
        Ok(())
    })
}

/// What there is, and how to use it.
fn welcome(app: &App, address: SocketAddr) -> String {
    let mut text =
        format!("The stand-in platform listens on {address}. To use it, put this into bridge.toml:\n\n");
    text.push_str(&configuration(app, address));
    text.push_str("\nIts bot echoes what alice says, but for these:\n\n");
    for (command, what) in COMMANDS {
        text.push_str(&format!("  {command:<8}  {what}\n"));
    }
    let url = url(address);
    text.push_str(&format!("\nWatch it and meddle with it: {url}/sandbox\nCtrl-C ends it.\n"));
    text
}

/// What makes a bridge use it: a part of `bridge.toml`.
fn configuration(app: &App, address: SocketAddr) -> String {
    let url = url(address);
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let insecure = if is_loopback(address) || address.ip().is_unspecified() {
        ""
    } else {
        "insecure = true    # unencrypted beyond this machine; for tests only\n"
    };
    format!(
        "[platform]
url = {url}
{insecure}
[bots.sandbox]
name = {name}
id = {id}
client_id = {client_id}
client_secret = {client_secret}

[users.alice]
bot = \"sandbox\"
identity = \"alice@example.com\"
webhooks = []
",
        url = quoted(&url),
        name = quoted(&app.bot_name),
        id = quoted(&app.bot_id),
        client_id = quoted(&app.client_id),
        client_secret = quoted(&app.client_secret),
    )
}

/// What a program calls; on this machine, if every address is listened on.
fn url(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    format!("http://{address}")
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Credentials, ProcessEnvironment};

    #[test]
    fn what_it_prints_can_be_pasted() {
        let dir = tempfile::tempdir().unwrap();
        for address in ["127.0.0.1:9080", "0.0.0.0:9080", "[::]:9080", "[::1]:9080", "10.0.0.1:9080"] {
            let file = dir.path().join("bridge.toml");
            std::fs::write(&file, configuration(&App::default(), address.parse().unwrap())).unwrap();
            let loaded = Config::load(&file, &ProcessEnvironment);
            let (config, _) = loaded.unwrap_or_else(|errors| panic!("{address}: {errors}"));
            let bot = config.bots.values().next().unwrap();
            assert_eq!(bot.credentials, Credentials::client_secret(App::default().client_secret));
            assert_eq!(config.users.len(), 1);
        }
    }

    #[test]
    fn it_says_how_to_use_it() {
        insta::assert_snapshot!(welcome(&App::default(), "127.0.0.1:9080".parse().unwrap()), @r#"
        The stand-in platform listens on 127.0.0.1:9080. To use it, put this into bridge.toml:

        [platform]
        url = "http://127.0.0.1:9080"

        [bots.sandbox]
        name = "Sandbox Bot"
        id = "st-00000000-0000-4000-8000-000000000001"
        client_id = "cs-00000000-0000-4000-8000-000000000001"
        client_secret = "sandbox-secret-do-not-use-in-production"

        [users.alice]
        bot = "sandbox"
        identity = "alice@example.com"
        webhooks = []

        Its bot echoes what alice says, but for these:

          agent     starts a session with a human agent, until `bye`; more: GET /sandbox
          buttons   answers with a button template
          silent    doesn't answer
          twice     answers twice
          stream    answers in three parts, as a language model does
          slow N    answers after N milliseconds
          big N     answers with a text of N bytes
          close N   closes the user's connections with the code N

        Watch it and meddle with it: http://127.0.0.1:9080/sandbox
        Ctrl-C ends it.
        "#);
    }
}
