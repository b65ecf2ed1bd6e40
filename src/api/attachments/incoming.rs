//! A large body, taken as it comes: read when there is room for more, and never waited for in vain.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::Stream;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::time::{Instant, Sleep};

use crate::api::problem::{Code, Problem};

/// What must come within the time limit of a body, each time anew: a slow line gets through with a large
/// file, a body that never comes does not.
const STEP: usize = 64 * 1024;
/// How long, and how much of, a body is read on that was refused: a caller who is cut off while it still
/// writes may never read why.
const LINGER: Duration = Duration::from_secs(10);
const MOST_LINGER: usize = 64 * 1024 * 1024;

/// Why a body came to no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// It does not come, or hardly.
    #[error("less than 64 KiB of the body arrived within {} s", .0.as_secs())]
    Stalled(Duration),
    /// The connection broke, or its chunks are none.
    #[error("the body broke off or is badly chunked")]
    Broken,
    /// There is no end of what comes before a part's contents.
    #[error("the headers of a part are larger than {} KiB", super::parts::MOST_HEAD / 1024)]
    HeadTooLarge,
}

impl From<Trouble> for Problem {
    fn from(trouble: Trouble) -> Self {
        let code = match trouble {
            Trouble::Stalled(_) => Code::BodyTimeout,
            Trouble::Broken | Trouble::HeadTooLarge => Code::MalformedBody,
        };
        Self::new(code, trouble.to_string())
    }
}

/// How long a body may still keep us waiting; no clock.
#[derive(Debug)]
struct Patience {
    limit: Duration,
    left: Duration,
    /// What came since the last step.
    came: usize,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        Self { limit, left: limit, came: 0 }
    }

    fn came(&mut self, bytes: usize, after: Duration) {
        self.left = self.left.saturating_sub(after);
        self.came += bytes;
        if self.came >= STEP {
            (self.came, self.left) = (0, self.limit);
        }
    }
}

/// A caller's body. Only the time that it keeps us waiting counts, not what we do meanwhile.
pub(super) struct CallersBody {
    /// None when there is no more to read.
    body: Option<Body>,
    has_begun: bool,
    patience: Patience,
    waiting_since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl CallersBody {
    /// `limit` is for each 64 KiB.
    pub(super) fn new(body: Body, limit: Duration) -> Self {
        Self {
            body: Some(body),
            has_begun: false,
            patience: Patience::new(limit),
            waiting_since: None,
            timer: Box::pin(tokio::time::sleep(limit)),
        }
    }

    fn waited(&mut self) -> Duration {
        self.waiting_since.take().map(|since| since.elapsed()).unwrap_or_default()
    }
}

impl Stream for CallersBody {
    type Item = Result<Bytes, Trouble>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            let polled = Pin::new(body).poll_frame(cx);
            self.has_begun = true;
            match polled {
                Poll::Ready(Some(Ok(frame))) => {
                    let waited = self.waited();
                    // What is no data is trailers, which say nothing here.
                    let data = frame.into_data().unwrap_or_default();
                    self.patience.came(data.len(), waited);
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Poll::Ready(Some(Err(_))) => {
                    self.body = None;
                    return Poll::Ready(Some(Err(Trouble::Broken)));
                }
                Poll::Ready(None) => {
                    self.body = None;
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    if self.waiting_since.is_none() {
                        let now = Instant::now();
                        let until = now + self.patience.left;
                        self.waiting_since = Some(now);
                        self.timer.as_mut().reset(until);
                    }
                    ready!(self.timer.as_mut().poll(cx));
                    self.body = None;
                    return Poll::Ready(Some(Err(Trouble::Stalled(self.patience.limit))));
                }
            }
        }
    }
}

impl Drop for CallersBody {
    fn drop(&mut self) {
        // One that was not begun may still be held back by its caller (`expect: 100-continue`).
        if let Some(body) = self.body.take().filter(|_| self.has_begun)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(tokio::time::timeout(LINGER, read_on(body)));
        }
    }
}

async fn read_on(mut body: Body) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MOST_LINGER {
            return;
        }
    }
}

/// The same body for a reader that takes all it can get before it does anything with it: one piece at a
/// time, with a pause after each, and no endless heads of parts.
pub(super) struct Rationed {
    body: CallersBody,
    has_given: bool,
    head: super::parts::Head,
}

impl Rationed {
    pub(super) fn new(body: CallersBody, head: super::parts::Head) -> Self {
        Self { body, has_given: false, head }
    }
}

impl Stream for Rationed {
    type Item = Result<Bytes, Trouble>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.has_given) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.head.is_too_large() {
            return Poll::Ready(Some(Err(Trouble::HeadTooLarge)));
        }
        let given = ready!(Pin::new(&mut self.body).poll_next(cx));
        if let Some(Ok(data)) = &given {
            self.has_given = true;
            self.head.came(data.len());
        }
        Poll::Ready(given)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt as _, stream};
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// A body that comes in pieces, each so long after the one before.
    fn body(pieces: Vec<(Duration, usize)>) -> CallersBody {
        let frames = stream::iter(pieces).then(|(after, size)| async move {
            tokio::time::sleep(after).await;
            Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; size])))
        });
        CallersBody::new(Body::new(StreamBody::new(Box::pin(frames))), LIMIT)
    }

    async fn read(mut body: CallersBody) -> Result<usize, Trouble> {
        let mut sum = 0;
        while let Some(piece) = body.next().await {
            sum += piece?.len();
        }
        Ok(sum)
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_line_gets_through_and_a_trickle_does_not() {
        let seconds = Duration::from_secs;
        assert_eq!(read(body(vec![(seconds(29), STEP); 400])).await, Ok(400 * STEP));
        assert_eq!(read(body(vec![(seconds(4), STEP / 4); 100])).await, Ok(25 * STEP));
        let stalled = Err(Trouble::Stalled(LIMIT));
        assert_eq!(read(body(vec![(seconds(1), 100); 100])).await, stalled);
        assert_eq!(read(body(vec![(seconds(1), STEP), (seconds(31), STEP)])).await, stalled);
    }

    #[tokio::test(start_paused = true)]
    async fn what_we_do_meanwhile_is_not_held_against_the_caller() {
        let mut body = body(vec![(Duration::from_secs(20), 10); 2]);
        // 20 s, then an hour of ours, then nothing to wait for: it has come in the meantime.
        assert_eq!(body.next().await.unwrap().unwrap().len(), 10);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        body.patience.left = Duration::from_secs(21);
        assert_eq!(body.next().await.unwrap().unwrap().len(), 10);
        assert!(body.next().await.is_none());
    }
}
