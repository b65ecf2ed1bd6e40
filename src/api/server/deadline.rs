//! When a connection has kept us waiting for too long, or its caller is gone.
//!
//! ```text
//!          first byte          whole head             answer's end
//!   Fresh ───────────> Head ──────────────> Busy ────────────────────> Idle
//!                       ^                                               │
//!                       └───────────────── next byte ───────────────────┘
//! ```

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};
use tokio_util::either::Either;

use super::{Limits, Stream};

/// How long a connection without a request in flight may go on after the shutdown began: enough
/// for a head that is on its way.
const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing came yet.
    Fresh,
    /// A head is arriving.
    Head,
    /// A request is being answered.
    Busy,
    /// An answer went out, and nothing came since.
    Idle,
}

/// What a connection is doing, and since when.
#[derive(Debug)]
pub(super) struct Activity {
    phase: Phase,
    since: Instant,
    /// Since when the client takes nothing of what we write.
    blocked: Option<Instant>,
    draining: Option<Instant>,
}

impl Activity {
    fn new(now: Instant) -> Self {
        Self { phase: Phase::Fresh, since: now, blocked: None, draining: None }
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        (self.phase, self.since) = (phase, now);
    }

    fn read(&mut self, now: impl FnOnce() -> Instant) {
        match self.phase {
            // A new connection's head counts from its start: connecting and waiting gains nothing.
            Phase::Fresh => self.phase = Phase::Head,
            Phase::Idle => self.enter(Phase::Head, now()),
            Phase::Head | Phase::Busy => {}
        }
    }

    fn wrote(&mut self, pending: bool, now: impl FnOnce() -> Instant) {
        self.blocked = pending.then(|| self.blocked.unwrap_or_else(now));
    }

    /// When the connection is to be closed, as things are.
    fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let waiting = match self.phase {
            Phase::Fresh | Phase::Head => Some(self.since + limits.header_timeout),
            Phase::Idle => Some(self.since + limits.idle_timeout),
            Phase::Busy => None,
        };
        let draining = self.draining.filter(|_| self.phase != Phase::Busy).map(|at| at + DRAIN_GRACE);
        let blocked = self.blocked.map(|at| at + limits.idle_timeout);
        [waiting, draining, blocked].into_iter().flatten().min()
    }
}

/// A connection's activity, shared by its stream, its requests and its deadline, which all run in
/// its one task.
#[derive(Debug, Clone)]
pub(super) struct Watch(Arc<Mutex<Activity>>);

impl Watch {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Activity::new(Instant::now()))))
    }

    /// A request's head is whole: it is being answered for as long as the guard lives.
    pub fn busy(&self) -> BusyGuard {
        self.lock().enter(Phase::Busy, Instant::now());
        BusyGuard(self.clone())
    }

    /// The shutdown began.
    pub fn drain(&self) {
        self.lock().draining = Some(Instant::now());
    }

    /// When the connection is to be closed, as things are.
    pub fn deadline(&self, limits: &Limits) -> Option<Instant> {
        self.lock().deadline(limits)
    }

    fn is_busy(&self) -> bool {
        self.lock().phase == Phase::Busy
    }

    fn lock(&self) -> MutexGuard<'_, Activity> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lives as long as a request is being answered.
#[derive(Debug)]
pub(super) struct BusyGuard(Watch);

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.lock().enter(Phase::Idle, Instant::now());
    }
}

/// A stream that tells what goes over it, and notices while a request is being answered that its caller hung up.
#[derive(Debug)]
pub(super) struct Watched {
    stream: Stream,
    watch: Watch,
}

impl Watched {
    pub fn new(stream: Stream, watch: Watch) -> Self {
        Self { stream, watch }
    }

    /// Whether a caller that hangs up while it is being answered is noticed here: then hyper need not read to see it.
    pub fn notices_hanging_up(&self) -> bool {
        matches!(self.stream, Either::Left(_))
    }

    fn wrote<T>(&self, outcome: Poll<T>) -> Poll<T> {
        self.watch.lock().wrote(outcome.is_pending(), Instant::now);
        outcome
    }

    /// Looks whether the caller hung up, without reading what it may have sent; wakes this task when there is
    /// something new to see. What lies behind TLS can't be seen so.
    fn look_for_the_end(&self, cx: &mut Context<'_>) -> io::Result<()> {
        let Either::Left(tcp) = &self.stream else { return Ok(()) };
        let mut first = [MaybeUninit::uninit()];
        match tcp.poll_peek(cx, &mut ReadBuf::uninit(&mut first)) {
            Poll::Ready(Ok(0)) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the caller hung up")),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.watch.lock().read(Instant::now);
        }
        outcome
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes whenever it has looked what there is to do, so also when it begins to wait for an answer.
        if self.watch.is_busy() {
            self.look_for_the_end(cx)?;
        }
        // Not told: a flush with nothing to write would end a write's wait.
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(75),
        max_connections: 1,
        drain: Duration::from_secs(5),
    };

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_head_counts_from_its_first_byte_and_trickling_gains_nothing() {
        let start = Instant::now();
        let mut activity = Activity::new(start);
        assert_eq!(activity.deadline(&LIMITS), Some(start + seconds(10)));
        activity.read(|| start + seconds(9));
        assert_eq!(activity.deadline(&LIMITS), Some(start + seconds(10)));
        activity.enter(Phase::Busy, start + seconds(9));
        activity.enter(Phase::Idle, start + seconds(20));
        assert_eq!(activity.deadline(&LIMITS), Some(start + seconds(95)));
        activity.read(|| start + seconds(90));
        activity.read(|| start + seconds(99));
        assert_eq!(activity.deadline(&LIMITS), Some(start + seconds(100)));
    }

    #[test]
    fn an_answer_may_take_its_time_unless_the_client_takes_none_of_it() {
        let start = Instant::now();
        let mut activity = Activity::new(start);
        activity.enter(Phase::Busy, start);
        assert_eq!(activity.deadline(&LIMITS), None);
        activity.wrote(true, || start + seconds(1));
        activity.wrote(true, || start + seconds(50));
        assert_eq!(activity.deadline(&LIMITS), Some(start + seconds(76)));
        activity.wrote(false, || start + seconds(60));
        assert_eq!(activity.deadline(&LIMITS), None);
    }

    #[test]
    fn draining_leaves_no_time_but_to_requests_in_flight() {
        let start = Instant::now();
        let mut activity = Activity::new(start);
        activity.draining = Some(start);
        assert_eq!(activity.deadline(&LIMITS), Some(start + DRAIN_GRACE));
        activity.enter(Phase::Busy, start);
        assert_eq!(activity.deadline(&LIMITS), None);
    }
}
