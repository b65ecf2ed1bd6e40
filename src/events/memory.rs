//! What came before: recognising the repeat of a frame.
//!
//! A frame with an identity (a `messageId`, or a `user_message`'s `id`) whose bytes came before is a
//! repeat. Other bytes under the same identity (the chunks of a streamed answer), and frames without
//! one (typing), never are. The memory is bounded: 24 hours, the latest 1,000 identities of a user,
//! and [`MOST`] in all.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::{
    clock::Timestamp,
    messages::Fingerprint,
    store::{Journal, JournalEntry, UserNumber},
};

/// How long a frame is remembered.
pub(super) const LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// How many frames of one user are remembered.
const MOST_PER_USER: usize = 1_000;
/// How many frames are remembered in all: 16 bytes each.
const MOST: usize = 500_000;

/// A frame's mark: half a fingerprint of its identity, and half a fingerprint of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    identity: u64,
    content: u64,
}

impl Mark {
    /// The mark of a frame; `None` for one without an identity, which is never a repeat.
    pub(super) fn of(identity: Option<&str>, frame: &[u8]) -> Option<Self> {
        let identity = half(identity?.as_bytes()).max(1);
        Some(Self { identity, content: half(frame) })
    }

    /// What the journal says of the frame.
    pub(super) fn entry(mark: Option<Self>, user: UserNumber, size: usize) -> JournalEntry {
        let (identity, content) = mark.map_or((0, 0), |mark| (mark.identity, mark.content));
        JournalEntry { user, size: size as u32, identity, content }
    }

    fn from_entry(entry: &JournalEntry) -> Option<Self> {
        (entry.identity != 0).then_some(Self { identity: entry.identity, content: entry.content })
    }
}

fn half(bytes: &[u8]) -> u64 {
    let Fingerprint(full) = Fingerprint::of(bytes);
    u64::from_be_bytes([full[0], full[1], full[2], full[3], full[4], full[5], full[6], full[7]])
}

/// The frames of all users that came before.
#[derive(Debug, Default)]
pub(super) struct RepeatMemory {
    users: HashMap<UserNumber, VecDeque<Mark>>,
    count: usize,
}

impl RepeatMemory {
    /// Whether this frame came before; if not, it is remembered.
    pub(super) fn is_repeat(&mut self, user: UserNumber, mark: Mark) -> bool {
        let marks = self.users.entry(user).or_default();
        // Repeats come soon after what they repeat.
        if marks.iter().rev().any(|known| *known == mark) {
            return true;
        }
        self.push(user, mark);
        false
    }

    /// Whether more is remembered than may be: the oldest journal must be forgotten.
    pub(super) fn is_crowded(&self) -> bool {
        self.count > MOST
    }

    /// Remembers what the journal says came before this start.
    pub(super) fn restore(&mut self, journal: &Journal, now: Timestamp) {
        if now.since(journal.at) >= LIFE {
            return;
        }
        for entry in &journal.entries {
            if let Some(mark) = Mark::from_entry(entry) {
                self.push(entry.user, mark);
            }
        }
    }

    /// Forgets what a journal remembers; the oldest journal goes first.
    pub(super) fn forget(&mut self, journal: &Journal) {
        for entry in &journal.entries {
            let Some(mark) = Mark::from_entry(entry) else { continue };
            let Some(marks) = self.users.get_mut(&entry.user) else { continue };
            if marks.front() == Some(&mark) {
                marks.pop_front();
                self.count -= 1;
            }
            if marks.is_empty() {
                self.users.remove(&entry.user);
            }
        }
    }

    fn push(&mut self, user: UserNumber, mark: Mark) {
        let marks = self.users.entry(user).or_default();
        marks.push_back(mark);
        self.count += 1;
        if marks.len() > MOST_PER_USER {
            marks.pop_front();
            self.count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: UserNumber = UserNumber(1);
    const BOB: UserNumber = UserNumber(2);

    fn mark(identity: &str, frame: &str) -> Mark {
        Mark::of(Some(identity), frame.as_bytes()).unwrap()
    }

    #[test]
    fn only_the_same_bytes_under_the_same_identity_of_the_same_user_are_a_repeat() {
        let mut memory = RepeatMemory::default();
        assert!(!memory.is_repeat(ALICE, mark("ms-1", "Once")));
        assert!(!memory.is_repeat(ALICE, mark("ms-1", " upon a time")), "a streamed answer's next chunk");
        assert!(!memory.is_repeat(BOB, mark("ms-1", "Once")));
        assert!(memory.is_repeat(ALICE, mark("ms-1", "Once")));
        assert_eq!(Mark::of(None, b"typing"), None);
    }

    #[test]
    fn the_latest_thousand_of_a_user_are_remembered() {
        let mut memory = RepeatMemory::default();
        for number in 0..=MOST_PER_USER {
            assert!(!memory.is_repeat(ALICE, mark(&number.to_string(), "x")));
        }
        assert!(memory.is_repeat(ALICE, mark("1", "x")));
        assert!(!memory.is_repeat(ALICE, mark("0", "x")));
        assert_eq!(memory.count, MOST_PER_USER);
    }

    #[test]
    fn a_restart_remembers_what_the_journal_tells_and_forgets_what_is_old() {
        let now = Timestamp::from_millis(100 * 60 * 60 * 1000);
        let entry = |identity: &str| Mark::entry(Some(mark(identity, "x")), ALICE, 1);
        let old = Journal { first: 1, at: now.minus(LIFE), entries: vec![entry("old")] };
        let young = Journal { first: 2, at: now, entries: vec![entry("young"), Mark::entry(None, ALICE, 1)] };
        let mut memory = RepeatMemory::default();
        memory.restore(&old, now);
        memory.restore(&young, now);
        assert!(memory.is_repeat(ALICE, mark("young", "x")));
        assert!(!memory.is_repeat(ALICE, mark("old", "x")));
        memory.forget(&young);
        assert!(!memory.is_repeat(ALICE, mark("young", "x")));
    }
}
