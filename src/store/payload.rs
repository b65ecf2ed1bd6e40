//! Bodies too large for sled, each a file of its own under `payloads/`.
//!
//! A file is written under another name, synced, renamed, and its directory synced, before the commit
//! that names it; it is unlinked after the commit that drops its record. So a record never names a file
//! that isn't there or isn't whole (a commit that is tried again replaces what its first try wrote), and
//! what a crash leaves behind is an orphan that the next start sweeps away.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::{StoreError, UserNumber};
use crate::messages::MessageNumber;

/// Which record a payload file belongs to: its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum PayloadId {
    Message(UserNumber, MessageNumber),
    Event(UserNumber, u64),
    DeadLetter(u64),
}

impl PayloadId {
    fn file_name(self) -> String {
        match self {
            Self::Message(user, number) => format!("m-{:08x}-{:016x}", user.0, number.0),
            Self::Event(user, number) => format!("e-{:08x}-{number:016x}", user.0),
            Self::DeadLetter(number) => format!("d-{number:016x}"),
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let kind = parts.next()?;
        let first = u64::from_str_radix(parts.next()?, 16).ok()?;
        let second = parts.next().map(|digits| u64::from_str_radix(digits, 16));
        match (kind, second) {
            ("m", Some(Ok(number))) => {
                Some(Self::Message(UserNumber(first.try_into().ok()?), MessageNumber(number)))
            }
            ("e", Some(Ok(number))) => Some(Self::Event(UserNumber(first.try_into().ok()?), number)),
            ("d", None) => Some(Self::DeadLetter(first)),
            _ => None,
        }
    }
}

/// What a file's name ends with until it is whole.
const UNFINISHED: &str = ".new";

/// The directory of payload files.
#[derive(Debug)]
pub(super) struct Payloads {
    path: PathBuf,
    directory: File,
    /// Bytes of all files, counted by the sweep and kept up since.
    bytes: AtomicU64,
}

impl Payloads {
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        if let Some(above) = path.parent() {
            // A directory whose own name is not durable takes its files with it.
            File::open(above)?.sync_all()?;
        }
        Ok(Self { directory: File::open(&path)?, path, bytes: AtomicU64::new(0) })
    }

    /// Writes one payload; durable together with the next [`Payloads::sync`]. Nothing is left of one
    /// that can't be written.
    pub(super) fn write(&self, id: PayloadId, body: &[u8], durable: bool) -> io::Result<()> {
        let path = self.file(id);
        let unfinished = self.path.join(id.file_name() + UNFINISHED);
        let replaced = length(&path);
        let written = write_file(&unfinished, body, durable).and_then(|()| fs::rename(&unfinished, &path));
        if written.is_err() {
            // On a disk that takes nothing this may fail as well; the next start sweeps.
            let _ = fs::remove_file(&unfinished);
            return written;
        }
        self.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        self.bytes.fetch_sub(replaced, Ordering::Relaxed);
        Ok(())
    }

    /// Makes the names of what was written durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    pub(super) fn read(&self, id: PayloadId) -> Result<Vec<u8>, StoreError> {
        let path = self.file(id);
        fs::read(&path).map_err(|error| StoreError::Unreadable(format!("{}: {error}", path.display())))
    }

    /// Unlinks a payload whose record is gone. One that stays behind is swept at the next start.
    pub(super) fn remove(&self, id: PayloadId) {
        let path = self.file(id);
        let size = length(&path);
        match fs::remove_file(&path) {
            Ok(()) => drop(self.bytes.fetch_sub(size, Ordering::Relaxed)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a payload file could not be removed");
            }
        }
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Removes every file whose record `is_wanted` denies, and every one that was not finished; answers
    /// with how many went. Counts the bytes of the others.
    pub(super) fn sweep(
        &self,
        is_wanted: impl Fn(PayloadId) -> Result<bool, StoreError>,
    ) -> Result<usize, StoreError> {
        let (mut removed, mut bytes) = (0, 0);
        for file in self.files()? {
            match file {
                PayloadFile::Whole(id) if is_wanted(id)? => bytes += length(&self.file(id)),
                PayloadFile::Whole(id) => {
                    self.remove(id);
                    removed += 1;
                }
                PayloadFile::Unfinished(path) => {
                    // It is in nobody's way where it can't be removed.
                    removed += usize::from(fs::remove_file(path).is_ok());
                }
            }
        }
        self.bytes.store(bytes, Ordering::Relaxed);
        Ok(removed)
    }

    /// Every file that is ours; others are left alone.
    pub(super) fn files(&self) -> Result<Vec<PayloadFile>, StoreError> {
        let unreadable =
            |error: io::Error| StoreError::Unreadable(format!("{}: {error}", self.path.display()));
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            match name.strip_suffix(UNFINISHED) {
                Some(name) if PayloadId::parse(name).is_some() => {
                    files.push(PayloadFile::Unfinished(entry.path()));
                }
                _ => files.extend(PayloadId::parse(name).map(PayloadFile::Whole)),
            }
        }
        Ok(files)
    }

    fn file(&self, id: PayloadId) -> PathBuf {
        self.path.join(id.file_name())
    }

    /// Where the files are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// A file in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PayloadFile {
    Whole(PayloadId),
    /// Its writing was cut short.
    Unfinished(PathBuf),
}

fn write_file(path: &Path, body: &[u8], durable: bool) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(body)?;
    if durable { file.sync_data() } else { Ok(()) }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_tells_its_record() {
        for id in [
            PayloadId::Message(UserNumber(7), MessageNumber(u64::MAX)),
            PayloadId::Event(UserNumber(u32::MAX), 1),
            PayloadId::DeadLetter(12),
        ] {
            assert_eq!(PayloadId::parse(&id.file_name()), Some(id));
        }
        for other in ["", "m-1", "x-1-2", "e-1-2-zz-", "e-fffffffff-1", "README"] {
            assert!(PayloadId::parse(other).is_none() || other.starts_with("e-1-2"), "{other}");
        }
    }

    #[test]
    fn orphans_are_swept_and_strangers_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let payloads = Payloads::open(dir.path().join("payloads")).unwrap();
        let (kept, orphan) = (PayloadId::DeadLetter(1), PayloadId::DeadLetter(2));
        for id in [kept, orphan] {
            payloads.write(id, b"body", true).unwrap();
        }
        fs::write(payloads.path().join("README"), "").unwrap();
        fs::write(payloads.path().join(format!("{}{UNFINISHED}", kept.file_name())), "bo").unwrap();
        assert_eq!(payloads.bytes(), 8);
        assert_eq!(payloads.sweep(|id| Ok(id == kept)).unwrap(), 2);
        assert_eq!(payloads.bytes(), 4);
        assert_eq!(payloads.read(kept).unwrap(), b"body");
        assert!(payloads.read(orphan).is_err());
        assert!(payloads.path().join("README").exists());
        assert_eq!(fs::read_dir(payloads.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_second_try_replaces_the_first_and_is_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let payloads = Payloads::open(dir.path().join("payloads")).unwrap();
        let id = PayloadId::DeadLetter(1);
        payloads.write(id, b"first", true).unwrap();
        payloads.write(id, b"second", true).unwrap();
        assert_eq!(payloads.read(id).unwrap(), b"second");
        assert_eq!(payloads.bytes(), 6);
        payloads.remove(id);
        payloads.remove(id);
        assert_eq!(payloads.bytes(), 0);
    }
}
