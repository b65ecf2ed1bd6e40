//! `rtm-bridge tail`.

use std::time::Duration;

use rtm_bridge::sandbox::Push;
use serde_json::Value;

use crate::support::{Running, TOKEN, World, command, line_with, run, within};

#[tokio::test]
async fn events_are_shown_as_they_come_and_after_a_restart_of_the_bridge() {
    let mut world = World::start().await;
    // The daemon takes any free port; after a restart it must be the same one.
    let restarted = |config: &str| Running::start(command(&["--config", config]));
    within("the end", world.daemon.child.kill()).await.unwrap();
    world.daemon = restarted(&world.config);
    line_with(&mut world.daemon.stderr, "connected").await;

    let mut tail = Running::start(world.command(&["tail"]));
    let mut json = Running::start(world.command(&["tail", "alice", "--json"]));
    for tail in [&mut tail, &mut json] {
        follows(&world, tail).await;
    }
    world.sandbox.control().push("alice", Push::text("Hi\nthere\u{1b}[2J"));
    let line = line_with(&mut tail.stdout, "bot_response  bot  Hi").await;
    assert!(line.ends_with("  alice  bot_response  bot  Hi\\nthere\\u{1b}[2J"), "{line:?}");
    let line = line_with(&mut json.stdout, "Hi\\n").await;
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&event["type"], &event["text"]), (&"bot_response".into(), &"Hi\nthere\u{1b}[2J".into()));
    assert!(event["id"].as_str().unwrap().starts_with("evt_"), "{line}");

    within("the end", world.daemon.child.kill()).await.unwrap();
    line_with(&mut tail.stderr, "the connection to the bridge broke").await;
    world.sandbox.control().push("alice", Push::text("missed"));
    world.daemon = restarted(&world.config);
    line_with(&mut tail.stderr, "connected again").await;
    let missed = line_with(&mut tail.stdout, "missed").await;
    assert!(missed.contains("bot_response (recovered)"), "{missed}");
    line_with(&mut json.stdout, "missed").await;
    assert_eq!((tail.interrupt().await, json.interrupt().await), (Some(0), Some(0)));
}

/// Says something until the tail shows it: then it follows.
async fn follows(world: &World, tail: &mut Running) {
    loop {
        world.sandbox.control().push("alice", Push::text("ping"));
        let shown = line_with(&mut tail.stdout, "ping");
        if tokio::time::timeout(Duration::from_millis(100), shown).await.is_ok() {
            return;
        }
    }
}

#[tokio::test]
async fn what_can_not_be_followed_is_said_in_words() {
    let clients =
        format!("[clients.operator]\ntoken = \"{TOKEN}\"\nusers = [\"alice\"]\nscopes = [\"read\"]\n");
    let world = World::start_with(&clients).await;
    let nobody = world.run(&["tail"]).await;
    assert_eq!((nobody.code, nobody.stdout.as_str()), (1, ""));
    assert!(nobody.stderr.contains("RTM_BRIDGE_TOKEN"), "{}", nobody.stderr);
    let mut foreign = world.command(&["tail", "bob"]);
    foreign.env("RTM_BRIDGE_TOKEN", TOKEN);
    let foreign = crate::support::ended(foreign).await;
    assert_eq!((foreign.code, foreign.stdout.as_str()), (1, ""));
    assert!(
        foreign.stderr.starts_with("error: this client may not act for the user \"bob\""),
        "{}",
        foreign.stderr
    );

    let absent = run(&["tail", "--url", "http://127.0.0.1:9"]).await;
    assert!(
        absent.code == 1 && absent.stderr.starts_with("error: no bridge answers at"),
        "{}",
        absent.stderr
    );
    let sandbox = run(&["tail", "--url", world.sandbox.url().as_str()]).await;
    assert!(sandbox.stderr.contains("does not answer like a bridge"), "{}", sandbox.stderr);
    let help = run(&["tail", "--help"]).await;
    assert!(help.code == 0 && help.stdout.contains("Examples:"), "{}", help.stdout);
}
