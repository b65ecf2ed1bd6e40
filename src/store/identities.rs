//! Identities that the bridge made for anonymous users: once and for ever.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, PoisonError},
};

use sled::IVec;
use smallvec::smallvec;

use super::{Store, StoreError, Transaction, UserNumber, Write, keys};

/// Those that were asked for in this run.
#[derive(Debug, Default)]
pub(super) struct Identities(Mutex<HashMap<UserNumber, String>>);

impl Store {
    /// The identity that was made for this user. `make` makes one for a user who has none.
    pub fn made_identity(
        &self,
        user: UserNumber,
        make: impl FnOnce() -> String,
    ) -> Result<String, StoreError> {
        let mut identities = self.identities.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = match identities.entry(user) {
            Entry::Occupied(known) => return Ok(known.get().clone()),
            Entry::Vacant(entry) => entry,
        };
        let identity = match self.db.get(keys::identity(user))? {
            Some(bytes) => String::from_utf8(bytes.to_vec())
                .map_err(|_| StoreError::Unreadable("a user's identity is not text".to_owned()))?,
            None => {
                let identity = make();
                // Handed over before whatever is said under it: that can't be on disk without this.
                let write = Write::Put(keys::identity(user), IVec::from(identity.as_bytes()));
                self.committer.submit(Transaction { writes: smallvec![write], ..Transaction::default() })?;
                identity
            }
        };
        Ok(entry.insert(identity).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{settings, store};

    #[test]
    fn an_identity_is_made_once_and_kept_over_restarts() {
        let (directory, store) = store();
        let made =
            |store: &Store, text: &str| store.made_identity(UserNumber(1), || text.to_owned()).unwrap();
        assert_eq!([made(&store, "first"), made(&store, "second")], ["first", "first"]);
        assert_eq!(store.made_identity(UserNumber(2), || "other".to_owned()).unwrap(), "other");
        store.close();
        drop(store);
        let store = Store::open(&settings(directory.path())).unwrap();
        assert_eq!(made(&store, "third"), "first");
    }
}
