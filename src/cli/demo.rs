//! `rtm-bridge demo`: the whole bridge in one process, telling a short story.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use clap::Args;

use super::{
    CommandError, logs,
    process::{Stop, Threads, block_on},
};
use crate::{
    config::{Log, LogFormat},
    demo::{self, Afterwards, DemoError},
};

const AFTER_HELP: &str = "\
A stand-in for the platform, the bridge and a webhook receiver talk to each
other: sign-in, a message and its ack, the reply at the webhook, a dropped
connection, a webhook that fails, a restart. Every line shows what really
happened. Then it stays up for curl until Ctrl-C. It needs no configuration
and leaves nothing behind. RUST_LOG=info shows the logs, too.

Examples:
  rtm-bridge demo
  rtm-bridge demo --once";

/// What a reader gets between two steps.
const PAUSE: Duration = Duration::from_millis(250);

/// What it takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// End after the script: with 0 if every step was fine, with 1 if one failed
    #[arg(long)]
    once: bool,
}

/// Plays the script; stays up for curl unless it is to be played once only.
pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    // The timeline is what there is to see. RUST_LOG brings the logs back.
    logs::start(&Log { level: "off".to_owned(), format: LogFormat::Terminal });
    let afterwards = if arguments.once { Afterwards::End } else { Afterwards::StayUp };
    let pause = if io::stdout().is_terminal() { PAUSE } else { Duration::ZERO };
    block_on(Threads::Many, async {
        let mut stop = Stop::listen()?;
        let played = demo::run(anstream::stdout(), afterwards, pause, stop.requested()).await;
        played.map_err(|error| match error {
            DemoError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                CommandError::NobodyReads
            }
            error => CommandError::failed(format_args!("error: {error}")),
        })
    })
}
