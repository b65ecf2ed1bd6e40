//! The platform's histories, for callers who ask for them.
//!
//! They go beside the sessions: a user's token is the one that its session remembers. Where that is
//! none, or none any more, one is asked for and kept here, once for all who ask at the same time.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use serde_json::value::RawValue;
use tokio::time::timeout;

use super::{
    failure::{Failure, FailureKind},
    pace::{Pace, Turn},
    platform::{Platform, RawPage},
    recovery::{Direction, Record},
    session::Grant,
};
use crate::{
    clock::Timestamp,
    config::{Bot, Config, Secret},
    history::{
        Answer, Histories, HistoryAuthor, HistoryDirection, HistoryError, HistoryMessage, HistoryPage,
        HistoryQuery, HistorySource,
    },
    names::UserName,
    store::{Access, Store, UserNumber},
    users::User,
};

/// How long a caller waits for leave to ask the platform.
const PATIENCE: Duration = Duration::from_secs(5);
/// A token is not used in its last minute.
const LAST_MINUTE: Duration = Duration::from_secs(60);

/// Asks the platform for histories.
#[derive(Debug)]
pub struct PlatformHistories {
    platform: Arc<Platform>,
    store: Arc<Store>,
    people: RwLock<BTreeMap<UserName, Person>>,
    logins: Mutex<HashMap<UserNumber, Arc<tokio::sync::Mutex<Login>>>>,
}

/// Who a user is for the platform.
#[derive(Debug, Clone)]
struct Person {
    bot: Arc<Bot>,
    identity: Arc<str>,
    pace: Arc<Pace>,
}

/// What was learned of a user's sign-in, beside its session.
#[derive(Debug, Default)]
struct Login {
    granted: Option<Grant>,
    /// A token that the platform doesn't take.
    refused: Option<Secret>,
}

impl PlatformHistories {
    /// For the users of a configuration.
    pub fn new(config: &Config, platform: Arc<Platform>, store: Arc<Store>) -> Self {
        let people = RwLock::new(people(config, &platform));
        Self { platform, store, people, logins: Mutex::default() }
    }

    /// Goes by another configuration from the next request on.
    pub fn reload(&self, config: &Config) {
        let people = people(config, &self.platform);
        *self.people.write().unwrap_or_else(PoisonError::into_inner) = people;
    }

    async fn read(&self, user: &User, query: HistoryQuery) -> Result<HistoryPage, HistoryError> {
        let person = self.people.read().unwrap_or_else(PoisonError::into_inner).get(&user.name).cloned();
        let person = person.ok_or_else(|| HistoryError::Failed {
            why: "the user is no longer configured".to_owned(),
            retry_after: None,
        })?;
        let asking = Asking { histories: self, user, person, query };
        let page = match query.source {
            HistorySource::Rtm => asking.rtm().await?,
            HistorySource::Botkit => asking.botkit().await?,
        };
        Ok(shaped(page, query))
    }

    fn login(&self, user: UserNumber) -> Arc<tokio::sync::Mutex<Login>> {
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        logins.entry(user).or_default().clone()
    }
}

impl Histories for PlatformHistories {
    fn page(&self, user: Arc<User>, query: HistoryQuery) -> Answer<'_> {
        Box::pin(async move { self.read(&user, query).await })
    }
}

fn people(config: &Config, platform: &Platform) -> BTreeMap<UserName, Person> {
    let bots: BTreeMap<_, _> =
        config.bots.iter().map(|(name, bot)| (name, (Arc::new(bot.clone()), platform.pace(name)))).collect();
    let person = |(name, user): (&UserName, &crate::config::User)| {
        let (bot, pace) = bots.get(&user.bot)?.clone();
        Some((name.clone(), Person { bot, identity: user.identity.as_str().into(), pace }))
    };
    config.users.iter().filter_map(person).collect()
}

/// One request of a caller.
struct Asking<'a> {
    histories: &'a PlatformHistories,
    user: &'a User,
    person: Person,
    query: HistoryQuery,
}

