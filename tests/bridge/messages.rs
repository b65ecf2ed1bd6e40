//! Messages: what reaches the platform, in which order, how often, and how each one ends.

use std::{path::Path, time::Duration};

use futures_util::future::join_all;
use reqwest::Method;
use rtm_bridge::{
    clock::Timestamp,
    config,
    names::UserName,
    sandbox::{Fault, FaultKind, SocketEnd, Taken},
    store::Store,
};
use serde_json::{Value, json};

use crate::support::{ALICE, BOB, World, add_user, answer, eventually, sent_texts, within};

const BOT_NAME: &str = "Sandbox Bot";
const BOT_ID: &str = "st-00000000-0000-4000-8000-000000000001";
/// So short that a test can wait for it, so long that an ack comes before.
const ACK_TIMEOUT: Duration = Duration::from_millis(500);

/// The same for a message's time to live.
const TTL: Duration = Duration::from_millis(800);

/// How a message ended: status, reason, delivery, attempts.
fn end(status: &Value) -> Value {
    json!([status["status"], status["reason"], status["delivery"], status["attempts"]])
}

/// A fault of the connection that each message meets before its ack, so many times.
fn cut_before_ack(taken: Taken, end: SocketEnd, times: u32) -> Fault {
    Fault::times(FaultKind::EndBeforeAck { taken, end }, times)
}

async fn impatient() -> World {
    let world = World::start_with(|config| config.messages.ack_timeout = ACK_TIMEOUT).await;
    world.all_connected().await;
    world
}

// ---- What reaches the platform.

/// A message's frame, given what the caller says.
fn frame(said: &Value, id: u64) -> Value {
    let mut frame = json!({
        "clientMessageId": id, "id": id, "client": "sdk",
        "botInfo": {"chatBot": BOT_NAME, "taskBotId": BOT_ID},
        "meta": {"timezone": "UTC", "locale": "en-US"},
    });
    frame.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
    frame
}

