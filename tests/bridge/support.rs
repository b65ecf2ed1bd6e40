//! One daemon, one platform, one receiver, and the HTTP client of a legacy system.

use std::{path::Path, time::Duration};

use reqwest::Method;
use rtm_bridge::{
    config::{self, Config},
    daemon::Daemon,
    names::{BotName, UserName, WebhookName},
    receiver::{ReceivedEvent, Receiver, ReceiverOptions},
    sandbox::{App, BotScript, Sandbox, SandboxControl, SandboxOptions, Settings, SocketEnd},
    store::Store,
    webhook::parse_secret,
};
use serde_json::Value;
use tempfile::TempDir;

#[path = "described.rs"]
pub mod described;

/// No wait of a test takes longer than this; a test that hangs says where.
pub const LIMIT: Duration = Duration::from_secs(20);
/// The signing secret of the webhook `crm`.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The user whom most tests talk about.
pub const ALICE: &str = "alice";
/// Another one, where one is needed.
pub const BOB: &str = "bob";

/// Waits for something, and panics with its name if it doesn't come.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .unwrap_or_else(|_| panic!("waited {LIMIT:?} in vain for: {what}"))
}

/// Waits until `look` sees what is waited for: for what nobody announces.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let mut often = tokio::time::interval(Duration::from_millis(5));
    let looking = async {
        loop {
            often.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    };
    within(what, looking).await
}

/// Adds a user of the bot `support` whose identity is its name, with the webhook `crm`.
pub fn add_user(config: &mut Config, name: &str) {
    let alice = config.users[ALICE].clone();
    config.users.insert(UserName::new(name).unwrap(), config::User { identity: name.to_owned(), ..alice });
}

/// The webhook `crm`.
pub fn crm(config: &mut Config) -> &mut config::Webhook {
    config.webhooks.get_mut("crm").unwrap()
}

/// Adds a webhook at the same receiver, and subscribes everyone. Its requests carry its name in
/// `x-webhook`: see [`at_webhook`].
pub fn add_webhook(config: &mut Config, name: &str, change: impl FnOnce(&mut config::Webhook)) {
    let mut webhook = crm(config).clone();
    webhook.headers = vec![("x-webhook".to_owned(), config::Secret::new(name))];
    change(&mut webhook);
    let name = WebhookName::new(name).unwrap();
    config.users.values_mut().for_each(|user| user.webhooks.push(name.clone()));
    config.webhooks.insert(name, webhook);
}

/// Those of some requests that went to one webhook.
pub fn at_webhook(requests: &[Request], name: &str) -> Vec<Request> {
    requests.iter().filter(|request| webhook_of(request) == name).cloned().collect()
}

/// Which webhook a request went to.
pub fn webhook_of(request: &ReceivedEvent) -> &str {
    request.headers.get("x-webhook").map_or("crm", |name| name.to_str().unwrap())
}

/// A request at the receiver.
pub type Request = std::sync::Arc<ReceivedEvent>;

/// A daemon with all that it talks to.
pub struct World {
    pub sandbox: Sandbox,
    pub receiver: Receiver,
    pub config: Config,
    pub http: reqwest::Client,
    daemon: Option<Daemon>,
    _directory: TempDir,
}

impl World {
    /// The user alice, connected, with the webhook `crm`.
    pub async fn start() -> Self {
        let world = Self::start_with(|_| {}).await;
        within("alice's first connection", world.control().wait_connected(ALICE, 1)).await;
        world
    }

