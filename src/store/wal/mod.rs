//! The write-ahead log: where a commit becomes durable, and where what was committed lately stays.
//!
//! A commit is one write at the end of a segment, and one sync. A segment is a file; there are up to
//! [`MOST_SEGMENTS`], which take turns: when the last free one is begun, what is still worth keeping of the
//! oldest is carried over to the database (`checkpoint`), and its file is free again. What is put and removed
//! within so many segments costs the database nothing, and most events are.
//!
//! Values are read back from here as long as they are here: memory has only their places (`overlay`). A
//! segment's file is filled with zeros before its first turn, and keeps its size from then on: a sync has no
//! metadata to write.

mod record;
mod replay;

use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use self::record::Encoder;
pub(super) use self::{
    record::{Change, Found},
    replay::{Replay, read},
};
use super::{
    commit::Write,
    worker::{Counters, Sync},
};

/// A segment is full with so many bytes; a single larger commit makes its file as large as it is.
const FULL: u64 = 4 << 20;
/// There are never more segments. With so many, what `store.recent` keeps by default has left before its segment is
/// needed again, also where events are as small as those that report messages, and with the messages' statuses
/// written once more.
pub(super) const MOST_SEGMENTS: usize = 32;
/// One is written, and another one carried over meanwhile.
const LEAST_SEGMENTS: usize = 2;
/// The log's part of `store.max_size`.
const PART_OF_STORE: u64 = 16;

/// How many segments the log of a store of this largest size has.
pub(super) fn segments_for(max_size: u64) -> usize {
    let fitting = usize::try_from(max_size / PART_OF_STORE / FULL).unwrap_or(usize::MAX);
    fitting.clamp(LEAST_SEGMENTS, MOST_SEGMENTS)
}

/// A segment's turn: its file, and which turn of all it is. Never used twice in a process's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Segment(u32);

impl Segment {
    /// Of a file that holds nothing.
    const NONE: Self = Self(0);

    /// One that no test comes to.
    #[cfg(test)]
    pub(super) const NEVER: Self = Self(u32::MAX);

    fn new(turn: u32, slot: usize) -> Self {
        Self(turn * MOST_SEGMENTS as u32 + slot as u32)
    }

    /// Which file.
    pub(super) fn slot(self) -> usize {
        self.0 as usize % MOST_SEGMENTS
    }
}

/// Where a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub segment: Segment,
    offset: u32,
    length: u32,
}

impl Place {
    /// Of no value.
    pub(super) fn nowhere(segment: Segment) -> Self {
        Self { segment, offset: 0, length: 0 }
    }

    pub(super) fn of(segment: Segment, value: &Range<usize>) -> Self {
        Self { segment, offset: value.start as u32, length: value.len() as u32 }
    }
}

/// A segment that takes no more commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed {
    pub segment: Segment,
    /// Bytes of its commits.
    length: u64,
    /// As of its last commit.
    pub counters: Counters,
}

/// The log's files, for those who read and those who make them.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    slots: [Slot; MOST_SEGMENTS],
}

#[derive(Debug, Default)]
struct Slot {
    file: OnceLock<File>,
    /// The [`Segment`] that the file holds.
    holds: AtomicU32,
}

impl Files {
    /// The files that there are; an older store may have none, not even a directory.
    fn existing(store: &Path) -> io::Result<Self> {
        let files = Self { directory: directory_in(store), slots: Default::default() };
        for slot in 0..MOST_SEGMENTS {
            match File::options().read(true).write(true).open(files.path(slot)) {
                Ok(file) => files.set(slot, file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }

    fn path(&self, slot: usize) -> PathBuf {
        self.directory.join(slot.to_string())
    }

    fn set(&self, slot: usize, file: File) {
        // Set once: whoever makes a file found none.
        let _ = self.slots[slot].file.set(file);
    }

    fn file(&self, slot: usize) -> io::Result<&File> {
        self.slots[slot].file.get().ok_or_else(|| io::Error::other("a segment of the log has no file"))
    }

    fn hold(&self, segment: Segment) {
        self.slots[segment.slot()].holds.store(segment.0, Ordering::Release);
    }

    fn holds(&self, segment: Segment) -> bool {
        self.slots[segment.slot()].holds.load(Ordering::Acquire) == segment.0
    }

    /// The value at this place; none if the segment had to make room meanwhile.
    pub(super) fn value(&self, place: Place) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0; place.length as usize];
        let read = self
            .file(place.segment.slot())
            .and_then(|file| file.read_exact_at(&mut value, u64::from(place.offset)));
        if !self.holds(place.segment) {
            return Ok(None);
        }
        read.map(|()| Some(value))
    }

    /// Makes the file of a free slot, so that no commit has to make it larger. It is synced piece by piece: a
    /// commit meanwhile waits for no more than one of them.
    pub(super) fn make(&self, slot: usize) -> io::Result<()> {
        let path = self.path(slot);
        let make = || {
            let file =
                File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            let zeros = vec![0; 256 << 10];
            for at in (0..FULL).step_by(zeros.len()) {
                file.write_all_at(&zeros, at)?;
                file.sync_data()?;
            }
            file.sync_all()?;
            File::open(&self.directory)?.sync_all()?;
            Ok(file)
        };
        // What was left of it would count as a part of the store; none of it is one.
        let file = make().inspect_err(|_: &io::Error| drop(fs::remove_file(&path)))?;
        self.set(slot, file);
        Ok(())
    }

    /// Everything that a closed segment has.
    pub(super) fn content(&self, closed: &Closed) -> io::Result<Content> {
        let mut bytes = vec![0; closed.length as usize];
        self.file(closed.segment.slot())?.read_exact_at(&mut bytes, 0)?;
        Ok(Content { bytes, last: closed.counters.commits })
    }
}

/// What a closed segment has.
pub(super) struct Content {
    bytes: Vec<u8>,
    last: u64,
}

impl Content {
    /// Its writes, in their order; none if they are not all there.
    pub(super) fn writes(&self) -> Option<Vec<Found<'_>>> {
        let (mut writes, mut last) = (Vec::new(), 0);
        for commit in record::commits(&self.bytes) {
            last = commit.counters.commits;
            writes.extend(commit.writes()?);
        }
        (last == self.last || self.bytes.is_empty()).then_some(writes)
    }

