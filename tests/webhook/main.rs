//! Deliveries over real sockets: senders against receivers that behave and receivers that don't.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail a test by panicking")]

mod connections;
mod demands;
mod examples;
mod outcomes;
mod receiver;
mod support;
mod tls;
