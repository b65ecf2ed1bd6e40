//! The write-ahead log: where a commit becomes durable.
//!
//! A commit is one write at the end of a file, and one sync. The database gets the same writes later and
//! many at once (`checkpoint`), so that what is put and removed in the meantime costs it nothing.
//!
//! There are two files, which take turns: while one is written, the other's commits are carried over to the
//! database. When the first is full, the second is begun anew, from its start and over its old content:
//! a file that does not change its size needs no sync of its metadata.

mod record;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use sled::IVec;

use self::record::{Commit, Encoder};
use super::{
    commit::Write,
    worker::{Counters, Sync},
};

/// A file of the log is full with so many bytes; a single larger commit makes it as large as it is.
const FULL: u64 = 4 << 20;
/// The names of the two files.
const NAMES: [&str; 2] = ["0", "1"];

/// The log, as it is written.
#[derive(Debug)]
pub(super) struct Wal {
    files: [File; 2],
    current: usize,
    /// Where the next commit goes in the current file.
    end: u64,
    encoder: Encoder,
}

impl Wal {
    /// Opens the log of a store, all of whose commits are in the database: begins it anew.
    pub(super) fn open(store: &Path) -> io::Result<Self> {
        let directory = directory_in(store);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let open = |name| {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            options.open(directory.join(name))
        };
        let files = [open(NAMES[0])?, open(NAMES[1])?];
        File::open(&directory)?.sync_all()?;
        File::open(store)?.sync_all()?;
        Ok(Self { files, current: 0, end: 0, encoder: Encoder::default() })
    }

    /// Begins a commit.
    pub(super) fn begin(&mut self) {
        self.encoder.begin();
    }

    /// Adds a write to the commit that was begun.
    pub(super) fn add(&mut self, write: &Write) {
        self.encoder.add(write);
    }

    /// Whether the current file takes the commit that was begun.
    pub(super) fn has_room(&self) -> bool {
        self.end == 0 || self.end + self.encoder.bytes().len() as u64 <= FULL
    }

    /// Whether the current file has no commits.
    pub(super) fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// How many bytes of commits the current file has.
    pub(super) fn len(&self) -> u64 {
        self.end
    }

