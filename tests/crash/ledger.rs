//! What the outside world knows: every message, every push, every death.

use std::{
    fmt,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use crate::{plan::Moment, world::user_name};

/// How a client sends a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Once. Without an answer nobody knows what became of it.
    Plain,
    /// Once, waiting for the ack.
    Waiting,
    /// With an idempotency key, until there is an answer.
    Keyed,
    /// With the client's own id, until there is an answer.
    OwnId(u64),
}

impl Way {
    /// Whether the client repeats it until it is answered.
    pub fn repeats(self) -> bool {
        matches!(self, Self::Keyed | Self::OwnId(_))
    }

    /// Whether the bridge chooses the id.
    pub fn id_is_generated(self) -> bool {
        !matches!(self, Self::OwnId(_))
    }
}

/// One message of a client.
#[derive(Debug, Clone)]
pub struct Message {
    /// Whose.
    pub user: usize,
    /// Its place in the user's order, from 1.
    pub number: u32,
    /// Its text, which no other message has.
    pub text: String,
    /// How it is sent.
    pub way: Way,
    /// The tries: in which life, and what came of it.
    pub tries: Vec<(usize, String)>,
    /// The id with which it was accepted.
    pub id: Option<u64>,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, bytes) = (user_name(self.user), self.text.len());
        write!(f, "message {} of {user} ({:?}, {bytes} bytes, id {:?})", self.number, self.way, self.id)?;
        for (life, outcome) in &self.tries {
            write!(f, "; life {life}: {outcome}")?;
        }
        Ok(())
    }
}

/// One frame that the platform pushed.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// To whom.
    pub user: usize,
    /// Its place in the user's order, from 1.
    pub number: u32,
    /// Its `key`, which a delivery ack gives back.
    pub key: String,
    /// The frame.
    pub frame: String,
    /// In which life.
    pub life: usize,
    /// How often the same bytes were pushed again.
    pub repeats: u32,
}

impl fmt::Display for Pushed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, key, frame, life, repeats, .. } = self;
        let (user, bytes) = (user_name(self.user), frame.len());
        write!(
            f,
            "push {number} to {user} (key {key}, {bytes} bytes), in life {life}, repeated {repeats} times"
        )
    }
}

/// One life, and how it ended.
#[derive(Debug, Clone, Copy)]
pub struct Life {
    /// From the start to the ready line; nothing if it was killed before.
    pub ready_after: Option<Duration>,
    /// When it was to die.
    pub moment: Moment,
}

/// Everything that happened, seen from outside.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Entries>);

/// The ledger's content.
#[derive(Debug, Default)]
pub struct Entries {
    /// Each user's in order.
    pub messages: Vec<Message>,
    /// Each user's in order.
    pub pushes: Vec<Pushed>,
    /// The lives, from the first.
    pub lives: Vec<Life>,
    /// What must not happen, noticed while it happened.
    pub surprises: Vec<String>,
    /// Connections that the platform ended.
    pub drops: u32,
}

impl Ledger {
    /// The entries.
    pub fn open(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap()
    }
}
