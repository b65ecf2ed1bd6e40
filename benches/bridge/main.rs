//! What the bridge costs, measured: the real binary over real sockets, and beside each figure what
//! the machine itself allows, measured in the same run.
//!
//! Load, platform and receiver are this process; the daemon and the limits beside it are processes
//! of their own, whose CPU time and memory the kernel tells. How to run it, and what each row
//! means: `docs/performance.md`.
//!
//! ```text
//! rows/       one file a row: what is done, and what it must reach
//! roles/      this program again, as what stands beside a row: a bare client, server, socket, store
//! bench       what rows share: their daemons and receivers, progress, what is known already
//! report      findings, goals, the table, the JSON
//! daemon      the measured process and its configuration
//! child       a role as a process
//! kernel      CPU time and memory of a process
//! platform    the platform's side, as lean as it gets: signing in, sockets, acks
//! receiver    a webhook's receiver, likewise
//! callers     HTTP clients of the API, likewise
//! feed        frames to push, and the mark by which they are known again
//! http, ws    the little of both protocols that these need
//! tls         TLS in front of the platform
//! ```

mod arguments;
mod bench;
mod callers;
mod child;
#[allow(dead_code, reason = "benches/compare needs more of it")]
mod daemon;
#[allow(dead_code, reason = "benches/compare needs more of it")]
mod feed;
mod http;
mod kernel;
mod machine;
#[allow(dead_code, reason = "benches/compare needs more of it")]
mod platform;
#[allow(dead_code, reason = "benches/compare needs more of it")]
mod receiver;
mod report;
mod roles;
mod rows;
mod stats;
mod tls;
mod wait;
mod ws;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser as _;

use self::{arguments::Arguments, bench::Bench, machine::Machine, report::Report, rows::Row};

/// A step of the measurement, which may fail like anything that touches a machine.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let outcome = match (words.next().as_deref(), words.next()) {
        (Some(child::ROLE), Some(role)) => roles::run(&role),
        _ => measure(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Outcome<()> {
    let arguments = Arguments::parse();
    if arguments.list {
        Row::ALL.iter().for_each(|row| println!("{:14} {}", row.name(), row.about()));
        return Ok(());
    }
    if !arguments.is_bench() {
        println!("nothing measured: run it as `cargo bench`");
        return Ok(());
    }
    let rows = arguments.chosen()?;
    kernel::raise_descriptor_limit();
    // One thread, so that the driver takes as little of the machine as it can from what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&rows, arguments.scale()))
}

/// Measures these rows, prints the table and writes the JSON.
async fn run(rows: &[Row], scale: f64) -> Outcome<()> {
    let machine = Machine::look(&bench::scratch()?)?;
    println!("{machine}");
    let mut bench = Bench::new(scale);
    let mut report = Report::new(machine, scale);
    for row in rows {
        bench.begin(row.name());
        kernel::settle_disk();
        match row.measure(&mut bench).await {
            Ok(findings) => report.add(row.name(), findings),
            Err(error) => {
                bench.step(format_args!("FAILED: {error}"));
                report.failed(row.name(), error.to_string());
            }
        }
    }
    println!("\n{report}");
    let file = results_file();
    report.write(&file)?;
    println!("written to {}", file.display());
    Ok(())
}

/// Beside the build: `target/bench/results.json`.
fn results_file() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    path.pop();
    path.join("bench/results.json")
}
