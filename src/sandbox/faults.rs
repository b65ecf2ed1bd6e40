//! Faults: what goes wrong on demand.
//!
//! A [`Fault`] is a rule: what goes wrong, for whom, and how many times. Rules are tried in the
//! order they came; the first that fits a situation is used up by one.

use serde::{Deserialize, Deserializer, Serialize};

/// Something that goes wrong, once, several times or always.
///
/// As JSON: `{"fault": "lost-ack", "user": "alice", "times": 2}`; without `user` for everybody,
/// without `times` once, `"times": "always"` until it is cleared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// For whom: a user's identity; nothing: for everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How often.
    #[serde(default)]
    pub times: Times,
    /// What.
    #[serde(flatten)]
    pub kind: FaultKind,
}

impl Fault {
    /// Goes wrong once, for whoever comes first.
    pub fn once(kind: FaultKind) -> Self {
        Self { user: None, times: Times::Count(1), kind }
    }

    /// Goes wrong so many times.
    pub fn times(kind: FaultKind, times: u32) -> Self {
        Self { times: Times::Count(times), ..Self::once(kind) }
    }

    /// Goes wrong until it is cleared.
    pub fn always(kind: FaultKind) -> Self {
        Self { times: Times::Always, ..Self::once(kind) }
    }

    /// The same for one user only.
    #[must_use]
    pub fn for_user(mut self, identity: impl Into<String>) -> Self {
        self.user = Some(identity.into());
        self
    }
}

/// How often a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "times is a number, or \"always\"")]
pub enum Times {
    /// So many times more.
    Count(u32),
    /// Until it is cleared.
    #[serde(with = "always")]
    Always,
}

impl Default for Times {
    fn default() -> Self {
        Self::Count(1)
    }
}

/// The word `"always"`.
mod always {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("always")
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
        match &*String::deserialize(deserializer)? {
            "always" => Ok(()),
            _ => Err(D::Error::custom("neither a number nor \"always\"")),
        }
    }
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum FaultKind {
    /// An endpoint answers with an error.
    Refuse {
        /// Which.
        at: Endpoint,
        /// The HTTP status of the answer. 401 comes with the code `TOKEN_EXPIRED`.
        status: u16,
        /// A `Retry-After`: seconds or a date.
        #[serde(default, deserialize_with = "seconds_or_date", skip_serializing_if = "Option::is_none")]
        retry_after: Option<String>,
    },
    /// An endpoint takes the request and never answers.
    Hang {
        /// Which.
        at: Endpoint,
    },
    /// An endpoint answers late.
    Delay {
        /// Which.
        at: Endpoint,
        /// How late, in milliseconds.
        ms: u64,
    },
    /// Every endpoint answers 429, and a message closes its connection with 1008.
    RateLimit {
        /// A `Retry-After`: seconds or a date.
        #[serde(default, deserialize_with = "seconds_or_date", skip_serializing_if = "Option::is_none")]
        retry_after: Option<String>,
    },
    /// A connection ends as soon as it is open, before anything is sent on it.
    OnConnect {
        /// How.
        #[serde(flatten)]
        end: SocketEnd,
    },
    /// A message reaches the bot, but no ack comes.
    LostAck,
    /// A message vanishes: no ack, no answer, nothing in the history.
    LostMessage,
    /// A message reaches the bot, but the ack says `ok: false`. The bot says nothing.
    NegativeAck,
    /// The ack comes late; the answer doesn't.
    DelayedAck {
        /// How late, in milliseconds.
        ms: u64,
    },
    /// The ack comes after the bot's answer.
    AckAfterReply,
    /// The connection ends when a message has come, before its ack.
    EndBeforeAck {
        /// Whether the message reached the bot: it answers, and the history has it.
        #[serde(default)]
        taken: Taken,
        /// How the connection ends.
        #[serde(flatten)]
        end: SocketEnd,
    },
    /// An event is sent twice.
    Duplicate,
    /// An event is only in the history.
    LostPush,
    /// A text that is not JSON is sent before an event.
    Malformed,
}

