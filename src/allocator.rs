//! Settings of the C library's allocator.
//!
//! By itself it has eight arenas for each core, and what a thread frees in its arena serves no other thread. With a
//! million records in the store that was 65 MiB of free memory, most of it left by the start, which reads much more than
//! it keeps. So there are fewer arenas, and a start gives back what it leaves.

#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(
        unsafe_code,
        reason = "what is called here changes the allocator alone, which has locks of its own"
    )
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

/// Gives free memory back to the system, also what lies between what is in use: by itself the allocator only does so at an
/// arena's end. It looks at all free pieces, and each arena waits meanwhile: with a million records in the store some 2 ms.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the allocator takes its locks, and gives back only what is not in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
