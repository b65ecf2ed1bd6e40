//! The daemon: opens the store, starts the parts, and ends them in order.

mod metrics;
mod orphans;
mod pulse;
mod reload;
mod webhooks;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::reload::{ReloadError, Reloaded};
use self::{
    metrics::Measured,
    orphans::Orphans,
    pulse::Vitals,
    webhooks::{SharedWebhooks, Webhooks},
};
use crate::{
    allocator,
    api::{
        self, ApiState,
        server::{Acceptor, BindError, Certificates, Limits, Server},
    },
    clock::Timestamp,
    config::{Config, KeyPairError},
    events::{Events, Subscriber, WebhookState, lanes::LaneRoom},
    letters::{self, DeadLetters, Replayer},
    messages::Messages,
    ops::{self, Health, OpsState, Progress, Stage, StoreHealth},
    rtm::{
        callers::Callers,
        histories::PlatformHistories,
        platform::{Platform, PlatformError},
        supervisor::{self, SessionPanicked, Supervisor},
        uploads::PlatformUploads,
    },
    store::{OpenError, Standing, Store, StoreError, UserNumber},
    users::{ConnectionState, User, Users},
    webhook::{self, RemovedWebhook},
};

/// How long requests in flight have to finish at the end.
const API_DRAIN: Duration = Duration::from_secs(3);
/// How long deliveries under way have to finish at the end.
const DELIVERY_DRAIN: Duration = Duration::from_secs(4);
/// How long after the start memory is given back once more, twice: what connecting and the first deliveries left, too.
const GIVES_BACK_AFTER: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// How long the disk is given for the last commit.
const LAST_COMMIT: Duration = Duration::from_secs(30);

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store opened, and holds something unreadable.
    #[error(
        "{0}. Copy the store's directory away before anything else, and restore a backup or start with an empty one"
    )]
    Store(#[from] StoreError),
    /// The client for the platform can't be built.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// A webhook can't be served.
    #[error(transparent)]
    Webhook(#[from] webhook::LoadError),
    /// A user's connection can't be started.
    #[error(transparent)]
    Users(#[from] supervisor::StartError),
    /// A listener could not be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The API's certificate can't be used.
    #[error("[http] tls: {0}")]
    Certificate(#[from] KeyPairError),
    /// A listener that the service manager opened can't be used.
    #[error("the {0} socket from the service manager can't be used: {1}")]
    Adopt(&'static str, std::io::Error),
    /// Without clients, everyone who reaches the listeners could do everything.
    #[error(
        "the service manager's socket {0} is not on loopback, and there are no [clients]: everyone could post; add a client, or change the socket unit"
    )]
    Exposed(SocketAddr),
}

/// Listeners that are open already; what is missing is opened.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For the API.
    pub api: Option<std::net::TcpListener>,
    /// For health and metrics.
    pub ops: Option<std::net::TcpListener>,
}

impl StartError {
    /// Whether a person must act before a restart can help.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Open(error) => error.needs_a_person(),
            Self::Store(_)
            | Self::Platform(_)
            | Self::Certificate(_)
            | Self::Adopt(..)
            | Self::Exposed(_) => true,
            Self::Webhook(webhook::LoadError::Sender(_)) => true,
            Self::Webhook(webhook::LoadError::Store(_)) | Self::Users(_) | Self::Bind(_) => false,
        }
    }
}

/// Why a running daemon must end.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nothing can be stored any more.
    #[error("the store failed: {0}")]
    Store(String),
    /// A bug.
    #[error(transparent)]
    Session(#[from] SessionPanicked),
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    /// What is in force: `[http]` and `[store]` as they were at the start, the rest as of the last reload.
    config: InForce,
    /// Held by the reload that is under way.
    reloading: tokio::sync::Mutex<()>,
    platform: Arc<Platform>,
    api: ApiState,
    store: Arc<Store>,
    users: Arc<Users>,
    messages: Messages,
    events: Events,
    letters: DeadLetters,
    /// What webhooks keep in memory of what waits for them.
    lane_room: Arc<LaneRoom>,
    webhooks: SharedWebhooks,
    /// What makes dead letters of removed webhooks' events, and what ends old dead letters.
    caretakers: TaskTracker,
    supervisor: Supervisor,
    health: Arc<Health>,
    draining: CancellationToken,
    /// Of the API's listener, if that speaks TLS.
    certificates: Option<Certificates>,
    callers: Arc<Callers>,
    servers: Vec<JoinHandle<()>>,
    api_address: SocketAddr,
    ops_address: SocketAddr,
}

