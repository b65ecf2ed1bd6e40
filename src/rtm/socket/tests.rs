//! Sockets over TLS, and what a refused handshake means.

use std::{
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs, pki_types::PrivateKeyDer};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite;

use super::*;
use crate::{
    config,
    rtm::{platform::Platform, testing::platform_settings},
};

/// A made-up authority, and a server's certificate by it.
struct Pki {
    directory: TempDir,
    server: (rcgen::Certificate, KeyPair),
}

impl Pki {
    fn new() -> Self {
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_keys = KeyPair::generate().unwrap();
        let authority = ca.self_signed(&ca_keys).unwrap();
        let (issuer, keys) = (Issuer::new(ca, ca_keys), KeyPair::generate().unwrap());
        let certificate =
            CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&keys, &issuer).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
        Self { directory, server: (certificate, keys) }
    }

    fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// The URL of a TLS server that takes one connection and sends a frame's text back.
    fn echo(&self) -> String {
        let (certificate, keys) = &self.server;
        let key = PrivateKeyDer::try_from(keys.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let port = serve_one(move |stream| {
            let tls = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), stream);
            // A client that doesn't trust the certificate goes away.
            let Ok(mut socket) = tungstenite::accept(tls) else { return };
            while let Ok(message) = socket.read() {
                if message.is_text() {
                    socket.send(message).unwrap();
                }
            }
        });
        format!("wss://localhost:{port}/rtm/bot?sid=1")
    }
}

fn limits() -> SocketLimits {
    SocketLimits {
        max_frame: 1 << 20,
        write_buffer: 1 << 10,
        connect_timeout: Duration::from_secs(5),
        write_timeout: Duration::from_secs(5),
    }
}

fn tls(ca: Option<&Path>) -> Arc<rustls::ClientConfig> {
    let settings = config::Platform { ca: ca.map(Path::to_owned), ..platform_settings("https://localhost") };
    Platform::new(&settings).unwrap().tls().clone()
}

/// Serves one connection in a thread of its own; returns the port.
fn serve_one(serve: impl FnOnce(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || serve(listener.accept().unwrap().0));
    port
}

async fn open(url: &str, ca: Option<&Path>) -> Result<Socket, Failure> {
    let by = Instant::now() + Duration::from_secs(25);
    Socket::open(&url.parse().unwrap(), None, &tls(ca), limits(), by).await
}

#[tokio::test]
async fn the_configured_authority_is_trusted_and_only_that() {
    let pki = Pki::new();
    let mut socket = open(&pki.echo(), Some(&pki.authority())).await.unwrap();
    socket.write(Message::text("{}")).await.unwrap();
    assert_eq!(socket.read().await, Ok(Message::text("{}")));

    let failure = open(&pki.echo(), None).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Network);
    assert!(failure.to_string().contains("certificate"), "{failure}");
}

#[tokio::test]
async fn a_frame_that_can_never_be_written_leaves_the_socket_as_it_was() {
    let pki = Pki::new();
    let mut socket = open(&pki.echo(), Some(&pki.authority())).await.unwrap();
    let too_large = socket.write(Message::text("x".repeat(2 << 10))).await;
    assert!(matches!(too_large, Err(WriteError::TooLarge)), "{too_large:?}");
    socket.write(Message::text("{}")).await.unwrap();
    assert_eq!(socket.read().await, Ok(Message::text("{}")));
}

async fn refusal(answer: &'static str) -> Failure {
    use std::io::{Read, Write};
    let port = serve_one(move |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(answer.as_bytes());
    });
    open(&format!("ws://127.0.0.1:{port}/"), None).await.unwrap_err()
}

#[tokio::test]
async fn a_refused_handshake_has_a_class() {
    let slow_down = "HTTP/1.1 429 Slow Down\r\nretry-after: 9\r\ncontent-length: 0\r\n\r\n";
    let failure = refusal(slow_down).await;
    assert_eq!(failure.kind, FailureKind::RateLimited);
    assert_eq!(failure.retry_after, Some(Duration::from_secs(9)));
    for (answer, kind) in [
        ("HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n", FailureKind::Refused { status: 401 }),
        ("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", FailureKind::Server { status: 503 }),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", FailureKind::Refused { status: 200 }),
        ("nonsense\r\n\r\n", FailureKind::Malformed),
    ] {
        assert_eq!(refusal(answer).await.kind, kind, "{answer}");
    }
}

#[tokio::test]
async fn a_silent_server_costs_no_more_than_the_urls_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let by = Instant::now() + Duration::from_millis(50);
    let failure = Socket::open(&url, None, &tls(None), limits(), by).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Timeout);
}

#[tokio::test]
async fn the_memory_of_a_large_frame_is_not_read_into_again() {
    const SMALL: usize = 64;
    let port = serve_one(|stream| {
        let mut socket = tungstenite::accept(stream).unwrap();
        socket.send(Message::text("x".repeat(4 * LARGE))).unwrap();
        for _ in 0..SMALL {
            socket.send(Message::text("x".repeat(600))).unwrap();
        }
        // Until the client goes.
        let _ = socket.read();
    });
    let mut socket = open(&format!("ws://127.0.0.1:{port}/"), None).await.unwrap();
    let large = socket.read().await.unwrap().into_data();
    let memory = large.as_ptr().addr()..large.as_ptr().addr() + large.len();
    assert!(socket.outgrown.0.is_some());
    drop(large);
    for _ in 0..SMALL {
        let small = socket.read().await.unwrap().into_data();
        assert!(!memory.contains(&small.as_ptr().addr()), "the large frame's memory is in use again");
        if socket.outgrown.0.is_none() {
            return;
        }
    }
    panic!("the large frame is still held");
}
