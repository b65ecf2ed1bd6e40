//! What else one would take for the job, beside `rtm-bridge`, with the same events, platform and
//! receiver, in one run: scripts written by hand, a flow editor, a relay of webhooks.
//!
//! It installs them from npm and PyPI into `target/compare`, and only there. How to run it and how to
//! read it: `docs/performance.md`.
//!
//! ```text
//! peers/      the scripts, and what is installed
//! install     npm and pip, into the scratch directory
//! peer        who is compared, and how each is started
//! node_red    a flow for so many users
//! stripe      what Stripe's side looks like to its command-line tool
//! history     what the platform remembers
//! stage       a peer at work: platform, receiver, process
//! costs       CPU, rates, memory
//! losses      what is lost when a socket drops, a receiver is out of order, the process is killed
//! ledger      what was said, and what came of it
//! table       for people and programs
//! ```
//!
//! The rest is that of `benches/bridge`.

/// Parts of `benches/bridge`, of which not everything is needed here.
macro_rules! shared {
    ($($name:ident = $path:literal),* $(,)?) => {
        $(#[allow(dead_code, reason = "the other benchmark needs it")] #[path = $path] mod $name;)*
    };
}

shared! {
    callers = "../bridge/callers.rs",
    daemon = "../bridge/daemon.rs",
    feed = "../bridge/feed.rs",
    http = "../bridge/http.rs",
    kernel = "../bridge/kernel.rs",
    machine = "../bridge/machine.rs",
    platform = "../bridge/platform.rs",
    receiver = "../bridge/receiver.rs",
    report = "../bridge/report.rs",
    stats = "../bridge/stats.rs",
    tls = "../bridge/tls.rs",
    wait = "../bridge/wait.rs",
    ws = "../bridge/ws.rs",
}

mod arguments;
mod costs;
mod history;
mod install;
mod ledger;
mod losses;
mod node_red;
mod peer;
mod stage;
mod stripe;
mod table;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use clap::Parser as _;

use self::{
    arguments::Arguments,
    install::Tools,
    machine::Machine,
    table::{Column, Table},
};

/// A step that may fail like anything that touches a machine.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    match compare() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> Outcome<()> {
    let arguments = Arguments::parse();
    if !arguments.is_wanted() {
        println!("nothing compared: run benches/compare/run");
        return Ok(());
    }
    kernel::raise_descriptor_limit();
    // One thread, so that the driver takes as little of the machine as it can from what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Outcome<()> {
    let peers = arguments.chosen()?;
    let home = home()?;
    let machine = Machine::look(&home)?;
    println!("{machine}");
    let tools = Tools::install(&home, &peers).await?;
    let mut table = Table::new(machine, arguments.amounts());
    let started = Instant::now();
    for peer in peers {
        let mut column = Column::new(peer, tools.version(peer));
        let say = |text: std::fmt::Arguments<'_>| {
            println!("[{:6.1} s] {}: {text}", started.elapsed().as_secs_f64(), peer.name());
        };
        match tools.why_not(peer) {
            Some(why) => {
                say(format_args!("SKIPPED: {why}"));
                column.skip(why);
            }
            None => {
                costs::measure(&tools, arguments.amounts(), &mut column, &say).await;
                losses::measure(&tools, arguments.amounts(), &mut column, &say).await;
            }
        }
        table.add(column);
    }
    println!("\n{table}");
    let file = home.join("results.json");
    table.write(&file)?;
    println!("written to {}", file.display());
    Ok(())
}

/// Where everything is installed, and runs: `target/compare`.
fn home() -> Outcome<PathBuf> {
    let mut path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    path.pop();
    path.push("compare");
    std::fs::create_dir_all(&path)?;
    Ok(path)
}
