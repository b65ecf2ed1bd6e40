//! A webhook's receiver, as lean as it gets: it answers every POST at once, and counts.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::{Outcome, feed::Mark, http::Conversation, kernel, stats::Spread, wait::Counter};

/// What POSTs are answered with.
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
    refuses: AtomicBool,
    seen: Mutex<Seen>,
}

/// A POST with a mark.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// Its mark.
    pub mark: Mark,
    /// When it came, by [`kernel::nanos`].
    pub at: u64,
    /// Whether it was taken, and not refused.
    pub taken: bool,
}

/// What the marks tell.
#[derive(Debug, Default)]
struct Seen {
    arrivals: Vec<Arrival>,
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
        tally.answer_with(answer);
        let counted = tally.clone();
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let tally = counted.clone();
                tally.connections.fetch_add(1, Ordering::Relaxed);
                let open = tally.open.fetch_add(1, Ordering::Relaxed) + 1;
                tally.most_open.fetch_max(open, Ordering::Relaxed);
                tokio::spawn(async move {
                    // A connection that breaks is the client's affair.
                    let _ = tally.serve(stream).await;
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

    /// What every POST is answered with from now on.
    pub fn answer_with(&self, answer: Answer) {
        self.tally.answer_with(answer);
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
        let took = |arrival: Arrival| {
            i64::try_from(arrival.at.saturating_sub(arrival.mark.sent_at)).unwrap_or(i64::MAX)
        };
        Spread::new(self.take_arrivals().into_iter().map(took).collect())
    }

    /// The POSTs with a mark since the last call.
    pub fn take_arrivals(&self) -> Vec<Arrival> {
        std::mem::take(&mut self.tally.seen().arrivals)
    }

    /// How many events came behind a later one of their user, or twice.
    pub fn out_of_order(&self) -> u64 {
        self.tally.seen().out_of_order
    }
}

impl Tally {
    fn answer_with(&self, answer: Answer) {
        self.refuses.store(answer == Answer::Refuses, Ordering::Relaxed);
    }

    fn answer(&self) -> Answer {
        if self.refuses.load(Ordering::Relaxed) { Answer::Refuses } else { Answer::Takes }
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut conversation = Conversation::on(stream)?;
        while let Some(request) = conversation.next().await? {
            let answer = self.answer();
            self.bytes.fetch_add(request.body.len() as u64, Ordering::Relaxed);
            if let Some(mark) = Mark::of_body(request.body) {
                self.seen().note(mark, answer == Answer::Takes);
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
    fn note(&mut self, mark: Mark, taken: bool) {
        self.arrivals.push(Arrival { mark, at: kernel::nanos(), taken });
        let last = self.last.entry(mark.user).or_default();
        if mark.number <= *last {
            self.out_of_order += 1;
        }
        *last = mark.number.max(*last);
    }
}
