//! Settings of the C library's allocator.
//!
//! By itself it has eight arenas for each core, and what a thread frees in its arena serves no other thread. With a
//! million records in the store that was 65 MiB of free memory, most of it left by the start.

#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "mallopt changes settings of the allocator, and nothing else")
)]

/// Bounds the arenas to one for each core, unless the environment says how many (`MALLOC_ARENA_MAX`). To be called
/// before there are threads.
pub(crate) fn bound_arenas() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        // SAFETY: the allocator guards what this changes by a lock of its own.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, cores.max(2) as libc::c_int);
        }
    }
}
