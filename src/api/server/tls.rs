//! TLS under the API: its certificate, and how a renewed one comes into use.
//!
//! The files are looked at every few seconds. Whatever writes them seldom writes both at once, so a change
//! counts once two looks in a row find the same. One that can't be used is told, and changes nothing.

use std::{
    fmt, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::Notify};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::Acceptor;
use crate::config::{KeyPair, KeyPairError};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What a caller is told that speaks HTTP in the clear.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\
    content-length: 175\r\n\r\n{\"type\":\"urn:rtm-bridge:problem:tls_required\",\"title\":\"TLS required\",\"status\":400,\
    \"detail\":\"this port speaks TLS only (http.tls); call it with https://\",\"code\":\"tls_required\"}";

/// The certificate of a listener, and the files that it comes from. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Certificates(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: KeyPair,
    current: Current,
    asked: Notify,
}

/// The certificate for the next connection.
#[derive(Clone)]
struct Current(Arc<RwLock<Arc<CertifiedKey>>>);

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current([secret])")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Certificates {
    /// Reads both files.
    pub fn load(files: &KeyPair) -> Result<Self, KeyPairError> {
        let current = Current(Arc::new(RwLock::new(Arc::new(files.read()?))));
        Ok(Self(Arc::new(Inner { files: files.clone(), current, asked: Notify::new() })))
    }

    /// What makes TLS of a connection, with the certificate at that moment.
    pub fn acceptor(&self) -> Acceptor {
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has what the default versions need")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.0.current.clone()));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Acceptor::Tls(Tls(TlsAcceptor::from(Arc::new(config))))
    }

    /// Reads the files anew, soon, whether they look changed or not.
    pub fn read_again(&self) {
        self.0.asked.notify_one();
    }

    /// Keeps up with the files until `shutdown`.
    pub async fn follow(self, shutdown: CancellationToken) {
        let stamps = async || {
            let files = self.0.files.clone();
            tokio::task::spawn_blocking(move || Stamps::of(&files)).await.unwrap_or_default()
        };
        let mut changes = Changes::since(stamps().await);
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let is_asked = tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.0.asked.notified() => true,
                _ = ticks.tick() => false,
            };
            if changes.look(stamps().await) || is_asked {
                self.read().await;
            }
        }
    }

    async fn read(&self) {
        let files = self.0.files.clone();
        let certificate = self.0.files.certificate.display();
        match tokio::task::spawn_blocking(move || files.read()).await {
            Ok(Ok(read)) => {
                let mut current = self.0.current.0.write().unwrap_or_else(PoisonError::into_inner);
                let is_new = current.cert != read.cert;
                *current = Arc::new(read);
                drop(current);
                if is_new {
                    tracing::info!(%certificate, "the API has a new certificate");
                }
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "the API's new certificate can't be used; the one before stays in use");
            }
            Err(error) => tracing::error!(%error, "the API's certificate could not be read again"),
        }
    }
}

/// What a file looks like from outside; none if it can't be seen.
type Stamp = Option<(u64, u64, i64, i64)>;

/// What both files look like from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Stamps {
    certificate: Stamp,
    key: Stamp,
}

impl Stamps {
    fn of(files: &KeyPair) -> Self {
        let stamp = |path: &Path| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
        };
        Self { certificate: stamp(&files.certificate), key: stamp(&files.key) }
    }
}

/// When a change of the files is complete.
#[derive(Debug)]
struct Changes {
    acted_on: Stamps,
    seen: Stamps,
}

impl Changes {
    fn since(stamps: Stamps) -> Self {
        Self { acted_on: stamps, seen: stamps }
    }

    /// Whether the files are to be read now, given how they look.
    fn look(&mut self, now: Stamps) -> bool {
        let is_settled = std::mem::replace(&mut self.seen, now) == now;
        let is_due = is_settled && now != self.acted_on;
        if is_due {
            self.acted_on = now;
        }
        is_due
    }
}

/// HTTP over TLS.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    pub(super) async fn accept(&self, mut tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let mut first = [0];
        // A handshake begins with 22; a method of HTTP, with a letter.
        if tcp.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
            tcp.write_all(NOT_TLS).await?;
            tcp.shutdown().await?;
            return Err(io::Error::other("it speaks HTTP without TLS"));
        }
        self.0.accept(tcp).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_pair(files: &KeyPair) -> Vec<u8> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        made.cert.der().to_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewed_certificate_comes_into_use_and_a_broken_one_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name| directory.path().join(name);
        let files = KeyPair { certificate: file("api.pem"), key: file("api.key") };
        let first = write_pair(&files);
        let certificates = Certificates::load(&files).unwrap();
        let in_use = || certificates.0.current.0.read().unwrap().cert[0].to_vec();
        assert_eq!(in_use(), first);
        let following = tokio::spawn(certificates.clone().follow(CancellationToken::new()));
        tokio::time::sleep(LOOK_EVERY).await;

        std::fs::write(&files.key, "not a key").unwrap();
        assert!(Certificates::load(&files).unwrap_err().to_string().contains("holds no private key"));
        tokio::time::sleep(4 * LOOK_EVERY).await;
        assert_eq!(in_use(), first);
        std::fs::remove_file(&files.certificate).unwrap();
        assert!(Certificates::load(&files).unwrap_err().to_string().contains("can't read"));
        tokio::time::sleep(4 * LOOK_EVERY).await;
        assert_eq!(in_use(), first);

        let second = write_pair(&files);
        tokio::time::sleep(4 * LOOK_EVERY).await;
        assert_eq!(in_use(), second);
        let third = write_pair(&files);
        certificates.read_again();
        tokio::time::sleep(LOOK_EVERY / 2).await;
        assert_eq!(in_use(), third, "asked to, at once");
        following.abort();
    }

    fn stamps(certificate: u64, key: u64) -> Stamps {
        let stamp = |number| Some((number, 1, 1, 1));
        Stamps { certificate: stamp(certificate), key: stamp(key) }
    }

    #[test]
    fn a_change_counts_once_it_is_complete_and_only_once() {
        let mut changes = Changes::since(stamps(1, 1));
        let looks = [(1, 1), (2, 1), (2, 2), (2, 2), (2, 2), (3, 2), (2, 2), (2, 2), (4, 4), (4, 4)];
        let due: Vec<_> = looks.map(|(certificate, key)| changes.look(stamps(certificate, key))).into();
        assert_eq!(due, [false, false, false, true, false, false, false, false, false, true]);
        assert!(!changes.look(Stamps::default()), "files that are gone for a moment");
        assert!(!changes.look(stamps(4, 4)));
    }

    #[test]
    fn the_answer_in_the_clear_is_whole() {
        let text = std::str::from_utf8(NOT_TLS).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{} bytes", body.len());
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["code"], "tls_required");
    }
}
