//! `rtm-bridge demo` as a process.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use rtm_bridge::demo::Step;
use rustix::process::{Pid, Signal, kill_process};

/// No line of a running demo takes longer to come.
const LIMIT: Duration = Duration::from_secs(30);

fn demo(arguments: &[&str], temporary: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rtm-bridge"));
    command.arg("demo").args(arguments).env("TMPDIR", temporary).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn once_it_plays_every_step_and_ends_well_whatever_ports_are_taken() {
    // If somebody has it already, so much the better.
    let _taken = TcpListener::bind("127.0.0.1:8080");
    let temporary = tempfile::tempdir().unwrap();
    let Output { status, stdout, stderr } = demo(&["--once"], temporary.path()).output().unwrap();
    let (out, errors) = (text(&stdout), text(&stderr));
    assert_eq!((status.code(), &*errors), (Some(0), ""), "{out}");

    let titles: Vec<_> = Step::ALL
        .into_iter()
        .zip(1..)
        .map(|(step, number)| format!("{number:>2}  {}", step.title()))
        .collect();
    let shown: Vec<_> = out.lines().filter(|line| titles.iter().any(|title| title == line)).collect();
    assert_eq!(shown, titles, "{out}");
    assert!(!out.contains("http://127.0.0.1:8080 "), "{out}");
    for part in [
        "messages  5 accepted  5 acked      0 lost  0 duplicates",
        "events    6 received  6 delivered  0 lost  0 duplicates",
        "bridge → platform  WebSocket /rtm/bot?sid=…&isReconnect=true",
        "✓ signature verified (Standard Webhooks, v1)",
        "POST bot_response, attempt 3 → 204",
    ] {
        assert!(out.contains(part), "{part} is missing in:\n{out}");
    }
    assert!(!out.contains(['\u{1b}', '✗']), "{out}");
    assert!(out.matches("sid=").count() == out.matches("sid=…").count(), "a sid is a secret: {out}");
    let longest = out.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(80), "{longest:?}: {out}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "the store is gone");
}

#[test]
fn a_demo_that_cannot_start_says_why_and_exits_1() {
    let nowhere = std::path::Path::new("/nonexistent/for/the/demo");
    let Output { status, stdout, stderr } = demo(&["--once"], nowhere).output().unwrap();
    assert_eq!((status.code(), &*text(&stdout)), (Some(1), ""));
    let why = text(&stderr);
    assert!(why.starts_with("error: the demo can't start: no directory could be made"), "{why}");
    assert!(why.contains("/nonexistent/for/the/demo"), "{why}");
}

#[test]
fn a_demo_that_nobody_reads_ends_without_a_word() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = Running(demo(&[], temporary.path()).spawn().unwrap());
    drop(demo.0.stdout.take());
    let mut errors = String::new();
    demo.0.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!((demo.0.wait().unwrap().code(), &*errors), (Some(1), ""));
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "the store is gone");
}

#[test]
fn it_stays_up_for_curl_and_shows_what_the_webhook_gets() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = Running(demo(&[], temporary.path()).spawn().unwrap());
    let lines = demo.lines();
    let invitation = next(&lines, "curl http://");
    let words: Vec<_> = invitation.split_whitespace().collect();
    let ["curl", url, "-d", form] = words[..] else { panic!("{invitation}") };
    let (name, value) = form.split_once('=').unwrap();
    let posted = post(url, &[(name, value)]);
    assert_eq!(posted, 202);
    let shown = next(&lines, "\"echo: hello\"");
    assert!(shown.contains("bridge → crm       ✓ bot_response"), "{shown}");
    assert_eq!(post(url, &[("text", "\u{1b}[2J")]), 202);
    assert!(next(&lines, "echo: \\u{1b}[2J").contains("✓"));

    kill_process(Pid::from_child(&demo.0), Signal::INT).unwrap();
    next(&lines, "Stopped");
    assert_eq!(demo.0.wait().unwrap().code(), Some(0));
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "the store is gone");
}

/// A demo that ends with its test.
struct Running(Child);

impl Running {
    /// Its lines, as they come.
    fn lines(&mut self) -> Receiver<String> {
        let out = BufReader::new(self.0.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                // The test may have seen enough.
                let _ = sender.send(line);
            }
        });
        lines
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The next line with this in it.
fn next(lines: &Receiver<String>, part: &str) -> String {
    loop {
        let line = lines.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("waited in vain for: {part}"));
        if line.contains(part) {
            return line;
        }
    }
}

/// What curl does.
fn post(url: &str, form: &[(&str, &str)]) -> u16 {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    runtime.block_on(async { client.post(url).form(form).send().await.unwrap().status().as_u16() })
}
