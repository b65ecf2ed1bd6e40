//! Names and their numbers: given once and for ever.

use std::{
    collections::HashMap,
    hash::BuildHasherDefault,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sled::IVec;
use smallvec::smallvec;

use super::{
    BotNumber, ClientNumber, NumberHasher, Store, StoreError, Transaction, UserNumber, WebhookNumber, Write,
    database::Database,
    keys::{self, Named},
};
use crate::names::{
    BotKind, BotName, ClientKind, ClientName, Kind, Name, UserKind, UserName, WebhookKind, WebhookName,
};

/// The names of one kind.
#[derive(Debug)]
struct Names<K> {
    numbers: HashMap<Name<K>, u32>,
    names: HashMap<u32, Name<K>, BuildHasherDefault<NumberHasher>>,
}

impl<K: Kind> Names<K> {
    fn load(db: &Database, what: Named) -> Result<Mutex<Self>, StoreError> {
        let mut names = Self { numbers: HashMap::new(), names: HashMap::default() };
        for entry in db.scan_prefix(keys::names(what)) {
            let (key, value) = entry?;
            let name = std::str::from_utf8(key.get(2..).unwrap_or_default()).ok().map(Name::new);
            let number = <[u8; 4]>::try_from(&*value).map(u32::from_be_bytes);
            let (Some(Ok(name)), Ok(number)) = (name, number) else {
                return Err(StoreError::Unreadable("a name record is damaged".to_owned()));
            };
            names.add(name, number);
        }
        Ok(Mutex::new(names))
    }

    fn add(&mut self, name: Name<K>, number: u32) {
        self.numbers.insert(name.clone(), number);
        self.names.insert(number, name);
    }
}

/// All names that the store has ever seen.
#[derive(Debug)]
pub(super) struct Directory {
    users: Mutex<Names<UserKind>>,
    webhooks: Mutex<Names<WebhookKind>>,
    clients: Mutex<Names<ClientKind>>,
    bots: Mutex<Names<BotKind>>,
}

impl Directory {
    pub(super) fn load(db: &Database) -> Result<Self, StoreError> {
        Ok(Self {
            users: Names::load(db, Named::User)?,
            webhooks: Names::load(db, Named::Webhook)?,
            clients: Names::load(db, Named::Client)?,
            bots: Names::load(db, Named::Bot)?,
        })
    }
}

fn lock<K>(names: &Mutex<Names<K>>) -> MutexGuard<'_, Names<K>> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name_of<K: Kind>(names: &Mutex<Names<K>>, number: u32) -> Result<Name<K>, StoreError> {
    let missing = || StoreError::Unreadable(format!("{} number {number} has no name", K::WORD));
    lock(names).names.get(&number).cloned().ok_or_else(missing)
}

/// Names and their numbers.
impl Store {
    /// The user's number; a new one for a name that was never seen.
    pub fn user_number(&self, name: &UserName) -> Result<UserNumber, StoreError> {
        self.number(&self.names.users, Named::User, name).map(UserNumber)
    }

    /// The webhook's number; a new one for a name that was never seen.
    pub fn webhook_number(&self, name: &WebhookName) -> Result<WebhookNumber, StoreError> {
        self.number(&self.names.webhooks, Named::Webhook, name).map(WebhookNumber)
    }

    /// The client's number; a new one for a name that was never seen.
    pub fn client_number(&self, name: &ClientName) -> Result<ClientNumber, StoreError> {
        self.number(&self.names.clients, Named::Client, name).map(ClientNumber)
    }

    /// The bot's number; a new one for a name that was never seen.
    pub fn bot_number(&self, name: &BotName) -> Result<BotNumber, StoreError> {
        self.number(&self.names.bots, Named::Bot, name).map(BotNumber)
    }

    /// The number of a user that the store has seen.
    pub fn known_user(&self, name: &str) -> Option<UserNumber> {
        lock(&self.names.users).numbers.get(name).copied().map(UserNumber)
    }

    /// The number of a webhook that the store has seen.
    pub fn known_webhook(&self, name: &str) -> Option<WebhookNumber> {
        lock(&self.names.webhooks).numbers.get(name).copied().map(WebhookNumber)
    }

    /// The name behind a user's number.
    pub fn user_name(&self, number: UserNumber) -> Result<UserName, StoreError> {
        name_of(&self.names.users, number.0)
    }

    /// The name behind a webhook's number.
    pub fn webhook_name(&self, number: WebhookNumber) -> Result<WebhookName, StoreError> {
        name_of(&self.names.webhooks, number.0)
    }

    /// The name behind a bot's number.
    pub fn bot_name(&self, number: BotNumber) -> Result<BotName, StoreError> {
        name_of(&self.names.bots, number.0)
    }

    /// Every user that the store has ever seen.
    pub fn known_users(&self) -> Vec<UserNumber> {
        lock(&self.names.users).names.keys().copied().map(UserNumber).collect()
    }

    /// Every webhook that the store has ever seen.
    pub fn known_webhooks(&self) -> Vec<WebhookNumber> {
        lock(&self.names.webhooks).names.keys().copied().map(WebhookNumber).collect()
    }

    fn number<K: Kind>(
        &self,
        names: &Mutex<Names<K>>,
        what: Named,
        name: &Name<K>,
    ) -> Result<u32, StoreError> {
        let mut names = lock(names);
        if let Some(number) = names.numbers.get(name) {
            return Ok(*number);
        }
        let number = names.names.len() as u32 + 1;
        // Handed over before any record that uses the number: it can't be on disk without this.
        let write = Write::Put(keys::name(what, name.as_str()), IVec::from(&number.to_be_bytes()));
        self.committer.submit(Transaction { writes: smallvec![write], ..Transaction::default() })?;
        names.add(name.clone(), number);
        Ok(number)
    }
}
