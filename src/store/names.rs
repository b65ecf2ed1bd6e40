//! Names and their numbers: given once and for ever.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use sled::IVec;

use super::{
    BotNumber, ClientNumber, Store, StoreError, Transaction, UserNumber, WebhookNumber, Write,
    database::Database,
    keys::{self, Named},
};
use crate::names::{BotName, ClientName, Kind, Name, UserName, WebhookName};

const KINDS: [Named; 4] = [Named::User, Named::Webhook, Named::Client, Named::Bot];

#[derive(Debug, Default)]
struct Book {
    numbers: HashMap<String, u32>,
    names: HashMap<u32, String>,
}

/// All names that the store has ever seen.
#[derive(Debug)]
pub(super) struct Directory {
    books: [Mutex<Book>; 4],
}

impl Directory {
    pub(super) fn load(db: &Database) -> Result<Self, StoreError> {
        let directory = Self { books: Default::default() };
        for what in KINDS {
            let mut book = directory.book(what);
            for entry in db.scan_prefix(keys::names(what)) {
                let (key, value) = entry?;
                let name = std::str::from_utf8(key.get(2..).unwrap_or_default());
                let number = <[u8; 4]>::try_from(&*value).map(u32::from_be_bytes);
                let (Ok(name), Ok(number)) = (name, number) else {
                    return Err(StoreError::Unreadable("a name record is damaged".to_owned()));
                };
                book.numbers.insert(name.to_owned(), number);
                book.names.insert(number, name.to_owned());
            }
        }
        Ok(directory)
    }

    fn book(&self, what: Named) -> std::sync::MutexGuard<'_, Book> {
        self.books[what as usize - 1].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names and their numbers.
impl Store {
    /// The user's number; a new one for a name that was never seen.
    pub fn user_number(&self, name: &UserName) -> Result<UserNumber, StoreError> {
        self.number(Named::User, name.as_str()).map(UserNumber)
    }

    /// The webhook's number; a new one for a name that was never seen.
    pub fn webhook_number(&self, name: &WebhookName) -> Result<WebhookNumber, StoreError> {
        self.number(Named::Webhook, name.as_str()).map(WebhookNumber)
    }

    /// The client's number; a new one for a name that was never seen.
    pub fn client_number(&self, name: &ClientName) -> Result<ClientNumber, StoreError> {
        self.number(Named::Client, name.as_str()).map(ClientNumber)
    }

    /// The bot's number; a new one for a name that was never seen.
    pub fn bot_number(&self, name: &BotName) -> Result<BotNumber, StoreError> {
        self.number(Named::Bot, name.as_str()).map(BotNumber)
    }

    /// The number of a user that the store has seen.
    pub fn known_user(&self, name: &str) -> Option<UserNumber> {
        self.names.book(Named::User).numbers.get(name).copied().map(UserNumber)
    }

    /// The number of a webhook that the store has seen.
    pub fn known_webhook(&self, name: &str) -> Option<WebhookNumber> {
        self.names.book(Named::Webhook).numbers.get(name).copied().map(WebhookNumber)
    }

    /// The name behind a user's number.
    pub fn user_name(&self, number: UserNumber) -> Result<UserName, StoreError> {
        self.name(Named::User, number.0)
    }

    /// The name behind a webhook's number.
    pub fn webhook_name(&self, number: WebhookNumber) -> Result<WebhookName, StoreError> {
        self.name(Named::Webhook, number.0)
    }

    /// The name behind a bot's number.
    pub fn bot_name(&self, number: BotNumber) -> Result<BotName, StoreError> {
        self.name(Named::Bot, number.0)
    }

    /// Every user that the store has ever seen.
    pub fn known_users(&self) -> Vec<UserNumber> {
        self.names.book(Named::User).names.keys().copied().map(UserNumber).collect()
    }

    /// Every webhook that the store has ever seen.
    pub fn known_webhooks(&self) -> Vec<WebhookNumber> {
        self.names.book(Named::Webhook).names.keys().copied().map(WebhookNumber).collect()
    }

    fn number(&self, what: Named, name: &str) -> Result<u32, StoreError> {
        let mut book = self.names.book(what);
        if let Some(number) = book.numbers.get(name) {
            return Ok(*number);
        }
        let number = book.names.len() as u32 + 1;
        // Handed over before any record that uses the number: it can't be on disk without this.
        let write = Write::Put(keys::name(what, name), IVec::from(&number.to_be_bytes()));
        self.committer.submit(Transaction { writes: vec![write], ..Transaction::default() })?;
        book.numbers.insert(name.to_owned(), number);
        book.names.insert(number, name.to_owned());
        Ok(number)
    }

    fn name<K: Kind>(&self, what: Named, number: u32) -> Result<Name<K>, StoreError> {
        let missing = || StoreError::Unreadable(format!("{} number {number} has no name", K::WORD));
        let name = self.names.book(what).names.get(&number).cloned().ok_or_else(missing)?;
        Name::new(&name).map_err(|error| StoreError::Unreadable(error.to_string()))
    }
}
