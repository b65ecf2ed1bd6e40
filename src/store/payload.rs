//! Bodies too large for sled, each a file of its own under `payloads/`.
//!
//! A file is written and synced, and its directory synced, before the commit that names it; it is
//! unlinked after the commit that drops its record. So a record never names a file that isn't
//! there, and what a crash leaves behind is an orphan that the next start sweeps away.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
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

/// The directory of payload files.
#[derive(Debug)]
pub(super) struct Payloads {
    path: PathBuf,
    directory: File,
}

impl Payloads {
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        if let Some(above) = path.parent() {
            // A directory whose own name is not durable takes its files with it.
            File::open(above)?.sync_all()?;
        }
        Ok(Self { directory: File::open(&path)?, path })
    }

    /// Writes one payload; durable together with the next [`Payloads::sync`].
    pub(super) fn write(&self, id: PayloadId, body: &[u8], durable: bool) -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(self.file(id))?;
        file.write_all(body)?;
        if durable { file.sync_data() } else { Ok(()) }
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
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "a payload file could not be removed");
        }
    }

    /// Removes every file whose record `is_wanted` denies; answers with how many went.
    pub(super) fn sweep(
        &self,
        is_wanted: impl Fn(PayloadId) -> Result<bool, StoreError>,
    ) -> Result<usize, StoreError> {
        let unreadable =
            |error: io::Error| StoreError::Unreadable(format!("{}: {error}", self.path.display()));
        let mut removed = 0;
        for entry in fs::read_dir(&self.path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            // A file that isn't ours is left alone.
            let Some(id) = entry.file_name().to_str().and_then(PayloadId::parse) else { continue };
            if !is_wanted(id)? {
                self.remove(id);
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn file(&self, id: PayloadId) -> PathBuf {
        self.path.join(id.file_name())
    }

    /// Where the files are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
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
        assert_eq!(payloads.sweep(|id| Ok(id == kept)).unwrap(), 1);
        assert_eq!(payloads.read(kept).unwrap(), b"body");
        assert!(payloads.read(orphan).is_err());
        assert!(payloads.path().join("README").exists());
    }
}
