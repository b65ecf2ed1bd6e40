//! Taking up where the last run left off.

use crate::{
    clock::Now,
    events::lanes::Lanes,
    store::{Store, StoreError, UserNumber, WebhookNumber, WebhookRecord},
    webhook::gate::Gate,
};

/// Takes up a user's lane where the last run left it.
pub(in crate::webhook) fn restore(
    store: &Store,
    lanes: &mut Lanes,
    webhook: WebhookNumber,
    user: UserNumber,
) -> Result<(), StoreError> {
    // A lane has a record from its first event on.
    let Some(mut record) = store.lane(webhook, user)? else { return Ok(()) };
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
