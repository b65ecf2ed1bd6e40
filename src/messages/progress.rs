//! What becomes of an accepted message: its session asks for it, and tells that it was sent, how it ended, and what
//! answered it.

use std::sync::Arc;

use super::{
    Certainty, ClientMessageId, MessageContent, MessageNumber, MessageRecord, MessageStatus, Messages,
    QueuedMessage, Verdict,
    queue::{Commit, Live, State},
};
use crate::{
    clock::Timestamp,
    events::EventId,
    store::{EncodedMessage, MessageEnd, StoreError, UserNumber},
};

/// For sessions.
impl Messages {
    /// The user's messages that are not final, in order: what a session starts with.
    pub fn pending(&self, user: UserNumber) -> Vec<QueuedMessage> {
        let state = self.shared.lock();
        let Some(queue) = state.users.get(&user) else { return Vec::new() };
        let durable = queue.live.iter().filter(|(_, live)| matches!(live.commit, Commit::Done));
        durable.map(|(number, live)| live.queued(*number)).collect()
    }

    /// What a waiting message says.
    pub fn content(&self, user: UserNumber, number: MessageNumber) -> Result<MessageContent, StoreError> {
        match self.shared.fresh.take(number) {
            Some(content) => Ok(content),
            None => self.shared.store.message_content(user, number),
        }
    }

    /// Its frame went out on an open socket.
    pub fn sent(&self, user: UserNumber, number: MessageNumber, at: Timestamp) {
        let mut state = self.shared.lock();
        let Some(queue) = state.users.get_mut(&user) else { return };
        let Some(live) = queue.live.get_mut(&number) else { return };
        live.record.status = MessageStatus::Sent;
        live.record.certainty = Certainty::Unknown;
        live.record.attempts = live.record.attempts.saturating_add(1);
        live.record.sent_at = Some(at);
        queue.last_sent = Some(live.id);
        // It may have the id of one that was forgotten.
        queue.told_enough = None;
        self.shared.store.save_message(user, live.id, &live.record);
        tracing::debug!(user = self.shared.name_of(user), clientMessageId = %live.id, attempt = live.record.attempts, traceId = self.shared.trace_id(user, live.id), "message sent");
    }

    /// It ended: `commit` brings that to stable storage, together with what else belongs to it. Being
    /// called twice for one message changes nothing the second time.
    pub fn finished(
        &self,
        user: UserNumber,
        number: MessageNumber,
        at: Timestamp,
        verdict: Verdict,
        commit: impl FnOnce(MessageEnd),
    ) {
        self.finished_with(user, number, at, verdict, |_, _| (), |end, _, ()| commit(end));
    }

    /// The same for a `commit` that has much to do: the messages of all users wait for it, but not for `prepare`,
    /// which is told first how the message ends. Should something happen to it meanwhile, it is told again.
    pub fn finished_with<P>(
        &self,
        user: UserNumber,
        number: MessageNumber,
        at: Timestamp,
        verdict: Verdict,
        prepare: impl Fn(ClientMessageId, &MessageRecord) -> P,
        commit: impl FnOnce(MessageEnd, &MessageRecord, P),
    ) {
        let shared = &self.shared;
        let mut seen = shared.lock().seen(user, number);
        while let Some((id, before)) = seen {
            let mut record = before.clone();
            verdict.clone().apply(&mut record, at);
            let (encoded, prepared) = (EncodedMessage::of(&record), prepare(id, &record));
            let mut state = shared.lock();
            let Some(Live { footprint, .. }) = state.end(user, number, &before) else {
                seen = state.seen(user, number);
                continue;
            };
            shared.fresh.take(number);
            shared.counters.ended(&verdict, &before, at);
            let on_durable = Box::new({
                let shared = Arc::clone(shared);
                move || drop(shared.lock().finishing.remove(&(user, id)))
            });
            commit(MessageEnd { user, id, footprint, record: encoded, on_durable }, &record, prepared);
            state.finishing.insert((user, id), record);
            drop(state);
            return shared.notify(user, id);
        }
    }

    /// The latest message of the user that was sent: what an event answers, as far as anyone knows.
    pub fn last_sent(&self, user: UserNumber) -> Option<ClientMessageId> {
        self.shared.lock().users.get(&user)?.last_sent
    }

    /// An event answers this message.
    pub fn replied(&self, user: UserNumber, id: ClientMessageId, event: EventId) {
        self.replied_with(user, id, [event]);
    }

    /// These events together answer this message.
    pub fn replied_with(
        &self,
        user: UserNumber,
        id: ClientMessageId,
        events: impl IntoIterator<Item = EventId>,
    ) {
        let mut state = self.shared.lock();
        if state.users.get(&user).is_some_and(|queue| queue.told_enough == Some(id)) {
            return;
        }
        match self.shared.find(&state, user, id) {
            Ok(Some(mut record)) => {
                let room = MessageRecord::MAX_REPLIES.saturating_sub(record.replies.len());
                if room > 0 {
                    record.replies.extend(events.into_iter().take(room));
                    self.shared.store.save_message(user, id, &record);
                    state.replace(user, id, record);
                } else {
                    state.users.entry(user).or_default().told_enough = Some(id);
                }
            }
            Ok(None) => state.users.entry(user).or_default().told_enough = Some(id),
            Err(error) => {
                tracing::warn!(user = self.shared.name_of(user), clientMessageId = %id, %error, "an answer could not be noted at its message");
            }
        }
        drop(state);
        self.shared.notify(user, id);
    }
}

impl Live {
    pub(super) fn queued(&self, number: MessageNumber) -> QueuedMessage {
        QueuedMessage {
            number,
            id: self.id,
            expectation: self.record.expectation,
            expires_at: self.expires_at,
            certainty: self.record.certainty,
        }
    }
}

impl State {
    /// A message that is not final, as it stands.
    fn seen(&self, user: UserNumber, number: MessageNumber) -> Option<(ClientMessageId, MessageRecord)> {
        let live = self.users.get(&user)?.live.get(&number)?;
        Some((live.id, live.record.clone()))
    }

    /// Takes a message out of those that are not final, if it is as it was then.
    fn end(&mut self, user: UserNumber, number: MessageNumber, then: &MessageRecord) -> Option<Live> {
        let queue = self.users.get_mut(&user)?;
        if queue.live.get(&number)?.record != *then {
            return None;
        }
        let live = queue.live.remove(&number)?;
        queue.by_id.remove(&live.id);
        Some(live)
    }

    /// Keeps memory in step with what was just saved.
    fn replace(&mut self, user: UserNumber, id: ClientMessageId, record: MessageRecord) {
        if let Some(finishing) = self.finishing.get_mut(&(user, id)) {
            *finishing = record;
        } else if let Some(queue) = self.users.get_mut(&user)
            && let Some(live) = queue.by_id.get(&id).and_then(|number| queue.live.get_mut(number))
        {
            live.record = record;
        }
    }
}
