//! One connection, driven by whoever uses it: there is no task beside the delivery's own, so that
//! nothing has to be handed over and nobody to be woken between a request and its answer.

use std::{
    fmt,
    future::{Future as _, poll_fn},
    mem,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Body as _, Incoming},
    client::conn::http1,
    header::HeaderMap,
};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::unconstrained};

/// An idle connection keeps memory for so many headers, and no more.
const MOST_ROOM: usize = 64;

/// What a connection runs over.
pub(super) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// A connection to a receiver. Dropping it closes it.
pub(in crate::webhook) struct Connection {
    requests: http1::SendRequest<Full<Bytes>>,
    /// None once it has ended.
    driver: Option<http1::Connection<Stream, Full<Bytes>>>,
    /// Memory of the headers before, for the next ones.
    headers_room: HeaderMap,
}

impl Connection {
    /// Speaks HTTP/1.1 over a stream.
    pub(super) async fn over(stream: Stream) -> hyper::Result<Self> {
        let (requests, driver) = http1::handshake(stream).await?;
        Ok(Self { requests, driver: Some(driver), headers_room: HeaderMap::new() })
    }

    /// An empty map, for the next request's headers. hyper puts the answer's into the same memory.
    pub(in crate::webhook) fn headers_room(&mut self) -> HeaderMap {
        mem::take(&mut self.headers_room)
    }

    /// Takes back an answer's headers, when nobody needs them any more.
    pub(in crate::webhook) fn keep_headers_room(&mut self, mut headers: HeaderMap) {
        if headers.capacity() <= MOST_ROOM {
            headers.clear();
            self.headers_room = headers;
        }
    }

    /// Sends a request and waits for the answer's head.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        let Self { requests, driver, .. } = self;
        // The answer can only come by the driver, and is looked for as soon as that one has run: it need
        // not wake anybody, and must not count on being asked again (hence unconstrained).
        let mut answer = pin!(unconstrained(requests.send_request(request)));
        poll_fn(|cx| {
            drive(driver, cx);
            answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }

    /// The next piece of an answer's body; none at its end, whether it is a good one or not.
    pub(in crate::webhook) async fn chunk(&mut self, body: &mut Incoming) -> Option<Bytes> {
        loop {
            let frame = poll_fn(|cx| {
                drive(&mut self.driver, cx);
                Pin::new(&mut *body).poll_frame(cx)
            });
            // Trailers are not looked at.
            if let Ok(data) = frame.await?.ok()?.into_data() {
                return Some(data);
            }
        }
    }

    /// Whether it can take a request, as far as this end knows. A body that nobody reads any more costs
    /// the connection, unless all of it is there already.
    pub(super) fn is_ready(&mut self) -> bool {
        // Nobody is to be woken by an idle connection.
        drive(&mut self.driver, &mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.requests.is_ready()
    }
}

/// Writes and reads what can be now. How the connection ended, whoever waits for an answer is told.
fn drive(driver: &mut Option<http1::Connection<Stream, Full<Bytes>>>, cx: &mut Context<'_>) {
    if let Some(running) = driver
        && let Poll::Ready(_) = Pin::new(running).poll(cx)
    {
        *driver = None;
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
