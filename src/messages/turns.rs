//! Callers that wait for the bot's answer to a message, and thereby for its turn: what comes after it
//! is not sent before they have what they wait for, or wait no longer.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use super::{
    ClientMessageId, MessageNumber, Messages,
    queue::{Commit, Shared, State},
};
use crate::{
    clock::Timestamp,
    ordered,
    store::{StoreError, UserNumber},
    users::{Command, User},
};

/// How many callers wait for the answer to which message.
#[derive(Debug, Default)]
pub(super) struct Turns(HashMap<UserNumber, BTreeMap<MessageNumber, usize>>);

impl Turns {
    /// Counts a caller; says whether it is the message's first.
    fn begin(&mut self, user: UserNumber, number: MessageNumber) -> bool {
        let callers = self.0.entry(user).or_default().entry(number).or_default();
        *callers += 1;
        *callers == 1
    }

    /// Counts a caller out; says whether it was the message's last.
    fn end(&mut self, user: UserNumber, number: MessageNumber) -> bool {
        let Some(of_user) = self.0.get_mut(&user) else { return false };
        let Some(callers) = of_user.get_mut(&number) else { return false };
        *callers -= 1;
        if *callers > 0 {
            return false;
        }
        of_user.remove(&number);
        if of_user.is_empty() {
            self.0.remove(&user);
        }
        true
    }

    /// Whether anyone waits for the answer to this message.
    pub(super) fn has(&self, user: UserNumber, number: MessageNumber) -> bool {
        self.0.get(&user).is_some_and(|of_user| of_user.contains_key(&number))
    }
}

/// A caller's wait for the answer to a message. While there is one, the user's later messages are not
/// sent; dropping the last one lets them go.
pub struct ReplyTurn {
    shared: Arc<Shared>,
    user: Arc<User>,
    number: MessageNumber,
}

impl fmt::Debug for ReplyTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyTurn")
            .field("user", &self.user.name)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Drop for ReplyTurn {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.turns.end(self.user.number, self.number) {
            // With the lock held: the session learns of turns in the order in which they come and go.
            self.user.mailbox.post(Command::EndTurn(self.number));
        }
    }
}

impl Shared {
    /// A caller begins to wait for the answer to this message. None if no answer can come any more:
    /// it has one, or ended without, or others were sent after it.
    pub(super) fn begin_turn(
        self: &Arc<Self>,
        state: &mut State,
        user: &Arc<User>,
        id: ClientMessageId,
    ) -> Result<Option<ReplyTurn>, StoreError> {
        let queue = state.users.get(&user.number);
        let live = queue.and_then(|queue| queue.live.get(queue.by_id.get(&id)?));
        let is_committed = live.is_none_or(|live| matches!(live.commit, Commit::Done));
        let may_be_answered = live.is_some() || queue.is_some_and(|queue| queue.last_sent == Some(id));
        let record = if may_be_answered { self.find(state, user.number, id)? } else { None };
        let Some(record) = record.filter(|record| record.replies.is_empty()) else { return Ok(None) };
        let turn = ReplyTurn { shared: Arc::clone(self), user: Arc::clone(user), number: record.number };
        // What is being committed is announced with its commit.
        if state.turns.begin(user.number, record.number) && is_committed {
            user.mailbox.post(Command::BeginTurn(record.number));
        }
        Ok(Some(turn))
    }
}

/// For sessions.
impl Messages {
    /// The messages of the user whose answers callers wait for.
    pub fn awaited(&self, user: UserNumber) -> BTreeSet<MessageNumber> {
        let state = self.shared.lock();
        state.turns.0.get(&user).map(|of_user| ordered::set(of_user.keys().copied())).unwrap_or_default()
    }

    /// How long ago the user's latest message was acked, if it was and has no answer yet.
    pub fn unanswered_for(&self, user: UserNumber, now: Timestamp) -> Option<Duration> {
        let record = self.find(user, self.last_sent(user)?).ok()??;
        record.acked_at.filter(|_| record.replies.is_empty()).map(|acked| now.since(acked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_lasts_from_its_first_caller_to_its_last() {
        let (mut turns, user, other) = (Turns::default(), UserNumber(1), UserNumber(2));
        let (first, second) = (MessageNumber(1), MessageNumber(2));
        assert!(turns.begin(user, first));
        assert!(!turns.begin(user, first));
        assert!(turns.begin(user, second));
        assert!(turns.begin(other, first));
        assert!(!turns.end(user, first));
        assert!(turns.has(user, first) && !turns.has(other, second));
        assert!(turns.end(user, first));
        assert!(!turns.end(user, first), "an end too many changes nothing");
        assert!(turns.end(user, second) && turns.end(other, first));
        assert!(turns.0.is_empty(), "nothing is kept for users nobody waits for");
    }
}
