//! Dead letters: events that a webhook did not get; their replays; and the failed attempts of events
//! that may become dead letters.

use bytes::Bytes;
use sled::IVec;
use smallvec::smallvec;

use super::{
    DeadLetter, DeadLetterId, LaneRecord, ReplayMark, Store, StoreError, UserNumber, WebhookNumber,
    commit::{Done, Transaction, Write},
    keys,
    payload::PayloadId,
    records::{BodyPlace, decode},
};
use crate::letters::History;

/// Dead letters.
impl Store {
    /// Keeps a dead letter, and moves its lane past it, in one commit. A crash soon after may forget
    /// both, and the last attempt is repeated.
    pub fn add_dead_letter(&self, letter: &DeadLetter, frame: Bytes, lane: &LaneRecord) {
        let id = letter.id();
        let mut writes = smallvec![
            Self::put(keys::dead(id.0), DeadLetter::VERSION, letter),
            Self::put(keys::lane(letter.webhook, letter.user), LaneRecord::VERSION, lane),
        ];
        let new_payload = match BodyPlace::of(frame.len()) {
            BodyPlace::Inline => {
                writes.push(Write::Put(keys::dead_frame(id.0), IVec::from(&*frame)));
                None
            }
            BodyPlace::File => Some((PayloadId::DeadLetter(id.0), frame)),
        };
        // While the store fails or closes both are lost: the next start tries the event again.
        let _ = self.committer.submit(Transaction { writes, new_payload, ..Transaction::default() });
    }

    /// A dead letter.
    pub fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, StoreError> {
        let value = self.db.get(keys::dead(id.0))?;
        value.map(|value| decode(DeadLetter::VERSION, "dead letter", &value)).transpose()
    }

    /// A dead letter's frame.
    pub fn dead_letter_frame(&self, letter: &DeadLetter) -> Result<Bytes, StoreError> {
        let id = letter.id();
        match BodyPlace::of(letter.frame_length as usize) {
            BodyPlace::File => Ok(Bytes::from(self.payloads.read(PayloadId::DeadLetter(id.0))?)),
            BodyPlace::Inline => match self.db.get(keys::dead_frame(id.0))? {
                Some(frame) => Ok(Bytes::from_owner(frame)),
                None => Err(StoreError::Unreadable(format!("the frame of {id} is missing"))),
            },
        }
    }

    /// The dead letters after this one, oldest event first.
    pub fn dead_letters_after(
        &self,
        after: DeadLetterId,
    ) -> impl Iterator<Item = Result<DeadLetter, StoreError>> + '_ {
        let range = keys::dead(after.0.saturating_add(1))..=keys::dead(u64::MAX);
        self.db.range(range).map(read_letter)
    }

    /// The dead letters before this one, newest event first.
    pub fn dead_letters_before(
        &self,
        before: DeadLetterId,
    ) -> impl Iterator<Item = Result<DeadLetter, StoreError>> + '_ {
        self.db.range(keys::dead(0)..keys::dead(before.0)).rev().map(read_letter)
    }

    /// Forgets a dead letter with all that belongs to it. `done` runs on the commit thread.
    pub fn remove_dead_letter(
        &self,
        letter: &DeadLetter,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        let id = letter.id();
        let file = BodyPlace::of(letter.frame_length as usize) == BodyPlace::File;
        self.committer.submit(Transaction {
            writes: smallvec![
                Write::Remove(keys::dead(id.0)),
                Write::Remove(keys::dead_frame(id.0)),
                Write::Remove(keys::history(letter.user, id.0)),
                Write::Remove(keys::replay(letter.webhook, letter.user, id.0)),
            ],
            dropped_payload: file.then_some(PayloadId::DeadLetter(id.0)),
            done: Some(Done::told(done)),
            ..Transaction::default()
        })
    }

    /// Notes that a dead letter's replay was in vain: it is just a dead letter again.
    pub fn end_replay(
        &self,
        letter: &DeadLetter,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        let id = letter.id();
        let writes = smallvec![
            Self::put(keys::dead(id.0), DeadLetter::VERSION, letter),
            Write::Remove(keys::replay(letter.webhook, letter.user, id.0)),
        ];
        self.committer.submit(Transaction { writes, done: Some(Done::told(done)), ..Transaction::default() })
    }
}

/// Replays.
impl Store {
    /// Notes that a dead letter is to be delivered after all. `done` runs on the commit thread.
    pub fn mark_replay(
        &self,
        letter: &DeadLetter,
        mark: ReplayMark,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        let key = keys::replay(letter.webhook, letter.user, letter.id().0);
        let writes = smallvec![Self::put(key, ReplayMark::VERSION, &mark)];
        self.committer.submit(Transaction { writes, done: Some(Done::told(done)), ..Transaction::default() })
    }

