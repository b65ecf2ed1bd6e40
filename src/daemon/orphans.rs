//! Messages of users who are no longer configured: they can't be sent, and end at the start, or at the
//! reload that takes their user out.

use std::sync::Arc;

use crate::{
    clock::Timestamp,
    events::Events,
    messages::{FinalReason, MessageNumber, Messages, Verdict},
    store::{Store, StoreError, UserNumber, WebhookNumber},
    users::User,
};

/// One removed user's messages.
pub(super) struct Orphans {
    owner: UserNumber,
    messages: Vec<MessageNumber>,
    former: Option<FormerUser>,
}

/// Who a removed user was, as far as its newest event tells.
pub(super) struct FormerUser {
    pub(super) user: Arc<User>,
    /// The webhooks it had.
    pub(super) webhooks: Vec<WebhookNumber>,
}

impl Orphans {
    /// Those of every user that has messages and is not configured.
    pub(super) fn load(
        store: &Store,
        messages: &Messages,
        configured: &[UserNumber],
    ) -> Result<Vec<Self>, StoreError> {
        let mut orphans = Vec::new();
        for (owner, messages) in messages.unfinished() {
            if !configured.contains(&owner) {
                orphans.push(Self { owner, messages, former: FormerUser::load(store, owner)? });
            }
        }
        Ok(orphans)
    }

    /// Who they belonged to, if that is known: its webhooks are told how they ended.
    pub(super) fn former_user(&self) -> Option<&FormerUser> {
        self.former.as_ref()
    }

    /// Ends them.
    pub(super) async fn expire(self, store: &Store, messages: &Messages, events: &Events) {
        let now = Timestamp::now();
        for number in self.messages {
            let verdict = Verdict::Expired(FinalReason::UserRemoved);
            match &self.former {
                Some(FormerUser { user, .. }) => events.message_ended(user, number, now, verdict).await,
                None => messages.finished(self.owner, number, now, verdict, |end| store.finish_message(end)),
            }
        }
    }
}

/// Ends the messages of a user that was just taken out of the configuration, and is still known to its
/// webhooks.
pub(super) async fn expire_messages(user: &Arc<User>, messages: &Messages, events: &Events) {
    let now = Timestamp::now();
    for number in messages.unfinished_of(user.number) {
        let verdict = Verdict::Expired(FinalReason::UserRemoved);
        events.message_ended(user, number, now, verdict).await;
    }
}

impl FormerUser {
    fn load(store: &Store, number: UserNumber) -> Result<Option<Self>, StoreError> {
        let Some(newest) = store.slots_from_newest(number).next() else { return Ok(None) };
        let (newest, slots) = newest?;
        let Some(event) = store.event(number, newest)? else { return Ok(None) };
        let bot = store.bot_name(event.bot)?;
        let user = Arc::new(User::new(store.user_name(number)?, number, bot, Timestamp::now()));
        Ok(Some(Self { user, webhooks: slots.into_iter().map(|slot| slot.webhook).collect() }))
    }
}
