//! `check --online`, against the stand-in platform with its faults and against receivers with real certificates.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::PathBuf,
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rtm_bridge::sandbox::{App, Endpoint, Fault, FaultKind, Sandbox, SandboxOptions, Settings, SocketEnd};
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use tempfile::TempDir;

use crate::support::{Ended, Running, World, command, line_with, run};

/// A configuration of some users and webhooks at a platform.
struct Setup {
    directory: TempDir,
    text: String,
}

impl Setup {
    fn at(platform: impl std::fmt::Display) -> Self {
        let App { client_id, client_secret, bot_name, bot_id } = App::default();
        let text = format!(
            r#"
[bots.support]
name = "{bot_name}"
id = "{bot_id}"
client_id = "{client_id}"
client_secret = "{client_secret}"
[platform]
url = "{platform}"
"#
        );
        Self { directory: tempfile::tempdir().unwrap(), text }
    }

    /// More of `[platform]`.
    fn platform(mut self, line: &str) -> Self {
        self.text += &format!("{line}\n");
        self
    }

    fn users(mut self, names: &[&str]) -> Self {
        for name in names {
            self.text += &format!(
                "[users.{name}]\nbot = \"support\"\nidentity = \"{name}@example.com\"\nwebhooks = []\n"
            );
        }
        self
    }

    fn webhook(mut self, name: &str, url: &str, more: &str) -> Self {
        self.text += &format!("[webhooks.{name}]\nurl = \"{url}\"\n{more}\n");
        self
    }

    async fn check(&self, more: &[&str]) -> Ended {
        let file = self.directory.path().join("bridge.toml").display().to_string();
        std::fs::write(&file, &self.text).unwrap();
        let checked = run(&[&["check", "--online", "-c", &file], more].concat()).await;
        assert_eq!(checked.stderr, "", "a pipe sees no progress");
        assert!(!checked.stdout.contains('\u{1b}'), "and no colours: {:?}", checked.stdout);
        let App { client_secret, .. } = App::default();
        assert!(!checked.stdout.contains(&client_secret), "{}", checked.stdout);
        checked
    }
}

/// A line of a table, its cells.
fn row<'a>(checked: &'a Ended, name: &str) -> Vec<&'a str> {
    let line = checked.stdout.lines().find(|line| line.split_whitespace().next() == Some(name));
    let line = line.unwrap_or_else(|| panic!("{name} is not in:\n{}", checked.stdout));
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

