//! What kind of event it is.

use std::{borrow::Cow, fmt, ops::Deref};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::report::{AGENT_SESSION, MESSAGE};

/// A frame's `type` as it came, empty for none; or a report's. Nearly every event is of a kind that is known
/// here and takes no memory of its own.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct EventKind(Cow<'static, str>);

/// What comes every day: of the platform, and of the bridge itself.
const USUAL: [&str; 8] =
    ["bot_response", "user_message", "events", MESSAGE, "bridge.connection", "bridge.gap", AGENT_SESSION, ""];

impl EventKind {
    fn usual(kind: &str) -> Option<Self> {
        USUAL.into_iter().find(|usual| *usual == kind).map(|usual| Self(Cow::Borrowed(usual)))
    }
}

impl From<&str> for EventKind {
    fn from(kind: &str) -> Self {
        Self::usual(kind).unwrap_or_else(|| Self(Cow::Owned(kind.to_owned())))
    }
}

impl From<String> for EventKind {
    fn from(kind: String) -> Self {
        Self::usual(&kind).unwrap_or(Self(Cow::Owned(kind)))
    }
}

impl Deref for EventKind {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<&str> for EventKind {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl fmt::Debug for EventKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// As a string.
impl Serialize for EventKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EventKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Kind;

        impl serde::de::Visitor<'_> for Kind {
            type Value = EventKind;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the name of a kind of event")
            }

            fn visit_str<E>(self, kind: &str) -> Result<EventKind, E> {
                Ok(EventKind::from(kind))
            }
        }

        deserializer.deserialize_str(Kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_one_takes_no_memory_and_any_is_what_it_was() {
        for kind in USUAL {
            let (found, from_text) = (EventKind::from(kind), EventKind::from(kind.to_owned()));
            assert!(matches!((&found.0, &from_text.0), (Cow::Borrowed(_), Cow::Borrowed(_))), "{kind}");
            assert_eq!((&*found, &found), (kind, &from_text));
        }
        let odd = EventKind::from("Bot_Response");
        assert_eq!(
            (&*odd, serde_json::to_string(&odd).unwrap()),
            ("Bot_Response", r#""Bot_Response""#.into())
        );
        for kind in ["bot_response", "spaete sache"] {
            let text = serde_json::to_string(kind).unwrap();
            assert_eq!(serde_json::from_str::<EventKind>(&text).unwrap(), EventKind::from(kind));
        }
    }
}
