//! Dead letters: looking at them, replaying and deleting them.

use std::time::Duration;

use reqwest::Method;
use rtm_bridge::{
    config::{BodyFormat, Client, Scopes, Secret},
    names::ClientName,
    receiver::Reply,
    sandbox::Push,
};
use serde_json::{Value, json};

use crate::support::{
    ALICE, BOB, Request, World, add_user, answer, at_webhook, crm, delivered, eventually, texts, within,
};

impl World {
    async fn call(&self, method: Method, path: &str) -> (u16, Value) {
        answer(self.request(method, path)).await
    }

    /// The dead letters that a query lists.
    async fn letters(&self, query: &str) -> Vec<Value> {
        let (status, body) = self.get(&format!("/v1/dead-letters{query}")).await;
        assert_eq!(status, 200, "{body}");
        body["deadLetters"].as_array().unwrap().clone()
    }

    /// Waits until there are so many dead letters, none of which is being replayed.
    async fn until_letters(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} dead letters"), || async {
            let letters = self.letters("?limit=1000").await;
            let at_rest = letters.iter().all(|letter| letter["replayingSince"].is_null());
            (letters.len() == count && at_rest).then_some(letters)
        })
        .await
    }

    async fn letter(&self, id: &str) -> Value {
        let (status, body) = self.get(&format!("/v1/dead-letters/{id}")).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    async fn replay(&self, id: &str) {
        let (status, body) = self.call(Method::POST, &format!("/v1/dead-letters/{id}/replay")).await;
        assert_eq!(status, 202, "{body}");
    }

    /// Makes dead letters of what the bot says to a user; gives them, the oldest first.
    async fn refused(&self, user: &str, texts: &[&str]) -> Vec<Value> {
        let before = self.letters("?limit=1000").await.len();
        self.receiver.script(texts.iter().map(|_| Reply::status(422).body("no such customer")));
        for text in texts {
            self.control().push(user, Push::text(*text));
        }
        let mut letters = self.until_letters(before + texts.len()).await;
        letters.truncate(texts.len());
        letters.reverse();
        letters
    }
}

fn id(letter: &Value) -> &str {
    letter["id"].as_str().unwrap()
}

fn replayed(world: &World) -> Vec<Request> {
    world.receiver.attempts().into_iter().filter(|attempt| attempt.attempt > Some(1)).collect()
}

#[tokio::test]
async fn a_dead_letter_says_all_there_is_to_know() {
    let world = World::start_silent(|_| {}).await;
    world.receiver.script([Reply::status(503).body("later")]);
    let letter = world.refused(ALICE, &["Hi"]).await.remove(0);
    let attempts = world.receiver.attempts();
    let expected = json!({
        "id": letter["id"], "webhook": "crm", "user": "alice", "webhookId": attempts[0].id, "type": "bot_response",
        "reason": "the receiver refuses this event: it refuses this event (422)", "lastStatus": 422, "attempts": 2,
        "createdAt": letter["createdAt"], "deadAt": letter["deadAt"], "replayingSince": null,
    });
    assert_eq!(letter, expected);
    let mut details = world.letter(id(&letter)).await;
    let body = details["body"].take();
    assert_eq!(body.as_str().unwrap().as_bytes(), attempts[0].body);
    let history = details["attemptHistory"].take();
    let outcomes: Vec<_> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| (attempt["number"].clone(), attempt["status"].clone(), attempt["answer"].clone()))
        .collect();
    assert_eq!(
        outcomes,
        [(json!(1), json!(503), json!("later")), (json!(2), json!(422), json!("no such customer"))]
    );
    let mut expected = expected;
    let more = json!({"sequence": 1, "contentType": "application/json", "lastAnswer": "no such customer",
        "body": null, "attemptHistory": null});
    expected.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    assert_eq!(details, expected);
}