/// The text with its line breaks taken out: what is said may be broken anywhere.
fn said(checked: &Ended) -> String {
    checked.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn sandbox(settings: Settings) -> Sandbox {
    Sandbox::start(SandboxOptions { settings, ..SandboxOptions::default() }).await.unwrap()
}

#[tokio::test]
async fn it_signs_in_beside_a_running_bridge_and_leaves_no_trace() {
    let world = World::start().await;
    let control = world.sandbox.control();
    let before = control.wait_connected("alice", 1).await;
    // After this, what the platform had to say is said.
    assert_eq!(world.run(&["send", "alice", "Hi", "--wait", "reply"]).await.code, 0);
    let (history, messages) = (control.history("alice"), control.messages("alice").len());
    let checked = world.run(&["check", "--online"]).await;
    assert_eq!((checked.code, checked.stderr.as_str()), (0, ""), "{}", checked.stdout);
    let cells = row(&checked, "alice");
    assert!(cells.len() == 6 && cells[1..].iter().all(|cell| cell.starts_with("ok")), "{}", checked.stdout);
    assert!(checked.stdout.ends_with("Everything works.\n"), "{}", checked.stdout);

    // The check said goodbye, the bridge's own connection is the same one, and nothing was said.
    assert_eq!(control.wait_goodbyes("alice", 1).await, [1000]);
    let after = control.wait_connected("alice", 1).await;
    assert_eq!(after[0].id, before[0].id);
    assert_eq!(control.connects("alice"), 2);
    assert_eq!(control.history("alice"), history);
    assert_eq!(control.messages("alice").len(), messages, "nothing was sent for her");
    let status = world.run(&["status"]).await;
    assert!(status.stdout.contains("connected"), "{}", status.stdout);
}

#[tokio::test]
async fn the_platform_is_told_of_a_reconnect_so_that_it_greets_nobody() {
    let sandbox = sandbox(Settings::default()).await;
    let sockets = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = sockets.local_addr().unwrap();
    let first_line = std::thread::spawn(move || {
        let (socket, _) = sockets.accept().unwrap();
        BufReader::new(socket).lines().next().unwrap().unwrap()
    });
    let setup = Setup::at(sandbox.url())
        .platform(&format!("websocket_url = \"ws://{address}\""))
        .platform("reconnect_query = \"ConnectionMode=Reconnect\"")
        .users(&["alice"]);
    let checked = setup.check(&[]).await;
    assert_eq!((checked.code, row(&checked, "alice")[5]), (1, "FAILED"), "it hung up");
    let first_line = first_line.join().unwrap();
    assert!(first_line.starts_with("GET /rtm/bot?sid="), "{first_line}");
    assert!(first_line.contains("&ConnectionMode=Reconnect "), "{first_line}");
}

#[tokio::test]
async fn each_fault_of_the_platform_is_told_with_what_to_do() {
    let sandbox = sandbox(Settings::default()).await;
    let control = sandbox.control();
    let users = ["a", "b", "c", "d"];
    let identity = |name: &str| format!("{name}@example.com");
    let refuse = |at, status| FaultKind::Refuse { at, status, retry_after: None };
    control.inject(Fault::always(refuse(Endpoint::Jwtgrant, 401)).for_user(identity("a")));
    control.inject(Fault::always(refuse(Endpoint::RtmStart, 404)).for_user(identity("b")));
    control.inject(Fault::always(FaultKind::Hang { at: Endpoint::Upgrade }).for_user(identity("c")));
    control
        .inject(Fault::always(FaultKind::OnConnect { end: SocketEnd::close(1008) }).for_user(identity("d")));
    let checked =
        Setup::at(sandbox.url()).platform("connect_timeout = \"3s\"").users(&users).check(&[]).await;
    assert_eq!(checked.code, 1);
    assert_eq!(row(&checked, "a")[1..], ["ok", "ok", "FAILED", "-", "-"]);
    assert_eq!(row(&checked, "b")[4..], ["FAILED", "-"]);
    assert_eq!(row(&checked, "c")[5..], ["FAILED"]);
    assert_eq!(row(&checked, "d")[5..], ["FAILED"]);
    let said = said(&checked);
    for advice in [
        "jwtgrant: a ",
        "[bots.support] client_id, client_secret",
        "rtm/start: b ",
        "name (letter case counts) and id",
        "WebSocket: c ",
        "(platform.connect_timeout)",
        "WebSocket: d ",
        "is suspended",
    ] {
        assert!(said.contains(advice), "{advice:?} is not in:\n{}", checked.stdout);
    }
}

#[tokio::test]
async fn a_wrong_secret_and_a_wrong_clock_are_told() {
    let sandbox = sandbox(Settings { clock_skew_ms: -600_000, ..Settings::default() }).await;
    let mut setup = Setup::at(sandbox.url()).users(&["alice"]);
    let checked = setup.check(&[]).await;
    // The bridge makes up for the clock, but it is still wrong.
    assert_eq!(checked.code, 1);
    assert_eq!(row(&checked, "alice")[1..3], ["FAILED", "ok"]);
    assert!(row(&checked, "alice")[5].starts_with("ok"), "{}", checked.stdout);
    assert!(said(&checked).contains("s ahead of the platform's -> Set it"), "{}", checked.stdout);

    setup.text = setup.text.replace(&App::default().client_secret, "not-the-secret-of-this-app");
    let checked = setup.check(&[]).await;
    assert_eq!((checked.code, row(&checked, "alice")[3]), (1, "FAILED"));
    assert!(said(&checked).contains("Set this machine's clock first. Compare with"), "{}", checked.stdout);
    assert!(!checked.stdout.contains("not-the-secret"), "{}", checked.stdout);
}

#[tokio::test]
async fn a_platform_that_has_enough_is_left_in_peace() {
    let sandbox = sandbox(Settings::default()).await;
    let control = sandbox.control();
    control.inject(Fault::always(FaultKind::RateLimit { retry_after: Some("120".to_owned()) }));
    let checked = Setup::at(sandbox.url()).users(&["a", "b", "c", "d", "e"]).check(&[]).await;
    assert_eq!(checked.code, 1);
    assert_eq!(control.request_count(Endpoint::Jwtgrant), 1, "the others were spared");
    let said = said(&checked);
    for words in ["jwtgrant: a ", "Wait 120 s", "Not tried: b, c, d, e"] {
        assert!(said.contains(words), "{words:?} is not in:\n{}", checked.stdout);
    }
}

#[tokio::test]
async fn a_platform_that_is_not_there_is_asked_once() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let checked = Setup::at(format!("http://{address}")).users(&["a", "b"]).check(&[]).await;
    assert_eq!(checked.code, 1);
    assert_eq!(row(&checked, "a")[1..], ["-", "ok", "FAILED", "-", "-"]);
    assert_eq!(row(&checked, "b")[1..], ["-", "-", "-", "-", "-"]);
    assert!(said(&checked).contains(&format!("Nobody listens at http://{address}")), "{}", checked.stdout);
}

