//! What differs between two files.

use super::{BASE, valid};
use crate::config::{Changes, Config};

fn changes(old: &str, new: &str) -> Changes {
    Config::changes(&valid(old), &valid(new))
}

#[test]
fn the_same_file_changes_nothing() {
    assert!(changes(BASE, BASE).is_empty());
    assert!(changes(BASE, &format!("# a comment\n{BASE}[messages]\nttl = \"900s\"\n")).is_empty());
}

#[test]
fn what_is_added_removed_and_changed_is_told_apart() {
    let bob = "[users.bob]\nbot = \"support\"\nidentity = \"bob\"\nwebhooks = []\n";
    let with_bob = format!("{BASE}{bob}");
    assert_eq!(changes(BASE, &with_bob).users.added, ["bob".parse_name()]);
    assert_eq!(changes(&with_bob, BASE).users.removed, ["bob".parse_name()]);
    let moved = with_bob.replace("\"bob\"", "\"robert\"");
    let changes = changes(&with_bob, &moved);
    assert_eq!(changes.users.changed, ["bob".parse_name()]);
    assert!(changes.users.added.is_empty() && changes.users.removed.is_empty());
    assert!(changes.bots.is_empty() && changes.webhooks.is_empty() && !changes.is_empty());
}

#[test]
fn a_rotated_secret_is_a_change() {
    let old = BASE.replace("{ env = \"BOT_SECRET\" }", "\"one\"");
    let changes = changes(&old, &old.replace("\"one\"", "\"two\""));
    assert_eq!(changes.bots.changed.len(), 1);
    assert!(changes.users.is_empty());
}

#[test]
fn listeners_and_store_need_a_restart_and_settings_do_not() {
    let new = format!(
        "{BASE}[http]\nidle_timeout = \"1m\"\n[store]\nretention = \"1d\"\n[log]\nlevel = \"debug\"\n[platform]\nrequest_burst = 50\n"
    );
    let changes = changes(BASE, &new);
    assert_eq!(changes.restart, ["http", "store"]);
    assert_eq!(changes.settings, ["platform", "log"]);
}

trait ParseName {
    fn parse_name(&self) -> crate::names::UserName;
}

impl ParseName for str {
    fn parse_name(&self) -> crate::names::UserName {
        crate::names::UserName::new(self).unwrap()
    }
}
