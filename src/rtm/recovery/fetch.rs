//! Reading a history, within its time.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout_at};

use super::{Direction, End, Gathered, Halt, Knowledge, PAGE, Page, Record, Wanted};
use crate::{
    clock::Timestamp,
    config::{self, Secret},
    messages::{ClientMessageId, OwnMessage},
    retry::Backoff,
    rtm::{
        connection::{Identity, Shared},
        failure::{Failure, FailureKind},
        rooms::Rooms,
        session::{FetchPlan, Grant, Purpose},
    },
    store::{Seen, StoreError},
};

/// How long to wait before a request is made again, at first and at most.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// So many times in a row the platform may refuse a request, or answer nonsense.
const MOST_REFUSALS: u32 = 4;
/// A message's record is not older than its send, but for what the clocks are apart unnoticed.
const CLOCKS_APART: Duration = Duration::from_secs(3);
/// In which messages a record without an id is looked for.
const OWN_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

/// What was read.
#[derive(Debug)]
pub(in crate::rtm) struct Fetched {
    pub(in crate::rtm) plan: FetchPlan,
    pub(in crate::rtm) gathered: Gathered,
    pub(in crate::rtm) halt: Halt,
    /// A new access token, if the one at hand was none.
    pub(in crate::rtm) grant: Option<Grant>,
}

/// Reads the history as far as the plan needs it, or as its time allows.
pub(in crate::rtm) async fn fetch<R: Rooms>(
    shared: Arc<Shared<R>>,
    who: Identity,
    plan: FetchPlan,
) -> Box<Fetched> {
    let until = plan.until;
    let mut reader = Reader {
        token: plan.token.clone(),
        grant: None,
        gathered: Gathered::default(),
        limit: PAGE,
        refusals: 0,
        own: None,
        backoff: Backoff::new(RETRY_MIN, RETRY_MAX),
        shared,
        who,
        plan,
    };
    let halt = timeout_at(until, reader.read()).await.unwrap_or(Halt::TimedOut);
    let Reader { plan, gathered, grant, .. } = reader;
    Box::new(Fetched { plan, gathered, halt, grant })
}

struct Reader<R> {
    shared: Arc<Shared<R>>,
    who: Identity,
    plan: FetchPlan,
    token: Option<Secret>,
    grant: Option<Grant>,
    gathered: Gathered,
    /// How many records are asked for at once.
    limit: usize,
    refusals: u32,
    /// Messages of ours, once they were needed.
    own: Option<Vec<OwnMessage>>,
    backoff: Backoff,
}

impl<R: Rooms> Reader<R> {
    async fn read(&mut self) -> Halt {
        let wanted = match self.wanted() {
            Ok(wanted) => wanted,
            Err(error) => return self.unreadable(&error),
        };
        loop {
            let page = match self.page().await {
                Ok(page) => page,
                Err(failure) => match self.failed(&failure).await {
                    Retry::Again => continue,
                    Retry::GiveUp(halt) => {
                        tracing::warn!(user = %self.who.user.name, cause = %failure, "the history can't be read");
                        return halt;
                    }
                },
            };
            self.refusals = 0;
            self.backoff.reset();
            let added = self.gathered.add(page);
            let knowledge = match self.knowledge() {
                Ok(knowledge) => knowledge,
                Err(error) => return self.unreadable(&error),
            };
            match self.gathered.is_enough(added, &knowledge, &wanted) {
                None => {}
                Some(End::Complete) => return Halt::Enough,
                Some(End::TooMany) => return Halt::TooMany,
                Some(End::Stuck) => {
                    tracing::warn!(user = %self.who.user.name, "the history shows the same page again and again");
                    return Halt::Failed;
                }
            }
        }
    }

    fn unreadable(&self, error: &StoreError) -> Halt {
        tracing::error!(user = %self.who.user.name, %error, "what is known of the history can't be read");
        Halt::Failed
    }

    fn knowledge(&mut self) -> Result<Knowledge, StoreError> {
        knowledge(&self.shared, &self.who, &self.plan, self.gathered.records(), &mut self.own)
    }

    /// What the plan looks for.
    fn wanted(&self) -> Result<Wanted, StoreError> {
        let rooms = &self.shared.rooms;
        let own: Vec<OwnMessage> = self
            .plan
            .look_up
            .iter()
            .map(|id| rooms.own(self.who.user.number, *id))
            .filter_map(Result::transpose)
            .collect::<Result<_, _>>()?;
        let skew = self.shared.platform.skew().unwrap_or_default();
        let first = own.iter().map(|message| skew.to_platform(message.sent.0).minus(CLOCKS_APART)).min();
        let missed = match self.plan.purpose {
            Purpose::Recovery(_) | Purpose::Retry(_) => Some(self.shared.terms().history.max_messages),
            Purpose::LookUp => None,
        };
        let look_up: BTreeSet<_> = own.iter().map(|message| message.number).collect();
        Ok(Wanted { missed, look_up, look_up_from: first })
    }

