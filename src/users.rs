//! Users at run time: who is configured, how each one's connection is, and the way to its session.
//!
//! The session's side writes the status and reads the mailbox; the API and the message queue read
//! the status and post to the mailbox. Neither knows the other.

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
};

use serde::Serialize;
use tokio::sync::watch;

use crate::{
    clock::Timestamp,
    messages::{MessageNumber, QueuedMessage},
    names::{BotName, UserName},
    store::UserNumber,
};

/// Everyone who is configured now.
#[derive(Debug, Default)]
pub struct Users {
    entries: RwLock<BTreeMap<UserName, Arc<User>>>,
}

impl Users {
    /// The user of this name, if configured.
    pub fn get(&self, name: &str) -> Option<Arc<User>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Everyone, by name.
    pub fn all(&self) -> Vec<Arc<User>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Adds a user, or replaces the one of the same name.
    pub fn insert(&self, user: Arc<User>) {
        self.entries.write().unwrap_or_else(PoisonError::into_inner).insert(user.name.clone(), user);
    }

    /// Takes a user out: nothing more is accepted for it.
    pub fn remove(&self, name: &UserName) -> Option<Arc<User>> {
        let removed = self.entries.write().unwrap_or_else(PoisonError::into_inner).remove(name)?;
        removed.removed.store(true, Ordering::Release);
        Some(removed)
    }
}

/// One configured user.
#[derive(Debug)]
pub struct User {
    /// The configured name.
    pub name: UserName,
    /// What the store calls it.
    pub number: UserNumber,
    /// The bot it talks to.
    pub bot: BotName,
    /// Commands to its session.
    pub mailbox: Arc<Mailbox>,
    status: watch::Sender<UserStatus>,
    removed: AtomicBool,
}

impl User {
    /// A user whose first connection is still to come.
    pub fn new(name: UserName, number: UserNumber, bot: BotName, now: Timestamp) -> Self {
        let status =
            UserStatus { state: ConnectionState::Connecting, since: now, last_error: None, attempts: 0 };
        let (mailbox, status) = (Arc::default(), watch::Sender::new(status));
        Self { name, number, bot, mailbox, status, removed: AtomicBool::new(false) }
    }

    /// The same user with another bot. Commands to the one reach the other's session: whoever still
    /// holds the first loses nothing.
    pub fn with_bot(&self, bot: BotName, now: Timestamp) -> Self {
        let mailbox = Arc::clone(&self.mailbox);
        Self { mailbox, ..Self::new(self.name.clone(), self.number, bot, now) }
    }

    /// Whether it was taken out of the configuration.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// How its connection is.
    pub fn status(&self) -> UserStatus {
        self.status.borrow().clone()
    }

    /// How its connection is, from now on.
    pub fn watch_status(&self) -> watch::Receiver<UserStatus> {
        self.status.subscribe()
    }

    /// The state of its connection.
    pub fn state(&self) -> ConnectionState {
        self.status.borrow().state
    }

    /// Whether a frame could be sent at once.
    pub fn is_connected(&self) -> bool {
        self.state() == ConnectionState::Connected
    }

    /// Records a new status; returns the one before.
    pub fn set_status(&self, status: UserStatus) -> UserStatus {
        self.status.send_replace(status)
    }
}

/// The state of a user's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// Signing in or opening the socket.
    Connecting,
    /// The socket is open.
    Connected,
    /// Waiting before the next try.
    BackingOff,
    /// The platform refused the credentials; tried again slowly.
    Unauthorized,
}

/// How a user's connection is: what the API shows of it, and what `bridge.connection` carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserStatus {
    /// Its state.
    pub state: ConnectionState,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// What went wrong last, in plain words; it stays until the next failure.
    pub last_error: Option<String>,
    /// Tries to connect since the last stable connection.
    pub attempts: u32,
}

