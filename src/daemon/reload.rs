//! A reload: turns a running daemon into one of another configuration, and leaves alone what did not
//! change.
//!
//! Everything that can fail is made ready first (clients, certificates, what the store has of a new webhook);
//! until then nothing has changed. What follows can only be slow.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use futures_util::future::join_all;

use super::{
    DELIVERY_DRAIN, Daemon,
    orphans::expire_messages,
    webhooks::{self, Webhooks},
};
use crate::{
    clock::Timestamp,
    config::{self, Changes, Config, Delta},
    events::Subscriber as _,
    letters::Replayer,
    names::{UserName, WebhookName},
    rtm::platform::{self, PlatformError},
    users::{ConnectionState, User},
    webhook::{Dispatcher, LoadError, RemovedWebhook, Sender, SenderError},
};

/// How long the store has to take what was handed over.
const SETTLE_LIMIT: Duration = Duration::from_secs(20);

/// Why a configuration was not applied. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The client for the platform can't be built.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// A webhook's client can't be built.
    #[error(transparent)]
    Sender(#[from] SenderError),
    /// What the store has of a new webhook can't be read.
    #[error("a new webhook can't be taken up: {0}")]
    Webhook(#[from] LoadError),
    /// Without clients, everyone who reaches the listeners could do everything.
    #[error(
        "[clients] is empty, and a listener of this run is not on loopback: everyone could post; restart the daemon with listeners on loopback, or keep a client"
    )]
    Exposed,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// What differs.
    pub changes: Changes,
    /// Users whose connection was made anew.
    pub reconnected: usize,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Changes { users, bots, webhooks, clients, settings, restart } = &self.changes;
        let mut parts = Vec::new();
        parts.extend(words("user", users));
        parts.extend(words("bot", bots));
        parts.extend(words("webhook", webhooks));
        parts.extend(words("client", clients));
        parts.extend(settings.iter().map(|table| format!("[{table}] changed")));
        parts.extend(restart.iter().map(|table| format!("[{table}] needs a restart")));
        if self.reconnected > 0 {
            parts.push(format!("{} reconnecting", counted(self.reconnected, "user")));
        }
        if parts.is_empty() { f.write_str("nothing changed") } else { f.write_str(&parts.join(", ")) }
    }
}

fn words<N>(what: &str, delta: &Delta<N>) -> Vec<String> {
    [("added", &delta.added), ("removed", &delta.removed), ("changed", &delta.changed)]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(verb, names)| format!("{} {verb}", counted(names.len(), what)))
        .collect()
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What was made ready before anything changed.
struct Ready {
    platform: Option<platform::Terms>,
    /// For webhooks that changed.
    senders: BTreeMap<WebhookName, Sender>,
    /// Webhooks that are new.
    added: BTreeMap<WebhookName, Dispatcher>,
}

impl Daemon {
    /// Applies another configuration: only what changed restarts, every other socket stays up. `[http]` and
    /// `[store]` stay as they were at the start. One at a time; others wait.
    ///
    /// # Errors
    /// It can't be applied. Nothing changed.
    pub async fn reload(&self, new: &Config) -> Result<Reloaded, ReloadError> {
        let _alone = self.reloading.lock().await;
        let old = self.config.get();
        let changes = Config::changes(&old, new);
        let config = Config { http: old.http.clone(), store: old.store.clone(), ..new.clone() };
        if config.clients.is_empty() && !self.is_on_loopback() {
            return Err(ReloadError::Exposed);
        }
        let ready = self.make_ready(&old, &config, &changes).await?;
        self.messages.reload(config.messages.clone());
        self.api.reload(&config);
        self.remove_users(&changes.users.removed).await;
        let (staying, anew) = self.sort_users(&old, &config);
        let moved = self.insert_users(&config, &changes.users.added, &anew);
        let Ready { platform, senders, added } = ready;
        self.change_webhooks(&config, &changes, added, senders);
        self.subscribe(&config);
        if let Some(terms) = platform {
            self.platform.reload(terms);
        }
        self.callers.reload(&config);
        self.supervisor.reconfigure(&config, &self.concerned(&old, &config, staying));
        self.connect(&config, moved, &anew).await;
        for webhook in &changes.webhooks.removed {
            self.remove_webhook(&config, webhook).await;
        }
        self.config.set(config);
        self.read_certificates_again();
        Ok(Reloaded { changes, reconnected: anew.len() })
    }

    /// Whether users, webhooks or clients would go by a reload of this.
    pub fn would_remove(&self, new: &Config) -> bool {
        let Changes { users, webhooks, clients, .. } = Config::changes(&self.config.get(), new);
        !(users.removed.is_empty() && webhooks.removed.is_empty() && clients.removed.is_empty())
    }

    fn is_on_loopback(&self) -> bool {
        [self.api_address, self.ops_address].iter().all(|address| address.ip().is_loopback())
    }

