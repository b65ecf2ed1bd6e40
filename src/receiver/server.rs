//! A receiver's connections.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, task::JoinSet};

use super::{Gate, ReceivedEvent, Reply, Shared, Verdict};
use crate::clock::Timestamp;

/// Largest body that is read.
const MAX_BODY: usize = 16 * 1024 * 1024;
/// How long a request's head may take, and how long a connection may stay idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);

/// Accepts connections until it is dropped, and its connections with it.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    connections.spawn(connection(stream, Counted::new(shared.clone())));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: others end in the meantime.
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Counts a connection for as long as it lives.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: Arc<Shared>) -> Self {
        shared.open_connections.fetch_add(1, Ordering::Relaxed);
        shared.accepted_connections.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(stream: tokio::net::TcpStream, counted: Counted) {
    let service = service_fn(|request| {
        let shared = counted.0.clone();
        async move { Ok::<_, Infallible>(handle(request, &shared).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended badly");
    }
}

async fn handle(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    if ![Method::POST, Method::PUT].contains(request.method()) {
        return respond(Reply::status(405).header(hyper::header::ALLOW, "POST, PUT"));
    }
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return respond(Reply::status(413));
    };
    let mut event = ReceivedEvent::read(head.headers, body.to_bytes(), &shared.signer, Timestamp::now());
    let reply = if shared.refuses(event.signature) {
        Reply::status(401).body(format!("{}\n", event.signature))
    } else {
        shared.behaviour.choose(&event)
    };
    event.method = head.method;
    event.answered = reply.status.as_u16();
    let event = Arc::new(event);
    shared.log.attempt(event.clone());
    shared.gate_opened().await;
    if !reply.delay.is_zero() {
        tokio::time::sleep(reply.delay).await;
    }
    if reply.status.is_success() {
        shared.log.event(event.clone());
    }
    // Nobody need be listening.
    let _ = shared.feed.send(event);
    respond(reply)
}

impl Shared {
    /// Whether a request with such a signature is turned away.
    fn refuses(&self, signature: Verdict) -> bool {
        !self.signer.is_empty() && signature != Verdict::Verified
    }

    async fn gate_opened(&self) {
        let opened = self.gate.subscribe().wait_for(|gate| *gate == Gate::Open).await.map(drop);
        opened.expect("its sender lives as long as this receiver");
    }
}

fn respond(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(reply.body));
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    if reply.status == StatusCode::NO_CONTENT {
        *response.body_mut() = Full::default();
    }
    response
}
