//! What each table means, and what must hold between them.

mod between;
mod bots;
mod clients;
mod settings;
mod urls;
mod users;
mod webhooks;

pub(super) use settings::{api_listener, store};

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Config, Environment,
    load::unknown_tables,
    reader::TableReader,
    report::{About, KeyPath, Problem, Report},
    source::Visibility,
    tree::{Key, Node, Table, Value},
};
use crate::{
    names::{BotName, ClientName, Kind, Name, UserName, WebhookName},
    ordered,
};

const TABLES: [&str; 11] = [
    "include", "platform", "http", "store", "messages", "history", "log", "bots", "users", "webhooks",
    "clients",
];

/// Every name that is defined, also where what it names is wrong: a reference to it isn't dangling.
struct Names {
    bots: BTreeSet<BotName>,
    webhooks: BTreeSet<WebhookName>,
    users: BTreeSet<UserName>,
}

/// Reads the whole tree. None, or a report with problems, means that it can't be used.
pub(super) fn read(root: &Table, report: &Report, env: &dyn Environment) -> Option<Config> {
    unknown_tables(root, report, &TABLES);
    let names = Names {
        bots: defined(root, "bots"),
        webhooks: defined(root, "webhooks"),
        users: defined(root, "users"),
    };
    let platform = settings::platform(report, root);
    let messages = settings::messages(report, root, &platform);
    let history = settings::history(report, root);
    let store = settings::store(report, root, env);
    let log = settings::log(report, root);

    let bots: BTreeMap<BotName, _> =
        named(report, root, "bots", "bots.*", |_, table| bots::read(table, env, &platform));
    let webhooks: BTreeMap<WebhookName, _> =
        named(report, root, "webhooks", "webhooks.*", |_, table| webhooks::read(table, env));
    let mut identities = users::Identities::new(&bots);
    let users: BTreeMap<UserName, _> = named(report, root, "users", "users.*", |name, table| {
        users::read(name, table, &names, &mut identities)
    });
    let mut tokens = clients::Tokens::default();
    let clients: BTreeMap<ClientName, _> = named(report, root, "clients", "clients.*", |name, table| {
        clients::read(name, table, &names, env, &mut tokens)
    });
    let http = settings::http(report, root, entries(root, "clients").is_empty());

    let config = Config { platform, http, store, messages, history, log, bots, users, webhooks, clients };
    between::warn_of_unused(report, root, &config);
    between::warn_of_literal_secrets(report);
    Some(config)
}

fn entries<'r>(root: &'r Table, table: &str) -> &'r [(Key, Node)] {
    match root.get(table) {
        Some((_, Node { value: Value::Table(table), .. })) => &table.entries,
        _ => &[],
    }
}

fn defined<K: Kind>(root: &Table, table: &str) -> BTreeSet<Name<K>> {
    ordered::set(entries(root, table).iter().filter_map(|(key, _)| Name::new(&key.name).ok()))
}

/// Reads each of the things in a table of names; those that are wrong are left out.
fn named<'r, K: Kind, T>(
    report: &'r Report,
    root: &'r Table,
    table: &'static str,
    group: &'static str,
    mut read: impl FnMut(Option<&Name<K>>, TableReader<'r>) -> Option<T>,
) -> BTreeMap<Name<K>, T> {
    if let Some((key, node)) = root.get(table)
        && !matches!(node.value, Value::Table(_))
    {
        not_a_table(report, key, node, K::WORD);
    }
    let mut things = BTreeMap::new();
    for entry in entries(root, table) {
        let name = Name::new(&entry.0.name)
            .map_err(|invalid| bad_name(report, &entry.0, table, invalid.to_string()))
            .ok();
        let thing = read(name.as_ref(), TableReader::entry(report, group, table, entry));
        if let (Some(name), Some(thing)) = (name, thing) {
            things.insert(name, thing);
        }
    }
    things
}

fn bad_name(report: &Report, key: &Key, table: &str, message: String) {
    report.problem(Problem {
        about: About::Present,
        span: key.span.clone(),
        key: KeyPath::table([table, &key.name]).to_string(),
        message,
        help: Some("give it another name".into()),
        visibility: Visibility::Shown,
    });
}

fn not_a_table(report: &Report, key: &Key, node: &Node, word: &str) {
    report.problem(Problem {
        about: About::Present,
        span: key.span.clone(),
        key: KeyPath::table([key.name.as_str()]).to_string(),
        message: format!("must be a table of {word}s by name, not {}", node.value.type_in_words()),
        help: Some(format!("write `[{}.NAME]` for each {word}", key.name)),
        visibility: Visibility::Shown,
    });
}
