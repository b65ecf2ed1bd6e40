//! What the bridge itself has to tell: events of its own.
//!
//! They are stored, numbered, delivered and replayed like the platform's, and have no identity: one is
//! never taken for a repeat of another. Webhooks get those that they name.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tracing::field;

use super::{
    Events, Source, Speaker,
    memory::Mark,
    receive::{Awaited, Fresh},
};
use crate::{
    clock::Timestamp,
    messages::{
        ClientMessageId, FinalReason, MessageNumber, MessageRecord, MessageStatus, MessageView, Verdict,
    },
    spans,
    store::{StoreError, UserNumber},
    trace::TraceContext,
    users::{User, UserStatus},
};

/// The type of the event that reports a message's end.
pub(super) const MESSAGE: &str = "bridge.message";
/// The type of the event that reports a session with a human agent: see [`super::agent`].
pub(super) const AGENT_SESSION: &str = "bridge.agent_session";

/// What the bridge reports of a user. (A message's end is reported by [`Events::message_ended`].)
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// `bridge.connection`: the connection's new state.
    Connection(UserStatus),
    /// `bridge.gap`: events were missed.
    Gap(Gap),
}

/// A span of time in which events were missed, and what became of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// Until when everything came.
    pub from: Timestamp,
    /// When the connection was there again.
    pub to: Timestamp,
    /// How many events were recovered.
    pub recovered: u64,
    /// Whether nothing is missing any more, as far as the platform tells.
    pub complete: bool,
    /// Why something is missing, in plain words.
    pub reason: Option<String>,
}

impl Report {
    /// The event's type.
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::Connection(_) => "bridge.connection",
            Self::Gap(_) => "bridge.gap",
        }
    }

    fn data(&self) -> Bytes {
        match self {
            Self::Connection(status) => json(status),
            Self::Gap(gap) => json(gap),
        }
    }
}

impl Events {
    /// Stores a report as the user's next event. Waits while the store has too much to write already, but
    /// not until the event is on stable storage.
    pub async fn announce(&self, user: &Arc<User>, report: Report) -> Result<(), StoreError> {
        let fresh = Fresh::report(user.number, report.event_type(), Timestamp::now(), report.data());
        let reserved = self.shared.store.reserve(fresh.size()).await?;
        let lanes = self.shared.lanes_of(user)?;
        self.shared.hand_over(user, lanes, fresh, |event, on_durable| {
            self.shared.store.append_event(event, reserved, on_durable)
        })?;
        Ok(())
    }

    /// A message ended: its final status and the `bridge.message` that reports it reach the disk
    /// together. Waits while the store has too much to write already; given up then, nothing was done.
    pub async fn message_ended(
        &self,
        user: &Arc<User>,
        number: MessageNumber,
        at: Timestamp,
        verdict: Verdict,
    ) {
        let shared = &self.shared;
        let reserved = shared.store.reserve(size_of_end(&verdict)).await;
        // Everything that can be is done before: the messages of all users wait for what follows.
        let lanes = shared.lanes_of(user);
        let prepare = |id, record: &MessageRecord| {
            let report = json(&MessageView::new(&user.name, id, record));
            (Fresh::report(user.number, MESSAGE, at, report), shared.store.trace(user.number, id))
        };
        shared.messages.finished_with(user.number, number, at, verdict, prepare, |end, record, (fresh, trace)| {
            log_end(user, end.id, record, trace.as_ref());
            spans::message_ended(user, end.id, record, trace.as_ref());
            let (Ok(reserved), Ok(lanes)) = (reserved, lanes) else {
                // The store fails or closes. If it takes anything at all, then the end alone.
                return shared.store.finish_message(end);
            };
            let stored = shared.hand_over(user, lanes, fresh, |event, on_durable| {
                shared.store.finish_message_with(end, event, reserved, on_durable)
            });
            if let Err(error) = stored {
                tracing::warn!(user = %user.name, bot = %user.bot, %error, "a message's end can't be stored; it is still queued at the next start");
            }
        });
    }
}

/// That a message was not taken is for people to know.
fn log_end(user: &User, id: ClientMessageId, record: &MessageRecord, trace: Option<&TraceContext>) {
    let (User { name, bot, .. }, attempts) = (user, record.attempts);
    let (status, reason) = (record.status.as_str(), record.reason.map(FinalReason::as_str));
    let trace = trace.map(|context| field::display(context.trace));
    match record.status {
        MessageStatus::Rejected | MessageStatus::Expired => {
            tracing::warn!(user = %name, %bot, clientMessageId = %id, status, reason, attempts, traceId = trace, "message was given up");
        }
        MessageStatus::Queued | MessageStatus::Sent | MessageStatus::Acked => {
            tracing::debug!(user = %name, %bot, clientMessageId = %id, status, attempts, traceId = trace, "message is final");
        }
    }
}

