//! The names that a configuration gives: of users, bots, webhooks and API clients.
//!
//! Four types of one shape, so that a webhook's name can't be passed where a user's is meant.

use std::{borrow::Borrow, fmt, hash::Hash, marker::PhantomData, sync::Arc};

/// What a [`Name`] names. Types of this trait are never made; they only tell names apart.
pub trait Kind {
    /// The word for it, in messages for people.
    const WORD: &'static str;
}

/// Marks names of users.
#[derive(Debug)]
pub enum UserKind {}
/// Marks names of bots.
#[derive(Debug)]
pub enum BotKind {}
/// Marks names of webhooks.
#[derive(Debug)]
pub enum WebhookKind {}
/// Marks names of API clients.
#[derive(Debug)]
pub enum ClientKind {}

impl Kind for UserKind {
    const WORD: &'static str = "user";
}
impl Kind for BotKind {
    const WORD: &'static str = "bot";
}
impl Kind for WebhookKind {
    const WORD: &'static str = "webhook";
}
impl Kind for ClientKind {
    const WORD: &'static str = "client";
}

/// A configured user's name (`[users.NAME]`).
pub type UserName = Name<UserKind>;
/// A configured bot's name (`[bots.NAME]`).
pub type BotName = Name<BotKind>;
/// A configured webhook's name (`[webhooks.NAME]`).
pub type WebhookName = Name<WebhookKind>;
/// A configured API client's name (`[clients.NAME]`).
pub type ClientName = Name<ClientKind>;

/// A name that matches `[A-Za-z0-9][A-Za-z0-9._@-]{0,127}`. Cloning it is cheap.
pub struct Name<K> {
    text: Arc<str>,
    kind: PhantomData<fn() -> K>,
}

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} can't name a {word}: a name is 1 to 128 of the characters A-Z a-z 0-9 . _ @ - and starts with a letter or a digit"
)]
pub struct InvalidName {
    text: String,
    word: &'static str,
}

impl<K: Kind> Name<K> {
    /// Checks that `text` is a name.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        let valid = text.len() <= 128
            && text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b));
        if valid {
            Ok(Self { text: text.into(), kind: PhantomData })
        } else {
            Err(InvalidName { text: text.chars().take(160).collect(), word: K::WORD })
        }
    }
}

impl<K> Name<K> {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl<K> Clone for Name<K> {
    fn clone(&self) -> Self {
        Self { text: self.text.clone(), kind: PhantomData }
    }
}
impl<K> fmt::Debug for Name<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}
impl<K> fmt::Display for Name<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}
impl<K> PartialEq for Name<K> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl<K> Eq for Name<K> {}
impl<K> PartialOrd for Name<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Name<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}
impl<K> Hash for Name<K> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}
impl<K> Borrow<str> for Name<K> {
    fn borrow(&self) -> &str {
        &self.text
    }
}
impl<K> serde::Serialize for Name<K> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}
impl<'de, K: Kind> serde::Deserialize<'de> for Name<K> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_contract_allows() {
        for good in ["a", "alice@example.com", "0", "A.b_c-d@e", &"x".repeat(128)] {
            assert_eq!(UserName::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn refuses_everything_else() {
        for bad in ["", ".a", "-a", "a b", "ä", "a/b", "a\0", &"x".repeat(129)] {
            let error = WebhookName::new(bad).unwrap_err();
            assert!(error.to_string().contains("can't name a webhook"), "{error}");
        }
    }
}
