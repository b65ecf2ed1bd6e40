//! Waiting for the bot's answer over plain HTTP: who gets which answer, and what waits for whom.

use futures_util::future::join_all;
use reqwest::Method;
use rtm_bridge::sandbox::{Fault, FaultKind, Push, ReceivedFrame, SocketEnd};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};

use crate::support::{ALICE, BOB, World, add_user, answer, eventually, sent_texts, within};

/// Longer than any test waits: a caller that waits so long waits until something else ends it.
const LONG: &str = "timeout=120s";

type Answer = (u16, Value);

impl World {
    fn ask(&self, query: &str, text: &str) -> reqwest::RequestBuilder {
        let path = format!("/v1/users/{ALICE}/messages?wait=reply&{query}");
        self.request(Method::POST, &path).json(&json!({ "text": text }))
    }

    /// A caller that waits on its own.
    fn asking(&self, query: &str, text: &str) -> JoinHandle<Answer> {
        tokio::spawn(answer(self.ask(query, text)))
    }

    /// Waits until the platform has this text, and gives its clientMessageId.
    async fn sent_and_acked(&self, text: &str) -> u64 {
        let what = format!("{text} at the platform");
        let frame = eventually(&what, || async {
            let frames = self.control().messages(ALICE);
            frames.iter().map(ReceivedFrame::json).find(|frame| frame["message"]["body"] == text)
        });
        let id = frame.await["id"].as_u64().unwrap();
        assert_eq!(self.final_status(ALICE, id).await["status"], "acked");
        id
    }

    async fn send_and_await_ack(&self, text: &str) {
        let id = self.send(ALICE, text).await;
        assert_eq!(self.final_status(ALICE, id).await["status"], "acked");
    }

    /// Waits until so many messages of alice's are queued.
    async fn until_queued(&self, count: usize) {
        self.until_user(ALICE, &format!("{count} messages in the queue"), |user| user["queued"] == count)
            .await;
    }
}

/// The texts of the frames that an answer holds.
fn replies(answer: &Answer) -> Vec<&str> {
    assert_eq!(answer.0, 200, "{}", answer.1);
    let replies = answer.1["replies"].as_array().unwrap();
    replies.iter().map(|reply| reply["message"][0]["cInfo"]["body"].as_str().unwrap()).collect()
}

// ---- Turns.

#[tokio::test]
async fn callers_at_the_same_time_get_each_their_own_answer() {
    let world = World::start().await;
    let texts: Vec<_> = (0..20).map(|n| format!("slow {}", 10 + n)).collect();
    let plain: Vec<_> = (0..5).map(|n| format!("plain {n}")).collect();
    let asked = join_all(texts.iter().map(|text| answer(world.ask("", text))));
    let sent = join_all(plain.iter().map(|text| world.send(ALICE, text)));
    let (answers, ids) = within("all answers", async { tokio::join!(asked, sent) }).await;
    for (text, answer) in texts.iter().zip(&answers) {
        assert_eq!(replies(answer), [format!("echo: {text}")]);
    }
    for id in ids {
        assert_eq!(world.final_status(ALICE, id).await["status"], "acked");
    }
}

#[tokio::test]
async fn one_users_turn_is_no_others() {
    let world = World::start_silent(|config| add_user(config, BOB)).await;
    let waiting = world.asking(LONG, "first");
    world.sent_and_acked("first").await;
    let id = world.send(BOB, "Hi").await;
    assert_eq!(world.final_status(BOB, id).await["status"], "acked");
    world.control().push(ALICE, Push::text("at last"));
    assert_eq!(replies(&within("the answer", waiting).await.unwrap()), ["at last"]);
}

#[tokio::test]
async fn later_messages_wait_until_what_is_collected_is_complete() {
    let world = World::start_silent(|_| {}).await;
    let waiting = world.asking(&format!("{LONG}&collect=1500ms"), "first");
    world.sent_and_acked("first").await;
    let later = world.send(ALICE, "second").await;
    world.control().push(ALICE, Push::text("one"));
    world.control().push(ALICE, Push::text("two"));
    let answer = within("the answer", waiting).await.unwrap();
    assert_eq!(replies(&answer), ["one", "two"]);
    let second = world.final_status(ALICE, later).await;
    let time = |of: &Value, what: &str| of[what].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let between = time(&second, "sentAt").duration_since(time(&answer.1, "ackedAt"));
    assert!(between.as_millis() >= 1400, "{between:?} after the ack");
}