#[tokio::test]
async fn every_content_type_becomes_the_documented_frame() {
    let world = World::start().await;
    let simple = json!({
        "text": "Hi \"there\" 👋", "attachments": [{"fileId": "f-1"}], "customData": {"tier": "gold"},
        "metaTags": {"messageTags": [{"name": "a", "value": "b"}]}, "renderMsg": "Hi",
    });
    let said = json!({"resourceid": "/bot.message", "message": {
        "body": "Hi \"there\" 👋", "attachments": [{"fileId": "f-1"}], "customData": {"tier": "gold"},
        "metaTags": {"messageTags": [{"name": "a", "value": "b"}]}, "renderMsg": "Hi",
    }});
    let fields = [
        ("text", "Hi \"there\" 👋"),
        ("attachments", r#"[{"fileId": "f-1"}]"#),
        ("customData", r#"{"tier": "gold"}"#),
        ("metaTags", r#"{"messageTags": [{"name": "a", "value": "b"}]}"#),
        ("renderMsg", "Hi"),
    ];
    let plain = json!({"resourceid": "/bot.message", "message": {"body": "just text"}});
    let requests = [
        (world.message(ALICE).json(&simple), &said),
        (world.message(ALICE).form(&fields), &said),
        (world.message(ALICE).header("content-type", "text/plain; charset=utf-8").body("just text"), &plain),
    ];
    for (index, (request, said)) in requests.into_iter().enumerate() {
        let (status, body) = answer(request).await;
        assert_eq!(status, 202, "{body}");
        let id = body["clientMessageId"].as_u64().unwrap();
        let frames = within("the frame", world.control().wait_messages(ALICE, index as u64 + 1)).await;
        assert_eq!(frames[index].json(), frame(said, id));
    }
}

#[tokio::test]
async fn a_whole_frame_goes_as_it_is_but_for_what_is_the_bridges() {
    let world = World::start().await;
    let given = r#"{"resourceid": "/bot.message", "message": {"body": "Hi", "nlMeta": {"big": 12345678901234567890.50}},
        "botInfo": {"chatBot": "Other", "taskBotId": "st-other", "customData": {"tier": "gold"}, "x": 1},
        "client": "theirs", "id": "theirs", "meta": {"timezone": "Mars"}, "extra": [1, 2]}"#;
    let request = world.message(ALICE).header("content-type", "application/json").body(given);
    let (status, body) = answer(request).await;
    assert_eq!(status, 202, "{body}");
    let id = body["clientMessageId"].as_u64().unwrap();
    let frames = within("the frame", world.control().wait_messages(ALICE, 1)).await;
    let bytes = String::from_utf8(frames[0].bytes.to_vec()).unwrap();
    assert!(bytes.contains("12345678901234567890.50"), "numbers go as they are: {bytes}");
    let mut sent = frames[0].json();
    sent["message"]["nlMeta"] = json!("checked above");
    let mut expected = frame(
        &json!({"resourceid": "/bot.message", "message": {"body": "Hi", "nlMeta": "checked above"}, "extra": [1, 2]}),
        id,
    );
    expected["botInfo"]["customData"] = json!({"tier": "gold"});
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn frames_that_await_no_ack_are_final_once_sent() {
    let world = World::start().await;
    let typing = json!({"resourceid": "/bot.message", "event": "typing", "message": {"body": ""}});
    let (status, body) = world.post(ALICE, typing.clone()).await;
    assert_eq!(status, 202, "{body}");
    let id = body["clientMessageId"].as_u64().unwrap();
    let ended = world.final_status(ALICE, id).await;
    assert_eq!((&ended["status"], &ended["reason"]), (&json!("sent"), &json!(null)), "{ended}");
    let frames = within("the frame", world.control().wait_frames(ALICE, 1)).await;
    assert_eq!((&frames[0].json()["event"], &frames[0].json()["id"]), (&json!("typing"), &json!(id)));

    world.cut_off().await;
    for resource in ["/bot.clientEvent", "/bot.closeConversationSession"] {
        let (status, problem) = world.post(ALICE, json!({"resourceid": resource})).await;
        assert_eq!((status, &problem["code"]), (503, &json!("not_connected")), "{problem}");
    }
    let (status, problem) = world.post(ALICE, typing).await;
    assert_eq!((status, &problem["code"]), (503, &json!("not_connected")), "{problem}");
    world.bring_back().await;
    world.final_status(ALICE, world.send(ALICE, "after").await).await;
    assert_eq!(world.control().frames(ALICE).len(), 2, "a refused frame never goes out");
}

// ---- Acceptance.

#[tokio::test]
async fn what_is_accepted_while_disconnected_waits_and_its_location_answers() {
    let world = World::start().await;
    world.cut_off().await;
    let response = world.message(ALICE).json(&json!({"text": "later"})).send().await.unwrap();
    assert_eq!(response.status(), 202);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let body: Value = response.json().await.unwrap();
    assert_eq!((&body["user"], &body["status"]), (&json!("alice"), &json!("queued")));
    assert!(body["createdAt"].is_string(), "{body}");
    assert_eq!(location, format!("/v1/users/alice/messages/{}", body["clientMessageId"]));

    let (status, queued) = world.get(&location).await;
    assert_eq!((status, end(&queued)), (200, json!(["queued", null, "none", 0])));
    assert_eq!(world.user(ALICE).await["queued"], 1);
    world.bring_back().await;
    let id = body["clientMessageId"].as_u64().unwrap();
    assert_eq!(end(&world.final_status(ALICE, id).await), json!(["acked", null, "confirmed", 1]));
    assert_eq!(world.user(ALICE).await["queued"], 0);
}

#[tokio::test]
async fn what_was_answered_is_in_the_store_as_a_crash_at_that_moment_leaves_it() {
    let world = World::start().await;
    world.cut_off().await;
    let mut ids = vec![world.send(ALICE, "small").await];
    // Large enough for a file of its own.
    ids.push(world.send(ALICE, &"large".repeat(10_000)).await);
    let crashed = tempfile::tempdir().unwrap();
    copy_directory(&world.config.store.path, crashed.path());
    let store = config::Store { path: crashed.path().to_owned(), ..world.config.store.clone() };
    let store = Store::open(&store).unwrap();
    let alice = store.user_number(&UserName::new(ALICE).unwrap()).unwrap();
    let queued: Vec<_> = store.queued_messages().map(Result::unwrap).collect();
    assert_eq!(queued.iter().map(|message| message.id.get()).collect::<Vec<_>>(), ids);
    let content = store.message_content(alice, queued[1].number).unwrap();
    assert!(content.fields.windows(25).any(|part| part == "large".repeat(5).as_bytes()));
}

fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test]
async fn chosen_ids_grow_strictly_and_over_restarts_and_given_ids_do_not_move_them() {
    let mut world = World::start().await;
    let far = (1_u64 << 53) - 1;
    let (status, _) = world.post(ALICE, json!({"text": "far", "clientMessageId": far})).await;
    assert_eq!(status, 202);
    let mut ids = Vec::new();
    for round in 0..3 {
        let texts: Vec<_> = (0..5).map(|i| format!("{round}.{i}")).collect();
        let mut together = join_all(texts.iter().map(|text| world.send(ALICE, text))).await;
        together.sort_unstable();
        ids.extend(together);
        world.restart().await;
    }
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    assert!(ids.iter().all(|id| *id < far), "{ids:?}");
}

#[tokio::test]
async fn a_full_queue_is_429_until_there_is_room() {
    let world = World::start_with(|config| config.messages.max_queued = 2).await;
    world.all_connected().await;
    world.cut_off().await;
    let first = world.send(ALICE, "1").await;
    world.send(ALICE, "2").await;
    let response = world.message(ALICE).json(&json!({"text": "3"})).send().await.unwrap();
    assert_eq!(response.status(), 429);
    let retry_after: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(retry_after >= 1);
    assert_eq!(response.json::<Value>().await.unwrap()["code"], "queue_full");
    // What is there already is no new message.
    let (status, _) = world.post(ALICE, json!({"text": "1", "clientMessageId": first})).await;
    assert_eq!(status, 200);
    world.bring_back().await;
    world.final_status(ALICE, first).await;
    let third = world.send(ALICE, "3").await;
    assert_eq!(world.final_status(ALICE, third).await["status"], "acked");
    assert_eq!(sent_texts(&world.control(), ALICE), ["1", "2", "3"]);
}

// ---- The same message twice.

#[tokio::test]
async fn a_client_message_id_names_one_message() {
    let mut world = World::start().await;
    let body = json!({"text": "Hi", "clientMessageId": 42});
    let first = world.post(ALICE, body.clone()).await;
    assert_eq!((first.0, &first.1["clientMessageId"]), (202, &json!(42)));
    world.final_status(ALICE, 42).await;
    // The same content in another form is the same message.
    let form = answer(world.message(ALICE).form(&[("clientMessageId", "42"), ("text", "Hi")])).await;
    assert_eq!((form.0, &form.1["status"]), (200, &json!("acked")), "{}", form.1);
    let (status, problem) = world.post(ALICE, json!({"text": "Hello", "clientMessageId": 42})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("id_taken")), "{problem}");
    world.restart().await;
    assert_eq!(world.post(ALICE, body).await.0, 200);
    assert_eq!(world.post(ALICE, json!({"text": "Hello", "clientMessageId": 42})).await.0, 409);
    for bad in [json!(0), json!(1_u64 << 53), json!(1.5), json!("42")] {
        let (status, problem) = world.post(ALICE, json!({"text": "Hi", "clientMessageId": bad})).await;
        assert_eq!((status, &problem["code"]), (422, &json!("bad_client_message_id")), "{problem}");
    }
    let last = world.send(ALICE, "last").await;
    world.final_status(ALICE, last).await;
    assert_eq!(sent_texts(&world.control(), ALICE), ["Hi", "last"]);
}

#[tokio::test]
async fn an_id_is_each_users_own() {
    let world = World::start_with(|config| add_user(config, BOB)).await;
    world.all_connected().await;
    for (user, text) in [(ALICE, "from alice"), (BOB, "from bob")] {
        assert_eq!(world.post(user, json!({"text": text, "clientMessageId": 7})).await.0, 202);
        assert_eq!(world.final_status(user, 7).await["status"], "acked");
        assert_eq!(sent_texts(&world.control(), user), [text]);
    }
}

#[tokio::test]
async fn concurrent_repeats_of_an_id_are_one_message() {
    let world = World::start().await;
    let posts = (0..8).map(|_| world.post(ALICE, json!({"text": "Hi", "clientMessageId": 42})));
    let mut statuses: Vec<u16> = join_all(posts).await.into_iter().map(|(status, _)| status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 202]);
    let last = world.send(ALICE, "last").await;
    world.final_status(ALICE, last).await;
    assert_eq!(sent_texts(&world.control(), ALICE), ["Hi", "last"]);
}

