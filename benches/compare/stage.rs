//! A peer at work, and all that it talks to.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    Outcome,
    feed::Feed,
    history::History,
    install::Tools,
    ledger::{Fate, Ledger},
    peer::{Peer, Process, Surroundings, said_before_the_end},
    platform::{Asked, Bot, Platform},
    receiver::{Answer, Receiver},
    stripe,
};

/// The type of the events that the receiver wants.
pub const ANSWERS: &str = "bot_response";
/// What is deferred is done after this, and counts as well.
pub const SETTLES: Duration = Duration::from_millis(300);
/// So many pushes, and others get their turn.
const PUSHES_IN_A_ROW: usize = 8;
/// Without any POST for so long, none will come: who opens thousands of connections at once waits for
/// the kernel, which asks again for those that were not let in after 1, 3, 7, 15 and 31 seconds.
const STALLS: Duration = Duration::from_secs(40);
/// How often it is looked whether more has come.
const LOOKS: Duration = Duration::from_millis(100);

/// A peer with connected users, the platform and the receiver.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The platform.
    pub platform: Platform,
    /// The receiver.
    pub receiver: Receiver,
    peer: Peer,
    tools: &'a Tools,
    process: Option<Process>,
    users: usize,
    feed: Feed,
    history: Arc<History>,
    ledger: Option<Ledger>,
    wrapped: Vec<u8>,
    directory: TempDir,
}

impl<'a> Stage<'a> {
    /// Starts everything, and waits until all users are connected.
    pub async fn start(peer: Peer, tools: &'a Tools, users: usize) -> Outcome<Self> {
        let history = Arc::new(History::default());
        let remembered = history.clone();
        let routes = move |asked: &Asked<'_>| remembered.page(asked).or_else(|| stripe::session(asked));
        let platform = Platform::start_with(Bot::Acks, Some(Box::new(routes))).await?;
        let receiver = Receiver::start(Answer::Takes).await?;
        let directory = tempfile::Builder::new().prefix("run-").tempdir_in(tools.home())?;
        let (feed, ledger) = (Feed::new(ANSWERS, users), None);
        let mut stage = Self {
            platform,
            receiver,
            peer,
            tools,
            process: None,
            users,
            feed,
            history,
            ledger,
            wrapped: Vec::new(),
            directory,
        };
        stage.start_process().await?;
        Ok(stage)
    }

    /// The peer's process.
    pub fn process(&self) -> Outcome<&Process> {
        self.process.as_ref().ok_or_else(|| "it isn't running".into())
    }

    /// Starts the process, and waits until all users are connected.
    pub async fn start_process(&mut self) -> Outcome<()> {
        let opens = self.platform.opens();
        let around = Surroundings {
            directory: self.directory.path(),
            platform: &self.platform,
            receiver: &self.receiver,
            users: self.users,
        };
        let process = self.process.insert(Process::start(self.peer, self.tools, around).await?);
        let sockets = self.peer.sockets(self.users) as u64;
        let trouble = tokio::select! {
            connected = self.platform.opened(usize::try_from(opens + sockets)?) => match connected {
                Ok(()) => return Ok(()),
                Err(error) => error.to_string(),
            },
            () = process.ended() => "it ended early".to_owned(),
        };
        Err(format!("{trouble}; {}", said_before_the_end(self.directory.path())).into())
    }

    /// Kills the process, and waits until the platform has noticed.
    pub async fn kill(&mut self) -> Outcome<()> {
        self.process.take().ok_or("it isn't running")?.kill().await?;
        while (0..self.users).any(|user| self.platform.is_connected(user)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// From now on, what is said is remembered, and compared with what comes.
    pub fn keep_books(&mut self) {
        self.receiver.take_arrivals();
        self.ledger = Some(Ledger::default());
    }

    /// The platform says something to a user, on its socket if it has one.
    pub async fn say(&mut self, user: usize) -> Outcome<()> {
        let (mark, frame) = self.feed.next_marked(user);
        let (socket, frame) = match self.peer {
            Peer::Stripe => {
                stripe::envelope(frame, &mut self.wrapped);
                (stripe::USER, &*self.wrapped)
            }
            _ => (user, frame),
        };
        let Some(ledger) = &mut self.ledger else { return self.platform.push(socket, frame).await };
        self.history.add(mark);
        let is_connected = self.platform.is_connected(socket);
        ledger.say(mark, is_connected);
        if is_connected {
            // A socket that breaks is what this is about.
            let _ = self.platform.push(socket, frame).await;
        }
        Ok(())
    }

    /// Says so much to all users in turn, as fast as they take it. Ends early if `until` says so, and
    /// answers with how much was said.
    pub async fn say_at_once(&mut self, events: usize, until: impl Fn(&Self) -> bool) -> Outcome<usize> {
        for index in 0..events {
            self.say(index % self.users).await?;
            if index.is_multiple_of(PUSHES_IN_A_ROW) {
                tokio::task::yield_now().await;
                if until(self) {
                    return Ok(index + 1);
                }
            }
        }
        Ok(events)
    }

    /// Says so much at this pace.
    pub async fn say_paced(&mut self, events: usize, per_second: f64) -> Outcome<()> {
        let started = tokio::time::Instant::now();
        for index in 0..events {
            tokio::time::sleep_until(started + Duration::from_secs_f64(index as f64 / per_second)).await;
            self.say(index % self.users).await?;
        }
        Ok(())
    }

    /// Waits until there were so many POSTs in all, or none comes any more.
    pub async fn quiet(&self, posts: u64) {
        let (mut seen, mut last) = (self.posts(), Instant::now());
        while seen < posts && last.elapsed() < STALLS {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if self.posts() > seen {
                (seen, last) = (self.posts(), Instant::now());
            }
        }
    }

    /// Waits until everything that was said has come, or nothing comes any more, and closes the books.
    pub async fn settle(&mut self) -> Outcome<Fate> {
        let ledger = self.ledger.take().ok_or("no books were kept")?;
        let (mut arrivals, mut last) = (self.receiver.take_arrivals(), Instant::now());
        let mut fate = ledger.settle(&arrivals);
        while fate.lost > 0 && last.elapsed() < self.peer.patience() {
            tokio::time::sleep(LOOKS).await;
            let more = self.receiver.take_arrivals();
            if !more.is_empty() {
                last = Instant::now();
                arrivals.extend(more);
                fate = ledger.settle(&arrivals);
            }
        }
        // What comes twice comes soon.
        tokio::time::sleep(SETTLES).await;
        arrivals.extend(self.receiver.take_arrivals());
        Ok(ledger.settle(&arrivals))
    }

    /// How many POSTs there were, those that were refused as well.
    pub fn posts(&self) -> u64 {
        self.receiver.posts()
    }

    /// Ends the process; what it would do before its end is not waited for.
    pub async fn end(mut self) -> Outcome<()> {
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }
}
