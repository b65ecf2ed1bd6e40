//! `rtm-bridge reconnect`: drops a user's connection and makes it anew.

use std::path::Path;

use clap::Args;

use super::{
    CommandError,
    client::{Bridge, Call, Target, user_name},
    output,
    process::{Threads, block_on},
};
use crate::names::UserName;

const AFTER_HELP: &str = "\
A user whose credentials were refused, or who waits after a failure, is tried
again at once. Where [clients] are configured, RTM_BRIDGE_TOKEN holds the token
of one with the scope admin.

Example:
  rtm-bridge reconnect alice";

/// What it takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// The user, as bridge.toml names it
    #[arg(value_parser = user_name)]
    user: UserName,
    #[command(flatten)]
    target: Target,
}

/// Asks for it; the connection itself is made in the background.
pub(super) fn run(arguments: &Arguments, config: &Path) -> Result<(), CommandError> {
    let bridge = Bridge::find(&arguments.target, config)?;
    let path = ["users", arguments.user.as_str(), "reconnect"];
    block_on(Threads::One, async { Ok(bridge.call(Call::post(&path)).await?) })?;
    output::line(format_args!("{}: reconnecting; rtm-bridge status tells how it goes", arguments.user))
}
