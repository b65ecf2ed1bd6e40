//! What goes wrong, in every state, and what must hold all the same: everything arrives, in order, once;
//! one user's trouble stays theirs; the platform is treated politely; nothing grows without end.
//!
//! ```text
//! platform    each fault of the platform, in each state of a session
//! messages    random faults while clients send
//! politeness  many users in trouble, as the platform sees them
//! repeats     what is taken for a repeat, and what never is
//! webhook     each behaviour of a receiver, at each kind of attempt
//! bounded     memory and disk of the real binary under a backlog
//! ```

#![allow(clippy::unwrap_used, reason = "a test that can't go on panics")]

mod bounded;
#[allow(dead_code, reason = "shared with the crash tests, which need more of it")]
#[path = "../crash/daemon.rs"]
mod daemon;
mod messages;
mod platform;
mod politeness;
mod repeats;
#[allow(dead_code, reason = "shared with the daemon's own tests, which need more of it")]
#[path = "../bridge/support.rs"]
mod support;
mod webhook;