    async fn make_ready(&self, old: &Config, new: &Config, changes: &Changes) -> Result<Ready, ReloadError> {
        let platform =
            (old.platform != new.platform).then(|| platform::Terms::new(&new.platform)).transpose()?;
        let mut senders = BTreeMap::new();
        for name in &changes.webhooks.changed {
            senders.insert(name.clone(), Sender::new(name, &new.webhooks[name])?);
        }
        // Before a webhook's backlog is touched: its client may be what fails.
        for name in &changes.webhooks.added {
            Sender::new(name, &new.webhooks[name])?;
        }
        let mut added = BTreeMap::new();
        for name in &changes.webhooks.added {
            let burial = self.webhooks.lock().exhume(name);
            if let Some(burial) = burial {
                // One that returns takes up what is left.
                burial.stop().await;
                self.settled().await;
            }
            let settings = &new.webhooks[name];
            let (store, letters, room) = (self.store.clone(), self.letters.clone(), self.lane_room.clone());
            let dispatcher = Dispatcher::load(name, settings, store, letters, room)?;
            added.insert(name.clone(), dispatcher);
        }
        Ok(Ready { platform, senders, added })
    }

    /// Takes users out: nothing more is accepted for them, their connections end, their messages too.
    async fn remove_users(&self, names: &[UserName]) {
        let removed: Vec<_> = names.iter().filter_map(|name| self.users.remove(name)).collect();
        join_all(removed.iter().map(|user| self.supervisor.remove(&user.name))).await;
        if !removed.is_empty() {
            // What was accepted just before is in the queue then.
            self.settled().await;
        }
        for user in &removed {
            expire_messages(user, &self.messages, &self.events).await;
            tracing::info!(user = %user.name, bot = %user.bot, "user removed");
        }
    }

    /// Users who stay: those whose connection stays, and those who need another one.
    fn sort_users(&self, old: &Config, new: &Config) -> (Vec<UserName>, Vec<UserName>) {
        let is_other_platform =
            old.platform.url != new.platform.url || old.platform.websocket_url != new.platform.websocket_url;
        let both = new.users.iter().filter_map(|(name, user)| Some((name, old.users.get(name)?, user)));
        let (mut staying, mut anew) = (Vec::new(), Vec::new());
        for (name, before, after) in both {
            let is_another = is_other_platform
                || (&before.bot, &before.identity) != (&after.bot, &after.identity)
                || is_another_bot(&old.bots[&before.bot], &new.bots[&after.bot]);
            if is_another { &mut anew } else { &mut staying }.push(name.clone());
        }
        (staying, anew)
    }

    /// Puts new users in, and those who have another bot in the place of those that had the old one.
    fn insert_users(&self, config: &Config, added: &[UserName], anew: &[UserName]) -> Vec<Arc<User>> {
        let mut inserted = Vec::new();
        for name in added {
            let bot = config.users[name].bot.clone();
            match self.store.user_number(name) {
                Ok(number) => {
                    tracing::info!(user = %name, %bot, "user added");
                    inserted.push(Arc::new(User::new(name.clone(), number, bot, Timestamp::now())));
                }
                Err(error) => tracing::error!(user = %name, %error, "a new user can't be taken up"),
            }
        }
        for name in anew {
            let Some(user) = self.users.get(name.as_str()) else { continue };
            let bot = &config.users[name].bot;
            let is_same_bot = user.bot == *bot;
            tracing::info!(user = %name, %bot, "user changed");
            inserted.push(if is_same_bot {
                user
            } else {
                Arc::new(user.with_bot(bot.clone(), Timestamp::now()))
            });
        }
        inserted.iter().for_each(|user| self.users.insert(user.clone()));
        inserted
    }

    /// Starts new webhooks and changes others.
    fn change_webhooks(
        &self,
        config: &Config,
        changes: &Changes,
        added: BTreeMap<WebhookName, Dispatcher>,
        senders: BTreeMap<WebhookName, Sender>,
    ) {
        let mut webhooks = self.webhooks.lock();
        for (name, dispatcher) in added {
            let replayer: Arc<dyn Replayer> = Arc::new(dispatcher.clone());
            self.letters.connect(dispatcher.webhook(), replayer);
            dispatcher.start(self.events.clone());
            tracing::info!(webhook = %name, "webhook added");
            webhooks.dispatchers.insert(name, dispatcher);
        }
        for (name, sender) in senders {
            if let Some(dispatcher) = webhooks.dispatchers.get(&name) {
                dispatcher.reconfigure(&config.webhooks[&name], sender);
                tracing::info!(webhook = %name, "webhook changed");
            }
        }
        for name in &changes.webhooks.removed {
            if let Some(dispatcher) = webhooks.dispatchers.get(name) {
                self.letters.disconnect(dispatcher.webhook());
                dispatcher.retire();
            }
        }
    }

