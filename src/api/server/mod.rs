//! The server under the API's and the ops listener: hyper, with limits of our own.
//!
//! hyper's header timeout also bounds how long a kept-alive connection may be idle, so it can't be
//! both short and long. Both deadlines are kept here instead (`deadline`), around hyper's
//! connection, which also bounds a client that doesn't read its answers.

mod connection;
mod deadline;
#[cfg(test)]
mod tests;
mod tls;

pub use tls::{Certificates, Tls};

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::Request, response::Response};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::server::TlsStream;
use tokio_util::{either::Either, sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use crate::config::Http;

/// How a server treats its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For a request's head to arrive, from its first byte (from the connection's start for the
    /// first one).
    pub header_timeout: Duration,
    /// For a kept-alive connection to bring its next request, and for a client to read.
    pub idle_timeout: Duration,
    /// Connections at once; more wait in the kernel's backlog.
    pub max_connections: usize,
    /// For requests in flight to finish after the shutdown began.
    pub drain: Duration,
}

impl Limits {
    /// The configured limits, with this much time to drain.
    pub fn new(http: &Http, drain: Duration) -> Self {
        Self {
            header_timeout: http.header_timeout,
            idle_timeout: http.idle_timeout,
            max_connections: http.max_connections,
            drain,
        }
    }
}

/// What answers requests.
pub trait Application: Clone + Send + Sync + 'static {
    /// Answers a request. A panic costs that request alone: the server answers it with `500`.
    fn answer(&self, request: Request) -> impl Future<Output = Response> + Send;
}

impl Application for Router {
    async fn answer(&self, request: Request) -> Response {
        let Ok(response) = self.clone().oneshot(request).await;
        response
    }
}

/// What HTTP is spoken on: TCP itself, or TLS over it. One type, because hyper's connection is in the program once for
/// each.
type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Makes the stream that HTTP is spoken on.
#[derive(Debug, Clone)]
pub enum Acceptor {
    /// TCP itself.
    Plain,
    /// TLS over it.
    Tls(Tls),
}

impl Acceptor {
    /// Does what must come before HTTP. It has `header_timeout` to finish.
    async fn accept(&self, tcp: TcpStream) -> io::Result<Stream> {
        match self {
            Self::Plain => Ok(Either::Left(tcp)),
            // In a box: a connection without TLS has no room for it.
            Self::Tls(tls) => Box::pin(tls.accept(tcp)).await.map(Box::new).map(Either::Right),
        }
    }
}

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}: {source}; is another program (or another rtm-bridge) listening there?")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// A listener that is open, but not served yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local: SocketAddr,
}

impl Server {
    /// Opens a listener.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            let local = listener.local_addr()?;
            Ok(Self { listener, local })
        };
        bound.await.map_err(|source| BindError { address, source })
    }

    /// Takes up a listener that is open already: the service manager holds it, and keeps who comes during a
    /// restart waiting.
    pub fn adopt(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let local = listener.local_addr()?;
        Ok(Self { listener: TcpListener::from_std(listener)?, local })
    }

    /// The listener's address, with the port that was given for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until `shutdown` is cancelled; then the listener is closed at once, requests in
    /// flight have `limits.drain` to finish, and this returns.
    pub async fn serve(
        self,
        application: impl Application,
        acceptor: Acceptor,
        limits: Limits,
        shutdown: CancellationToken,
    ) {
        let cut = CancellationToken::new();
        let connections = TaskTracker::new();
        let places = Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS)));
        let accepting = async {
            loop {
                let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
                let (tcp, peer) = self.accept().await;
                let (application, acceptor) = (application.clone(), acceptor.clone());
                let (shutdown, cut) = (shutdown.clone(), cut.clone());
                connections.spawn(async move {
                    tokio::select! {
                        () = connection::serve(tcp, peer, &acceptor, &application, limits, shutdown) => {}
                        () = cut.cancelled() => {}
                    }
                    drop(place);
                });
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = accepting => {}
        }
        drop(self.listener);
        connections.close();
        if tokio::time::timeout(limits.drain, connections.wait()).await.is_err() {
            tracing::warn!(
                connections = connections.len(),
                "cutting off requests that did not finish in time"
            );
            cut.cancel();
            connections.wait().await;
        }
    }

    /// The next connection. What fails is the one connection, or the process is short of file
    /// descriptors; either way the listener goes on.
    async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                Err(error) if is_the_connections(&error) => {}
                Err(error) => {
                    tracing::warn!(address = %self.local, %error, "can't accept connections; trying again");
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
            }
        }
    }
}

fn is_the_connections(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
