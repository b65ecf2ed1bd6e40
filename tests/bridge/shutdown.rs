//! The end: bounded, orderly, and nothing is lost by it.

use std::time::{Duration, Instant};

use reqwest::Method;
use rtm_bridge::{
    config::Streaming,
    daemon::{Daemon, StartError},
    sandbox::{BotScript, Endpoint, Fault, FaultKind, Push},
};
use serde_json::json;

use crate::support::{ALICE, BOB, World, add_user, answer, crm, delivered, texts, within};

/// A stop may take no longer, whatever hangs.
const BOUND: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_hung_webhook_and_a_hung_platform_do_not_hold_up_the_end() {
    let mut world = World::start_with(|config| add_user(config, BOB)).await;
    world.control().configure(|settings| settings.bot = BotScript::Silent);
    world.all_connected().await;
    // Alice's delivery hangs, her message waits for its ack; bob waits for a token, or a URL.
    world.receiver.hold();
    world.control().push(ALICE, Push::text("Hi"));
    within("the delivery", world.receiver.wait_attempts(1)).await;
    world.control().inject(Fault::once(FaultKind::LostMessage));
    let id = world.send(ALICE, "lost").await;
    within("the message", world.control().wait_messages(ALICE, 1)).await;
    let starts = world.control().requests_of(BOB, Endpoint::RtmStart).len();
    world.control().inject(Fault::always(FaultKind::Hang { at: Endpoint::RtmStart }).for_user(BOB));
    world.reconnect(BOB).await;
    within("bob's request", world.control().wait_requests_of(BOB, Endpoint::RtmStart, starts + 1)).await;

    let began = Instant::now();
    world.stop_daemon().await;
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    assert_eq!(within("alice's goodbye", world.control().wait_goodbyes(ALICE, 1)).await, [1001]);

    world.control().clear_faults();
    world.receiver.release();
    let seen = world.receiver.events().len();
    world.start_daemon().await;
    let again = delivered(&world, seen + 1).await;
    assert_eq!(texts(&again).last().unwrap(), "Hi", "what had no answer is delivered again");
    assert_eq!(world.final_status(ALICE, id).await["status"], "acked");
    world.until_state(BOB, "connected").await;
}

/// A part of a streamed answer.
fn chunk(text: &str, is_last: bool) -> String {
    json!({"type": "bot_response", "messageId": "ms-1", "sM": true, "endChunk": is_last,
        "message": [{"type": "text", "component": {"type": "text", "payload": {"text": text}}}]})
    .to_string()
}

#[tokio::test]
async fn an_upload_a_streamed_answer_and_a_waiting_caller_are_cut_off_in_order() {
    let mut world = World::start_silent(|config| crm(config).streaming = Streaming::Assembled).await;
    // An answer of which one part is there, a file that the platform doesn't take, and a caller who waits
    // for an answer.
    world.control().push_raw(ALICE, chunk("Once ", false));
    world.control().push(ALICE, Push::text("meanwhile"));
    assert_eq!(texts(&delivered(&world, 1).await), ["meanwhile"]);
    world.control().inject(Fault::always(FaultKind::Hang { at: Endpoint::FileUpload }));
    let file = world.request(Method::POST, &format!("/v1/users/{ALICE}/attachments?name=a.txt"));
    let file = file.header("content-type", "application/octet-stream").body("hello");
    let waiting = world.request(Method::POST, &format!("/v1/users/{ALICE}/messages?wait=reply&timeout=50s"));
    let waiting = waiting.json(&json!({"text": "Hi", "clientMessageId": 7}));
    let asking = [file, waiting].map(|request| tokio::spawn(answer(request)));
    within("the file", world.control().wait_requests_of(ALICE, Endpoint::FileUpload, 1)).await;
    within("the message", world.control().wait_messages(ALICE, 1)).await;

    let began = Instant::now();
    world.stop_daemon().await;
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    assert_eq!(within("the goodbye", world.control().wait_goodbyes(ALICE, 1)).await, [1001]);
    for asked in asking {
        let (status, answer) = within("an answer", asked).await.unwrap();
        assert_eq!((status, &answer["code"]), (503, &json!("shutting_down")), "{answer}");
    }

    world.control().clear_faults();
    world.start_daemon().await;
    world.all_connected().await;
    assert_eq!(world.final_status(ALICE, 7).await["status"], "acked");
    world.control().push_raw(ALICE, chunk("upon ", false));
    world.control().push_raw(ALICE, chunk("a time", true));
    assert_eq!(texts(&delivered(&world, 2).await)[1], "Once upon a time");
}

#[tokio::test]
async fn sockets_are_closed_with_1001_and_listeners_are_gone() {
    let mut world = World::start_with(|config| add_user(config, BOB)).await;
    world.all_connected().await;
    let (api, ops) = (world.daemon().api_address(), world.daemon().ops_address());
    world.stop_daemon().await;
    for user in [ALICE, BOB] {
        assert_eq!(within("the goodbye", world.control().wait_goodbyes(user, 1)).await, [1001]);
    }
    for address in [api, ops] {
        let refused = world.http.get(format!("http://{address}/livez")).send().await;
        assert!(refused.is_err_and(|error| error.is_connect()), "{address}");
    }
}

#[tokio::test]
async fn a_second_daemon_on_the_same_store_is_refused_and_the_first_goes_on() {
    let mut world = World::start().await;
    let second = within("the second daemon", Daemon::start(&world.config)).await.unwrap_err();
    assert!(matches!(second, StartError::Open(_)) && !second.needs_a_person(), "{second:?}");
    assert!(second.to_string().contains(world.config.store.path.to_str().unwrap()), "{second}");
    let id = world.send(ALICE, "Hi").await;
    assert_eq!(world.final_status(ALICE, id).await["status"], "acked");
    // Once the first is gone, another may have it.
    world.restart().await;
    assert_eq!(world.status(ALICE, id).await["status"], "acked");
}

#[tokio::test]
async fn an_idle_end_is_quick() {
    let mut world = World::start().await;
    world.all_connected().await;
    let began = Instant::now();
    world.stop_daemon().await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_comes_in_while_the_end_is_near_is_accepted_or_refused_but_never_lost() {
    let mut world = World::start().await;
    world.all_connected().await;
    let requests: Vec<_> = (0..40)
        .map(|n| world.message(ALICE).json(&json!({"text": format!("{n}"), "clientMessageId": n + 1})))
        .collect();
    let sending = tokio::spawn(async {
        let mut accepted = Vec::new();
        for (index, request) in requests.into_iter().enumerate() {
            if request.send().await.is_ok_and(|response| response.status() == 202) {
                accepted.push(index as u64 + 1);
            }
        }
        accepted
    });
    within("the first", world.control().wait_messages(ALICE, 5)).await;
    world.stop_daemon().await;
    let accepted = within("all answers", sending).await.unwrap();
    assert!(accepted.len() >= 5);
    world.start_daemon().await;
    for id in accepted {
        assert_eq!(world.final_status(ALICE, id).await["status"], "acked");
    }
}
