//! Sockets over TLS, and what a refused handshake means. The certificates are made for these tests.

use std::{
    net::{TcpListener, TcpStream},
    path::PathBuf,
    thread,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_tungstenite::tungstenite;

use super::*;
use crate::{
    config,
    rtm::{platform::Platform, testing::platform_settings},
};

fn test_data(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "src/rtm/testdata", name].iter().collect()
}

fn limits() -> SocketLimits {
    SocketLimits {
        max_frame: 1 << 20,
        write_buffer: 1 << 10,
        connect_timeout: Duration::from_secs(5),
        write_timeout: Duration::from_secs(5),
    }
}

fn tls(ca: Option<PathBuf>) -> Arc<rustls::ClientConfig> {
    let settings = config::Platform { ca, ..platform_settings("https://localhost") };
    Platform::new(&settings).unwrap().tls().clone()
}

/// Serves one connection in a thread of its own; returns the port.
fn serve_one(serve: impl FnOnce(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || serve(listener.accept().unwrap().0));
    port
}

/// A TLS server that sends a frame's text back.
fn echo_with_tls(stream: TcpStream) {
    let certificate = CertificateDer::from_pem_file(test_data("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(test_data("server.key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let tls = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), stream);
    // A client that doesn't trust the certificate goes away.
    if let Ok(mut socket) = tungstenite::accept(tls) {
        while let Ok(message) = socket.read() {
            if message.is_text() {
                socket.send(message).unwrap();
            }
        }
    }
}

async fn open(url: &str, ca: Option<PathBuf>) -> Result<Socket, Failure> {
    let by = Instant::now() + Duration::from_secs(25);
    Socket::open(&url.parse().unwrap(), &tls(ca), limits(), by).await
}

#[tokio::test]
async fn the_configured_authority_is_trusted_and_only_that() {
    let url = format!("wss://localhost:{}/rtm/bot?sid=1", serve_one(echo_with_tls));
    let mut socket = open(&url, Some(test_data("authority.pem"))).await.unwrap();
    socket.write(Message::text("{}")).await.unwrap();
    assert_eq!(socket.read().await, Ok(Message::text("{}")));

    let url = format!("wss://localhost:{}/rtm/bot?sid=1", serve_one(echo_with_tls));
    let failure = open(&url, None).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Network);
    assert!(failure.to_string().contains("certificate"), "{failure}");
}

#[tokio::test]
async fn a_frame_that_can_never_be_written_leaves_the_socket_as_it_was() {
    let url = format!("wss://localhost:{}/", serve_one(echo_with_tls));
    let mut socket = open(&url, Some(test_data("authority.pem"))).await.unwrap();
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
    let failure = Socket::open(&url, &tls(None), limits(), by).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Timeout);
}
