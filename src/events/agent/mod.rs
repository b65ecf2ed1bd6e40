//! Human agents: which frames are theirs, who they are, and when they talk to the user in the bot's
//! place.
//!
//! - `reading`: what one frame says of an agent.
//! - `session`: what a user's frames, one after the other, make of it. Pure.
//! - `sessions`: those of all users, as they are remembered over restarts, and their reports.
//! - `transcript`: what was said before, for whoever takes over.

mod reading;
mod session;
mod sessions;
mod transcript;

pub(super) use reading::mark;
pub use reading::{Agent, Reading, Signal, is_agents_template, read};
pub(super) use session::Effect;
pub use session::{AgentRecord, AgentSession, Partner};
pub(super) use sessions::{AgentSessions, Desk};
pub(super) use transcript::seen_by;
