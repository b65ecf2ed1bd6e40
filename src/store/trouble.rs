//! What a failed write means: wait, or end.
//!
//! A disk that is full, over quota, read-only or not ours says so before it takes anything, and says
//! it again at the next try: there is something to wait for. After an I/O error nobody knows what
//! is on the disk, and the system may report it only once and then show what it could not write; so
//! the process ends, and the next start reads what is really there. The same goes for everything that
//! is not known here.

use std::{fmt, io};

use super::StoreError;

/// Why something could not be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It may go away by itself, or by what a person does to the disk.
    Passing(String),
    /// Only a new process can find out what is on the disk.
    Fatal(String),
}

impl Trouble {
    /// The trouble behind a failed system call on `what`.
    pub(super) fn of_io(what: &str, error: &io::Error) -> Self {
        let why = format!("{what}: {error}");
        if is_passing(error) { Self::Passing(why) } else { Self::Fatal(why) }
    }
}

impl From<sled::Error> for Trouble {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) => Self::of_io("the database", &error),
            other => Self::Fatal(other.to_string()),
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(why) => Self::Passing(why),
            StoreError::Doubtful(why) | StoreError::Unreadable(why) => Self::Fatal(why),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Passing(why) | Self::Fatal(why)) = self;
        f.write_str(why)
    }
}

/// Whether the system refused a write for a reason that can go away under a running process.
pub(super) fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::StorageFull | Kind::QuotaExceeded | Kind::ReadOnlyFilesystem | Kind::PermissionDenied
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_waited_for_and_an_io_error_is_not() {
        for errno in [libc::ENOSPC, libc::EDQUOT, libc::EROFS, libc::EACCES, libc::EPERM] {
            let error = sled::Error::Io(io::Error::from_raw_os_error(errno));
            // sled passes copies on.
            assert!(matches!(Trouble::from(error.clone()), Trouble::Passing(_)), "{error}");
        }
        for errno in [libc::EIO, libc::EBADF, libc::EINVAL, libc::EFBIG, libc::ENODEV] {
            let error = sled::Error::Io(io::Error::from_raw_os_error(errno));
            assert!(matches!(Trouble::from(error.clone()), Trouble::Fatal(_)), "{error}");
        }
        assert!(matches!(Trouble::from(sled::Error::ReportableBug(String::new())), Trouble::Fatal(_)));
    }
}
