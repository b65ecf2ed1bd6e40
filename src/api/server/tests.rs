//! The server over real loopback sockets. Limits are short, and what is awaited is always an event
//! (an answer, the connection's end), never a span of time.

use std::{collections::BTreeMap, sync::Mutex};

use axum::{body::Body, extract::Path, routing::get};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{Notify, oneshot},
    task::JoinHandle,
};

use super::*;
use crate::api;

const SHORT: Duration = Duration::from_millis(150);
/// Longer than any test may take.
const LONG: Duration = Duration::from_secs(60);
const LIMITS: Limits = Limits { header_timeout: LONG, idle_timeout: LONG, max_connections: 100, drain: LONG };

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    served: JoinHandle<()>,
}

async fn start(application: impl Application, limits: Limits) -> Running {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (address, shutdown) = (server.local_addr(), CancellationToken::new());
    let served = tokio::spawn(server.serve(application, Acceptor::Plain, limits, shutdown.clone()));
    Running { address, shutdown, served }
}

fn ok() -> Router {
    Router::new().route("/ok", get(|| async { "fine" }))
}

/// Fails a test that hangs.
async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it should not take so long")
}

struct Client(TcpStream);

impl Client {
    async fn connect(to: &Running) -> Self {
        Self(TcpStream::connect(to.address).await.unwrap())
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    async fn get(&mut self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        self.answer().await
    }

    /// Reads one answer: its head in lower case, and its body.
    async fn answer(&mut self) -> String {
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n") {
            text.push(soon(self.0.read_u8()).await.expect("an answer") as char);
        }
        let text = text.to_ascii_lowercase();
        let length = text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        soon(self.0.read_exact(&mut body)).await.unwrap();
        text + &String::from_utf8(body).unwrap()
    }

