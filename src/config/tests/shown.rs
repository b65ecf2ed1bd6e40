//! How a configuration and its mistakes look to a person.

use super::{BASE, Dir, Fake, TOKEN, WHSEC};
use crate::config::explain;

/// What `check` would say about a good file.
fn explained(dir: &Dir) -> String {
    let (config, warnings) = dir.load().unwrap_or_else(|errors| panic!("{errors}"));
    dir.without_dir(&explain(&config, &warnings).to_string())
}

#[test]
fn several_mistakes() {
    let dir = Dir::new();
    dir.write(
        "bridge.toml",
        "include = [\"users.d/*.toml\"]\n".to_owned()
            + &BASE.replace("webhooks =", "webhook =")
            + "\n[messages]\nttl = 900  # seconds\nin_flight = 0\n\n[log]\nlevel = debug\n",
    );
    dir.write("users.d/bob.toml", "[users.bob]\nbot = \"suport\"\nidentity = \"bob\"\nwebhooks = [\"crm\", \"crn\"]\n[webhooks.crm]\nurl = \"https://u:p@a.example\"\n");
    let errors = dir.load().unwrap_err();
    insta::assert_snapshot!(dir.without_dir(&errors.to_string()), @r#"
    error: bridge.toml:13: [users.alice] webhook: unknown key
        13 | webhook = […]
           | ^^^^^^^ did you mean `webhooks`?

    error: bridge.toml:16: [messages] ttl: must be a duration with its unit
        16 | ttl = 900
           |       ^^^ did you mean `"900s"`?

    error: bridge.toml:17: [messages] in_flight: is too small: at least 1
        17 | in_flight = 0
           |             ^

    error: bridge.toml:20: not valid TOML: string values must be quoted, expected literal string
        20 | level =…
           |        ^ put quotation marks around texts

    error: users.d/bob.toml:2: [users.bob] bot: there is no bot `suport`
         2 | bot = "suport"
           |       ^^^^^^^^ did you mean `support`?

    error: users.d/bob.toml:4: [users.bob] webhooks: there is no webhook `crn`
         4 | webhooks = […, "crn"]
           |                ^^^^^ did you mean `crm`?

    error: users.d/bob.toml:5: [webhooks.crm]: is defined twice: first at bridge.toml:7
         5 | [webhooks.crm]
           |           ^^^ rename or remove one of them

    7 errors: the configuration can't be used
    "#);
}

#[test]
fn a_mistake_in_text_from_outside_is_escaped() {
    let errors =
        super::load("[log]\nlevel = \"\\u001b[31mred\"\n\"a\\u0007\" = 1\n").unwrap_err().to_string();
    assert!(!errors.contains(['\u{1b}', '\u{7}']), "{errors}");
    assert!(errors.contains("`\\u{1b}[31mred` is not a log level"), "{errors}");
}

#[test]
fn a_long_line_is_cut() {
    let long = "x".repeat(500);
    let errors = super::load(&format!("[log]\n{long} = 1\n")).unwrap_err().to_string();
    assert!(errors.lines().skip(1).take(2).all(|line| line.chars().count() < 200), "{errors}");
}

#[test]
fn a_whole_configuration() {
    let dir = Dir::new();
    dir.write(
        "bridge.toml",
        format!(
            r#"{BASE}
[users.bob]
bot = "support"
identity = "bob\u0007"
webhooks = []
[webhooks.legacy]
url = "http://10.0.0.7/hook?token=hidden"
events = ["*"]
format = "form"
ordered = false
max_age = "36h"
max_in_flight = 4
rate = "10/s"
streaming = "assembled"
basic_auth = {{ user = "bridge", password = "hidden" }}
headers = {{ x-team = "hidden" }}
[clients.crm]
token = ["{TOKEN}", "{TOKEN}2"]
users = ["*"]
[clients.ops]
token = {{ env = "CRM_API_TOKEN2" }}
users = ["al*", "bob"]
scopes = ["read", "admin"]
rate = "5/s"
[platform]
url = "https://platform.example/base"
websocket_url = "wss://rtm.example"
[messages]
in_flight = 3
[store]
durability = "os"
path = "kept"
"#
        ),
    );
    let env = Fake::usual().with("CRM_API_TOKEN2", format!("{TOKEN}3"));
    let (config, warnings) = dir.load_with(&env).unwrap_or_else(|errors| panic!("{errors}"));
    let explained = dir.without_dir(&explain(&config, &warnings).to_string());
    assert!(!explained.contains("hidden") && !explained.contains(TOKEN) && !explained.contains(WHSEC));
    insta::assert_snapshot!(explained, @r#"
    API:       http://127.0.0.1:8080 (send messages, ask what became of them)
    Ops:       http://127.0.0.1:8081 (status page, health, metrics)
    Platform:  https://platform.example/base, sockets to wss://rtm.example/, at most 4.5 requests a second and bot (bursts of 60)
    Store:     kept (survives a crash of the process, not of the machine)
    Messages:  expire after 15 minutes; sent again after 10 seconds without an ack, 3 times in all; up to 3 at a time per user, so a resend may change their order
    1 bot:
      support: "Support", id st-1, client cs-1
    2 users:
      alice: "alice@example.com" on support, events to crm
      bob: "bob\u{7}" on support, events to no webhook (inbox and live tail only)
    2 webhooks:
      crm: https://crm.example.com/events
        events of type bot_response, user_message, as JSON envelopes
        each user's in order, up to 32 at once
        15 seconds for an attempt, tried for 1 day, then a dead letter
        signed
      legacy: http://10.0.0.7/hook?...
        every event of the platform, as forms, streamed answers as one event
        in any order, up to 4 at once, at most 10/s
        15 seconds for an attempt, tried for 36 hours, then a dead letter
        NOT signed, with basic authentication, with the headers x-team
    2 clients:
      crm: may send and read for every user (several tokens: rotation)
      ops: may read and administrate for al*, bob, at most 5/s
    warning: bridge.toml:18: [webhooks.legacy]: has no `secret`: the receiver can't tell the bridge's events from forged ones
    warning: bridge.toml:18: [webhooks.legacy]: no user uses it
    warning: bridge.toml:19: [webhooks.legacy] url: events travel unencrypted over http://; use https:// outside this machine
    warning: bridge.toml:27: 3 secrets stand in this file: { env = ... }, { file = ... } or { credential = ... } keep it out
    warning: bridge.toml:43: [store] durability: accepted messages and received events may be lost when the machine loses power
    "#);
}

#[test]
fn the_smallest_configuration() {
    let dir = Dir::new();
    dir.write("bridge.toml", "");
    insta::assert_snapshot!(explained(&dir), @r#"
    API:       http://127.0.0.1:8080 (send messages, ask what became of them)
    Ops:       http://127.0.0.1:8081 (status page, health, metrics)
    Platform:  https://bots.kore.ai/, at most 4.5 requests a second and bot (bursts of 60)
    Store:     data (survives a power loss)
    Messages:  expire after 15 minutes; sent again after 10 seconds without an ack, 3 times in all; one at a time per user
    0 bots
    0 users
    0 webhooks
    Clients: none, so every program on this machine may do everything
    "#);
}

#[test]
fn thousands_of_users_are_counted() {
    let dir = Dir::new();
    let users: String = (0..3000)
        .map(|n| format!("[users.u{n}]\nbot = \"support\"\nidentity = \"u{n}\"\nwebhooks = [\"crm\"]\n"))
        .collect();
    dir.write("bridge.toml", BASE.to_owned() + &users);
    let explained = explained(&dir);
    assert!(explained.contains("3001 users:\n"), "{explained}");
    assert!(explained.contains("  ... and 2981 more\n"), "{explained}");
    assert!(explained.lines().count() < 50);
}