/// Whether a message reached the bot before things went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Taken {
    /// It did: the bot answers, the history has it.
    #[default]
    Yes,
    /// It didn't.
    No,
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoint {
    /// `POST oAuth/token/jwtgrant`.
    Jwtgrant,
    /// `POST rtm/start`.
    RtmStart,
    /// The WebSocket's own request, `GET /rtm/bot`.
    Upgrade,
    /// `GET botmessages/rtm`.
    History,
    /// `GET botsdk/stream/{streamId}/getMessages`.
    GetMessages,
    /// `POST attachment/file/token`.
    FileToken,
    /// `POST attachment/file`: a file in one request.
    FileUpload,
    /// `POST attachment/file/{fileToken}/chunk`.
    FileChunk,
    /// `PUT attachment/file/{fileToken}`: all chunks are there.
    FileCommit,
    /// `GET attachment/v2/stream/{botId}/file/{fileId}/url`.
    FileUrl,
    /// `GET` and `POST public/bot/{botId}/getMessages`.
    Conversations,
    /// `POST /sandbox/sts`.
    Sts,
}

impl Endpoint {
    /// Every endpoint.
    pub const ALL: [Self; 12] = [
        Self::Jwtgrant,
        Self::RtmStart,
        Self::Upgrade,
        Self::History,
        Self::GetMessages,
        Self::FileToken,
        Self::FileUpload,
        Self::FileChunk,
        Self::FileCommit,
        Self::FileUrl,
        Self::Conversations,
        Self::Sts,
    ];

    /// Whether it is for who has an access token.
    pub(super) fn takes_access_tokens(self) -> bool {
        !matches!(self, Self::Jwtgrant | Self::Upgrade | Self::GetMessages | Self::Conversations | Self::Sts)
    }
}

/// How the platform's side of a connection ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum SocketEnd {
    /// The TCP connection is closed without a close frame.
    Drop,
    /// The TCP connection is reset.
    Reset,
    /// A close frame, after what was sent before.
    Close {
        /// Its code.
        code: u16,
        /// Its reason.
        #[serde(default)]
        reason: String,
    },
    /// The connection stays, but nobody is there: nothing is read, answered or sent any more.
    HalfOpen,
}

impl SocketEnd {
    /// A close frame with this code and no reason.
    pub fn close(code: u16) -> Self {
        Self::Close { code, reason: String::new() }
    }
}

fn seconds_or_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum RetryAfter {
        Seconds(u64),
        Text(String),
    }
    Ok(Option::<RetryAfter>::deserialize(deserializer)?.map(|value| match value {
        RetryAfter::Seconds(seconds) => seconds.to_string(),
        RetryAfter::Text(text) => text,
    }))
}

/// The rules in force.
#[derive(Debug, Default)]
pub(super) struct FaultBook {
    rules: Vec<Fault>,
}

