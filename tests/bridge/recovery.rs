//! What was missed: the platform's history after a gap.

use std::time::Duration;

use rtm_bridge::{
    clock::Timestamp,
    config::{Config, EventFilter},
    sandbox::{BotScript, Endpoint, Fault, FaultKind, PageOrder, Push, SocketEnd, Taken},
};
use serde_json::{Value, json};

use crate::support::{ALICE, Request, World, crm, delivered, envelope, sent_texts, within};

/// How long live events wait in tests where the history doesn't come.
pub const HISTORY_TIMEOUT: Duration = Duration::from_millis(600);
const GAP: &str = "bridge.gap";
/// So many records in a row that are known end the reading of a history.
const MORE_THAN_A_PAGE: usize = 30;
/// Longer than any test: what waited for it did not end by itself.
pub const NEVER: Duration = Duration::from_secs(600);

/// The texts of events, with `*` before those that were recovered.
fn told(events: &[Request]) -> Vec<String> {
    let told = |event: &Request| {
        let body = envelope(event);
        let star = if body["source"] == "history" { "*" } else { "" };
        format!("{star}{}", body["text"].as_str().unwrap_or_else(|| body["type"].as_str().unwrap()))
    };
    events.iter().map(told).collect()
}

/// The texts of events, however they came, without the gaps.
fn said(told: &[String]) -> Vec<&str> {
    told.iter().filter(|text| *text != GAP).map(|text| text.trim_start_matches('*')).collect()
}

/// The `data` of the gaps among these events, without their times.
fn gaps(events: &[Request]) -> Vec<Value> {
    let gaps = events.iter().map(|event| envelope(event)).filter(|body| body["type"] == GAP);
    gaps.map(|body| {
        let data = &body["data"];
        assert!(data["from"].as_str() <= data["to"].as_str(), "{data}");
        json!([data["recovered"], data["complete"], data["reason"]])
    })
    .collect()
}

fn refuse_history(status: u16, retry_after: Option<&str>) -> FaultKind {
    FaultKind::Refuse { at: Endpoint::History, status, retry_after: retry_after.map(str::to_owned) }
}

fn wants(types: &[&str]) -> EventFilter {
    EventFilter::Only(types.iter().map(|event_type| (*event_type).to_owned()).collect())
}

impl World {
    /// Alice is connected, the bot says nothing of itself, and gaps are told.
    pub async fn recovering(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_silent(|config| {
            crm(config).events = wants(&["bot_response", "user_message", GAP, "session_end"]);
            config.history.timeout = NEVER;
            config.messages.ack_timeout = Duration::from_millis(300);
            change(config);
        })
        .await
    }

    pub fn say(&self, text: &str) {
        self.control().push(ALICE, Push::text(text));
    }

    /// It is in the history, and nobody is told.
    pub fn lose(&self, text: &str) {
        self.control().push(ALICE, Push::text(text).history_only());
    }

    pub fn history_requests(&self) -> u64 {
        self.control().request_count(Endpoint::History)
    }

    async fn histories(&self, requests: u64) {
        within("the history to be asked for", self.control().wait_requests(Endpoint::History, requests))
            .await;
    }

    /// Alice's connection ends; these things are said, and then she connects again.
    pub async fn miss(&self, texts: &[&str]) {
        self.cut_off().await;
        texts.iter().for_each(|text| self.say(text));
        self.bring_back().await;
    }

    /// Something is missed, and this becomes of the first look for it, which is under way now.
    async fn miss_while(&self, trouble: FaultKind) {
        self.cut_off().await;
        self.say("missed");
        self.control().inject(Fault::once(trouble));
        self.bring_back().await;
        self.histories(1).await;
    }

    /// Acks aren't held back: once one is there, so is what was said before it.
    async fn all_is_read(&self) {
        let id = self.send(ALICE, "Hi").await;
        assert_eq!(self.final_status(ALICE, id).await["status"], "acked");
    }

    /// What came, once the last of it has this text.
    pub async fn told_until(&self, last: &str) -> Vec<String> {
        let has_last =
            |events: &[Request]| told(events).iter().any(|text| text.trim_start_matches('*') == last);
        let events = within(&format!("{last:?} at the webhook"), self.receiver.wait_until(has_last)).await;
        told(&events)
    }

