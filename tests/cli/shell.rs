//! What a shell and a reader get from the binary itself.

use crate::support::{Running, World, command, ended, line_with, run};

#[tokio::test]
async fn completions_know_the_commands_and_their_options() {
    for (shell, wanted) in [("bash", "dead-letters"), ("zsh", "--watch"), ("fish", "reconnect")] {
        let printed = run(&["completions", shell]).await;
        assert_eq!((printed.code, printed.stderr.as_str()), (0, ""), "{shell}");
        assert!(printed.stdout.contains(wanted), "{shell}");
    }
    // The shell itself takes them.
    let script = run(&["completions", "bash"]).await.stdout;
    let mut bash = tokio::process::Command::new("bash");
    bash.args(["-n", "-c", &script]);
    let read = bash.output().await.unwrap();
    assert!(read.status.success(), "{read:?}");
    assert_eq!(run(&["completions", "cmd.exe"]).await.code, 2);
}

#[tokio::test]
async fn manual_pages_are_printed_or_written() {
    let printed = run(&["man"]).await;
    assert_eq!(printed.code, 0);
    assert!(
        printed.stdout.contains(".TH rtm-bridge 1") && printed.stdout.contains("Exit codes"),
        "{}",
        printed.stdout
    );
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(run(&["man", "--all", directory.path().to_str().unwrap()]).await.code, 0);
    let written = |name: &str| std::fs::read_to_string(directory.path().join(name));
    assert!(written("rtm-bridge.1").is_ok());
    assert!(written("rtm-bridge-status.1").unwrap().contains("watch"));
    let nowhere = run(&["man", "--all", "/no/such/directory"]).await;
    assert_eq!(nowhere.code, 1);
    assert!(nowhere.stderr.contains("/no/such/directory"), "{}", nowhere.stderr);
}

#[tokio::test]
async fn status_goes_on_watching() {
    let world = World::start().await;
    let mut watching = Running::start(world.command(&["status", "--watch"]));
    for _ in 0..2 {
        line_with(&mut watching.stdout, "alice  support").await;
    }
    watching.terminate().await;
    let nobody = ended(command(&["status", "--watch", "--url", "http://127.0.0.1:9"])).await;
    assert_eq!((nobody.code, nobody.stdout.as_str()), (1, ""), "a wrong address is a mistake");
}
