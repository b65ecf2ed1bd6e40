//! What was missed: from the platform's history to events.
//!
//! ```text
//!  pages ──> paging ──> known: own, known, missed ──┐
//!            (enough?)                              ├──> merge ──> every event once, in order
//!  live frames, held back ──> likeness ─────────────┘
//! ```
//!
//! Nothing here has I/O or a clock but `fetch`, which reads the pages. All times are the platform's,
//! unless they are said to be ours.
//!
//! - `record`: a record, and the event it becomes. `likeness`: by what a live frame is recognised in the
//!   history. `known`: what is known of it already. `seen`: how far earlier recoveries saw.
//! - `paging`: when to stop. `merge`: one sequence of two. `matching`: who belongs to whom.
//! - `shortfall`: why not everything was recovered.

pub(super) mod fetch;
mod known;
mod likeness;
mod matching;
mod merge;
mod paging;
#[cfg(test)]
mod random_gaps;
mod record;
mod seen;
mod shortfall;
#[cfg(test)]
mod tests;

pub use known::{Knowledge, Standing};
pub use likeness::{Likeness, said};
pub use merge::Step;
pub use paging::{Added, End, Gathered, Next, PAGE, Turning, Wanted};
pub use record::{Direction, More, Page, Record};
pub use seen::Looked;
pub use shortfall::Shortfall;

use std::collections::BTreeSet;

use crate::{
    clock::Timestamp,
    messages::{Arrival, ClientMessageId, MessageNumber},
    store::Seen,
};

/// Why a history was read no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    /// There was no need to.
    Enough,
    /// There was more than is recovered at once.
    TooMany,
    /// Time was up.
    TimedOut,
    /// It could not be read.
    Failed,
}

/// What a look into the history brought.
#[derive(Debug)]
pub struct Conclusion {
    /// What was missed, oldest first.
    pub missed: Vec<Missed>,
    /// The messages of ours that are in the history.
    pub found: BTreeSet<MessageNumber>,
    /// What is seen now.
    pub seen: Seen,
    /// What it lacks, if anything.
    pub shortfall: Option<Shortfall>,
}

/// A record that was missed.
#[derive(Debug)]
pub struct Missed {
    /// The record.
    pub record: Record,
    /// The message of ours before it.
    pub in_reply_to: Option<ClientMessageId>,
}

/// Draws the conclusion from what was read. At most `most` of the missed records are kept, the newest.
/// `last_sent` is the latest message that was sent before the reading began.
pub fn conclude(
    gathered: Gathered,
    halt: Halt,
    knowledge: &Knowledge,
    most: usize,
    last_sent: Option<ClientMessageId>,
) -> Conclusion {
    let settled = gathered.settled();
    let records = gathered.into_sorted();
    let standings = knowledge.sort_out(&records, settled);
    let times = (records.first().map(|record| record.at), records.last().map(|record| record.at));
    let is_too_old = standings.contains(&Standing::TooOld);
    let (mut missed, mut found, mut latest) = (Vec::new(), BTreeSet::new(), None);
    for (record, standing) in records.into_iter().zip(standings) {
        match standing {
            Standing::Own(own) => {
                let own = &knowledge.own[own];
                // Nobody saw it go out: the words alone don't prove that it did.
                if record.user_msg_id.is_some() || own.arrival != Arrival::Untold {
                    found.insert(own.number);
                }
                latest = Some(own.id);
            }
            Standing::Missed => {
                let in_reply_to = latest.or(last_sent).filter(|_| record.direction == Direction::Outgoing);
                missed.push(Missed { record, in_reply_to });
            }
            Standing::Known | Standing::TooOld => {}
        }
    }
    let too_many = missed.len().saturating_sub(most);
    missed.drain(..too_many);
    let halt = if too_many > 0 { Halt::TooMany } else { halt };
    let oldest_kept = missed.first().map(|missed| missed.record.at).filter(|_| too_many > 0);
    let looked = match halt {
        Halt::Enough => Looked::Whole(times.1),
        Halt::TooMany | Halt::TimedOut | Halt::Failed => {
            Looked::From(oldest_kept.or(times.0).unwrap_or(knowledge.now))
        }
    };
    let seen = knowledge.seen.after(looked, knowledge.horizon);
    let shortfall = Shortfall::of(halt).or_else(|| is_too_old.then_some(Shortfall::TooOld));
    Conclusion { missed, found, seen, shortfall }
}

impl Conclusion {
    /// What was missed and what was held back, each once, in order.
    pub fn steps(&self, held: &[Likeness]) -> Vec<Step> {
        merge::merge(&self.missed, held)
    }

    /// The stretch in which something was missed, or may have been; `opened` is when the socket
    /// opened behind it. By the platform's clock.
    pub fn stretch(&self, before: &Seen, opened: Timestamp) -> (Timestamp, Timestamp) {
        let first = self.missed.first().map(|missed| missed.record.at);
        let hole = self.seen.holes.first().map(|hole| hole.from);
        let from = [first, hole].into_iter().flatten().fold(before.alive_at, Timestamp::min);
        let to = self.missed.last().map_or(opened, |missed| missed.record.at.max(opened));
        // Clocks are compared to the second: what was heard last may seem later than what was opened next.
        (from.min(to), to)
    }
}
