//! HTTP clients of the API, as lean as they get: kept connections, one request at a time on each.

use std::{
    io::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::{
    Outcome,
    http::Conversation,
    kernel,
    platform::{NumberedText, UserName},
};

/// One caller.
#[derive(Debug)]
pub struct Caller {
    /// The address, as a field.
    host: String,
    conversation: Conversation,
    request: Vec<u8>,
    body: Vec<u8>,
}

impl Caller {
    /// Connects.
    pub async fn to(address: SocketAddr) -> Outcome<Self> {
        let conversation = Conversation::with(address).await?;
        Ok(Self { host: address.to_string(), conversation, request: Vec::new(), body: Vec::new() })
    }

    /// POSTs a numbered message of a user, and insists on this status.
    pub async fn post(&mut self, user: usize, number: usize, query: &str, status: &str) -> Outcome<()> {
        self.body.clear();
        write!(self.body, r#"{{"text":"{}"}}"#, NumberedText(number))?;
        self.request.clear();
        write!(
            self.request,
            "POST /v1/users/{}/messages{query} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            UserName(user),
            self.host,
            self.body.len()
        )?;
        self.request.extend_from_slice(&self.body);
        self.conversation.write(&self.request).await?;
        let answer = self.conversation.next().await?.ok_or("the API hung up")?;
        if answer.second_word() == status {
            return Ok(());
        }
        let (head, body) = (answer.head, String::from_utf8_lossy(answer.body));
        Err(format!("the API said {:?}: {body}", head.lines().next().unwrap_or_default()).into())
    }

    /// GETs JSON.
    pub async fn get(&mut self, path: &str) -> Outcome<Value> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.host);
        self.conversation.write(request.as_bytes()).await?;
        let answer = self.conversation.next().await?.ok_or("the API hung up")?;
        Ok(serde_json::from_slice(answer.body)?)
    }
}

/// Who posts what to whom.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// The API.
    pub api: SocketAddr,
    /// Connections.
    pub callers: usize,
    /// Users that the messages are spread over.
    pub users: usize,
    /// The first message's number; the others follow.
    pub first: usize,
    /// How many messages.
    pub messages: usize,
}

impl Load {
    /// Posts as fast as the answers come. Answers with how long that took.
    pub async fn flood(self) -> Outcome<Duration> {
        let next = Arc::new(AtomicUsize::new(0));
        let mut callers = Vec::new();
        for _ in 0..self.callers {
            callers.push(Caller::to(self.api).await?);
        }
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for mut caller in callers {
            let next = next.clone();
            tasks.spawn(async move {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= self.messages {
                        return Outcome::Ok(());
                    }
                    caller.post(index % self.users, self.first + index, "", "202").await?;
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(started.elapsed())
    }

    /// Posts so many a second, the callers in turn; a caller that is still busy is late.
    pub async fn paced(self, per_second: f64) -> Outcome<Vec<Posted>> {
        let step = Duration::from_secs_f64(1.0 / per_second);
        let started = tokio::time::Instant::now();
        let mut tasks = JoinSet::new();
        for caller_index in 0..self.callers {
            let mut caller = Caller::to(self.api).await?;
            tasks.spawn(async move {
                let mut posted = Vec::new();
                for index in (caller_index..self.messages).step_by(self.callers) {
                    tokio::time::sleep_until(started + step.mul_f64(index as f64)).await;
                    let (number, sent_at) = (self.first + index, kernel::nanos());
                    caller.post(index % self.users, number, "", "202").await?;
                    posted.push(Posted { number, sent_at, answered_at: kernel::nanos() });
                }
                Outcome::Ok(posted)
            });
        }
        let mut posted = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            posted.extend(ended??);
        }
        Ok(posted)
    }
}

/// A message and its `202`, by [`kernel::nanos`].
#[derive(Debug, Clone, Copy)]
pub struct Posted {
    /// The number in its text.
    pub number: usize,
    /// When the request went out.
    pub sent_at: u64,
    /// When the answer was there.
    pub answered_at: u64,
}
