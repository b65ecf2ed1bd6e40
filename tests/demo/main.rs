//! The demo: the real command, as people and CI run it, and the script on a broken stage.

#![allow(clippy::unwrap_used, reason = "a test that can't go on panics")]

mod broken;
mod command;