#[tokio::test]
async fn an_idempotency_key_names_one_message_also_over_a_restart() {
    let mut world = World::start_with(|config| add_user(config, BOB)).await;
    world.all_connected().await;
    let hi = || json!({"text": "Hi"});
    let posts = join_all((0..8).map(|_| world.post_keyed(ALICE, "key-1", hi()))).await;
    let id = posts[0].1["clientMessageId"].as_u64().unwrap();
    assert!(posts.iter().all(|(_, body)| body["clientMessageId"] == id), "{posts:?}");
    assert_eq!(posts.iter().filter(|(status, _)| *status == 202).count(), 1, "{posts:?}");
    assert_eq!(posts.iter().filter(|(status, _)| *status == 200).count(), 7, "{posts:?}");
    world.final_status(ALICE, id).await;
    world.restart().await;
    let (status, body) = world.post_keyed(ALICE, "key-1", hi()).await;
    assert_eq!((status, &body["clientMessageId"], &body["status"]), (200, &json!(id), &json!("acked")));
    let (status, problem) = world.post_keyed(ALICE, "key-1", json!({"text": "Hello"})).await;
    assert_eq!((status, &problem["code"]), (422, &json!("idempotency_key_reused")), "{problem}");
    // Another key, or another user's, is another message.
    let (status, other) = world.post_keyed(ALICE, "key-2", hi()).await;
    assert_eq!(status, 202, "{other}");
    assert_eq!(world.post_keyed(BOB, "key-1", hi()).await.0, 202);
    world.final_status(ALICE, other["clientMessageId"].as_u64().unwrap()).await;
    assert_eq!(sent_texts(&world.control(), ALICE), ["Hi", "Hi"]);
}