#[tokio::test]
async fn failures_without_an_answer_are_told_in_words() {
    let world = World::start_silent(|config| {
        crm(config).timeout = Duration::from_millis(50);
        crm(config).max_age = Duration::from_millis(1);
    })
    .await;
    world.receiver.hold();
    world.control().push(ALICE, Push::text("Hi"));
    let letter = world.until_letters(1).await.remove(0);
    assert_eq!(letter["lastStatus"], Value::Null);
    let details = world.letter(id(&letter)).await;
    let attempt = &details["attemptHistory"][0];
    assert_eq!(
        (&attempt["error"], &attempt["detail"], &attempt["status"]),
        (&json!("timeout"), &json!("no answer within 50ms"), &json!(null))
    );
}

#[tokio::test]
async fn a_replay_is_the_same_event_and_the_letter_goes_on_a_2xx() {
    let mut world = World::start_silent(|_| {}).await;
    let letter = world.refused(ALICE, &["Hi"]).await.remove(0);
    world.control().push(ALICE, Push::text("Ho"));
    delivered(&world, 1).await;
    // The body stays what it was.
    world.stop_daemon().await;
    crm(&mut world.config).format = BodyFormat::Form;
    world.start_daemon().await;
    world.replay(id(&letter)).await;
    delivered(&world, 2).await;
    let attempts = world.receiver.attempts();
    let (first, again) = (&attempts[0], &attempts[2]);
    assert_eq!((&again.id, &again.body, again.sequence), (&first.id, &first.body, Some(1)));
    assert_eq!((first.attempt, again.attempt), (Some(1), Some(2)));
    world.until_letters(0).await;
    assert_eq!(world.get(&format!("/v1/dead-letters/{}", id(&letter))).await.0, 404);
    world.restart().await;
    assert_eq!(world.letters("").await, [json!(null); 0], "for good");
}

