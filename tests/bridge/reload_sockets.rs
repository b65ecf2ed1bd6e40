//! What a reload leaves alone: which changes touch no socket, and which touch those of one bot's users only.

use std::time::Duration;

use rtm_bridge::{
    config::{
        self, Config, Credentials, EventFilter, HistorySource, PrivateKey, ReconnectQuery, RsaAlgorithm,
        Scopes, Secret, Streaming, TokenService, TokenServiceBody,
    },
    names::{BotName, ClientName, UserName, WebhookName},
    sandbox::{AgentPlay, App, Endpoint, Persona, Push, SocketEnd},
};
use serde_json::json;

use crate::support::{
    ALICE, BOB, Request, World, add_user, add_webhook, at_webhook, crm, delivered, envelope, texts, within,
};

/// What a user needs to open a socket.
const SIGNING_IN: [Endpoint; 3] = [Endpoint::Jwtgrant, Endpoint::RtmStart, Endpoint::Sts];

fn support(config: &mut Config) -> &mut config::Bot {
    config.bots.get_mut("support").unwrap()
}

/// Another bot, with the app of the first.
fn add_bot(config: &mut Config, name: &str) {
    let bot = support(config).clone();
    config.bots.insert(BotName::new(name).unwrap(), bot);
}

fn private_key() -> PrivateKey {
    PrivateKey::from_pem(include_str!("../../src/config/fixtures/signing-pkcs8.pem")).unwrap()
}

fn signed_with_a_key() -> Credentials {
    Credentials::PrivateKey { key: private_key(), algorithm: RsaAlgorithm::Rs256 }
}

/// The sandbox's own.
fn token_service(config: &Config, secret: &str) -> Credentials {
    Credentials::TokenService(TokenService {
        url: config.platform.url.join("/sandbox/sts").unwrap(),
        bearer: None,
        headers: Vec::new(),
        body: TokenServiceBody::Json,
        fields: vec![("clientSecret".into(), Secret::new(secret))],
        jwt_field: "jwt".into(),
    })
}

impl World {
    fn sign_ins(&self) -> u64 {
        SIGNING_IN.iter().map(|endpoint| self.control().request_count(*endpoint)).sum()
    }
}

type Change = fn(&mut Config);

/// Changes in a row, and what each is said to be.
const HARMLESS: &[(&str, Change)] = &[
    ("[messages] changed", |config| {
        config.messages.ttl = Duration::from_secs(60);
        config.messages.in_flight = 3;
    }),
    ("[history] changed", |config| config.history.max_messages = 7),
    ("[log] changed", |config| config.log.level = "debug".to_owned()),
    ("[platform] changed", |config| {
        let platform = &mut config.platform;
        platform.ping_interval = Duration::from_secs(60);
        platform.request_timeout = Duration::from_secs(20);
        platform.request_rate = 900.0;
        platform.max_frame = 1024 * 1024;
        platform.reconnect_query = ReconnectQuery::ConnectionMode;
        platform.secure_handshake = true;
        platform.jwt_lifetime = Duration::from_secs(60);
    }),
    ("[platform] changed", |config| config.platform.secure_handshake = false),
    ("1 bot changed", |config| support(config).history = HistorySource::Botkit),
    ("1 bot changed", |config| support(config).history = HistorySource::Conversations),
    ("1 bot changed", |config| support(config).credentials = signed_with_a_key()),
    ("1 bot changed", |config| support(config).credentials = token_service(config, "a secret")),
    ("1 bot changed", |config| {
        support(config).credentials = Credentials::client_secret(App::default().client_secret);
    }),
    ("1 bot added", |config| add_bot(config, "sales")),
    ("1 bot removed", |config| drop(config.bots.remove("sales"))),
    ("1 webhook changed", |config| {
        let crm = crm(config);
        crm.timeout = Duration::from_secs(3);
        crm.transcript = 5;
        crm.streaming = Streaming::Assembled;
        crm.events = EventFilter::All;
        crm.secrets.clear();
        crm.headers = vec![("x-tenant".to_owned(), Secret::new("7"))];
    }),
    ("2 users changed, 1 webhook added", |config| add_webhook(config, "erp", |_| {})),
    ("2 users changed, 1 webhook removed", |config| {
        config.webhooks.remove("erp");
        config.users.values_mut().for_each(|user| user.webhooks.retain(|name| name.as_str() != "erp"));
    }),
    ("1 user changed", |config| config.users.get_mut(BOB).unwrap().webhooks.clear()),
    ("1 client added", |config| {
        let (tokens, users) = (vec![Secret::new("the-token-of-the-crm")], vec!["*".to_owned()]);
        let client = config::Client { tokens, users, scopes: Scopes::ALL, rate: None };
        config.clients.insert(ClientName::new("crm").unwrap(), client);
    }),
    ("1 client changed", |config| {
        config
            .clients
            .values_mut()
            .for_each(|client| client.tokens.push(Secret::new("another-token-of-the-crm")));
    }),
    ("1 client removed", |config| config.clients.clear()),
    ("1 user added", |config| add_user(config, "carol")),
    ("1 user removed", |config| drop(config.users.remove("carol"))),
];