impl FaultBook {
    pub(super) fn add(&mut self, fault: Fault) {
        self.rules.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(super) fn rules(&self) -> &[Fault] {
        &self.rules
    }

    /// What goes wrong with a request.
    pub(super) fn at_endpoint(&mut self, endpoint: Endpoint, user: Option<&str>) -> Option<FaultKind> {
        self.take(user, |kind| match kind {
            FaultKind::Refuse { at, .. } | FaultKind::Hang { at } | FaultKind::Delay { at, .. } => {
                *at == endpoint
            }
            FaultKind::RateLimit { .. } => true,
            _ => false,
        })
    }

    /// What goes wrong with a new connection.
    pub(super) fn on_connect(&mut self, user: &str) -> Option<SocketEnd> {
        match self.take(Some(user), |kind| matches!(kind, FaultKind::OnConnect { .. })) {
            Some(FaultKind::OnConnect { end }) => Some(end),
            _ => None,
        }
    }

    /// What goes wrong with a message.
    pub(super) fn on_message(&mut self, user: &str) -> Option<FaultKind> {
        self.take(Some(user), |kind| {
            matches!(
                kind,
                FaultKind::LostAck
                    | FaultKind::LostMessage
                    | FaultKind::NegativeAck
                    | FaultKind::DelayedAck { .. }
                    | FaultKind::AckAfterReply
                    | FaultKind::EndBeforeAck { .. }
                    | FaultKind::RateLimit { .. }
            )
        })
    }

    /// What goes wrong with an event on its way out.
    pub(super) fn on_event(&mut self, user: &str) -> Option<FaultKind> {
        self.take(Some(user), |kind| {
            matches!(kind, FaultKind::Duplicate | FaultKind::LostPush | FaultKind::Malformed)
        })
    }

    fn take(&mut self, user: Option<&str>, fits: impl Fn(&FaultKind) -> bool) -> Option<FaultKind> {
        let index = self
            .rules
            .iter()
            .position(|rule| (rule.user.is_none() || rule.user.as_deref() == user) && fits(&rule.kind))?;
        let rule = &mut self.rules[index];
        match &mut rule.times {
            Times::Always => Some(rule.kind.clone()),
            Times::Count(left) if *left > 1 => {
                *left -= 1;
                Some(rule.kind.clone())
            }
            Times::Count(0) => {
                self.rules.remove(index);
                self.take(user, fits)
            }
            Times::Count(_) => Some(self.rules.remove(index).kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Fault {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn json_reads_as_people_write_it() {
        assert_eq!(parse(r#"{"fault":"lost-ack"}"#), Fault::once(FaultKind::LostAck));
        assert_eq!(
            parse(r#"{"fault":"refuse","at":"rtm-start","status":503,"retryAfter":2,"times":3,"user":"a"}"#),
            Fault::times(
                FaultKind::Refuse { at: Endpoint::RtmStart, status: 503, retry_after: Some("2".into()) },
                3
            )
            .for_user("a")
        );
        assert_eq!(
            parse(r#"{"fault":"end-before-ack","end":"close","code":1011,"taken":"no","times":"always"}"#),
            Fault::always(FaultKind::EndBeforeAck { taken: Taken::No, end: SocketEnd::close(1011) })
        );
        let error = serde_json::from_str::<Fault>(r#"{"fault":"lost-ack","times":"often"}"#).unwrap_err();
        assert!(error.to_string().contains(r#"times is a number, or "always""#), "{error}");
        assert!(serde_json::from_str::<Fault>(r#"{"fault":"nonsense"}"#).is_err());
    }

    #[test]
    fn json_comes_back_as_it_was() {
        for fault in [
            Fault::always(FaultKind::Malformed),
            Fault::times(FaultKind::OnConnect { end: SocketEnd::HalfOpen }, 2).for_user("a"),
            Fault::once(FaultKind::RateLimit { retry_after: Some("Wed, 21 Oct 2026 07:28:00 GMT".into()) }),
            Fault::once(FaultKind::DelayedAck { ms: 7 }),
        ] {
            assert_eq!(parse(&serde_json::to_string(&fault).unwrap()), fault);
        }
    }

    #[test]
    fn a_counted_fault_is_used_up_and_a_standing_one_stays() {
        let mut book = FaultBook::default();
        book.add(Fault::times(FaultKind::LostAck, 2));
        book.add(Fault::always(FaultKind::NegativeAck));
        let seen: Vec<_> = (0..4).filter_map(|_| book.on_message("a")).collect();
        assert_eq!(
            seen,
            [FaultKind::LostAck, FaultKind::LostAck, FaultKind::NegativeAck, FaultKind::NegativeAck]
        );
    }

    #[test]
    fn a_fault_for_one_user_and_one_place_is_for_nothing_else() {
        let mut book = FaultBook::default();
        book.add(Fault::once(FaultKind::Hang { at: Endpoint::History }).for_user("a"));
        assert_eq!(book.at_endpoint(Endpoint::History, Some("b")), None);
        assert_eq!(book.at_endpoint(Endpoint::History, None), None);
        assert_eq!(book.at_endpoint(Endpoint::Jwtgrant, Some("a")), None);
        assert_eq!(book.on_message("a"), None);
        assert!(book.at_endpoint(Endpoint::History, Some("a")).is_some());
        assert!(book.rules().is_empty());
    }

    #[test]
    fn a_fault_of_zero_times_never_happens() {
        let mut book = FaultBook::default();
        book.add(Fault::times(FaultKind::LostPush, 0));
        assert_eq!(book.on_event("a"), None);
        assert!(book.rules().is_empty());
    }
}
