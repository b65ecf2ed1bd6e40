//! What the daemon writes into its log, and what it never does.

use rtm_bridge::{
    receiver::{Receiver, ReceiverOptions},
    sandbox::{App, Endpoint, Fault, FaultKind, Push, SocketEnd},
};
use serde_json::Value;

use crate::support::{Running, TOKEN, World, command, line_with, within};

const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// One that is too short to be a signing secret.
const SHORT: &str = "whsec_c2hvcnQ=";
const BEARER: &str = "the-bearer-token-of-the-webhook";
const HEADER: &str = "the-value-of-a-secret-header";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TEXT: &str = "a text that nobody else may read";
const EVENT: &str = "an answer that nobody else may read";

fn configuration(webhook: &str) -> String {
    format!(
        r#"
[clients.operator]
token = "{TOKEN}"
users = ["*"]
scopes = ["send", "read", "admin"]
[users.bob]
bot = "support"
identity = "bob"
webhooks = ["crm"]
[webhooks.crm]
url = "{webhook}"
secret = "{SIGNING}"
bearer = "{BEARER}"
headers = {{ x-key = "{HEADER}" }}
backoff_min = "20ms"
backoff_max = "40ms"
"#
    )
}

/// Everything that the daemon wrote while a lot happened at this level.
async fn everything_at(level: &str, format: &str) -> Vec<String> {
    let receiver = Receiver::start(ReceiverOptions::default()).await.unwrap();
    let more = format!("{}[log]\nformat = \"{format}\"\n", configuration(receiver.url().as_str()));
    let mut world = World::start_as(&more, |mut daemon| {
        daemon.env("RUST_LOG", level);
        daemon
    })
    .await;
    let lines = world.daemon.collect_stderr();
    let control = world.sandbox.control();
    within("bob's connection", control.wait_connected("bob", 1)).await;
    let run = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        command.env("RTM_BRIDGE_TOKEN", TOKEN);
        crate::support::ended(command)
    };
    assert_eq!(run(&["send", "bob", TEXT, "--wait", "ack"]).await.code, 0);
    within("the answer", receiver.wait_attempts(1)).await;
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let traced = http.post(format!("{}/v1/users/bob/messages?wait=ack", world.url)).bearer_auth(TOKEN);
    let traced =
        traced.header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01")).form(&[("text", TEXT)]);
    assert_eq!(within("the traced message", traced.send()).await.unwrap().status(), 200);
    within("its answer", receiver.wait_attempts(2)).await;
    control.inject(Fault::once(FaultKind::NegativeAck));
    assert_eq!(run(&["send", "bob", TEXT, "--wait", "ack"]).await.code, 1);
    receiver.script([500, 503, 418]);
    control.push("bob", Push::text(EVENT));
    within("three attempts", receiver.wait_attempts(5)).await;
    control.push_raw("bob", format!("not JSON: {EVENT}"));
    // Its ack comes behind that: the frame was read before the socket goes.
    assert_eq!(run(&["send", "bob", TEXT, "--wait", "ack"]).await.code, 0);
    control.inject(Fault::once(FaultKind::Refuse { at: Endpoint::Jwtgrant, status: 401, retry_after: None }));
    control.revoke("bob");
    control.end_sockets("bob", &SocketEnd::Drop);
    within("the refused sign-in", control.wait_requests_of("bob", Endpoint::Jwtgrant, 2)).await;
    // Reloads of files with mistakes about secrets, and of one without.
    for mistaken in [more.replace("secret = \"whsec", "sekret = \"whsec"), more.replace(SIGNING, SHORT)] {
        world.rewrite(&mistaken);
        world.daemon.signal("HUP").await;
    }
    within("bob's next connection", async {
        while control.connects("bob") < 2 {
            let asked = run(&["reconnect", "bob"]).await;
            assert_eq!(asked.code, 0, "{asked:?}");
        }
    })
    .await;
    assert_eq!(world.daemon.interrupt().await, Some(0));
    within("the rest of the log", lines).await.unwrap()
}

/// Whether a line has something in it that looks like a token: long, random, of letters and digits.
fn has_token(line: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    line.split(|c| !is_part(c)).any(|word| {
        let has = |is: fn(&char) -> bool| word.chars().any(|c| is(&c));
        word.len() >= 32
            && has(char::is_ascii_uppercase)
            && has(char::is_ascii_lowercase)
            && has(char::is_ascii_digit)
    })
}

#[tokio::test]
async fn no_secret_is_logged_at_any_level() {
    let secret = App::default().client_secret;
    for (level, format) in [("info", "auto"), ("trace", "json")] {
        let lines = everything_at(level, format).await;
        let log = lines.join("\n");
        for told in ["connected", "event became a dead letter", "was not reloaded", "stopped"] {
            assert!(log.contains(told), "{told:?} is told at {level}:\n{log}");
        }
        for line in &lines {
            for secret in [&secret, TOKEN, SIGNING, SHORT, BEARER, HEADER] {
                assert!(!line.contains(secret), "{secret:?} in {line}");
            }
            assert!(!line.contains("eyJ") && !line.contains("sid=") && !has_token(line), "{line}");
            let is_for_looking_close = line.contains("DEBUG") || line.contains("TRACE");
            for text in [TEXT, EVENT] {
                assert!(is_for_looking_close || !line.contains(text), "{line}");
            }
        }
        if format == "json" {
            every_event_has_its_fields(&lines);
        }
    }
}

