//! Which dead letters are meant.

use std::{collections::HashMap, fmt};

use super::DeadLetters;
use crate::{
    names::{UserName, WebhookName},
    store::{DeadLetter, StoreError, UserNumber, WebhookNumber},
};

/// Which dead letters are meant, and which of them the caller may see.
pub struct Filter {
    webhook: Option<WebhookNumber>,
    user: Option<UserNumber>,
    may_see: Box<dyn Fn(UserNumber) -> bool + Send>,
    /// What `may_see` said before.
    known: HashMap<UserNumber, bool>,
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { webhook, user, .. } = self;
        f.debug_struct("Filter").field("webhook", webhook).field("user", user).finish_non_exhaustive()
    }
}

impl Filter {
    /// The one webhook that is meant, if one is.
    pub fn webhook(&self) -> Option<WebhookNumber> {
        self.webhook
    }

    /// Whether this one is meant.
    pub fn matches(&mut self, letter: &DeadLetter) -> bool {
        self.webhook.is_none_or(|webhook| webhook == letter.webhook)
            && self.user.is_none_or(|user| user == letter.user)
            && self.may_see(letter.user)
    }

    /// Whether the caller may see this user's dead letters.
    fn may_see(&mut self, user: UserNumber) -> bool {
        let Self { may_see, known, .. } = self;
        *known.entry(user).or_insert_with(|| may_see(user))
    }
}

/// A name that the store has never seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownName {
    /// A webhook's.
    Webhook,
    /// A user's.
    User,
}

impl DeadLetters {
    /// Those of this webhook, if one is given, and this user, if one is given, as far as `may_see`
    /// allows. Both may be gone from the configuration.
    pub fn filter(
        &self,
        webhook: Option<&str>,
        user: Option<&str>,
        may_see: impl Fn(&UserName) -> bool + Send + 'static,
    ) -> Result<Filter, UnknownName> {
        let store = self.shared.store.clone();
        let webhook =
            webhook.map(|name| store.known_webhook(name).ok_or(UnknownName::Webhook)).transpose()?;
        let user = user.map(|name| store.known_user(name).ok_or(UnknownName::User)).transpose()?;
        // A user without a readable name is nobody's to see.
        let may_see = move |user| store.user_name(user).is_ok_and(|name| may_see(&name));
        Ok(Filter { webhook, user, may_see: Box::new(may_see), known: HashMap::new() })
    }

    /// The name of a webhook that has dead letters.
    pub fn webhook_name(&self, number: WebhookNumber) -> Result<WebhookName, StoreError> {
        self.shared.store.webhook_name(number)
    }
}
