//! `rtm-bridge check`: is the configuration right, and what does it mean? With `--online`: does it work?

mod advice;
mod online;
mod report;

mod samples;

use std::path::Path;

use clap::Args;

use super::{
    CommandError,
    client::{user_name, webhook_name},
    output,
    process::{Threads, block_on},
    settings,
};
use crate::{
    config::{Config, Warning, explain},
    names::{UserName, WebhookName},
    webhook::visible,
};

const AFTER_HELP: &str = "\
--online walks each user's sign-in: clock, JWT, jwtgrant, rtm/start, WebSocket,
and the way to each webhook: DNS, TCP, TLS. For each step that fails it says
what to do. A running bridge is not disturbed: the check has sockets of its own,
says goodbye on them, tells the platform that each is a reconnect (so that it
greets nobody), and keeps to platform.request_rate, which it takes once more.
Without --post no webhook gets anything; with it, each gets one signed event of
the type bridge.test.

Exit codes:
  0  the configuration is right; with --online: and everything works
  1  with --online: a step failed
  2  the configuration has errors

Examples:
  rtm-bridge check
  rtm-bridge check --online
  rtm-bridge check --online --user alice --webhook crm --post";

/// What `check` takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Also sign every user in, and connect to every webhook
    #[arg(long)]
    online: bool,
    /// Also post an event to every webhook that is connected to
    #[arg(long, requires = "online")]
    post: bool,
    /// Only this user; several times for several
    #[arg(long, value_name = "USER", requires = "online", value_parser = user_name)]
    user: Vec<UserName>,
    /// Only this webhook; several times for several
    #[arg(long, value_name = "WEBHOOK", requires = "online", value_parser = webhook_name)]
    webhook: Vec<WebhookName>,
}

/// Prints what the configuration means; refuses it with every error that it has. Then tries it, if asked to.
pub(super) fn run(arguments: &Arguments, file: &Path) -> Result<(), CommandError> {
    let (config, warnings) = settings::load(file)?;
    output::line(report(file, &config, &warnings))?;
    if !arguments.online {
        return Ok(());
    }
    let findings = block_on(Threads::One, online::walk(&config, arguments))?;
    output::line(format_args!("\n{}", report::report(&config, &findings, arguments.post)))?;
    if findings.is_well() { Ok(()) } else { Err(CommandError::Told) }
}

fn report(file: &Path, config: &Config, warnings: &[Warning]) -> String {
    let mut text = format!("{} is valid.\n\n{}", visible(&file.to_string_lossy()), explain(config, warnings));
    for (name, webhook) in &config.webhooks {
        if let Some(template) = &webhook.template {
            samples::show(&mut text, name, template, &webhook.events);
        }
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, fs};

    use super::*;
    use crate::config::Environment;

    const SHIPPED: &str = include_str!("../../bridge.toml");

    /// Every variable that the shipped file names.
    struct Variables;

    impl Environment for Variables {
        fn var(&self, name: &str) -> Option<OsString> {
            match name {
                "STATE_DIRECTORY" | "CREDENTIALS_DIRECTORY" => None,
                "CRM_WEBHOOK_SECRET" => Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()),
                name => Some(format!("a-long-enough-secret-of-{name}").into()),
            }
        }
    }

    #[test]
    fn the_shipped_file_is_put_into_words() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bridge.toml");
        fs::write(&file, SHIPPED).unwrap();
        let (config, warnings) = Config::load(&file, &Variables).unwrap();
        let report = report(&file, &config, &warnings);
        assert!(!report.contains("secret-of"), "{report}");
        insta::assert_snapshot!(report.replace(&dir.path().display().to_string(), "DIR"), @r#"
        DIR/bridge.toml is valid.

        API:       http://127.0.0.1:8080 (send messages, ask what became of them)
        Ops:       http://127.0.0.1:8081 (status page, health, metrics)
        Platform:  https://bots.kore.ai/, at most 4.5 requests a second and bot (bursts of 60)
        Store:     data (survives a power loss)
        Messages:  expire after 15 minutes; sent again after 10 seconds without an ack, 3 times in all; one at a time per user
        1 bot:
          support: "Support", id st-00000000-0000-0000-0000-000000000000, client cs-00000000-0000-0000-0000-000000000000
        1 user:
          alice: "alice@example.com" on support, events to crm
        1 webhook:
          crm: https://crm.example.com/kore-events
            events of type bot_response, user_message, as JSON envelopes
            each user's in order, up to 32 at once
            15 seconds for an attempt, tried for 1 day, then a dead letter
            signed
        1 client:
          crm: may send and read for every user
        "#);
    }
}
