//! Callers who ask something of the platform as a user: leave, and access tokens.
//!
//! They go beside the sessions: a user's token is the one that its session remembers. Where that is
//! none, or none any more, one is asked for and kept here, once for all who ask at the same time.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use tokio::time::timeout;

use super::{
    failure::{Failure, FailureKind, Step},
    pace::{Pace, Turn},
    platform::Platform,
    session::Grant,
    subject::Subject,
};
use crate::{
    asking::AskError,
    clock::Timestamp,
    config::{Bot, Config, Identity, Secret},
    names::UserName,
    ordered,
    store::{Access, Store, UserNumber},
    users::User,
};

/// How long a caller waits for leave to ask the platform.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// A token is not used in its last minute.
const LAST_MINUTE: Duration = Duration::from_secs(60);

/// What all who ask for callers share.
#[derive(Debug)]
pub struct Callers {
    pub(super) platform: Arc<Platform>,
    store: Arc<Store>,
    people: RwLock<BTreeMap<UserName, Person>>,
    logins: Mutex<HashMap<UserNumber, Arc<tokio::sync::Mutex<Login>>>>,
}

/// Who a user is for the platform.
#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) bot: Arc<Bot>,
    identity: Identity,
    pace: Arc<Pace>,
    pub(super) conversation_pace: Arc<Pace>,
}

/// What was learned of a user's sign-in, beside its session.
#[derive(Debug, Default)]
struct Login {
    granted: Option<Grant>,
    /// A token that the platform doesn't take.
    refused: Option<Secret>,
}

/// An access token.
struct Token {
    secret: Secret,
    age: Age,
}

/// Since when a token is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    /// It was granted for an earlier request, or for the session.
    Known,
    /// It was granted just now.
    New,
}

impl Callers {
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

    /// A caller begins to ask something as this user.
    pub(super) fn asking<'a>(&'a self, user: &'a User, what: &'static str) -> Result<Asking<'a>, AskError> {
        let person = self.people.read().unwrap_or_else(PoisonError::into_inner).get(&user.name).cloned();
        let person = person.ok_or_else(|| AskError::Failed {
            why: "the user is no longer configured".to_owned(),
            retry_after: None,
        })?;
        let subject = Subject::of(&person.identity, user.number, &self.store)?;
        Ok(Asking { callers: self, user, what, person, subject })
    }

    fn login(&self, user: UserNumber) -> Arc<tokio::sync::Mutex<Login>> {
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        logins.entry(user).or_default().clone()
    }
}

fn people(config: &Config, platform: &Platform) -> BTreeMap<UserName, Person> {
    let bots = ordered::map(config.bots.iter().map(|(name, bot)| (name, Arc::new(bot.clone()))));
    let person = |(name, user): (&UserName, &crate::config::User)| {
        let (bot, identity) = (bots.get(&user.bot)?.clone(), user.identity.clone());
        let (pace, conversation_pace) = (platform.pace(&user.bot), platform.conversation_pace(&user.bot));
        Some((name.clone(), Person { bot, identity, pace, conversation_pace }))
    };
    ordered::map(config.users.iter().filter_map(person))
}

/// What a caller asks, from its beginning to its end.
pub(super) struct Asking<'a> {
    pub(super) callers: &'a Callers,
    user: &'a User,
    /// For the log.
    what: &'static str,
    pub(super) person: Person,
    subject: Subject,
}

