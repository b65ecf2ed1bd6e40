//! What of a history is known already, and what of it the bridge itself sent.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use super::{
    matching::{Pair, apart, apart_from, partners},
    record::{Direction, Record},
};
use crate::{
    clock::Timestamp,
    messages::{Arrival, MessageNumber, OwnMessage},
    ordered,
    rtm::token::Skew,
    store::{Said, Seen},
};

/// Records and live frames of the same text are one event if they are no further apart.
pub(super) const SAME_EVENT: Duration = Duration::from_secs(2);
/// A record of the same text is a message of ours if it is no further from its send.
const SAME_MESSAGE: Duration = Duration::from_secs(60);
/// How long it is remembered which events came.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// What is known when a history is read.
#[derive(Debug, Clone)]
pub struct Knowledge {
    /// What earlier recoveries have seen.
    pub seen: Seen,
    /// Of the records' ids, and the ids that their senders gave them, those that came before.
    pub ids: HashSet<String>,
    /// What was said by live events that have no such id.
    pub said: Vec<Said>,
    /// What the bridge may have sent itself.
    pub own: Vec<OwnMessage>,
    /// How far the platform's clock is ahead of ours.
    pub skew: Skew,
    /// What is older, by the platform's clock, is not recovered.
    pub horizon: Timestamp,
    /// Now, by the platform's clock.
    pub now: Timestamp,
}

/// What a record is to the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A message of ours, by its place in [`Knowledge::own`].
    Own(usize),
    /// It came before, or is from before our time.
    Known,
    /// It was missed, but is too old to be recovered.
    TooOld,
    /// It was missed.
    Missed,
}

impl Knowledge {
    /// What each record is. What is older than `settled` is known, but for the holes: between the newest
    /// records that are known and what was seen before, there is nothing that did not come.
    pub fn sort_out(&self, records: &[Record], settled: Option<Timestamp>) -> Vec<Standing> {
        let own = self.own_among(records);
        let is_id_known = |record: &Record| {
            let given = record.user_msg_id.as_ref().filter(|_| record.direction == Direction::Incoming);
            self.ids.contains(&record.id) || given.is_some_and(|id| self.ids.contains(id))
        };
        let open: Vec<usize> =
            (0..records.len()).filter(|&i| own[i].is_none() && !is_id_known(&records[i])).collect();
        let mut standings: Vec<_> =
            own.into_iter().map(|own| own.map_or(Standing::Known, Standing::Own)).collect();
        for (place, partner) in open.iter().zip(self.said_among(records, &open)) {
            if partner.is_none() {
                standings[*place] = self.by_age(records[*place].at, settled);
            }
        }
        standings
    }

    /// The messages of ours that are among these records.
    pub fn own_in(&self, records: &[Record]) -> BTreeSet<MessageNumber> {
        ordered::set(self.own_among(records).into_iter().flatten().map(|own| self.own[own].number))
    }

    /// Since when something may be unseen behind pages that are known.
    pub fn oldest_concern(&self) -> Option<Timestamp> {
        let hole = self.seen.holes.iter().find(|hole| hole.to >= self.horizon);
        hole.map(|hole| hole.from.max(self.horizon))
    }

    fn by_age(&self, at: Timestamp, settled: Option<Timestamp>) -> Standing {
        let is_in_hole = self.seen.has_hole_at(at);
        let is_settled = settled.is_some_and(|settled| at < settled) && !is_in_hole;
        // Nobody remembers whether it came; but the connection was there to bring it.
        let is_forgotten = self.now.since(at) >= REMEMBERED && at < self.seen.alive_at && !is_in_hole;
        if self.seen.covers(at) || is_settled || is_forgotten {
            Standing::Known
        } else if at >= self.horizon {
            Standing::Missed
        } else if at < self.seen.alive_at {
            Standing::Known
        } else {
            Standing::TooOld
        }
    }

    /// Which records are messages of ours: by the id that we gave them, else by text and time.
    fn own_among(&self, records: &[Record]) -> Vec<Option<usize>> {
        let sent = |message: &OwnMessage| {
            (self.skew.to_platform(message.sent.0), self.skew.to_platform(message.sent.1))
        };
        let mut own = vec![None; records.len()];
        let mut pairs = Vec::new();
        let incoming = records.iter().enumerate().filter(|(_, r)| r.direction == Direction::Incoming);
        for (place, record) in incoming {
            let candidates = self.own.iter().enumerate().filter(|(_, m)| record.is_sent_as(m.text));
            match &record.user_msg_id {
                Some(id) => {
                    let id = id.parse().ok();
                    own[place] = candidates.filter(|(_, m)| Some(m.id) == id).map(|(i, _)| i).next();
                }
                None => pairs.extend(candidates.filter_map(|(i, message)| {
                    let apart = apart_from(record.at, sent(message));
                    // The words of one that arrived are not taken for those of one that was lost.
                    let turn = u8::from(message.arrival != Arrival::Sure);
                    (apart <= SAME_MESSAGE).then(|| Pair::new(place, i, apart).in_turn(turn))
                })),
            }
        }
        // A send whose record is known by its id has no other one.
        let mut sends: Vec<u32> = self.own.iter().map(|message| message.sends).collect();
        own.iter().flatten().for_each(|message: &usize| sends[*message] = sends[*message].saturating_sub(1));
        let by_text = partners(records.len(), pairs, |message| sends[message]);
        own.into_iter().zip(by_text).map(|(by_id, by_text)| by_id.or(by_text)).collect()
    }

    /// Which of the `open` records came as live events without an id.
    fn said_among(&self, records: &[Record], open: &[usize]) -> Vec<Option<usize>> {
        let mut pairs = Vec::new();
        for (place, record) in open.iter().map(|&i| &records[i]).enumerate() {
            let said = record.said();
            for (i, known) in self.said.iter().enumerate() {
                let apart = apart(known.at, said.at);
                if known.text == said.text && apart <= SAME_EVENT {
                    pairs.push(Pair::new(place, i, apart));
                }
            }
        }
        partners(open.len(), pairs, |_| 1)
    }
}