/// The configuration of a running daemon. Cloning it is cheap.
#[derive(Debug, Clone)]
struct InForce(Arc<Mutex<Arc<Config>>>);

impl InForce {
    fn new(config: Config) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(config))))
    }

    fn get(&self) -> Arc<Config> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, config: Config) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }
}

/// The daemon in numbers, for a status line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Configured users.
    pub users: usize,
    /// Users with an open connection.
    pub connected: usize,
    /// Messages that are not final.
    pub queued: usize,
    /// Dead letters.
    pub dead_letters: u64,
    /// Events that are not delivered.
    pub backlog: u64,
    /// Webhooks that don't take events at the moment.
    pub failing_webhooks: usize,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { users, connected, queued, dead_letters, backlog, failing_webhooks } = self;
        write!(f, "{connected}/{users} users connected, {queued} queued, {dead_letters} dead letters")?;
        if *backlog > 0 {
            write!(f, ", {backlog} events undelivered")?;
        }
        if *failing_webhooks > 0 {
            write!(f, ", {failing_webhooks} webhooks failing")?;
        }
        Ok(())
    }
}

impl Daemon {
    /// Starts everything. When this returns, the store is open and both listeners answer; users are
    /// still connecting.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        Self::start_on(Listeners::default(), config).await
    }

    /// As [`Daemon::start`], on these listeners.
    pub async fn start_on(listeners: Listeners, config: &Config) -> Result<Self, StartError> {
        // A port in use is found out before the store is touched.
        let api_server = listen("api", listeners.api, config.http.api, config).await?;
        let ops_server = listen("ops", listeners.ops, config.http.ops, config).await?;
        let certificates = config.http.tls.as_ref().map(Certificates::load).transpose()?;
        let platform = Arc::new(Platform::new(&config.platform)?);
        let store = open_store(config).await?;
        let users = Arc::new(configured_users(config, &store)?);
        let numbers: Vec<UserNumber> = users.all().iter().map(|user| user.number).collect();
        let messages = Messages::load(store.clone(), config.messages.clone(), &config.store)?;
        let letters = DeadLetters::load(store.clone())?;
        let lane_room = Arc::default();
        let dispatchers = webhooks::load(config, &store, &letters, &lane_room)?;
        // What is behind is left before more comes on top of it: the most that a start takes is less by that.
        allocator::give_back();
        let removed = load_removed(config, &store, &letters)?;
        let orphans = Orphans::load(&store, &messages, &numbers)?;
        let subscribers = webhooks::subscribers(config, &users, &dispatchers, &mut removed.iter(), &orphans);
        let events = Events::load(store.clone(), messages.clone(), &config.store, subscribers)?;
        allocator::give_back();
        events.resume_streams().await?;
        for dispatcher in dispatchers.values() {
            let replayer: Arc<dyn Replayer> = Arc::new(dispatcher.clone());
            letters.connect(dispatcher.webhook(), replayer);
            dispatcher.start(events.clone());
        }
        for orphans in orphans {
            orphans.expire(&store, &messages, &events).await;
        }
        let draining = CancellationToken::new();
        let caretakers = TaskTracker::new();
        let mut webhooks = Webhooks::new(dispatchers);
        for webhook in removed {
            webhooks.bury(webhook, &caretakers, &events, &draining);
        }
        let retention = config.store.dead_letter_retention;
        caretakers.spawn(letters::keep(letters.clone(), retention, draining.clone()));
        caretakers.spawn(draining.clone().run_until_cancelled_owned(give_back_later()));
        let callers = Arc::new(Callers::new(config, platform.clone(), store.clone()));
        let histories = Arc::new(PlatformHistories::new(callers.clone()));
        events.connect_histories(histories.clone(), &users.all(), draining.clone());
        let supervisor = Supervisor::start(config, &platform, &store, &users, &messages, &events)?;
        let health = Arc::new(Health::default());
        let api_state = ApiState::new(
            config,
            users.clone(),
            messages.clone(),
            events.clone(),
            letters.clone(),
            histories,
            Arc::new(PlatformUploads::new(callers.clone())),
            draining.clone(),
        );
        let webhook_count = webhooks.dispatchers.len();
        let webhooks = SharedWebhooks::new(webhooks);
        let metrics = metrics::registry(Measured {
            store: store.clone(),
            users: users.clone(),
            messages: messages.clone(),
            events: events.clone(),
            letters: letters.clone(),
            webhooks: webhooks.clone(),
            rtm: supervisor.counters().clone(),
            health: health.clone(),
        });
        let ops_state = OpsState {
            health: health.clone(),
            started_at: Timestamp::now(),
            users: users.clone(),
            messages: messages.clone(),
            events: events.clone(),
            letters: letters.clone(),
            metrics: Arc::new(metrics),
        };
        let limits = Limits::new(&config.http, API_DRAIN);
        let (api_address, ops_address) = (api_server.local_addr(), ops_server.local_addr());
        let ops_router = ops::router(ops_state, &api_state);
        let api_router = api::router(&api_state);
        if let Some(certificates) = &certificates {
            tokio::spawn(certificates.clone().follow(draining.clone()));
        }
        let acceptor = certificates.as_ref().map_or(Acceptor::Plain, Certificates::acceptor);
        let serve = |server: Server, router, acceptor| {
            tokio::spawn(server.serve(router, acceptor, limits, draining.clone()))
        };
        let servers =
            vec![serve(api_server, api_router, acceptor), serve(ops_server, ops_router, Acceptor::Plain)];
        tokio::spawn(follow_store(store.clone(), events.clone(), health.clone(), draining.clone()));
        let vitals = Vitals { store: store.clone(), users: users.clone(), webhooks: webhooks.clone() };
        let in_force = InForce::new(config.clone());
        let now_in_force = in_force.clone();
        let patience = move || 2 * now_in_force.get().platform.pong_timeout;
        tokio::spawn(pulse::watch(vitals, health.clone(), patience, draining.clone()));
        health.set_store(health_of(&store.standing().borrow()));
        health.set_progress(Progress::Moving);
        health.set_stage(Stage::Serving);
        tracing::info!(api = %api_address, ops = %ops_address, users = numbers.len(), webhooks = webhook_count, "ready");
        Ok(Self {
            config: in_force,
            reloading: tokio::sync::Mutex::default(),
            platform,
            api: api_state,
            store,
            users,
            messages,
            events,
            letters,
            lane_room,
            webhooks,
            caretakers,
            supervisor,
            health,
            draining,
            certificates,
            callers,
            servers,
            api_address,
            ops_address,
        })
    }

    /// Where the API listens.
    pub fn api_address(&self) -> SocketAddr {
        self.api_address
    }

    /// Where health, metrics and the status page are.
    pub fn ops_address(&self) -> SocketAddr {
        self.ops_address
    }

    /// Everyone who is configured.
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// Reads the API's certificate anew, soon, if it has one; also changed files do that.
    pub fn read_certificates_again(&self) {
        if let Some(certificates) = &self.certificates {
            certificates.read_again();
        }
    }

    /// The daemon in numbers.
    pub fn summary(&self) -> Summary {
        let users = self.users.all();
        let webhooks: Vec<_> =
            self.webhooks.dispatchers().iter().map(|(_, dispatcher)| dispatcher.status()).collect();
        Summary {
            users: users.len(),
            connected: users.iter().filter(|user| user.status().state == ConnectionState::Connected).count(),
            queued: users.iter().map(|user| self.messages.queued(user.number)).sum(),
            dead_letters: self.letters.total(),
            backlog: webhooks.iter().map(|webhook| webhook.backlog).sum(),
            failing_webhooks: webhooks.iter().filter(|webhook| webhook.state != WebhookState::Ok).count(),
        }
    }

    /// Whether commits, dispatch and sessions go on.
    pub fn progress(&self) -> Progress {
        self.health.progress()
    }

    /// Waits until the daemon can't go on, if ever.
    pub async fn failed(&self) -> Failure {
        let mut standing = self.store.standing();
        let store_failed = async {
            let failed = standing.wait_for(|standing| matches!(standing, Standing::Failed(_))).await;
            match failed.as_deref() {
                Ok(Standing::Failed(why)) => why.clone(),
                Ok(_) | Err(_) => "its thread ended".to_owned(),
            }
        };
        tokio::select! {
            why = store_failed => {
                self.health.set_store(StoreHealth::Unavailable);
                Failure::Store(why)
            }
            panicked = self.supervisor.failed() => Failure::Session(panicked),
        }
    }

    /// Ends everything, in order and in a bounded time: no new requests; what is in flight finishes;
    /// sockets are closed; the last commit. What isn't done goes on at the next start.
    pub async fn shutdown(self) {
        tracing::info!("shutting down");
        self.health.set_stage(Stage::Draining);
        self.draining.cancel();
        self.caretakers.close();
        let dispatchers = self.webhooks.dispatchers();
        let deliveries = async {
            for (_, dispatcher) in &dispatchers {
                dispatcher.stop();
            }
            for (_, dispatcher) in &dispatchers {
                dispatcher.finish(DELIVERY_DRAIN).await;
            }
        };
        let servers = async {
            for server in self.servers {
                if let Err(error) = server.await {
                    tracing::error!(%error, "a listener's task panicked");
                }
            }
        };
        tokio::join!(deliveries, servers, self.caretakers.wait(), self.supervisor.shutdown());
        self.events.close();
        self.letters.close();
        let store = self.store;
        // The last commit blocks for a disk's moment.
        let closed = tokio::task::spawn_blocking(move || store.close());
        match tokio::time::timeout(LAST_COMMIT, closed).await {
            Ok(Ok(())) => tracing::info!("stopped"),
            Ok(Err(error)) => tracing::error!(%error, "the last commit failed"),
            Err(_) => tracing::error!(
                limit = ?LAST_COMMIT,
                "the disk did not take the last commit in time; what was not confirmed goes on as after a kill"
            ),
        }
    }
}

