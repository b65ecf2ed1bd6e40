//! Taking up where the last run left off.

use crate::{
    clock::Now,
    config::{self, BodyFormat},
    events::lanes::Lanes,
    store::{Attempted, LaneRecord, Store, StoreError, UserNumber, WebhookNumber, WebhookRecord},
    webhook::gate::Gate,
};

/// A change of the body's format since the last run.
#[derive(Debug, Clone, Copy)]
pub(in crate::webhook) struct FormatChange {
    /// What it was.
    before: BodyFormat,
    /// How many events of a lane may have been under way when the last run ended.
    under_way: usize,
}

impl FormatChange {
    /// What changed since the last run, if anything did.
    pub(super) fn since_last_run(record: &WebhookRecord, settings: &config::Webhook) -> Option<Self> {
        let before = record.format.filter(|before| *before != settings.format)?;
        Some(Self { before, under_way: if settings.ordered { 1 } else { settings.max_in_flight } })
    }

    /// Gives the old format to what may have been posted in it without a record of that: the first
    /// attempt of an event leaves one only when it is over.
    fn pin(
        self,
        store: &Store,
        webhook: WebhookNumber,
        user: UserNumber,
        lane: &mut LaneRecord,
    ) -> Result<(), StoreError> {
        let mut looked_at = 0;
        for event in store.events_after(user, lane.done.event) {
            let event = event?;
            let is_wanted = event.slots.iter().any(|slot| slot.webhook == webhook && slot.wanted);
            if !is_wanted || lane.done_ahead.iter().any(|ahead| ahead.event == event.number) {
                continue;
            }
            if !lane.attempted.iter().any(|tried| tried.event == event.number) {
                let (event, format) = (event.number, self.before);
                lane.attempted.push(Attempted { event, attempts: 0, format, last_status: None });
            }
            looked_at += 1;
            if looked_at == self.under_way {
                break;
            }
        }
        // Handed over before the record of the new format: it can't be lost without that one.
        store.save_lane(webhook, user, lane);
        Ok(())
    }
}

/// Takes up a user's lane where the last run left it.
pub(in crate::webhook) fn restore(
    store: &Store,
    lanes: &mut Lanes,
    webhook: WebhookNumber,
    user: UserNumber,
    change: Option<FormatChange>,
) -> Result<(), StoreError> {
    // A lane has a record from its first event on.
    let Some(mut record) = store.lane(webhook, user)? else { return Ok(()) };
    if let Some(change) = change {
        change.pin(store, webhook, user, &mut record)?;
    }
    let (mut newest, mut given) = (0, None);
    for event in store.slots_from_newest(user) {
        let (number, slots) = event?;
        newest = newest.max(number);
        given = slots.iter().find(|slot| slot.webhook == webhook).map(|slot| slot.sequence);
        if given.is_some() || number <= record.done.event {
            break;
        }
    }
    let is_finished = given.is_none() && record.done_ahead.is_empty();
    if is_finished && newest > record.done.event {
        // Nothing newer is for this lane: the next start need not look again.
        record.done.event = newest;
        store.save_lane(webhook, user, &record);
    }
    lanes.restore(user, record, given.unwrap_or_default(), newest);
    Ok(())
}

/// Takes up a hold or a disabling that lasts.
pub(super) fn restore_gate(
    store: &Store,
    gate: &mut Gate,
    webhook: WebhookNumber,
) -> Result<WebhookRecord, StoreError> {
    let record = store.webhook(webhook)?;
    let now = Now::read();
    if let Some(since) = record.disabled_since {
        gate.disable(since);
    }
    if let Some(until) = record.held_until
        && until > now.wall
    {
        gate.hold(now.wall, now.mono + until.since(now.wall));
    }
    Ok(record)
}
