//! The live tail: server-sent events.

use std::time::Duration;

use reqwest::{Method, Response};
use rtm_bridge::sandbox::Push;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
};

use crate::{
    inbox::clients,
    support::{ALICE, BOB, World, add_user, answer, delivered, described, envelope, eventually, within},
};

/// A stream's reader, as a browser's `EventSource` reads it.
struct Stream {
    response: Response,
    read: String,
    /// The id from which to go on.
    last_id: Option<String>,
}

/// An event of a stream.
#[derive(Debug)]
struct Told {
    id: String,
    kind: String,
    data: Value,
}

impl Stream {
    /// The next event; none at the stream's end. Blocks without data are no events.
    async fn next(&mut self) -> Option<Told> {
        loop {
            let block = self.block().await?;
            let field = |name: &str| {
                let lines = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                let values: Vec<_> = lines.collect();
                assert!(values.len() <= 1, "{name} twice: {block}");
                values.first().map(|value| (*value).to_owned())
            };
            let id = field("id");
            self.last_id = id.clone().or(self.last_id.take());
            if let Some(data) = field("data") {
                let data = serde_json::from_str(&data).unwrap();
                described::check_envelope(&data);
                return Some(Told { id: id.unwrap(), kind: field("event").unwrap(), data });
            }
        }
    }

    /// The text of the next event that has one.
    async fn text(&mut self) -> String {
        loop {
            let told = within("an event", self.next()).await.expect("the stream goes on");
            if let Some(text) = told.data["text"].as_str() {
                return text.to_owned();
            }
        }
    }

    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.read.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.read = rest;
                return Some(block);
            }
            let chunk = within("a part of the stream", self.response.chunk()).await.ok()??;
            self.read.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

impl World {
    /// A tail; events from now on are on it.
    async fn tail(&self, query: &str, last_id: Option<&str>) -> Stream {
        let mut request = self.request(Method::GET, &format!("/v1/events{query}"));
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        stream(request).await
    }
}

async fn stream(request: reqwest::RequestBuilder) -> Stream {
    let response = within("the tail's head", request.send()).await.unwrap();
    described::check("GET", "/v1/events", response.status().as_u16(), response.headers(), b"");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-cache");
    Stream { response, read: String::new(), last_id: None }
}

