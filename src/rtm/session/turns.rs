//! Whose turn it is, while callers wait for the bot's answers.
//!
//! The protocol names no message in an answer: an answer is taken to be to what was sent last. So a
//! message whose answer a caller waits for goes out only when no answer to an earlier one is owed any
//! more, and what comes after it waits until the caller has what it waited for, or doesn't wait any
//! longer. Where nobody waits, nothing is held up.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use crate::{
    events::Partner,
    messages::{ClientMessageId, MessageNumber},
};

/// An answer that did not come so long after the ack is owed no longer.
const OWED_FOR: Duration = Duration::from_secs(2);

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The messages whose answers callers wait for. Some of them are acked, and no longer queued.
    awaited: BTreeSet<MessageNumber>,
    /// The answer to what was sent last, where it is owed.
    latest: Option<Owed>,
    /// Until when answers to earlier ones are owed. They can't be told from answers to the latest.
    earlier_until: Option<Instant>,
    partner: Partner,
}

#[derive(Debug)]
struct Owed {
    to: ClientMessageId,
    until: Instant,
}

/// Whether a message may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Now,
    /// Not before then; sooner if what is owed comes.
    At(Instant),
    /// Not before something ends: a caller's wait, or a message before it.
    Later,
}

impl Turns {
    /// With the messages whose answers callers wait for already, until when an answer to the latest
    /// one is owed, and whom the user talks to.
    pub(super) fn new(
        awaited: BTreeSet<MessageNumber>,
        owed: Option<(ClientMessageId, Duration)>,
        partner: Partner,
        now: Instant,
    ) -> Self {
        let latest = owed
            .filter(|(_, passed)| *passed < OWED_FOR)
            .map(|(to, passed)| Owed { to, until: now + (OWED_FOR - passed) });
        Self { awaited, latest, partner, ..Self::default() }
    }

    /// A caller waits for the answer to this message.
    pub(super) fn begin(&mut self, number: MessageNumber) {
        self.awaited.insert(number);
    }

    /// No caller waits for it any more.
    pub(super) fn end(&mut self, number: MessageNumber) {
        self.awaited.remove(&number);
    }

    /// Whether that is news.
    pub(super) fn talks_to(&mut self, partner: Partner) -> bool {
        std::mem::replace(&mut self.partner, partner) != partner
    }

    /// A message was acked that has no answer yet; `is_latest` if nothing was sent after it.
    pub(super) fn acked(&mut self, id: ClientMessageId, is_latest: bool, now: Instant) {
        let until = now + OWED_FOR;
        if is_latest {
            self.retire_latest();
            self.latest = Some(Owed { to: id, until });
        } else {
            self.earlier_until = self.earlier_until.max(Some(until));
        }
    }

    /// A message goes out: from now on answers are taken to be to it.
    pub(super) fn sent(&mut self, id: ClientMessageId) {
        if self.latest.as_ref().is_some_and(|owed| owed.to != id) {
            self.retire_latest();
        }
    }

    fn retire_latest(&mut self) {
        if let Some(owed) = self.latest.take() {
            self.earlier_until = self.earlier_until.max(Some(owed.until));
        }
    }

    /// An answer to this message came. Says whether it was owed.
    pub(super) fn answered(&mut self, id: ClientMessageId) -> bool {
        self.latest.take_if(|owed| owed.to == id).is_some()
    }

    /// Whether this message may be sent for the first time, where `is_first` says that no earlier one
    /// is under way.
    pub(super) fn turn_of(&self, number: MessageNumber, is_first: bool, now: Instant) -> Turn {
        match self.awaited.first() {
            None => Turn::Now,
            Some(first) if *first > number => Turn::Now,
            Some(first) if *first < number || !is_first => Turn::Later,
            Some(_) => match self.owed_until().filter(|until| *until > now) {
                Some(until) => Turn::At(until),
                None => Turn::Now,
            },
        }
    }

    fn owed_until(&self) -> Option<Instant> {
        let latest = self.latest.as_ref().map(|owed| owed.until);
        latest.max(self.earlier_until).filter(|_| self.partner == Partner::Bot)
    }
}
