//! The commands that call a running bridge.

use rtm_bridge::sandbox::{Fault, FaultKind};
use serde_json::Value;

use crate::support::{TOKEN, World, free_address, run, within};

/// The first word that a command printed: a message's id.
fn id(stdout: &str) -> u64 {
    stdout.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{stdout}"))
}

#[tokio::test]
async fn a_message_is_sent_and_its_reply_shown() {
    let world = World::start().await;
    let queued = world.run(&["send", "alice", "Hi"]).await;
    assert_eq!((queued.code, queued.stderr.as_str()), (0, ""));
    assert_eq!(queued.stdout, format!("{}  queued\n", id(&queued.stdout)));
    within("the message at the platform", world.sandbox.control().wait_messages("alice", 1)).await;

    let acked = world.run(&["send", "alice", "silent", "--wait", "ack"]).await;
    assert_eq!((acked.code, acked.stdout.as_str()), (0, &*format!("{}  acked\n", id(&acked.stdout))));

    let answered =
        world.run(&["send", "alice", "How are\nyou?", "--wait", "reply", "--url", &world.url]).await;
    assert_eq!((answered.code, answered.stderr.as_str()), (0, ""));
    let expected = format!("{}  acked\necho: How are\nyou?\n", id(&answered.stdout));
    assert_eq!(answered.stdout, expected);
    assert_eq!(world.daemon.interrupt().await, Some(0));
}

#[tokio::test]
async fn what_becomes_nothing_exits_with_1_and_says_why() {
    let world = World::start().await;
    let control = world.sandbox.control();

    let waited = world.run(&["send", "alice", "silent", "--wait", "reply", "--timeout", "300ms"]).await;
    assert_eq!(waited.code, 1);
    assert_eq!(waited.stdout, format!("{}  acked\n", id(&waited.stdout)));
    assert!(waited.stderr.starts_with("error: ") && waited.stderr.contains("300 ms"), "{}", waited.stderr);

    control.inject(Fault::once(FaultKind::NegativeAck).for_user("alice"));
    let rejected = world.run(&["send", "alice", "Hi", "--wait", "ack"]).await;
    assert_eq!(rejected.code, 1);
    assert!(rejected.stdout.ends_with("  rejected\n"), "{}", rejected.stdout);
    assert!(rejected.stderr.contains("the platform refused it"), "{}", rejected.stderr);

    let unknown = world.run(&["send", "bob", "Hi"]).await;
    assert_eq!((unknown.code, unknown.stdout.as_str()), (1, ""));
    assert_eq!(unknown.stderr, "error: no user \"bob\" is configured\n");
    let unknown = world.run(&["reconnect", "bob"]).await;
    assert_eq!((unknown.code, unknown.stdout.as_str()), (1, ""));
}

#[tokio::test]
async fn status_shows_users_and_json_is_the_apis() {
    let world = World::start_with("[webhooks.crm]\nurl = \"http://127.0.0.1:9/\"\n").await;
    // The platform knows of the connection a moment before the bridge does; an ack settles it.
    assert_eq!(world.run(&["send", "alice", "Hi", "--wait", "ack"]).await.code, 0);
    let status = world.run(&["status"]).await;
    assert_eq!((status.code, status.stderr.as_str()), (0, ""));
    let lines: Vec<_> = status.stdout.lines().collect();
    assert!(lines[0].starts_with("USER   BOT      STATE      SINCE"), "{}", status.stdout);
    assert!(lines[1].starts_with("alice  support  connected  "), "{}", status.stdout);
    assert!(status.stdout.contains("WEBHOOK") && status.stdout.contains("crm"), "{}", status.stdout);
    assert!(!status.stdout.contains('\u{1b}'), "colours in a pipe: {:?}", status.stdout);

    let json = world.run(&["status", "--json"]).await;
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        (&json["users"][0]["name"], &json["users"][0]["state"]),
        (&"alice".into(), &"connected".into())
    );
    assert_eq!(json["webhooks"][0]["name"], "crm");
}

#[tokio::test]
async fn reconnect_makes_a_new_connection() {
    let world = World::start().await;
    assert_eq!(world.run(&["send", "alice", "Hi", "--wait", "ack"]).await.code, 0);
    let asked = world.run(&["reconnect", "alice"]).await;
    assert_eq!((asked.code, asked.stderr.as_str()), (0, ""));
    assert!(asked.stdout.starts_with("alice: reconnecting"), "{}", asked.stdout);
    within("another connection", world.sandbox.control().wait_connects("alice", 2)).await;
}

#[tokio::test]
async fn a_token_comes_from_the_environment() {
    let clients = format!("[clients.operator]\ntoken = \"{TOKEN}\"\nusers = [\"*\"]\nscopes = [\"read\"]\n");
    let world = World::start_with(&clients).await;
    let nobody = world.run(&["status"]).await;
    assert_eq!(nobody.code, 1);
    assert!(nobody.stderr.contains("RTM_BRIDGE_TOKEN"), "{}", nobody.stderr);

    let with_token = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        command.env("RTM_BRIDGE_TOKEN", TOKEN);
        crate::support::ended(command)
    };
    assert_eq!(with_token(&["status"]).await.code, 0);
    let refused = with_token(&["reconnect", "alice"]).await;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("admin") && !refused.stderr.contains(TOKEN), "{}", refused.stderr);
}

#[tokio::test]
async fn no_bridge_is_said_in_words() {
    let url = format!("http://{}", free_address());
    for arguments in [&["status"][..], &["send", "alice", "Hi"], &["reconnect", "alice"]] {
        let failed = run(&[arguments, &["--url", &url]].concat()).await;
        assert_eq!((failed.code, failed.stdout.as_str()), (1, ""));
        let expected = format!("error: no bridge answers at {url}/; is it running? (");
        assert!(failed.stderr.starts_with(&expected), "{}", failed.stderr);
    }
}

#[tokio::test]
async fn something_else_than_a_bridge_is_noticed() {
    let sandbox = rtm_bridge::sandbox::Sandbox::start(Default::default()).await.unwrap();
    let failed = run(&["status", "--url", sandbox.url().as_str()]).await;
    assert_eq!(failed.code, 1);
    assert!(failed.stderr.contains("does not answer like a bridge"), "{}", failed.stderr);
}
