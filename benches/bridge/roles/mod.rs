//! This program again, as what stands beside a row.

mod client;
mod database;
mod server;
mod sockets;

use std::{io::Write as _, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Outcome;

/// What this process is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Role {
    /// POSTs bodies, as a program would that had them already.
    Client {
        /// Where to.
        url: String,
        /// Bytes of a body.
        length: usize,
        /// How many.
        posts: usize,
        /// When.
        pace: Pace,
    },
    /// Answers messages with `202`, and stores nothing.
    Server,
    /// Users' sockets, without a bridge.
    Sockets {
        /// The platform.
        platform: SocketAddr,
        /// How many.
        users: usize,
        /// Messages in all, one after the other.
        messages: usize,
    },
    /// Opens sled.
    Database {
        /// Its directory.
        path: PathBuf,
    },
}

/// When a client posts.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Pace {
    /// So many at once, as fast as the answers come.
    InFlight(usize),
    /// So many a second.
    PerSecond(f64),
}

/// Plays a role, until the input ends.
pub fn run(role: &str) -> Outcome<()> {
    let role: Role = serde_json::from_str(role)?;
    // As many threads as the daemon has.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match role {
        Role::Client { url, length, posts, pace } => runtime.block_on(client::run(&url, length, posts, pace)),
        Role::Server => runtime.block_on(server::run()),
        Role::Sockets { platform, users, messages } => {
            runtime.block_on(sockets::run(platform, users, messages))
        }
        Role::Database { path } => database::run(&path),
    }
}

/// Says that the work may begin, and waits for the word.
fn ready(what: impl Serialize) -> Outcome<()> {
    say(&json!({ "ready": what }))?;
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

/// Says what came of it, and waits for the end.
fn done(result: &Value) -> Outcome<()> {
    say(result)?;
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

fn say(value: &Value) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}
