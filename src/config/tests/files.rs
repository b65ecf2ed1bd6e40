//! Includes, secrets and certificates: what comes from other files.

use std::{collections::BTreeSet, path::Path};

use super::{BASE, Dir, Fake, TOKEN, WHSEC, fixture, valid};
use crate::{config::Config, names::Name};

fn user(name: &str) -> String {
    format!("[users.{name}]\nbot = \"support\"\nidentity = \"{name}\"\nwebhooks = []\n")
}

/// The messages of a configuration that must be wrong.
fn messages(dir: &Dir) -> Vec<String> {
    let errors = dir.load().expect_err("must be wrong");
    errors
        .iter()
        .map(|error| dir.without_dir(&format!("{}: {}: {}", error.file.display(), error.key, error.message)))
        .collect()
}

#[test]
fn included_tables_are_merged_in_the_order_of_their_names() {
    let dir = Dir::new();
    dir.write("bridge.toml", format!("include = [\"users.d/*.toml\", \"more.toml\"]\n{BASE}"));
    dir.write("users.d/b.toml", user("bob"));
    dir.write("users.d/c.toml", user("carol") + "[messages]\nttl = \"1m\"\n");
    dir.write("users.d/.hidden.toml", user("hidden"));
    dir.write("users.d/d.toml~", "not TOML");
    dir.write("more.toml", user("dave") + "[messages]\nin_flight = 2\n");
    let (config, _) = dir.load().unwrap();
    let names: BTreeSet<_> = config.users.keys().map(Name::as_str).collect();
    assert_eq!(names, BTreeSet::from(["alice", "bob", "carol", "dave"]));
    assert_eq!((config.messages.ttl.as_secs(), config.messages.in_flight), (60, 2));
}

#[test]
fn a_name_or_a_knob_defined_twice_names_both_places() {
    let dir = Dir::new();
    dir.write("bridge.toml", format!("include = [\"u/*.toml\"]\n{BASE}[log]\nlevel = \"info\"\n"));
    dir.write("u/a.toml", user("alice"));
    dir.write("u/b.toml", "\n[log]\nlevel = \"warn\"\n");
    assert_eq!(
        messages(&dir),
        [
            "u/a.toml: [users.alice]: is defined twice: first at bridge.toml:10",
            "u/b.toml: [log] level: is defined twice: first at bridge.toml:15",
        ]
    );
}

#[test]
fn includes_go_one_level_deep_and_never_include_the_file_itself() {
    let dir = Dir::new();
    dir.write("bridge.toml", format!("include = [\"*.toml\"]\n{BASE}"));
    dir.write("a.toml", "include = [\"b/c.toml\"]\n");
    assert_eq!(messages(&dir), ["a.toml: include: an included file can't include others"]);
    dir.write("a.toml", "");
    dir.load().unwrap();
}

#[test]
fn mistakes_of_all_files_are_reported_together_in_their_order() {
    let dir = Dir::new();
    dir.write("bridge.toml", format!("include = [\"u/*.toml\", \"no.toml\"]\n{BASE}\n[http]\napy = 1\n"));
    dir.write("u/a.toml", "[users.bob]\nbot = \n");
    dir.write("u/b.toml", "[users.carol]\nbot = \"suport\"\n");
    let all = messages(&dir);
    assert_eq!(all.len(), 4, "{all:#?}");
    assert!(all[0].starts_with("no.toml: : can't be read"), "{all:#?}");
    assert!(all[1].starts_with("bridge.toml: [http] apy"), "{all:#?}");
    assert!(all[2].starts_with("u/a.toml: : not valid TOML"), "{all:#?}");
    assert!(all[3].starts_with("u/b.toml: [users.carol] bot: there is no bot"), "{all:#?}");
}

