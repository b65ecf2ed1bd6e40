//! Which users have a connection, and how all of them end.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    connection::{Connection, DeliveryAcks, Identity, Shared, Terms},
    counters::RtmCounters,
    platform::Platform,
    rooms::DaemonRooms,
    session::{Beginnings, Session, SessionSettings},
    socket::SocketLimits,
    subject::Subject,
    warm::Warm,
};
use crate::{
    clock::Now,
    config::Config,
    events::Events,
    messages::Messages,
    names::UserName,
    ordered,
    store::{Store, StoreError},
    users::{Command, Mailbox, User, Users},
};

/// How long the connections are given to say goodbye.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// The running connections. Dropping it stops nothing; [`Supervisor::shutdown`] does.
#[derive(Debug)]
pub struct Supervisor {
    shared: Arc<Shared<DaemonRooms>>,
    tasks: Tasks,
}

/// A user's task panicked: a bug. The daemon must not go on with a user that nobody serves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the connection of user {user} failed with a bug in the bridge: {message}; the daemon stops, so that it is started anew"
)]
pub struct SessionPanicked {
    /// Whose.
    pub user: UserName,
    /// What the panic said.
    pub message: String,
}

/// Why a user's connection did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What is remembered of a user can't be read.
    #[error("user {user}: {error}")]
    Store {
        /// Whose.
        user: UserName,
        /// Why.
        error: StoreError,
    },
}

impl Supervisor {
    /// Starts a connection for every user of `users` that `config` knows. They begin at once and are
    /// spread by the pace of their bots.
    pub fn start(
        config: &Config,
        platform: &Arc<Platform>,
        store: &Arc<Store>,
        users: &Users,
        messages: &Messages,
        events: &Events,
    ) -> Result<Self, StartError> {
        let shared = Shared {
            platform: platform.clone(),
            rooms: DaemonRooms { store: store.clone(), messages: messages.clone(), events: events.clone() },
            counters: Arc::default(),
            terms: RwLock::new(Arc::new(Terms::of(config))),
        };
        let supervisor = Self { shared: Arc::new(shared), tasks: Tasks::default() };
        for user in users.all() {
            supervisor.add(config, &user)?;
        }
        Ok(supervisor)
    }

    /// Starts a user's connection, as `config` describes its bot and its identity. One that is not
    /// configured, or runs already, is left alone.
    pub fn add(&self, config: &Config, user: &Arc<User>) -> Result<(), StartError> {
        let terms = self.shared.terms();
        let (Some(entry), Some(bot)) = (config.users.get(&user.name), terms.bots.get(&user.bot)) else {
            tracing::warn!(user = %user.name, bot = %user.bot, "not configured; not connected");
            return Ok(());
        };
        let DaemonRooms { store, messages, events } = &self.shared.rooms;
        let unreadable = |error| StartError::Store { user: user.name.clone(), error };
        let memory = store.user(user.number).map_err(unreadable)?;
        let subject = Subject::of(&entry.identity, user.number, store).map_err(unreadable)?;
        // What waits in the mailbox is pending already; whatever comes from here on is new.
        while user.mailbox.try_take().is_some() {}
        let now = Now::read();
        let beginnings = Beginnings {
            pending: messages.pending(user.number),
            last_sent: messages.last_sent(user.number),
            unanswered_for: messages.unanswered_for(user.number, now.wall),
            awaited: messages.awaited(user.number),
            partner: events.partner(user),
            memory,
            credentials: self.shared.platform.credentials(bot, &subject),
            seed: fastrand::u64(..),
        };
        let who = Identity {
            user: user.clone(),
            bot: Arc::clone(bot),
            subject,
            pace: self.shared.platform.pace(&user.bot),
        };
        let session = Session::new(terms.session.clone(), beginnings, now);
        self.tasks.start(user, |stop| Connection::new(self.shared.clone(), who, session, stop).run());
        Ok(())
    }

    /// Goes by another configuration: each of `users` takes what is new of it and keeps its connection.
    pub fn reconfigure(&self, config: &Config, users: &[Arc<User>]) {
        *self.shared.terms.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Terms::of(config));
        for user in users {
            user.mailbox.post(Command::Reconfigure);
        }
    }

    /// Stops one user's connection and waits for its end; its messages stay where they are.
    pub async fn remove(&self, user: &UserName) {
        self.tasks.end(user).await;
    }

    /// What was counted.
    pub fn counters(&self) -> &Arc<RtmCounters> {
        &self.shared.counters
    }

    /// Waits until a connection's task panics, if ever: the daemon should exit then.
    pub async fn failed(&self) -> SessionPanicked {
        self.tasks.failed().await
    }

    /// Stops all connections: no more sends, sockets closed with 1001. Waits for that a few seconds.
    pub async fn shutdown(self) -> Goodbye {
        self.tasks.shutdown().await
    }
}

/// How a shutdown went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goodbye {
    /// Every connection ended.
    Complete,
    /// Some did not in time.
    Incomplete {
        /// How many.
        left: usize,
    },
}

/// The tasks of all users.
#[derive(Debug)]
struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    running: Mutex<BTreeMap<UserName, Running>>,
    failed: watch::Sender<Option<SessionPanicked>>,
}

#[derive(Debug)]
struct Running {
    stop: CancellationToken,
    mailbox: Arc<Mailbox>,
    task: JoinHandle<()>,
}

