use std::collections::BTreeMap;

use sled::IVec;

use super::*;
use crate::store::overlay::{Overlay, Value};

fn put(key: u8, value: &[u8]) -> Write {
    Write::Put(IVec::from(&[key]), IVec::from(value))
}

fn remove(key: u8) -> Write {
    Write::Remove(IVec::from(&[key]))
}

/// A log with so many files, which is begun in the first.
fn new_log(store: &Path, slots: usize) -> Wal {
    make_directory(store).unwrap();
    let files = Arc::new(Files::existing(store).unwrap());
    (0..slots).for_each(|slot| files.make(slot).unwrap());
    Wal::begin_at(files, 0, 0, Counters::default())
}

fn append(wal: &mut Wal, number: u64, writes: &[Write]) {
    wal.begin();
    writes.iter().for_each(|write| wal.add(write));
    wal.append(Counters { commits: number, backlog: 0 }, Sync::System).unwrap();
}

/// A key, and its value if it has one.
type Record = (u8, Option<Vec<u8>>);

/// What is found beyond so many commits: keys and values, the last commit, and what follows a gap.
fn found_after(store: &Path, commits: u64) -> (Vec<Record>, u64, Option<u64>) {
    let replay = read(store, Counters { commits, backlog: 0 }).unwrap();
    let mut keys: Vec<IVec> = replay.writes.all().map(|(key, _)| key).collect();
    keys.sort_unstable();
    let overlay = Overlay::new(replay.writes, replay.files);
    let value = |key: &IVec| match overlay.get(key).unwrap() {
        Value::Logged(place) => Some(overlay.value(place).unwrap().unwrap()),
        Value::Removed => None,
        Value::Pending(_) => panic!("nothing is on its way"),
    };
    (keys.iter().map(|key| (key[0], value(key))).collect(), replay.counters.commits, replay.gap_before)
}

fn keys_after(store: &Path, commits: u64) -> Vec<u8> {
    found_after(store, commits).0.into_iter().map(|(key, _)| key).collect()
}

#[test]
fn what_the_database_has_not_is_read_over_all_files() {
    let store = tempfile::tempdir().unwrap();
    let mut wal = new_log(store.path(), 3);
    append(&mut wal, 1, &[put(1, b"a"), put(2, b"b")]);
    append(&mut wal, 2, &[put(1, b"c")]);
    wal.switch(2);
    append(&mut wal, 3, &[remove(2), put(3, b"d")]);
    wal.switch(1);
    append(&mut wal, 4, &[put(4, b"")]);
    let value = |text: &[u8]| Some(text.to_vec());
    let expected = [(1, value(b"c")), (2, None), (3, value(b"d")), (4, value(b""))];
    assert_eq!(found_after(store.path(), 0), (expected.to_vec(), 4, None));
    assert_eq!(found_after(store.path(), 2), (expected[1..].to_vec(), 4, None));
    assert_eq!(found_after(store.path(), 4), (vec![], 4, None));
    // The first file's second turn ends before its first did.
    wal.switch(0);
    append(&mut wal, 5, &[put(9, b"")]);
    assert_eq!(found_after(store.path(), 3).1, 5);
    assert_eq!(found_after(store.path(), 2).2, None);
    assert_eq!(found_after(store.path(), 1).2, Some(3), "the database lost what it had");
}

#[test]
fn a_log_that_is_begun_anew_is_told_from_what_it_is_written_over() {
    let store = tempfile::tempdir().unwrap();
    let mut wal = new_log(store.path(), 1);
    for number in 1..=5 {
        append(&mut wal, number, &[put(number as u8, b"old")]);
    }
    wal.switch(0);
    append(&mut wal, 6, &[put(6, b"new")]);
    assert_eq!(keys_after(store.path(), 5), [6]);
}

