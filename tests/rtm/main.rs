//! Connections against the stand-in platform, with a real store.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail a test by panicking")]

mod messages;
mod secure;
mod sign_in;
mod sockets;
mod support;
