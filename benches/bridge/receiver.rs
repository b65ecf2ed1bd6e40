//! A webhook's receiver, as lean as it gets: it answers every POST at once, and counts.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::{Outcome, feed::Mark, http::Conversation, kernel, stats::Spread, wait::Counter};

/// What every POST is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// 200.
    Takes,
    /// 503: it is out of order.
    Refuses,
}

impl Answer {
    const fn bytes(self) -> &'static [u8] {
        match self {
            Self::Takes => b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            Self::Refuses => b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
        }
    }
}

/// A running receiver. It stops listening with this value; its connections end with their client.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    tally: Arc<Tally>,
    _listening: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Tally {
    posts: Counter,
    bytes: AtomicU64,
    open: AtomicU64,
    most_open: AtomicU64,
    connections: AtomicU64,
    seen: Mutex<Seen>,
}

/// What the marks tell.
#[derive(Debug, Default)]
struct Seen {
    took: Vec<i64>,
    last: HashMap<usize, u64>,
    out_of_order: u64,
}

/// Connections that a receiver had.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// The most at once.
    pub most_open: u64,
    /// All of them.
    pub in_all: u64,
}

impl Receiver {
    /// Starts one.
    pub async fn start(answer: Answer) -> Outcome<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let tally = Arc::new(Tally::default());
        let counted = tally.clone();
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let tally = counted.clone();
                tally.connections.fetch_add(1, Ordering::Relaxed);
                let open = tally.open.fetch_add(1, Ordering::Relaxed) + 1;
                tally.most_open.fetch_max(open, Ordering::Relaxed);
                tokio::spawn(async move {
                    // A connection that breaks is the client's affair.
                    let _ = tally.serve(stream, answer).await;
                    tally.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Ok(Self { address, tally, _listening: AbortOnDropHandle::new(listening) })
    }

    /// Where events go.
    pub fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    /// How many POSTs there were.
    pub fn posts(&self) -> u64 {
        self.tally.posts.get()
    }

    /// Waits until there were so many POSTs in all.
    pub async fn received(&self, posts: u64) -> Outcome<()> {
        self.tally.posts.reach(posts, "events at the receiver").await
    }

    /// The mean length of a body, in bytes.
    pub fn body_length(&self) -> usize {
        let bytes = self.tally.bytes.load(Ordering::Relaxed);
        usize::try_from(bytes / self.posts().max(1)).unwrap_or(usize::MAX)
    }

    /// The connections so far.
    pub fn connections(&self) -> Connections {
        let Tally { most_open, connections, .. } = &*self.tally;
        Connections {
            most_open: most_open.load(Ordering::Relaxed),
            in_all: connections.load(Ordering::Relaxed),
        }
    }

    /// How long the POSTs took since the last call, from the mark to their arrival.
    pub fn take_spread(&self) -> Spread {
        Spread::new(std::mem::take(&mut self.tally.seen().took))
    }

    /// How many events came behind a later one of their user, or twice.
    pub fn out_of_order(&self) -> u64 {
        self.tally.seen().out_of_order
    }
}

impl Tally {
    async fn serve(&self, stream: TcpStream, answer: Answer) -> std::io::Result<()> {
        let mut conversation = Conversation::on(stream)?;
        while let Some(request) = conversation.next().await? {
            self.bytes.fetch_add(request.body.len() as u64, Ordering::Relaxed);
            if let Some(mark) = Mark::of_envelope(request.body) {
                self.seen().note(mark);
            }
            conversation.write(answer.bytes()).await?;
            self.posts.add();
        }
        Ok(())
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn note(&mut self, mark: Mark) {
        self.took.push(i64::try_from(kernel::nanos().saturating_sub(mark.sent_at)).unwrap_or(i64::MAX));
        let last = self.last.entry(mark.user).or_default();
        if mark.number <= *last {
            self.out_of_order += 1;
        }
        *last = mark.number.max(*last);
    }
}
