//! The stand-in platform: speaks the platform's own endpoints, with real checks, a scripted bot,
//! and faults on demand.
//!
//! ```text
//! http      the platform's endpoints        auth      apps, JWTs, access tokens, socket ids
//! socket    one RTM socket                  bot       what is answered
//! plan      what happens for a frame        history   what was said
//! state     users, connections, sessions    faults    what goes wrong
//! agent     the human who takes over
//! room      the state behind its lock       control   watching and meddling
//! uploads   files for messages
//! ```
//!
//! It runs as a command of its own and inside tests and the demo:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use rtm_bridge::sandbox::{Fault, FaultKind, Push, Sandbox, SandboxOptions};
//!
//! let sandbox = Sandbox::start(SandboxOptions::default()).await?;
//! let control = sandbox.control();
//! // ... a client signs in as alice at sandbox.url() ...
//! control.wait_connected("alice", 1).await;
//! control.inject(Fault::once(FaultKind::LostAck).for_user("alice"));
//! control.push("alice", Push::text("Hello from the bot."));
//! let frames = control.wait_frames("alice", 1).await;
//! sandbox.shutdown().await;
//! # Ok(()) }
//! ```

mod agent;
mod auth;
mod bot;
mod connection;
mod control;
mod control_http;
mod faults;
mod history;
mod http;
mod ids;
mod plan;
mod room;
mod server;
mod settings;
mod socket;
mod state;
mod uploads;
mod uploads_http;
mod wire;

#[cfg(test)]
mod tests;

pub use agent::{AGENT_COMMANDS, AgentPlay, Persona};
pub use auth::App;
pub use bot::COMMANDS;
pub use connection::{ConnectionId, ConnectionMode, Encoding, ReceivedFrame};
pub use control::{ConnectionInfo, Push, Pushed, SandboxControl};
pub use faults::{Endpoint, Fault, FaultKind, SocketEnd, Taken, Times};
pub use history::{Direction, HistoryItem};
pub use server::{Sandbox, SandboxOptions, StartError};
pub use settings::{AgentScript, BotScript, PageOrder, Settings, SubprotocolChoice};
pub use state::RequestRecord;
pub use uploads::UploadedFile;
pub use wire::FrameKind;

/// The account that everything in the sandbox belongs to.
const ACCOUNT_ID: &str = "000000000000000000000001";
/// Its organisation.
const ORG_ID: &str = "o-00000000-0000-4000-8000-000000000001";
