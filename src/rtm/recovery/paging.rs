//! Going back through a history page by page, until there is nothing older that matters.
//!
//! Nothing is assumed of a page but that it is older than the page before it: its order and its size are
//! the platform's, and new messages shift the pages while they are read.

use std::collections::{BTreeSet, HashSet};

use super::{
    known::{Knowledge, Standing},
    record::{More, Page, Record},
};
use crate::{clock::Timestamp, messages::MessageNumber};

/// How many records are asked for at once: what official clients ask for at most.
pub const PAGE: usize = 20;
/// So many records in a row that are known, with an event among them that came: what is older came, too, or was
/// noted to be in doubt before that one was stored. A page may be smaller.
const KNOWN_IN_A_ROW: usize = PAGE;
/// So many pages in a row that bring nothing new: the platform doesn't turn the pages.
const MOST_STALE: u32 = 5;
/// More bytes of records are not kept.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// What was missed, and how much of it at most.
    pub missed: Option<usize>,
    /// Messages of ours that may have arrived.
    pub look_up: BTreeSet<MessageNumber>,
    /// What is older, by the platform's clock, can't be one of them.
    pub look_up_from: Option<Timestamp>,
}

/// Why there are no more pages to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing older matters.
    Complete,
    /// More was missed than is recovered at once.
    TooMany,
    /// The platform shows the same page again and again.
    Stuck,
}

/// How a platform's pages are turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turning {
    /// By how many newer records there are.
    ByOffset,
    /// By the id of the oldest record at hand.
    ById,
}

/// Where the next page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Behind so many newer records.
    Offset(usize),
    /// Behind the record of this id.
    OlderThan(String),
}

/// What was read so far.
#[derive(Debug, Default)]
pub struct Gathered {
    records: Vec<Record>,
    ids: HashSet<String>,
    bytes: usize,
    offset: usize,
    stale: u32,
    known: Run,
    settled: Option<Timestamp>,
}

/// Records in a row that are known.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    records: usize,
    /// Whether an event that came is among them.
    came: bool,
}

impl Run {
    fn and(self, records: usize, came: bool) -> Self {
        Self { records: self.records + records, came: self.came || came }
    }
}

impl Gathered {
    /// How many newer records the next page is to leave out, where pages are turned by offset.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Where the next page begins, where pages are turned by id.
    pub fn next_by_id(&self) -> Next {
        match self.oldest() {
            // After a page without anything new the id may be none that the platform goes by; the number of
            // records is, as none is counted twice. In turns: meanwhile newer ones may have come.
            Some(oldest) if self.stale.is_multiple_of(2) => Next::OlderThan(oldest.id.clone()),
            _ => Next::Offset(self.records.len()),
        }
    }

    /// The records so far, each once.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// What is older than this is known, but for the holes.
    pub fn settled(&self) -> Option<Timestamp> {
        self.settled
    }

    /// Puts a page's records to the others. Answers with the place of the first new one.
    pub fn add(&mut self, page: Page, turning: Turning) -> Added {
        let new_from = self.records.len();
        let is_end = turning == Turning::ById && self.is_only_oldest(&page);
        self.offset += page.returned;
        for record in page.records {
            if self.ids.insert(record.id.clone()) {
                self.bytes += record.size();
                self.records.push(record);
            }
        }
        self.stale = if self.records.len() == new_from { self.stale + 1 } else { 0 };
        let is_last = page.more == More::No || page.returned == 0 || is_end;
        Added { new_from, more: if is_last { More::No } else { More::Perhaps } }
    }

    /// Whether a page has nothing in it but the record that it was asked by: there is none behind it.
    fn is_only_oldest(&self, page: &Page) -> bool {
        let oldest = self.oldest();
        page.returned == 1
            && page.records.iter().all(|record| oldest.is_some_and(|oldest| oldest.id == record.id))
    }

    fn oldest(&self) -> Option<&Record> {
        self.records.iter().min_by(|one, other| (one.at, &one.id).cmp(&(other.at, &other.id)))
    }

    /// Whether that was enough; none if another page is needed.
    pub fn is_enough(&mut self, added: Added, knowledge: &Knowledge, wanted: &Wanted) -> Option<End> {
        let standings = knowledge.sort_out(&self.records, self.settled);
        let missed = standings.iter().filter(|standing| **standing == Standing::Missed).count();
        if wanted.missed.is_some_and(|most| missed > most) || self.bytes > MOST_BYTES {
            return Some(End::TooMany);
        }
        if added.more == More::No {
            return Some(End::Complete);
        }
        let (new, standings) = (&self.records[added.new_from..], &standings[added.new_from..]);
        if new.is_empty() {
            return (self.stale >= MOST_STALE).then_some(End::Stuck);
        }
        let all_known = standings.iter().all(|standing| *standing != Standing::Missed);
        let all_seen = new.iter().all(|record| knowledge.seen.covers(record.at));
        let oldest = new.iter().map(|record| record.at).min();
        let newest = new.iter().map(|record| record.at).max().unwrap_or_default();
        // What we said ourselves proves of no event that it came.
        let came = standings.contains(&Standing::Known);
        self.known = if all_known { self.known.and(new.len(), came) } else { Run::default() };
        if (self.known.records >= KNOWN_IN_A_ROW && self.known.came) || all_seen {
            self.settled = self.settled.max(oldest);
        }
        let is_past_holes = knowledge.oldest_concern().is_none_or(|from| newest < from);
        let has_missed = wanted.missed.is_none() || (self.settled.is_some() && is_past_holes);
        (has_missed && self.has_looked_up(newest, knowledge, wanted)).then_some(End::Complete)
    }

    fn has_looked_up(&self, newest: Timestamp, knowledge: &Knowledge, wanted: &Wanted) -> bool {
        wanted.look_up.is_empty()
            || wanted.look_up_from.is_some_and(|from| newest < from)
            || wanted.look_up.is_subset(&knowledge.own_in(&self.records))
    }

    /// All that was read, sorted.
    pub fn into_sorted(mut self) -> Vec<Record> {
        self.records.sort_by(|one, other| (one.at, &one.id).cmp(&(other.at, &other.id)));
        self.records
    }
}

/// What a page brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added {
    new_from: usize,
    more: More,
}