    /// Puts the commit that was begun on disk. After an error it can be tried again, or another in its
    /// place with the same number: it goes to the same place.
    pub(super) fn append(&mut self, counters: Counters, sync: Sync) -> io::Result<()> {
        self.encoder.seal(counters);
        let (file, bytes) = (&self.files[self.current], self.encoder.bytes());
        file.write_all_at(bytes, self.end)?;
        if sync == Sync::Disk {
            file.sync_data()?;
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Begins the other file, whose commits must be in the database.
    pub(super) fn switch(&mut self) {
        (self.current, self.end) = (1 - self.current, 0);
    }
}

/// Bytes of the log's files.
pub(super) fn size_on_disk(store: &Path) -> u64 {
    let directory = directory_in(store);
    let size = |name| fs::metadata(directory.join(name)).map_or(0, |file| file.len());
    NAMES.into_iter().map(size).sum()
}

/// What a log has that the database doesn't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replay {
    /// The newest value of each key, or that it is removed.
    pub writes: BTreeMap<IVec, Option<IVec>>,
    /// As of the last commit.
    pub counters: Counters,
    /// The commits before this one, but for those that the database has, are gone.
    pub gap_before: Option<u64>,
}

/// Reads a log, and changes nothing. `in_database` is the last commit that the database has.
pub(super) fn read(store: &Path, in_database: Counters) -> io::Result<Replay> {
    let directory = directory_in(store);
    let mut files = Vec::new();
    for name in NAMES {
        match fs::read(directory.join(name)) {
            Ok(bytes) => files.push(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(replay(&files, in_database))
}

fn replay(files: &[Vec<u8>], in_database: Counters) -> Replay {
    let mut runs: Vec<Vec<Commit<'_>>> = files.iter().map(|file| record::commits(file).collect()).collect();
    runs.retain(|run| !run.is_empty());
    runs.sort_unstable_by_key(|run| run[0].counters.commits);
    // A commit that failed at the end of one file may have been repeated at the start of the other.
    if let [earlier, later] = &mut runs[..] {
        let begins = later[0].counters.commits;
        earlier.retain(|commit| commit.counters.commits < begins);
    }
    let commits = runs.into_iter().flatten();
    let commits = commits.filter(|commit| commit.counters.commits > in_database.commits);
    let mut replay = Replay { writes: BTreeMap::new(), counters: in_database, gap_before: None };
    for commit in commits {
        let number = commit.counters.commits;
        if number != replay.counters.commits + 1 {
            replay.gap_before = Some(number);
        }
        for write in commit.writes().unwrap_or_default() {
            match write {
                Write::Put(key, value) | Write::Create(key, value) => replay.writes.insert(key, Some(value)),
                Write::Remove(key) => replay.writes.insert(key, None),
            };
        }
        replay.counters = commit.counters;
    }
    replay
}

/// Where its files are.
pub(super) fn directory_in(store: &Path) -> PathBuf {
    store.join("wal")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: u8, value: &[u8]) -> Write {
        Write::Put(IVec::from(&[key]), IVec::from(value))
    }

    fn append(wal: &mut Wal, number: u64, writes: &[Write]) {
        wal.begin();
        writes.iter().for_each(|write| wal.add(write));
        wal.append(Counters { commits: number, backlog: 0 }, Sync::System).unwrap();
    }

    fn read_after(store: &Path, commits: u64) -> Replay {
        read(store, Counters { commits, backlog: 0 }).unwrap()
    }

    #[test]
    fn what_the_database_has_not_is_read_over_both_files() {
        let store = tempfile::tempdir().unwrap();
        let mut wal = Wal::open(store.path()).unwrap();
        append(&mut wal, 1, &[put(1, b"a"), put(2, b"b")]);
        append(&mut wal, 2, &[put(1, b"c")]);
        wal.switch();
        append(&mut wal, 3, &[Write::Remove(IVec::from(&[2])), put(3, b"d")]);
        let value = |text: &[u8]| Some(IVec::from(text));
        let all = read_after(store.path(), 0);
        let expected =
            [(IVec::from(&[1]), value(b"c")), (IVec::from(&[2]), None), (IVec::from(&[3]), value(b"d"))];
        assert_eq!(all.writes.into_iter().collect::<Vec<_>>(), expected);
        assert_eq!((all.counters.commits, all.gap_before), (3, None));
        let rest = read_after(store.path(), 2);
        assert_eq!(rest.writes.into_iter().collect::<Vec<_>>(), expected[1..]);
        assert!(read_after(store.path(), 3).writes.is_empty());
        // The first file's second turn ends before its first did.
        wal.switch();
        append(&mut wal, 4, &[put(9, b"")]);
        assert_eq!(read_after(store.path(), 3).counters.commits, 4);
        assert_eq!(read_after(store.path(), 2).gap_before, None);
        assert_eq!(read_after(store.path(), 1).gap_before, Some(3), "the database lost what it had");
    }

    #[test]
    fn a_log_that_is_begun_anew_is_told_from_what_it_is_written_over() {
        let store = tempfile::tempdir().unwrap();
        let mut wal = Wal::open(store.path()).unwrap();
        for number in 1..=5 {
            append(&mut wal, number, &[put(number as u8, b"old")]);
        }
        let mut wal = Wal::open(store.path()).unwrap();
        append(&mut wal, 6, &[put(6, b"new")]);
        let found = read_after(store.path(), 5);
        assert_eq!(found.writes.into_keys().collect::<Vec<_>>(), [IVec::from(&[6])]);
    }

    #[test]
    fn a_commit_that_failed_is_replaced() {
        let store = tempfile::tempdir().unwrap();
        let mut wal = Wal::open(store.path()).unwrap();
        append(&mut wal, 1, &[put(1, b"a")]);
        let end = wal.end;
        append(&mut wal, 2, &[put(2, b"longer than the other")]);
        // As if that had failed after it was written.
        wal.end = end;
        append(&mut wal, 2, &[put(3, b"c")]);
        let keys: Vec<_> = read_after(store.path(), 0).writes.into_keys().collect();
        assert_eq!(keys, [IVec::from(&[1]), IVec::from(&[3])]);
    }

    #[test]
    fn a_commit_that_failed_is_replaced_in_the_other_file() {
        let store = tempfile::tempdir().unwrap();
        let mut wal = Wal::open(store.path()).unwrap();
        append(&mut wal, 1, &[put(1, b"a")]);
        append(&mut wal, 2, &[put(2, b"failed after it was written")]);
        wal.switch();
        append(&mut wal, 2, &[put(3, b"c")]);
        append(&mut wal, 3, &[put(4, b"d")]);
        let found = read_after(store.path(), 0);
        let keys: Vec<_> = found.writes.into_keys().collect();
        assert_eq!(keys, [IVec::from(&[1]), IVec::from(&[3]), IVec::from(&[4])]);
        assert_eq!(found.gap_before, None);
    }

    #[test]
    fn a_file_is_full_before_it_grows_too_large() {
        let store = tempfile::tempdir().unwrap();
        let mut wal = Wal::open(store.path()).unwrap();
        assert!(wal.is_empty());
        let huge = vec![0; FULL as usize];
        append(&mut wal, 1, &[put(1, &huge)]);
        wal.begin();
        wal.add(&put(2, b""));
        assert!(!wal.has_room() && !wal.is_empty());
        wal.switch();
        assert!(wal.has_room());
    }

    #[test]
    fn there_is_no_log_in_an_older_store() {
        let store = tempfile::tempdir().unwrap();
        let found = read_after(store.path(), 7);
        assert_eq!((found.counters.commits, found.gap_before, found.writes.len()), (7, None, 0));
    }
}