impl Asking<'_> {
    async fn rtm(&self) -> Result<RawPage, HistoryError> {
        let HistoryQuery { offset, limit, .. } = self.query;
        let Person { bot, .. } = &self.person;
        let mut token = self.token(None).await?;
        let mut is_second = false;
        loop {
            let turn = self.leave().await?;
            let answer = self.histories.platform.raw_history(&token, bot, offset, limit).await;
            drop(turn);
            match answer {
                Ok(page) => return Ok(page),
                Err(failure) if failure.kind == FailureKind::TokenRefused && !is_second => {
                    token = self.token(Some(token)).await?;
                    is_second = true;
                }
                Err(failure) => return Err(self.failed(failure)),
            }
        }
    }

    async fn botkit(&self) -> Result<RawPage, HistoryError> {
        let HistoryQuery { offset, limit, .. } = self.query;
        let id = self.platform_user_id().await?;
        let _turn = self.leave().await?;
        let page = self.histories.platform.botkit_history(&self.person.bot, &id, offset, limit).await;
        page.map_err(|failure| self.failed(failure))
    }

    /// An access token: what the session remembers, or what was granted here, but not the one that was
    /// refused.
    async fn token(&self, refused: Option<Secret>) -> Result<Secret, HistoryError> {
        let login = self.histories.login(self.user.number);
        let mut login = login.lock().await;
        if refused.is_some() {
            login.refused = refused;
        }
        let remembered = self.histories.store.user(self.user.number)?.access;
        let granted = login.granted.as_ref().map(|grant| grant.access.clone());
        let good = [remembered, granted]
            .into_iter()
            .flatten()
            .find(|access| self.is_good(access) && login.refused.as_ref() != Some(&access.token));
        if let Some(access) = good {
            return Ok(access.token);
        }
        let grant = self.sign_in().await?;
        Ok(login.granted.insert(grant).access.token.clone())
    }

    /// The platform's own id of the user, which its sign-in tells.
    async fn platform_user_id(&self) -> Result<String, HistoryError> {
        let remembered = self.histories.store.user(self.user.number)?;
        let is_the_same = |access: &Access| access.granted_for == self.credentials();
        if let Some(id) =
            remembered.platform_user_id.filter(|_| remembered.access.as_ref().is_none_or(is_the_same))
        {
            return Ok(id);
        }
        let login = self.histories.login(self.user.number);
        let mut login = login.lock().await;
        let known = login.granted.as_ref().filter(|grant| is_the_same(&grant.access));
        let id = match known.and_then(|grant| grant.platform_user_id.clone()) {
            Some(id) => Some(id),
            None => {
                let grant = self.sign_in().await?;
                login.granted.insert(grant).platform_user_id.clone()
            }
        };
        id.ok_or_else(|| HistoryError::Failed {
            why: "the platform's sign-in did not tell the user's id (userInfo.userId), which this API asks for; try source=rtm".to_owned(),
            retry_after: None,
        })
    }

    async fn sign_in(&self) -> Result<Grant, HistoryError> {
        let _turn = self.leave().await?;
        let Person { bot, identity, .. } = &self.person;
        let granted = self.histories.platform.sign_in(bot, identity).await;
        granted.map_err(|failure| self.failed(failure))
    }

    fn is_good(&self, access: &Access) -> bool {
        access.granted_for == self.credentials() && access.expires_at > Timestamp::now().plus(LAST_MINUTE)
    }

    fn credentials(&self) -> [u8; 16] {
        self.histories.platform.credentials(&self.person.bot, &self.person.identity)
    }

    /// Waits for leave to make one request.
    async fn leave(&self) -> Result<Turn<'_>, HistoryError> {
        let busy = |_| HistoryError::Busy { retry_after: PATIENCE };
        timeout(PATIENCE, self.person.pace.wait_for_caller()).await.map_err(busy)
    }

    fn failed(&self, failure: Failure) -> HistoryError {
        tracing::debug!(user = %self.user.name, cause = %failure, "a caller's look into the history failed");
        if let (FailureKind::RateLimited, Some(told)) = (failure.kind, failure.retry_after) {
            self.person.pace.hold(told);
        }
        let why = failure.to_string();
        match failure.kind {
            FailureKind::Timeout => HistoryError::Silent(why),
            _ => HistoryError::Failed { why, retry_after: failure.retry_after },
        }
    }
}