    /// One page; each request waits for the bot's pace.
    async fn page(&mut self) -> Result<Page, Failure> {
        let (platform, bot) = (&self.shared.platform, &self.who.bot);
        let token = match &self.token {
            Some(token) => token.clone(),
            None => {
                let _turn = self.who.pace.wait().await;
                let grant = platform.sign_in(bot, &self.who.subject).await?;
                let token = grant.access.token.clone();
                self.grant = Some(grant);
                self.token.insert(token).clone()
            }
        };
        let _turn = self.who.pace.wait().await;
        platform.history(&token, bot, self.gathered.offset(), self.limit).await
    }

    /// Waits before the next try, if one makes sense.
    async fn failed(&mut self, failure: &Failure) -> Retry {
        tracing::debug!(user = %self.who.user.name, cause = %failure, "a page of the history was not read");
        match failure.kind {
            // A new token is asked for once.
            FailureKind::TokenRefused if self.grant.is_none() => {
                self.token = None;
                return Retry::Again;
            }
            FailureKind::Unauthorized | FailureKind::TokenRefused => return Retry::GiveUp(Halt::Failed),
            FailureKind::Refused { .. } => self.refusals += 1,
            FailureKind::Malformed => {
                self.refusals += 1;
                // Perhaps it was too large.
                self.limit = self.limit.div_ceil(4);
            }
            FailureKind::RateLimited => {
                if let Some(told) = failure.retry_after {
                    self.who.pace.hold(told);
                }
            }
            FailureKind::Server { .. } | FailureKind::Network | FailureKind::Timeout => {}
        }
        let delay = self.backoff.next(&mut fastrand::Rng::new());
        let delay = failure.retry_after.map_or(delay, |told| told.max(delay));
        if self.refusals >= MOST_REFUSALS {
            return Retry::GiveUp(Halt::Failed);
        }
        if Instant::now() + delay >= self.plan.until {
            return Retry::GiveUp(Halt::TimedOut);
        }
        sleep(delay).await;
        Retry::Again
    }
}

/// What comes after a failure.
enum Retry {
    Again,
    GiveUp(Halt),
}

/// What is known that matters for these records. `recent` keeps the messages of the last hours, which
/// takes long to read.
pub(in crate::rtm) fn knowledge<R: Rooms>(
    shared: &Shared<R>,
    who: &Identity,
    plan: &FetchPlan,
    records: &[Record],
    recent: &mut Option<Vec<OwnMessage>>,
) -> Result<Knowledge, StoreError> {
    let (rooms, user) = (&shared.rooms, who.user.number);
    let skew = shared.platform.skew().unwrap_or_default();
    let now = skew.to_platform(Timestamp::now());
    let seen = match &plan.purpose {
        Purpose::Recovery(seen) | Purpose::Retry(seen) => seen.clone(),
        Purpose::LookUp => Seen { up_to: now, holes: Vec::new(), alive_at: now },
    };
    let incoming = || records.iter().filter(|record| record.direction == Direction::Incoming);
    let given_ids = incoming().filter_map(|record| record.user_msg_id.as_ref());
    let ids: HashSet<String> = records
        .iter()
        .map(|record| &record.id)
        .chain(given_ids.clone())
        .filter(|id| rooms.knows(user, id))
        .cloned()
        .collect();
    for record in records.iter().filter(|record| record.direction == Direction::Outgoing) {
        if ids.contains(&record.id) {
            rooms.told_by_history(user, &record.id, &record.text);
        }
    }
    if recent.is_none() && incoming().any(|record| record.user_msg_id.is_none()) {
        *recent = Some(rooms.own_within(user, OWN_WITHIN)?);
    }
    let own = recent.clone().unwrap_or_default();
    let mut knowledge = Knowledge {
        seen,
        ids,
        said: rooms.said(user),
        own,
        skew,
        horizon: horizon(&shared.terms().history, now),
        now,
    };
    let listed: HashSet<ClientMessageId> = knowledge.own.iter().map(|message| message.id).collect();
    let given: BTreeSet<ClientMessageId> = given_ids.filter_map(|id| id.parse().ok()).collect();
    for id in given.into_iter().filter(|id| !listed.contains(id)) {
        knowledge.own.extend(rooms.own(user, id)?);
    }
    Ok(knowledge)
}

fn horizon(history: &config::History, now: Timestamp) -> Timestamp {
    now.minus(history.max_age)
}
