//! Reading a history, within its time.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Direction, End, Gathered, Halt, Knowledge, Next, PAGE, Page, Record, Turning, Wanted};
use crate::{
    clock::Timestamp,
    config::{self, HistorySource, Secret},
    messages::{ClientMessageId, OwnMessage},
    ordered,
    retry::Backoff,
    rtm::{
        connection::{Identity, Shared},
        failure::{Failure, FailureKind, Step},
        platform::HistoryFrom,
        rooms::Rooms,
        session::{FetchPlan, Grant, Purpose},
    },
    store::{Seen, StoreError},
};

/// The most records that the Conversation History API gives at once; its requests are few.
const LARGE_PAGE: usize = 100;
/// How long leave to ask that API is waited for, before the user's own history is read instead.
const CONVERSATIONS_PATIENCE: Duration = Duration::from_secs(1);
/// How long it is left alone when it says that it was asked too often, and not for how long.
const CONVERSATIONS_PAUSE: Duration = Duration::from_secs(60);
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
        source: who.bot.history,
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
    /// Which of the platform's histories is read.
    source: HistorySource,
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
                Err(failure) if self.source != HistorySource::Rtm => {
                    self.fall_back(&failure);
                    continue;
                }
                Err(failure) => match self.failed(&failure).await {
                    Retry::Again => continue,
                    Retry::GiveUp(halt) => {
                        tracing::warn!(user = %self.who.user.name, bot = %self.who.user.bot, cause = %failure, "the history can't be read");
                        return halt;
                    }
                },
            };
            self.refusals = 0;
            self.backoff.reset();
            let added = self.gathered.add(page, self.turning());
            let knowledge = match self.knowledge() {
                Ok(knowledge) => knowledge,
                Err(error) => return self.unreadable(&error),
            };
            match self.gathered.is_enough(added, &knowledge, &wanted) {
                None => {}
                Some(End::Complete) => return Halt::Enough,
                Some(End::TooMany) => return Halt::TooMany,
                Some(End::Stuck) => {
                    tracing::warn!(user = %self.who.user.name, bot = %self.who.user.bot, "the history shows the same page again and again");
                    return Halt::Failed;
                }
            }
        }
    }

    fn unreadable(&self, error: &StoreError) -> Halt {
        tracing::error!(user = %self.who.user.name, bot = %self.who.user.bot, %error, "what is known of the history can't be read");
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
        let look_up = ordered::set(own.iter().map(|message| message.number));
        Ok(Wanted { missed, look_up, look_up_from: first })
    }

    /// One page; each request waits for the bot's pace.
    async fn page(&mut self) -> Result<Page, Failure> {
        match self.source {
            HistorySource::Rtm => self.page_of_user().await,
            HistorySource::Botkit | HistorySource::Conversations => self.page_of_app().await,
        }
    }

    fn turning(&self) -> Turning {
        match self.source {
            HistorySource::Rtm | HistorySource::Botkit => Turning::ByOffset,
            HistorySource::Conversations => Turning::ById,
        }
    }

    async fn page_of_user(&mut self) -> Result<Page, Failure> {
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
        platform.raw_history(&token, bot, self.gathered.offset(), self.limit).await.map(|page| page.read(bot))
    }

    async fn page_of_app(&self) -> Result<Page, Failure> {
        let (platform, bot) = (&self.shared.platform, &self.who.bot);
        let is_botkit = self.source == HistorySource::Botkit;
        let step = if is_botkit { Step::BotkitHistory } else { Step::Conversations };
        let Some(user) = &self.plan.platform_user_id else {
            let words = "the platform's sign-in did not tell the user's id (userInfo.userId)";
            return Err(Failure::new(step, FailureKind::Impossible, words));
        };
        if is_botkit {
            let _turn = self.who.pace.wait().await;
            let page = platform.botkit_history(bot, user, self.gathered.offset(), self.limit).await;
            return page.map(|page| page.read(bot));
        }
        let pace = platform.conversation_pace(&self.who.user.bot);
        let Ok(_leave) = timeout(CONVERSATIONS_PATIENCE, pace.wait()).await else {
            let words = "its documented 60 requests a minute and 1,800 an hour for each bot are used up";
            return Err(Failure::new(step, FailureKind::RateLimited, words));
        };
        let next = self.gathered.next_by_id();
        let (from, limit) = match &next {
            Next::Offset(0) => (HistoryFrom::Offset(0), PAGE),
            Next::Offset(offset) => (HistoryFrom::Offset(*offset), LARGE_PAGE),
            Next::OlderThan(id) => (HistoryFrom::Older(id), LARGE_PAGE),
        };
        let _turn = self.who.pace.wait().await;
        let page = platform.conversations(bot, user, from, limit).await;
        if let Err(Failure { kind: FailureKind::RateLimited, retry_after, .. }) = &page {
            pace.hold(retry_after.unwrap_or(CONVERSATIONS_PAUSE));
        }
        page.map(|page| page.read(bot))
    }

    /// The app's own histories are a choice; the user's own one is always there, and has the same in it.
    /// So whatever is wrong with them, nothing is lost, and nobody waits.
    fn fall_back(&mut self, failure: &Failure) {
        let (user, bot) = (&self.who.user.name, &self.who.user.bot);
        tracing::warn!(%user, %bot, cause = %failure, "the bot's history can't be read; reading botmessages/rtm instead");
        self.source = HistorySource::Rtm;
        self.gathered = Gathered::default();
    }

    /// Waits before the next try, if one makes sense.
    async fn failed(&mut self, failure: &Failure) -> Retry {
        tracing::debug!(user = %self.who.user.name, bot = %self.who.user.bot, cause = %failure, "a page of the history was not read");
        match failure.kind {
            // A new token is asked for once.
            FailureKind::TokenRefused if self.grant.is_none() => {
                self.token = None;
                return Retry::Again;
            }
            FailureKind::Unauthorized | FailureKind::TokenRefused | FailureKind::Impossible => {
                return Retry::GiveUp(Halt::Failed);
            }
            FailureKind::Refused { .. } => self.refusals += 1,
            FailureKind::Malformed => {
                self.refusals += 1;
                // Perhaps it was too large.
                self.limit = self.limit.div_ceil(4);
            }
            FailureKind::RateLimited => {
                // A token service speaks for itself: the platform may be asked.
                if let Some(told) = failure.retry_after.filter(|_| failure.step != Step::TokenService) {
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
    let given = ordered::set(given_ids.filter_map(|id| id.parse::<ClientMessageId>().ok()));
    for id in given.into_iter().filter(|id| !listed.contains(id)) {
        knowledge.own.extend(rooms.own(user, id)?);
    }
    Ok(knowledge)
}

fn horizon(history: &config::History, now: Timestamp) -> Timestamp {
    now.minus(history.max_age)
}
