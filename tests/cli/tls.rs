//! Commands that call a bridge whose API speaks TLS.

use crate::support::{World, ended};

#[tokio::test]
async fn a_certificate_is_trusted_when_told_and_its_name_must_fit() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let file = |name: &str| directory.path().join(name);
    std::fs::write(file("api.pem"), made.cert.pem()).unwrap();
    std::fs::write(file("api.key"), made.signing_key.serialize_pem()).unwrap();
    let files = format!("certificate = {:?}\nkey = {:?}", file("api.pem"), file("api.key"));
    let world = World::start_with(&format!("[http.tls]\n{files}\n")).await;

    let stranger = world.run(&["status"]).await;
    assert_eq!(stranger.code, 1);
    assert!(
        stranger.stderr.contains("can't be trusted") && stranger.stderr.contains("SSL_CERT_FILE"),
        "{}",
        stranger.stderr
    );

    let trusting = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        command.env("SSL_CERT_FILE", file("api.pem"));
        ended(command)
    };
    let answered = trusting(&["send", "alice", "Hi", "--wait", "reply"]).await;
    assert_eq!((answered.code, answered.stderr.as_str()), (0, ""));
    assert!(answered.stdout.ends_with("echo: Hi\n"), "{}", answered.stdout);
    let other_name = world.url.replace("http://127.0.0.1", "https://localhost");
    let refused = trusting(&["status", "--url", &other_name]).await;
    assert!(
        refused.code == 1 && refused.stderr.contains("a name that its certificate has"),
        "{}",
        refused.stderr
    );
}
