//! A webhook receiver for development, the demo and tests: it checks signatures, remembers the
//! latest events, and misbehaves on request.
//!
//! It uses no part of the daemon but the signature check, so that what it sees is what any
//! receiver would see.

mod behaviour;
mod event;
mod log;
mod server;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    sync::{broadcast, watch},
    task::JoinHandle,
};
use url::Url;

pub use behaviour::{FailPlan, InvalidFailPlan, Reply};
pub use event::{ReceivedEvent, Verdict};

use crate::{config::SigningKey, webhook::Signer};
use behaviour::Behaviour;
use log::Log;

/// How a receiver starts.
#[derive(Debug, Clone)]
pub struct ReceiverOptions {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The keys that signatures are checked with. With keys, a request without a good signature is
    /// answered 401; without, everything is taken and nothing checked.
    pub secrets: Vec<SigningKey>,
    /// Answers some requests with an error.
    pub fail: Option<FailPlan>,
    /// How many events and attempts are remembered, the latest; beside it a limit of 256 MiB.
    pub keep: usize,
    /// Makes the dice of [`FailPlan`] repeatable.
    pub seed: u64,
}

impl Default for ReceiverOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            secrets: Vec::new(),
            fail: None,
            keep: 100_000,
            seed: 0,
        }
    }
}

/// A running receiver. It stops when it is dropped.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

/// What connections and the handle share.
#[derive(Debug)]
struct Shared {
    signer: Signer,
    behaviour: Behaviour,
    log: Log,
    feed: broadcast::Sender<Arc<ReceivedEvent>>,
    gate: watch::Sender<Gate>,
    open_connections: AtomicUsize,
    accepted_connections: AtomicUsize,
}

/// Whether answers go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    Held,
}

impl Receiver {
    /// Listens and answers. Fails when the address can't be had.
    pub async fn start(options: ReceiverOptions) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            signer: Signer::new(&options.secrets),
            behaviour: Behaviour::new(options.fail, options.seed),
            log: Log::new(options.keep),
            feed: broadcast::channel(4096).0,
            gate: watch::channel(Gate::Open).0,
            open_connections: AtomicUsize::new(0),
            accepted_connections: AtomicUsize::new(0),
        });
        let server = tokio::spawn(server::serve(listener, shared.clone()));
        Ok(Self { address, shared, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL to give to a webhook.
    pub fn url(&self) -> Url {
        Url::parse(&format!("http://{}/", self.address)).expect("an address makes a URL")
    }

    /// Stops listening, cuts all connections, and returns when the address is free again.
    pub async fn stop(mut self) {
        self.server.abort();
        // Aborted or ended: either way it is gone.
        let _ = (&mut self.server).await;
    }

    /// The events that were answered with a 2xx, in their order, the latest ones.
    pub fn events(&self) -> Vec<Arc<ReceivedEvent>> {
        self.shared.log.events()
    }

    /// Every request, whatever its answer, in the order of arrival, the latest ones. A request is
    /// here as soon as it is read, before it is answered.
    pub fn attempts(&self) -> Vec<Arc<ReceivedEvent>> {
        self.shared.log.attempts()
    }

    /// How many requests [`Self::attempts`] remembers no more, because others came since.
    pub fn forgotten(&self) -> usize {
        self.shared.log.forgotten()
    }

    /// Waits until so many events in all were answered with a 2xx, and gives [`Self::events`].
    pub async fn wait_events(&self, total: usize) -> Vec<Arc<ReceivedEvent>> {
        self.shared.log.changed_until(|totals| totals.events >= total).await;
        self.events()
    }

    /// Waits until so many requests in all arrived, and gives [`Self::attempts`].
    pub async fn wait_attempts(&self, total: usize) -> Vec<Arc<ReceivedEvent>> {
        self.shared.log.changed_until(|totals| totals.attempts >= total).await;
        self.attempts()
    }

    /// Waits until the answered events are as wanted, and gives them.
    pub async fn wait_until(
        &self,
        wanted: impl Fn(&[Arc<ReceivedEvent>]) -> bool,
    ) -> Vec<Arc<ReceivedEvent>> {
        self.shared.log.changed_until(|_| wanted(&self.events())).await;
        self.events()
    }

    /// Every request from now on, at the moment of its answer. A reader that falls 4096 behind
    /// misses some and is told so.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<ReceivedEvent>> {
        self.shared.feed.subscribe()
    }

    /// Answers like this from now on, but for what follows a script, a rule or a failure plan.
    pub fn answer(&self, reply: impl Into<Reply>) {
        self.shared.behaviour.set_default(reply.into());
    }

    /// Answers the next requests like this, one after the other, before anything else applies.
    pub fn script<R: Into<Reply>>(&self, replies: impl IntoIterator<Item = R>) {
        self.shared.behaviour.script(replies.into_iter().map(Into::into));
    }

    /// Lets a rule choose the answers; where it gives none, the rest applies.
    pub fn rule(&self, rule: impl Fn(&ReceivedEvent) -> Option<Reply> + Send + Sync + 'static) {
        self.shared.behaviour.set_rule(Arc::new(rule));
    }

    /// Fails some requests from now on, or none.
    pub fn fail(&self, plan: Option<FailPlan>) {
        self.shared.behaviour.set_fail(plan);
    }

    /// Reads requests from now on without answering, until [`Self::release`].
    pub fn hold(&self) {
        self.shared.gate.send_replace(Gate::Held);
    }

    /// Answers what was held.
    pub fn release(&self) {
        self.shared.gate.send_replace(Gate::Open);
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        self.shared.open_connections.load(Ordering::Relaxed)
    }

    /// How many connections there ever were.
    pub fn accepted_connections(&self) -> usize {
        self.shared.accepted_connections.load(Ordering::Relaxed)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}
