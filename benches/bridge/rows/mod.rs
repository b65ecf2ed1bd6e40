//! The rows of the table.

mod backlog;
mod burst;
mod events;
mod growth;
mod idle;
mod one_user;
mod posts;
mod reply;
mod waiting;

pub use waiting::Waiting;

use crate::{Outcome, bench::Bench, report::Finding};

/// A row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    Events,
    EventsPaced,
    Posts,
    PostsPaced,
    Reply,
    Idle,
    Growth,
    Backlog,
    Burst,
    OneUser,
}

impl Row {
    /// All of them, in the table's order.
    pub const ALL: [Self; 10] = [
        Self::Events,
        Self::EventsPaced,
        Self::Posts,
        Self::PostsPaced,
        Self::Reply,
        Self::Idle,
        Self::Growth,
        Self::Backlog,
        Self::Burst,
        Self::OneUser,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::EventsPaced => "events-paced",
            Self::Posts => "posts",
            Self::PostsPaced => "posts-paced",
            Self::Reply => "reply",
            Self::Idle => "idle",
            Self::Growth => "growth",
            Self::Backlog => "backlog",
            Self::Burst => "burst",
            Self::OneUser => "one-user",
        }
    }

    /// What it does.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Events => "50,000 events of 600 bytes for 100 users, as fast as they come",
            Self::EventsPaced => "500 events a second",
            Self::Posts => "50,000 messages of 64 callers for 100 users, as fast as they are accepted",
            Self::PostsPaced => "1,000 messages a second",
            Self::Reply => "?wait=reply with a bot that answers at once, 100 users",
            Self::Idle => "10,000 connected users",
            Self::Growth => {
                "events at 10, 1,000 and 10,000 users, with nothing and much waiting for another webhook"
            }
            Self::Backlog => "a start with 1,000,000 events waiting and 100,000 messages kept",
            Self::Burst => "5,000 events at once to one webhook",
            Self::OneUser => "a single user",
        }
    }

    /// Measures it.
    pub async fn measure(self, bench: &mut Bench) -> Outcome<Vec<Finding>> {
        match self {
            Self::Events => events::flood(bench).await,
            Self::EventsPaced => events::paced(bench).await,
            Self::Posts => posts::flood(bench).await,
            Self::PostsPaced => posts::paced(bench).await,
            Self::Reply => reply::measure(bench).await,
            Self::Idle => idle::measure(bench).await,
            Self::Growth => growth::measure(bench).await,
            Self::Backlog => backlog::measure(bench).await,
            Self::Burst => burst::measure(bench).await,
            Self::OneUser => one_user::measure(bench).await,
        }
    }
}

const MIB: f64 = 1024.0 * 1024.0;