impl Fresh {
    pub(super) fn report(user: UserNumber, event_type: &str, at: Timestamp, data: Bytes) -> Self {
        Self {
            kind: event_type.into(),
            received_at: at,
            in_reply_to: None,
            source: Source::Bridge,
            speaker: Speaker::Platform,
            journal: Mark::entry(None, user, data.len()),
            frame: data,
            awaited: Awaited::No,
        }
    }
}

/// About what the end of a message and its report take in the store.
fn size_of_end(verdict: &Verdict) -> usize {
    let ack = match verdict {
        Verdict::Acked(ack) | Verdict::Rejected(_, Some(ack)) => ack.len(),
        Verdict::Found | Verdict::Sent | Verdict::Rejected(_, None) | Verdict::Expired(_) => 0,
    };
    1024 + 2 * ack
}

fn json(data: &impl Serialize) -> Bytes {
    // Most reports are no longer.
    let mut out = Vec::with_capacity(512);
    serde_json::to_writer(&mut out, data).expect("plain data with text keys is always JSON");
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{self, PlainFormat},
        events::{Body, Event, Subscribers},
        messages::Messages,
        names::{BotName, UserName},
        store::testing,
        users::ConnectionState,
    };

    #[tokio::test]
    async fn an_announced_gap_is_the_users_next_event() {
        let (_directory, store) = testing::store();
        let kept = testing::settings("unused".as_ref());
        let messages = Messages::load(store.clone(), config::Messages::default(), &kept).unwrap();
        let events = Events::load(store.clone(), messages, &kept, Subscribers::default()).unwrap();
        let name = UserName::new("alice").unwrap();
        let number = store.user_number(&name).unwrap();
        let user = Arc::new(User::new(name, number, BotName::new("support").unwrap(), Timestamp::now()));
        let at = Timestamp::from_millis(1_466_692_440_896);
        let gap = Gap { from: at, to: at, recovered: 3, complete: true, reason: None };
        for _ in 0..2 {
            // Announced twice, it is two events: nothing of the bridge's own is a repeat.
            events.announce(&user, Report::Gap(gap.clone())).await.unwrap();
            store.settled().await.unwrap();
        }
        let stored: Vec<_> = store.events_after(number, 0).map(Result::unwrap).collect();
        assert_eq!(stored.iter().map(|event| event.number).collect::<Vec<_>>(), [1, 2]);
        let event = Event {
            id: store.event_id(1),
            user: user.name.clone(),
            bot: store.bot_name(stored[0].bot).unwrap(),
            kind: stored[0].kind.clone(),
            received_at: at,
            in_reply_to: stored[0].in_reply_to,
            source: stored[0].source,
            speaker: stored[0].speaker,
            frame: stored[0].frame.clone(),
        };
        let body = Body::render(&event, Some(7), PlainFormat::Envelope);
        insta::assert_snapshot!(std::str::from_utf8(&body.bytes).unwrap(), @r#"{"type":"bridge.gap","timestamp":"2016-06-23T14:34:00.896Z","user":"alice","bot":"support","sequence":7,"inReplyTo":null,"source":"live","from":"platform","text":null,"data":{"from":"2016-06-23T14:34:00.896Z","to":"2016-06-23T14:34:00.896Z","recovered":3,"complete":true,"reason":null}}"#);
        let frame = Body::render(&event, Some(7), PlainFormat::Frame);
        assert_eq!(frame.bytes, stored[0].frame);
    }

    #[test]
    fn reports_have_every_key() {
        let at = Timestamp::from_millis(1_466_692_440_896);
        let connection = Report::Connection(UserStatus {
            state: ConnectionState::BackingOff,
            since: at,
            last_error: Some("the connection was lost".to_owned()),
            attempts: 2,
        });
        insta::assert_snapshot!(std::str::from_utf8(&connection.data()).unwrap(), @r#"{"state":"backing_off","since":"2016-06-23T14:34:00.896Z","lastError":"the connection was lost","attempts":2}"#);
        let gap =
            Gap { from: at, to: at, recovered: 3, complete: false, reason: Some("too long ago".into()) };
        insta::assert_snapshot!(std::str::from_utf8(&Report::Gap(gap).data()).unwrap(), @r#"{"from":"2016-06-23T14:34:00.896Z","to":"2016-06-23T14:34:00.896Z","recovered":3,"complete":false,"reason":"too long ago"}"#);
    }
}
