//! Settings of the C library's allocator.
//!
//! By itself it has eight arenas for each core, and what a thread frees in its arena serves no other thread. With a
//! million records in the store that was 65 MiB of free memory, most of it left by the start.

#![expect(unsafe_code, reason = "mallopt changes settings of the allocator, and nothing else")]

/// Larger pieces (segments of the log, buffers of the database) go back to the system when they are freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_FROM: libc::c_int = 1 << 20;
/// So much may be free at an arena's end: what comes and goes all the time must not go to the system each time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const FREE_AT_END: libc::c_int = 2 << 20;

/// Bounds the arenas to one for each core, unless the environment says how many (`MALLOC_ARENA_MAX`). To be called
/// before there are threads.
pub(crate) fn bound_arenas() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        // SAFETY: the allocator guards what this changes by a lock of its own.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, cores.max(2) as libc::c_int);
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
            libc::mallopt(libc::M_TRIM_THRESHOLD, FREE_AT_END);
        }
    }
}
