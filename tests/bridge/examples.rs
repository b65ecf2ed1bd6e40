//! The examples in the documentation do what it says.

use std::{collections::BTreeMap, io::Write as _, process::Stdio};

use reqwest::Method;
use rtm_bridge::{
    config::{Client, Scopes, Secret},
    names::ClientName,
};
use tokio::process::Command;

use crate::support::{World, within};

const HTTP_API: &str = include_str!("../../docs/http-api.md");
const LEGACY: &str = include_str!("../../docs/legacy.md");
/// What the documentation calls the API.
const API: &str = "http://127.0.0.1:8080";

/// A program's output, if the program is installed; otherwise says so.
async fn run(world: &World, program: &str, arguments: &[&str], token: Option<&str>) -> Option<String> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("BRIDGE_URL", world.url(""))
        .env("no_proxy", "*")
        .env_remove("http_proxy")
        .envs(token.map(|token| ("BRIDGE_TOKEN", token)))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    match within(program, command.output()).await {
        Ok(output) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert!(
                output.status.success(),
                "{program} {arguments:?}: {}{}",
                text(&output.stdout),
                text(&output.stderr)
            );
            Some(text(&output.stdout))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Not by a macro: those are heard of only when a test fails.
            let _ = writeln!(std::io::stderr(), "SKIPPED: {program} is not installed");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// Whether a text is as expected, where `...` stands for anything.
fn is_like(text: &str, expected: &str) -> bool {
    let Some((first, others)) = expected.split_once("...") else { return text == expected };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = others.split("...").collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

#[test]
fn a_likeness_is_one() {
    for (expected, likeness) in [
        ("ab", true),
        ("a...", true),
        ("...b", true),
        ("...", true),
        ("a", false),
        ("b...", false),
        ("...a", false),
        ("a...c", false),
    ] {
        assert_eq!(is_like("ab", expected), likeness, "{expected}");
    }
}

#[test]
fn the_documentation_shows_the_programs_as_they_are() {
    for (language, program) in [
        ("sh", include_str!("../../examples/ask.sh")),
        ("python", include_str!("../../examples/ask.py")),
        ("js", include_str!("../../examples/ask.mjs")),
        ("php", include_str!("../../examples/ask.php")),
        ("python", include_str!("../../examples/send_file.py")),
    ] {
        assert!(HTTP_API.contains(&format!("```{language}\n{program}```\n")), "{language}");
        assert!(program.lines().count() <= 50, "{language}");
    }
}

#[tokio::test]
async fn the_programs_print_the_bots_answer() {
    let world = World::start_with(|config| {
        let client = Client {
            tokens: vec![Secret::new("t0k3n")],
            users: vec!["*".to_owned()],
            scopes: Scopes::ALL,
            rate: None,
        };
        config.clients = BTreeMap::from([(ClientName::new("crm").unwrap(), client)]);
    })
    .await;
    for (program, script) in
        [("sh", "ask.sh"), ("python3", "ask.py"), ("node", "ask.mjs"), ("php", "ask.php")]
    {
        let script = format!("examples/{script}");
        let text = "Größe & 100 % \"quoted\"";
        let Some(printed) = run(&world, program, &[&script, "alice", text], Some("t0k3n")).await else {
            continue;
        };
        match program {
            "sh" => {
                let body: serde_json::Value = serde_json::from_str(&printed).unwrap();
                assert_eq!(body["replies"][0]["message"][0]["cInfo"]["body"], format!("echo: {text}"));
            }
            _ => assert_eq!(printed, format!("echo: {text}\n"), "{program}"),
        }
    }
}

#[tokio::test]
async fn the_program_for_files_sends_one() {
    let world = World::start().await;
    let arguments = ["examples/send_file.py", "alice", "Größe", "README.md"];
    let Some(printed) = run(&world, "python3", &arguments, None).await else { return };
    assert_eq!(printed, "acked\n");
    let readme = include_bytes!("../../README.md");
    assert_eq!(world.control().uploads()[0].size, readme.len());
    let message = &world.control().messages("alice")[0].json()["message"];
    assert_eq!(
        (&message["body"], &message["attachments"][0]["fileName"]),
        (&"Größe".into(), &"README.md".into())
    );
}

/// The shell examples of the page, each with what it prints.
fn shell_examples(page: &str) -> Vec<(&str, &str)> {
    let blocks = page.split("```sh\n").skip(1).map(|block| block.split_once("```").unwrap());
    blocks
        .map(|(script, behind)| {
            let printed = behind.split_once("```text\n").and_then(|(between, block)| {
                between.trim().is_empty().then(|| block.split("```").next().unwrap().trim_end())
            });
            (script, printed.unwrap_or_else(|| panic!("what does it print? {script}")))
        })
        .collect()
}

#[tokio::test]
async fn each_example_for_legacy_systems_prints_what_it_says() {
    let world = World::start().await;
    let examples = shell_examples(LEGACY);
    assert!(examples.len() >= 7, "{}", examples.len());
    for (script, expected) in examples {
        let script = script.replace(API, &world.url(""));
        let Some(printed) = run(&world, "sh", &["-ec", &script], None).await else { return };
        assert!(is_like(printed.trim_end(), expected), "{script}\nwanted: {expected}\nprinted: {printed}");
    }
}

/// An event that the reference names.
const SOME_EVENT: &str = "evt_1a2b3c4d000000000000002a";

#[tokio::test]
async fn each_call_in_the_reference_is_answered() {
    let mut world = World::start().await;
    let mut calls: Vec<&str> = HTTP_API.lines().filter_map(|line| line.strip_prefix("    curl ")).collect();
    assert!(calls.len() >= 5, "{calls:?}");
    // Those with a token come last.
    calls.sort_by_key(|call| call.contains("TOKEN"));
    for call in calls {
        if call.contains("TOKEN") && world.config.clients.is_empty() {
            world.stop_daemon().await;
            let client = Client {
                tokens: vec![Secret::new("TOKEN")],
                users: vec!["*".to_owned()],
                scopes: Scopes::ALL,
                rate: None,
            };
            world.config.clients = BTreeMap::from([(ClientName::new("crm").unwrap(), client)]);
            world.start_daemon().await;
        }
        let mut call = call.replace(API, &world.url(""));
        if call.contains(SOME_EVENT) {
            let (_, inbox) = world.get("/v1/users/alice/events").await;
            call = call.replace(SOME_EVENT, inbox["events"][0]["id"].as_str().unwrap());
        }
        let mut script = format!("curl -sS --fail-with-body {call}");
        if call.contains("/v1/events") {
            // That one has no end; it is left after a while, which curl calls 28.
            script = format!("{script} --max-time 1 || [ $? -eq 28 ]");
        }
        if run(&world, "sh", &["-ec", &script], None).await.is_none() {
            return;
        }
    }
    let with_token = world.request(Method::GET, "/v1/users").bearer_auth("TOKEN");
    assert_eq!(crate::support::answer(with_token).await.0, 200, "the clients were tried");
}