#[tokio::test]
async fn an_error_is_not_remembered_under_its_key() {
    let world = World::start().await;
    assert_eq!(world.post_keyed(ALICE, "key-1", json!({"text": ""})).await.0, 422);
    assert_eq!(world.post_keyed(ALICE, "key-1", json!({"text": "Hi"})).await.0, 202);
}

#[tokio::test]
async fn a_repeat_says_where_to_ask_as_the_first_answer_did() {
    let world = World::start().await;
    let place = "/v1/users/alice/messages/7";
    for (query, expected) in [("", 202), ("", 200), ("?wait=ack", 200), ("?wait=reply", 200)] {
        let request = world.request(Method::POST, &format!("/v1/users/{ALICE}/messages{query}"));
        let response = request.json(&json!({"text": "Hi", "clientMessageId": 7})).send().await.unwrap();
        let location = response.headers()["location"].to_str().unwrap();
        assert_eq!((response.status().as_u16(), location), (expected, place), "{query:?}");
    }
    assert_eq!(world.get(place).await.1["status"], "acked");
}

#[tokio::test]
async fn a_key_lives_as_long_as_its_message_where_fewer_are_kept_than_follow() {
    let mut world = World::start_silent(|config| config.store.max_messages = 20).await;
    let hi = || json!({"text": "Hi"});
    let (_, first) = world.post_keyed(ALICE, "first", hi()).await;
    let place = format!("/v1/users/{ALICE}/messages/{}", first["clientMessageId"]);
    // Old ones are looked for at every 256th message, and those that wait are none.
    for _ in 0..2 {
        let ids = join_all((0..260).map(|_| world.send(ALICE, "and on"))).await;
        world.final_status(ALICE, ids.into_iter().max().unwrap()).await;
    }
    eventually("the first to be forgotten", || async { (world.get(&place).await.0 == 404).then_some(()) })
        .await;
    let (status, again) = world.post_keyed(ALICE, "first", json!({"text": "Hello"})).await;
    assert_eq!(status, 202, "the key is free again: {again}");
    world.restart().await;
    let (status, problem) = world.post_keyed(ALICE, "first", hi()).await;
    assert_eq!((status, &problem["code"]), (422, &json!("idempotency_key_reused")), "{problem}");
}

