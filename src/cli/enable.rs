//! `rtm-bridge enable`: puts a webhook back to work.

use std::path::Path;

use clap::Args;

use super::{
    CommandError,
    client::{Bridge, Call, Target, webhook_name},
    output,
    process::{Threads, block_on},
};
use crate::names::WebhookName;

const AFTER_HELP: &str = "\
A webhook that answered 410 gets nothing until it is enabled; one that sent
Retry-After, nothing until then. This lifts both: what waits goes out now, in
order. Where [clients] are configured, RTM_BRIDGE_TOKEN holds the token of one
with the scope admin.

Example:
  rtm-bridge enable crm";

/// What it takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// The webhook, as bridge.toml names it
    #[arg(value_parser = webhook_name)]
    webhook: WebhookName,
    #[command(flatten)]
    target: Target,
}

/// Asks for it; the deliveries are made in the background.
pub(super) fn run(arguments: &Arguments, config: &Path) -> Result<(), CommandError> {
    let bridge = Bridge::find(&arguments.target, config)?;
    let path = ["webhooks", arguments.webhook.as_str(), "enable"];
    block_on(Threads::One, async { Ok(bridge.call(Call::post(&path)).await?) })?;
    output::line(format_args!("{}: enabled; rtm-bridge status tells how it goes", arguments.webhook))
}
