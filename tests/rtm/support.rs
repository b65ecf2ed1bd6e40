//! A bridge without webhooks and without an API: just users and their connections.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rtm_bridge::{
    clock::Timestamp,
    config::{
        self, Bot, Config, Credentials, Durability, History, HistorySource, Http, Log, LogFormat,
        ReconnectQuery,
    },
    events::{
        Ahead, DeliveryCounts, Event, Events, LanePlace, Route, Source, Subscriber, Subscribers,
        WebhookState, WebhookStatus,
    },
    messages::{
        ClientMessageId, Draft, Expectation, Fingerprint, MessageContent, MessageRecord, Messages, Until,
    },
    names::{BotName, UserName, WebhookName},
    rtm::{
        platform::Platform,
        supervisor::{Goodbye, Supervisor},
    },
    sandbox::{App, Sandbox, SandboxControl, SandboxOptions, Settings},
    store::{LaneSlot, Store, UserNumber, WebhookNumber},
    users::{ConnectionState, User, Users},
};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// Awaits what should come.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(15), future).await.expect("it should have happened by now")
}

pub async fn sandbox() -> (Sandbox, SandboxControl) {
    sandbox_with(Settings::default()).await
}

pub async fn sandbox_with(settings: Settings) -> (Sandbox, SandboxControl) {
    let sandbox = Sandbox::start(SandboxOptions { settings, ..SandboxOptions::default() }).await.unwrap();
    let control = sandbox.control();
    (sandbox, control)
}

/// A running bridge.
pub struct Bridge {
    directory: TempDir,
    pub config: Config,
    store: Arc<Store>,
    pub messages: Messages,
    events: Events,
    users: Arc<Users>,
    pub supervisor: Supervisor,
    arrivals: mpsc::UnboundedReceiver<(UserNumber, Arc<Event>)>,
}

impl Bridge {
    /// A bridge with these users at the sandbox, with a new store.
    pub fn start(sandbox: &Sandbox, users: &[&str]) -> Self {
        Self::start_with(sandbox, users, |_| {})
    }

    pub fn start_with(sandbox: &Sandbox, users: &[&str], change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(sandbox, users);
        config.store.path = directory.path().join("data");
        change(&mut config);
        Self::with_store(directory, config)
    }

    fn with_store(directory: TempDir, config: Config) -> Self {
        let store = Store::open(&config.store).unwrap();
        let users = Arc::new(Users::default());
        for (name, entry) in &config.users {
            let number = store.user_number(name).unwrap();
            let user = User::new(name.clone(), number, entry.bot.clone(), Timestamp::now());
            users.insert(Arc::new(user));
        }
        let numbers: Vec<UserNumber> = users.all().iter().map(|user| user.number).collect();
        let messages = Messages::load(store.clone(), config.messages.clone(), &config.store).unwrap();
        let (told, arrivals) = mpsc::unbounded_channel();
        let everyone: Arc<dyn Subscriber> = Arc::new(Everything { told, sequence: AtomicU64::new(0) });
        let routes = numbers.iter().map(|number| (*number, Route::from([everyone.clone()]))).collect();
        let subscribers = Subscribers { routes, ..Subscribers::default() };
        let events = Events::load(store.clone(), messages.clone(), &config.store, subscribers).unwrap();
        let platform = Arc::new(Platform::new(&config.platform).unwrap());
        let supervisor = Supervisor::start(&config, &platform, &store, &users, &messages, &events).unwrap();
        Self { directory, config, store, messages, events, users, supervisor, arrivals }
    }

    /// Stops it in order, and starts another on the same store.
    pub async fn restart(self) -> Self {
        assert_eq!(self.supervisor.shutdown().await, Goodbye::Complete);
        self.events.close();
        self.store.close();
        let Self { directory, config, store, messages, events, .. } = self;
        // The store is free when nobody holds it.
        drop((store, messages, events));
        Self::with_store(directory, config)
    }

    pub fn user(&self, name: &str) -> Arc<User> {
        self.users.get(name).unwrap()
    }

    pub async fn accept(&self, user: &str, text: &str) -> ClientMessageId {
        let fields = serde_json::json!({"resourceid": "/bot.message", "message": {"body": text}}).to_string();
        let draft = Draft {
            fingerprint: Fingerprint::of(fields.as_bytes()),
            text_fingerprint: Fingerprint::of(text.as_bytes()),
            content: MessageContent { fields: fields.into(), bot_custom_data: None },
            expectation: Expectation::Ack,
            trace: None,
        };
        self.messages.accept(&self.user(user), draft, None, None).await.unwrap().id
    }

    /// What becomes of a message in the end.
    pub async fn fate(&self, user: &str, id: ClientMessageId) -> MessageRecord {
        let number = self.user(user).number;
        let limit = Duration::from_secs(14);
        let record = soon(self.messages.wait(number, id, Until::Final, limit)).await.unwrap().unwrap();
        assert!(record.is_final(), "{record:?}");
        record
    }