// ---- Order.

#[tokio::test]
async fn order_survives_drops_resends_and_a_restart() {
    let mut world = impatient().await;
    let faults = [
        cut_before_ack(Taken::No, SocketEnd::Reset, 1),
        Fault::once(FaultKind::LostMessage),
        cut_before_ack(Taken::Yes, SocketEnd::Drop, 1),
        Fault::once(FaultKind::LostAck),
        cut_before_ack(Taken::No, SocketEnd::close(1011), 1),
    ];
    let texts: Vec<_> = (0..12).map(|i| format!("{i:02}")).collect();
    let mut ids = Vec::new();
    for text in &texts[..6] {
        ids.push(world.send(ALICE, text).await);
    }
    faults.into_iter().for_each(|fault| world.control().inject(fault));
    for text in &texts[6..] {
        ids.push(world.send(ALICE, text).await);
    }
    world.restart().await;
    for id in ids {
        let status = world.final_status(ALICE, id).await;
        assert_eq!(status["status"], "acked", "{status}");
    }
    let mut sent = sent_texts(&world.control(), ALICE);
    assert!(sent.is_sorted(), "{sent:?}");
    sent.dedup();
    assert_eq!(sent, texts);
}

#[tokio::test]
async fn several_in_flight_are_sent_before_the_first_ack_and_no_more_than_allowed() {
    let world = World::start_with(|config| config.messages.in_flight = 3).await;
    world.all_connected().await;
    world.control().inject(Fault::times(FaultKind::DelayedAck { ms: 800 }, 3));
    let mut ids = Vec::new();
    for text in ["1", "2", "3", "4"] {
        ids.push(world.send(ALICE, text).await);
    }
    for id in &ids {
        assert_eq!(world.final_status(ALICE, *id).await["status"], "acked");
    }
    let frames = world.control().messages(ALICE);
    assert_eq!(sent_texts(&world.control(), ALICE), ["1", "2", "3", "4"]);
    let since_first = |index: usize| frames[index].at.since(frames[0].at);
    assert!(since_first(3) >= Duration::from_millis(790), "the fourth waits for an ack");
    let acked = world.status(ALICE, ids[0]).await["ackedAt"].clone();
    assert!(frames[2].at < Timestamp::parse(acked.as_str().unwrap()).unwrap(), "the third doesn't");
}

#[tokio::test]
async fn a_users_rate_is_kept() {
    let per = Duration::from_millis(300);
    let world = World::start_with(|config| config.messages.rate = Some(config::Rate { count: 2, per })).await;
    world.all_connected().await;
    let began = Timestamp::now();
    for n in 0..6 {
        world.send(ALICE, &n.to_string()).await;
    }
    let frames = within("all six", world.control().wait_messages(ALICE, 6)).await;
    // Two at once, and the other four one after the other.
    assert!(frames[5].at.since(began) >= per * 2 - Duration::from_millis(5));
}

// ---- Acks.

#[tokio::test]
async fn an_ack_after_the_reply_is_still_its_ack() {
    let world = World::start().await;
    world.control().inject(Fault::once(FaultKind::AckAfterReply));
    let id = world.send(ALICE, "Hi").await;
    let status = world.final_status(ALICE, id).await;
    assert_eq!(end(&status), json!(["acked", null, "confirmed", 1]));
    assert_eq!((&status["ack"]["type"], &status["ack"]["replyto"]), (&json!("ack"), &json!(id)));
    // A reply is named by its message when it is on stable storage, and delivered after that.
    within("the reply at the webhook", world.receiver.wait_events(1)).await;
    let (_, status) = world.get(&format!("/v1/users/{ALICE}/messages/{id}")).await;
    assert_eq!(status["replies"].as_array().map(Vec::len), Some(1), "{status}");
}

#[tokio::test]
async fn without_an_ack_a_message_is_sent_again_with_the_same_id() {
    let world = impatient().await;
    world.control().inject(Fault::once(FaultKind::LostMessage));
    let id = world.send(ALICE, "Hi").await;
    assert_eq!(end(&world.final_status(ALICE, id).await), json!(["acked", null, "confirmed", 2]));
    let frames = world.control().messages(ALICE);
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0].bytes, frames[1].bytes, "byte for byte the same frame");
    assert!(frames[1].at.since(frames[0].at) >= ACK_TIMEOUT - Duration::from_millis(100));
}

