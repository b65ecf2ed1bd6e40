//! How many instructions an event and a message take, in the real program from socket to socket:
//! a guard against what gets slower little by little. And how much memory they allocate: to look at, no guard.
//!
//! The daemon runs under valgrind, which counts what all its threads execute (not what the kernel does
//! for them), or what they allocate. It is given one thing at a time, so that nothing depends on what happens to be committed
//! or written together. It is run three times, with nothing but a warm-up, with events, with messages:
//! the differences are what those took, whatever the start and the end take.

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
    platform = "../bridge/platform.rs",
    receiver = "../bridge/receiver.rs",
    stats = "../bridge/stats.rs",
    tls = "../bridge/tls.rs",
    wait = "../bridge/wait.rs",
    ws = "../bridge/ws.rs",
}

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use self::{
    callers::Caller,
    daemon::{Daemon, Settings},
    feed::Feed,
    platform::{Bot, Platform},
    receiver::{Answer, Receiver},
};

/// A step that may fail like anything that touches a machine.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/recorded.json");
const ANSWERS: &str = "bot_response";
const USERS: usize = 4;
/// Of each kind, before anything counts.
const WARM_UP: usize = 100;
const COUNTED: usize = 1_000;
/// How often it is counted before it is too much.
const COUNTS: usize = 5;
/// More than this over what is recorded is too much.
const TOLERANCE: f64 = 0.1;

/// Counts the instructions of an event and of a message.
#[derive(Debug, Parser)]
#[command(name = "benches/instructions/run")]
struct Arguments {
    /// The program that is measured
    #[arg(long)]
    program: Option<PathBuf>,
    /// Record what they take now
    #[arg(long)]
    update: bool,
    /// Count allocations instead, and compare with nothing
    #[arg(long, conflicts_with = "update")]
    allocations: bool,
    /// What `cargo bench` passes
    #[arg(long, hide = true)]
    bench: bool,
}

/// What things take, and by which compiler.
#[derive(Debug, Serialize, Deserialize)]
struct Counts {
    rustc: String,
    /// Instructions from a frame to its delivery.
    event: u64,
    /// Instructions from a POST to its ack.
    message: u64,
}

/// One of valgrind's tools, and how to read what it found, as so many sums.
#[derive(Debug, Clone, Copy)]
struct Tool<const SUMS: usize> {
    name: &'static str,
    read: fn(&str) -> Option<[u64; SUMS]>,
}

/// Of instructions.
const INSTRUCTIONS: Tool<1> = Tool { name: "callgrind", read: instructions };
/// Of blocks allocated, and of their bytes; one that is reallocated counts as another.
const ALLOCATIONS: Tool<2> = Tool { name: "dhat", read: blocks_and_bytes };