#[tokio::test]
async fn a_caller_that_hangs_up_holds_nobody_up() {
    let world = World::start_silent(|_| {}).await;
    let waiting = world.asking(LONG, "first");
    world.sent_and_acked("first").await;
    let later = world.send(ALICE, "second").await;
    let also_waiting = world.asking(LONG, "third");
    world.until_queued(2).await;
    assert_eq!(sent_texts(&world.control(), ALICE), ["first"]);
    waiting.abort();
    assert_eq!(world.final_status(ALICE, later).await["status"], "acked");
    world.sent_and_acked("third").await;
    world.control().push(ALICE, Push::text("at last"));
    assert_eq!(replies(&within("the answer", also_waiting).await.unwrap()), ["at last"]);
}

#[tokio::test]
async fn a_caller_that_hangs_up_while_its_message_waits_is_forgotten() {
    let world = World::start_silent(|_| {}).await;
    let first = world.asking(LONG, "first");
    world.sent_and_acked("first").await;
    let second = world.asking(LONG, "second");
    world.until_queued(1).await;
    let third = world.send(ALICE, "third").await;
    second.abort();
    first.abort();
    assert_eq!(world.final_status(ALICE, third).await["status"], "acked");
    assert_eq!(sent_texts(&world.control(), ALICE), ["first", "second", "third"]);
}

#[tokio::test]
async fn a_bot_that_never_answers_costs_each_caller_its_own_time_only() {
    let world = World::start_silent(|_| {}).await;
    let (first, second, third) = (
        world.asking("timeout=500ms", "first"),
        world.asking("timeout=500ms", "second"),
        world.asking("timeout=500ms", "third"),
    );
    for waiting in [first, second, third] {
        let (status, problem) = within("the answer", waiting).await.unwrap();
        assert_eq!((status, &problem["code"]), (504, &json!("wait_timeout")), "{problem}");
    }
    // All of them go on.
    for text in ["first", "second", "third"] {
        world.sent_and_acked(text).await;
    }
}

#[tokio::test]
async fn a_bad_end_answers_at_once_and_lets_the_next_go() {
    let world = World::start_silent(|_| {}).await;
    world.cut_off().await;
    let first = world.asking(LONG, "first");
    world.until_queued(1).await;
    let second = world.send(ALICE, "second").await;
    // Both: a connection that is asked for anew right after it came back makes the first go out again.
    world.control().inject(Fault::always(FaultKind::NegativeAck));
    world.bring_back().await;
    let (status, body) = within("the answer", first).await.unwrap();
    assert_eq!((status, &body["status"], &body["replies"]), (200, &json!("rejected"), &json!([])), "{body}");
    assert_eq!(world.final_status(ALICE, second).await["status"], "rejected");
}

#[tokio::test]
async fn during_an_agent_session_nobody_waits_for_owed_answers() {
    let world = World::start().await;
    let (status, _) = within("the agent", answer(world.ask(LONG, "agent"))).await;
    assert_eq!(status, 200);
    world.until_user(ALICE, "the agent session", |user| user["agentSession"] == true).await;
    let answers = join_all(["one", "two", "three"].map(|text| answer(world.ask(LONG, text)))).await;
    let answers: Vec<_> = answers.iter().map(|answer| replies(answer)).collect();
    assert_eq!(answers, [["Ann says: one"], ["Ann says: two"], ["Ann says: three"]]);
}

// ---- Over reconnects and restarts.

#[tokio::test]
async fn an_answer_that_came_while_the_connection_was_away_still_answers() {
    let world = World::start_silent(|_| {}).await;
    let waiting = world.asking(LONG, "first");
    world.sent_and_acked("first").await;
    let later = world.send(ALICE, "second").await;
    world.cut_off().await;
    world.control().push(ALICE, Push::text("at last").history_only());
    world.bring_back().await;
    assert_eq!(replies(&within("the answer", waiting).await.unwrap()), ["at last"]);
    assert_eq!(world.final_status(ALICE, later).await["status"], "acked");
}

#[tokio::test]
async fn a_message_accepted_while_disconnected_is_answered_after_the_reconnect() {
    let world = World::start().await;
    world.cut_off().await;
    let waiting = world.asking(LONG, "Hi");
    world.until_queued(1).await;
    world.bring_back().await;
    assert_eq!(replies(&within("the answer", waiting).await.unwrap()), ["echo: Hi"]);
}

#[tokio::test]
async fn a_restart_is_503_to_all_who_wait_and_their_messages_go_on() {
    let mut world = World::start_silent(|_| {}).await;
    let first = world.asking(LONG, "first");
    world.sent_and_acked("first").await;
    let second = world.asking(LONG, "second");
    world.until_queued(1).await;
    world.stop_daemon().await;
    for waiting in [first, second] {
        let (status, problem) = within("the answer", waiting).await.unwrap();
        assert_eq!((status, &problem["code"]), (503, &json!("shutting_down")), "{problem}");
        assert!(problem["message"]["clientMessageId"].is_u64(), "{problem}");
    }
    world.start_daemon().await;
    let second = world.sent_and_acked("second").await;
    world.control().push(ALICE, Push::text("at last"));
    let path = format!("/v1/users/{ALICE}/messages/{second}?wait=reply&{LONG}");
    assert_eq!(replies(&within("the answer", world.get(&path)).await), ["at last"]);
}