#[tokio::test]
async fn what_needs_no_other_socket_touches_none() {
    let mut world = World::start_silent(|config| add_user(config, BOB)).await;
    let before = world.sign_ins();
    for (said, change) in HARMLESS {
        assert_eq!(world.reload(change).await.to_string(), *said);
        if *said == "1 user added" {
            // So that nobody is still on the way in when the sign-ins are counted.
            world.until_state("carol", "connected").await;
        }
    }
    // Whatever the sessions were told, they have heard when a message went through.
    for name in [ALICE, BOB] {
        let id = world.send(name, "Hi").await;
        assert_eq!(world.final_status(name, id).await["status"], "acked", "{name}");
        world.assert_untouched(name);
        world.until_state(name, "connected").await;
    }
    assert_eq!(world.sign_ins() - before, 2, "carol's alone");
}

#[tokio::test]
async fn another_bot_is_for_its_own_users_only() {
    let sales: BotName = BotName::new("sales").unwrap();
    let mut world = World::start_silent(|config| {
        add_bot(config, "sales");
        add_user(config, BOB);
        config.users.get_mut(BOB).unwrap().bot = sales.clone();
    })
    .await;
    let right = world.config.bots[&sales].clone();
    let reloaded = world.reload(|config| config.bots.get_mut(&sales).unwrap().name = "Another".into()).await;
    assert_eq!(reloaded.to_string(), "1 bot changed, 1 user reconnecting");
    assert_eq!(within("bob's goodbye", world.control().wait_goodbyes(BOB, 1)).await, [1001]);
    world.assert_untouched(ALICE);
    world.reload(|config| drop(config.bots.insert(sales.clone(), right))).await;
    world.until_state(BOB, "connected").await;
    world.assert_untouched(ALICE);
    // The same app by another name of its table: a connection of another bot, as far as the bridge is concerned.
    let reloaded = world
        .reload(|config| config.users.get_mut(BOB).unwrap().bot = BotName::new("support").unwrap())
        .await;
    assert_eq!(reloaded.to_string(), "1 user changed, 1 user reconnecting");
    let id = world.send(BOB, "Hi").await;
    assert_eq!(world.final_status(BOB, id).await["status"], "acked");
    world.assert_untouched(ALICE);
}

#[tokio::test]
async fn another_kind_of_credentials_is_for_the_next_sign_in() {
    let mut world = World::start_silent(|config| {
        add_user(config, BOB);
        config.platform.unauthorized_retry = Duration::from_secs(3600);
    })
    .await;
    // A key that the platform does not know yet.
    world.reload(|config| support(config).credentials = signed_with_a_key()).await;
    world.control().end_sockets(BOB, &SocketEnd::Drop);
    world.until_state(BOB, "unauthorized").await;
    world.control().trust_public_key(&App::default().client_id, private_key().public_key());
    // The file is as it was; whoever was refused is let try again all the same.
    assert_eq!(world.reload(|_| {}).await.to_string(), "nothing changed");
    world.until_state(BOB, "connected").await;

    // A service that refuses what it is asked with, put right.
    world.reload(|config| support(config).credentials = token_service(config, "a wrong one")).await;
    world.control().end_sockets(BOB, &SocketEnd::Drop);
    world.until_state(BOB, "unauthorized").await;
    let secret = App::default().client_secret;
    world.reload(|config| support(config).credentials = token_service(config, &secret)).await;
    world.until_state(BOB, "connected").await;
    world.assert_untouched(ALICE);
}