/// What one of them takes.
#[derive(Debug, Clone, Copy)]
struct Each<const SUMS: usize> {
    event: [f64; SUMS],
    message: [f64; SUMS],
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(program) = &arguments.program else {
        println!("nothing counted: run benches/instructions/run");
        return ExitCode::SUCCESS;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let work = async |program: &Path| {
        if arguments.allocations {
            tell_allocations(program).await
        } else if arguments.update {
            record(&count(program).await?)
        } else {
            guard(program).await
        }
    };
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(work(program))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether they take what is recorded. A busy machine makes the program do by the clock, one by one, what it
/// does together with others else: so what is too much is counted again, and the least of it counts.
async fn guard(program: &Path) -> Outcome<bool> {
    let recorded: Counts = serde_json::from_str(&std::fs::read_to_string(RECORDED)?)?;
    let mut least = count(program).await?;
    for _ in 1..COUNTS {
        if is_within(&least, &recorded) {
            return Ok(true);
        }
        let again = count(program).await?;
        least = Counts {
            event: least.event.min(again.event),
            message: least.message.min(again.message),
            ..again
        };
    }
    Ok(is_within(&least, &recorded))
}

async fn count(program: &Path) -> Outcome<Counts> {
    let Each { event: [event], message: [message] } = each(program, INSTRUCTIONS).await?;
    let rustc = std::process::Command::new("rustc").arg("--version").output()?;
    let rustc = String::from_utf8(rustc.stdout)?.trim().to_owned();
    Ok(Counts { rustc, event: event as u64, message: message as u64 })
}

/// Says what they allocate.
async fn tell_allocations(program: &Path) -> Outcome<bool> {
    let each = each(program, ALLOCATIONS).await?;
    for (what, [blocks, bytes]) in [("event", each.event), ("message", each.message)] {
        println!("{what:8} {blocks:>9.1} allocations of {bytes:>9.0} bytes in all");
    }
    Ok(true)
}

/// What one takes, of so many more than none.
async fn each<const SUMS: usize>(program: &Path, tool: Tool<SUMS>) -> Outcome<Each<SUMS>> {
    let nothing = run(program, tool, 0, 0).await?;
    let events = run(program, tool, COUNTED, 0).await?;
    let messages = run(program, tool, 0, COUNTED).await?;
    let each = |all: [u64; SUMS]| {
        std::array::from_fn(|sum| all[sum].saturating_sub(nothing[sum]) as f64 / COUNTED as f64)
    };
    Ok(Each { event: each(events), message: each(messages) })
}

/// What a tool finds in a daemon's whole life with so many events and messages, one after the other.
async fn run<const SUMS: usize>(
    program: &Path,
    tool: Tool<SUMS>,
    events: usize,
    messages: usize,
) -> Outcome<[u64; SUMS]> {
    let platform = Platform::start(Bot::Acks).await?;
    let receiver = Receiver::start(Answer::Takes).await?;
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let found = directory.path().join("found");
    let mut valgrind = Command::new("valgrind");
    // One thread runs at a time. By turns: the database's threads spin while they wait for each other, and would keep
    // the one that they wait for from running.
    valgrind.args(["--quiet", "--fair-sched=yes"]).arg(format!("--tool={}", tool.name));
    valgrind.arg(format!("--{}-out-file={}", tool.name, found.display()));
    valgrind.arg(program);
    // Fewer threads, fewer ways for them to meet.
    valgrind.env("TOKIO_WORKER_THREADS", "1");
    let webhooks = &[("crm", &receiver, ANSWERS)][..];
    let settings = Settings { directory: directory.path(), platform: &platform, users: USERS, webhooks };
    let daemon = Daemon::start_as(valgrind, &settings).await?;
    platform.opened(USERS).await?;

    let mut feed = Feed::new(ANSWERS, USERS);
    for index in 0..WARM_UP + events {
        platform.push(index % USERS, feed.next(index % USERS)).await?;
        receiver.received(index as u64 + 1).await?;
    }
    let mut caller = Caller::to(daemon.api).await?;
    for index in 0..WARM_UP + messages {
        caller.post(index % USERS, index, "", "202").await?;
        platform.acked(index as u64 + 1).await?;
    }
    daemon.stop().await?;
    let found = std::fs::read_to_string(found)?;
    (tool.read)(&found).ok_or_else(|| format!("{} wrote no totals", tool.name).into())
}

/// The sum in callgrind's file.
fn instructions(found: &str) -> Option<[u64; 1]> {
    let line =
        found.lines().find_map(|line| line.strip_prefix("totals:").or(line.strip_prefix("summary:")))?;
    line.split_whitespace().next()?.parse().ok().map(|sum| [sum])
}

/// The sums over the places in dhat's file.
fn blocks_and_bytes(found: &str) -> Option<[u64; 2]> {
    #[derive(Deserialize)]
    struct Found {
        #[serde(rename = "pps")]
        places: Vec<Place>,
    }
    #[derive(Deserialize)]
    struct Place {
        #[serde(rename = "tbk")]
        blocks: u64,
        #[serde(rename = "tb")]
        bytes: u64,
    }
    let Found { places } = serde_json::from_str(found).ok()?;
    Some([places.iter().map(|place| place.blocks).sum(), places.iter().map(|place| place.bytes).sum()])
}

fn record(counts: &Counts) -> Outcome<bool> {
    std::fs::write(RECORDED, serde_json::to_string_pretty(counts)? + "\n")?;
    println!("recorded: {} instructions an event, {} a message", counts.event, counts.message);
    Ok(true)
}

/// Says how they compare, and whether both are within what is recorded.
fn is_within(counts: &Counts, recorded: &Counts) -> bool {
    let mut is_fine = true;
    for (what, now, then) in
        [("event", counts.event, recorded.event), ("message", counts.message, recorded.message)]
    {
        let change = now as f64 / then as f64 - 1.0;
        let verdict = if change > TOLERANCE {
            is_fine = false;
            "TOO MANY: make it cheaper, or record what it is worth (--update)"
        } else if change < -TOLERANCE {
            "fewer: record that (--update)"
        } else {
            "ok"
        };
        println!("{what:8} {now:>9} instructions, recorded {then:>9}, {:+5.1} %  {verdict}", change * 100.0);
    }
    is_fine
}
