//! Pictures of the page, for people who change it.

use std::path::PathBuf;

use rtm_bridge::{
    clock::Timestamp,
    config::{Client, Scopes, Secret},
    names::ClientName,
    receiver::Reply,
    sandbox::{BotScript, Push},
    users::{ConnectionState, UserStatus},
};

use crate::{
    browser::{self, Key, Tab},
    crowd,
    status::page_of,
    support::{ALICE, World, add_user, add_webhook, crm, eventually},
};

async fn take(tab: &Tab, name: &str, whole: bool) {
    let Some(directory) = std::env::var_os("PAGE_PICTURES").map(PathBuf::from) else {
        panic!("PAGE_PICTURES says where the pictures are to go");
    };
    tab.picture(whole, &directory.join(format!("{name}.png"))).await;
}

async fn take_all(tab: &Tab, name: &str) {
    for (screen, width, height, scheme) in
        [("light", 1440, 900, "light"), ("dark", 1440, 900, "dark"), ("phone", 390, 844, "light")]
    {
        tab.look_like(width, height, scheme).await;
        tab.eval("new Promise((drawn) => setTimeout(drawn, 300))").await;
        take(tab, &format!("{name}-{screen}"), screen == "phone").await;
    }
}

/// Users and webhooks in all states, dead letters, events, messages.
async fn lively() -> World {
    let world = World::start_with(|config| {
        for name in ["bob", "carol", "support-desk-berlin@example.com", "erin", "frank"] {
            add_user(config, name);
        }
        config.platform.unauthorized_retry = std::time::Duration::from_secs(3600);
        add_webhook(config, "archive", |_| {});
        add_webhook(config, "gone", |_| {});
        add_webhook(config, "ticketing", |webhook| {
            webhook.backoff_min = std::time::Duration::from_secs(60);
            webhook.backoff_max = std::time::Duration::from_secs(300);
        });
        crm(config).events = rtm_bridge::config::EventFilter::All;
    })
    .await;
    world.receiver.rule(|event| match event.headers.get("x-webhook").map(|name| name.to_str().unwrap()) {
        Some("ticketing") => Some(Reply::status(503).body("down for maintenance")),
        Some("gone") => Some(Reply::status(410)),
        None if event.text.as_deref().is_some_and(|text| text.contains("order")) => {
            Some(Reply::status(422).body("{\"error\": \"no such customer\", \"customer\": 4711}"))
        }
        _ => None,
    });
    world.all_connected().await;
    for (user, text) in [
        (ALICE, "Where is my order 1234?"),
        ("bob", "Hello there"),
        ("carol", "I want to talk to a human"),
        ("erin", "agent"),
        (
            "support-desk-berlin@example.com",
            "Cancel order 99 please, I have been waiting for three weeks and nobody answers",
        ),
    ] {
        let id = world.send(user, text).await;
        world.final_status(user, id).await;
    }
    world.control().configure(|settings| settings.bot = BotScript::Silent);
    world.control().push("bob", Push::text("<img src=x onerror=alert(1)> \u{1b}[31mred\u{202e}"));
    world
}

#[tokio::test]
#[ignore = "makes files, for people to look at"]
async fn of_a_lively_bridge() {
    let browser = browser::find("pictures").expect("a browser");
    let world = lively().await;
    let frank = world.daemon().users().get("frank").unwrap();
    let carol = world.daemon().users().get("carol").unwrap();
    let (since, at) = (Timestamp::now(), Timestamp::from_millis(Timestamp::now().as_millis() - 7_200_000));
    frank.set_status(UserStatus {
        state: ConnectionState::Unauthorized,
        since: at,
        last_error: Some("the platform refuses the credentials (jwtgrant: 401 \"Invalid client id or secret\"); check client_id and client_secret".into()),
        attempts: 118,
    });
    carol.set_status(UserStatus {
        state: ConnectionState::BackingOff,
        since,
        last_error: Some("the platform could not be reached: connection refused".into()),
        attempts: 4,
    });
    eventually("dead letters", || async {
        let (_, body) = world.get("/v1/dead-letters").await;
        (body["deadLetters"].as_array().unwrap().len() >= 2).then_some(())
    })
    .await;
    let mut tab = browser.unhurried_tab().await;
    tab.open(&page_of(&world)).await;
    tab.until("document.querySelectorAll('#letters tbody tr').length >= 2").await;
    tab.until("document.querySelectorAll('#users tbody tr').length === 6").await;
    for n in 0..14 {
        world.control().push(
            ["bob", ALICE, "erin"][n % 3],
            Push::text(
                [
                    "Your parcel is on its way.",
                    "Is there anything else I can do for you today? You can also call us between 9 and 5.",
                    "Bye!",
                ][n % 3],
            ),
        );
    }
    tab.until("document.querySelectorAll('#events li').length >= 14").await;
    take_all(&tab, "lively").await;
    tab.look_like(1440, 900, "light").await;
    tab.click("document.querySelector('#letters .link')").await;
    tab.until("document.querySelector('#sheet dl')").await;
    take_all(&tab, "letter").await;
    tab.press(Key::Escape).await;
    tab.look_like(1440, 900, "light").await;
    tab.click("[...document.querySelectorAll('#users .link')].find((link) => link.textContent === 'alice')")
        .await;
    tab.until("document.querySelector('#sheet dl')").await;
    take_all(&tab, "user").await;
    tab.press(Key::Escape).await;
    tab.look_like(1440, 900, "light").await;
    tab.click("document.querySelector('#letters .do button')").await;
    take_all(&tab, "confirm").await;
    tab.look_like(1440, 900, "light").await;
    tab.click("document.querySelector('#confirm .yes')").await;
    tab.until("!document.querySelector('#outcome').hidden").await;
    take_all(&tab, "outcome").await;
}

#[tokio::test]
#[ignore = "makes files, for people to look at"]
async fn of_an_idle_bridge_and_one_with_clients() {
    let browser = browser::find("pictures").expect("a browser");
    let mut world = World::start().await;
    let mut tab = browser.unhurried_tab().await;
    tab.open(&page_of(&world)).await;
    tab.until("document.querySelectorAll('#users tbody tr').length === 1").await;
    take_all(&tab, "idle").await;
    world.stop_daemon().await;
    tab.until("document.querySelector('#trouble').textContent").await;
    take_all(&tab, "lost").await;
    let client =
        Client { tokens: vec![Secret::new("t")], users: vec!["*".into()], scopes: Scopes::ALL, rate: None };
    world.config.clients.insert(ClientName::new("ops").unwrap(), client);
    world.start_daemon().await;
    tab.open(&page_of(&world)).await;
    tab.until("!document.querySelector('#entry').hidden").await;
    tab.type_into("document.querySelector('#token')", "wrong").await;
    tab.click("document.querySelector('#token-form button')").await;
    tab.until("document.querySelector('#token-problem').textContent").await;
    take_all(&tab, "entry").await;
}

#[tokio::test]
#[ignore = "makes files, for people to look at"]
async fn of_ten_thousand_users() {
    let browser = browser::find("pictures").expect("a browser");
    let world = World::start().await;
    crowd::join(&world, 9_999);
    let mut tab = browser.unhurried_tab().await;
    tab.open(&page_of(&world)).await;
    tab.until("document.querySelector('#users-states').textContent.includes('10,000')").await;
    take_all(&tab, "crowd").await;
}