/// What a session may be asked from outside.
#[derive(Debug)]
pub enum Command {
    /// Send this message; it is on stable storage.
    Send(QueuedMessage),
    /// A caller waits for the answer to this message.
    BeginTurn(MessageNumber),
    /// No caller waits for it any more.
    EndTurn(MessageNumber),
    /// Drop the connection, if any, and connect anew at once.
    Reconnect,
    /// The configuration changed: take what is new of it, and keep the connection.
    Reconfigure,
    /// See whether it is time to stop.
    Stop,
}

/// Commands on their way to a session. Bounded by what may be queued (`messages.max_queued`), and by how many
/// callers wait.
#[derive(Debug, Default)]
pub struct Mailbox(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    commands: VecDeque<Command>,
    /// How many were taken out.
    taken: u64,
    /// The session that waits. Only looked at when a command comes: to wait, which a session does after each
    /// frame, is no more than to look in here.
    waiting: Option<Waker>,
}

impl Mailbox {
    /// Puts a command in.
    pub fn post(&self, command: Command) {
        let mut inside = self.lock();
        let commands = &mut inside.commands;
        // Asked several times, it is still one reconnect: a caller in a loop fills no memory.
        let is_asked_again = matches!(
            (&command, commands.back()),
            (Command::Reconnect, Some(Command::Reconnect))
                | (Command::Reconfigure, Some(Command::Reconfigure))
        );
        if !is_asked_again {
            commands.push_back(command);
        }
        let waiting = inside.waiting.take();
        drop(inside);
        if let Some(session) = waiting {
            session.wake();
        }
    }

    /// Takes the oldest command, if there is one.
    pub fn try_take(&self) -> Option<Command> {
        self.lock().take()
    }

    /// How many commands were taken out so far, if one waits.
    pub fn waits_after(&self) -> Option<u64> {
        let inside = self.lock();
        (!inside.commands.is_empty()).then_some(inside.taken)
    }

    /// Waits for a command. Cancel-safe. One session waits at a time.
    pub async fn take(&self) -> Command {
        poll_fn(|cx| {
            let mut inside = self.lock();
            if let Some(command) = inside.take() {
                return Poll::Ready(command);
            }
            match &mut inside.waiting {
                Some(waiting) => waiting.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn take(&mut self) -> Option<Command> {
        let Self { commands, taken, .. } = self;
        let command = commands.pop_front();
        *taken += u64::from(command.is_some());
        if commands.is_empty() && commands.capacity() > 16 {
            // An idle user holds no buffer.
            *commands = VecDeque::new();
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_session_that_waits_is_woken_and_one_that_gave_up_waiting_misses_nothing() {
        let mailbox = Arc::new(Mailbox::default());
        let waiting = tokio::spawn({
            let mailbox = Arc::clone(&mailbox);
            async move { mailbox.take().await }
        });
        while mailbox.lock().waiting.is_none() {
            tokio::task::yield_now().await;
        }
        mailbox.post(Command::Reconnect);
        assert!(matches!(waiting.await.unwrap(), Command::Reconnect));
        assert!(mailbox.take().now_or_never().is_none());
        mailbox.post(Command::Stop);
        mailbox.post(Command::Reconfigure);
        assert_eq!(mailbox.waits_after(), Some(1));
        assert!(matches!(mailbox.take().await, Command::Stop));
        assert!(matches!(mailbox.take().await, Command::Reconfigure));
        assert_eq!(mailbox.waits_after(), None);
    }

    #[test]
    fn what_is_asked_several_times_waits_once() {
        let mailbox = Mailbox::default();
        for command in [Command::Reconnect, Command::Reconnect, Command::Reconfigure, Command::Reconfigure] {
            mailbox.post(command);
        }
        assert!(matches!(mailbox.try_take(), Some(Command::Reconnect)));
        assert!(matches!(mailbox.try_take(), Some(Command::Reconfigure)));
        assert!(mailbox.try_take().is_none());
    }
}
