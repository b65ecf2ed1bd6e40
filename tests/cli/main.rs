//! The commands as a shell sees them: output, exit codes, signals. The bridge that they call is the
//! binary too; the platform behind it is the stand-in.

#![allow(clippy::unwrap_used, reason = "a test that can't go on panics")]

mod bridge;
mod check;
mod dead_letters;
mod docs;
mod logs;
mod online;
mod servers;
mod service;
mod shell;
mod support;
mod tail;
mod tls;
