//! `rtm-bridge receive`: a webhook receiver for development.

use std::{convert::Infallible, net::SocketAddr};

use anstyle::{AnsiColor, Style};
use clap::Args;
use tokio::sync::broadcast::error::RecvError;

use super::{
    CommandError,
    listen::Reach,
    output,
    process::{Stop, Threads, block_on},
};
use crate::{
    config::{Secret, SigningKey},
    receiver::{FailPlan, ReceivedEvent, Receiver, ReceiverOptions, Verdict},
    webhook::parse_secret,
};

/// Events are printed, not kept.
const KEEP: usize = 16;

const AFTER_HELP: &str = "\
Answers 204 to every event; with --secret 401 to one whose signature is wrong.
Prints a line for each: time, user, type, text, attempt, signature, answer.
RTM_BRIDGE_WEBHOOK_SECRET keeps the secret out of the process list; several
are separated by commas.

Examples:
  rtm-bridge receive
  rtm-bridge receive --secret whsec_... --fail 503@10%

In bridge.toml, with webhooks = [\"dev\"] at the user:
  [webhooks.dev]
  url = \"http://127.0.0.1:9090/\"";

/// What it takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    listen: SocketAddr,
    /// Check signatures with this secret; several times during a rotation
    #[arg(
        long = "secret",
        value_name = "whsec_...",
        value_parser = secret,
        env = "RTM_BRIDGE_WEBHOOK_SECRET",
        hide_env_values = true,
        value_delimiter = ','
    )]
    secrets: Vec<Secret>,
    /// Answer with this error, to this share of the events: 503@10%, or 503 for all
    #[arg(long, value_name = "PLAN")]
    fail: Option<FailPlan>,
    #[command(flatten)]
    reach: Reach,
}

/// Any text will do at first: the command line's own errors would repeat it.
fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}

/// Prints events until Ctrl-C or SIGTERM.
pub(super) fn run(arguments: Arguments) -> Result<(), CommandError> {
    let Arguments { listen, secrets, fail, reach } = arguments;
    reach.check(listen)?;
    let secrets = signing_keys(&secrets)?;
    let signatures = if secrets.is_empty() { "not checked (no --secret)" } else { "checked" };
    let options = ReceiverOptions { listen, secrets, fail, keep: KEEP, seed: fastrand::u64(..) };
    // On one thread no event can slip in between the start and the subscription.
    block_on(Threads::One, async {
        let mut stop = Stop::listen()?;
        let receiver = Receiver::start(options).await.map_err(|error| {
            let help = "choose another address with --listen";
            CommandError::Failed(format!("error: can't listen on {listen}: {error}; {help}"))
        })?;
        let mut feed = receiver.subscribe();
        output::line(format_args!(
            "Receiving events at {}  signatures: {signatures}  Ctrl-C ends it.",
            receiver.url()
        ))?;
        loop {
            let event = tokio::select! {
                () = stop.requested() => break,
                event = feed.recv() => event,
            };
            match event {
                Ok(event) => output::line(shown(&event))?,
                Err(RecvError::Lagged(missed)) => {
                    output::line(format_args!("... {missed} events came too fast to be printed"))?;
                }
                Err(RecvError::Closed) => break,
            }
        }
        receiver.stop().await;
        Ok(())
    })
}

fn signing_keys(secrets: &[Secret]) -> Result<Vec<SigningKey>, CommandError> {
    let given = secrets.iter().map(|secret| secret.expose().trim()).filter(|secret| !secret.is_empty());
    given.map(parse_secret).collect::<Result<_, _>>().map_err(|invalid| {
        CommandError::Refused(format!("error: --secret or RTM_BRIDGE_WEBHOOK_SECRET: {invalid}"))
    })
}

/// The event's line, its time dim and the rest in the colour of its fate.
fn shown(event: &ReceivedEvent) -> String {
    let line = event.to_string();
    let time = event.at.to_string();
    let rest = line.strip_prefix(&time).unwrap_or(&line);
    let (dim, style) = (Style::new().dimmed(), fate(event));
    format!("{dim}{time}{dim:#}{style}{rest}{style:#}")
}

/// Green: taken. Yellow: to be sent again, or unsigned. Red: not the bridge's.
fn fate(event: &ReceivedEvent) -> Style {
    let taken = (200..300).contains(&event.answered);
    let colour = match event.signature {
        Verdict::Invalid(_) => AnsiColor::Red,
        _ if event.answered == 401 => AnsiColor::Red,
        _ if taken => AnsiColor::Green,
        _ => AnsiColor::Yellow,
    };
    colour.on_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_secret_is_refused_and_not_repeated() {
        let good = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        assert_eq!(signing_keys(&[Secret::new(good), Secret::new(" ")]).unwrap().len(), 1);
        let Err(CommandError::Refused(why)) = signing_keys(&[Secret::new(good), Secret::new("hunter2")])
        else {
            panic!("taken")
        };
        assert!(why.contains("--secret") && !why.contains("hunter2"), "{why}");
    }
}