/// The service manager's listener, if there is one, else a new one.
async fn listen(
    name: &'static str,
    given: Option<std::net::TcpListener>,
    address: SocketAddr,
    config: &Config,
) -> Result<Server, StartError> {
    let Some(given) = given else { return Ok(Server::bind(address).await?) };
    let server = Server::adopt(given).map_err(|error| StartError::Adopt(name, error))?;
    let local = server.local_addr();
    if config.clients.is_empty() && !local.ip().is_loopback() {
        return Err(StartError::Exposed(local));
    }
    if local != address {
        tracing::warn!(socket = %local, configured = %address, "the {name} listener is the service manager's socket, which is not at the configured address");
    }
    Ok(server)
}

/// Keeps readiness in step with the store; when it could not be written for a while, removes what could
/// not be removed meanwhile.
async fn follow_store(store: Arc<Store>, events: Events, health: Arc<Health>, draining: CancellationToken) {
    let mut standing = store.standing();
    let mut before = health_of(&standing.borrow_and_update());
    loop {
        tokio::select! {
            changed = standing.changed() => if changed.is_err() { return },
            () = draining.cancelled() => return,
        }
        let now = health_of(&standing.borrow_and_update());
        health.set_store(now);
        if before == StoreHealth::Unavailable && now != before {
            let events = events.clone();
            // Reads the log of events: not on a thread that others wait for.
            tokio::task::spawn_blocking(move || events.tidy());
        }
        before = now;
    }
}

