//! The `rtm-bridge` command: parses arguments, runs a command, exits with its code.

use std::process::ExitCode;

fn main() -> ExitCode {
    rtm_bridge::cli::main()
}
