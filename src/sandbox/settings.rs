//! What can be turned while the stand-in runs: lifetimes, the bot, how the undocumented behaves.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The settings of a running sandbox. As JSON (`GET` and `PATCH /sandbox/settings`) the keys are
/// camelCase and durations are in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {
    /// What the bot does with a message.
    pub bot: BotScript,
    /// What the human agent does with a message.
    pub agent: AgentScript,
    /// The text of the welcome that a connect triggers (OnConnect); nothing: no welcome.
    pub welcome: Option<String>,
    /// How long an access token is good for, in milliseconds.
    #[serde(rename = "tokenLifetimeMs", with = "millis")]
    pub token_lifetime: Duration,
    /// How long the URL of an rtm/start is good for, in milliseconds.
    #[serde(rename = "sidLifetimeMs", with = "millis")]
    pub sid_lifetime: Duration,
    /// How long leave to upload a file is good for, in milliseconds.
    #[serde(rename = "fileTokenLifetimeMs", with = "millis")]
    pub file_token_lifetime: Duration,
    /// How far the platform's clock is ahead of this machine's, in milliseconds; negative: behind.
    pub clock_skew_ms: i64,
    /// The order of the items within a page of the RTM history.
    pub page_order: PageOrder,
    /// The same of BotKit's history, which the documentation calls reverse chronological.
    pub botkit_page_order: PageOrder,
    /// The same of the Conversation History API where a request doesn't say which it wants (`forward`): its
    /// documentation says the one and shows the other.
    pub conversation_page_order: PageOrder,
    /// Whether a page of that API that starts from a message (`msgId`) has that message in it.
    pub cursor_inclusive: bool,
    /// Whether the apps have the API scope that it takes, "Chat History".
    pub chat_history_scope: bool,
    /// The most items that a page of a history has, whatever `limit` asks for.
    pub max_page: usize,
    /// Whether incoming items of the history carry the client's id as `userMsgId`.
    pub user_msg_ids: bool,
    /// The largest frame that is accepted, in bytes; a larger one closes the connection with 1009.
    pub max_frame: usize,
    /// Whether a client that asks for it (`x-rtm-v: 1`) gets a nonce, and so the secure handshake.
    pub secure_handshake: bool,
    /// Whether the JWT that the secure handshake repeats must not have expired meanwhile.
    pub fresh_handshake_jwt: bool,
    /// Which of the subprotocols that a client offers is chosen.
    pub subprotocol: SubprotocolChoice,
    /// Replaces scheme, host and port of the URLs that rtm/start returns, such as
    /// `wss://elsewhere.example:443`.
    pub socket_base: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bot: BotScript::Echo,
            agent: AgentScript::Scripted,
            welcome: Some("Welcome to the sandbox.".into()),
            token_lifetime: Duration::from_secs(120 * 24 * 3600),
            sid_lifetime: Duration::from_secs(30),
            file_token_lifetime: Duration::from_secs(600),
            clock_skew_ms: 0,
            page_order: PageOrder::OldestFirst,
            botkit_page_order: PageOrder::NewestFirst,
            conversation_page_order: PageOrder::NewestFirst,
            cursor_inclusive: false,
            chat_history_scope: true,
            max_page: 100,
            user_msg_ids: true,
            max_frame: 1024 * 1024,
            secure_handshake: true,
            fresh_handshake_jwt: false,
            subprotocol: SubprotocolChoice::Version,
            socket_base: None,
        }
    }
}

/// What the bot does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BotScript {
    /// Echoes it, and knows a few commands (see [`super::COMMANDS`]).
    Echo,
    /// Nothing: every event comes from the control API.
    Silent,
}

/// What the human agent does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentScript {
    /// Answers it, and knows a few commands (see [`super::AGENT_COMMANDS`]).
    Scripted,
    /// Nothing: somebody plays the agent over the control API.
    Played,
}

/// The order of the items within a page of a history. A page always holds the newest items
/// that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PageOrder {
    /// As the documentation's example.
    OldestFirst,
    /// As some say it is.
    NewestFirst,
}

/// Which of the subprotocols that a client offers (`x-rtm-v|1`, `jwt|...`, `nonce|...`) is chosen:
/// nobody knows what the platform does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SubprotocolChoice {
    /// The one that starts with `x-rtm-v`.
    Version,
    /// The last one.
    Last,
    /// None, at which browsers abort.
    None,
}

/// Durations as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_shows_and_takes_every_setting() {
        let json = serde_json::to_value(Settings::default()).unwrap();
        assert_eq!(json["tokenLifetimeMs"], 10_368_000_000_u64);
        assert_eq!(json["pageOrder"], "oldest-first");
        assert_eq!(serde_json::from_value::<Settings>(json).unwrap(), Settings::default());
        assert!(serde_json::from_str::<Settings>(r#"{"welcom":null}"#).is_err());
    }
}
