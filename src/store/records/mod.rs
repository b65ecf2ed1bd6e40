//! The records' encodings: a version byte, then [postcard](https://postcard.jamesmunns.com/wire-format),
//! then, for records with a body, the body's bytes as they are.
//!
//! **These forms are on users' disks.** A changed form gets a new version number and keeps reading
//! the old one; the snapshots in the tests make a change visible.

mod event;
mod lane;
mod letter;
mod message;
mod trace;
mod user;

pub(super) use event::{EventRecord, JournalRecord};
pub use event::{JournalEntry, LaneSlot, LaneSlots, Said, Wanted};
pub use lane::{Attempted, LaneRecord, Position, WebhookRecord};
pub use letter::{DeadLetter, DeadLetterId, InvalidDeadLetterId, ReplayMark};
pub(super) use message::{AcceptedEntry, AcceptedRecord, IdempotencyRecord, QueueRecord};
pub(super) use user::UserRecordV1;

use std::cell::Cell;

use serde::{Serialize, de::DeserializeOwned};
use sled::IVec;

use super::StoreError;

/// Where a record's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(super) enum BodyPlace {
    /// Behind the record.
    Inline,
    /// In a payload file.
    File,
}

/// Bodies above this are files: larger values leak disk space in sled (it never gives back the
/// space of leaves that held a mix of large and small values).
pub(super) const MAX_INLINE: usize = 4 * 1024;

impl BodyPlace {
    pub(super) const fn of(length: usize) -> Self {
        if length <= MAX_INLINE { Self::Inline } else { Self::File }
    }
}

pub(super) fn encode<T: Serialize>(version: u8, head: &T) -> Vec<u8> {
    encode_with(version, head, &[])
}

pub(super) fn encode_with<T: Serialize>(version: u8, head: &T, body: &[u8]) -> Vec<u8> {
    encode_into(Vec::with_capacity(64 + body.len()), version, head, body)
}

fn encode_into<T: Serialize>(mut out: Vec<u8>, version: u8, head: &T, body: &[u8]) -> Vec<u8> {
    out.push(version);
    let mut out = postcard::to_extend(head, out).expect("records are plain data, and a Vec takes all of it");
    out.extend_from_slice(body);
    out
}

thread_local! {
    /// What [`value`] puts records together in.
    static DRAFT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A thread keeps no more than this: nearly every record is shorter.
const MOST_DRAFT: usize = 2 * MAX_INLINE;

/// An encoding as a value of the store: one piece of memory, as long as it has to be.
pub(super) fn value<T: Serialize>(version: u8, head: &T, body: &[u8]) -> IVec {
    let mut draft = DRAFT.take();
    draft.clear();
    let draft = encode_into(draft, version, head, body);
    let value = IVec::from(&*draft);
    if draft.capacity() <= MOST_DRAFT {
        DRAFT.set(draft);
    }
    value
}

pub(super) fn decode<T: DeserializeOwned>(version: u8, what: &str, bytes: &[u8]) -> Result<T, StoreError> {
    decode_with(version, what, bytes).map(|(head, _)| head)
}

/// The record, and where its body starts.
pub(super) fn decode_with<T: DeserializeOwned>(
    version: u8,
    what: &str,
    bytes: &[u8],
) -> Result<(T, usize), StoreError> {
    match bytes.split_first() {
        Some((found, rest)) if *found == version => {
            let (head, body) = postcard::take_from_bytes(rest)
                .map_err(|error| StoreError::Unreadable(format!("a {what} record is damaged ({error})")))?;
            Ok((head, bytes.len() - body.len()))
        }
        Some((found, _)) => Err(StoreError::Unreadable(format!(
            "a {what} record has version {found}, which this program doesn't know"
        ))),
        None => Err(StoreError::Unreadable(format!("a {what} record is empty"))),
    }
}