#[test]
fn a_commit_that_failed_is_replaced() {
    let store = tempfile::tempdir().unwrap();
    let mut wal = new_log(store.path(), 1);
    append(&mut wal, 1, &[put(1, b"a")]);
    let end = wal.end;
    append(&mut wal, 2, &[put(2, b"longer than the other")]);
    // As if that had failed after it was written.
    wal.end = end;
    append(&mut wal, 2, &[put(3, b"c")]);
    assert_eq!(keys_after(store.path(), 0), [1, 3]);
}

#[test]
fn a_commit_that_failed_is_replaced_in_the_next_file() {
    let store = tempfile::tempdir().unwrap();
    let mut wal = new_log(store.path(), 3);
    append(&mut wal, 1, &[put(1, b"a")]);
    append(&mut wal, 2, &[put(2, b"failed after it was written")]);
    wal.switch(1);
    append(&mut wal, 2, &[put(3, b"c")]);
    append(&mut wal, 3, &[put(4, b"d")]);
    wal.switch(2);
    append(&mut wal, 4, &[put(5, b"e")]);
    assert_eq!(keys_after(store.path(), 0), [1, 3, 4, 5]);
    assert_eq!(found_after(store.path(), 0).2, None);
}

#[test]
fn a_segment_is_full_before_it_grows_too_large() {
    let store = tempfile::tempdir().unwrap();
    let mut wal = new_log(store.path(), 2);
    let huge = vec![0; FULL as usize];
    append(&mut wal, 1, &[put(1, &huge)]);
    wal.begin();
    wal.add(&put(2, b""));
    assert!(!wal.has_room());
    wal.switch(1);
    assert!(wal.has_room());
    assert_eq!(found_after(store.path(), 0).0, [(1, Some(huge))]);
}

#[test]
fn a_value_is_not_read_from_a_segment_that_had_to_make_room() {
    let store = tempfile::tempdir().unwrap();
    let mut wal = new_log(store.path(), 2);
    append(&mut wal, 1, &[put(1, b"a"), remove(1), put(2, b"b")]);
    let places: Vec<Place> = wal.places().collect();
    let files = Arc::clone(wal.files());
    let values = || [places[0], places[2]].map(|place| files.value(place).unwrap());
    assert_eq!(values(), [Some(b"a".to_vec()), Some(b"b".to_vec())]);
    wal.switch(1);
    assert_eq!(values(), [Some(b"a".to_vec()), Some(b"b".to_vec())], "a closed one is read");
    wal.switch(0);
    assert_eq!(values(), [None, None]);
}

#[test]
fn a_closed_segments_writes_are_all_there_or_none() {
    let store = tempfile::tempdir().unwrap();
    let mut wal = new_log(store.path(), 2);
    append(&mut wal, 1, &[put(1, b"a")]);
    append(&mut wal, 2, &[put(2, b"b"), remove(1)]);
    let closed = wal.switch(1);
    let content = wal.files().content(&closed).unwrap();
    let found: BTreeMap<_, _> = content
        .writes()
        .unwrap()
        .into_iter()
        .map(|write| match write.change {
            Change::Put(value) | Change::Create(value) => (write.key[0], Some(content.value(value).to_vec())),
            Change::Remove => (write.key[0], None),
        })
        .collect();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [(1, None), (2, Some(b"b".to_vec()))]);
    let file = File::options().write(true).open(directory_in(store.path()).join("0")).unwrap();
    file.write_all_at(b"?", closed.length - 1).unwrap();
    assert!(wal.files().content(&closed).unwrap().writes().is_none());
}

#[test]
fn there_is_no_log_in_an_older_store() {
    let store = tempfile::tempdir().unwrap();
    assert_eq!(found_after(store.path(), 7), (vec![], 7, None));
}

#[test]
fn the_log_is_a_small_part_of_what_a_store_may_take() {
    assert_eq!(segments_for(10 << 30), MOST_SEGMENTS);
    assert_eq!(segments_for(256 << 20), 4);
    assert_eq!(segments_for(1), LEAST_SEGMENTS);
}
