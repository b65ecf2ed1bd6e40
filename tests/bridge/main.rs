//! The daemon against the stand-in platform and a webhook receiver, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that can't go on panics")]

mod conversation;
mod delivery;
mod events;
mod messages;
mod support;
