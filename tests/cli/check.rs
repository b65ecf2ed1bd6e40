//! `check`, and what `run` says when it can't.

use std::fs;

use crate::support::{command, ended, run};

const VALID: &str = r#"
[bots.support]
name = "Support"
id = "st-1"
client_id = "cs-1"
client_secret = "a-secret-that-nobody-may-see"
[users.alice]
bot = "support"
identity = "alice@example.com"
webhooks = []
"#;

#[tokio::test]
async fn a_valid_file_is_put_into_words() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bridge.toml").display().to_string();
    fs::write(&file, VALID).unwrap();
    let checked = run(&["check", "--config", &file]).await;
    assert_eq!((checked.code, checked.stderr.as_str()), (0, ""));
    assert!(checked.stdout.starts_with(&format!("{file} is valid.\n")), "{}", checked.stdout);
    assert!(checked.stdout.contains("alice: \"alice@example.com\" on support"), "{}", checked.stdout);
    assert!(!checked.stdout.contains("nobody-may-see"), "{}", checked.stdout);
}

#[tokio::test]
async fn every_error_is_told_at_once_and_the_exit_code_is_2() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bridge.toml").display().to_string();
    fs::write(
        &file,
        VALID.replace("bot = \"support\"", "bot = \"suport\"").replace("id = \"st", "idd = \"st"),
    )
    .unwrap();
    let checked = run(&["check", "-c", &file]).await;
    assert_eq!((checked.code, checked.stdout.as_str()), (2, ""));
    for said in ["bridge.toml:4", "idd", "bridge.toml:8", "suport", "did you mean", "errors:"] {
        assert!(checked.stderr.contains(said), "{said:?} is not in:\n{}", checked.stderr);
    }
    assert!(!checked.stderr.contains("nobody-may-see"), "{}", checked.stderr);
}

#[tokio::test]
async fn a_missing_file_is_named_by_every_command_that_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [&[][..], &["run"], &["check"], &["status"], &["send", "alice", "Hi"]] {
        let mut command = command(arguments);
        command.current_dir(dir.path());
        let refused = ended(command).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{arguments:?}");
        let said = refused.stderr;
        assert!(said.starts_with("error: bridge.toml: there is no such file\n"), "{arguments:?}: {said}");
        let calls_a_bridge = matches!(arguments, ["status" | "send", ..]);
        assert_eq!(said.contains("--url"), calls_a_bridge, "{arguments:?}: {said}");
        assert_eq!(said.contains("rtm-bridge demo"), !calls_a_bridge, "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn usage_errors_exit_with_2() {
    for arguments in [
        &["chekc"][..],
        &["send", "alice"],
        &["send", "a/b", "Hi"],
        &["send", "alice", "Hi", "--timeout", "1s"],
        &["send", "alice", "Hi", "--wait", "ack", "--timeout", "1h"],
        &["receive", "--fail", "often"],
        &["receive", "--listen", "0.0.0.0:0"],
        &["sandbox", "--listen", "0.0.0.0:0"],
        &["status", "--url", "ftp://localhost"],
    ] {
        let refused = run(arguments).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{arguments:?}: {}", refused.stderr);
        assert!(refused.stderr.starts_with("error: "), "{arguments:?}: {}", refused.stderr);
    }
}

#[tokio::test]
async fn a_secret_is_never_repeated() {
    let mut receive = command(&["receive", "--listen", "127.0.0.1:0"]);
    receive.env("RTM_BRIDGE_WEBHOOK_SECRET", "hunter2");
    let refused = ended(receive).await;
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("RTM_BRIDGE_WEBHOOK_SECRET"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
    let mut help = command(&["receive", "--help"]);
    help.env("RTM_BRIDGE_WEBHOOK_SECRET", "hunter2");
    assert!(!ended(help).await.stdout.contains("hunter2"));
}
