//! A store for tests.

use std::{path::Path, sync::Arc};

use super::Store;
use crate::config;

/// Settings for a store in this directory.
pub(crate) fn settings(path: &Path) -> config::Store {
    config::Store { path: path.to_owned(), ..config::Store::default() }
}

/// A new store in a directory of its own, which lives as long as the first half.
pub(crate) fn store() -> (tempfile::TempDir, Arc<Store>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(&settings(directory.path())).expect("a new store opens");
    (directory, store)
}
