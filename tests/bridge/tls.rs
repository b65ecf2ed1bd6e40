//! TLS under the API: what it speaks, how its certificate is renewed, and what broken files do.

use std::path::{Path, PathBuf};

use rtm_bridge::{
    config::KeyPair,
    daemon::{Daemon, StartError},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{ALICE, World, answer, eventually, within};

/// A certificate of its own in these files; gives what a client is to trust.
fn write_pair(files: &KeyPair) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    made.cert.pem()
}

fn files_in(directory: &Path) -> KeyPair {
    let file = |name: &str| -> PathBuf { directory.join(name) };
    KeyPair { certificate: file("api.pem"), key: file("api.key") }
}

/// A client that trusts this certificate alone, and keeps no connection.
fn trusting(pem: &str) -> reqwest::Client {
    let root = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([root]);
    builder.pool_max_idle_per_host(0).build().unwrap()
}

fn url(world: &World, path: &str) -> String {
    format!("https://localhost:{}{path}", world.daemon().api_address().port())
}

#[tokio::test]
async fn the_api_speaks_tls_and_follows_its_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let files = files_in(directory.path());
    let first = write_pair(&files);
    let world = World::start_with(|config| config.http.tls = Some(files.clone())).await;
    let path = format!("/v1/users/{ALICE}/messages");
    let client = trusting(&first);
    let post = client.post(url(&world, &path)).json(&json!({"text": "Hi"}));
    let (status, body) = answer(post).await;
    assert_eq!(status, 202, "{body}");
    let one = format!("{path}/{}", body["clientMessageId"]);
    let (_, body) = answer(client.get(url(&world, &format!("{one}?wait=reply")))).await;
    assert_eq!(body["replies"][0]["message"][0]["cInfo"]["body"], "echo: Hi");

    // Renewed, and connections that are there live on.
    let kept = reqwest::Certificate::from_pem(first.as_bytes()).unwrap();
    let keeping = reqwest::Client::builder().no_proxy().tls_certs_only([kept]).build().unwrap();
    assert_eq!(answer(keeping.get(url(&world, &one))).await.0, 200);
    let second = write_pair(&files);
    world.daemon().read_certificates_again();
    let renewed = trusting(&second);
    eventually("the new certificate", || async { renewed.get(url(&world, &one)).send().await.ok() }).await;
    // A client of its own: those that called before may resume their sessions.
    assert!(trusting(&first).get(url(&world, &one)).send().await.is_err(), "the old one is gone");
    assert_eq!(answer(keeping.get(url(&world, &one))).await.0, 200);

    // Broken: the one at hand stays in use.
    std::fs::write(&files.certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
    world.daemon().read_certificates_again();
    assert_eq!(answer(renewed.get(url(&world, &one))).await.0, 200);
}

#[tokio::test]
async fn http_in_the_clear_is_told_what_is_wrong_and_noise_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let files = files_in(directory.path());
    let trusted = trusting(&write_pair(&files));
    let world = World::start_with(|config| {
        config.http.tls = Some(files);
        config.http.header_timeout = std::time::Duration::from_millis(300);
    })
    .await;
    let plain = world.request(reqwest::Method::GET, "/v1/users");
    let (status, problem) = answer(plain).await;
    assert_eq!((status, &problem["code"]), (400, &json!("tls_required")), "{problem}");
    // A handshake that is none, one that is cut short, and one that never begins.
    for bytes in [&b"\x16\x03\x01\x00\x05hello"[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b""] {
        let mut noise = TcpStream::connect(world.daemon().api_address()).await.unwrap();
        noise.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let _ = within("the end of the connection", noise.read_to_end(&mut rest)).await;
        assert!(rest.len() < 100, "{rest:?}");
    }
    assert_eq!(answer(trusted.get(url(&world, "/v1/users"))).await.0, 200);
}

#[tokio::test]
async fn files_that_can_not_be_used_stop_the_start_before_anything_else() {
    let directory = tempfile::tempdir().unwrap();
    let files = files_in(directory.path());
    write_pair(&files);
    let other = KeyPair { certificate: directory.path().join("other.pem"), ..files.clone() };
    write_pair(&KeyPair { key: directory.path().join("other.key"), ..other.clone() });
    let mut world = World::start().await;
    world.stop_daemon().await;
    for (pair, what) in [
        (other, "the key does not belong to the certificate"),
        (KeyPair { key: files.certificate.clone(), ..files.clone() }, "holds no private key"),
        (KeyPair { certificate: directory.path().join("none.pem"), ..files }, "none.pem"),
    ] {
        world.config.http.tls = Some(pair);
        let error = Daemon::start(&world.config).await.unwrap_err();
        assert!(matches!(error, StartError::Certificate(_)) && error.needs_a_person(), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
}
