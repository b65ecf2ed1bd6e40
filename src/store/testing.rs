//! A store for tests.

use std::{path::Path, sync::Arc, time::Duration};

use super::Store;
use crate::config::{self, Durability};

/// Settings for a store in this directory, with the contract's defaults.
pub(crate) fn settings(path: &Path) -> config::Store {
    config::Store {
        path: path.to_owned(),
        retention: Duration::from_secs(7 * 24 * 60 * 60),
        max_messages: 200_000,
        dead_letter_retention: Duration::from_secs(30 * 24 * 60 * 60),
        recent: 32 << 20,
        max_size: 10 << 30,
        cache: 32 << 20,
        durability: Durability::Fsync,
    }
}

/// The contract's defaults for messages.
pub(crate) fn message_settings() -> config::Messages {
    config::Messages {
        ttl: Duration::from_secs(15 * 60),
        ack_timeout: Duration::from_secs(10),
        max_attempts: 3,
        in_flight: 1,
        rate: None,
        max_queued: 1000,
        max_body: 256 << 10,
    }
}

/// A new store in a directory of its own, which lives as long as the first half.
pub(crate) fn store() -> (tempfile::TempDir, Arc<Store>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(&settings(directory.path())).expect("a new store opens");
    (directory, store)
}
