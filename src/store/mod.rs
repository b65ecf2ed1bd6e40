//! The store: the only place that knows sled.

mod numbers;
mod user_record;

pub use numbers::{ClientNumber, UserNumber, WebhookNumber};
pub use user_record::{Access, ConnectHistory, UserRecord};

/// Why the store could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It takes nothing more for now (disk full or failing, shutting down).
    #[error("the store can't take it now: {0}")]
    Unavailable(String),
    /// What it holds can't be read.
    #[error("the store holds something unreadable: {0}")]
    Unreadable(String),
}

/// The store.
#[derive(Debug)]
pub struct Store {}

/// What is remembered of users.
impl Store {
    /// What is remembered of this user; the default for one who was never seen.
    pub fn user(&self, number: UserNumber) -> Result<UserRecord, StoreError> {
        let _ = number;
        todo!()
    }

    /// Remembers this of the user; on stable storage a moment later.
    pub fn save_user(&self, number: UserNumber, record: &UserRecord) {
        let _ = (number, record);
        todo!()
    }
}