#[test]
fn a_missing_file_and_one_that_is_no_text_are_errors() {
    let dir = Dir::new();
    assert!(messages(&dir)[0].contains("can't be read"));
    dir.write("bridge.toml", b"[log]\n\xff\n");
    assert_eq!(messages(&dir), ["bridge.toml: : is not UTF-8 text (line 2)"]);
    let errors = Config::load(dir.0.path(), &Fake::default()).unwrap_err();
    assert!(errors.to_string().contains("not a regular file"), "{errors}");
}

#[test]
fn secrets_come_from_files_and_credentials_without_their_line_break() {
    let dir = Dir::new();
    dir.write("secrets/crm", format!("{WHSEC}\r\n"));
    dir.write("credentials/token", format!("{TOKEN}\n"));
    dir.write(
        "bridge.toml",
        BASE.replace("{ env = \"WHSEC\" }", "[{ file = \"secrets/crm\" }, { env = \"WHSEC\" }]")
            + "[clients.c]\ntoken = { credential = \"token\" }\nusers = [\"*\"]\n",
    );
    let env = Fake::usual().with("CREDENTIALS_DIRECTORY", dir.path("credentials"));
    let (config, warnings) = dir.load_with(&env).unwrap();
    let (webhook, client) = (&config.webhooks["crm"], &config.clients["c"]);
    assert_eq!(webhook.secrets[0], webhook.secrets[1]);
    assert_eq!(webhook.secrets[0].0, (0..32).collect::<Vec<u8>>());
    assert_eq!(client.tokens[0].expose(), TOKEN);
    assert_eq!(warnings, []);
}

#[test]
fn a_credential_is_a_name_and_nothing_else() {
    let dir = Dir::new();
    dir.write("token", TOKEN);
    dir.write("credentials/empty", "\n\n");
    let env = Fake::usual().with("CREDENTIALS_DIRECTORY", dir.path("credentials"));
    for (name, message) in [
        ("../token", "is not the name of a credential"),
        ("", "is not the name of a credential"),
        ("/etc/passwd", "is not the name of a credential"),
        ("none", "can't read"),
        ("empty", "is empty"),
    ] {
        dir.write(
            "bridge.toml",
            format!("[clients.c]\ntoken = {{ credential = \"{name}\" }}\nusers = [\"*\"]\n"),
        );
        let errors = dir.load_with(&env).unwrap_err();
        assert!(errors.to_string().contains(message), "{errors}");
    }
}

#[test]
fn certificates_and_keys_are_read_and_matched_up() {
    let (certificate, key, other) = (fixture("client.pem"), fixture("client.key"), fixture("other.key"));
    let pair = |key: &Path| {
        format!("{{ certificate = \"{}\", key = \"{}\" }}", certificate.display(), key.display())
    };
    let config = valid(&format!("[http]\ntls = {}\n", pair(&key)));
    assert_eq!(
        config.http.tls.map(|tls| (tls.certificate, tls.key)),
        Some((certificate.clone(), key.clone()))
    );
    let config = valid(&format!("[platform]\nca = \"{}\"\n", certificate.display()));
    assert_eq!(config.platform.ca.as_ref(), Some(&certificate));

    for (text, message) in [
        (format!("[http]\ntls = {}", pair(&other)), "the key does not belong to the certificate"),
        (format!("[http]\ntls = {}", pair(&certificate)), "holds no private key"),
        (format!("[platform]\nca = \"{}\"", key.display()), "holds no certificate"),
        ("[http]\ntls = { certificate = \"no.pem\" }".into(), "[http] tls.key: is missing"),
    ] {
        let errors = super::load(&text).unwrap_err().to_string();
        assert!(errors.contains(message), "{text}\n{errors}");
    }
}

#[test]
fn garbage_in_pem_is_refused() {
    let dir = Dir::new();
    dir.write("bridge.toml", "[platform]\nca = \"ca.pem\"\n");
    for pem in [
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n",
    ] {
        dir.write("ca.pem", pem);
        assert!(messages(&dir)[0].contains("ca.pem"), "{:?}", messages(&dir));
    }
}