impl Running {
    /// A task that waits looks into the mailbox alone, where it is told to see what it is to stop by.
    fn stop(&self) {
        self.stop.cancel();
        self.mailbox.post(Command::Stop);
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            running: Mutex::default(),
            failed: watch::Sender::new(None),
        }
    }
}

impl Tasks {
    /// Starts a user's task, unless there is one.
    fn start<F>(&self, user: &Arc<User>, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut running = self.running();
        if running.get(&user.name).is_some_and(|running| !running.task.is_finished()) {
            return;
        }
        let stop = self.stop.child_token();
        let task = watched(user.name.clone(), task(stop.clone()), self.failed.clone());
        let task = self.tracker.spawn(Warm::new(user, task));
        running.insert(user.name.clone(), Running { stop, mailbox: Arc::clone(&user.mailbox), task });
    }

    /// Stops a user's task and waits for its end.
    async fn end(&self, user: &UserName) {
        let ended = self.running().remove(user);
        if let Some(ended) = ended {
            ended.stop();
            // Its panic was told already.
            let _ = ended.task.await;
        }
    }

    async fn failed(&self) -> SessionPanicked {
        let mut failed = self.failed.subscribe();
        loop {
            if let Some(panicked) = failed.borrow_and_update().clone() {
                return panicked;
            }
            // The sender is held here: it is never gone.
            let _ = failed.changed().await;
        }
    }

    async fn shutdown(self) -> Goodbye {
        // One that starts from now on sees it at once.
        self.stop.cancel();
        self.running().values().for_each(Running::stop);
        self.tracker.close();
        match tokio::time::timeout(SHUTDOWN, self.tracker.wait()).await {
            Ok(()) => Goodbye::Complete,
            Err(_) => {
                let left = self.tracker.len();
                tracing::warn!(left, "some connections did not close in time");
                Goodbye::Incomplete { left }
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<UserName, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task whose panic is noticed. (No `async fn`: that would hold the task twice, as its argument and as
/// what it waits for, for each user.)
fn watched(
    user: UserName,
    task: impl Future<Output = ()>,
    failed: watch::Sender<Option<SessionPanicked>>,
) -> impl Future<Output = ()> {
    AssertUnwindSafe(task).catch_unwind().map(move |outcome| {
        let Err(panic) = outcome else { return };
        let message = words_of(panic.as_ref());
        tracing::error!(%user, error = message, "a connection's task panicked");
        failed.send_if_modified(|first| {
            let news = first.is_none();
            first.get_or_insert(SessionPanicked { user, message });
            news
        });
    })
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words").to_owned()
}

impl Terms {
    fn of(config: &Config) -> Self {
        let acks = config.platform.delivery_acks;
        Self {
            session: Arc::new(SessionSettings::of(config)),
            limits: SocketLimits::of(config),
            history: config.history.clone(),
            delivery_acks: if acks { DeliveryAcks::Sent } else { DeliveryAcks::NotSent },
            bots: ordered::map(config.bots.iter().map(|(name, bot)| (name.clone(), Arc::new(bot.clone())))),
        }
    }
}

impl SessionSettings {
    /// The knobs of a configuration that sessions need.
    pub fn of(config: &Config) -> Self {
        let (platform, messages) = (&config.platform, &config.messages);
        Self {
            ping_interval: platform.ping_interval,
            pong_timeout: platform.pong_timeout,
            backoff_min: platform.backoff_min,
            backoff_max: platform.backoff_max,
            unauthorized_retry: platform.unauthorized_retry,
            reconnect_query: platform.reconnect_query,
            ack_timeout: messages.ack_timeout,
            max_attempts: messages.max_attempts,
            in_flight: messages.in_flight,
            message_rate: messages.rate,
            recover: config.history.recover,
            history_timeout: config.history.timeout,
        }
    }
}

impl SocketLimits {
    pub(super) fn of(config: &Config) -> Self {
        let platform = &config.platform;
        Self {
            max_frame: platform.max_frame,
            // A frame is a message's body, perhaps escaped, and a little around it.
            write_buffer: (1 << 20).max(2 * config.messages.max_body + (64 << 10)),
            connect_timeout: platform.connect_timeout,
            write_timeout: platform.pong_timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, names::BotName, store::UserNumber};

    fn alice() -> Arc<User> {
        let (name, bot) = (UserName::new("alice").unwrap(), BotName::new("support").unwrap());
        Arc::new(User::new(name, UserNumber(1), bot, Timestamp::from_millis(0)))
    }

    #[tokio::test]
    async fn a_panic_is_told() {
        let tasks = Tasks::default();
        tasks.start(&alice(), |_| async { panic!("a bug of {}", "ours") });
        let panicked = tasks.failed().await;
        assert_eq!((panicked.user.as_str(), panicked.message.as_str()), ("alice", "a bug of ours"));
        assert_eq!(tasks.shutdown().await, Goodbye::Complete);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_does_not_wait_for_ever() {
        let tasks = Tasks::default();
        tasks.start(&alice(), |_| std::future::pending());
        assert_eq!(tasks.shutdown().await, Goodbye::Incomplete { left: 1 });
    }

    #[tokio::test]
    async fn a_user_has_one_task_at_a_time() {
        let tasks = Tasks::default();
        let task = |stop: CancellationToken| async move { stop.cancelled().await };
        tasks.start(&alice(), task);
        tasks.start(&alice(), task);
        assert_eq!(tasks.tracker.len(), 1);
        tasks.end(&alice().name).await;
        assert_eq!(tasks.tracker.len(), 0);
        tasks.start(&alice(), task);
        assert_eq!(tasks.tracker.len(), 1);
    }
}
