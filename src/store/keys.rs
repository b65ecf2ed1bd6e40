//! The keys of the store's one tree.
//!
//! The first byte says what kind of record it is; numbers follow big-endian, so that every queue is
//! a prefix scan from its head. **These numbers are on users' disks: never reuse or change one.**

use sled::IVec;

use super::{ClientNumber, UserNumber, WebhookNumber};
use crate::{
    messages::{ClientMessageId, Fingerprint, MessageNumber},
    template::TemplateId,
};

/// Kinds of records, by the first byte of their keys.
pub(super) mod kind {
    /// What the store knows of itself.
    pub const META: u8 = 0x01;
    /// A name's number.
    pub const NAME: u8 = 0x02;
    /// A user.
    pub const USER: u8 = 0x10;
    /// A webhook.
    pub const WEBHOOK: u8 = 0x11;
    /// The identity that was made for a user.
    pub const IDENTITY: u8 = 0x12;
    /// A message's status.
    pub const MESSAGE: u8 = 0x20;
    /// A message that is not final, with its content.
    pub const QUEUE: u8 = 0x21;
    /// The messages that one commit accepted.
    pub const ACCEPTED: u8 = 0x22;
    /// An idempotency key.
    pub const IDEMPOTENCY: u8 = 0x23;
    /// The trace that a message is a part of.
    pub const TRACE: u8 = 0x24;
    /// An event.
    pub const EVENT: u8 = 0x30;
    /// How far a lane is.
    pub const LANE: u8 = 0x31;
    /// The events that one commit stored.
    pub const JOURNAL: u8 = 0x32;
    /// What is remembered of a user's sessions with human agents.
    pub const AGENTS: u8 = 0x33;
    /// Behind which of a user's events streamed answers begin that are not assembled yet.
    pub const STREAMS: u8 = 0x34;
    /// A dead letter, without its frame.
    pub const DEAD: u8 = 0x40;
    /// A dead letter's frame.
    pub const DEAD_FRAME: u8 = 0x41;
    /// The failed attempts of an event at a webhook, while it isn't delivered.
    pub const HISTORY: u8 = 0x42;
    /// A dead letter that is to be delivered after all.
    pub const REPLAY: u8 = 0x43;
    /// A part of a template that bodies were made with.
    pub const TEMPLATE: u8 = 0x50;
}

/// What kind of thing a name names, in keys of [`kind::NAME`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Named {
    User = 1,
    Webhook = 2,
    Client = 3,
    Bot = 4,
}

/// How a key goes on behind its kind, if it ends with a number of eight bytes and all of its kind are equally long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbered {
    /// A user, and a number.
    PerUser,
    /// A number alone. A lane's is its webhook and its user.
    Alone,
}

/// How keys of a kind are numbered, if they are.
pub(super) fn numbered(kind: u8) -> Option<Numbered> {
    match kind {
        kind::MESSAGE | kind::QUEUE | kind::TRACE | kind::EVENT | kind::HISTORY => Some(Numbered::PerUser),
        kind::ACCEPTED | kind::LANE | kind::JOURNAL | kind::DEAD | kind::DEAD_FRAME => Some(Numbered::Alone),
        _ => None,
    }
}

fn join<const N: usize>(parts: [&[u8]; N]) -> IVec {
    // sled keeps up to 22 bytes in place: no allocation for any key but a name's.
    let mut key = [0u8; 64];
    let mut length = 0;
    for part in parts {
        key[length..length + part.len()].copy_from_slice(part);
        length += part.len();
    }
    IVec::from(&key[..length])
}

pub(super) fn meta(name: &str) -> IVec {
    join([&[kind::META], name.as_bytes()])
}

pub(super) fn name(what: Named, name: &str) -> IVec {
    let mut key = Vec::with_capacity(2 + name.len());
    key.extend([kind::NAME, what as u8]);
    key.extend(name.as_bytes());
    IVec::from(key)
}

pub(super) fn names(what: Named) -> IVec {
    join([&[kind::NAME, what as u8]])
}

pub(super) fn user(user: UserNumber) -> IVec {
    join([&[kind::USER], &user.0.to_be_bytes()])
}

pub(super) fn webhook(webhook: WebhookNumber) -> IVec {
    join([&[kind::WEBHOOK], &webhook.0.to_be_bytes()])
}

pub(super) fn identity(user: UserNumber) -> IVec {
    join([&[kind::IDENTITY], &user.0.to_be_bytes()])
}

pub(super) fn message(user: UserNumber, id: ClientMessageId) -> IVec {
    join([&[kind::MESSAGE], &user.0.to_be_bytes(), &id.get().to_be_bytes()])
}

pub(super) fn messages_of(user: UserNumber) -> IVec {
    join([&[kind::MESSAGE], &user.0.to_be_bytes()])
}

