//! Which users have a connection, and how all of them end.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    connection::{Connection, DeliveryAcks, Identity, Shared},
    counters::RtmCounters,
    platform::Platform,
    rooms::{DaemonRooms, Rooms},
    session::{Beginnings, Session, SessionSettings},
    socket::SocketLimits,
};
use crate::{
    clock::Now,
    config::Config,
    events::Events,
    messages::Messages,
    names::UserName,
    store::{Store, StoreError},
    users::{User, Users},
};

/// How long the connections are given to say goodbye.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// The running connections. Dropping it stops nothing; [`Supervisor::shutdown`] does.
#[derive(Debug)]
pub struct Supervisor {
    tasks: TaskTracker,
    stop: CancellationToken,
    failed: watch::Receiver<Option<SessionPanicked>>,
    counters: Arc<RtmCounters>,
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

/// The user is configured, but unknown at run time, or the other way round.
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
        let rooms = DaemonRooms { store: store.clone(), messages: messages.clone(), events: events.clone() };
        let crew = Crew::new(config, platform.clone(), rooms);
        for user in users.all() {
            let begin = |credentials| {
                let memory = store
                    .user(user.number)
                    .map_err(|error| StartError::Store { user: user.name.clone(), error })?;
                Ok(Beginnings {
                    pending: messages.pending(user.number),
                    last_sent: messages.last_sent(user.number),
                    memory,
                    credentials,
                    seed: fastrand::u64(..),
                })
            };
            crew.add(config, &user, begin)?;
        }
        Ok(crew.supervisor())
    }

    /// What was counted.
    pub fn counters(&self) -> &Arc<RtmCounters> {
        &self.counters
    }

    /// Waits until a connection's task panics, if ever: the daemon should exit then.
    pub async fn failed(&self) -> SessionPanicked {
        let mut failed = self.failed.clone();
        loop {
            if let Some(panicked) = failed.borrow_and_update().clone() {
                return panicked;
            }
            if failed.changed().await.is_err() {
                // All tasks ended, and none of them so.
                return std::future::pending().await;
            }
        }
    }

    /// Stops all connections: no more sends, sockets closed with 1001. Waits for that a few seconds.
    pub async fn shutdown(self) -> Goodbye {
        self.stop.cancel();
        self.tasks.close();
        match tokio::time::timeout(SHUTDOWN, self.tasks.wait()).await {
            Ok(()) => Goodbye::Complete,
            Err(_) => {
                let left = self.tasks.len();
                tracing::warn!(left, "some connections did not close in time");
                Goodbye::Incomplete { left }
            }
        }
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

/// What it takes to start connections.
struct Crew<R> {
    shared: Arc<Shared<R>>,
    settings: Arc<SessionSettings>,
    tasks: TaskTracker,
    stop: CancellationToken,
    failed: watch::Sender<Option<SessionPanicked>>,
}

impl<R: Rooms> Crew<R> {
    fn new(config: &Config, platform: Arc<Platform>, rooms: R) -> Self {
        let (settings, messages) = (&config.platform, &config.messages);
        let limits = SocketLimits {
            max_frame: settings.max_frame,
            write_buffer: (1 << 20).max(2 * messages.max_body + (64 << 10)),
            connect_timeout: settings.connect_timeout,
            write_timeout: settings.pong_timeout,
        };
        let delivery_acks = if settings.delivery_acks { DeliveryAcks::Sent } else { DeliveryAcks::NotSent };
        let counters = Arc::default();
        Self {
            shared: Arc::new(Shared { platform, rooms, counters, limits, delivery_acks }),
            settings: Arc::new(SessionSettings::of(config)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            failed: watch::Sender::new(None),
        }
    }

    /// Starts the user's connection; nothing is done for one that is not configured.
    fn add(
        &self,
        config: &Config,
        user: &Arc<User>,
        begin: impl FnOnce([u8; 16]) -> Result<Beginnings, StartError>,
    ) -> Result<(), StartError> {
        let (Some(entry), Some(bot)) = (config.users.get(&user.name), config.bots.get(&user.bot)) else {
            tracing::warn!(user = %user.name, bot = %user.bot, "not configured; not connected");
            return Ok(());
        };
        let beginnings = begin(self.shared.platform.credentials(bot, &entry.identity))?;
        let who = Identity {
            user: user.clone(),
            bot: Arc::new(bot.clone()),
            subject: entry.identity.clone(),
            pace: self.shared.platform.pace(&user.bot),
        };
        let session = Session::new(self.settings.clone(), beginnings, Now::read());
        let connection = Connection::new(self.shared.clone(), who, session, self.stop.child_token());
        watch_task(&self.tasks, self.failed.clone(), user.name.clone(), connection.run());
        Ok(())
    }

    fn supervisor(self) -> Supervisor {
        Supervisor {
            failed: self.failed.subscribe(),
            counters: self.shared.counters.clone(),
            tasks: self.tasks,
            stop: self.stop,
        }
    }
}

/// Runs a task whose panic is noticed.
fn watch_task(
    tasks: &TaskTracker,
    failed: watch::Sender<Option<SessionPanicked>>,
    user: UserName,
    task: impl Future<Output = ()> + Send + 'static,
) {
    tasks.spawn(async move {
        if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
            let message = words_of(panic.as_ref());
            tracing::error!(%user, message, "a connection's task panicked");
            failed.send_if_modified(|first| {
                let news = first.is_none();
                first.get_or_insert(SessionPanicked { user, message });
                news
            });
        }
    });
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words").to_owned()
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supervisor_of(task: impl Future<Output = ()> + Send + 'static) -> Supervisor {
        let (failed, told) = watch::channel(None);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        watch_task(&tasks, failed, UserName::new("alice").unwrap(), task);
        Supervisor { tasks, stop, failed: told, counters: Arc::default() }
    }

    #[tokio::test]
    async fn a_panic_is_told() {
        let supervisor = supervisor_of(async { panic!("a bug of {}", "ours") });
        let panicked = supervisor.failed().await;
        assert_eq!((panicked.user.as_str(), panicked.message.as_str()), ("alice", "a bug of ours"));
        assert_eq!(supervisor.shutdown().await, Goodbye::Complete);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_does_not_wait_for_ever() {
        let supervisor = supervisor_of(std::future::pending());
        assert_eq!(supervisor.shutdown().await, Goodbye::Incomplete { left: 1 });
    }
}
