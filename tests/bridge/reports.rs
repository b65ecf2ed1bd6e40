//! The bridge's own events: what it reports, to whom, and in which order.

use std::time::Duration;

use rtm_bridge::{
    config::{BodyFormat, Config, EventFilter},
    names::UserName,
    sandbox::{Endpoint, Fault, FaultKind, SocketEnd, Taken},
    store::StoredEvent,
};
use serde_json::{Value, json};

use crate::support::{
    ALICE, BOB, Request, World, add_user, add_webhook, at_webhook, crm, delivered, envelope, within,
};

fn only(types: &[&str]) -> EventFilter {
    EventFilter::Only(types.iter().map(|event_type| (*event_type).to_owned()).collect())
}

/// The webhook `crm` wants these types.
fn wants(types: &[&str]) -> impl FnOnce(&mut Config) {
    let filter = only(types);
    move |config| crm(config).events = filter
}

fn types(events: &[Request]) -> Vec<String> {
    events.iter().map(|event| envelope(event)["type"].as_str().unwrap().to_owned()).collect()
}

fn data(event: &Request) -> Value {
    envelope(event)["data"].clone()
}

fn states(events: &[Request]) -> Vec<String> {
    let connections = events.iter().filter(|event| envelope(event)["type"] == "bridge.connection");
    connections.map(|event| data(event)["state"].as_str().unwrap().to_owned()).collect()
}

impl World {
    /// The bridge's own events of a user, as they lie in the store of a daemon that was stopped.
    fn stored_reports(&self, user: &str) -> Vec<StoredEvent> {
        let store = self.store();
        let number = store.user_number(&UserName::new(user).unwrap()).unwrap();
        let events: Vec<_> = store.events_after(number, 0).map(Result::unwrap).collect();
        events.into_iter().filter(|event| event.kind.starts_with("bridge.")).collect()
    }
}

#[tokio::test]
async fn a_messages_end_is_reported_as_the_api_shows_it() {
    let world = World::start_silent(wants(&["bridge.message"])).await;
    let id = world.send(ALICE, "Hello").await;
    let status = world.final_status(ALICE, id).await;
    let event = &delivered(&world, 1).await[0];
    let mut body = envelope(event);
    assert_eq!(body["timestamp"], status["ackedAt"]);
    body["timestamp"] = json!("checked");
    let expected = json!({
        "type": "bridge.message", "timestamp": "checked", "user": "alice", "bot": "support", "sequence": 1,
        "inReplyTo": null, "source": "live", "from": "platform", "text": null, "data": status,
    });
    assert_eq!(body, expected);
    assert_eq!(event.headers["bridge-event"], "bridge.message");
    assert_eq!((&status["status"], &status["delivery"]), (&json!("acked"), &json!("confirmed")));
}

#[tokio::test]
async fn every_kind_of_end_is_reported() {
    let world = World::start_silent(|config| {
        wants(&["bridge.message"])(config);
        config.messages.ttl = Duration::from_secs(2);
    })
    .await;
    let control = world.control();
    control.inject(Fault::once(FaultKind::NegativeAck).for_user(ALICE));
    world.send(ALICE, "refused").await;
    delivered(&world, 1).await;
    let end = SocketEnd::close(1009);
    control.inject(Fault::once(FaultKind::EndBeforeAck { taken: Taken::No, end }).for_user(ALICE));
    world.send(ALICE, "too large").await;
    delivered(&world, 2).await;
    world.all_connected().await;
    let typing = json!({"resourceid": "/bot.message", "event": "typing"});
    let (status, body) = world.post(ALICE, typing).await;
    assert_eq!(status, 202, "{body}");
    delivered(&world, 3).await;
    world.cut_off().await;
    world.send(ALICE, "too late").await;
    let events = delivered(&world, 4).await;
    let ends: Vec<_> =
        events.iter().map(data).map(|data| (data["status"].clone(), data["reason"].clone())).collect();
    let expected = [
        (json!("rejected"), json!("refused_by_platform")),
        (json!("rejected"), json!("too_large")),
        (json!("sent"), json!(null)),
        (json!("expired"), json!("ttl")),
    ];
    assert_eq!(ends, expected);
}