pub(super) fn queue(user: UserNumber, number: MessageNumber) -> IVec {
    join([&[kind::QUEUE], &user.0.to_be_bytes(), &number.0.to_be_bytes()])
}

pub(super) fn trace(user: UserNumber, id: ClientMessageId) -> IVec {
    join([&[kind::TRACE], &user.0.to_be_bytes(), &id.get().to_be_bytes()])
}

pub(super) fn accepted(first: MessageNumber) -> IVec {
    join([&[kind::ACCEPTED], &first.0.to_be_bytes()])
}

/// `client` 0 is for callers where no clients are configured; names are numbered from 1.
pub(super) fn idempotency(client: ClientNumber, user: UserNumber, key: Fingerprint) -> IVec {
    join([&[kind::IDEMPOTENCY], &client.0.to_be_bytes(), &user.0.to_be_bytes(), &key.0])
}

pub(super) fn event(user: UserNumber, number: u64) -> IVec {
    join([&[kind::EVENT], &user.0.to_be_bytes(), &number.to_be_bytes()])
}

pub(super) fn events_of(user: UserNumber) -> IVec {
    join([&[kind::EVENT], &user.0.to_be_bytes()])
}

pub(super) fn lane(webhook: WebhookNumber, user: UserNumber) -> IVec {
    join([&[kind::LANE], &webhook.0.to_be_bytes(), &user.0.to_be_bytes()])
}

pub(super) fn agents(user: UserNumber) -> IVec {
    join([&[kind::AGENTS], &user.0.to_be_bytes()])
}

pub(super) fn journal(first: u64) -> IVec {
    join([&[kind::JOURNAL], &first.to_be_bytes()])
}

pub(super) fn streams(user: UserNumber) -> IVec {
    join([&[kind::STREAMS], &user.0.to_be_bytes()])
}

pub(super) fn dead(number: u64) -> IVec {
    join([&[kind::DEAD], &number.to_be_bytes()])
}

pub(super) fn dead_frame(number: u64) -> IVec {
    join([&[kind::DEAD_FRAME], &number.to_be_bytes()])
}

/// `number` is that which the event has, or would have, as a dead letter of its webhook.
pub(super) fn history(user: UserNumber, number: u64) -> IVec {
    join([&[kind::HISTORY], &user.0.to_be_bytes(), &number.to_be_bytes()])
}

pub(super) fn replay(webhook: WebhookNumber, user: UserNumber, number: u64) -> IVec {
    join([&[kind::REPLAY], &webhook.0.to_be_bytes(), &user.0.to_be_bytes(), &number.to_be_bytes()])
}

/// The user's number in a key of [`kind::REPLAY`].
pub(super) fn user_of_replay(key: &[u8]) -> Option<UserNumber> {
    key.get(5..9)?.try_into().ok().map(u32::from_be_bytes).map(UserNumber)
}

pub(super) fn template(id: TemplateId, part: u8) -> IVec {
    join([&[kind::TEMPLATE], &id.0, &[part]])
}

pub(super) fn template_parts(id: TemplateId) -> IVec {
    join([&[kind::TEMPLATE], &id.0])
}

/// The big-endian number that a key ends with.
pub(super) fn trailing_u64(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The big-endian number after a key's first byte.
pub(super) fn leading_u32(key: &[u8]) -> Option<u32> {
    key.get(1..5)?.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn keys_order_as_their_numbers_do(user: u32, a: u64, b: u64) {
            let user = UserNumber(user);
            proptest::prop_assert_eq!(event(user, a).cmp(&event(user, b)), a.cmp(&b));
            proptest::prop_assert_eq!(trailing_u64(&event(user, a)), Some(a));
            proptest::prop_assert_eq!(leading_u32(&queue(user, MessageNumber(b))), Some(user.0));
            proptest::prop_assert!(event(user, a).starts_with(&events_of(user)));
            let queued = replay(WebhookNumber(7), user, a);
            proptest::prop_assert_eq!((user_of_replay(&queued), trailing_u64(&queued)), (Some(user), Some(a)));
        }
    }

    #[test]
    fn numbered_keys_are_as_long_as_is_said() {
        let (user, id, number) = (UserNumber(1), ClientMessageId::MAX, MessageNumber(3));
        for key in [message(user, id), queue(user, number), trace(user, id), event(user, 3), history(user, 3)]
        {
            assert_eq!((numbered(key[0]), key.len()), (Some(Numbered::PerUser), 13));
        }
        for key in [accepted(number), lane(WebhookNumber(1), user), journal(3), dead(3), dead_frame(3)] {
            assert_eq!((numbered(key[0]), key.len()), (Some(Numbered::Alone), 9));
        }
    }

    #[test]
    fn hot_keys_fit_in_place() {
        assert!(idempotency(ClientNumber(1), UserNumber(1), Fingerprint([0; 16])).len() <= 64);
        assert!(message(UserNumber(1), ClientMessageId::MAX).len() <= 22);
    }
}
