//! The platform's side: signing in, keeping one RTM connection per user, frames in and out.
//!
//! ```text
//! supervisor ── starts one task per user ──> connection ──inputs──> session     (decides; no I/O)
//!                                             │  ^  │   <─actions──    │
//!                          frames, pings      │  │  │                  ├ outbox     what is sent next
//!   platform <── socket ──────────────────────┘  │  │                  ├ link       is the socket alive
//!   platform <── platform (jwtgrant, rtm/start,  │  │                  ├ history    what waits for the history
//!                  │ botmessages/rtm) ───────────┘  │                  └ schedule   when to try again
//!                  │ pace, token, socket_url        │
//!                  └> recovery (what was missed) ─> └──> rooms: messages, events, store
//! ```
//!
//! - [`session`]: every rule of the protocol, as a pure state machine.
//! - `connection`: carries out what the session says. `confirmations`: delivery acks, which wait until
//!   their event is durable. `outgoing`: the frames that are sent. `socket`: the WebSocket's limits and errors.
//! - [`platform`]: the HTTP endpoints. [`token`]: assertions. [`pace`]: how fast a bot may ask.
//!   `socket_url`: which URLs may be opened. [`failure`]: what can go wrong, in classes.
//! - [`recovery`]: what was missed, from the platform's history to events.
//! - [`callers`]: what callers ask of the platform goes beside the sessions: [`histories`], and [`uploads`] of files.
//! - [`probe`]: a sign-in that is walked once, for `rtm-bridge check --online`.
//! - [`supervisor`]: who runs, and how it ends. [`counters`]: what is counted for metrics.
//! - [`frame`]: what is read of a frame.

pub mod callers;
mod confirmations;
mod connection;
pub mod counters;
pub mod failure;
pub mod frame;
pub mod histories;
mod outgoing;
pub mod pace;
pub mod platform;
pub mod probe;
pub mod recovery;
mod rooms;
pub mod session;
mod socket;
mod socket_url;
pub mod subject;
pub mod supervisor;
#[cfg(test)]
mod testing;
pub mod token;
pub mod uploads;
mod warm;