    /// A value among the writes.
    pub(super) fn value(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }
}

/// The log, as it is written.
#[derive(Debug)]
pub(super) struct Wal {
    files: Arc<Files>,
    current: Segment,
    turn: u32,
    /// Where the next commit goes in the current segment.
    end: u64,
    /// As of the last commit in the current segment.
    counters: Counters,
    encoder: Encoder,
}

impl Wal {
    /// Goes on in a log where a slot is free; `turn` is the last one that was taken.
    pub(super) fn begin_at(files: Arc<Files>, turn: u32, slot: usize, counters: Counters) -> Self {
        let mut wal =
            Self { files, current: Segment::NONE, turn, end: 0, counters, encoder: Encoder::default() };
        wal.switch(slot);
        wal
    }

    /// Its files.
    pub(super) fn files(&self) -> &Arc<Files> {
        &self.files
    }

    /// Begins a commit.
    pub(super) fn begin(&mut self) {
        self.encoder.begin();
    }

    /// Adds a write to the commit that was begun.
    pub(super) fn add(&mut self, write: &Write) {
        self.encoder.add(write);
    }

    /// Whether the current segment has no commits.
    pub(super) fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Bytes of the current segment's commits.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Whether the current segment's file takes the commit that was begun.
    pub(super) fn has_room(&self) -> bool {
        self.is_empty() || self.end + self.encoder.bytes().len() as u64 <= FULL
    }

    /// Puts the commit that was begun on disk. After an error it can be tried again, or another in its
    /// place with the same number: it goes to the same place.
    pub(super) fn append(&mut self, counters: Counters, sync: Sync) -> io::Result<()> {
        self.encoder.seal(counters);
        let (file, bytes) = (self.files.file(self.current.slot())?, self.encoder.bytes());
        file.write_all_at(bytes, self.end)?;
        if sync == Sync::Disk {
            file.sync_data()?;
        }
        let length = bytes.len() as u64;
        self.encoder.is_at(self.end);
        self.end += length;
        self.counters = counters;
        Ok(())
    }

    /// Where the values of the last commit are, write by write; of a removal it means nothing.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        let segment = self.current;
        self.encoder.values().map(move |(offset, length)| Place { segment, offset, length })
    }

    /// Begins another segment in a free slot, and closes the one before.
    pub(super) fn switch(&mut self, slot: usize) -> Closed {
        let closed = Closed { segment: self.current, length: self.end, counters: self.counters };
        self.turn += 1;
        self.current = Segment::new(self.turn, slot);
        // Before the first byte is written over: readers look at it behind theirs.
        self.files.hold(self.current);
        self.end = 0;
        closed
    }
}

/// Makes the log's directory.
pub(super) fn make_directory(store: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory_in(store))?;
    File::open(store)?.sync_all()
}

/// Bytes of the log's files.
pub(super) fn size_on_disk(store: &Path) -> u64 {
    let directory = directory_in(store);
    let size = |slot: usize| fs::metadata(directory.join(slot.to_string())).map_or(0, |file| file.len());
    (0..MOST_SEGMENTS).map(size).sum()
}

/// Where its files are.
pub(super) fn directory_in(store: &Path) -> PathBuf {
    store.join("wal")
}

#[cfg(test)]
mod tests;
