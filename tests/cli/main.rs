//! The commands as a shell sees them: output, exit codes, signals. The bridge that they call is the
//! binary too; the platform behind it is the stand-in.

#![allow(clippy::unwrap_used, reason = "a test that can't go on panics")]

mod attachments;
mod bridge;
mod check;
mod dead_letters;
mod docs;
mod journal;
mod logs;
mod online;
#[cfg(feature = "otlp")]
mod otlp;
mod servers;
mod service;
mod shell;
mod streams;
mod support;
mod tail;
mod tls;
