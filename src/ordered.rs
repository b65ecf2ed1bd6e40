//! Ordered maps and sets of what an iterator gives.
//!
//! `collect` sorts first, and each type of entry brings a sort of its own into the program, some 5 KiB of it. Putting
//! entries in one by one takes what the map has anyway.

use std::collections::{BTreeMap, BTreeSet};

/// A map of these entries; of equal keys, the last one counts.
pub(crate) fn map<K: Ord, V>(entries: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    map.extend(entries);
    map
}

/// A set of these.
pub(crate) fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    set.extend(items);
    set
}
