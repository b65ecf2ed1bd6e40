//! The status page in a real browser (Chromium, over the DevTools protocol), on a real bridge with the stand-in
//! platform and a receiver.
//!
//! Where there is no browser, each test says `SKIPPED: ...` and passes; `.ci/run` says it again, and `.ci/run --full`
//! fails. `PAGE_PICTURES=DIR cargo test --test page -- --ignored` takes pictures of the page.

#![allow(clippy::unwrap_used, reason = "a test that can't go on panics")]

mod browser;
mod crowd;
mod pictures;
mod status;
#[allow(dead_code, reason = "shared with the daemon's own tests, which need more of it")]
#[path = "../bridge/support.rs"]
mod support;