#[tokio::test]
async fn after_max_attempts_without_an_ack_a_message_expires_and_the_next_goes_on() {
    let world = impatient().await;
    world.control().inject(Fault::times(FaultKind::LostMessage, 3));
    let (lost, next) = (world.send(ALICE, "lost").await, world.send(ALICE, "next").await);
    assert_eq!(end(&world.final_status(ALICE, lost).await), json!(["expired", "no_ack", "unknown", 3]));
    assert_eq!(end(&world.final_status(ALICE, next).await), json!(["acked", null, "confirmed", 1]));
    assert_eq!(sent_texts(&world.control(), ALICE), ["lost", "lost", "lost", "next"]);
}

#[tokio::test]
async fn a_negative_ack_rejects() {
    let world = World::start().await;
    world.control().inject(Fault::once(FaultKind::NegativeAck));
    let id = world.send(ALICE, "no").await;
    let status = world.final_status(ALICE, id).await;
    assert_eq!(end(&status), json!(["rejected", "refused_by_platform", "confirmed", 1]));
    assert_eq!(status["ack"]["ok"], false);
    let next = world.send(ALICE, "yes").await;
    assert_eq!(world.final_status(ALICE, next).await["status"], "acked");
    assert_eq!(sent_texts(&world.control(), ALICE), ["no", "yes"], "it is not sent again");
}

#[tokio::test]
async fn a_message_that_is_too_large_for_the_platform_is_rejected_and_not_sent_again() {
    let world = World::start().await;
    world.control().configure(|settings| settings.max_frame = 2_000);
    let (large, small) = (world.send(ALICE, &"x".repeat(4_000)).await, world.send(ALICE, "small").await);
    let status = world.final_status(ALICE, large).await;
    assert_eq!(end(&status), json!(["rejected", "too_large", "confirmed", 1]));
    assert_eq!(world.final_status(ALICE, small).await["status"], "acked");
    world.control().inject(cut_before_ack(Taken::No, SocketEnd::close(1009), 1));
    let closed = world.send(ALICE, "closed for").await;
    let status = world.final_status(ALICE, closed).await;
    assert_eq!(end(&status), json!(["rejected", "too_large", "confirmed", 1]));
    let last = world.send(ALICE, "last").await;
    world.final_status(ALICE, last).await;
    let mut sent = sent_texts(&world.control(), ALICE);
    sent.iter_mut().for_each(|text| text.truncate(10));
    assert_eq!(sent, ["xxxxxxxxxx", "small", "closed for", "last"], "none is sent again");
}

#[tokio::test]
async fn five_disconnects_straight_after_sending_end_a_message() {
    let world = World::start().await;
    world.control().inject(cut_before_ack(Taken::No, SocketEnd::Reset, 5));
    let (poison, next) = (world.send(ALICE, "poison").await, world.send(ALICE, "next").await);
    let status = world.final_status(ALICE, poison).await;
    assert_eq!(end(&status), json!(["expired", "no_ack", "unknown", 5]));
    assert_eq!(world.final_status(ALICE, next).await["status"], "acked");
    let sent = sent_texts(&world.control(), ALICE);
    assert_eq!(sent, ["poison", "poison", "poison", "poison", "poison", "next"]);
}

#[tokio::test]
async fn a_send_that_a_disconnect_cut_off_is_no_attempt_that_counts() {
    let world = World::start_with(|config| config.messages.max_attempts = 1).await;
    world.all_connected().await;
    world.control().inject(cut_before_ack(Taken::No, SocketEnd::Drop, 3));
    let id = world.send(ALICE, "Hi").await;
    assert_eq!(world.final_status(ALICE, id).await["status"], "acked");
}

// ---- Time to live.

