//! The limit beside deliveries: the same HTTP client, with nothing to do but to post.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use tokio::{task::JoinSet, time::sleep_until};

use super::{Pace, done, ready};
use crate::{Outcome, feed::BareBody};

/// Who posts: marks name somebody.
const USERS: usize = 100;

#[derive(Clone)]
struct Client {
    http: reqwest::Client,
    url: reqwest::Url,
}

impl Client {
    async fn post(&self, body: Vec<u8>) -> Outcome<()> {
        let request = self.http.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(body);
        let answer = request.send().await?.error_for_status()?;
        answer.bytes().await?;
        Ok(())
    }
}

pub(super) async fn run(url: &str, length: usize, posts: usize, pace: Pace) -> Outcome<()> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .tls_certs_only([])
        .timeout(Duration::from_secs(15))
        .build()?;
    let client = Client { http, url: url.parse()? };
    let body = BareBody::new(length);
    // Its connection is open already when it counts.
    client.post(body.clone().next(0, 1).to_vec()).await?;
    ready(Value::Null)?;
    match pace {
        Pace::InFlight(many) => flood(&client, &body, posts, many).await?,
        Pace::PerSecond(rate) => paced(&client, &body, posts, rate).await?,
    }
    done(&Value::Null)
}

async fn flood(client: &Client, body: &BareBody, posts: usize, in_flight: usize) -> Outcome<()> {
    let given = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for user in 0..in_flight {
        let (client, mut body, given) = (client.clone(), body.clone(), given.clone());
        tasks.spawn(async move {
            while given.fetch_add(1, Ordering::Relaxed) < posts {
                client.post(body.next(user, 1).to_vec()).await?;
            }
            Outcome::Ok(())
        });
    }
    joined(tasks).await
}

async fn paced(client: &Client, body: &BareBody, posts: usize, per_second: f64) -> Outcome<()> {
    let started = tokio::time::Instant::now();
    let mut body = body.clone();
    let mut tasks = JoinSet::new();
    for index in 0..posts {
        sleep_until(started + Duration::from_secs_f64(index as f64 / per_second)).await;
        let client = client.clone();
        let body = body.next(index % USERS, 1).to_vec();
        tasks.spawn(async move { client.post(body).await });
    }
    joined(tasks).await
}

async fn joined(mut tasks: JoinSet<Outcome<()>>) -> Outcome<()> {
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}
