//! The command line: one file a command.
//!
//! Exit codes: 0 fine; 1 failed; 2 usage, configuration, or a store that needs a person.

mod demo;
mod logs;
mod run;

use std::{fmt, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::demo::Afterwards;

/// Connects Kore.ai bots to plain HTTP: POST a message in, get the bot's events as webhooks, lose nothing.
#[derive(Debug, Parser)]
#[command(name = "rtm-bridge", version, arg_required_else_help = false)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What every command takes.
#[derive(Debug, Args)]
struct Global {
    /// The configuration file
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        default_value = "bridge.toml",
        env = "RTM_BRIDGE_CONFIG"
    )]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon (the default)
    Run,
    /// Watch the whole bridge at work, in one process: a stand-in for the platform, the daemon, a
    /// webhook receiver, and a short conversation with mishaps; then it stays up for curl
    Demo {
        /// End after the script: 0 if every step was fine, 1 if one failed
        #[arg(long)]
        once: bool,
    },
}

/// Why a command ended badly: what to print, and the exit code that says it to programs.
#[derive(Debug)]
enum CommandError {
    /// Exit code 1.
    Failed(String),
    /// Exit code 2: usage, configuration, or a store that needs a person.
    Refused(String),
}

impl CommandError {
    fn failed(why: impl fmt::Display) -> Self {
        Self::Failed(why.to_string())
    }

    fn refused(why: impl fmt::Display) -> Self {
        Self::Refused(why.to_string())
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    // Both HTTP clients and the WebSocket use this one.
    let installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    debug_assert!(installed.is_ok(), "nothing else installs a TLS provider");
    let arguments = Arguments::parse();
    let outcome = match arguments.command.unwrap_or(Command::Run) {
        Command::Run => run::run(&arguments.global.config),
        Command::Demo { once: true } => demo::demo(Afterwards::End),
        Command::Demo { once: false } => demo::demo(Afterwards::StayUp),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(CommandError::Failed(why)) => {
            anstream::eprintln!("{why}");
            ExitCode::from(1)
        }
        Err(CommandError::Refused(why)) => {
            anstream::eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}
