//! The platform's history through the API: its three sources in one shape.

use std::time::Duration;

use rtm_bridge::{
    config::{Config, Credentials, PrivateKey, RsaAlgorithm},
    names::BotName,
    sandbox::{App, Endpoint, Fault, FaultKind, PageOrder, Push, Settings},
};
use serde_json::{Value, json};

use crate::support::{ALICE, BOB, World, add_user, within};

const SOURCES: [(&str, Endpoint); 3] = [
    ("rtm", Endpoint::History),
    ("botkit", Endpoint::GetMessages),
    ("conversations", Endpoint::Conversations),
];

fn short_patience(config: &mut Config) {
    config.platform.request_timeout = Duration::from_millis(500);
    config.history.recover = false;
}

fn refuse(at: Endpoint, status: u16, retry_after: Option<&str>) -> Fault {
    let retry_after = retry_after.map(str::to_owned);
    Fault::once(FaultKind::Refuse { at, status, retry_after }).for_user(ALICE)
}

impl World {
    async fn history(&self, query: &str) -> (u16, Value) {
        self.get(&format!("/v1/users/{ALICE}/history?{query}")).await
    }
}

fn texts(page: &Value) -> Vec<&str> {
    page["messages"].as_array().unwrap().iter().map(|message| message["text"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn all_sources_have_one_shape_newest_first_whatever_the_platforms_order() {
    for order in [PageOrder::OldestFirst, PageOrder::NewestFirst] {
        let settings =
            Settings { welcome: None, page_order: order, botkit_page_order: order, ..Settings::default() };
        let settings = Settings { conversation_page_order: order, ..settings };
        let world = World::start_on(settings, |_| {}).await;
        world.all_connected().await;
        let id = world.send(ALICE, "Hello").await;
        world.final_status(ALICE, id).await;
        let agent = r#"{"type":"bot_response","messageId":"ms-agent","fromAgent":true,"author":{"type":"AGENT","firstName":"Ann","lastName":"Lee"},"message":[{"cInfo":{"body":"Ann here"}}]}"#;
        world.control().push(ALICE, Push::frame(agent));
        for (source, _) in SOURCES {
            let (status, page) = world.history(&format!("source={source}")).await;
            assert_eq!(status, 200, "{source}: {page}");
            assert_eq!(texts(&page), ["Ann here", "echo: Hello", "Hello"], "{source}, {order:?}");
            assert_eq!((&page["total"], &page["moreAvailable"]), (&json!(3), &json!(false)));
            let message = |at: usize| &page["messages"][at];
            let who = |at: usize| (message(at)["direction"].as_str(), message(at)["from"].as_str());
            assert_eq!(who(0), (Some("outgoing"), Some("agent")));
            assert_eq!(who(1), (Some("outgoing"), Some("bot")));
            assert_eq!(who(2), (Some("incoming"), Some("user")));
            let item = &world.control().history(ALICE)[0];
            assert_eq!(
                (&message(2)["id"], &message(2)["createdOn"]),
                (&json!(item.id), &json!(item.created.to_string()))
            );
            assert_eq!(message(2)["raw"]["components"][0]["data"]["text"], "Hello");
            let keys: Vec<_> = message(0).as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(keys, ["createdOn", "direction", "from", "id", "raw", "text"]);
        }
        let (_, default) = world.history("").await;
        assert_eq!(texts(&default).len(), 3);
    }
}

#[tokio::test]
async fn pages_are_cut_by_limit_and_offset_and_by_the_platform() {
    let world = World::start_silent(|_| {}).await;
    world.control().configure(|settings| settings.max_page = 4);
    for n in 0..10 {
        world.push_text(ALICE, &n.to_string());
    }
    for (source, _) in SOURCES {
        let page = async |query: &str| {
            let (status, page) = world.history(&format!("source={source}&{query}")).await;
            assert_eq!(status, 200, "{page}");
            page
        };
        let first = page("limit=3").await;
        assert_eq!((texts(&first), &first["moreAvailable"]), (vec!["9", "8", "7"], &json!(true)));
        assert_eq!(texts(&page("limit=3&offset=3").await), ["6", "5", "4"]);
        assert_eq!(texts(&page("limit=100").await), ["9", "8", "7", "6"], "the platform gives no more");
        let last = page("limit=3&offset=8").await;
        assert_eq!((texts(&last), &last["moreAvailable"]), (vec!["1", "0"], &json!(false)));
        assert_eq!(page("offset=99").await["messages"], json!([]));
    }
}

#[tokio::test]
async fn conversations_can_be_read_from_a_message_on_either_way() {
    let world = World::start_silent(|_| {}).await;
    for n in 0..6 {
        world.push_text(ALICE, &n.to_string());
    }
    let id = world.control().history(ALICE)[3].id.clone();
    let page = async |query: &str| {
        let (status, page) = world.history(&format!("source=conversations&msgId={id}&{query}")).await;
        assert_eq!(status, 200, "{page}");
        (texts(&page).join(" "), page["moreAvailable"].clone(), page["total"].clone())
    };
    assert_eq!(page("limit=2").await, ("2 1".into(), json!(true), json!(6)));
    assert_eq!(page("direction=older").await, ("2 1 0".into(), json!(false), json!(6)));
    assert_eq!(page("direction=newer").await, ("5 4".into(), json!(false), json!(6)));
    assert_eq!(page("direction=newer&limit=1").await, ("4".into(), json!(true), json!(6)));
}

#[tokio::test]
async fn what_the_app_may_not_read_is_told_with_what_to_do() {
    let world = World::start_with(|config| {
        let bot = config.bots.values_mut().next().unwrap();
        let key = include_str!("../../src/config/fixtures/signing-pkcs8.pem");
        let key = PrivateKey::from_pem(key).unwrap();
        bot.credentials = Credentials::PrivateKey { key, algorithm: RsaAlgorithm::Rs256 };
    })
    .await;
    let key = include_str!("../../src/config/fixtures/signing-pkcs8.pem");
    let key = PrivateKey::from_pem(key).unwrap();
    world.control().trust_public_key(&App::default().client_id, key.public_key());
    world.reconnect(ALICE).await;
    world.all_connected().await;
    for (source, works) in [("rtm", true), ("botkit", false), ("conversations", false)] {
        let (status, answer) = world.history(&format!("source={source}")).await;
        assert_eq!(status, if works { 200 } else { 502 }, "{answer}");
        let detail = answer["detail"].as_str().unwrap_or_default();
        assert!(works || detail.contains("client_secret"), "{detail}");
    }
    let world = World::start_silent(|_| {}).await;
    world.control().configure(|settings| settings.chat_history_scope = false);
    let (status, problem) = world.history("source=conversations").await;
    assert_eq!(status, 502);
    assert!(problem["detail"].as_str().unwrap().contains("grant the app the API scope"), "{problem}");
}

#[tokio::test]
async fn the_platforms_failures_are_502_and_its_silence_504() {
    let world = World::start_silent(short_patience).await;
    for (source, endpoint) in SOURCES {
        for (status, retry_after) in [(500, None), (403, None), (400, None), (503, Some("7")), (429, None)] {
            world.control().inject(refuse(endpoint, status, retry_after));
            let (got, problem) = world.history(&format!("source={source}")).await;
            assert_eq!(
                (got, &problem["code"]),
                (502, &json!("platform_failed")),
                "{source} {status}: {problem}"
            );
            let secret = App::default().client_secret;
            assert!(!problem.to_string().contains(&secret), "{problem}");
        }
        world.control().inject(Fault::once(FaultKind::Hang { at: endpoint }).for_user(ALICE));
        let (got, problem) = world.history(&format!("source={source}")).await;
        assert_eq!((got, &problem["code"]), (504, &json!("platform_silent")), "{problem}");
        let (got, page) = world.history(&format!("source={source}")).await;
        assert_eq!(got, 200, "none of that lasts: {page}");
    }
}

#[tokio::test]
async fn a_platform_that_can_not_be_reached_is_502() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = World::start_with(|config| {
        config.platform.url = format!("http://{nobody}").parse().unwrap();
    })
    .await;
    for (source, _) in SOURCES {
        let (got, problem) = world.history(&format!("source={source}")).await;
        assert_eq!((got, &problem["code"]), (502, &json!("platform_failed")), "{problem}");
    }
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_and_for_all() {
    let world = World::start_silent(short_patience).await;
    world.push_text(ALICE, "said");
    world.control().revoke(ALICE);
    let grants = world.control().request_count(Endpoint::Jwtgrant);
    for _ in 0..3 {
        let (status, page) = world.history("").await;
        assert_eq!((status, texts(&page)), (200, vec!["said"]));
    }
    assert_eq!(world.control().request_count(Endpoint::Jwtgrant), grants + 1);
    world.control().inject(refuse(Endpoint::Jwtgrant, 401, None));
    world.control().revoke(ALICE);
    let (status, problem) = world.history("").await;
    assert_eq!((status, &problem["code"]), (502, &json!("platform_failed")), "{problem}");
}

#[tokio::test]
async fn a_user_who_never_connected_signs_in_for_it() {
    let world = World::start_with(|config| {
        short_patience(config);
        add_user(config, BOB);
        config.platform.unauthorized_retry = Duration::from_secs(600);
        let bot = BotName::new("support").unwrap();
        let wrong = rtm_bridge::config::Bot {
            credentials: Credentials::client_secret("wrong"),
            ..config.bots[&bot].clone()
        };
        let other = BotName::new("other").unwrap();
        config.bots.insert(other.clone(), wrong);
        config.users.get_mut(BOB).unwrap().bot = other;
    })
    .await;
    world.until_state(BOB, "unauthorized").await;
    for (source, _) in SOURCES {
        let (status, problem) = world.get(&format!("/v1/users/{BOB}/history?source={source}")).await;
        assert_eq!((status, &problem["code"]), (502, &json!("platform_failed")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("client_secret"), "{problem}");
    }
}

#[tokio::test]
async fn callers_leave_the_bots_pace_to_its_connections() {
    let world = World::start_silent(|config| {
        config.platform.request_rate = 0.001;
        config.platform.request_burst = 12;
    })
    .await;
    let mut answered = 0;
    let problem = loop {
        let (status, body) = world.history("").await;
        match status {
            200 => answered += 1,
            _ => break (status, body),
        }
    };
    assert_eq!((problem.0, &problem.1["code"]), (503, &json!("platform_busy")), "{}", problem.1);
    assert!(answered <= 6, "{answered}");
    let connects = world.control().connects(ALICE);
    world.reconnect(ALICE).await;
    within("a connection all the same", world.control().wait_connects(ALICE, connects + 1)).await;
}

#[tokio::test]
async fn bad_queries_are_refused_before_the_platform_is_asked() {
    let world = World::start_silent(|_| {}).await;
    let before = SOURCES.map(|(_, endpoint)| world.control().request_count(endpoint));
    for (query, key) in [
        ("source=public", "source"),
        ("source=", "source"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("offset=-1", "offset"),
        ("offset=x", "offset"),
        ("skip=1", "skip"),
        ("msgId=ms-1", "msgId"),
        ("source=botkit&msgId=ms-1", "msgId"),
        ("source=conversations&msgId=", "msgId"),
        ("source=conversations&msgId=ms-1&offset=2", "offset"),
        ("source=conversations&msgId=ms-1&direction=-1", "direction"),
        ("source=conversations&direction=older", "direction"),
    ] {
        let (status, body) = world.history(query).await;
        let got = (status, &body["code"], &body["key"]);
        assert_eq!(got, (400, &json!("malformed_query"), &json!(key)), "{query}: {body}");
    }
    let (status, _) = world.get("/v1/users/nobody/history").await;
    assert_eq!(status, 404);
    assert_eq!(SOURCES.map(|(_, endpoint)| world.control().request_count(endpoint)), before);
}
