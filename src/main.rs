//! The `rtm-bridge` command.
fn main() {}