    /// Waits until the server closes the connection; answers with what came before.
    async fn closed(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = soon(self.0.read_to_end(&mut rest)).await;
        rest
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let server = start(ok(), Limits { header_timeout: SHORT, ..LIMITS }).await;
    for beginning in ["", "GET", "GET /ok HTTP/1.1\r\nHost: localhost\r\nX-Slow: "] {
        let mut client = Client::connect(&server).await;
        client.send(beginning).await;
        assert_eq!(client.closed().await, b"", "{beginning:?}");
    }
}

#[tokio::test]
async fn a_head_that_trickles_ends_the_connection() {
    let server = start(ok(), Limits { header_timeout: SHORT, ..LIMITS }).await;
    let mut client = Client::connect(&server).await;
    assert!(client.get("/ok").await.ends_with("fine"));
    client.send("GET /ok HTTP/1.1\r\n").await;
    let mut trickle = tokio::time::interval(SHORT / 10);
    let (mut reader, mut writer) = client.0.split();
    soon(async {
        loop {
            let mut byte = [0];
            tokio::select! {
                read = reader.read(&mut byte) => break assert!(!matches!(read, Ok(1)), "no answer is due"),
                _ = trickle.tick() => drop(writer.write_all(b"x").await),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_lives_for_the_idle_timeout_not_the_header_timeout() {
    let server = start(ok(), Limits { header_timeout: SHORT, ..LIMITS }).await;
    let mut idle = Client::connect(&server).await;
    assert!(idle.get("/ok").await.ends_with("fine"));
    // Begun after the idle time did, so that its end shows that the header timeout is over.
    Client::connect(&server).await.closed().await;
    assert!(idle.get("/ok").await.ends_with("fine"));

    let server = start(ok(), Limits { idle_timeout: SHORT, ..LIMITS }).await;
    let mut idle = Client::connect(&server).await;
    assert!(idle.get("/ok").await.ends_with("fine"));
    assert_eq!(idle.closed().await, b"");
}

/// Answers with an endless body, and tells when that was dropped.
fn endless(dropped: oneshot::Sender<()>) -> Router {
    struct Tell(Option<oneshot::Sender<()>>);
    impl Drop for Tell {
        fn drop(&mut self) {
            let _ = self.0.take().map(|tell| tell.send(()));
        }
    }
    let tell = Arc::new(Mutex::new(Some(Tell(Some(dropped)))));
    let answer = move || {
        let tell = tell.lock().unwrap().take();
        async move {
            Body::from_stream(futures_util::stream::repeat_with(move || {
                let _held = &tell;
                Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[b'x'; 65536]))
            }))
        }
    };
    Router::new().route("/endless", get(answer))
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_cut_off() {
    let (tell, dropped) = oneshot::channel();
    let server = start(endless(tell), Limits { idle_timeout: SHORT, ..LIMITS }).await;
    let mut client = Client::connect(&server).await;
    client.send("GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    soon(dropped).await.unwrap();
}

#[tokio::test]
async fn a_large_head_is_431() {
    let server = start(ok(), LIMITS).await;
    for size in [40_000, 120_000] {
        let mut client = Client::connect(&server).await;
        let filler = "x".repeat(size);
        client.send(&format!("GET /ok HTTP/1.1\r\nHost: localhost\r\nX-Filler: {filler}\r\n\r\n")).await;
        let answer = client.answer().await;
        assert!(answer.starts_with("http/1.1 431"), "{answer}");
        assert!(
            answer.contains("connection: close") && answer.contains(r#""code":"head_too_large""#),
            "{answer}"
        );
        assert_eq!(client.closed().await, b"");
    }
    let mut client = Client::connect(&server).await;
    let many = (0..200).map(|at| format!("X-{at}: 1\r\n")).collect::<String>();
    client.send(&format!("GET /ok HTTP/1.1\r\nHost: localhost\r\n{many}\r\n")).await;
    assert!(client.answer().await.starts_with("http/1.1 431"));
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_with_and_without_a_length() {
    let server = start(api::router(&api::tests::state(&BTreeMap::new())), LIMITS).await;
    let head = "POST /v1/users/alice/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n";
    let chunk = format!("1f4\r\n{}\r\n", "x".repeat(500));
    for (rest, what) in [
        ("Content-Length: 1001\r\n\r\n".to_owned(), "announced"),
        ("Content-Length: 99999999999999\r\nExpect: 100-continue\r\n\r\n".to_owned(), "huge, not sent"),
        (format!("Transfer-Encoding: chunked\r\n\r\n{chunk}{chunk}{chunk}"), "chunked, never ending"),
    ] {
        let mut client = Client::connect(&server).await;
        client.send(&format!("{head}{rest}")).await;
        let answer = client.answer().await;
        assert!(answer.starts_with("http/1.1 413"), "{what}: {answer}");
        assert!(answer.contains(r#""code":"body_too_large""#), "{what}: {answer}");
        client.closed().await;
    }
}

#[tokio::test]
async fn a_badly_chunked_body_is_400() {
    let server = start(api::router(&api::tests::state(&BTreeMap::new())), LIMITS).await;
    let mut client = Client::connect(&server).await;
    client
        .send(
            "POST /v1/users/alice/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\
               Transfer-Encoding: chunked\r\n\r\nzz\r\nhello",
        )
        .await;
    assert!(client.answer().await.starts_with("http/1.1 400"));
}

#[tokio::test]
async fn a_panic_costs_its_request_not_the_connection() {
    let router = ok().route("/boom", get(|| async { panic!("a bug") as String }));
    let server = start(router, LIMITS).await;
    let mut client = Client::connect(&server).await;
    let answer = client.get("/boom").await;
    assert!(answer.starts_with("http/1.1 500") && answer.contains(r#""code":"internal_error""#), "{answer}");
    assert!(client.get("/ok").await.ends_with("fine"));
}

/// A route that tells when it was entered and answers when it is let go.
fn held() -> (Router, Arc<Notify>, Arc<Notify>) {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (entered, release) = (entered.clone(), release.clone());
        move || async move {
            entered.notify_one();
            release.notified().await;
            "done"
        }
    };
    (ok().route("/held", get(handler)), entered, release)
}

#[tokio::test]
async fn a_shutdown_finishes_requests_in_flight_and_nothing_else() {
    let (router, entered, release) = held();
    let server = start(router, LIMITS).await;
    let (mut idle, mut fresh) = (Client::connect(&server).await, Client::connect(&server).await);
    assert!(idle.get("/ok").await.ends_with("fine"));
    let mut busy = Client::connect(&server).await;
    busy.send("GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    soon(entered.notified()).await;
    server.shutdown.cancel();
    assert_eq!(idle.closed().await, b"");
    assert_eq!(fresh.closed().await, b"");
    assert!(TcpStream::connect(server.address).await.is_err(), "the listener should be closed");
    assert!(!server.served.is_finished());
    release.notify_one();
    let answer = busy.answer().await;
    assert!(answer.ends_with("done") && answer.contains("connection: close"), "{answer}");
    soon(server.served).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let (router, entered, _release) = held();
    let server = start(router, Limits { drain: SHORT, ..LIMITS }).await;
    let mut busy = Client::connect(&server).await;
    busy.send("GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    soon(entered.notified()).await;
    server.shutdown.cancel();
    soon(server.served).await.unwrap();
    assert_eq!(busy.closed().await, b"");
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_a_place() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let handler = move |Path(who): Path<String>| async move {
        log.lock().unwrap().push(who);
        "fine"
    };
    let router = Router::new().route("/as/{who}", get(handler));
    let server = start(router, Limits { max_connections: 1, ..LIMITS }).await;
    let mut first = Client::connect(&server).await;
    first.get("/as/first").await;
    let mut second = Client::connect(&server).await;
    second.send("GET /as/second HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    for _ in 0..20 {
        first.get("/as/first").await;
    }
    assert!(seen.lock().unwrap().iter().all(|who| who == "first"));
    drop(first);
    assert!(second.answer().await.ends_with("fine"));
}

#[tokio::test]
async fn an_address_in_use_is_told_in_plain_words() {
    let server = start(ok(), LIMITS).await;
    let error = Server::bind(server.address).await.unwrap_err().to_string();
    assert!(error.contains(&server.address.to_string()) && error.contains("another program"), "{error}");
}

/// A route for anything, which tells when it was entered and when it was given up.
fn given_up() -> (Router, Arc<Notify>, oneshot::Receiver<()>) {
    let (router, entered, _) = held();
    let (tell, dropped) = oneshot::channel::<()>();
    let tell = Arc::new(Mutex::new(Some(tell)));
    let handler = {
        let entered = entered.clone();
        move |_body: bytes::Bytes| {
            let held = tell.lock().unwrap().take();
            async move {
                entered.notify_one();
                std::future::pending::<()>().await;
                drop(held);
            }
        }
    };
    (router.fallback(handler), entered, dropped)
}

#[tokio::test]
async fn a_caller_that_hangs_up_while_it_is_answered_is_noticed() {
    type HangUp = fn(TcpStream);
    let ways: [(&str, HangUp); 2] = [
        ("it closes", drop),
        ("it resets", |caller| {
            let _ = caller.set_zero_linger();
        }),
    ];
    for request in [
        "GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /wait HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody",
    ] {
        for (way, hang_up) in ways {
            let (router, entered, dropped) = given_up();
            let server = start(router, LIMITS).await;
            let mut caller = Client::connect(&server).await;
            caller.send(request).await;
            soon(entered.notified()).await;
            hang_up(caller.0);
            assert!(soon(dropped).await.is_err(), "{way}: its handler should be dropped");
        }
    }
}

#[tokio::test]
async fn what_comes_while_a_request_is_answered_is_the_next_request() {
    let (router, entered, release) = held();
    let server = start(router, LIMITS).await;
    let mut caller = Client::connect(&server).await;
    caller.send("GET /held HTTP/1.1\r\nHost: localhost\r\n\r\nGET /ok HTT").await;
    soon(entered.notified()).await;
    caller.send("P/1.1\r\nHost: localhost\r\n\r\n").await;
    release.notify_one();
    assert!(caller.answer().await.ends_with("done"));
    assert!(caller.answer().await.ends_with("fine"));
}
