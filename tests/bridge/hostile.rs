//! Callers that mean no good, or are broken: they cost themselves, and nobody else.

use std::time::{Duration, Instant};

use reqwest::Method;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{ALICE, World, answer, sent_texts, within};

/// So many connections at once.
const MANY: usize = 5_000;
/// How soon others are answered among them.
const SOON: Duration = Duration::from_millis(100);
/// So often that is looked at anew: tests share their machine.
const ROUNDS: usize = 20;

impl World {
    async fn caller(&self, bytes: &[u8]) -> TcpStream {
        let mut caller = TcpStream::connect(self.daemon().api_address()).await.unwrap();
        caller.write_all(bytes).await.unwrap();
        caller
    }

    /// Asks again and again, until half of the answers come soon, as they do unless it is the API that is slow.
    async fn answers_soon(&self, among: &str) {
        let mut medians = Vec::new();
        for _ in 0..ROUNDS {
            let mut took = Vec::new();
            for _ in 0..20 {
                let began = Instant::now();
                assert_eq!(answer(self.request(Method::GET, "/v1/users")).await.0, 200);
                took.push(began.elapsed());
            }
            took.sort_unstable();
            let median = took[took.len() / 2];
            if median <= SOON {
                return;
            }
            medians.push(median);
        }
        panic!("with {MANY} connections {among}, half of the answers took longer than {medians:?}");
    }
}

/// What a caller gets until its connection ends.
async fn until_the_end(mut caller: TcpStream) -> String {
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = within("the connection's end", caller.read_to_end(&mut rest)).await;
    String::from_utf8_lossy(&rest).into_owned()
}

/// Raises the limit of open files: both ends are this process's.
fn allow_many_sockets() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    assert!(allowed > 2 * MANY as u64 + 1_000, "this test needs more than {allowed} open files");
}

#[tokio::test]
async fn thousands_of_idle_and_slow_connections_leave_the_api_answering() {
    allow_many_sockets();
    // They must outlast the test, however slow the machine is.
    let world = World::start_with(|config| config.http.header_timeout = Duration::from_secs(600)).await;
    world.all_connected().await;
    let body = format!(
        "POST /v1/users/{ALICE}/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 50\r\n\r\nhalf"
    );
    let beginnings: [&[u8]; 4] =
        [b"", b"GET /v1/us", b"GET /v1/users HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", body.as_bytes()];
    let mut callers = Vec::new();
    for n in 0..MANY {
        callers.push(world.caller(beginnings[n % beginnings.len()]).await);
    }
    world.answers_soon("open").await;
    let id = world.send(ALICE, "Hi").await;
    assert_eq!(world.final_status(ALICE, id).await["status"], "acked");
    // One more byte of each, all at once.
    for caller in &mut callers {
        caller.write_all(b"x").await.unwrap();
    }
    world.answers_soon("that trickle").await;
    assert_eq!(sent_texts(&world.control(), ALICE), ["Hi"]);
}

#[tokio::test]
async fn slow_heads_are_cut_off_together_and_others_served_meanwhile() {
    let world = World::start_with(|config| config.http.header_timeout = Duration::from_millis(300)).await;
    let mut callers = Vec::new();
    for _ in 0..300 {
        callers.push(world.caller(b"POST /v1/users/alice/messages HTTP/1.1\r\nHost: localhost\r\n").await);
    }
    assert_eq!(answer(world.request(Method::GET, "/v1/users")).await.0, 200);
    for caller in callers {
        assert_eq!(until_the_end(caller).await, "");
    }
}

#[tokio::test]
async fn garbage_behind_a_request_costs_its_connection_only() {
    let world = World::start().await;
    let good = "GET /v1/users HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let garbage: [&[u8]; 8] = [
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GARBAGE\r\n\r\n",
        b"GET /v1/users HTTP/9.9\r\n\r\n",
        b"GET /v1/users HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /v1/users HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET /v1/users HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    for noise in garbage {
        let caller = world.caller(&[good.as_bytes(), good.as_bytes(), noise].concat()).await;
        let answers = until_the_end(caller).await;
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{noise:?}: {answers}");
        let others = answers.split("HTTP/1.1 ").skip(1).filter(|answer| !answer.starts_with("200"));
        assert!(others.into_iter().all(|answer| answer.starts_with('4')), "{noise:?}: {answers}");
    }
    assert_eq!(answer(world.request(Method::GET, "/v1/users")).await.0, 200);
}

#[tokio::test]
async fn a_request_smuggled_by_two_lengths_is_refused_whole() {
    let world = World::start().await;
    let inner = "POST /v1/users/alice/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\ninner";
    let outer = format!(
        "POST /v1/users/alice/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}",
        inner.len()
    );
    let answers = until_the_end(world.caller(outer.as_bytes()).await).await;
    assert!(!answers.contains("HTTP/1.1 202"), "{answers}");
    let last = world.send(ALICE, "last").await;
    world.final_status(ALICE, last).await;
    assert_eq!(sent_texts(&world.control(), ALICE), ["last"]);
}

#[tokio::test]
async fn a_caller_that_hangs_up_in_the_middle_leaves_no_trace() {
    let world = World::start().await;
    let head = "POST /v1/users/alice/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n";
    for rest in ["Content-Length: 5\r\n\r\nhal", "Transfer-Encoding: chunked\r\n\r\n3\r\nhal\r\n"] {
        let mut caller = world.caller(format!("{head}{rest}").as_bytes()).await;
        caller.shutdown().await.unwrap();
        let answers = until_the_end(caller).await;
        assert!(!answers.contains("HTTP/1.1 2"), "{answers}");
    }
    let last = world.send(ALICE, "last").await;
    world.final_status(ALICE, last).await;
    assert_eq!(sent_texts(&world.control(), ALICE), ["last"]);
}
