//! Reading a log that somebody left.

use std::{collections::VecDeque, io, os::unix::fs::FileExt, path::Path, sync::Arc};

use super::{Change, Closed, Files, MOST_SEGMENTS, Place, Segment, record};
use crate::store::{
    overlay::{Entries, Last},
    worker::Counters,
};

/// Of so many of the oldest segments the database may have more than it says: of one all, and of the next one some
/// (`checkpoint`). So what was new there may not be new to the database.
const MAYBE_CARRIED: usize = 2;

/// What a log has that the database doesn't.
#[derive(Debug)]
pub(in crate::store) struct Replay {
    /// Its files, which are left as they are.
    pub files: Arc<Files>,
    /// What was last done to each key.
    pub writes: Entries,
    /// The segments that have these writes, oldest first.
    pub closed: VecDeque<Closed>,
    /// As of the last commit.
    pub counters: Counters,
    /// The commits before this one, but for those that the database has, are gone.
    pub gap_before: Option<u64>,
}

impl Replay {
    /// The turn of the newest segment.
    pub(in crate::store) fn turn(&self) -> u32 {
        self.closed.len() as u32
    }

    /// Slots that have a file, and nothing in it that is still needed.
    pub(in crate::store) fn free(&self) -> Vec<usize> {
        let is_taken = |slot| self.closed.iter().any(|closed| closed.segment.slot() == slot);
        let has_file = |slot: &usize| self.files.slots[*slot].file.get().is_some();
        (0..MOST_SEGMENTS).filter(|slot| has_file(slot) && !is_taken(*slot)).collect()
    }

    /// Slots without a file.
    pub(in crate::store) fn unmade(&self) -> Vec<usize> {
        (0..MOST_SEGMENTS).filter(|slot| self.files.slots[*slot].file.get().is_none()).collect()
    }
}

/// The commits at the start of a file.
struct Run<'a> {
    slot: usize,
    bytes: &'a [u8],
    first: u64,
}

/// Reads a log, and changes nothing. `in_database` is the last commit that the database has.
pub(in crate::store) fn read(store: &Path, in_database: Counters) -> io::Result<Replay> {
    let files = Arc::new(Files::existing(store)?);
    let mut firsts = Vec::new();
    for slot in 0..MOST_SEGMENTS {
        if let Some(first) = files.first_commit(slot)? {
            firsts.push((first, slot));
        }
    }
    firsts.sort_unstable();
    let mut replay = Replay {
        files,
        writes: Entries::default(),
        closed: VecDeque::new(),
        counters: in_database,
        gap_before: None,
    };
    // One for all files: new memory for each would have to be cleared first.
    let mut bytes = Vec::new();
    for (at, (first, slot)) in firsts.iter().enumerate() {
        // A commit that failed at the end of one file may have been repeated at the start of the next.
        let end = firsts.get(at + 1).map_or(u64::MAX, |(next, _)| *next);
        replay.files.read_all(*slot, &mut bytes)?;
        replay.take(&Run { slot: *slot, bytes: &bytes, first: *first }, end);
    }
    Ok(replay)
}

impl Replay {
    /// Takes the run's commits before `end` that are newer than all before.
    fn take(&mut self, run: &Run<'_>, end: u64) {
        debug_assert!(run.first < end);
        let segment = Segment::new(self.closed.len() as u32 + 1, run.slot);
        let mut length = None;
        for commit in record::commits(run.bytes) {
            let number = commit.counters.commits;
            if number >= end {
                break;
            }
            if number <= self.counters.commits {
                continue;
            }
            if number != self.counters.commits + 1 {
                self.gap_before = Some(number);
            }
            for write in commit.writes().unwrap_or_default() {
                let last = match &write.change {
                    Change::Create(value) if self.closed.len() >= MAYBE_CARRIED => {
                        Last::created(Place::of(segment, value))
                    }
                    Change::Put(value) | Change::Create(value) => Last::put(Place::of(segment, value)),
                    Change::Remove => Last::removed(segment),
                };
                self.writes.note(write.key, last);
            }
            self.counters = commit.counters;
            length = Some(commit.end as u64);
        }
        if let Some(length) = length {
            self.files.hold(segment);
            self.closed.push_back(Closed { segment, length, counters: self.counters });
        }
    }
}

impl Files {
    fn read_all(&self, slot: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
        let file = self.file(slot)?;
        bytes.resize(file.metadata()?.len() as usize, 0);
        file.read_exact_at(bytes, 0)
    }

    /// The number of the commit that a file begins with, if it begins with a whole one.
    fn first_commit(&self, slot: usize) -> io::Result<Option<u64>> {
        let Some(file) = self.slots[slot].file.get() else { return Ok(None) };
        let mut head = [0; record::HEAD];
        let length = file.metadata()?.len();
        if length < head.len() as u64 {
            return Ok(None);
        }
        file.read_exact_at(&mut head, 0)?;
        let mut bytes = vec![0; record::length(&head).min(length) as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(record::commits(&bytes).next().map(|commit| commit.counters.commits))
    }
}
