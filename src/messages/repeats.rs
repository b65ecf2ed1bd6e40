//! Messages that are dear to make: whether one would be taken is asked before, and a repeat of one is
//! recognised without making it again.

use std::sync::Arc;

use super::{AcceptError, Accepted, ClientMessageId, Draft, IdempotencyKey, Interest, Messages, ReplyTurn};
use crate::{
    store::{Standing, StoreError, UserNumber},
    users::User,
};

impl Messages {
    /// Whether a message is known under this id or this key. What then comes with it is a repeat or a
    /// mistake, but nothing new: [`Messages::repeat`].
    pub fn is_known(
        &self,
        user: UserNumber,
        id: Option<ClientMessageId>,
        key: Option<&IdempotencyKey>,
    ) -> Result<bool, StoreError> {
        let key = key.map(|key| self.shared.idempotency(key)).transpose()?;
        let state = self.shared.lock();
        let of_key = match key {
            Some(key) => self.shared.known_key(&state, user, key)?.map(|(id, _)| id),
            None => None,
        };
        for id in [of_key, id].into_iter().flatten() {
            if self.shared.find(&state, user, id)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What would refuse a message of this user now, whatever it says.
    pub fn would_take(&self, user: &User) -> Result<(), AcceptError> {
        let state = self.shared.lock();
        if user.is_removed() {
            return Err(AcceptError::UserRemoved);
        }
        let queued = state.users.get(&user.number).map_or(0, |queue| queue.live.len());
        if queued >= state.settings.max_queued {
            return Err(AcceptError::QueueFull { queued });
        }
        match &*self.shared.store.standing().borrow() {
            Standing::Writable => Ok(()),
            Standing::Full(why) | Standing::Unwritable(why) | Standing::Failed(why) => {
                Err(StoreError::Unavailable(why.clone()).into())
            }
        }
    }

    /// As [`Messages::accept`], or as [`Messages::accept_awaited`], but nothing new is accepted: none if the
    /// message was forgotten meanwhile. Only the draft's fingerprint counts.
    pub async fn repeat(
        &self,
        user: &Arc<User>,
        draft: &Draft,
        id: Option<ClientMessageId>,
        key: Option<IdempotencyKey>,
        interest: Interest,
    ) -> Result<Option<(Accepted, Option<ReplyTurn>)>, AcceptError> {
        let key = key.map(|key| self.shared.idempotency(&key)).transpose()?;
        let (decision, turn) = {
            let mut state = self.shared.lock();
            let state = &mut *state;
            let Some(decision) = self.shared.known(state, user.number, draft, id, key)? else {
                return Ok(None);
            };
            let turn = self.shared.turn_for(state, user, &decision, interest)?;
            (decision, turn)
        };
        Ok(Some((self.settle(user, decision).await?, turn)))
    }
}
