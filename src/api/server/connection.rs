//! One connection: hyper's HTTP/1, within the deadlines.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use axum::{
    body::Body,
    http::Request,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::FutureExt as _;
use hyper::{
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Acceptor, Application, Limits,
    deadline::{BusyGuard, Watch, Watched},
};
use crate::api::problem::{Code, Problem};

/// The largest head that is answered with a problem.
const MAX_HEAD: usize = 32 * 1024;
/// The largest head that hyper reads; a larger one it answers with a bare `431`.
const HARD_MAX_HEAD: usize = 128 * 1024;

/// Serves one connection until it ends, keeps us waiting for too long, or was drained.
pub(super) async fn serve(
    tcp: TcpStream,
    peer: SocketAddr,
    acceptor: &Acceptor,
    application: &impl Application,
    limits: Limits,
    shutdown: CancellationToken,
) {
    // Answers are small and whole: waiting for more to send gains nothing.
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%peer, %error, "can't set TCP_NODELAY");
    }
    let watch = Watch::new();
    let accepted = tokio::select! {
        accepted = tokio::time::timeout(limits.header_timeout, acceptor.accept(tcp)) => accepted,
        () = shutdown.cancelled() => return,
    };
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return tracing::debug!(%peer, %error, "a connection failed to start");
        }
        Err(_) => return tracing::debug!(%peer, "a connection did not start in time"),
    };
    let service = service_fn(|request| answer(request, watch.busy(), application));
    let stream = Watched::new(stream, watch.clone());
    // By itself hyper reads while a request is being answered, into a buffer of 8 KiB for each, to see whether its
    // caller is still there.
    let looks_itself = stream.notices_hanging_up();
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_header_size(HARD_MAX_HEAD)
            .half_close(looks_itself)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        biased;
        () = in_time(connection.as_mut(), &watch, &limits) => return,
        () = shutdown.cancelled() => {}
    }
    watch.drain();
    connection.as_mut().graceful_shutdown();
    in_time(connection, &watch, &limits).await;
}

/// Drives a connection until it ends or its deadline is over.
///
/// Everything that moves the deadline happens while the connection is polled, so that looking at it
/// after each poll misses nothing.
async fn in_time<C>(mut connection: Pin<&mut C>, watch: &Watch, limits: &Limits)
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut timer = pin!(tokio::time::sleep_until(Instant::now()));
    poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection broke off");
            }
            return Poll::Ready(());
        }
        let Some(deadline) = watch.deadline(limits) else { return Poll::Pending };
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx)
    })
    .await;
}

async fn answer(
    request: Request<Incoming>,
    guard: BusyGuard,
    application: &impl Application,
) -> Result<Response<Guarded>, Infallible> {
    let response = if head_size(&request) > MAX_HEAD {
        let detail = format!("the request's head is larger than {MAX_HEAD} bytes");
        Problem::new(Code::HeadTooLarge, detail).into_response()
    } else {
        contained(request.map(Body::new), application).await
    };
    Ok(response.map(|body| Guarded { body, _guard: guard }))
}

/// Turns a handler's panic into a `500`: the one request fails, the connection lives on.
async fn contained(request: Request<Body>, application: &impl Application) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    match AssertUnwindSafe(application.answer(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!(%method, path = ?uri.path(), "a request's handler panicked");
            Problem::new(Code::InternalError, "the bridge failed to answer this request; its log says why")
                .into_response()
        }
    }
}

fn head_size<B>(request: &Request<B>) -> usize {
    // hyper keeps a target's parts, not its text; its host and scheme are in `host` as well.
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    target + fields.sum::<usize>()
}

/// An answer's body; until it has gone out, the request is being answered.
struct Guarded {
    body: Body,
    _guard: BusyGuard,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
