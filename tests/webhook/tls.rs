//! TLS: own authorities, client certificates.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::PathBuf,
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair as Keys, date_time_ymd};
use rtm_bridge::{
    config::KeyPair,
    webhook::{FailureKind, Outcome, Sender},
};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::PrivateKeyDer,
    server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tempfile::TempDir;
use url::Url;

use crate::support::{delivery, no_answer, sender, settings};

/// Certificates are good until this year.
const GOOD_UNTIL: i32 = 4000;

/// A made-up authority, a server's and a client's certificate by it, and its files.
struct Pki {
    files: TempDir,
    roots: Arc<RootCertStore>,
    server: (rcgen::Certificate, Keys),
}

impl Pki {
    fn new() -> Self {
        Self::with_server_until(GOOD_UNTIL)
    }

    /// As [`Pki::new`], with a server's certificate that ends with this year's beginning.
    fn with_server_until(until: i32) -> Self {
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_keys = Keys::generate().unwrap();
        let ca_certificate = ca.self_signed(&ca_keys).unwrap();
        let issuer = Issuer::new(ca, ca_keys);
        let issue = |name: &str, until: i32| {
            let keys = Keys::generate().unwrap();
            let mut params = CertificateParams::new([name.to_owned()]).unwrap();
            params.not_after = date_time_ymd(until, 1, 1);
            (params.signed_by(&keys, &issuer).unwrap(), keys)
        };
        let (client, client_keys) = issue("bridge", GOOD_UNTIL);
        let files = tempfile::tempdir().unwrap();
        let write = |name: &str, pem: String| std::fs::write(files.path().join(name), pem).unwrap();
        write("ca.pem", ca_certificate.pem());
        write("client.pem", client.pem());
        write("client.key", client_keys.serialize_pem());
        let mut roots = RootCertStore::empty();
        roots.add(ca_certificate.der().clone()).unwrap();
        Self { roots: Arc::new(roots), server: issue("localhost", until), files }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// A server that answers every request with 204, if the handshake goes well.
    fn serve(&self, clients: Arc<dyn ClientCertVerifier>) -> Url {
        let (certificate, keys) = &self.server;
        let key = PrivateKeyDer::try_from(keys.serialize_der()).unwrap();
        let config = ServerConfig::builder()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            while let Ok((tcp, _)) = listener.accept() {
                let tls = ServerConnection::new(config.clone()).unwrap();
                let _ = answer(BufReader::new(StreamOwned::new(tls, tcp)));
            }
        });
        Url::parse(&format!("https://localhost:{port}/")).unwrap()
    }
}

fn answer(mut stream: BufReader<StreamOwned<ServerConnection, std::net::TcpStream>>) -> std::io::Result<()> {
    let (mut line, mut length) = (String::new(), 0);
    while stream.read_line(&mut line)? > 2 {
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    stream.read_exact(&mut vec![0; length])?;
    stream.get_mut().write_all(b"HTTP/1.1 204 OK\r\nconnection: close\r\n\r\n")
}

fn no_clients() -> Arc<dyn ClientCertVerifier> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Arc::new(NoClientAuth)
}

fn trusting(pki: &Pki, url: &Url) -> Sender {
    let mut settings = settings(url);
    settings.ca = Some(pki.file("ca.pem"));
    sender(&settings)
}

#[tokio::test]
async fn an_own_authority_is_trusted_when_told_and_only_then() {
    let clients = no_clients();
    let pki = Pki::new();
    let url = pki.serve(clients);
    assert_eq!(trusting(&pki, &url).attempt(&delivery(1)).await.outcome, Outcome::Delivered);

    let other = Pki::new();
    let text = no_answer(&trusting(&other, &url).attempt(&delivery(1)).await, FailureKind::Tls);
    assert!(text.starts_with("no TLS connection with localhost:"), "{text}");

    let mut by_address = url.clone();
    by_address.set_host(Some("127.0.0.1")).unwrap();
    no_answer(&trusting(&pki, &by_address).attempt(&delivery(1)).await, FailureKind::Tls);
}

#[tokio::test]
async fn an_expired_certificate_is_refused_and_said_to_be() {
    let clients = no_clients();
    let pki = Pki::with_server_until(2020);
    let url = pki.serve(clients);
    let text = no_answer(&trusting(&pki, &url).attempt(&delivery(1)).await, FailureKind::Tls);
    assert!(text.contains("expired"), "{text}");
}

#[tokio::test]
async fn a_demanded_client_certificate_is_shown() {
    let _ = no_clients();
    let pki = Pki::new();
    let url = pki.serve(WebPkiClientVerifier::builder(pki.roots.clone()).build().unwrap());
    no_answer(&trusting(&pki, &url).attempt(&delivery(1)).await, FailureKind::Tls);

    let mut settings = settings(&url);
    settings.ca = Some(pki.file("ca.pem"));
    settings.client_certificate =
        Some(KeyPair { certificate: pki.file("client.pem"), key: pki.file("client.key") });
    assert_eq!(sender(&settings).attempt(&delivery(1)).await.outcome, Outcome::Delivered);
}

#[tokio::test]
async fn plain_http_is_not_taken_for_tls() {
    let receiver = crate::support::receiver().await;
    let url = Url::parse(&receiver.url().as_str().replace("http://", "https://")).unwrap();
    let pki = Pki::new();
    no_answer(&trusting(&pki, &url).attempt(&delivery(1)).await, FailureKind::Tls);
}