    /// Proves that nothing else comes: something said later is the next that does.
    pub async fn and_nothing_else(&self, expected: &[&str]) {
        let end = format!("the end, at {}", self.receiver.events().len());
        self.say(&end);
        let mut told = self.told_until(&end).await;
        told.retain(|text| text != GAP && !text.contains("the end"));
        assert_eq!(told, expected);
    }

    /// The gaps, once there are so many.
    pub async fn gaps(&self, many: usize) -> Vec<Value> {
        let enough = |events: &[Request]| gaps(events).len() >= many;
        gaps(&within(&format!("{many} gaps"), self.receiver.wait_until(enough)).await)
    }
}

// ---- After a gap.

#[tokio::test]
async fn the_first_start_fetches_nothing() {
    let mut world = World::recovering(|_| {}).await;
    world.stop_daemon().await;
    std::fs::remove_dir_all(&world.config.store.path).unwrap();
    let long_ago = r#"{"type":"bot_response","messageId":"ms-0","createdOn":"2026-01-01T00:00:00Z","message":[{"cInfo":{"body":"old"}}]}"#;
    world.control().push(ALICE, Push::frame(long_ago).history_only());
    let before = world.history_requests();
    world.start_daemon().await;
    world.all_connected().await;
    world.and_nothing_else(&[]).await;
    assert_eq!(world.history_requests(), before);
    // Nor does what was said before that first start come later.
    world.miss(&["missed"]).await;
    world.and_nothing_else(&["*missed"]).await;
}

#[tokio::test]
async fn what_was_missed_comes_in_order_whatever_the_pages_are_like() {
    for order in [PageOrder::OldestFirst, PageOrder::NewestFirst] {
        for page in [1, 3, 100] {
            let world = World::recovering(|_| {}).await;
            world.control().configure(|settings| (settings.page_order, settings.max_page) = (order, page));
            world.say("before");
            world.told_until("before").await;
            let missed: Vec<String> = (0..30).map(|n| format!("missed {n}")).collect();
            world.miss(&missed.iter().map(String::as_str).collect::<Vec<_>>()).await;
            assert_eq!(world.gaps(1).await, [json!([30, true, null])], "{order:?}, {page}");
            let mut expected: Vec<String> = missed.iter().map(|text| format!("*{text}")).collect();
            expected.insert(0, "before".to_owned());
            expected.push(GAP.to_owned());
            let events = world.receiver.events();
            assert_eq!(told(&events), expected, "{order:?}, {page}");
            let sequences: Vec<_> = events.iter().map(|event| event.sequence.unwrap()).collect();
            assert_eq!(sequences, (1..=32).collect::<Vec<_>>());
        }
    }
}

#[tokio::test]
async fn a_recovered_event_is_like_a_live_one_with_its_record() {
    let world = World::recovering(|_| {}).await;
    world.miss(&["missed"]).await;
    let event = delivered(&world, 1).await[0].clone();
    let body = envelope(&event);
    let item = world.control().history(ALICE).pop().unwrap();
    assert_eq!(
        (&body["source"], &body["from"], &body["text"]),
        (&json!("history"), &json!("bot"), &json!("missed"))
    );
    assert_eq!(event.event_type, "bot_response");
    let data = &body["data"];
    assert_eq!((&data["messageId"], &data["createdOn"]), (&json!(item.id), &json!(item.created.to_string())));
    assert_eq!(data["timestamp"], item.created.as_millis());
    assert_eq!(data["message"][0]["cInfo"]["body"], "missed");
    assert_eq!(data["historyRecord"]["_id"], item.id);
    assert_eq!(data["historyRecord"]["components"][0]["data"]["text"], "missed");
}

#[tokio::test]
async fn without_a_gap_nothing_is_reported_and_nothing_comes_twice() {
    let mut world = World::recovering(|_| {}).await;
    for text in ["one", "two"] {
        world.say(text);
    }
    world.told_until("two").await;
    world.restart().await;
    world.all_connected().await;
    world.histories(1).await;
    world.miss(&[]).await;
    world.and_nothing_else(&["one", "two"]).await;
    assert_eq!(gaps(&world.receiver.events()), Vec::<Value>::new());
}

#[tokio::test]
async fn a_lost_push_comes_with_the_next_recovery() {
    let world = World::recovering(|_| {}).await;
    world.say("one");
    world.control().inject(Fault::once(FaultKind::LostPush));
    world.say("lost");
    world.say("two");
    world.told_until("two").await;
    world.miss(&["missed"]).await;
    world.and_nothing_else(&["one", "two", "*lost", "*missed"]).await;
}