    /// Keeps another version of a dead letter, handed over before what follows from it.
    pub fn save_dead_letter(&self, letter: &DeadLetter) {
        let write = Self::put(keys::dead(letter.id().0), DeadLetter::VERSION, letter);
        // While the store fails or closes this is lost, and so is what follows.
        let _ = self.committer.submit(Transaction { writes: smallvec![write], ..Transaction::default() });
    }

    /// Notes how far a replay is; a crash soon after may forget it.
    pub fn save_replay(&self, letter: &DeadLetter, mark: ReplayMark) {
        let key = keys::replay(letter.webhook, letter.user, letter.id().0);
        self.committer.defer(Self::put(key, ReplayMark::VERSION, &mark));
    }

    /// How far a dead letter's replay is, if one was asked for.
    pub fn replay_of(&self, letter: &DeadLetter) -> Result<Option<ReplayMark>, StoreError> {
        let key = keys::replay(letter.webhook, letter.user, letter.id().0);
        let value = match self.committer.deferred(&key) {
            Some(newer) => Some(newer),
            None => self.db.get(&key)?,
        };
        value.map(|value| decode(ReplayMark::VERSION, "replay", &value)).transpose()
    }

    /// The user's dead letters that are to be delivered after all, oldest event first.
    pub fn replays_of(
        &self,
        webhook: WebhookNumber,
        user: UserNumber,
    ) -> impl Iterator<Item = Result<DeadLetterId, StoreError>> + '_ {
        let range = keys::replay(webhook, user, 0)..=keys::replay(webhook, user, u64::MAX);
        self.db.range(range).keys().map(|key| id_of(&key?))
    }

    /// Users who have dead letters that are to be delivered after all.
    pub fn users_with_replays(
        &self,
        webhook: WebhookNumber,
    ) -> impl Iterator<Item = Result<UserNumber, StoreError>> + '_ {
        let damaged = || StoreError::Unreadable("a replay's key is damaged".to_owned());
        let last = keys::replay(webhook, UserNumber(u32::MAX), u64::MAX);
        let mut from = Some(keys::replay(webhook, UserNumber(0), 0));
        std::iter::from_fn(move || {
            // From each user's first straight on to the next user's.
            let first = match self.db.range(from.take()?..=last.clone()).keys().next()? {
                Ok(key) => key,
                Err(error) => return Some(Err(error)),
            };
            let user = keys::user_of_replay(&first).ok_or_else(damaged);
            from = user
                .as_ref()
                .ok()
                .and_then(|user| user.0.checked_add(1))
                .map(|next| keys::replay(webhook, UserNumber(next), 0));
            Some(user)
        })
    }
}

/// The failed attempts of events.
impl Store {
    /// The failed attempts of an event, or of a dead letter.
    pub fn history(&self, user: UserNumber, id: DeadLetterId) -> Result<History, StoreError> {
        let key = keys::history(user, id.0);
        let value = match self.committer.deferred(&key) {
            Some(newer) => Some(newer),
            None => self.db.get(&key)?,
        };
        let history = value.map(|value| decode(History::VERSION, "history", &value)).transpose()?;
        Ok(history.unwrap_or_default())
    }

    /// Remembers an event's failed attempts; a crash soon after may forget them.
    pub fn save_history(&self, user: UserNumber, id: DeadLetterId, history: &History) {
        self.committer.defer(Self::put(keys::history(user, id.0), History::VERSION, history));
    }

    /// Forgets an event's failed attempts; a crash soon after may bring them back.
    pub fn remove_history(&self, user: UserNumber, id: DeadLetterId) {
        self.committer.defer(Write::Remove(keys::history(user, id.0)));
    }

    /// Which events have failed attempts to remember, after this one, in order of user and event.
    pub fn histories_after(
        &self,
        after: Option<(UserNumber, DeadLetterId)>,
    ) -> impl Iterator<Item = Result<(UserNumber, DeadLetterId), StoreError>> + '_ {
        let from = match after {
            Some((user, id)) => keys::history(user, id.0.saturating_add(1)),
            None => keys::history(UserNumber(0), 0),
        };
        self.db.range(from..=keys::history(UserNumber(u32::MAX), u64::MAX)).keys().map(|key| {
            let key = key?;
            let damaged = || StoreError::Unreadable("a history's key is damaged".to_owned());
            Ok((UserNumber(keys::leading_u32(&key).ok_or_else(damaged)?), id_of(&key)?))
        })
    }
}

fn read_letter(entry: Result<(IVec, IVec), StoreError>) -> Result<DeadLetter, StoreError> {
    decode(DeadLetter::VERSION, "dead letter", &entry?.1)
}

fn id_of(key: &[u8]) -> Result<DeadLetterId, StoreError> {
    let damaged = || StoreError::Unreadable("a dead letter's key is damaged".to_owned());
    keys::trailing_u64(key).map(DeadLetterId).ok_or_else(damaged)
}