#[tokio::test]
async fn what_expires_while_nobody_runs_is_reported_at_the_next_start() {
    let mut world = World::start_silent(|config| {
        wants(&["bridge.message"])(config);
        config.messages.ttl = Duration::from_millis(200);
    })
    .await;
    world.cut_off().await;
    let id = world.send(ALICE, "too late").await;
    world.stop_daemon().await;
    world.start_daemon().await;
    let event = &delivered(&world, 1).await[0];
    assert_eq!((&data(event)["status"], &data(event)["clientMessageId"]), (&json!("expired"), &json!(id)));
    assert_eq!(data(event), world.status(ALICE, id).await);
}

#[tokio::test]
async fn a_removed_users_webhooks_are_told_how_its_messages_ended() {
    let mut world = World::start_silent(|config| {
        add_user(config, BOB);
        wants(&["bridge.message"])(config);
    })
    .await;
    world.cut_off().await;
    let id = world.send(BOB, "never sent").await;
    world.stop_daemon().await;
    let removed = world.config.users.remove(BOB).unwrap();
    world.start_daemon().await;
    let event = &delivered(&world, 1).await[0];
    assert_eq!((event.user.as_str(), event.sequence), (BOB, Some(1)));
    let expected = (json!(id), json!("expired"), json!("user_removed"), json!("none"));
    let told = data(event);
    let told = ["clientMessageId", "status", "reason", "delivery"].map(|key| told[key].clone());
    assert_eq!(told, <[Value; 4]>::from(expected));

    // It is told once, also when the user returns.
    world.config.users.insert(UserName::new(BOB).unwrap(), removed);
    world.stop_daemon().await;
    within("the platform to listen again", world.control().listen_again()).await;
    world.start_daemon().await;
    world.all_connected().await;
    let second = world.send(BOB, "sent").await;
    world.final_status(BOB, second).await;
    let events = delivered(&world, 2).await;
    assert_eq!((events[1].sequence, &data(&events[1])["clientMessageId"]), (Some(2), &json!(second)));
}

#[tokio::test]
async fn an_outage_is_told_once_however_many_tries_it_takes() {
    let world = World::start_silent(wants(&["bridge.connection"])).await;
    let refused = FaultKind::Refuse { at: Endpoint::RtmStart, status: 503, retry_after: None };
    for _ in 0..2 {
        world.control().inject(Fault::once(refused.clone()));
    }
    world.control().end_sockets(ALICE, &SocketEnd::Drop);
    let told = delivered(&world, 4).await;
    world.control().wait_faults_over().await;
    assert_eq!(states(&told), ["connected", "backing_off", "connecting", "connected"]);
    // And the next one is news again.
    world.control().end_sockets(ALICE, &SocketEnd::Drop);
    assert_eq!(states(&delivered(&world, 7).await)[4..], ["backing_off", "connecting", "connected"]);
}

#[tokio::test]
async fn each_new_state_of_a_connection_is_reported_in_its_place() {
    let world = World::start_silent(wants(&["bridge.connection", "bot_response"])).await;
    let control = world.control();
    let say = |text: &str| {
        let message = json!([{"type": "text", "cInfo": {"body": text}}]);
        let frame = json!({"type": "bot_response", "messageId": text, "message": message});
        assert_eq!(control.push_raw(ALICE, frame.to_string()), 1);
    };
    say("one");
    delivered(&world, 2).await;
    control.end_sockets(ALICE, &SocketEnd::close(1001));
    let events = delivered(&world, 5).await;
    say("two");
    let told = delivered(&world, 6).await;
    assert_eq!(events[..], told[..5]);
    let bot = "bot_response".to_owned();
    let connection = "bridge.connection".to_owned();
    assert_eq!(
        types(&told),
        [&connection, &bot, &connection, &connection, &connection, &bot].map(Clone::clone)
    );
    assert_eq!(states(&told), ["connected", "backing_off", "connecting", "connected"]);
    let sequences: Vec<_> = told.iter().filter_map(|event| event.sequence).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5, 6]);

    let backing_off = envelope(&told[2]);
    let mut status = backing_off["data"].clone();
    assert_eq!((&backing_off["from"], &backing_off["text"]), (&json!("platform"), &json!(null)));
    assert!(status["since"].as_str().unwrap() <= backing_off["timestamp"].as_str().unwrap());
    status["since"] = json!("checked");
    let error = "the platform closed the connection (1001)";
    let expected = json!({"state": "backing_off", "since": "checked", "lastError": error, "attempts": 1});
    assert_eq!(status, expected);
}

