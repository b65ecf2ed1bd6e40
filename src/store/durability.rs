//! Makes sled's flush a durability barrier. One of three modules with `unsafe` code.
//!
//! sled 0.34.7 ends its `flush` in `sync_file_range(2)`, which by its own manual page writes no
//! metadata and does not flush the disk's cache: after a power cut, acknowledged writes are gone
//! and old ones may be damaged. The executable's own symbol wins over libc's, so defining the
//! function here replaces it by `fdatasync(2)` inside this process. [`self_test`] proves at every
//! start that the replacement is in force; without it a durable store refuses to open.

#![expect(unsafe_code, reason = "replaces a C symbol; see the module's documentation")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::config::Durability;

/// How often sled asked for its writes to be made durable.
static SYNCS: AtomicU64 = AtomicU64::new(0);
/// Set while the configuration asks for less than a power loss (`durability = "os"`).
static SKIP: AtomicBool = AtomicBool::new(false);

/// Replaces libc's function of this name for the whole process.
///
/// # Safety
/// As `fdatasync(2)`: any descriptor may be passed, a bad one gives -1 and `errno`.
#[unsafe(no_mangle)]
pub extern "C" fn sync_file_range(
    fd: libc::c_int,
    _offset: i64,
    _bytes: i64,
    _flags: libc::c_uint,
) -> libc::c_int {
    SYNCS.fetch_add(1, Ordering::Relaxed);
    if SKIP.load(Ordering::Relaxed) {
        return 0;
    }
    // SAFETY: fdatasync touches no memory of ours, and any integer is allowed as its argument.
    unsafe { libc::fdatasync(fd) }
}

/// Chooses what a flush survives from now on, in this process.
pub(super) fn choose(durability: Durability) {
    SKIP.store(durability == Durability::Os, Ordering::Relaxed);
}

/// How many syncs sled has asked for so far.
pub(super) fn syncs() -> u64 {
    SYNCS.load(Ordering::Relaxed)
}

/// Writes and flushes once, and checks that the flush came through [`sync_file_range`] above.
pub(super) fn self_test(db: &sled::Db, key: &[u8]) -> Result<(), SelfTestError> {
    let before = syncs();
    let value: [u8; 8] = fastrand::u64(..).to_be_bytes();
    db.insert(key, &value)?;
    db.flush()?;
    if syncs() > before { Ok(()) } else { Err(SelfTestError::NotInForce) }
}

/// Why the self-test failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SelfTestError {
    /// The store could not be written.
    #[error(transparent)]
    Sled(#[from] sled::Error),
    /// sled's flush did not come by.
    #[error("the store's writes don't reach fdatasync on this system")]
    NotInForce,
}
