//! The HTTP client of one webhook: requests to one place, on connections that are kept for a while.
//!
//! HTTP/1.1 alone, one request at a time on a connection. Nothing here runs by itself: a connection is
//! driven by the delivery that uses it, and an idle one by nobody.

mod connection;
mod idle;
mod tls;

use std::{
    error::Error,
    fmt, io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, Uri, body::Incoming};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::{HttpConnector, dns::GaiResolver};
use tokio::time::{Instant, timeout};
use tower::{ServiceExt as _, util::MapErr};
use url::{Position, Url};

pub(super) use self::{connection::Connection, idle::LONGEST_IDLE};
use self::{connection::Stream, idle::Idle};
use super::SenderProblem;
use crate::config::Webhook;

/// A connection takes at most this long, within the attempt's own limit.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A silent peer is asked after so long whether it is there, and as often as [`PROBES`].
const PROBE_AFTER: Duration = Duration::from_secs(15);
const PROBES: u32 = 3;
/// So long may what was written go without an acknowledgement.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// An attempt's request.
pub(super) type Post = Request<Full<Bytes>>;

type Tcp = HttpConnector<MapErr<GaiResolver, fn(io::Error) -> Unresolved>>;

/// Sends requests to one webhook.
pub(super) struct Client {
    /// Where connections go: scheme, host and port.
    place: Uri,
    connector: Connector,
    connect_limit: Duration,
    idle: Mutex<Idle<Box<Connection>>>,
}

enum Connector {
    Plain(Tcp),
    Tls(HttpsConnector<Tcp>),
}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// No connection.
    #[error("no connection")]
    NotConnected(#[source] Box<dyn Error + Send + Sync>),
    /// No connection in time.
    #[error("no connection in time")]
    NotInTime,
    /// The connection ended, or what came on it is not HTTP.
    #[error("no answer")]
    Broken(#[source] hyper::Error),
}

/// A host's name that has no address.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unresolved(#[source] io::Error);

impl Client {
    /// Prepares connections to a webhook. Reads its certificates.
    pub(super) fn new(settings: &Webhook) -> Result<Self, SenderProblem> {
        let place = format!("{}://{}", settings.url.scheme(), authority(&settings.url));
        let connect_limit = CONNECT_LIMIT.min(settings.timeout);
        let tcp = tcp(connect_limit);
        let connector = match settings.url.scheme() {
            "https" => Connector::Tls(HttpsConnector::from((tcp, tls::config(settings)?))),
            _ => {
                // They are of no use yet, but a mistake in them is one.
                tls::read_files(settings)?;
                Connector::Plain(tcp)
            }
        };
        Ok(Self {
            place: place.parse().map_err(|_| SenderProblem::Url)?,
            connector,
            connect_limit,
            idle: Mutex::new(Idle::new(settings.max_in_flight)),
        })
    }

    /// How long a connection may take.
    pub(super) fn connect_limit(&self) -> Duration {
        self.connect_limit
    }

    /// A connection that served a request before, if one is at hand.
    pub(super) fn kept(&self) -> Option<Box<Connection>> {
        loop {
            let mut connection = self.idle().take(Instant::now())?;
            // It may have been closed meanwhile.
            if connection.is_ready() {
                return Some(connection);
            }
        }
    }

    /// Opens a connection.
    pub(super) async fn connect(&self) -> Result<Box<Connection>, ClientError> {
        let connecting = async {
            let stream = match &self.connector {
                Connector::Plain(tcp) => tcp.clone().oneshot(self.place.clone()).await?.into(),
                Connector::Tls(tls) => tls.clone().oneshot(self.place.clone()).await?,
            };
            Ok::<Stream, Box<dyn Error + Send + Sync>>(stream)
        };
        let stream = timeout(self.connect_limit, connecting).await.map_err(|_| ClientError::NotInTime)?;
        let connection = Connection::over(stream.map_err(ClientError::NotConnected)?).await;
        Ok(Box::new(connection.map_err(ClientError::Broken)?))
    }

    /// Opens a TCP connection and closes it: for finding out how far a connection gets.
    pub(super) async fn connect_tcp(&self) -> Result<(), ClientError> {
        let connecting = tcp(self.connect_limit).oneshot(self.place.clone());
        let connected = timeout(self.connect_limit, connecting).await.map_err(|_| ClientError::NotInTime)?;
        connected.map(drop).map_err(|error| ClientError::NotConnected(error.into()))
    }

    /// Keeps a connection for the next request, if it can take one.
    pub(super) fn keep(&self, mut connection: Box<Connection>) {
        if connection.is_ready() {
            let surplus = self.idle().put(connection, Instant::now());
            // Closed only now that nobody waits for the lock.
            drop(surplus);
        }
    }

    /// Closes the connections that have been idle for too long. Answers with when there will be others,
    /// should all of today's stay idle.
    pub(super) fn close_old(&self, now: Instant) -> Option<Instant> {
        let (old, next) = {
            let mut idle = self.idle();
            (idle.take_old(now), idle.next_old())
        };
        drop(old);
        next
    }

    fn idle(&self) -> MutexGuard<'_, Idle<Box<Connection>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Sends a request and waits for the answer's head.
    pub(super) async fn post(&mut self, request: Post) -> Result<Response<Incoming>, ClientError> {
        self.exchange(request).await.map_err(ClientError::Broken)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Host and port of a URL, the port only if it isn't the scheme's own: what goes into `Host`.
pub(super) fn authority(url: &Url) -> &str {
    &url[Position::BeforeHost..Position::AfterPort]
}

fn tcp(connect_limit: Duration) -> Tcp {
    let resolver = GaiResolver::new().map_err(Unresolved as fn(io::Error) -> Unresolved);
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(connect_limit));
    tcp.set_keepalive(Some(PROBE_AFTER));
    tcp.set_keepalive_interval(Some(PROBE_AFTER));
    tcp.set_keepalive_retries(Some(PROBES));
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    tcp
}
