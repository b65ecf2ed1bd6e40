//! Reads everything, and says what is there and what is not as it should be.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Damages, Offline, OfflineError, kinds::Line, walk::Found};
use crate::{
    config,
    messages::ClientMessageId,
    store::{UserNumber, keys, payload::PayloadFile, record_of},
};

/// What a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// How many records there are of each kind.
    pub records: BTreeMap<String, u64>,
    /// How many payload files.
    pub payload_files: u64,
    /// Payload files without a record: the next start removes them.
    pub orphans: u64,
    /// What is damaged.
    pub damages: Damages,
}

/// Reads every record and every payload file of a store. `progress` is told how many records were read so far.
///
/// # Errors
/// The store doesn't open at all, or is in use.
pub fn verify(settings: &config::Store, progress: &mut dyn FnMut(u64)) -> Result<Verified, OfflineError> {
    let store = Offline::open(settings)?;
    let mut verified =
        Verified { records: BTreeMap::new(), payload_files: 0, orphans: 0, damages: Damages::default() };
    let mut read = 0;
    store.walk(|found| {
        match found {
            Found::Record(line) => {
                if let Some(damage) = store.misses(&line)? {
                    verified.damages.add(damage);
                }
                *verified.records.entry(line.kind).or_default() += 1;
                read += 1;
                progress(read);
            }
            Found::Damage(what) => verified.damages.add(what),
        }
        Ok::<(), OfflineError>(())
    })?;
    for file in store.payloads.files()? {
        verified.payload_files += 1;
        let has_record = match file {
            PayloadFile::Whole(id) => store.has(&record_of(id))?,
            PayloadFile::Unfinished(_) => false,
        };
        verified.orphans += u64::from(!has_record);
    }
    Ok(verified)
}

impl Offline {
    /// What a record needs and doesn't have.
    fn misses(&self, line: &Line) -> Result<Option<String>, OfflineError> {
        let number = |of: &Value, name: &str| of.get(name).and_then(Value::as_u64);
        let key = Value::Object(line.key.clone());
        let user = number(&key, "user").and_then(|user| u32::try_from(user).ok()).map(UserNumber);
        match (&*line.kind, user, number(&line.fields, "id")) {
            ("queue", Some(user), Some(id)) => {
                let Ok(id) = ClientMessageId::new(id) else {
                    return Ok(Some(format!("a waiting message has the id {id}, which none can have")));
                };
                let has_status = self.has(&keys::message(user, id))?;
                Ok((!has_status)
                    .then(|| format!("the waiting message {id} of user number {} has no status", user.0)))
            }
            _ => Ok(None),
        }
    }

    fn has(&self, key: &[u8]) -> Result<bool, OfflineError> {
        Ok(self.db.contains_key(key)?)
    }
}
