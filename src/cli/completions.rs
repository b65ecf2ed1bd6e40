//! `rtm-bridge completions`: what a shell completes with.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{CommandError, output};

const AFTER_HELP: &str = "\
Examples:
  cd ~/.local/share/bash-completion/completions
  rtm-bridge completions bash > rtm-bridge

  rtm-bridge completions zsh > ~/.zfunc/_rtm-bridge     (~/.zfunc in fpath)
  rtm-bridge completions fish > ~/.config/fish/completions/rtm-bridge.fish";

/// What it takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// The shell
    shell: Shell,
}

/// Prints them.
pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "rtm-bridge", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end())
}
