//! The parts of the demo, as they are wired up, and you: an HTTP client.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use serde_json::{Value, json};

use super::scratch::Scratch;
use crate::{
    clock::Timestamp,
    config::{self, Config},
    daemon::{self, Daemon, Failure},
    names::{BotName, UserName, WebhookName},
    receiver::{Receiver, ReceiverOptions},
    sandbox::{self, App, Sandbox, SandboxControl, SandboxOptions},
    webhook::parse_secret,
};

/// The one user's name.
pub(super) const USER: &str = "alice";
/// Who that is for the platform.
pub(super) const IDENTITY: &str = "alice@demo.example";
/// What the webhook's requests are signed with. Worth nothing: both ends are in this process.
const SIGNING_SECRET: &str = "whsec_ZGVtby1zaWduaW5nLWtleS1vZi1ydG0tYnJpZGdl";

/// Which ports are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// The bridge's usual ones (8080, 8081), another where one is taken. The stand-in and the
    /// receiver take whichever are free, so that no other bridge takes them for its own.
    Usual,
    /// Whichever are free.
    Any,
}

impl Ports {
    /// The address to listen on where `port` is the usual one.
    fn address(self, port: u16) -> SocketAddr {
        let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match self {
            Self::Usual if TcpListener::bind(usual).is_ok() => usual,
            _ => any_port(),
        }
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// How a stage is set up.
#[derive(Debug, Clone)]
pub struct StageOptions {
    /// Which ports are taken.
    pub ports: Ports,
    /// How long a step waits for what must happen before it has failed.
    pub patience: Duration,
}

impl Default for StageOptions {
    fn default() -> Self {
        Self { ports: Ports::Usual, patience: Duration::from_secs(10) }
    }
}

/// Why a part of the demo didn't start, or doesn't answer.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The stand-in didn't start.
    #[error(transparent)]
    Platform(#[from] sandbox::StartError),
    /// The receiver didn't start.
    #[error("the webhook receiver can't listen: {0}")]
    Receiver(io::Error),
    /// The daemon didn't start.
    #[error("the bridge didn't start: {0}")]
    Bridge(#[from] daemon::StartError),
    /// There is no room for the store.
    #[error("no directory could be made for the store in {}: {source}", std::env::temp_dir().display())]
    Directory {
        /// Why.
        source: io::Error,
    },
    /// The bridge's API didn't answer as HTTP.
    #[error("the bridge's API didn't answer: {0}")]
    Api(#[from] reqwest::Error),
}

/// Everything that runs.
#[derive(Debug)]
pub struct Stage {
    platform: Sandbox,
    app: App,
    receiver: Receiver,
    config: Config,
    bridge: Option<Daemon>,
    http: reqwest::Client,
    patience: Duration,
    _scratch: Scratch,
}

/// An answer of the bridge's API.
#[derive(Debug)]
pub(super) struct Answer {
    /// When it was there.
    pub(super) at: Timestamp,
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) body: Value,
}

impl Stage {
    /// Starts the stand-in, the receiver and the bridge between them.
    pub async fn start(options: StageOptions) -> Result<Self, StageError> {
        let app = new_app();
        let platform = SandboxOptions { apps: vec![app.clone()], ..SandboxOptions::default() };
        let platform = Sandbox::start(platform).await?;
        let receiver = ReceiverOptions { secrets: vec![signing_key()], ..ReceiverOptions::default() };
        let receiver = Receiver::start(receiver).await.map_err(StageError::Receiver)?;
        let scratch = Scratch::new().map_err(|source| StageError::Directory { source })?;
        let config = configuration(&platform, &app, &receiver, &scratch, options.ports);
        // Neither a proxy nor an authority is needed to talk to oneself.
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?;
        let mut stage = Self {
            platform,
            app,
            receiver,
            config,
            bridge: None,
            http,
            patience: options.patience,
            _scratch: scratch,
        };
        stage.start_bridge().await?;
        Ok(stage)
    }

    /// For watching the stand-in and meddling with it.
    pub fn platform(&self) -> SandboxControl {
        self.platform.control()
    }

    /// The webhook's receiver.
    pub fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// The identity by which the stand-in knows the user.
    pub fn identity(&self) -> &'static str {
        IDENTITY
    }

    /// The app, and with it the bot, that the stand-in knows.
    pub(super) fn app(&self) -> &App {
        &self.app
    }

    /// How long a step waits for what must happen.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Where the stand-in listens.
    pub(super) fn platform_address(&self) -> SocketAddr {
        self.platform.address()
    }

    /// Where the bridge's API listens.
    pub(super) fn api_address(&self) -> SocketAddr {
        self.config.http.api
    }

    /// Where the bridge's health is asked.
    pub(super) fn ops_address(&self) -> SocketAddr {
        self.config.http.ops
    }

    /// The running bridge; nothing between a stop and a start.
    pub(super) fn bridge(&self) -> Option<&Daemon> {
        self.bridge.as_ref()
    }

    /// Waits until the bridge can't go on, if ever.
    pub(super) async fn bridge_failed(&self) -> Failure {
        match &self.bridge {
            Some(bridge) => bridge.failed().await,
            None => std::future::pending().await,
        }
    }

    /// Starts the bridge on its store, where it was before if it was running before.
    pub(super) async fn start_bridge(&mut self) -> Result<(), StageError> {
        let bridge = match Daemon::start(&self.config).await {
            // Somebody was faster.
            Err(daemon::StartError::Bind(_)) => {
                (self.config.http.api, self.config.http.ops) = (any_port(), any_port());
                Daemon::start(&self.config).await?
            }
            started => started?,
        };
        (self.config.http.api, self.config.http.ops) = (bridge.api_address(), bridge.ops_address());
        self.bridge = Some(bridge);
        Ok(())
    }

    /// Stops the bridge in order. Its store stays.
    pub(super) async fn stop_bridge(&mut self) {
        if let Some(bridge) = self.bridge.take() {
            bridge.shutdown().await;
        }
    }

    /// Ends everything; the store goes too.
    pub async fn close(mut self) {
        self.stop_bridge().await;
        self.platform.shutdown().await;
        self.receiver.stop().await;
    }

    /// The path that messages to the user are POSTed to.
    pub(super) fn messages_path() -> String {
        format!("/v1/users/{USER}/messages")
    }

    /// POSTs a message.
    pub(super) async fn post(&self, text: &str) -> Result<Answer, StageError> {
        let url = self.url(&Self::messages_path());
        answer(self.http.post(url).json(&json!({ "text": text }))).await
    }

    /// GETs something of the API.
    pub(super) async fn get(&self, path: &str) -> Result<Answer, StageError> {
        answer(self.http.get(self.url(path))).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.api_address())
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, StageError> {
    let response = request.send().await?;
    let at = Timestamp::now();
    let location = response.headers().get(reqwest::header::LOCATION);
    let location = location.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let status = response.status().as_u16();
    let body = serde_json::from_slice(&response.bytes().await?).unwrap_or_default();
    Ok(Answer { at, status, location, body })
}

/// An app that no one else has: a bridge that was left over from something else, and finds a
/// platform again at the stand-in's port, gets no further than that.
fn new_app() -> App {
    App {
        client_id: format!("cs-{:032x}", fastrand::u128(..)),
        client_secret: format!("{:032x}", fastrand::u128(..)),
        ..App::default()
    }
}

fn signing_key() -> config::SigningKey {
    parse_secret(SIGNING_SECRET).expect("a constant secret")
}

/// What `bridge.toml` would say, but with shorter backoffs: nobody wants to wait in a demo.
fn configuration(
    platform: &Sandbox,
    app: &App,
    receiver: &Receiver,
    scratch: &Scratch,
    ports: Ports,
) -> Config {
    let bot = BotName::new("support").expect("a constant name");
    let crm = WebhookName::new("crm").expect("a constant name");
    let user = UserName::new(USER).expect("a constant name");
    let mut webhook = config::Webhook::new(receiver.url());
    webhook.secrets = vec![signing_key()];
    webhook.backoff_min = Duration::from_millis(100);
    webhook.backoff_max = Duration::from_millis(400);
    Config {
        platform: config::Platform {
            url: platform.url(),
            backoff_min: Duration::from_millis(150),
            backoff_max: Duration::from_millis(1500),
            ..config::Platform::default()
        },
        http: config::Http { api: ports.address(8080), ops: ports.address(8081), ..config::Http::default() },
        store: config::Store { path: scratch.path().join("data"), ..config::Store::default() },
        messages: config::Messages::default(),
        history: config::History::default(),
        log: config::Log::default(),
        bots: [(bot.clone(), bot_of(app))].into(),
        users: [(user, config::User { bot, identity: IDENTITY.into(), webhooks: vec![crm.clone()] })].into(),
        webhooks: [(crm, webhook)].into(),
        clients: [].into(),
    }
}

fn bot_of(app: &App) -> config::Bot {
    config::Bot {
        name: app.bot_name.clone(),
        id: app.bot_id.clone(),
        client_id: app.client_id.clone(),
        credentials: config::Credentials::client_secret(app.client_secret.as_str()),
        history: config::HistorySource::Rtm,
    }
}
