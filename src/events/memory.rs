//! What came before: recognising the repeat of a frame.
//!
//! A frame with an identity (a `messageId`, or a `user_message`'s `id`) whose bytes came before is a
//! repeat. Other bytes under the same identity (the chunks of a streamed answer), and frames without
//! one (typing), never are. What came through the platform's history has bytes of its own: a frame
//! with its identity is its repeat, whatever the bytes.
//!
//! For frames that the history knows by no identity, what they said and when is remembered beside it.
//!
//! The memory is bounded: 24 hours, the latest 1,000 identities of a user, and [`MOST`] in all.

use std::{collections::VecDeque, time::Duration};

use memchr::memrchr_iter;

use crate::{
    clock::Timestamp,
    messages::Fingerprint,
    store::{ByUser, Journal, JournalEntry, Said, UserNumber, Wanted},
};

/// How long a frame is remembered.
pub(super) const LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// How many frames of one user are remembered.
const MOST_PER_USER: usize = 1_000;
/// How many frames are remembered in all: 17 bytes each.
const MOST: usize = 500_000;
/// The content of what came through the history: any bytes are its repeat.
const ANY: u64 = 0;

/// A frame's mark: half a fingerprint of its identity, and half a fingerprint of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    identity: u64,
    content: u64,
}

impl Mark {
    /// The mark of a frame; `None` for one without an identity, which is never a repeat.
    pub(super) fn of(identity: Option<&str>, frame: &[u8]) -> Option<Self> {
        Some(Self { content: half(frame).max(1), ..Self::any(identity?) })
    }

    /// The mark of an event that has this identity, whatever the bytes.
    pub(super) fn any(identity: &str) -> Self {
        Self { identity: half(identity.as_bytes()).max(1), content: ANY }
    }

    /// What the journal says of the frame.
    pub(super) fn entry(mark: Option<Self>, user: UserNumber, size: usize) -> JournalEntry {
        let (identity, content) = mark.map_or((0, ANY), |mark| (mark.identity, mark.content));
        JournalEntry { user, size: size as u32, identity, content, said: None, wanted: Wanted::UNKNOWN }
    }

    fn is_same_as(self, other: Self) -> bool {
        let contents = [self.content, other.content];
        self.identity == other.identity && (self.content == other.content || contents.contains(&ANY))
    }

    /// A byte of its identity.
    fn tag(self) -> u8 {
        self.identity as u8
    }

    fn from_entry(entry: &JournalEntry) -> Option<Self> {
        (entry.identity != 0).then_some(Self { identity: entry.identity, content: entry.content })
    }
}

fn half(bytes: &[u8]) -> u64 {
    let Fingerprint(full) = Fingerprint::of(bytes);
    u64::from_be_bytes([full[0], full[1], full[2], full[3], full[4], full[5], full[6], full[7]])
}

/// What was said, told by who said it, its text and its time. White space around the text doesn't
/// count.
impl Said {
    /// By the bot, or an agent.
    pub fn by_bot(text: &str, at: Timestamp) -> Self {
        Self { text: half(format!("bot {}", text.trim()).as_bytes()), at }
    }

    /// By the user.
    pub fn by_user(text: &str, at: Timestamp) -> Self {
        Self { text: half(format!("user {}", text.trim()).as_bytes()), at }
    }
}

/// The frames of all users that came before.
#[derive(Debug, Default)]
pub(super) struct RepeatMemory {
    users: ByUser<Remembered>,
    count: usize,
}

/// What is remembered of one user.
#[derive(Debug, Default)]
struct Remembered {
    marks: Marks,
    said: VecDeque<Said>,
}

/// The marks of one user, the oldest first.
#[derive(Debug, Default)]
struct Marks {
    marks: VecDeque<Mark>,
    /// Their tags, which are looked through first: every event is looked for, and few are found.
    tags: VecDeque<u8>,
}

impl Marks {
    fn have(&self, mark: Mark) -> bool {
        let (older, newer) = self.tags.as_slices();
        let newer = memrchr_iter(mark.tag(), newer).map(|at| older.len() + at);
        // Repeats come soon after what they repeat.
        newer.chain(memrchr_iter(mark.tag(), older)).any(|at| self.marks[at].is_same_as(mark))
    }

    /// As [`push_bounded`].
    fn push(&mut self, mark: Mark) -> usize {
        push_bounded(&mut self.tags, mark.tag());
        push_bounded(&mut self.marks, mark)
    }

    /// As [`pop_if_oldest`].
    fn pop_if_oldest(&mut self, expected: Mark) -> usize {
        let fewer = pop_if_oldest(&mut self.marks, expected);
        self.tags.drain(..fewer);
        fewer
    }
}

