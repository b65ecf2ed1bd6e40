//! What is merely unwise: the warnings.

use super::{BASE, Dir, WHSEC, fixture, load, warnings};

/// That a text gets one warning, about this key and with these words.
#[track_caller]
fn warned(text: &str, key: &str, words: &str) {
    let warnings = warnings(text);
    let about: Vec<_> = warnings.iter().filter(|warning| warning.key == key).collect();
    assert!(about.len() == 1 && about[0].message.contains(words), "{text}\n{warnings:#?}");
}

fn webhook(more: &str) -> String {
    BASE.replace("secret = { env = \"WHSEC\" }\n", more)
}

#[test]
fn unsafe_webhooks() {
    warned(&webhook(""), "[webhooks.crm]", "can't tell the bridge's events from forged ones");
    warned(&BASE.replace("https://crm", "http://crm"), "[webhooks.crm] url", "unencrypted");
    let local = BASE.replace("https://crm.example.com", "http://127.0.0.1:9090");
    assert_eq!(warnings(&local), []);
}

#[test]
fn event_types_that_look_like_slips() {
    let events =
        |event_type: &str| webhook(&format!("secret = {{ env = \"WHSEC\" }}\nevents = [\"{event_type}\"]\n"));
    warned(&events("bot_respnse"), "[webhooks.crm] events", "did you mean `bot_response`?");
    for fine in ["BOT_RESPONSE", "bridge.gap", "something_new", "*"] {
        assert_eq!(warnings(&events(fine)), [], "{fine}");
    }
}

#[test]
fn what_no_user_uses() {
    let unused = format!("{BASE}[webhooks.x]\nurl = \"https://a.example\"\nsecret = {{ env = \"WHSEC\" }}\n");
    warned(&unused, "[webhooks.x]", "no user uses it");
    let bot = BASE.lines().take(5).collect::<Vec<_>>().join("\n").replace("support", "sales");
    warned(&format!("{BASE}{bot}\n"), "[bots.sales]", "no user uses it");
}

#[test]
fn ids_that_look_swapped() {
    warned(&BASE.replace("st-1", "cs-9"), "[bots.support] id", "`st-`");
    warned(&BASE.replace("cs-1", "st-9"), "[bots.support] client_id", "`cs-`");
}

#[test]
fn literal_secrets_and_who_can_read_them() {
    let dir = Dir::new();
    dir.write("bridge.toml", BASE.replace("{ env = \"WHSEC\" }", &format!("\"{WHSEC}\"")));
    let said = |dir: &Dir| {
        let (_, warnings) = dir.load().unwrap();
        assert_eq!(warnings.len(), 1, "{warnings:#?}");
        dir.without_dir(&warnings[0].to_string())
    };
    assert!(said(&dir).starts_with("warning: bridge.toml:8: a secret stands in this file"), "{}", said(&dir));
    dir.set_mode("bridge.toml", 0o644);
    assert!(said(&dir).contains("every user of this machine can read"), "{}", said(&dir));

    dir.write("crm.secret", WHSEC);
    dir.write("bridge.toml", BASE.replace("{ env = \"WHSEC\" }", "{ file = \"crm.secret\" }"));
    assert_eq!(dir.load().unwrap().1, []);
    dir.set_mode("crm.secret", 0o604);
    assert!(said(&dir).contains("chmod o= crm.secret"), "{}", said(&dir));
}

#[test]
fn doubtful_settings() {
    for (text, key, words) in [
        ("[messages]\nttl = \"5s\"", "[messages] ttl", "ack_timeout (10s) is longer than ttl (5s)"),
        ("[messages]\nmax_body = \"8MiB\"", "[messages] max_body", "max_frame"),
        ("[store]\ndurability = \"os\"", "[store] durability", "loses power"),
        ("[platform]\ninsecure = true", "[platform] insecure", "only for tests"),
        ("[platform]\nrequest_rate = 6", "[platform] request_rate", "18,000 an hour"),
        ("[platform]\nrequest_rate = 5000", "[platform] request_rate", "18,000 an hour"),
        ("[platform]\nrequest_burst = 400", "[platform] request_burst", "600 requests a minute"),
        ("include = [\"users.d/*.toml\"]", "include", "no file matches"),
        (
            "[clients.c]\ntoken = \"short\"\nusers = [\"*\"]",
            "[clients.c] token",
            "short enough to be guessed",
        ),
        (
            "[clients.c]\ntoken = { env = \"CRM_API_TOKEN\" }\nusers = [\"*\"]\n[http]\nops = \"0.0.0.0:9\"",
            "[http] ops",
            "keep them private",
        ),
    ] {
        warned(text, key, words);
    }
}

#[test]
fn globs_that_match_nobody() {
    let text =
        format!("{BASE}[clients.c]\ntoken = {{ env = \"CRM_API_TOKEN\" }}\nusers = [\"bob\", \"al*\"]\n");
    warned(&text, "[clients.c] users", "no user matches `bob`");
}

#[test]
fn a_key_that_everyone_can_read() {
    let dir = Dir::new();
    for name in ["client.pem", "client.key"] {
        dir.write(name, std::fs::read(fixture(name)).unwrap());
    }
    let pair = "client_certificate = { certificate = \"client.pem\", key = \"client.key\" }";
    dir.write("bridge.toml", webhook(&format!("secret = {{ env = \"WHSEC\" }}\n{pair}\n")));
    assert_eq!(dir.load().unwrap().1, []);
    dir.set_mode("client.key", 0o644);
    assert!(dir.load().unwrap().1[0].message.contains("chmod o="));
}

#[test]
fn a_user_without_webhooks_is_fine() {
    let bob = "[users.bob]\nbot = \"support\"\nidentity = \"bob\"\nwebhooks = []\n";
    assert_eq!(load(&format!("{BASE}{bob}")).unwrap().1, []);
}
