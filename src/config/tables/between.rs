//! What is unwise only when tables are seen together.

use std::collections::HashSet;

use super::entries;
use crate::{
    config::{
        Config,
        plain::plain_path,
        report::{KeyPath, Report},
        secrets::is_world_readable,
        tree::Table,
    },
    names::Name,
};

/// Warns of bots and webhooks that no user uses.
pub(super) fn warn_of_unused(report: &Report, root: &Table, config: &Config) {
    let bots: HashSet<_> = config.users.values().map(|user| user.bot.as_str()).collect();
    let webhooks: HashSet<_> =
        config.users.values().flat_map(|user| &user.webhooks).map(Name::as_str).collect();
    for (table, used) in [("bots", bots), ("webhooks", webhooks)] {
        for (key, _) in entries(root, table) {
            if !used.contains(key.name.as_str()) {
                let path = KeyPath::table([table, &key.name]);
                report.warn(&key.span, &path, "no user uses it".into());
            }
        }
    }
}

/// Warns of secrets in the file itself, once a file.
pub(super) fn warn_of_literal_secrets(report: &Report) {
    for (file, count, first) in report.literal_secrets() {
        let what = if count == 1 { "a secret stands".into() } else { format!("{count} secrets stand") };
        let file_name = plain_path(&file);
        let message = if is_world_readable(&file) {
            format!(
                "{what} in this file, which every user of this machine can read: chmod o= {file_name}, \
                 or use {{ env = ... }}, {{ file = ... }} or {{ credential = ... }}"
            )
        } else {
            format!(
                "{what} in this file: {{ env = ... }}, {{ file = ... }} or {{ credential = ... }} keep it out"
            )
        };
        report.warn(&first, &KeyPath::default(), message);
    }
}