#[test]
fn the_store_is_beside_the_file_or_where_systemd_says() {
    let dir = Dir::new();
    let path = |env: &Fake| dir.load_with(env).unwrap().0.store.path;
    let systemd = Fake::usual().with("STATE_DIRECTORY", "/var/lib/rtm-bridge:/var/lib/other");
    dir.write("bridge.toml", "");
    assert_eq!(path(&Fake::usual()), Path::new("data"));
    assert_eq!(path(&systemd), Path::new("/var/lib/rtm-bridge"));
    dir.write("bridge.toml", "[store]\npath = \"kept\"\n");
    assert_eq!(path(&systemd), dir.path("kept"));
    dir.write("bridge.toml", "[store]\npath = \"/srv/kept\"\n");
    assert_eq!(path(&systemd), Path::new("/srv/kept"));
}

const SOAP: &str = "template = \"t/desk.xml\"\ncontent_type = \"text/xml\"\n";

fn with_template(dir: &Dir, settings: &str, template: &str) {
    dir.write("t/desk.xml", template);
    dir.write("bridge.toml", BASE.replace("[users.alice]", &format!("{settings}[users.alice]")));
}

#[test]
fn a_template_is_read_and_another_text_is_another_webhook() {
    let dir = Dir::new();
    with_template(&dir, SOAP, "<t>{{ text }}</t>");
    let (before, warnings) = dir.load().unwrap();
    let source = before.webhooks["crm"].template.as_ref().unwrap().source();
    assert_eq!(
        (&*source.file, &*source.content_type, &*source.text),
        ("desk.xml", "text/xml", "<t>{{ text }}</t>")
    );
    assert_eq!(warnings, []);
    dir.write("t/desk.xml", "<u>{{ text }}</u>");
    let changes = Config::changes(&before, &dir.load().unwrap().0);
    assert_eq!(changes.webhooks.changed.len(), 1);
    assert_ne!(before.webhooks["crm"].format, dir.load().unwrap().0.webhooks["crm"].format);
}

#[test]
fn mistakes_about_a_template_are_reported_with_all_others() {
    let dir = Dir::new();
    let cases = [
        (SOAP.to_owned(), "<t>\n{{ text }", "[webhooks.crm] template: desk.xml, line 2: syntax error"),
        (SOAP.to_owned(), "{% include \"x\" %}", "[webhooks.crm] template: desk.xml, line 1: "),
        (SOAP.replace("desk", "other"), "", "[webhooks.crm] template: can't read t/other.xml"),
        (SOAP.replace("text/xml", "xml"), "", "[webhooks.crm] content_type: is not a content type"),
        ("template = \"t/desk.xml\"\n".to_owned(), "", "[webhooks.crm] template: needs a `content_type`"),
        (
            "content_type = \"text/xml\"\n".to_owned(),
            "",
            "[webhooks.crm] content_type: has no effect without",
        ),
        (format!("{SOAP}format = \"form\"\n"), "", "[webhooks.crm] format: `template` and `format` both"),
        ("method = \"PATCH\"\n".to_owned(), "", "[webhooks.crm] method: "),
    ];
    for (settings, template, expected) in cases {
        with_template(&dir, &format!("{settings}timeout = 0\n"), template);
        let all = messages(&dir);
        assert!(all.iter().any(|message| message.contains(expected)), "{expected}: {all:#?}");
        assert!(all.iter().any(|message| message.contains("timeout")), "the other one, too: {all:#?}");
        assert_eq!(all.len(), 2, "{all:#?}");
    }
    with_template(&dir, SOAP, "");
    dir.write("t/desk.xml", b"\xff");
    assert!(messages(&dir)[0].contains("desk.xml is not UTF-8"));
    dir.write("t/desk.xml", "x".repeat(65 << 10));
    assert!(messages(&dir)[0].contains("it is larger than 64KiB"), "{:?}", messages(&dir));
}