/// A platform is many machines: one may note what it said only behind what another one noted since.
#[tokio::test]
async fn what_is_noted_late_comes_with_the_next_recovery() {
    let world = World::recovering(|_| {}).await;
    let before = Timestamp::now();
    world.miss(&["newer"]).await;
    world.told_until("newer").await;
    let late = json!({
        "type": "bot_response", "messageId": "ms-late", "createdOn": before.to_string(),
        "message": [{"type": "text", "cInfo": {"body": "noted late"}}],
    });
    world.control().push(ALICE, Push::frame(late.to_string()).history_only());
    world.miss(&[]).await;
    world.and_nothing_else(&["*newer", "*noted late"]).await;
}

#[tokio::test]
async fn a_drop_in_the_middle_of_events_loses_none_and_repeats_none() {
    let world = World::recovering(|_| {}).await;
    let mut expected = Vec::new();
    for round in 0..3 {
        let connects = world.control().connects(ALICE);
        for n in 0..20 {
            let text = format!("{round}.{n}");
            world.say(&text);
            expected.push(text);
            if n == 9 {
                world.control().end_sockets(ALICE, &SocketEnd::Reset);
            }
            tokio::task::yield_now().await;
        }
        within("the next connection", world.control().wait_connects(ALICE, connects + 1)).await;
        world.all_connected().await;
        world.histories(round + 1).await;
    }
    assert_eq!(said(&world.told_until(expected.last().unwrap()).await), expected);
}

#[tokio::test]
async fn what_was_said_while_the_daemon_was_down_comes_once_over_any_number_of_restarts() {
    let mut world = World::recovering(|_| {}).await;
    world.say("before");
    world.told_until("before").await;
    world.stop_daemon().await;
    world.say("while down");
    world.start_daemon().await;
    world.told_until("while down").await;
    for _ in 0..2 {
        world.restart().await;
        world.all_connected().await;
    }
    world.and_nothing_else(&["before", "*while down"]).await;
    assert_eq!(world.gaps(1).await, [json!([1, true, null])]);
}

#[tokio::test]
async fn a_late_push_of_what_was_recovered_is_a_repeat_also_after_a_restart() {
    let mut world = World::recovering(|_| {}).await;
    world.miss(&["missed"]).await;
    world.told_until("missed").await;
    let id = world.control().history(ALICE).pop().unwrap().id;
    let late =
        json!({"type": "bot_response", "messageId": id, "message": [{"cInfo": {"body": "missed, late"}}]});
    world.control().push_raw(ALICE, late.to_string());
    world.restart().await;
    world.all_connected().await;
    world.control().push_raw(ALICE, late.to_string());
    world.and_nothing_else(&["*missed"]).await;
}