fn health_of(standing: &Standing) -> StoreHealth {
    match standing {
        Standing::Writable => StoreHealth::Writable,
        Standing::Full(_) => StoreHealth::Full,
        Standing::Unwritable(_) | Standing::Failed(_) => StoreHealth::Unavailable,
    }
}

/// Gives back what the start, and the first deliveries, left free.
async fn give_back_later() {
    for pause in GIVES_BACK_AFTER {
        tokio::time::sleep(pause).await;
        // It can't fail, and if it panicked nothing would be lost.
        let _ = tokio::task::spawn_blocking(allocator::give_back).await;
    }
}

async fn open_store(config: &Config) -> Result<Arc<Store>, StartError> {
    let settings = config.store.clone();
    let opening = tokio::task::spawn_blocking(move || {
        let opened = Store::open(&settings);
        allocator::give_back();
        opened
    });
    match opening.await {
        Ok(store) => Ok(store?),
        Err(panic) => Err(StoreError::Unreadable(panic.to_string()).into()),
    }
}

fn configured_users(config: &Config, store: &Store) -> Result<Users, StoreError> {
    let users = Users::default();
    for (name, user) in &config.users {
        let number = store.user_number(name)?;
        users.insert(Arc::new(User::new(name.clone(), number, user.bot.clone(), Timestamp::now())));
    }
    Ok(users)
}

/// Webhooks that are no longer configured and have events left.
fn load_removed(
    config: &Config,
    store: &Arc<Store>,
    letters: &DeadLetters,
) -> Result<Vec<RemovedWebhook>, StoreError> {
    let mut removed = Vec::new();
    for number in store.known_webhooks() {
        if !config.webhooks.contains_key(&store.webhook_name(number)?) {
            removed.extend(RemovedWebhook::load(store, letters, number)?);
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_line_says_what_matters() {
        let fine =
            Summary { users: 15, connected: 12, queued: 3, dead_letters: 0, backlog: 0, failing_webhooks: 0 };
        assert_eq!(fine.to_string(), "12/15 users connected, 3 queued, 0 dead letters");
        let bad = Summary { backlog: 7, failing_webhooks: 1, ..fine };
        assert_eq!(
            bad.to_string(),
            "12/15 users connected, 3 queued, 0 dead letters, 7 events undelivered, 1 webhooks failing"
        );
    }
}
