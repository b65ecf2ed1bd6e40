//! The receivers in the documentation do what it says.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rtm_bridge::clock::Timestamp;
use url::Url;

use crate::support::{delivery, key, sender, sender_to, settings};

const DOCS: &str = include_str!("../../docs/webhooks.md");

#[test]
fn the_documentation_shows_the_examples_as_they_are() {
    for (language, example) in [
        ("python", include_str!("../../examples/receiver.py")),
        ("js", include_str!("../../examples/receiver.mjs")),
    ] {
        assert!(DOCS.contains(&format!("```{language}\n{example}```\n")), "{language}");
        assert!(example.lines().count() <= 50, "{language}");
    }
}

#[tokio::test]
async fn the_python_receiver_takes_what_is_the_bridges_once() {
    put_to_the_test("python3", "examples/receiver.py").await;
}

#[tokio::test]
async fn the_node_receiver_takes_what_is_the_bridges_once() {
    put_to_the_test("node", "examples/receiver.mjs").await;
}

async fn put_to_the_test(interpreter: &str, script: &str) {
    let Some(mut example) = Example::start(interpreter, script) else {
        eprintln!("SKIPPED: {interpreter} is not installed");
        return;
    };
    let url = Url::parse(example.line().trim()).unwrap();
    let ours = sender_to(&url);
    let mut settings = settings(&url);
    settings.secrets = vec![key(9), key(1)];
    let rotating = sender(&settings);
    settings.secrets = vec![key(9)];
    let stranger = sender(&settings);
    let mut late = delivery(3);
    late.at = Timestamp::now().minus(Duration::from_secs(3600));

    let attempts = [
        (&ours, delivery(1), 204),
        (&ours, delivery(1), 204),
        (&stranger, delivery(2), 401),
        (&ours, late, 401),
        (&rotating, delivery(4), 204),
    ];
    for (number, (sender, delivery, status)) in attempts.into_iter().enumerate() {
        let result = sender.attempt(&delivery).await;
        assert_eq!(result.status, Some(status), "{interpreter}, attempt {number}: {}", result.summary());
    }
    let text = if interpreter == "node" { "\"Hi.\"" } else { "'Hi.'" };
    for sequence in [1, 4] {
        assert_eq!(example.line(), format!("{sequence} alice bot_response {text}\n"));
    }
}

/// A running example; ended when it is dropped.
struct Example {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Example {
    fn start(interpreter: &str, script: &str) -> Option<Self> {
        Command::new(interpreter)
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .ok()
            .filter(std::process::ExitStatus::success)?;
        let mut process = Command::new(interpreter)
            .arg(script)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("PORT", "0")
            .env("WEBHOOK_SECRET", format!("whsec_{}", STANDARD.encode(key(1).0)))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Some(Self { process, output })
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