#[tokio::test]
async fn only_what_is_named_is_checked() {
    let sandbox = sandbox(Settings::default()).await;
    let setup = Setup::at(sandbox.url()).users(&["a", "b"]).webhook("dev", "http://127.0.0.1:9/", "");
    let checked = setup.check(&["--user", "b"]).await;
    assert_eq!(checked.code, 0, "{}", checked.stdout);
    assert!(!checked.stdout.contains("WEBHOOK "), "{}", checked.stdout);
    let control = sandbox.control();
    assert_eq!((control.connects("a@example.com"), control.connects("b@example.com")), (0, 1));
    let checked = setup.check(&["--webhook", "dev"]).await;
    assert_eq!((checked.code, &row(&checked, "dev")[1..]), (1, &["ok", "FAILED", "-"][..]));
    assert_eq!(control.request_count(Endpoint::Jwtgrant), 1);

    let file = setup.directory.path().join("bridge.toml").display().to_string();
    for arguments in [&["--online", "--user", "c"][..], &["--post"], &["--user", "a"]] {
        let refused = run(&[&["check", "-c", &file], arguments].concat()).await;
        assert_eq!(refused.code, 2, "{arguments:?}: {}", refused.stderr);
        assert!(refused.stderr.starts_with("error: "), "{arguments:?}: {}", refused.stderr);
    }
}

