//! How much room there is: when the store counts as full, and when it can be used again.
//!
//! Refusing what is new before sled hits the wall keeps its handle whole, and leaves room to note
//! down what makes room again: deliveries, final statuses.

/// Whether the store takes writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It takes everything.
    Writable,
    /// It takes no new messages and events; what makes room is still written. And why.
    Full(String),
    /// It can write nothing for now, and tries again by itself. And why.
    Unwritable(String),
    /// It is over: only a restart helps. And why.
    Failed(String),
}

/// At least so much of the disk stays free for what makes room...
const KEPT_FREE: u64 = 64 << 20;
/// ... or this part of a small disk.
const KEPT_FREE_PART: u64 = 20;
/// sled's file is about twice as large as what is in it: log, garbage, and room to move.
const FILE_PER_RECORD: u64 = 2;
/// Once full, so much of a limit must be free again before the store counts as usable: 1/16.
const HYSTERESIS_PART: u64 = 16;
/// Payload files may always take this part of the largest size, however large sled's file has become:
/// that never shrinks, and a bridge that never takes anything again is of no use.
const PAYLOADS_PART: u64 = 8;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measured {
    /// Bytes of the records that wait for something: events, unsent messages, dead letters.
    pub backlog: u64,
    /// Bytes of payload files.
    pub payloads: u64,
    /// Bytes of sled's file, garbage and all.
    pub file: u64,
    /// What the disk has, where the system tells.
    pub disk: Option<DiskSpace>,
}

/// A disk's space in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DiskSpace {
    pub free: u64,
    pub total: u64,
}

/// Whether the store was full at the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Usable,
    Full,
}

/// Why the store counts as full, if it does. `max_size` is `store.max_size`.
pub(super) fn fullness(max_size: u64, measured: &Measured, before: Before) -> Option<String> {
    disk_is_full(measured.disk, before).or_else(|| store_is_full(max_size, measured, before))
}

fn disk_is_full(disk: Option<DiskSpace>, before: Before) -> Option<String> {
    let DiskSpace { free, total } = disk?;
    let kept = KEPT_FREE.min(total / KEPT_FREE_PART);
    let needed = match before {
        Before::Usable => kept,
        Before::Full => kept + kept / HYSTERESIS_PART,
    };
    (free < needed)
        .then(|| format!("the disk has {free} bytes free, and the last {kept} are kept for deliveries"))
}

fn store_is_full(max_size: u64, measured: &Measured, before: Before) -> Option<String> {
    let Measured { backlog, payloads, file, .. } = *measured;
    let limit = match before {
        Before::Usable => max_size,
        Before::Full => max_size - max_size / HYSTERESIS_PART,
    };
    let needed = backlog * FILE_PER_RECORD + payloads;
    let crowded = file + payloads >= limit && payloads > limit / PAYLOADS_PART;
    (needed >= limit || crowded).then(|| {
        format!("it holds {backlog} bytes of waiting records and {payloads} bytes of large bodies, which is what store.max_size ({max_size} bytes) has room for")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;

    fn measured(backlog: u64, payloads: u64, file: u64) -> Measured {
        Measured { backlog, payloads, file, disk: None }
    }

    fn is_full(measured: Measured, before: Before) -> bool {
        fullness(MAX, &measured, before).is_some()
    }

    #[test]
    fn it_is_full_when_what_it_holds_needs_the_largest_size() {
        assert!(!is_full(measured(MAX / 2 - MIB, 0, MAX), Before::Usable));
        assert!(is_full(measured(MAX / 2, 0, MAX), Before::Usable));
        assert!(is_full(measured(MAX / 4, MAX / 2, MAX / 2), Before::Usable));
    }

    #[test]
    fn it_is_usable_again_when_the_backlog_is_gone_although_the_file_never_shrinks() {
        assert!(is_full(measured(MAX / 2 - MIB, 0, MAX), Before::Full), "it must not flicker");
        assert!(!is_full(measured(MAX / 3, 0, MAX), Before::Full));
        assert!(!is_full(measured(MIB, MAX / 10, 2 * MAX), Before::Full));
    }

    #[test]
    fn large_bodies_beside_a_file_at_its_high_water_mark_are_bounded() {
        assert!(is_full(measured(MIB, MAX / 4, MAX - MIB), Before::Usable));
        assert!(!is_full(measured(MIB, MAX / 4, MAX / 2), Before::Usable));
    }

    #[test]
    fn a_reserve_of_the_disk_is_kept() {
        let with = |free, total| Measured { disk: Some(DiskSpace { free, total }), ..measured(0, 0, 0) };
        assert!(!is_full(with(65 * MIB, 10 * MAX), Before::Usable));
        assert!(is_full(with(63 * MIB, 10 * MAX), Before::Usable));
        assert!(is_full(with(65 * MIB, 10 * MAX), Before::Full));
        assert!(!is_full(with(69 * MIB, 10 * MAX), Before::Full));
        assert!(!is_full(with(6 * MIB, 100 * MIB), Before::Usable), "a small disk keeps a twentieth");
    }
}