#[tokio::test]
async fn events_come_as_they_happen_with_id_type_and_envelope() {
    let world = World::start_silent(|_| {}).await;
    world.push_text(ALICE, "before");
    delivered(&world, 1).await;
    let mut tail = world.tail("", None).await;
    world.control().push(ALICE, Push::frame("{\n\"type\":\"so odd\",\r\n\"n\":1.50}"));
    let odd = within("an event", tail.next()).await.unwrap();
    assert_eq!((odd.kind.as_str(), &odd.data["type"]), ("unknown", &json!("so odd")), "nothing of before");
    assert_eq!(odd.data["data"].to_string(), r#"{"n":1.5,"type":"so odd"}"#);
    world.push_text(ALICE, "Hi");
    let told = within("an event", tail.next()).await.unwrap();
    let request = delivered(&world, 2).await.pop().unwrap();
    assert_eq!((&told.id, told.kind.as_str()), (&request.id, "bot_response"));
    let mut body = envelope(&request);
    body["sequence"] = Value::Null;
    assert_eq!(told.data, body);
}

#[tokio::test]
async fn a_reader_goes_on_where_it_was_cut_off_also_over_a_restart_and_before_its_first_event() {
    let mut world = World::start_silent(|config| add_user(config, BOB)).await;
    world.push_text(ALICE, "before");
    delivered(&world, 1).await;
    for (query, heard) in [("", vec!["1", "his", "2"]), ("?user=alice", vec!["1", "2"])] {
        let mut tail = world.tail(query, None).await;
        let mut opening = within("the opening", tail.block()).await.unwrap();
        opening = opening.strip_prefix("id: ").expect(&opening).to_owned();
        // Cut off before anything came.
        drop(tail);
        // Each on a connection of its own: one after the other.
        for (user, text) in [(ALICE, "1"), (BOB, "his"), (ALICE, "2")] {
            world.push_text(user, text);
            world.inbox_until(user, text).await;
        }
        let mut tail = world.tail(query, Some(&opening)).await;
        assert_eq!(tail.text().await, heard[0]);
        let last_id = tail.last_id.clone().unwrap();
        world.restart().await;
        let mut tail = world.tail(query, Some(&last_id)).await;
        for text in &heard[1..] {
            assert_eq!(tail.text().await, *text, "{query}");
        }
        world.all_connected().await;
    }
}

#[tokio::test]
async fn a_shutdown_ends_the_stream_and_what_came_until_then_was_told() {
    let mut world = World::start_silent(|_| {}).await;
    let mut tail = world.tail("?user=alice", None).await;
    world.push_text(ALICE, "last words");
    assert_eq!(tail.text().await, "last words");
    world.stop_daemon().await;
    while let Some(told) = within("the end", tail.next()).await {
        assert!(told.kind.starts_with("bridge."), "{told:?}");
    }
}

#[tokio::test]
async fn a_crowd_of_readers_sees_the_same() {
    let world = World::start_silent(|config| add_user(config, BOB)).await;
    let mut tails = Vec::new();
    for reader in 0..60 {
        tails.push(world.tail(if reader % 2 == 0 { "" } else { "?user=alice" }, None).await);
    }
    for n in 0..50 {
        world.push_text(BOB, &format!("bob {n}"));
        world.push_text(ALICE, &format!("alice {n}"));
    }
    for (reader, tail) in tails.iter_mut().enumerate() {
        let (mut alice, mut bob) = (Vec::new(), Vec::new());
        while alice.len() < 50 {
            let text = tail.text().await;
            if text.starts_with("bob") { bob.push(text) } else { alice.push(text) }
        }
        assert_eq!(alice, (0..50).map(|n| format!("alice {n}")).collect::<Vec<_>>());
        assert!(if reader % 2 == 0 { bob.len() >= 40 } else { bob.is_empty() }, "{}", bob.len());
    }
}

#[tokio::test]
async fn clients_see_their_users_only() {
    let world = World::start_silent(|config| {
        add_user(config, BOB);
    })
    .await;
    drop(world);
    let world = World::start_with(|config| {
        add_user(config, BOB);
        config.clients = clients();
    })
    .await;
    let as_client = |path: &str, token: &str| world.request(Method::GET, path).bearer_auth(token);
    let mut all = stream(as_client("/v1/events", "admin-token")).await;
    let mut hers = stream(as_client("/v1/events", "crm-token")).await;
    for user in [ALICE, BOB] {
        within("a connection", world.control().wait_connected(user, 1)).await;
    }
    world.push_text(BOB, "his");
    assert_eq!(all.text().await, "his");
    world.push_text(ALICE, "hers");
    assert_eq!((all.text().await, hers.text().await), ("hers".to_owned(), "hers".to_owned()));
    for (path, token, status) in [
        ("/v1/events?user=bob", "crm-token", 403),
        ("/v1/events?user=nobody", "crm-token", 403),
        ("/v1/events?user=nobody", "admin-token", 404),
        ("/v1/events", "sender-token", 403),
        ("/v1/events", "wrong", 401),
        ("/v1/events?after=x", "admin-token", 400),
    ] {
        assert_eq!(answer(as_client(path, token)).await.0, status, "{path} {token}");
    }
}

#[tokio::test]
async fn an_id_that_is_not_kept_is_gone_and_what_is_none_is_malformed() {
    let world = World::start_silent(|config| add_user(config, BOB)).await;
    world.push_text(BOB, "his");
    let his = world.inbox_until(BOB, "his").await.pop().unwrap();
    let his = his["id"].as_str().unwrap();
    let future = format!("{}{:016x}", &his[..12], 1_000_000);
    for (query, id, status, code) in [
        ("", &*future, 410, "event_gone"),
        ("", "evt_00000001000000000000002a", 410, "event_gone"),
        ("?user=alice", his, 410, "event_gone"),
        ("", "42", 400, "bad_last_event_id"),
    ] {
        let request = world.request(Method::GET, &format!("/v1/events{query}")).header("last-event-id", id);
        let (got, problem) = answer(request).await;
        assert_eq!((got, problem["code"].as_str()), (status, Some(code)), "{query} {id}: {problem}");
    }
}

/// A tail's connection whose reader takes nothing, with a small window.
async fn slow_reader(world: &World) -> tokio::net::TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(world.daemon().api_address()).await.unwrap();
    stream
        .write_all(b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut head = [0; 17];
    within("the tail's head", stream.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK\r\n");
    stream
}

#[tokio::test]
async fn a_reader_that_takes_nothing_loses_its_connection_and_nobody_else_anything() {
    let world = World::start_silent(|config| config.http.idle_timeout = Duration::from_millis(300)).await;
    let mut slow = slow_reader(&world).await;
    let large = "x".repeat(100_000);
    for n in 0..100 {
        world.push_text(ALICE, &format!("{n} {large}"));
    }
    world.push_text(ALICE, "end");
    let events = delivered(&world, 101).await;
    assert_eq!(events.last().unwrap().text.as_deref(), Some("end"));
    // What it says is answered with a reset once it was cut off.
    eventually("the cut", async || slow.try_write(b"x").is_err().then_some(())).await;
    let mut rest = Vec::new();
    // A reset or an end: either way it is over, and not all of it came.
    let _ = within("the end of the slow connection", slow.read_to_end(&mut rest)).await;
    assert!(rest.len() < 10_000_000, "{}", rest.len());
    assert!(!String::from_utf8_lossy(&rest).contains("\"text\":\"end\""));
}

#[tokio::test]
async fn a_reader_that_falls_behind_what_is_kept_loses_its_connection() {
    let world = World::start_silent(|config| config.store.recent = 256 << 10).await;
    let mut slow = slow_reader(&world).await;
    let large = "x".repeat(100_000);
    for n in 0..200 {
        world.push_text(ALICE, &format!("{n} {large}"));
        delivered(&world, n + 1).await;
    }
    let mut rest = Vec::new();
    let _ = within("the end of the slow connection", slow.read_to_end(&mut rest)).await;
    let rest = String::from_utf8_lossy(&rest).into_owned();
    assert!(rest.contains("\"text\":\"0 xx") && !rest.contains("\"text\":\"199 xx"), "{}", rest.len());
}