#[tokio::test]
async fn a_message_that_was_never_sent_expires_with_delivery_none() {
    let world = World::start_with(|config| config.messages.ttl = TTL).await;
    world.all_connected().await;
    world.cut_off().await;
    let id = world.send(ALICE, "too late").await;
    assert_eq!(end(&world.final_status(ALICE, id).await), json!(["expired", "ttl", "none", 0]));
    world.bring_back().await;
    let next = world.send(ALICE, "next").await;
    world.final_status(ALICE, next).await;
    assert_eq!(sent_texts(&world.control(), ALICE), ["next"]);
}

#[tokio::test]
async fn a_message_that_was_sent_expires_with_delivery_unknown() {
    let world = World::start_with(|config| config.messages.ttl = TTL).await;
    world.all_connected().await;
    world.control().inject(Fault::once(FaultKind::LostMessage));
    let id = world.send(ALICE, "lost").await;
    assert_eq!(end(&world.final_status(ALICE, id).await), json!(["expired", "ttl", "unknown", 1]));
}

// ---- Restarts.

#[tokio::test]
async fn a_queued_message_is_sent_after_a_restart() {
    let mut world = World::start().await;
    world.cut_off().await;
    let id = world.send(ALICE, "queued").await;
    world.restart().await;
    assert_eq!(end(&world.status(ALICE, id).await), json!(["queued", null, "none", 0]));
    world.bring_back().await;
    assert_eq!(end(&world.final_status(ALICE, id).await), json!(["acked", null, "confirmed", 1]));
    assert_eq!(sent_texts(&world.control(), ALICE), ["queued"]);
}

#[tokio::test]
async fn a_message_whose_ack_is_awaited_is_sent_again_after_a_restart() {
    let mut world = World::start().await;
    world.control().inject(Fault::once(FaultKind::LostMessage));
    let id = world.send(ALICE, "sent").await;
    within("the frame", world.control().wait_messages(ALICE, 1)).await;
    world.stop_daemon().await;
    world.start_daemon().await;
    assert_eq!(end(&world.final_status(ALICE, id).await), json!(["acked", null, "confirmed", 2]));
    let frames = world.control().messages(ALICE);
    assert_eq!((frames.len(), &frames[0].bytes), (2, &frames[1].bytes));
}

#[tokio::test]
async fn a_final_message_stays_as_it_ended_after_a_restart() {
    let mut world = World::start().await;
    let acked = world.send(ALICE, "acked").await;
    world.final_status(ALICE, acked).await;
    world.control().inject(Fault::once(FaultKind::NegativeAck));
    let rejected = world.send(ALICE, "rejected").await;
    world.final_status(ALICE, rejected).await;
    // A webhook may know of an answer a moment before its message does.
    let noted = || async { (world.status(ALICE, acked).await["replies"] != json!([])).then_some(()) };
    eventually("the answer to be noted at its message", noted).await;
    let before = [world.status(ALICE, acked).await, world.status(ALICE, rejected).await];
    assert_eq!((&before[0]["status"], &before[1]["status"]), (&json!("acked"), &json!("rejected")));
    world.restart().await;
    world.all_connected().await;
    assert_eq!([world.status(ALICE, acked).await, world.status(ALICE, rejected).await], before);
    let last = world.send(ALICE, "last").await;
    world.final_status(ALICE, last).await;
    assert_eq!(sent_texts(&world.control(), ALICE), ["acked", "rejected", "last"]);
}

#[tokio::test]
async fn the_messages_of_a_removed_user_expire() {
    let mut world = World::start_with(|config| add_user(config, BOB)).await;
    world.all_connected().await;
    world.cut_off().await;
    let id = world.send(BOB, "orphan").await;
    world.stop_daemon().await;
    let bob = world.config.users.remove(BOB).unwrap();
    world.start_daemon().await;
    let (status, problem) = world.get(&format!("/v1/users/{BOB}/messages/{id}")).await;
    assert_eq!((status, &problem["code"]), (404, &json!("unknown_user")));
    world.stop_daemon().await;
    world.config.users.insert(UserName::new(BOB).unwrap(), bob);
    world.start_daemon().await;
    assert_eq!(end(&world.status(BOB, id).await), json!(["expired", "user_removed", "none", 0]));
    world.bring_back().await;
    let next = world.send(BOB, "next").await;
    world.final_status(BOB, next).await;
    assert_eq!(sent_texts(&world.control(), BOB), ["next"]);
}
