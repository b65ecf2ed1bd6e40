//! What a reload has to do: the difference between two configurations.

use std::collections::BTreeMap;

use super::Config;
use crate::names::{BotName, ClientName, Name, UserName, WebhookName};

/// How the things of one kind differ, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta<N> {
    /// Only the new configuration has them.
    pub added: Vec<N>,
    /// Only the old configuration has them.
    pub removed: Vec<N>,
    /// Both have them, and they differ.
    pub changed: Vec<N>,
}

impl<N> Delta<N> {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// How two configurations differ. A user is not `changed` by a change of its bot or its webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// `[users.*]`
    pub users: Delta<UserName>,
    /// `[bots.*]`
    pub bots: Delta<BotName>,
    /// `[webhooks.*]`
    pub webhooks: Delta<WebhookName>,
    /// `[clients.*]`
    pub clients: Delta<ClientName>,
    /// The tables of settings that differ and can be applied at run time.
    pub settings: Vec<&'static str>,
    /// The tables that differ and need a restart.
    pub restart: Vec<&'static str>,
}

impl<N> Default for Delta<N> {
    fn default() -> Self {
        Self { added: Vec::new(), removed: Vec::new(), changed: Vec::new() }
    }
}

impl Changes {
    /// Whether the configurations are the same.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
            && self.bots.is_empty()
            && self.webhooks.is_empty()
            && self.clients.is_empty()
            && self.settings.is_empty()
            && self.restart.is_empty()
    }
}

impl Config {
    /// What turns `old` into `new`.
    pub fn changes(old: &Self, new: &Self) -> Changes {
        let settings = [
            ("platform", old.platform != new.platform),
            ("messages", old.messages != new.messages),
            ("history", old.history != new.history),
            ("log", old.log.level != new.log.level),
        ];
        let restart = [
            ("http", old.http != new.http),
            ("store", old.store != new.store),
            ("log", old.log.format != new.log.format),
        ];
        Changes {
            users: delta(&old.users, &new.users),
            bots: delta(&old.bots, &new.bots),
            webhooks: delta(&old.webhooks, &new.webhooks),
            clients: delta(&old.clients, &new.clients),
            settings: those_that_differ(&settings),
            restart: those_that_differ(&restart),
        }
    }
}

fn those_that_differ(tables: &[(&'static str, bool)]) -> Vec<&'static str> {
    tables.iter().filter(|(_, differs)| *differs).map(|(table, _)| *table).collect()
}

fn delta<K, T: PartialEq>(old: &BTreeMap<Name<K>, T>, new: &BTreeMap<Name<K>, T>) -> Delta<Name<K>> {
    let only_in = |map: &BTreeMap<Name<K>, T>, other: &BTreeMap<Name<K>, T>| {
        map.keys().filter(|name| !other.contains_key(*name)).cloned().collect()
    };
    let differs = |(name, thing): &(&Name<K>, &T)| new.get(*name).is_some_and(|other| other != *thing);
    Delta {
        added: only_in(new, old),
        removed: only_in(old, new),
        changed: old.iter().filter(differs).map(|(name, _)| name.clone()).collect(),
    }
}