#[tokio::test]
async fn reports_come_to_those_who_name_them_and_frames_that_look_like_them_do_not() {
    let world = World::start_silent(|config| {
        crm(config).events = EventFilter::All;
        let mut add =
            |name: &str, events: EventFilter| add_webhook(config, name, |webhook| webhook.events = events);
        add("both", EventFilter::AllAnd(vec!["bridge.message".to_owned()]));
        add("named", only(&["bridge.message"]));
    })
    .await;
    let id = world.send(ALICE, "Hello").await;
    world.final_status(ALICE, id).await;
    let forged = json!({"type": "bridge.message", "status": "acked", "clientMessageId": id}).to_string();
    world.control().push_raw(ALICE, forged.clone());
    world.control().push_raw(ALICE, r#"{"type":"typing"}"#);
    // Every connection begins with a frame or two of the platform's own.
    let is_last = |event: &Request| envelope(event)["type"] == "typing";
    let events = within("the last frame at two webhooks", async {
        let mut count = 1;
        loop {
            let events = world.receiver.wait_events(count).await;
            if events.iter().filter(|event| is_last(event)).count() == 2 {
                return events;
            }
            count = events.len() + 1;
        }
    })
    .await;
    let reports = |webhook: &str| {
        let all = at_webhook(&events, webhook);
        let alike = all.iter().map(|event| envelope(event)).filter(|body| body["type"] == "bridge.message");
        alike.map(|body| body["data"]["ack"].is_object()).collect::<Vec<_>>()
    };
    // true: the report; false: the forged frame.
    assert_eq!(reports("crm"), [false]);
    assert_eq!(reports("both"), [true, false]);
    assert_eq!(reports("named"), [true]);
    let connections = events.iter().filter(|event| envelope(event)["type"] == "bridge.connection").count();
    assert_eq!(connections, 0, "nobody named it");
}

#[tokio::test]
async fn as_a_frame_a_report_is_its_data_alone() {
    let world = World::start_silent(|config| {
        wants(&["bridge.message"])(config);
        crm(config).format = BodyFormat::Frame;
    })
    .await;
    let id = world.send(ALICE, "Hello").await;
    let status = world.final_status(ALICE, id).await;
    let event = &delivered(&world, 1).await[0];
    assert_eq!(serde_json::from_slice::<Value>(&event.body).unwrap(), status);
    assert_eq!(event.headers["bridge-event"], "bridge.message");
}

#[tokio::test]
async fn reports_wait_for_their_webhook_over_a_restart() {
    let mut world = World::start_silent(wants(&["bridge.message"])).await;
    world.receiver.fail(Some("503".parse().unwrap()));
    let mut ids = Vec::new();
    for text in ["one", "two", "three"] {
        ids.push(world.send(ALICE, text).await);
    }
    for id in &ids {
        world.final_status(ALICE, *id).await;
    }
    world.restart().await;
    world.receiver.fail(None);
    let events = delivered(&world, 3).await;
    let told: Vec<_> = events.iter().map(|event| data(event)["clientMessageId"].as_u64().unwrap()).collect();
    assert_eq!(told, ids);
    assert_eq!(events.iter().filter_map(|event| event.sequence).collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test]
async fn reports_are_kept_as_recent_events_of_users_without_webhooks() {
    let mut world =
        World::start_silent(|config| config.users.values_mut().for_each(|user| user.webhooks.clear())).await;
    let id = world.send(ALICE, "Hello").await;
    let status = world.final_status(ALICE, id).await;
    world.stop_daemon().await;
    let reports = world.stored_reports(ALICE);
    let kinds: Vec<_> = reports.iter().map(|event| &*event.kind).collect();
    assert_eq!(kinds, ["bridge.connection", "bridge.message", "bridge.connection"]);
    assert_eq!(serde_json::from_slice::<Value>(&reports[1].frame).unwrap(), status);
    let ended: Value = serde_json::from_slice(&reports[2].frame).unwrap();
    assert_eq!(ended["state"], "connecting", "a stopped connection is not connected any more");
}