#[tokio::test]
async fn what_is_said_while_the_history_is_read_comes_once_in_its_place() {
    let world = World::recovering(|_| {}).await;
    world.cut_off().await;
    world.say("missed");
    world.control().inject(Fault::once(FaultKind::Delay { at: Endpoint::History, ms: 300 }));
    world.bring_back().await;
    // The request is held up: what follows is in the history, and comes live as well, or only one of both.
    world.histories(1).await;
    world.say("both");
    world.control().push(ALICE, Push::frame(r#"{"type":"session_end"}"#));
    world.lose("history only");
    world.control().push(ALICE, Push::text("live only").live_only());
    let told = world.told_until("live only").await;
    assert_eq!(told, ["*missed", "both", "*history only", "session_end", "live only"]);
    world.and_nothing_else(&["*missed", "both", "*history only", "session_end", "live only"]).await;
}

#[tokio::test]
async fn frames_without_an_id_are_recognised_by_what_they_say_and_when() {
    let mut world = World::recovering(|_| {}).await;
    let at =
        |millis: u64| rtm_bridge::clock::Timestamp::now().plus(Duration::from_millis(millis)).to_string();
    let untold = |text: &str, at: &str| {
        let frame = json!({"type": "bot_response", "createdOn": at, "message": [{"cInfo": {"body": text}}]});
        Push::frame(frame.to_string())
    };
    world.control().push(ALICE, untold("yes", &at(0)));
    world.told_until("yes").await;
    // The same again, much later: that is another event, and it is missed.
    world.stop_daemon().await;
    world.control().push(ALICE, untold("yes", &at(10_000)));
    world.control().inject(Fault::once(FaultKind::Delay { at: Endpoint::History, ms: 200 }));
    world.start_daemon().await;
    world.histories(1).await;
    // Live and in the history at once, without an id.
    world.control().push(ALICE, untold("held", &at(20_000)));
    world.told_until("held").await;
    world.restart().await;
    world.all_connected().await;
    world.and_nothing_else(&["yes", "*yes", "held"]).await;
}

#[tokio::test]
async fn the_platforms_clock_may_be_wrong() {
    for skew in [-300_000, 300_000] {
        let world = World::start_on(
            rtm_bridge::sandbox::Settings {
                welcome: None,
                bot: BotScript::Silent,
                clock_skew_ms: skew,
                user_msg_ids: false,
                ..Default::default()
            },
            |config| config.history.timeout = NEVER,
        )
        .await;
        world.all_connected().await;
        let id = world.send(ALICE, "ours").await;
        world.final_status(ALICE, id).await;
        world.miss(&["missed"]).await;
        world.and_nothing_else(&["*missed"]).await;
    }
}

// ---- Who said it.

#[tokio::test]
async fn what_the_user_said_elsewhere_is_recovered_and_what_the_bridge_said_is_not() {
    for user_msg_ids in [true, false] {
        let world = World::recovering(|_| {}).await;
        world.control().configure(|settings| settings.user_msg_ids = user_msg_ids);
        for text in ["Hi", "Hi", "there"] {
            let id = world.send(ALICE, text).await;
            world.final_status(ALICE, id).await;
        }
        world.cut_off().await;
        let elsewhere =
            r#"{"type":"user_message","from":"self","id":5,"message":{"body":"Hi from elsewhere"}}"#;
        world.control().push(ALICE, Push::frame(elsewhere));
        world.bring_back().await;
        world.told_until("Hi from elsewhere").await;
        let event = envelope(&world.receiver.events()[0]);
        assert_eq!((&event["type"], &event["from"]), (&json!("user_message"), &json!("user")));
        assert_eq!((&event["source"], &event["inReplyTo"]), (&json!("history"), &json!(null)));
        assert_eq!(event["data"]["message"]["body"], "Hi from elsewhere");
        world.and_nothing_else(&["*Hi from elsewhere"]).await;
    }
}

#[tokio::test]
async fn the_same_words_as_ours_under_another_id_are_somebody_elses() {
    let world = World::recovering(|_| {}).await;
    let id = world.send(ALICE, "Hi").await;
    world.final_status(ALICE, id).await;
    world.cut_off().await;
    world.control().push(ALICE, Push::frame(r#"{"type":"user_message","id":5,"message":{"body":"Hi"}}"#));
    world.bring_back().await;
    world.and_nothing_else(&["*Hi"]).await;
}

#[tokio::test]
async fn what_came_live_from_elsewhere_is_known() {
    for user_msg_ids in [true, false] {
        let world = World::recovering(|_| {}).await;
        world.control().configure(|settings| settings.user_msg_ids = user_msg_ids);
        world.control().push(ALICE, Push::frame(r#"{"type":"user_message","id":5,"message":{"body":"Hi"}}"#));
        world.told_until("Hi").await;
        world.miss(&[]).await;
        world.and_nothing_else(&["Hi"]).await;
    }
}

#[tokio::test]
async fn an_agents_words_are_recovered_as_the_agents() {
    let world = World::recovering(|_| {}).await;
    world.cut_off().await;
    let agents = r#"{"type":"bot_response","messageId":"ms-1","fromAgent":true,"author":{"firstName":"Ann","lastName":"Lee","type":"AGENT"},"message":[{"cInfo":{"body":"This is Ann."}}]}"#;
    world.control().push(ALICE, Push::frame(agents));
    world.bring_back().await;
    world.told_until("This is Ann.").await;
    let event = envelope(&world.receiver.events()[0]);
    assert_eq!((&event["from"], &event["data"]["fromAgent"]), (&json!("agent"), &json!(true)));
    assert_eq!(event["data"]["author"]["firstName"], "Ann");
}

#[tokio::test]
async fn a_recovered_answer_is_an_answer() {
    let world = World::recovering(|config| config.messages.ack_timeout = NEVER).await;
    world.control().configure(|settings| settings.bot = BotScript::Echo);
    let end = SocketEnd::Drop;
    world.control().inject(Fault::once(FaultKind::EndBeforeAck { taken: Taken::Yes, end }));
    let request = world.request(reqwest::Method::POST, &format!("/v1/users/{ALICE}/messages?wait=reply"));
    let (status, body) = crate::support::answer(request.json(&json!({"text": "Hi"}))).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["replies"][0]["message"][0]["cInfo"]["body"], "echo: Hi");
    assert!(body["replies"][0]["historyRecord"].is_object(), "{body}");
    world.told_until("echo: Hi").await;
    let event = envelope(&world.receiver.events()[0]);
    assert_eq!(event["inReplyTo"], body["clientMessageId"]);
    assert_eq!(sent_texts(&world.control(), ALICE), ["Hi"], "it was found, and not sent again");
}

// ---- Limits and trouble.

#[tokio::test]
async fn more_than_may_be_recovered_at_once_is_reported_and_the_rest_comes_with_the_next() {
    let world = World::recovering(|config| config.history.max_messages = 3).await;
    world.control().configure(|settings| settings.max_page = 2);
    world.miss(&["1", "2", "3", "4", "5"]).await;
    world.told_until("5").await;
    let reason = "more events were missed than are recovered at once (history.max_messages)";
    world.gaps(1).await;
    world.miss(&["6"]).await;
    world.and_nothing_else(&["*3", "*4", "*5", "*1", "*2", "*6"]).await;
    assert_eq!(world.gaps(2).await, [json!([3, false, reason]), json!([3, true, null])]);
}

#[tokio::test]
async fn what_is_too_old_is_reported_and_not_recovered() {
    let mut world = World::recovering(|config| config.history.max_age = Duration::from_secs(3600)).await;
    world.stop_daemon().await;
    // The daemon was down for long: what it knows is a day old.
    let store = world.store();
    let alice = store.user_number(&rtm_bridge::names::UserName::new(ALICE).unwrap()).unwrap();
    let mut record = store.user(alice).unwrap();
    let day = Duration::from_secs(86_400);
    let seen = record.seen.as_mut().unwrap();
    (seen.up_to, seen.alive_at) = (seen.up_to.minus(day), seen.alive_at.minus(day));
    store.save_user(alice, &record).await.unwrap();
    store.close();
    drop(store);
    let hours_ago = rtm_bridge::clock::Timestamp::now().minus(Duration::from_secs(7200)).to_string();
    let old = json!({"type": "bot_response", "messageId": "ms-1", "createdOn": hours_ago, "message": [{"cInfo": {"body": "old"}}]});
    world.control().push(ALICE, Push::frame(old.to_string()));
    world.say("young");
    world.start_daemon().await;
    world.told_until("young").await;
    world.and_nothing_else(&["*young"]).await;
    let reason = "events were missed that are too old to be recovered (history.max_age)";
    assert_eq!(world.gaps(1).await, [json!([1, false, reason])]);
}

#[tokio::test]
async fn a_history_in_trouble_delays_live_events_no_longer_than_its_timeout_and_the_next_gets_it() {
    let (late, failed) = (
        "the platform's history was not read in time (history.timeout)",
        "the platform's history can't be read",
    );
    let troubles = [
        (refuse_history(500, None), HISTORY_TIMEOUT, late),
        (FaultKind::Hang { at: Endpoint::History }, HISTORY_TIMEOUT, late),
        (refuse_history(429, Some("60")), NEVER / 20, late),
        (refuse_history(404, None), NEVER, failed),
    ];
    for (trouble, timeout, reason) in troubles {
        let world = World::recovering(|config| config.history.timeout = timeout).await;
        let holds_the_pace = matches!(&trouble, FaultKind::Refuse { status: 429, .. });
        world.control().inject(Fault::always(trouble.clone()));
        world.miss(&["missed"]).await;
        let began = tokio::time::Instant::now();
        world.say("live");
        world.told_until("live").await;
        assert!(began.elapsed() < 8 * HISTORY_TIMEOUT, "{trouble:?}: {:?}", began.elapsed());
        assert_eq!(world.gaps(1).await, [json!([0, false, reason])], "{trouble:?}");
        if holds_the_pace {
            continue;
        }
        world.control().clear_faults();
        world.miss(&[]).await;
        world.and_nothing_else(&["live", "*missed"]).await;
        assert_eq!(world.gaps(2).await[1], json!([1, true, null]));
    }
}

#[tokio::test]
async fn what_could_not_be_read_is_read_again_on_the_same_connection() {
    let world = World::recovering(|config| config.history.timeout = HISTORY_TIMEOUT).await;
    world.control().inject(Fault::always(refuse_history(500, None)));
    world.miss(&["missed"]).await;
    world.say("live");
    world.told_until("live").await;
    let late = "the platform's history was not read in time (history.timeout)";
    assert_eq!(world.gaps(1).await, [json!([0, false, late])]);
    let connects = world.control().connects(ALICE);
    world.control().clear_faults();
    assert_eq!(world.gaps(2).await[1], json!([1, true, null]));
    world.and_nothing_else(&["live", "*missed"]).await;
    assert_eq!(world.control().connects(ALICE), connects, "nothing was dropped for it");
}

#[tokio::test]
async fn trouble_that_passes_is_got_over() {
    let world = World::recovering(|_| {}).await;
    world.control().configure(|settings| settings.max_page = 2);
    for trouble in [refuse_history(503, Some("1")), refuse_history(500, None), refuse_history(401, None)] {
        world.control().inject(Fault::once(trouble));
    }
    world.miss(&["1", "2", "3"]).await;
    world.and_nothing_else(&["*1", "*2", "*3"]).await;
    assert_eq!(world.gaps(1).await, [json!([3, true, null])]);
}

#[tokio::test]
async fn a_connection_that_drops_during_its_recovery_loses_nothing() {
    let world = World::recovering(|config| config.history.timeout = HISTORY_TIMEOUT).await;
    world.miss_while(FaultKind::Hang { at: Endpoint::History }).await;
    world.say("held");
    world.all_is_read().await;
    world.control().end_sockets(ALICE, &SocketEnd::Drop);
    world.until_state(ALICE, "backing_off").await;
    world.and_nothing_else(&["*missed", "held"]).await;
}

#[tokio::test]
async fn a_stop_during_a_recovery_loses_nothing() {
    let mut world = World::recovering(|_| {}).await;
    world.miss_while(FaultKind::Hang { at: Endpoint::History }).await;
    world.control().push(ALICE, Push::frame(r#"{"type":"session_end"}"#));
    world.control().push(ALICE, Push::text("held"));
    world.restart().await;
    let told = world.told_until("missed").await;
    assert!(told.contains(&"session_end".to_owned()) && told.contains(&"*missed".to_owned()), "{told:?}");
    world.told_until("held").await;
}

/// What came live is known at the next start; what was missed before it must not pass for known with it.
#[tokio::test]
async fn a_stop_during_a_recovery_loses_nothing_however_much_was_said_meanwhile() {
    let mut world = World::recovering(|_| {}).await;
    world.miss_while(FaultKind::Hang { at: Endpoint::History }).await;
    for n in 0..MORE_THAN_A_PAGE {
        world.say(&format!("held {n}"));
    }
    world.all_is_read().await;
    world.restart().await;
    world.told_until("missed").await;
    let told = world.told_until(&format!("held {}", MORE_THAN_A_PAGE - 1)).await;
    assert_eq!(told.iter().filter(|text| *text != GAP).count(), 1 + MORE_THAN_A_PAGE, "{told:?}");
}

#[tokio::test]
async fn more_live_events_than_are_held_back_wait_in_the_socket() {
    let world = World::recovering(|config| {
        config.platform.ping_interval = Duration::from_millis(200);
        config.platform.pong_timeout = Duration::from_millis(200);
    })
    .await;
    world.miss_while(FaultKind::Delay { at: Endpoint::History, ms: 1500 }).await;
    let large = "x".repeat(100_000);
    for _ in 0..40 {
        world.say(&large);
    }
    world.say("last");
    let told = world.told_until("last").await;
    let said = said(&told);
    assert_eq!((said.len(), said[0], said[41]), (42, "missed", "last"));
    assert_eq!(world.control().connects(ALICE), 2, "the socket was not taken for dead");
}

#[tokio::test]
async fn without_recovery_nothing_is_fetched() {
    let world = World::recovering(|config| config.history.recover = false).await;
    world.miss(&["missed"]).await;
    world.and_nothing_else(&[]).await;
    assert_eq!(world.history_requests(), 0);
}