/// What is told of, and the fields that it needs.
const FIELDS: &[(&str, &[&str])] = &[
    ("connected", &["user", "bot", "state"]),
    ("message accepted", &["user", "bot", "clientMessageId", "novelty"]),
    ("message sent", &["user", "clientMessageId", "attempt"]),
    ("message is final", &["user", "bot", "clientMessageId", "status", "attempts"]),
    ("message was given up", &["user", "bot", "clientMessageId", "status", "reason", "attempts"]),
    ("attempt", &["webhook", "user", "bot", "event", "attempt", "status", "took", "outcome"]),
    ("event became a dead letter", &["webhook", "user", "bot", "event", "attempts", "reason"]),
    ("skipped a frame", &["user", "bot", "bytes", "why"]),
    ("not connected; trying again later", &["user", "bot", "state", "cause"]),
    ("a new connection was asked for", &["user", "bot", "client"]),
    ("the configuration was not reloaded, and nothing changed", &["errors"]),
    ("shutting down", &[]),
    ("stopped", &[]),
];

/// Who and what there is.
const NAMES: &[(&str, &[&str])] =
    &[("user", &["alice", "bob"]), ("bot", &["support"]), ("webhook", &["crm"]), ("client", &["operator"])];

fn every_event_has_its_fields(lines: &[String]) {
    let mut seen = std::collections::BTreeSet::new();
    let mut traced = std::collections::BTreeSet::new();
    for line in lines {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let fields = event["fields"].as_object().unwrap_or_else(|| panic!("no fields: {line}"));
        for needed in ["timestamp", "level", "target"] {
            assert!(event[needed].as_str().is_some_and(|text| !text.is_empty()), "{needed} in {line}");
        }
        assert_eq!(line.matches("\"message\":").count(), 1, "one thing is said: {line}");
        if !event["target"].as_str().unwrap().starts_with("rtm_bridge") {
            continue;
        }
        let message = fields["message"].as_str().unwrap();
        if let Some((message, needed)) = FIELDS.iter().find(|(of, _)| *of == message) {
            seen.insert(*message);
            for field in *needed {
                assert!(fields.contains_key(*field), "no {field}: {line}");
            }
        }
        for (field, known) in NAMES {
            let is_known = |value: &Value| known.iter().any(|name| value == name);
            assert!(fields.get(*field).is_none_or(is_known), "{field} is a name: {line}");
        }
        if fields.get("traceId").is_some_and(|id| id == TRACE) {
            traced.insert(message.to_owned());
        }
    }
    for (message, _) in FIELDS {
        assert!(seen.contains(message), "nothing tells that {message:?}");
    }
    for message in ["message accepted", "message sent", "message is final", "attempt"] {
        assert!(traced.contains(message), "{message:?} doesn't name its trace: {traced:?}");
    }
}

#[tokio::test]
async fn lines_for_programs_are_json_with_the_fields_of_the_event() {
    let world = World::start().await;
    let file = world.config.clone();
    assert_eq!(world.daemon.interrupt().await, Some(0));
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}[log]\nformat = \"json\"\n")).unwrap();
    let mut daemon = Running::start(command(&["--config", &file]));
    let line = line_with(&mut daemon.stderr, "\"connected\"").await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["level"], &line["fields"]["user"], &line["fields"]["bot"]),
        (&"INFO".into(), &"alice".into(), &"support".into())
    );
    assert_eq!(daemon.interrupt().await, Some(0));
}

#[tokio::test]
async fn what_comes_again_and_again_is_counted() {
    let App { client_id, client_secret, bot_name, bot_id } = App::default();
    // Each bot has a pace of its own: so all users are connected at once.
    let bots = (0..6).map(|n| {
        format!("[bots.bot-{n}]\nname = \"{bot_name}\"\nid = \"{bot_id}\"\nclient_id = \"{client_id}\"\nclient_secret = \"{client_secret}\"\n")
    });
    let users = (0..60).map(|n| {
        format!("[users.user-{n}]\nbot = \"bot-{}\"\nidentity = \"user-{n}\"\nwebhooks = []\n", n % 6)
    });
    let more: String = bots.chain(users).collect();
    let mut world = World::start_with(&more).await;
    let lines = world.daemon.collect_stderr();
    let control = world.sandbox.control();
    for n in 0..60 {
        within("a connection", control.wait_connected(&format!("user-{n}"), 1)).await;
    }
    control.end_all_sockets(&SocketEnd::Drop);
    within("a reconnect", control.wait_connects("user-0", 2)).await;
    assert_eq!(world.daemon.interrupt().await, Some(0));
    let lines = within("the rest of the log", lines).await.unwrap();
    let lost: Vec<_> = lines.iter().filter(|line| line.contains("trying again later")).collect();
    let more: Vec<_> = lost.iter().filter(|line| line.contains("... and ")).collect();
    assert_eq!(lost.len() - more.len(), 50, "{lost:#?}");
    assert!(more[0].contains(" more: not connected; trying again later"), "{more:?}");
}