impl RepeatMemory {
    /// Whether this frame came before; if not, it is remembered.
    pub(super) fn is_repeat(&mut self, user: UserNumber, mark: Mark) -> bool {
        let remembered = &mut self.users.entry(user).or_default().marks;
        let is_repeat = remembered.have(mark);
        if !is_repeat {
            self.count += remembered.push(mark);
        }
        is_repeat
    }

    /// Whether anything of this identity came before.
    pub(super) fn knows(&self, user: UserNumber, identity: &str) -> bool {
        self.users.get(&user).is_some_and(|remembered| remembered.marks.have(Mark::any(identity)))
    }

    /// Remembers what a frame said that has no other identity.
    pub(super) fn push_said(&mut self, user: UserNumber, said: Said) {
        let remembered = &mut self.users.entry(user).or_default().said;
        self.count += push_bounded(remembered, said);
    }

    /// What was said by frames that had no other identity, oldest first.
    pub(super) fn said(&self, user: UserNumber) -> Vec<Said> {
        self.users.get(&user).map_or_else(Vec::new, |remembered| remembered.said.iter().copied().collect())
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
            if let Some(said) = entry.said {
                self.push_said(entry.user, said);
            }
        }
    }

    /// Forgets what a journal remembers; the oldest journal goes first.
    pub(super) fn forget(&mut self, journal: &Journal) {
        for entry in &journal.entries {
            let Some(remembered) = self.users.get_mut(&entry.user) else { continue };
            if let Some(mark) = Mark::from_entry(entry) {
                self.count -= remembered.marks.pop_if_oldest(mark);
            }
            if let Some(said) = entry.said {
                self.count -= pop_if_oldest(&mut remembered.said, said);
            }
            if remembered.marks.tags.is_empty() && remembered.said.is_empty() {
                self.users.remove(&entry.user);
            }
        }
    }

    fn push(&mut self, user: UserNumber, mark: Mark) {
        self.count += self.users.entry(user).or_default().marks.push(mark);
    }
}

/// Adds an entry, and drops the oldest if there are too many of one user. Answers by how many there
/// are more.
fn push_bounded<T>(entries: &mut VecDeque<T>, new: T) -> usize {
    entries.push_back(new);
    if entries.len() <= MOST_PER_USER {
        return 1;
    }
    entries.pop_front();
    0
}

/// Drops the oldest entry if it is this one. Answers by how many there are fewer.
fn pop_if_oldest<T: PartialEq>(entries: &mut VecDeque<T>, expected: T) -> usize {
    if entries.front() != Some(&expected) {
        return 0;
    }
    entries.pop_front();
    1
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
    fn what_came_through_the_history_is_repeated_by_any_bytes_of_its_identity_and_the_other_way_round() {
        let mut memory = RepeatMemory::default();
        assert!(!memory.is_repeat(ALICE, Mark::any("ms-1")));
        assert!(memory.is_repeat(ALICE, mark("ms-1", "as it came late")));
        assert!(!memory.is_repeat(ALICE, mark("ms-2", "live")));
        assert!(memory.is_repeat(ALICE, Mark::any("ms-2")));
        assert!(memory.knows(ALICE, "ms-1") && memory.knows(ALICE, "ms-2"));
        assert!(!memory.knows(ALICE, "ms-3") && !memory.knows(BOB, "ms-1"));
        let entry = Mark::entry(Some(Mark::any("ms-1")), ALICE, 1);
        let mut after_a_restart = RepeatMemory::default();
        let now = Timestamp::from_millis(1);
        after_a_restart.restore(&Journal { first: 1, at: now, entries: vec![entry] }, now);
        assert!(after_a_restart.is_repeat(ALICE, mark("ms-1", "as it came late")));
    }

    #[test]
    fn what_was_said_is_remembered_over_a_restart_and_forgotten_with_its_journal() {
        let now = Timestamp::from_millis(5);
        let said = Said::by_bot(" Hi.\n", now);
        assert_eq!(said, Said::by_bot("Hi.", now));
        assert_ne!(said, Said::by_user("Hi.", now));
        let entry = JournalEntry { said: Some(said), ..Mark::entry(None, ALICE, 1) };
        let journal = Journal { first: 1, at: now, entries: vec![entry] };
        let mut memory = RepeatMemory::default();
        memory.restore(&journal, now);
        assert_eq!((memory.said(ALICE), memory.said(BOB), memory.count), (vec![said], vec![], 1));
        memory.forget(&journal);
        assert_eq!((memory.said(ALICE), memory.count), (vec![], 0));
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