/// The page in the one shape, newest message first.
fn shaped(page: RawPage, query: HistoryQuery) -> HistoryPage {
    let RawPage { total, more_available, messages } = page;
    let total = total.as_u64().or_else(|| total.as_str()?.parse().ok());
    let more_available = more_available.unwrap_or_else(|| match total {
        Some(total) => ((query.offset + messages.len()) as u64) < total,
        None => messages.len() >= query.limit,
    });
    let mut messages: Vec<_> = messages.into_iter().map(message).collect();
    // The sort is stable: what has no time comes last, in the platform's order.
    messages.sort_by(|a, b| (b.created_on, &b.id).cmp(&(a.created_on, &a.id)));
    HistoryPage { total, more_available, messages }
}

fn message(raw: Box<RawValue>) -> HistoryMessage {
    let Some(record) = Record::parse(raw.clone()) else {
        return HistoryMessage { id: None, direction: None, from: None, text: None, created_on: None, raw };
    };
    let (direction, from) = match record.direction {
        Direction::Incoming => (HistoryDirection::Incoming, HistoryAuthor::User),
        Direction::Outgoing if record.is_agents() => (HistoryDirection::Outgoing, HistoryAuthor::Agent),
        Direction::Outgoing => (HistoryDirection::Outgoing, HistoryAuthor::Bot),
    };
    HistoryMessage {
        direction: Some(direction),
        from: Some(from),
        text: record.readable(),
        id: Some(record.id),
        created_on: Some(record.at),
        raw,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const QUERY: HistoryQuery = HistoryQuery { source: HistorySource::Rtm, limit: 2, offset: 0 };

    fn page(json: &Value) -> Value {
        let page: RawPage = serde_json::from_str(&json.to_string()).unwrap();
        serde_json::to_value(shaped(page, QUERY)).unwrap()
    }

    fn documented(name: &str) -> Value {
        let path = format!("{}/tests/vectors/documented/{name}.response.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn both_documented_answers_get_the_one_shape_newest_first() {
        let theirs = documented("botmessages-rtm");
        let rtm = page(&theirs);
        assert_eq!((&rtm["total"], &rtm["moreAvailable"]), (&theirs["total"], &theirs["moreAvailable"]));
        let (bot, user) = (&rtm["messages"][0], &rtm["messages"][1]);
        let expected = json!({
            "id": theirs["messages"][1]["_id"], "direction": "outgoing", "from": "bot",
            "text": "Please enter the text to comment on the issue",
            "createdOn": theirs["messages"][1]["createdOn"], "raw": theirs["messages"][1],
        });
        assert_eq!(*bot, expected);
        assert_eq!(
            (&user["direction"], &user["from"], &user["text"]),
            (&json!("incoming"), &json!("user"), &json!("Hi"))
        );
        let theirs = documented("botkit-getMessages");
        let botkit = page(&theirs);
        let message = &botkit["messages"][0];
        assert_eq!(
            (&message["createdOn"], &message["from"]),
            (&theirs["messages"][0]["createdOn"], &json!("bot"))
        );
        assert_eq!(message["text"], theirs["messages"][0]["components"][0]["data"]["text"]);
    }

    #[test]
    fn odd_records_stay_and_come_last() {
        let record = |id: &str, at: u64| json!({"_id": id, "type": "outgoing", "timestampValue": at, "author": {"type": "AGENT"}});
        let odd = json!({"_id": "odd", "n": 1.50});
        let page = page(&json!({"messages": [odd, record("a", 1), record("c", 2), record("b", 2)]}));
        let ids: Vec<_> = page["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| message["raw"]["_id"].clone())
            .collect();
        assert_eq!(ids, ["c", "b", "a", "odd"]);
        assert_eq!(
            (&page["messages"][0]["from"], &page["messages"][0]["text"]),
            (&json!("agent"), &Value::Null)
        );
        assert_eq!(
            (&page["messages"][3]["id"], &page["messages"][3]["createdOn"]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!((&page["total"], &page["moreAvailable"]), (&Value::Null, &json!(true)));
    }

    #[test]
    fn whether_more_follows_is_told_or_counted() {
        for (theirs, expected) in [
            (json!({"messages": [], "moreAvailable": true}), json!([null, true])),
            (json!({"messages": [], "total": 3}), json!([3, true])),
            (json!({"messages": [1, 2, 3], "total": "3"}), json!([3, false])),
            (json!({"messages": [1]}), json!([null, false])),
            (json!({"messages": [1, 2], "total": 7, "moreAvailable": false}), json!([7, false])),
        ] {
            let page = page(&theirs);
            assert_eq!(json!([page["total"], page["moreAvailable"]]), expected, "{theirs}");
        }
    }
}
