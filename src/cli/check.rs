//! `rtm-bridge check`: is the configuration right, and what does it mean?

mod samples;

use std::path::Path;

use super::{CommandError, output, settings};
use crate::{
    config::{Config, Warning, explain},
    webhook::visible,
};

/// Prints what the configuration means; refuses it with every error that it has.
pub(super) fn run(file: &Path) -> Result<(), CommandError> {
    let (config, warnings) = settings::load(file)?;
    output::line(report(file, &config, &warnings))
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
        Ops:       http://127.0.0.1:8081 (health)
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