#[tokio::test]
async fn an_anonymous_user_stays_who_it_is() {
    let mut world = World::start_silent(|config| add_user(config, BOB)).await;
    let anonymous = |identity: Option<&str>| config::Identity::Anonymous(identity.map(str::to_owned));
    let carol = |config: &mut Config, identity| {
        config.users.get_mut("carol").unwrap().identity = identity;
    };
    world
        .reload(|config| {
            add_user(config, "carol");
            carol(config, anonymous(None));
        })
        .await;
    world.until_state("carol", "connected").await;
    let made_up = {
        let mut identities = world.control().identities();
        identities.retain(|identity| identity != ALICE && identity != BOB);
        assert_eq!(identities.len(), 1, "{identities:?}");
        identities.remove(0)
    };
    assert!(world.control().is_anonymous(&made_up));
    // Whatever else changes, it keeps its socket and its name; so it does when it goes and returns.
    world.reload(|config| config.messages.max_attempts = 5).await;
    let id = world.send("carol", "Hi").await;
    assert_eq!(world.final_status("carol", id).await["status"], "acked");
    world.assert_untouched(&made_up);
    let entry = world.config.users["carol"].clone();
    world.reload(|config| drop(config.users.remove("carol"))).await;
    world.reload(|config| drop(config.users.insert(UserName::new("carol").unwrap(), entry))).await;
    world.until_state("carol", "connected").await;
    assert_eq!(world.control().connects(&made_up), 2);
    // A name of its own makes it another.
    let reloaded = world.reload(|config| carol(config, anonymous(Some("guest-1")))).await;
    assert_eq!(reloaded.to_string(), "1 user changed, 1 user reconnecting");
    within("the guest", world.control().wait_connected("guest-1", 1)).await;
    assert!(world.control().is_anonymous("guest-1"));
    let reloaded = world.reload(|config| carol(config, "guest-1".into())).await;
    assert_eq!(reloaded.to_string(), "1 user changed, 1 user reconnecting", "known now, under the same name");
    world.until_state("carol", "connected").await;
    world.assert_untouched(ALICE);
    world.assert_untouched(BOB);
}

fn chunk(text: &str, is_last: bool) -> String {
    json!({"type": "bot_response", "messageId": "ms-1", "sM": true, "endChunk": is_last,
        "message": [{"type": "text", "component": {"type": "text", "payload": {"text": text}}}]})
    .to_string()
}

#[tokio::test]
async fn an_answer_that_is_being_assembled_is_whole_whatever_the_file_says_meanwhile() {
    let mut world = World::start_silent(|config| crm(config).streaming = Streaming::Assembled).await;
    world.control().push_raw(ALICE, chunk("Once ", false));
    // The first chunk has no sequence; what comes behind it tells that it is there.
    world.control().push(ALICE, Push::text("meanwhile"));
    delivered(&world, 1).await;
    world.reload(|config| crm(config).streaming = Streaming::Chunks).await;
    world.control().push_raw(ALICE, chunk("upon ", false));
    world.control().push_raw(ALICE, chunk("a time", true));
    world.control().push(ALICE, Push::text("the end"));
    let ends = |events: &[Request]| events.iter().any(|event| event.text.as_deref() == Some("the end"));
    let events = within("the end", world.receiver.wait_until(ends)).await;
    assert_eq!(texts(&events), ["meanwhile", "Once upon a time", "the end"]);
    world.assert_untouched(ALICE);
}

#[tokio::test]
async fn a_transcript_is_as_long_as_the_file_says_when_the_agent_takes_over() {
    let report = || EventFilter::Only(vec!["bridge.agent_session".to_owned()]);
    let mut world = World::start_silent(|config| {
        crm(config).events = report();
        crm(config).transcript = 20;
    })
    .await;
    for text in ["1", "2", "3"] {
        let id = world.send(ALICE, text).await;
        world.final_status(ALICE, id).await;
    }
    let name = WebhookName::new("crm").unwrap();
    assert_eq!(world.reload(|config| crm(config).transcript = 1).await.changes.webhooks.changed, [name]);
    world.control().agent(ALICE, AgentPlay::Join { agent: Persona::default() });
    let started = delivered(&world, 1).await;
    let started = &envelope(&at_webhook(&started, "crm")[0])["data"];
    assert_eq!((&started["state"], started["transcript"].as_array().unwrap().len()), (&json!("started"), 1));
    world.assert_untouched(ALICE);
}
