//! The webhooks at run time: those that are configured, and those that were and have events left.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::orphans::{FormerUser, Orphans};
use crate::{
    config::Config,
    events::{Events, Route, Subscriber, Subscribers, lanes::LaneRoom},
    letters::DeadLetters,
    names::WebhookName,
    ordered,
    store::{ByUser, Store},
    users::Users,
    webhook::{self, Dispatcher, RemovedWebhook},
};

/// The webhooks, for several at once. Cloning it is cheap.
#[derive(Debug, Clone)]
pub(super) struct SharedWebhooks(Arc<Mutex<Webhooks>>);

impl SharedWebhooks {
    pub(super) fn new(webhooks: Webhooks) -> Self {
        Self(Arc::new(Mutex::new(webhooks)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Webhooks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each that is configured, and one that is being removed.
    pub(super) fn dispatchers(&self) -> Vec<(WebhookName, Dispatcher)> {
        self.lock().dispatchers.iter().map(|(name, dispatcher)| (name.clone(), dispatcher.clone())).collect()
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Webhooks {
    pub(super) dispatchers: BTreeMap<WebhookName, Dispatcher>,
    burials: BTreeMap<WebhookName, Burial>,
}

/// The backlog of a removed webhook, on its way to become dead letters.
#[derive(Debug)]
pub(super) struct Burial {
    webhook: RemovedWebhook,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Burial {
    /// Stops it where it is.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the task of a removed webhook panicked");
        }
    }
}

impl Webhooks {
    pub(super) fn new(dispatchers: BTreeMap<WebhookName, Dispatcher>) -> Self {
        Self { dispatchers, burials: BTreeMap::new() }
    }

    /// Makes dead letters of a removed webhook's backlog, in the background.
    pub(super) fn bury(
        &mut self,
        webhook: RemovedWebhook,
        tasks: &TaskTracker,
        events: &Events,
        draining: &CancellationToken,
    ) {
        let stop = draining.child_token();
        let task = tasks.spawn(webhook.clone().bury(events.clone(), stop.clone()));
        self.burials.insert(webhook.name().clone(), Burial { webhook, stop, task });
    }

    /// Takes a burial out, to be stopped: its webhook returns.
    pub(super) fn exhume(&mut self, name: &WebhookName) -> Option<Burial> {
        self.burials.remove(name)
    }

    /// Removed webhooks that have or had a backlog.
    pub(super) fn removed(&self) -> impl Iterator<Item = &RemovedWebhook> {
        self.burials.values().map(|burial| &burial.webhook)
    }
}

/// A dispatcher for each configured webhook.
pub(super) fn load(
    config: &Config,
    store: &Arc<Store>,
    letters: &DeadLetters,
    room: &Arc<LaneRoom>,
) -> Result<BTreeMap<WebhookName, Dispatcher>, webhook::LoadError> {
    let mut dispatchers = BTreeMap::new();
    for (name, settings) in &config.webhooks {
        let dispatcher = Dispatcher::load(name, settings, store.clone(), letters.clone(), room.clone())?;
        dispatchers.insert(name.clone(), dispatcher);
    }
    Ok(dispatchers)
}

pub(super) fn subscriber(dispatcher: &Dispatcher) -> Arc<dyn Subscriber> {
    Arc::new(dispatcher.clone())
}

/// Who gets whose events, and who has some left without getting more.
pub(super) fn subscribers(
    config: &Config,
    users: &Users,
    dispatchers: &BTreeMap<WebhookName, Dispatcher>,
    removed: &mut dyn Iterator<Item = &RemovedWebhook>,
    orphans: &[Orphans],
) -> Subscribers {
    // One of each for all users: every event looks at those of its user.
    let all: BTreeMap<&WebhookName, Arc<dyn Subscriber>> =
        ordered::map(dispatchers.iter().map(|(name, dispatcher)| (name, subscriber(dispatcher))));
    // One that was just taken out still has its dispatcher.
    let configured = all.iter().filter(|(name, _)| config.webhooks.contains_key(**name));
    let webhooks =
        ordered::map(configured.map(|(name, webhook)| (WebhookName::clone(name), webhook.clone())));
    let mut leftovers = ByUser::<Vec<Arc<dyn Subscriber>>>::default();
    for (name, dispatcher) in dispatchers {
        for user in dispatcher.users_with_backlog() {
            leftovers.entry(user).or_default().push(Arc::clone(&all[name]));
        }
    }
    for webhook in removed {
        let subscriber: Arc<dyn Subscriber> = Arc::new(webhook.clone());
        for user in webhook.users() {
            leftovers.entry(user).or_default().push(Arc::clone(&subscriber));
        }
    }
    let (mut routes, mut known) = (ByUser::default(), BTreeMap::new());
    for user in users.all() {
        let Some(settings) = config.users.get(&user.name) else { continue };
        let route: &Route = known
            .entry(&settings.webhooks)
            .or_insert_with(|| settings.webhooks.iter().filter_map(|name| all.get(name).cloned()).collect());
        routes.insert(user.number, Arc::clone(route));
    }
    // A removed user's webhooks are told how its last messages ended.
    for FormerUser { user, webhooks } in orphans.iter().filter_map(Orphans::former_user) {
        let wanted = all.values().filter(|webhook| webhooks.contains(&webhook.webhook()));
        routes.insert(user.number, wanted.cloned().collect());
    }
    Subscribers { webhooks, routes, leftovers }
}
