//! `sandbox` and `receive`: what they print, and that Ctrl-C ends them.

use std::fs;

use rtm_bridge::webhook::{Signer, parse_secret};

use crate::support::{Running, command, line_with, within};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn client() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}

#[tokio::test]
async fn what_the_sandbox_prints_makes_a_bridge_connect_to_it() {
    let mut sandbox = Running::start(command(&["sandbox", "--listen", "127.0.0.1:0"]));
    line_with(&mut sandbox.stdout, "put this into bridge.toml").await;
    let mut pasted = String::new();
    loop {
        let line = sandbox.stdout.next_line().await.unwrap().expect("more lines");
        if line.starts_with("Its bot") {
            break;
        }
        pasted.push_str(&format!("{line}\n"));
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bridge.toml").display().to_string();
    let own = "[http]\napi = \"127.0.0.1:0\"\nops = \"127.0.0.1:0\"\n[store]\npath = \"data\"\n";
    fs::write(&file, pasted + own).unwrap();
    let bridge = Running::start(command(&["--config", &file]));

    // Its log tells of each step.
    for step in ["endpoint=Jwtgrant", "endpoint=RtmStart", "socket open"] {
        let line = line_with(&mut sandbox.stderr, step).await;
        assert!(line.contains("alice@example.com"), "{line}");
    }
    assert_eq!(bridge.interrupt().await, Some(0));
    line_with(&mut sandbox.stderr, "socket closed").await;
    assert_eq!(sandbox.interrupt().await, Some(0));
}

#[tokio::test]
async fn received_events_are_printed_with_what_their_signature_is_worth() {
    let mut receive = Running::start(command(&["receive", "--listen", "127.0.0.1:0", "--secret", SECRET]));
    let first = line_with(&mut receive.stdout, "http://").await;
    let url = first.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
    let body = r#"{"text":"Hi\u001b[2J","data":{}}"#;

    let unsigned = client().post(&url).header("bridge-user", "mallory").body(body).send().await.unwrap();
    assert_eq!(unsigned.status(), 401);
    let line = line_with(&mut receive.stdout, "mallory").await;
    assert!(line.contains("no signature") && line.ends_with("-> 401"), "{line}");
    assert!(line.contains(r"Hi\u{1b}[2J") && !line.contains('\u{1b}'), "{line:?}");

    let now = rtm_bridge::clock::Timestamp::now().as_secs();
    let signature =
        Signer::new(&[parse_secret(SECRET).unwrap()]).sign("evt_1", now, body.as_bytes()).unwrap();
    let signed = client()
        .post(&url)
        .header("bridge-user", "alice")
        .header("webhook-id", "evt_1")
        .header("webhook-timestamp", now)
        .header("webhook-signature", signature)
        .body(body);
    assert_eq!(signed.send().await.unwrap().status(), 204);
    let line = line_with(&mut receive.stdout, "alice").await;
    assert!(line.contains("signature verified") && line.ends_with("-> 204"), "{line}");
    assert_eq!(receive.interrupt().await, Some(0));
}

#[tokio::test]
async fn a_receiver_fails_as_told() {
    let mut receive = Running::start(command(&["receive", "--listen", "127.0.0.1:0", "--fail", "503@100%"]));
    let first = line_with(&mut receive.stdout, "http://").await;
    assert!(first.contains("not checked"), "{first}");
    let url = first.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
    assert_eq!(client().post(&url).body("{}").send().await.unwrap().status(), 503);
    assert!(line_with(&mut receive.stdout, "no signature").await.ends_with("-> 503"));
    assert_eq!(receive.interrupt().await, Some(0));
}

#[tokio::test]
async fn a_receiver_ends_quietly_when_nobody_reads_what_it_prints() {
    let mut receive = Running::start(command(&["receive", "--listen", "127.0.0.1:0"]));
    let first = line_with(&mut receive.stdout, "http://").await;
    let url = first.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
    let Running { mut child, stdout, mut stderr } = receive;
    drop(stdout);
    // It may be gone before its answer is.
    let _ = client().post(&url).body("{}").send().await;
    assert_eq!(within("its end", child.wait()).await.unwrap().code(), Some(1));
    assert_eq!(stderr.next_line().await.unwrap(), None);
}

#[tokio::test]
async fn a_taken_port_is_told_in_words() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for server in ["sandbox", "receive"] {
        let refused = crate::support::run(&[server, "--listen", &address]).await;
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        let said = refused.stderr;
        assert!(said.contains(&address) && said.contains("choose another address"), "{said}");
    }
}