    /// The next event.
    pub async fn event(&mut self) -> Arc<Event> {
        soon(self.arrivals.recv()).await.unwrap().1
    }

    /// The next event with this text somewhere in it.
    pub async fn event_saying(&mut self, text: &str) -> Arc<Event> {
        loop {
            let event = self.event().await;
            if String::from_utf8_lossy(&event.frame).contains(text) {
                return event;
            }
        }
    }

    /// Waits until the user's connection is in this state.
    pub async fn wait_state(&self, user: &str, state: ConnectionState) {
        let mut status = self.user(user).watch_status();
        soon(status.wait_for(|status| status.state == state)).await.unwrap();
    }
}

/// Takes every event of everyone that the platform sent.
#[derive(Debug)]
struct Everything {
    told: mpsc::UnboundedSender<(UserNumber, Arc<Event>)>,
    sequence: AtomicU64,
}

impl Subscriber for Everything {
    fn webhook(&self) -> WebhookNumber {
        WebhookNumber(1)
    }

    fn give(&self, _: UserNumber, _: &str, source: Source) -> LanePlace {
        let wanted = source != Source::Bridge;
        let sequence = self.sequence.fetch_add(u64::from(wanted), Ordering::Relaxed) + u64::from(wanted);
        LanePlace { slot: LaneSlot { webhook: WebhookNumber(1), sequence, wanted }, ahead: Ahead::Little }
    }

    fn pass_by(&self, user: UserNumber) -> LaneSlot {
        LaneSlot { wanted: false, ..self.give(user, "", Source::Live).slot }
    }

    fn assembles(&self, _: &str) -> bool {
        false
    }

    fn arrived(&self, user: UserNumber, event: &Arc<Event>, _: u64) {
        let _ = self.told.send((user, event.clone()));
    }

    fn is_past(&self, _: UserNumber, _: u64) -> bool {
        true
    }

    fn undelivered(&self, _: UserNumber) -> u64 {
        0
    }

    fn status(&self) -> WebhookStatus {
        WebhookStatus {
            name: WebhookName::new("everything").unwrap(),
            state: WebhookState::Ok,
            backlog: 0,
            last_outcome: None,
            counts: DeliveryCounts::default(),
        }
    }

    fn enable(&self) {}
}

/// The defaults, but in a hurry.
fn config(sandbox: &Sandbox, users: &[&str]) -> Config {
    let app = App::default();
    let bot = BotName::new("support").unwrap();
    let entry = |name: &&str| {
        let user = config::User { bot: bot.clone(), identity: (*name).into(), webhooks: Vec::new() };
        (UserName::new(name).unwrap(), user)
    };
    let bots = Bot {
        name: app.bot_name,
        id: app.bot_id,
        client_id: app.client_id,
        credentials: Credentials::client_secret(app.client_secret),
        history: HistorySource::Rtm,
    };
    Config {
        platform: config::Platform {
            url: sandbox.url(),
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(2),
            ping_interval: Duration::from_secs(15),
            pong_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_millis(200),
            unauthorized_retry: Duration::from_secs(60),
            request_rate: 200.0,
            request_burst: 200,
            max_frame: 4 << 20,
            audience: "https://idproxy.kore.com/authorize".into(),
            jwt_lifetime: Duration::from_secs(300),
            reconnect_query: ReconnectQuery::IsReconnect,
            secure_handshake: false,
            websocket_url: None,
            delivery_acks: false,
            ca: None,
            insecure: false,
        },
        http: Http {
            api: ([127, 0, 0, 1], 0).into(),
            ops: ([127, 0, 0, 1], 0).into(),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            max_connections: 100,
            tls: None,
        },
        store: config::Store {
            path: "unused".into(),
            retention: Duration::from_secs(3600),
            max_messages: 1000,
            dead_letter_retention: Duration::from_secs(3600),
            recent: 1 << 20,
            max_size: 1 << 30,
            cache: 1 << 20,
            durability: Durability::Os,
        },
        messages: config::Messages {
            ttl: Duration::from_secs(900),
            ack_timeout: Duration::from_millis(300),
            max_attempts: 3,
            in_flight: 1,
            rate: None,
            max_queued: 1000,
            max_body: 256 << 10,
        },
        history: History {
            recover: false,
            max_messages: 500,
            max_age: Duration::from_secs(3600),
            timeout: Duration::from_secs(30),
        },
        log: Log { level: "info".into(), format: LogFormat::Terminal },
        bots: BTreeMap::from([(bot.clone(), bots)]),
        users: users.iter().map(entry).collect(),
        webhooks: BTreeMap::new(),
        clients: BTreeMap::new(),
    }
}
