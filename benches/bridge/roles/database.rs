//! The limit beside a start: sled alone, opening the same directory with the same settings.

use std::{path::Path, time::Instant};

use serde_json::{Value, json};

use super::{done, ready};
use crate::Outcome;

/// As the store has it; sled opens a directory with the segments that it was made with only.
const SEGMENT: usize = 2 << 20;
/// `store.cache`'s default.
const CACHE: u64 = 32 << 20;

pub(super) fn run(path: &Path) -> Outcome<()> {
    ready(Value::Null)?;
    let started = Instant::now();
    let database = sled::Config::new()
        .path(path)
        .segment_size(SEGMENT)
        .cache_capacity(CACHE)
        .flush_every_ms(None)
        .mode(sled::Mode::LowSpace)
        .open()?;
    let took = started.elapsed();
    done(&json!({ "seconds": took.as_secs_f64() }))?;
    drop(database);
    Ok(())
}