#[tokio::test]
async fn a_refused_replay_is_dead_again_at_once_and_the_next_goes_on() {
    let world = World::start_silent(|_| {}).await;
    let letters = world.refused(ALICE, &["1", "2"]).await;
    world.receiver.script([Reply::status(400).body("still not")]);
    let (status, body) = world.call(Method::POST, "/v1/dead-letters/replay?webhook=crm").await;
    assert_eq!((status, body), (202, json!({"replaying": 2, "leftAlone": 0})));
    assert_eq!(texts(&delivered(&world, 1).await), ["2"]);
    let left = world.until_letters(1).await.remove(0);
    assert_eq!(
        (&left["id"], &left["lastStatus"], &left["attempts"]),
        (&letters[0]["id"], &json!(400), &json!(2))
    );
    assert!(left["deadAt"].as_str() > letters[0]["deadAt"].as_str());
    let details = world.letter(id(&left)).await;
    assert_eq!(details["lastAnswer"], "still not");
    assert_eq!(details["attemptHistory"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_replay_is_tried_again_until_max_age_from_then_and_is_dead_again() {
    let world = World::start_silent(|config| crm(config).max_age = Duration::from_millis(400)).await;
    let letter = world.refused(ALICE, &["Hi"]).await.remove(0);
    world.receiver.answer(500);
    world.replay(id(&letter)).await;
    assert_ne!(world.letter(id(&letter)).await["replayingSince"], json!(null));
    let again = world.until_letters(1).await.remove(0);
    let reason = again["reason"].as_str().unwrap();
    assert!(reason.starts_with("it could not be delivered in time"), "{reason}");
    let attempts = again["attempts"].as_u64().unwrap();
    assert!(attempts > 2, "tried more than once: {attempts}");
    let counted: Vec<_> =
        replayed(&world).iter().map(|attempt| u64::from(attempt.attempt.unwrap())).collect();
    assert_eq!(counted, (2..=attempts).collect::<Vec<_>>());
    world.receiver.answer(204);
    world.replay(id(&letter)).await;
    assert_eq!(delivered(&world, 1).await[0].attempt.map(u64::from), Some(attempts + 1));
}

#[tokio::test]
async fn a_replay_that_was_promised_survives_a_restart() {
    let mut world = World::start_silent(|_| {}).await;
    let letters = world.refused(ALICE, &["1", "2", "3"]).await;
    world.receiver.answer(503);
    let (status, _) = world.call(Method::POST, "/v1/dead-letters/replay?all=true").await;
    assert_eq!(status, 202);
    within("two attempts", world.receiver.wait_attempts(5)).await;
    world.stop_daemon().await;
    world.receiver.answer(204);
    world.start_daemon().await;
    let events = delivered(&world, 3).await;
    assert_eq!(texts(&events), ["1", "2", "3"], "in order");
    let ids: Vec<_> = events.iter().map(|event| json!(event.id)).collect();
    let expected: Vec<_> = letters.iter().map(|letter| letter["webhookId"].clone()).collect();
    assert_eq!(ids, expected);
    let counted: Vec<_> =
        replayed(&world).iter().filter(|a| a.text.as_deref() == Some("1")).map(|a| a.attempt).collect();
    assert!(counted.is_sorted_by(|a, b| a < b), "they go on counting: {counted:?}");
    world.until_letters(0).await;
}

#[tokio::test]
async fn replays_keep_to_the_gate_and_leave_room_for_live_events() {
    let world = World::start_silent(|config| {
        (1..=6).for_each(|n| add_user(config, &format!("user{n}")));
        crm(config).max_in_flight = 4;
    })
    .await;
    for n in 1..=6 {
        world.refused(&format!("user{n}"), &["old"]).await;
    }
    world.receiver.hold();
    assert_eq!(world.call(Method::POST, "/v1/dead-letters/replay?all=true").await.0, 202);
    within("a replay", world.receiver.wait_attempts(7)).await;
    for n in 1..=3 {
        world.control().push(&format!("user{n}"), Push::text("new"));
    }
    // The one replay and the three live events fill the webhook.
    let under_way = within("the live events", world.receiver.wait_attempts(10)).await.split_off(6);
    let mut seen = texts(&under_way);
    seen.sort();
    assert_eq!(seen, ["new", "new", "new", "old"]);
    world.receiver.release();
    delivered(&world, 9).await;
    world.until_letters(0).await;
}

#[tokio::test]
async fn nothing_is_replayed_while_the_webhook_is_disabled() {
    let world = World::start_silent(|config| add_user(config, BOB)).await;
    let letters = world.refused(ALICE, &["1", "2"]).await;
    world.receiver.script([410_u16]);
    world.replay(id(&letters[0])).await;
    world
        .until_user(ALICE, "the webhook to be disabled", |_| world.daemon().summary().failing_webhooks == 1)
        .await;
    world.replay(id(&letters[1])).await;
    assert_eq!(world.receiver.attempts().len(), 3);
    assert_eq!(world.call(Method::POST, "/v1/webhooks/crm/enable").await.0, 202);
    assert_eq!(texts(&delivered(&world, 2).await), ["1", "2"]);
}

#[tokio::test]
async fn a_letter_that_is_deleted_during_its_replay_stays_deleted() {
    let world = World::start_silent(|_| {}).await;
    for outcome in [204_u16, 500, 422] {
        let attempts = world.receiver.attempts().len();
        let letter = world.refused(ALICE, &["Hi"]).await.remove(0);
        world.receiver.hold();
        world.receiver.script([outcome]);
        world.replay(id(&letter)).await;
        within("the replay", world.receiver.wait_attempts(attempts + 2)).await;
        let path = format!("/v1/dead-letters/{}", id(&letter));
        assert_eq!(world.call(Method::DELETE, &path).await.0, 204);
        world.receiver.release();
        // What comes behind it comes after its end.
        let last = world.refused(ALICE, &["behind"]).await.remove(0);
        assert_eq!(world.letters("").await.len(), 1, "after {outcome}");
        assert_eq!(world.call(Method::DELETE, &format!("/v1/dead-letters/{}", id(&last))).await.0, 204);
        assert_eq!(world.receiver.attempts().len(), attempts + 3, "after {outcome}");
    }
}

#[tokio::test]
async fn letters_are_deleted_one_by_one_or_by_filter() {
    let world = World::start_silent(|config| add_user(config, BOB)).await;
    let letters = world.refused(ALICE, &["1", "2", "3"]).await;
    world.refused(BOB, &["4", "5"]).await;
    let one = format!("/v1/dead-letters/{}", id(&letters[1]));
    assert_eq!(world.call(Method::DELETE, &one).await, (204, Value::Null));
    for method in [Method::DELETE, Method::GET] {
        let (status, problem) = world.call(method, &one).await;
        assert_eq!((status, &problem["code"]), (404, &json!("unknown_dead_letter")));
    }
    let (status, problem) = world.call(Method::POST, &format!("{one}/replay")).await;
    assert_eq!((status, &problem["code"]), (404, &json!("unknown_dead_letter")));
    for (method, path) in [
        (Method::DELETE, "/v1/dead-letters"),
        (Method::DELETE, "/v1/dead-letters?all=yes"),
        (Method::POST, "/v1/dead-letters/replay"),
        (Method::GET, "/v1/dead-letters?limit=0"),
        (Method::GET, "/v1/dead-letters?cursor=x"),
        (Method::GET, "/v1/dead-letters?state=dead"),
    ] {
        let (status, problem) = world.call(method, path).await;
        assert_eq!((status, &problem["code"]), (400, &json!("malformed_query")), "{path}");
    }
    assert_eq!(world.letters("?user=alice&webhook=crm").await.len(), 2);
    assert_eq!(world.call(Method::DELETE, "/v1/dead-letters?user=alice").await.0, 204);
    assert_eq!((world.letters("").await.len(), world.letters("?user=alice").await.len()), (2, 0));
    assert_eq!(world.call(Method::DELETE, "/v1/dead-letters?all=true").await.0, 204);
    assert_eq!(world.letters("").await.len(), 0);
    for (path, code) in [("?webhook=crn", "unknown_webhook"), ("?user=carol", "unknown_user")] {
        let (status, problem) = world.get(&format!("/v1/dead-letters{path}")).await;
        assert_eq!((status, &problem["code"]), (404, &json!(code)));
    }
}

#[tokio::test]
async fn a_list_comes_in_pages_newest_first() {
    let world = World::start_silent(|_| {}).await;
    let mut ids: Vec<_> = world.refused(ALICE, &["1", "2", "3", "4", "5"]).await;
    ids.reverse();
    let (mut seen, mut path) = (Vec::new(), "/v1/dead-letters?limit=2".to_owned());
    loop {
        let (_, page) = world.get(&path).await;
        seen.extend(page["deadLetters"].as_array().unwrap().clone());
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        path = format!("/v1/dead-letters?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, ids);
}

#[tokio::test]
async fn a_client_sees_and_touches_only_its_users_letters() {
    let mut world = World::start_silent(|config| add_user(config, BOB)).await;
    world.refused(ALICE, &["1"]).await;
    let bobs = world.refused(BOB, &["2"]).await.remove(0);
    world.stop_daemon().await;
    for (name, users, scopes) in [
        ("alices", "ali*", Scopes::ALL),
        ("reader", "*", Scopes { send: true, read: true, admin: false }),
        ("sender", "*", Scopes { send: true, read: false, admin: false }),
    ] {
        let client = Client {
            tokens: vec![Secret::new(format!("{name}-token"))],
            users: vec![users.to_owned()],
            scopes,
            rate: None,
        };
        world.config.clients.insert(ClientName::new(name).unwrap(), client);
    }
    world.start_daemon().await;
    let call = async |name: &str, method: Method, path: &str| {
        let request = world.request(method, &format!("/v1/dead-letters{path}"));
        let (status, body) = answer(request.bearer_auth(format!("{name}-token"))).await;
        (status, body["code"].as_str().unwrap_or_default().to_owned(), body)
    };
    let count = |body: &Value| body["deadLetters"].as_array().unwrap().len();
    assert_eq!(count(&call("alices", Method::GET, "").await.2), 1);
    assert_eq!(count(&call("reader", Method::GET, "").await.2), 2);
    let (one, replay) = (format!("/{}", id(&bobs)), format!("/{}/replay", id(&bobs)));
    for (client, method, path, status, code) in [
        ("alices", Method::GET, "?user=bob", 403, "user_not_allowed"),
        ("alices", Method::GET, "?user=nobody", 403, "user_not_allowed"),
        ("alices", Method::DELETE, "?user=bob", 403, "user_not_allowed"),
        // As if there were none.
        ("alices", Method::GET, &one, 404, "unknown_dead_letter"),
        ("alices", Method::DELETE, &one, 404, "unknown_dead_letter"),
        ("alices", Method::POST, &replay, 404, "unknown_dead_letter"),
        ("reader", Method::GET, &one, 200, ""),
        ("reader", Method::DELETE, &one, 403, "scope_missing"),
        ("reader", Method::POST, &replay, 403, "scope_missing"),
        ("reader", Method::DELETE, "?all=true", 403, "scope_missing"),
        ("reader", Method::POST, "/replay?all=true", 403, "scope_missing"),
        ("sender", Method::GET, "", 403, "scope_missing"),
        ("sender", Method::GET, &one, 403, "scope_missing"),
        ("alices", Method::DELETE, "?all=true", 204, ""),
    ] {
        let (seen, said, _) = call(client, method.clone(), path).await;
        assert_eq!((seen, said.as_str()), (status, code), "{client} {method} {path}");
    }
    assert_eq!(count(&call("reader", Method::GET, "").await.2), 1, "bob's is still there");
}

#[tokio::test]
async fn letters_of_a_removed_webhook_wait_for_its_return() {
    let mut world = World::start_silent(|_| {}).await;
    let letter = world.refused(ALICE, &["refused"]).await.remove(0);
    world.receiver.answer(500);
    world.control().push(ALICE, Push::text("waiting"));
    within("a failed attempt", world.receiver.wait_attempts(2)).await;
    world.stop_daemon().await;
    let webhooks = std::mem::take(&mut world.config.webhooks);
    let users = world.config.users.clone();
    world.config.users.values_mut().for_each(|user| user.webhooks.clear());
    world.start_daemon().await;
    let letters = world.until_letters(2).await;
    assert_eq!(letters[0]["reason"], "the webhook is no longer configured");
    let history = world.letter(id(&letters[0])).await["attemptHistory"].clone();
    assert_eq!(history[0]["status"], 500, "what was tried before is told");
    for path in
        [format!("/v1/dead-letters/{}/replay", id(&letter)), "/v1/dead-letters/replay?webhook=crm".into()]
    {
        let (status, problem) = world.call(Method::POST, &path).await;
        assert_eq!((status, &problem["code"]), (409, &json!("webhook_not_configured")));
    }
    let (_, body) = world.call(Method::POST, "/v1/dead-letters/replay?user=alice").await;
    assert_eq!(body, json!({"replaying": 0, "leftAlone": 2}));
    world.stop_daemon().await;
    (world.config.webhooks, world.config.users) = (webhooks, users);
    world.receiver.answer(204);
    world.start_daemon().await;
    assert_eq!(world.call(Method::POST, "/v1/dead-letters/replay?webhook=crm").await.0, 202);
    let events = delivered(&world, 2).await;
    assert_eq!(texts(&at_webhook(&events, "crm")), ["refused", "waiting"]);
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [Some(1), Some(2)]);
}

#[tokio::test]
async fn old_letters_go_with_their_files() {
    let mut world = World::start_silent(|_| {}).await;
    let long = "x".repeat(20_000);
    world.refused(ALICE, &["short", &long]).await;
    let files = |world: &World| {
        let files = std::fs::read_dir(world.config.store.path.join("payloads")).unwrap();
        files.filter(|file| file.as_ref().unwrap().file_name().to_str().unwrap().starts_with("d-")).count()
    };
    assert_eq!(files(&world), 1);
    world.stop_daemon().await;
    world.config.store.dead_letter_retention = Duration::from_millis(50);
    world.start_daemon().await;
    world.until_letters(0).await;
    world.stop_daemon().await;
    assert_eq!((files(&world), world.store().histories_after(None).count()), (0, 0));
}

#[tokio::test]
async fn an_event_delivered_at_last_leaves_no_attempts_behind() {
    let mut world = World::start_silent(|_| {}).await;
    world.receiver.script([500_u16, 503]);
    world.control().push(ALICE, Push::text("Hi"));
    delivered(&world, 1).await;
    world.until_user(ALICE, "its delivery to be noted", |user| user["undelivered"] == 0).await;
    world.stop_daemon().await;
    assert_eq!(world.store().histories_after(None).count(), 0);
}