impl Asking<'_> {
    /// An access token: what the session remembers, or what was granted here, but not the one that was
    /// refused.
    async fn token(&self, refused: Option<Secret>) -> Result<Token, AskError> {
        let login = self.callers.login(self.user.number);
        let mut login = login.lock().await;
        if let Some(refused) = refused {
            // One that was granted here is forgotten; the session's may be remembered for long.
            if login.granted.take_if(|grant| grant.access.token == refused).is_none() {
                login.refused = Some(refused);
            }
        }
        let remembered = self.callers.store.user(self.user.number)?.access;
        let granted = login.granted.as_ref().map(|grant| grant.access.clone());
        let good = [remembered, granted]
            .into_iter()
            .flatten()
            .find(|access| self.is_good(access) && login.refused.as_ref() != Some(&access.token));
        if let Some(access) = good {
            return Ok(Token { secret: access.token, age: Age::Known });
        }
        let grant = self.sign_in().await?;
        Ok(Token { secret: login.granted.insert(grant).access.token.clone(), age: Age::New })
    }

    /// The platform's own id of the user, which its sign-in tells.
    pub(super) async fn platform_user_id(&self) -> Result<String, AskError> {
        let remembered = self.callers.store.user(self.user.number)?;
        let is_the_same = |access: &Access| access.granted_for == self.credentials();
        if let Some(id) =
            remembered.platform_user_id.filter(|_| remembered.access.as_ref().is_none_or(is_the_same))
        {
            return Ok(id);
        }
        let login = self.callers.login(self.user.number);
        let mut login = login.lock().await;
        let known = login.granted.as_ref().filter(|grant| is_the_same(&grant.access));
        let id = match known.and_then(|grant| grant.platform_user_id.clone()) {
            Some(id) => Some(id),
            None => {
                let grant = self.sign_in().await?;
                login.granted.insert(grant).platform_user_id.clone()
            }
        };
        id.ok_or_else(|| AskError::Failed {
            why: "the platform's sign-in did not tell the user's id (userInfo.userId), which this API asks for; try source=rtm".to_owned(),
            retry_after: None,
        })
    }

    async fn sign_in(&self) -> Result<Grant, AskError> {
        let _turn = self.leave(PATIENCE).await?;
        let granted = self.callers.platform.sign_in(&self.person.bot, &self.subject).await;
        granted.map_err(|failure| self.failed(failure))
    }

    fn is_good(&self, access: &Access) -> bool {
        access.granted_for == self.credentials() && access.expires_at > Timestamp::now().plus(LAST_MINUTE)
    }

    fn credentials(&self) -> [u8; 16] {
        self.callers.platform.credentials(&self.person.bot, &self.subject)
    }

    /// Waits for leave to make one request.
    pub(super) async fn leave(&self, patience: Duration) -> Result<Turn<'_>, AskError> {
        patiently(&self.person.pace, patience).await
    }

    /// Makes a request with an access token, when there is leave for it; again with another token, if the
    /// platform doesn't take that one, until it refuses one that was granted for this request.
    pub(super) async fn authorized<T, F>(
        &self,
        patience: Duration,
        request: impl Fn(Secret) -> F,
    ) -> Result<T, AskError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut token = self.token(None).await?;
        loop {
            let turn = self.leave(patience).await?;
            let answer = request(token.secret.clone()).await;
            drop(turn);
            match answer {
                Ok(answer) => return Ok(answer),
                // The session's may be refused, and then the one from here: the third is new.
                Err(failure) if failure.kind == FailureKind::TokenRefused && token.age == Age::Known => {
                    token = self.token(Some(token.secret)).await?;
                }
                Err(failure) => return Err(self.failed(failure)),
            }
        }
    }

    /// What a failure is to a caller.
    pub(super) fn failed(&self, failure: Failure) -> AskError {
        tracing::debug!(user = %self.user.name, bot = %self.user.bot, what = self.what, cause = %failure, "what a caller asked for failed");
        if let (FailureKind::RateLimited, Some(told)) = (failure.kind, failure.retry_after)
            && failure.step != Step::TokenService
        {
            self.person.pace.hold(told);
        }
        let why = failure.to_string();
        match failure.kind {
            FailureKind::Timeout => AskError::Silent(why),
            FailureKind::Unauthorized => AskError::Unauthorized(why),
            _ => AskError::Failed { why, retry_after: failure.retry_after },
        }
    }
}

/// Leave for a caller's request, unless that takes too long.
pub(super) async fn patiently(pace: &Pace, patience: Duration) -> Result<Turn<'_>, AskError> {
    let busy = |_| AskError::Busy { retry_after: PATIENCE };
    timeout(patience, pace.wait_for_caller()).await.map_err(busy)
}