// ---- Repeats.

#[tokio::test]
async fn repeats_get_the_same_answer_and_cost_the_bot_nothing() {
    let world = World::start_silent(|_| {}).await;
    let keyed = |text: &str| answer(world.ask(LONG, text).header("idempotency-key", "key-1"));
    let cut_off = tokio::spawn(keyed("first"));
    world.sent_and_acked("first").await;
    cut_off.abort();
    let (again, third) = (tokio::spawn(keyed("first")), tokio::spawn(keyed("first")));
    world.control().push(ALICE, Push::text("at last"));
    for waiting in [again, third] {
        assert_eq!(replies(&within("the answer", waiting).await.unwrap()), ["at last"]);
    }
    assert_eq!(replies(&within("the answer", keyed("first")).await), ["at last"]);
    let (status, problem) = keyed("other").await;
    assert_eq!((status, &problem["code"]), (422, &json!("idempotency_key_reused")));
    world.send_and_await_ack("second").await;
    assert_eq!(sent_texts(&world.control(), ALICE), ["first", "second"]);
}

#[tokio::test]
async fn whoever_asks_later_gets_the_frames_too() {
    let world = World::start().await;
    let (_, body) = answer(world.ask("", "twice")).await;
    let id = body["clientMessageId"].as_u64().unwrap();
    let path = format!("/v1/users/{ALICE}/messages/{id}");
    let both = world.get(&format!("{path}?wait=reply&collect=1s")).await;
    assert_eq!(replies(&both), ["echo: twice (1)", "echo: twice (2)"]);
    let (_, plain) = world.get(&path).await;
    assert!(plain["replies"].as_array().unwrap().iter().all(|id| id.as_str().unwrap().starts_with("evt_")));
}

#[tokio::test]
async fn asking_for_the_answer_of_an_old_message_holds_nobody_up() {
    let world = World::start_silent(|_| {}).await;
    let body = json!({"text": "first", "clientMessageId": 7});
    world.post(ALICE, body.clone()).await;
    world.sent_and_acked("first").await;
    world.send_and_await_ack("second").await;
    let path = format!("/v1/users/{ALICE}/messages?wait=reply&{LONG}");
    let repeat = tokio::spawn(answer(world.request(Method::POST, &path).json(&body)));
    let get = tokio::spawn(answer(
        world.request(Method::GET, &format!("/v1/users/{ALICE}/messages/7?wait=reply&{LONG}")),
    ));
    world.send_and_await_ack("third").await;
    repeat.abort();
    get.abort();
}

// ---- Many.

/// So many callers at once.
const MANY: usize = 2_000;

#[tokio::test]
async fn thousands_wait_without_a_thread_each_and_one_answer_answers_them_all() {
    let world = World::start_silent(|config| add_user(config, BOB)).await;
    let id = world.send(ALICE, "first").await;
    world.final_status(ALICE, id).await;
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    let request = format!(
        "GET /v1/users/{ALICE}/messages/{id}?wait=reply&{LONG} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    let mut callers = Vec::new();
    for _ in 0..MANY {
        let mut caller = TcpStream::connect(world.daemon().api_address()).await.unwrap();
        caller.write_all(request.as_bytes()).await.unwrap();
        callers.push(caller);
    }
    // Some hang up, and others are served meanwhile.
    callers.truncate(MANY - 100);
    let other = world.send(BOB, "meanwhile").await;
    assert_eq!(world.final_status(BOB, other).await["status"], "acked");
    assert!(threads() <= before + 8, "{} threads, {before} before", threads());
    world.control().push(ALICE, Push::text("at last"));
    for mut caller in callers {
        let mut answer = String::new();
        within("an answer", caller.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("at last"), "{answer}");
    }
}

#[tokio::test]
async fn a_connection_that_drops_while_many_wait_loses_nobodys_turn() {
    let world = World::start().await;
    let texts: Vec<_> = (0..12).map(|n| format!("slow {}", 30 + n)).collect();
    let asked = join_all(texts.iter().map(|text| answer(world.ask(LONG, text))));
    let dropping = async {
        for count in [2, 5] {
            within("some messages", world.control().wait_messages(ALICE, count)).await;
            world.control().end_sockets(ALICE, &SocketEnd::Reset);
        }
    };
    let (answers, ()) = within("all answers", async { tokio::join!(asked, dropping) }).await;
    for (text, answer) in texts.iter().zip(&answers) {
        assert!(replies(answer).contains(&format!("echo: {text}").as_str()), "{text}: {}", answer.1);
    }
}
