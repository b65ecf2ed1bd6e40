//! Dead letters on the command line.

use std::path::Path;

use rtm_bridge::{
    receiver::{Receiver, ReceiverOptions, Reply},
    sandbox::Push,
};
use serde_json::Value;

use crate::support::{Running, World, command, within};

/// A bridge with the user bob, whose events the receiver refuses.
async fn world() -> (World, Receiver) {
    let receiver = Receiver::start(ReceiverOptions::default()).await.unwrap();
    receiver.answer(Reply::status(422).body("no \u{1b}[2Jsuch customer"));
    let more = format!(
        "[users.bob]\nbot = \"support\"\nidentity = \"bob\"\nwebhooks = [\"crm\"]\n[webhooks.crm]\nurl = \"{}\"\n",
        receiver.url()
    );
    let world = World::start_with(&more).await;
    within("bob's connection", world.sandbox.control().wait_connected("bob", 1)).await;
    (world, receiver)
}

/// Makes a dead letter, and gives its id.
async fn refused(world: &World, receiver: &Receiver, text: &str) -> String {
    let before = receiver.attempts().len();
    let known = listed(world).await.len();
    world.sandbox.control().push("bob", Push::text(text));
    within("the refusal", receiver.wait_attempts(before + 1)).await;
    let settled = async {
        loop {
            let letters = listed(world).await;
            if letters.len() > known {
                return letters[0].clone();
            }
        }
    };
    within("the dead letter", settled).await
}

/// The ids that `list --json` tells, the newest first.
async fn listed(world: &World) -> Vec<String> {
    let list = world.run(&["dead-letters", "list", "--json"]).await;
    assert_eq!((list.code, list.stderr.as_str()), (0, ""));
    let json: Value = serde_json::from_str(&list.stdout).unwrap();
    assert_eq!(json["nextCursor"], Value::Null);
    let letters = json["deadLetters"].as_array().unwrap();
    letters.iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn dead_letters_are_listed_shown_replayed_and_purged() {
    let (world, receiver) = world().await;
    let none = world.run(&["dead-letters", "list"]).await;
    assert_eq!((none.code, none.stdout.as_str()), (0, "No dead letters.\n"));

    let (first, second) = (refused(&world, &receiver, "1").await, refused(&world, &receiver, "2").await);
    let list = world.run(&["dead-letters", "list", "--webhook", "crm", "--limit", "1"]).await;
    assert_eq!((list.code, list.stderr.as_str()), (0, ""));
    let lines: Vec<_> = list.stdout.lines().collect();
    assert!(lines[0].starts_with("ID                   WEBHOOK  USER  TYPE"), "{}", list.stdout);
    assert!(lines[1].starts_with(&format!("{second}  crm      bob   bot_response")), "{}", list.stdout);
    assert_eq!(lines[2], "There are more: --limit shows them.");

    let shown = world.run(&["dead-letters", "show", &first]).await;
    assert_eq!((shown.code, shown.stderr.as_str()), (0, ""));
    assert!(shown.stdout.contains("last answer\nno \\u{1b}[2Jsuch customer\n"), "{}", shown.stdout);
    assert!(shown.stdout.contains("body (application/json)\n{\"type\":\"bot_response\""), "{}", shown.stdout);
    let json = world.run(&["dead-letters", "show", &first, "--json"]).await;
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["attemptHistory"][0]["status"], 422);

    receiver.answer(204);
    let replayed = world.run(&["dead-letters", "replay", &first]).await;
    assert_eq!((replayed.code, replayed.stderr.as_str()), (0, ""));
    assert!(
        replayed.stdout.starts_with(&format!("{first}: will be delivered after all")),
        "{}",
        replayed.stdout
    );
    within("the replay", receiver.wait_events(1)).await;
    let gone = async { while listed(&world).await.contains(&first) {} };
    within("the end of the letter", gone).await;
    receiver.answer(422);
    let again = world.run(&["dead-letters", "replay", "--all", "--wait"]).await;
    assert_eq!((again.code, again.stdout.as_str()), (1, "0 delivered, 1 dead again\n"));
    assert!(again.stderr.contains("not all were taken"), "{}", again.stderr);
    receiver.answer(204);
    let replayed = world.run(&["dead-letters", "replay", "--all", "--wait"]).await;
    assert_eq!((replayed.code, replayed.stdout.as_str(), replayed.stderr.as_str()), (0, "1 delivered\n", ""));
    assert_eq!(listed(&world).await, [""; 0]);

    receiver.answer(422);
    let third = refused(&world, &receiver, "3").await;
    refused(&world, &receiver, "4").await;
    let purged = world.run(&["dead-letters", "purge", &third]).await;
    assert_eq!((purged.code, purged.stdout.as_str()), (0, &*format!("{third}: deleted\n")));
    let purged = world.run(&["dead-letters", "purge", "--all", "--user", "bob"]).await;
    assert_eq!((purged.code, purged.stdout.as_str()), (0, "deleted\n"));
    assert_eq!(listed(&world).await, [""; 0]);
}

#[tokio::test]
async fn what_can_not_be_done_is_said_in_words() {
    let (world, _receiver) = world().await;
    let unknown = "dl_00000000ff000001";
    for action in ["show", "replay", "purge"] {
        let failed = world.run(&["dead-letters", action, unknown]).await;
        assert_eq!((failed.code, failed.stdout.as_str()), (1, ""));
        assert_eq!(failed.stderr, format!("error: there is no dead letter {unknown:?}, or no longer\n"));
    }
    let failed = world.run(&["dead-letters", "list", "--webhook", "crn"]).await;
    assert_eq!((failed.code, failed.stdout.as_str()), (1, ""));
    assert!(failed.stderr.contains("no webhook \"crn\""), "{}", failed.stderr);
    for usage in [
        &["dead-letters"][..],
        &["dead-letters", "show", "evt_1"],
        &["dead-letters", "replay"],
        &["dead-letters", "purge", "--webhook", "crm"],
        &["dead-letters", "purge", unknown, "--all"],
        &["dead-letters", "list", "--limit", "0"],
    ] {
        let refused = world.run(usage).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{usage:?}");
    }
}

#[tokio::test]
async fn a_replay_that_was_promised_survives_a_kill() {
    let (mut world, receiver) = world().await;
    let id = refused(&world, &receiver, "1").await;
    receiver.answer(503);
    assert_eq!(world.run(&["dead-letters", "replay", &id]).await.code, 0);
    within("the end", world.daemon.child.kill()).await.unwrap();
    receiver.answer(204);
    let config = Path::new(&world.config).with_file_name("daemon.toml").display().to_string();
    let _again = Running::start(command(&["--config", &config]));
    let event = within("the replay", receiver.wait_events(1)).await.remove(0);
    let first = &receiver.attempts()[0];
    assert_eq!((&event.id, &event.body), (&first.id, &first.body));
    assert!(event.attempt > first.attempt);
}