    /// From now on, events go where `config` says.
    fn subscribe(&self, config: &Config) {
        let webhooks = self.webhooks.lock();
        let Webhooks { dispatchers, .. } = &*webhooks;
        let subscribers =
            webhooks::subscribers(config, &self.users, dispatchers, &mut webhooks.removed(), &[]);
        self.events.resubscribe(subscribers);
    }

    /// Those who keep their connection and are to hear of the new configuration.
    fn concerned(&self, old: &Config, new: &Config, staying: Vec<UserName>) -> Vec<Arc<User>> {
        let is_everyone =
            (&old.platform, &old.messages, &old.history) != (&new.platform, &new.messages, &new.history);
        let users = staying.iter().filter_map(|name| self.users.get(name.as_str()));
        let is_concerned = |user: &Arc<User>| {
            is_everyone
                || old.bots.get(&user.bot) != new.bots.get(&user.bot)
                || user.status().state == ConnectionState::Unauthorized
        };
        users.filter(is_concerned).collect()
    }

    /// Makes the connections of `users`; those of `anew` are ended first.
    async fn connect(&self, config: &Config, users: Vec<Arc<User>>, anew: &[UserName]) {
        join_all(anew.iter().map(|name| self.supervisor.remove(name))).await;
        if !anew.is_empty() {
            // What is remembered of them can be read then.
            self.settled().await;
        }
        for user in users {
            if let Err(error) = self.supervisor.add(config, &user) {
                tracing::error!(user = %user.name, %error, "a user's connection could not be started");
            }
        }
    }

    /// Ends a webhook that is no longer configured: its backlog becomes dead letters.
    async fn remove_webhook(&self, config: &Config, name: &WebhookName) {
        let Some(dispatcher) = self.webhooks.lock().dispatchers.get(name).cloned() else { return };
        // What was given a place before it was retired is in its lanes then.
        let arrived = self.settled().await;
        dispatcher.stop();
        dispatcher.finish(DELIVERY_DRAIN).await;
        // And how far they are can be read.
        if !arrived.is_yes() || !self.settled().await.is_yes() {
            tracing::warn!(webhook = %name, "the store is too slow; the backlog of this removed webhook becomes dead letters after the next start");
            return;
        }
        match RemovedWebhook::load(&self.store, &self.letters, dispatcher.webhook()) {
            Ok(removed) => {
                let mut webhooks = self.webhooks.lock();
                webhooks.dispatchers.remove(name);
                if let Some(removed) = removed {
                    webhooks.bury(removed, &self.caretakers, &self.events, &self.draining);
                }
                drop(webhooks);
                self.subscribe(config);
                tracing::info!(webhook = %name, "webhook removed");
            }
            Err(error) => {
                tracing::error!(webhook = %name, %error, "the backlog of a removed webhook can't be read; it stays as it is");
            }
        }
    }

    /// Waits until everything that was handed over is on stable storage, unless that takes too long.
    async fn settled(&self) -> Settled {
        match tokio::time::timeout(SETTLE_LIMIT, self.store.settled()).await {
            Ok(Ok(())) => Settled::Yes,
            Ok(Err(_)) | Err(_) => Settled::No,
        }
    }
}

/// Whether what was handed over is on stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Yes,
    No,
}

impl Settled {
    fn is_yes(self) -> bool {
        self == Self::Yes
    }
}

/// Whether the platform takes it for another bot, and its users for other users. Another secret does not make
/// it one: it is for the next sign-in.
fn is_another_bot(before: &config::Bot, after: &config::Bot) -> bool {
    (&before.name, &before.id, &before.client_id) != (&after.name, &after.id, &after.client_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_said_in_one_line() {
        let users = |names: &[&str]| names.iter().map(|name| UserName::new(name).unwrap()).collect();
        let mut changes = Changes::default();
        assert_eq!(Reloaded { changes: changes.clone(), reconnected: 0 }.to_string(), "nothing changed");
        changes.users.added = users(&["a", "b"]);
        changes.users.removed = users(&["c"]);
        changes.webhooks.changed = vec![WebhookName::new("crm").unwrap()];
        changes.settings = vec!["platform"];
        changes.restart = vec!["http"];
        insta::assert_snapshot!(Reloaded { changes, reconnected: 1 }.to_string(), @"2 users added, 1 user removed, 1 webhook changed, [platform] changed, [http] needs a restart, 1 user reconnecting");
    }

    #[test]
    fn another_secret_makes_no_other_bot() {
        let bot = config::Bot {
            name: "Support".into(),
            id: "st-1".into(),
            client_id: "cs-1".into(),
            credentials: config::Credentials::client_secret("old"),
            history: config::HistorySource::Rtm,
        };
        let rotated = config::Bot { credentials: config::Credentials::client_secret("new"), ..bot.clone() };
        assert!(!is_another_bot(&bot, &rotated));
        assert!(is_another_bot(&bot, &config::Bot { id: "st-2".into(), ..bot.clone() }));
    }
}
