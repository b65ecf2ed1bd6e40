//! The number of the last commit, beside the database.
//!
//! sled reads its log up to the first damage and takes what is behind it for never written: a store
//! can lose its newest part without an error. So every commit carries its number in the database,
//! and the number is written here when the commit is on disk. A database whose number is smaller has
//! lost commits. The file itself needs no sync: after a power loss it may only lag behind.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

/// The file.
#[derive(Debug)]
pub(super) struct Tip {
    file: File,
}

impl Tip {
    /// Opens the file, and reads the number in it; 0 in a new one.
    pub(super) fn open(path: &Path) -> io::Result<(Self, u64)> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut number = [0; 8];
        let read = file.read_at(&mut number, 0)?;
        let number = if read == number.len() { u64::from_be_bytes(number) } else { 0 };
        Ok((Self { file }, number))
    }

    /// This commit is on disk.
    pub(super) fn advance(&self, number: u64) -> io::Result<()> {
        self.file.write_all_at(&number.to_be_bytes(), 0)
    }
}
