//! The daemon: opens the store, starts the parts, and ends them in order.

mod orphans;

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::orphans::{FormerUser, Orphans};
use crate::{
    api::{
        self, ApiState,
        server::{BindError, Limits, Plain, Server},
    },
    clock::Timestamp,
    config::Config,
    events::{Events, Subscriber, Subscribers, WebhookState},
    letters::{self, DeadLetters, Replayer},
    messages::Messages,
    names::WebhookName,
    ops::{self, Health, OpsState, Progress, Stage, StoreHealth},
    rtm::{
        histories::PlatformHistories,
        platform::{Platform, PlatformError},
        supervisor::{self, SessionPanicked, Supervisor},
    },
    store::{OpenError, Standing, Store, StoreError, UserNumber},
    users::{ConnectionState, User, Users},
    webhook::{self, Dispatcher, RemovedWebhook},
};

/// How long requests in flight have to finish at the end.
const API_DRAIN: Duration = Duration::from_secs(3);
/// How long deliveries under way have to finish at the end.
const DELIVERY_DRAIN: Duration = Duration::from_secs(4);
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
}

impl StartError {
    /// Whether a person must act before a restart can help.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Open(error) => error.needs_a_person(),
            Self::Store(_) | Self::Platform(_) => true,
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
    store: Arc<Store>,
    users: Arc<Users>,
    messages: Messages,
    events: Events,
    letters: DeadLetters,
    dispatchers: Vec<Dispatcher>,
    /// What makes dead letters of removed webhooks' events, and what ends old dead letters.
    caretakers: TaskTracker,
    supervisor: Supervisor,
    health: Arc<Health>,
    draining: CancellationToken,
    servers: Vec<JoinHandle<()>>,
    api_address: SocketAddr,
    ops_address: SocketAddr,
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
    /// Events that are not delivered.
    pub backlog: u64,
    /// Webhooks that don't take events at the moment.
    pub failing_webhooks: usize,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { users, connected, queued, backlog, failing_webhooks } = self;
        write!(
            f,
            "{connected}/{users} users connected, {queued} messages queued, {backlog} events undelivered"
        )?;
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
        // A port in use is found out before the store is touched.
        let api_server = Server::bind(config.http.api).await?;
        let ops_server = Server::bind(config.http.ops).await?;
        let platform = Arc::new(Platform::new(&config.platform)?);
        let store = open_store(config).await?;
        let users = Arc::new(configured_users(config, &store)?);
        let numbers: Vec<UserNumber> = users.all().iter().map(|user| user.number).collect();
        let messages = Messages::load(store.clone(), config.messages.clone(), &config.store)?;
        let letters = DeadLetters::load(store.clone())?;
        let dispatchers = load_dispatchers(config, &store, &letters)?;
        let removed = load_removed(config, &store, &letters)?;
        let orphans = Orphans::load(&store, &messages, &numbers)?;
        let subscribers = subscribers(config, &users, &dispatchers, &removed, &orphans);
        let events = Events::load(store.clone(), messages.clone(), &config.store, subscribers)?;
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
        for webhook in removed {
            caretakers.spawn(webhook.bury(events.clone(), draining.clone()));
        }
        let retention = config.store.dead_letter_retention;
        caretakers.spawn(letters::keep(letters.clone(), retention, draining.clone()));
        caretakers.close();
        let supervisor = Supervisor::start(config, &platform, &store, &users, &messages, &events)?;
        let health = Arc::new(Health::default());
        let api_state = ApiState::new(
            config,
            users.clone(),
            messages.clone(),
            events.clone(),
            letters.clone(),
            Arc::new(PlatformHistories::new(config, platform.clone(), store.clone())),
            draining.clone(),
        );
        let ops_state = OpsState { health: health.clone(), users: users.clone() };
        let limits = Limits::new(&config.http, API_DRAIN);
        let (api_address, ops_address) = (api_server.local_addr(), ops_server.local_addr());
        let ops_router = ops::router(ops_state, &api_state);
        let servers = vec![
            tokio::spawn(api_server.serve(api::router(&api_state), Plain, limits, draining.clone())),
            tokio::spawn(ops_server.serve(ops_router, Plain, limits, draining.clone())),
        ];
        tokio::spawn(follow_store(store.clone(), events.clone(), health.clone(), draining.clone()));
        health.set_store(health_of(&store.standing().borrow()));
        health.set_progress(Progress::Moving);
        health.set_stage(Stage::Serving);
        tracing::info!(api = %api_address, ops = %ops_address, users = numbers.len(), webhooks = dispatchers.len(), "ready");
        let dispatchers = dispatchers.into_values().collect();
        Ok(Self {
            store,
            users,
            messages,
            events,
            letters,
            dispatchers,
            caretakers,
            supervisor,
            health,
            draining,
            servers,
            api_address,
            ops_address,
        })
    }

    /// Where the API listens.
    pub fn api_address(&self) -> SocketAddr {
        self.api_address
    }

    /// Where health and metrics are.
    pub fn ops_address(&self) -> SocketAddr {
        self.ops_address
    }

    /// Everyone who is configured.
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// The daemon in numbers.
    pub fn summary(&self) -> Summary {
        let users = self.users.all();
        let webhooks: Vec<_> = self.dispatchers.iter().map(Dispatcher::status).collect();
        Summary {
            users: users.len(),
            connected: users.iter().filter(|user| user.status().state == ConnectionState::Connected).count(),
            queued: users.iter().map(|user| self.messages.queued(user.number)).sum(),
            backlog: webhooks.iter().map(|webhook| webhook.backlog).sum(),
            failing_webhooks: webhooks.iter().filter(|webhook| webhook.state != WebhookState::Ok).count(),
        }
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
        let deliveries = async {
            for dispatcher in &self.dispatchers {
                dispatcher.stop();
            }
            for dispatcher in &self.dispatchers {
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

async fn open_store(config: &Config) -> Result<Arc<Store>, StartError> {
    let settings = config.store.clone();
    let opened = tokio::task::spawn_blocking(move || Store::open(&settings)).await;
    match opened {
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

fn load_dispatchers(
    config: &Config,
    store: &Arc<Store>,
    letters: &DeadLetters,
) -> Result<HashMap<WebhookName, Dispatcher>, webhook::LoadError> {
    let load = |(name, settings)| {
        let dispatcher = Dispatcher::load(name, settings, store.clone(), letters.clone())?;
        Ok((WebhookName::clone(name), dispatcher))
    };
    config.webhooks.iter().map(load).collect()
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

fn subscribers(
    config: &Config,
    users: &Users,
    dispatchers: &HashMap<WebhookName, Dispatcher>,
    removed: &[RemovedWebhook],
    orphans: &[Orphans],
) -> Subscribers {
    let subscriber = |dispatcher: &Dispatcher| Arc::new(dispatcher.clone()) as Arc<dyn Subscriber>;
    let webhooks =
        dispatchers.iter().map(|(name, dispatcher)| (name.clone(), subscriber(dispatcher))).collect();
    let mut leftovers: HashMap<UserNumber, Vec<Arc<dyn Subscriber>>> = HashMap::new();
    for dispatcher in dispatchers.values() {
        for user in dispatcher.users_with_backlog() {
            leftovers.entry(user).or_default().push(subscriber(dispatcher));
        }
    }
    for webhook in removed {
        for user in webhook.users() {
            leftovers.entry(user).or_default().push(Arc::new(webhook.clone()));
        }
    }
    let mut routes = HashMap::new();
    for user in users.all() {
        let Some(settings) = config.users.get(&user.name) else { continue };
        let wanted = settings.webhooks.iter().filter_map(|name| dispatchers.get(name));
        routes.insert(user.number, wanted.map(subscriber).collect());
    }
    // A removed user's webhooks are told how its last messages ended.
    for FormerUser { user, webhooks } in orphans.iter().filter_map(Orphans::former_user) {
        let wanted = dispatchers.values().filter(|dispatcher| webhooks.contains(&dispatcher.webhook()));
        routes.insert(user.number, wanted.map(subscriber).collect());
    }
    Subscribers { webhooks, routes, leftovers }
}
