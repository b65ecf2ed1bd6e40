//! Every record of a store, also of a damaged one: what can't be read is told and skipped.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sled::IVec;

use super::{
    Offline,
    kinds::{KINDS, Kind, Line},
};
use crate::store::database::Entries;

/// What a walk meets.
pub(super) enum Found {
    Record(Line),
    /// Something that can't be read, in words.
    Damage(String),
}

impl Offline {
    /// Goes through everything that an export carries, in order of keys.
    pub(super) fn walk<E>(&self, mut visit: impl FnMut(Found) -> Result<(), E>) -> Result<(), E> {
        for what in &self.damage {
            visit(Found::Damage(what.clone()))?;
        }
        for kind in KINDS {
            let mut records = self.db.scan_prefix([kind.byte]);
            loop {
                match next(&mut records) {
                    Ok(None) => break,
                    Ok(Some((key, _))) if !kind.is_carried(&key) => {}
                    Ok(Some((key, value))) => visit(self.read(kind, &key, &value))?,
                    Err(why) => {
                        // sled can't be asked to go on behind it.
                        visit(Found::Damage(format!("the rest of the {} records: {why}", kind.word)))?;
                        break;
                    }
                }
            }
        }
        for byte in (0..=u8::MAX).filter(|byte| KINDS.iter().all(|kind| kind.byte != *byte)) {
            if let Ok(Some(_)) | Err(_) = next(&mut self.db.scan_prefix([byte])) {
                visit(Found::Damage(format!("there are records of an unknown kind (0x{byte:02x})")))?;
            }
        }
        Ok(())
    }

    fn read(&self, kind: &Kind, key: &IVec, value: &IVec) -> Found {
        match kind.read(key, value, &self.payloads) {
            Ok(line) => Found::Record(line),
            Err(error) => Found::Damage(format!("{} record {}: {error}", kind.word, hex(key))),
        }
    }
}

/// sled 0.34 asserts its way through damaged files.
fn next(records: &mut Entries) -> Result<Option<(IVec, IVec)>, String> {
    match catch_unwind(AssertUnwindSafe(|| records.next())) {
        Ok(found) => found.transpose().map_err(|error| error.to_string()),
        Err(_) => Err("the database is damaged there".to_owned()),
    }
}

fn hex(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}