    /// As [`World::start`], with another configuration, and without waiting for a connection.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let settings = Settings { welcome: None, ..Settings::default() };
        Self::start_on(settings, change).await
    }

    /// As [`World::start_with`], on another platform.
    pub async fn start_on(settings: Settings, change: impl FnOnce(&mut Config)) -> Self {
        let options = SandboxOptions { settings, ..SandboxOptions::default() };
        let sandbox = Sandbox::start(options).await.unwrap();
        let secrets = vec![parse_secret(SECRET).unwrap()];
        let receiver =
            Receiver::start(ReceiverOptions { secrets, ..ReceiverOptions::default() }).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut config = configuration(&sandbox, &receiver, directory.path());
        change(&mut config);
        let mut world = Self {
            sandbox,
            receiver,
            config,
            http: reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap(),
            daemon: None,
            _directory: directory,
        };
        world.start_daemon().await;
        world
    }

    /// As [`World::start`], with another configuration. Everyone is connected, and the bot says nothing
    /// but what a test pushes.
    pub async fn start_silent(change: impl FnOnce(&mut Config)) -> Self {
        let world = Self::start_with(change).await;
        world.control().configure(|settings| settings.bot = BotScript::Silent);
        world.all_connected().await;
        world
    }

    /// Waits until every user is connected, as the bridge sees it.
    pub async fn all_connected(&self) {
        for user in self.config.users.keys() {
            self.until_state(user.as_str(), "connected").await;
        }
    }

    pub fn control(&self) -> SandboxControl {
        self.sandbox.control()
    }

    /// Makes the platform unreachable, and waits until the bridge has noticed.
    pub async fn cut_off(&self) {
        within("the platform to stop listening", self.control().stop_listening()).await;
        self.control().end_all_sockets(&SocketEnd::Drop);
        for user in self.config.users.keys() {
            self.until_state(user.as_str(), "backing_off").await;
        }
    }

    /// Makes the platform reachable again, and everyone connect.
    pub async fn bring_back(&self) {
        within("the platform to listen again", self.control().listen_again()).await;
        for user in self.config.users.keys() {
            self.reconnect(user.as_str()).await;
        }
        self.all_connected().await;
    }

    /// Asks for a new connection, or for the next try at once.
    pub async fn reconnect(&self, user: &str) {
        let (status, body) = answer(self.request(Method::POST, &format!("/v1/users/{user}/reconnect"))).await;
        assert_eq!(status, 202, "{body}");
    }

    /// `GET /v1/users/{user}`
    pub async fn user(&self, user: &str) -> Value {
        let (status, body) = self.get(&format!("/v1/users/{user}")).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Waits until a user is in this state, and gives [`World::user`].
    pub async fn until_state(&self, user: &str, state: &str) -> Value {
        self.until_user(user, &format!("{user} to be {state}"), |seen| seen["state"] == state).await
    }

    /// Waits until a user is as wanted, and gives [`World::user`].
    pub async fn until_user(&self, user: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let wanted = &wanted;
        eventually(what, || async move { Some(self.user(user).await).filter(wanted) }).await
    }

    /// The store of a daemon that was stopped.
    pub fn store(&self) -> std::sync::Arc<Store> {
        assert!(self.daemon.is_none(), "the daemon has it");
        Store::open(&self.config.store).unwrap()
    }

    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("the daemon runs")
    }

    pub async fn start_daemon(&mut self) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        self.daemon = Some(within("the daemon to start", Daemon::start(&self.config)).await.unwrap());
    }

    pub async fn stop_daemon(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            within("the daemon to stop", daemon.shutdown()).await;
        }
    }

    pub async fn restart(&mut self) {
        self.stop_daemon().await;
        self.start_daemon().await;
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.daemon().api_address())
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, self.url(path))
    }

    /// A POST to a user's messages.
    pub fn message(&self, user: &str) -> reqwest::RequestBuilder {
        self.request(Method::POST, &format!("/v1/users/{user}/messages"))
    }

    /// POSTs a message and gives the status and the answer.
    pub async fn post(&self, user: &str, body: Value) -> (u16, Value) {
        answer(self.message(user).json(&body)).await
    }

    /// The same with an `Idempotency-Key`.
    pub async fn post_keyed(&self, user: &str, key: &str, body: Value) -> (u16, Value) {
        answer(self.message(user).header("idempotency-key", key).json(&body)).await
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::GET, path)).await
    }

    /// The message's status object now.
    pub async fn status(&self, user: &str, id: u64) -> Value {
        let (status, body) = self.get(&format!("/v1/users/{user}/messages/{id}")).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Sends a text and gives the clientMessageId.
    pub async fn send(&self, user: &str, text: &str) -> u64 {
        let (status, body) = self.post(user, serde_json::json!({ "text": text })).await;
        assert_eq!(status, 202, "{body}");
        body["clientMessageId"].as_u64().unwrap()
    }

    /// The message's status object once it is final.
    pub async fn final_status(&self, user: &str, id: u64) -> Value {
        let (status, body) = self.get(&format!("/v1/users/{user}/messages/{id}?wait=ack&timeout=20s")).await;
        assert_eq!(status, 200, "{body}");
        body
    }
}

/// Sends a request and reads its answer as JSON. What the API answers must be as it describes it.
pub async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let (client, request) = request.build_split();
    let request = request.unwrap();
    let (method, path) = (request.method().to_string(), request.url().path().to_owned());
    let response = within("an answer of the API", client.execute(request)).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await.unwrap();
    described::check(&method, &path, status, &headers, &body);
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// What an event's body says.
pub fn envelope(event: &ReceivedEvent) -> Value {
    serde_json::from_slice(&event.body).unwrap()
}

/// The texts of events.
pub fn texts(events: &[Request]) -> Vec<String> {
    events.iter().map(|event| event.text.clone().unwrap_or_default()).collect()
}

/// Waits for so many events, and gives them.
pub async fn delivered(world: &World, events: usize) -> Vec<Request> {
    within(&format!("{events} events at the webhook"), world.receiver.wait_events(events)).await
}

/// The text of every frame that reached the platform for a user, in order.
pub fn sent_texts(control: &SandboxControl, user: &str) -> Vec<String> {
    control
        .messages(user)
        .iter()
        .map(|frame| frame.json()["message"]["body"].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn configuration(sandbox: &Sandbox, receiver: &Receiver, directory: &Path) -> Config {
    let app = App::default();
    let (bot, webhook) = (BotName::new("support").unwrap(), WebhookName::new("crm").unwrap());
    let mut crm = config::Webhook::new(receiver.url());
    crm.secrets = vec![parse_secret(SECRET).unwrap()];
    crm.backoff_min = Duration::from_millis(20);
    crm.backoff_max = Duration::from_millis(200);
    let user = config::User { bot: bot.clone(), identity: ALICE.to_owned(), webhooks: vec![webhook.clone()] };
    Config {
        platform: config::Platform {
            url: sandbox.url(),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_millis(200),
            request_rate: 1000.0,
            request_burst: 1000,
            ..config::Platform::default()
        },
        http: config::Http {
            api: ([127, 0, 0, 1], 0).into(),
            ops: ([127, 0, 0, 1], 0).into(),
            ..config::Http::default()
        },
        store: config::Store { path: directory.join("data"), ..config::Store::default() },
        messages: config::Messages::default(),
        history: config::History::default(),
        log: config::Log::default(),
        bots: [(bot, bot_of(&app))].into(),
        users: [(UserName::new(ALICE).unwrap(), user)].into(),
        webhooks: [(webhook, crm)].into(),
        clients: [].into(),
    }
}

fn bot_of(app: &App) -> config::Bot {
    config::Bot {
        name: app.bot_name.clone(),
        id: app.bot_id.clone(),
        client_id: app.client_id.clone(),
        client_secret: config::Secret::new(app.client_secret.as_str()),
        algorithm: config::JwtAlgorithm::Hs256,
    }
}
