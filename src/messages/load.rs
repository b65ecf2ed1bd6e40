//! Taking the queue up where the last run left it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use super::{
    Certainty, ClientMessageId, MessageCounters, MessageNumber, Messages,
    fresh::Fresh,
    queue::{Commit, Live, Shared, State, UserQueue},
    retention::Retention,
    turns::Turns,
};
use crate::{
    config, ordered,
    store::{ByUser, LastRun, Store, StoreError, UserNumber},
};

impl Messages {
    /// Reads what the store holds.
    pub fn load(
        store: Arc<Store>,
        settings: config::Messages,
        kept: &config::Store,
    ) -> Result<Self, StoreError> {
        let mut users: ByUser<UserQueue> = ByUser::default();
        for queued in store.queued_messages() {
            let queued = queued?;
            let Some(record) = store.message(queued.user, queued.id)? else {
                return Err(StoreError::Unreadable(format!("message {} has no status", queued.id)));
            };
            let live = Live {
                id: queued.id,
                expires_at: queued.expires_at,
                record,
                footprint: queued.footprint,
                key: None,
                commit: Commit::Done,
            };
            let user = users.entry(queued.user).or_default();
            user.by_id.insert(queued.id, queued.number);
            user.live.insert(queued.number, live);
        }
        if store.last_run() == LastRun::Cut {
            for user in users.values_mut() {
                distrust(user);
            }
        }
        let (retention, last_final) = load_journal(&store, kept, &mut users)?;
        let next_number = retention.next_number();
        restore_last_sent(&store, &mut users, &last_final)?;
        let state = State {
            settings,
            next_number,
            users,
            finishing: HashMap::new(),
            retention,
            turns: Turns::default(),
        };
        let shared = Shared {
            store,
            counters: MessageCounters::default(),
            fresh: Fresh::default(),
            state: Mutex::new(state),
            watchers: Mutex::default(),
        };
        let messages = Self { shared: Arc::new(shared) };
        messages.shared.forget_old();
        Ok(messages)
    }

    /// A user's messages that are not final, in order; also those that are still being committed.
    pub fn unfinished_of(&self, user: UserNumber) -> Vec<MessageNumber> {
        let state = self.shared.lock();
        state.users.get(&user).map(|queue| queue.live.keys().copied().collect()).unwrap_or_default()
    }

    /// The users with messages that are not final, and those messages in order.
    pub fn unfinished(&self) -> BTreeMap<UserNumber, Vec<MessageNumber>> {
        let state = self.shared.lock();
        let users = state.users.iter().filter(|(_, queue)| !queue.live.is_empty());
        ordered::map(users.map(|(user, queue)| (*user, queue.live.keys().copied().collect())))
    }
}

/// After a kill, what happened just before it may not have been written down, neither sends nor ends:
/// whatever still waits may have reached the bot.
fn distrust(user: &mut UserQueue) {
    for live in user.live.values_mut() {
        if live.record.certainty == Certainty::None {
            live.record.certainty = Certainty::Unknown;
        }
    }
}

/// Reads the journal of accepted messages: the greatest chosen ids, what may be forgotten when, and
/// each user's last message that is final.
fn load_journal(
    store: &Store,
    kept: &config::Store,
    users: &mut ByUser<UserQueue>,
) -> Result<(Retention, HashMap<UserNumber, ClientMessageId>), StoreError> {
    let mut retention = Retention::new(kept, store.chosen_up_to()?);
    let mut last_final = HashMap::new();
    for journal in store.accepted_after(MessageNumber(0)) {
        let journal = journal?;
        for message in &journal.messages {
            let user = users.entry(message.user).or_default();
            if message.generated {
                user.chosen_up_to = user.chosen_up_to.max(message.id.get());
            }
            if !user.by_id.contains_key(&message.id) {
                last_final.insert(message.user, message.id);
            }
        }
        retention.accepted(journal.first, journal.messages.len());
    }
    Ok((retention, last_final))
}

/// Finds each user's latest message that was sent: one that waits for its ack, else the last final one.
fn restore_last_sent(
    store: &Store,
    users: &mut ByUser<UserQueue>,
    last_final: &HashMap<UserNumber, ClientMessageId>,
) -> Result<(), StoreError> {
    for (number, user) in users {
        let unacked = user.live.values().rev().find(|live| live.record.sent_at.is_some());
        user.last_sent = unacked.map(|live| live.id);
        if user.last_sent.is_none()
            && let Some(id) = last_final.get(number)
            && store.message(*number, *id)?.is_some_and(|record| record.sent_at.is_some())
        {
            user.last_sent = Some(*id);
        }
    }
    Ok(())
}
