//! The command line: one file a command.
//!
//! Exit codes: 0 fine; 1 failed; 2 usage, configuration, or a store that needs a person.

mod check;
mod client;
mod completions;
mod dead_letters;
mod demo;
mod enable;
mod listen;
mod logs;
mod man;
mod output;
mod process;
mod progress;
mod receive;
mod reconnect;
mod repeats;
mod run;
mod sandbox;
mod send;
mod service;
mod settings;
mod sse;
mod status;
mod store;
mod table;
mod tail;

#[cfg(test)]
mod tests;

use std::{fmt, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

const AFTER_HELP: &str = "\
Examples:
  rtm-bridge demo                           see it all at work
  rtm-bridge check                          what does bridge.toml mean?
  rtm-bridge                                run the daemon
  rtm-bridge send alice \"Hi\" --wait reply   talk to alice's bot
  rtm-bridge status                         how the users and webhooks are
  rtm-bridge tail                           what happens, as it happens

Exit codes:
  0  fine
  1  failed
  2  usage, configuration, or a store that needs a person";

const AFTER_RUN: &str = "\
Logs to stderr, or to the journal under systemd. SIGTERM or Ctrl-C ends it in
order, within 10 seconds; SIGHUP reads the configuration again. What it listens
on and where its store is stands in the configuration.

Exit codes:
  0  it was told to end
  1  it can't go on: an address is taken, the store is in use, the disk fails
  2  the configuration has errors, or the store needs a person

Examples:
  rtm-bridge
  rtm-bridge run --config /etc/rtm-bridge/bridge.toml
  RUST_LOG=debug rtm-bridge";

/// Connects Kore.ai bots to plain HTTP: POST a message in, get the bot's events as webhooks, lose nothing.
#[derive(Debug, Parser)]
#[command(name = "rtm-bridge", version, arg_required_else_help = false, after_help = AFTER_HELP)]
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
        env = "RTM_BRIDGE_CONFIG",
        hide_env_values = true
    )]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon (the default)
    #[command(after_help = AFTER_RUN)]
    Run,
    /// Watch it all at work: a short conversation, with mishaps
    Demo(demo::Arguments),
    /// Check the configuration and say what it means
    Check(check::Arguments),
    /// Run the stand-in platform alone, for trying things out
    Sandbox(sandbox::Arguments),
    /// Run a webhook receiver for development: checks signatures, prints events
    Receive(receive::Arguments),
    /// Send a message through a running bridge
    Send(send::Arguments),
    /// Show the users and webhooks of a running bridge
    Status(status::Arguments),
    /// Show the events of a running bridge as they come
    Tail(tail::Arguments),
    /// Drop a user's connection and make it anew at once
    Reconnect(reconnect::Arguments),
    /// Put a webhook back to work that said it is gone, or is held
    Enable(enable::Arguments),
    /// Look at events that webhooks did not get; replay or delete them
    DeadLetters(dead_letters::Arguments),
    /// Check, save, restore or shrink the store of a stopped bridge
    Store(store::Arguments),
    /// Print what a shell completes with
    Completions(completions::Arguments),
    /// Print the manual page, or write all of them
    Man(man::Arguments),
}

/// Why a command ended badly: what to print, and the exit code that says it to programs.
#[derive(Debug)]
enum CommandError {
    /// Exit code 1.
    Failed(String),
    /// Exit code 2: usage, configuration, or a store that needs a person.
    Refused(String),
    /// What is wrong was printed with the rest. Exit code 1.
    Told,
    /// Whoever read the output went away (`| head`). Exit code 1, and nobody to tell.
    NobodyReads,
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
    let Arguments { global: Global { config }, command } = Arguments::parse();
    let outcome = match command.unwrap_or(Command::Run) {
        Command::Run => run::run(&config),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Check(arguments) => check::run(&arguments, &config),
        Command::Sandbox(arguments) => sandbox::run(&arguments),
        Command::Receive(arguments) => receive::run(arguments),
        Command::Send(arguments) => send::run(&arguments, &config),
        Command::Status(arguments) => status::run(&arguments, &config),
        Command::Tail(arguments) => tail::run(&arguments, &config),
        Command::Reconnect(arguments) => reconnect::run(&arguments, &config),
        Command::Enable(arguments) => enable::run(&arguments, &config),
        Command::DeadLetters(arguments) => dead_letters::run(&arguments, &config),
        Command::Store(arguments) => store::run(&arguments, &config),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
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
        Err(CommandError::Told | CommandError::NobodyReads) => ExitCode::from(1),
    }
}