#[tokio::test]
async fn a_signed_event_is_posted_when_asked_for() {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let mut receive = Running::start(command(&["receive", "--listen", "127.0.0.1:0", "--secret", SECRET]));
    let first = line_with(&mut receive.stdout, "http://").await;
    let url = first.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
    let signed = |secret: &str| format!("secret = \"{secret}\"");
    let setup = Setup::at("http://127.0.0.1:9").webhook("right", &url, &signed(SECRET)).webhook(
        "wrong",
        &url,
        &signed("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    );
    let quiet = setup.check(&["--webhook", "right"]).await;
    assert_eq!((quiet.code, &row(&quiet, "right")[1..]), (0, &["ok", "ok", "none"][..]));
    let checked = setup.check(&["--post"]).await;
    assert_eq!(checked.code, 1);
    assert_eq!(row(&checked, "right")[4], "ok 204");
    assert_eq!(row(&checked, "wrong")[4], "FAILED");
    assert!(said(&checked).contains("The secret must be the same on both sides"), "{}", checked.stdout);
    assert!(!checked.stdout.contains("whsec_"), "{}", checked.stdout);
    for verdict in ["signature verified", "-> 401"] {
        let line = line_with(&mut receive.stdout, verdict).await;
        assert!(line.contains("bridge.test"), "{line}");
    }
}

/// An authority that nobody knows, and servers with its certificates.
struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let keys = KeyPair::generate().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let certificate = params.self_signed(&keys).unwrap();
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { directory, issuer: Issuer::new(params, keys) }
    }

    fn trusted(&self) -> String {
        format!("ca = {:?}", self.file())
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// The port of a server with a certificate for this name until this year. It answers whatever is asked
    /// with 204.
    fn serve(&self, name: &str, until: i32) -> u16 {
        let keys = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(until, 1, 1);
        let certificate = params.signed_by(&keys, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(keys.serialize_der()).unwrap();
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            while let Ok((tcp, _)) = listener.accept() {
                let tls = ServerConnection::new(config.clone()).unwrap();
                let mut stream = StreamOwned::new(tls, tcp);
                // One that ends without a request is one that was not trusted, or only looked.
                if stream.read(&mut [0; 16 * 1024]).is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
                }
            }
        });
        port
    }
}

#[tokio::test]
async fn every_kind_of_bad_certificate_is_told_apart() {
    let authority = Authority::new();
    let good = format!("https://localhost:{}/", authority.serve("localhost", 4000));
    let expired = format!("https://localhost:{}/", authority.serve("localhost", 2020));
    let other = format!("https://localhost:{}/", authority.serve("elsewhere.example", 4000));
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("https://{}/", plain.local_addr().unwrap());
    let trusted = authority.trusted();
    let setup = Setup::at("http://127.0.0.1:9")
        .webhook("good", &good, &trusted)
        .webhook("expired", &expired, &trusted)
        .webhook("other-name", &other, &trusted)
        .webhook("unknown", &good, "")
        // The kernel takes the connection, and nobody speaks.
        .webhook("silent", &silent, "timeout = \"1s\"");
    let checked = setup.check(&["--post"]).await;
    assert_eq!(checked.code, 1);
    assert_eq!(row(&checked, "good")[1..], ["ok", "ok", "ok", "ok 204"]);
    for name in ["expired", "other-name", "unknown", "silent"] {
        assert_eq!(row(&checked, name)[1..], ["ok", "ok", "FAILED", "-"], "{name}:\n{}", checked.stdout);
    }
    let said = said(&checked);
    for advice in [
        "The certificate of localhost has expired",
        "The certificate is for other names than localhost: [webhooks.other-name] url",
        "name its PEM file in [webhooks.unknown] ca",
        "Nothing answers at https://127.0.0.1",
    ] {
        assert!(said.contains(advice), "{advice:?} is not in:\n{}", checked.stdout);
    }
}

#[tokio::test]
async fn the_platforms_certificates_are_judged_as_well() {
    let authority = Authority::new();
    let expired = authority.serve("localhost", 2020);
    let trusted = authority.trusted();
    let api = Setup::at(format!("https://localhost:{expired}")).platform(&trusted).users(&["alice"]);
    let checked = api.check(&[]).await;
    assert_eq!((checked.code, row(&checked, "alice")[3]), (1, "FAILED"));
    assert!(said(&checked).contains("The certificate of localhost has expired"), "{}", checked.stdout);

    let sandbox = sandbox(Settings::default()).await;
    let sockets = format!("websocket_url = \"wss://localhost:{expired}\"");
    let socket = Setup::at(sandbox.url()).platform(&trusted).platform(&sockets).users(&["alice"]);
    let checked = socket.check(&[]).await;
    assert_eq!((checked.code, row(&checked, "alice")[5]), (1, "FAILED"));
    assert!(said(&checked).contains("The certificate of localhost has expired"), "{}", checked.stdout);
}
