//! What was said before an agent took over, for whoever opens the conversation.
//!
//! It is told by the platform's history. If that fails or takes too long, by what the bridge itself has
//! kept of the user's events, which lacks what the bridge sent: of messages that are final no text is kept.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::{
    super::{
        Event, Source, Speaker,
        receive::Shared,
        report::AGENT_SESSION,
        text::{delta, plain_text},
    },
    reading::Agent,
    session::{Turn, TurnState},
};
use crate::{
    clock::Timestamp,
    history::{
        Histories, HistoryAuthor, HistoryDirection, HistoryMessage, HistoryPosition, HistoryQuery,
        HistorySource,
    },
    rtm::frame::{FrameHead, Part},
    store::{StoredEvent, WebhookNumber},
    users::User,
};

/// How long the platform's history may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// More pages are not turned, however small the platform makes them.
const MOST_PAGES: usize = 12;
/// More of the bridge's own events are not looked through.
const MOST_KEPT: usize = 2_000;

/// What was said, oldest first.
#[derive(Debug)]
pub(super) struct Transcript {
    source: TranscriptSource,
    messages: Vec<HistoryMessage>,
}

/// Where it is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum TranscriptSource {
    /// The platform's history.
    Platform,
    /// The events that the bridge has kept.
    Bridge,
}

/// The report's `data`, as it is stored: with how much of the transcript each webhook is to see.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    state: TurnState,
    agent: Option<&'a Agent>,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    transcript_source: Option<TranscriptSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transcript: Option<&'a [HistoryMessage]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shares: Option<&'a Shares>,
}

/// How much of the transcript each webhook is to see, by its number.
pub(super) type Shares = BTreeMap<u32, usize>;

/// The `data` of a report.
pub(super) fn data(turn: &Turn, told: Option<(&Transcript, &Shares)>) -> Vec<u8> {
    let data = Data {
        state: turn.state,
        agent: turn.agent.as_ref(),
        at: turn.at,
        transcript_source: told.map(|(transcript, _)| transcript.source),
        transcript: told.map(|(transcript, _)| &transcript.messages[..]),
        shares: told.map(|(_, shares)| shares),
    };
    serde_json::to_vec(&data).expect("plain data with text keys is always JSON")
}

/// An event as this webhook is to see it, or as whoever asks for it.
pub(in crate::events) fn seen_by(event: &Event, webhook: Option<WebhookNumber>) -> Cow<'_, Event> {
    #[derive(Deserialize, Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Stored<'a> {
        #[serde(borrow)]
        state: &'a RawValue,
        #[serde(borrow)]
        agent: &'a RawValue,
        #[serde(borrow)]
        at: &'a RawValue,
        #[serde(borrow, skip_serializing_if = "Option::is_none")]
        transcript_source: Option<&'a RawValue>,
        #[serde(borrow, skip_serializing_if = "Option::is_none")]
        transcript: Option<Vec<&'a RawValue>>,
        #[serde(skip_serializing)]
        shares: Shares,
    }
    if event.source != Source::Bridge || event.kind != AGENT_SESSION {
        return Cow::Borrowed(event);
    }
    let Ok(mut stored) = serde_json::from_slice::<Stored<'_>>(&event.frame) else {
        return Cow::Borrowed(event);
    };
    let share = match webhook {
        Some(webhook) => stored.shares.get(&webhook.0).copied(),
        None => Some(usize::MAX),
    };
    match (share, &mut stored.transcript) {
        (Some(share), Some(messages)) => {
            messages.drain(..messages.len().saturating_sub(share));
        }
        _ => (stored.transcript, stored.transcript_source) = (None, None),
    }
    let frame = serde_json::to_vec(&stored).expect("it was read from JSON");
    Cow::Owned(Event { frame: frame.into(), ..event.clone() })
}

/// Whether a beginning is told with what was said before.
pub(super) fn is_told_with(turn: &Turn) -> bool {
    turn.state == TurnState::Started
}

/// The last `most` messages of the user.
pub(super) async fn transcript(
    shared: &Shared,
    histories: &Arc<dyn Histories>,
    user: &Arc<User>,
    most: usize,
) -> Transcript {
    let mut messages = Vec::new();
    let reading = read_history(histories, user, most, &mut messages);
    let why = match timeout(PATIENCE, reading).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("it took too long".to_owned()),
    };
    if let Some(why) = why.filter(|_| messages.is_empty()) {
        tracing::warn!(user = %user.name, why, "the platform's history can't be read; an agent session's transcript is what the bridge has kept");
        return Transcript { source: TranscriptSource::Bridge, messages: kept(shared, user, most) };
    }
    messages.truncate(most);
    messages.reverse();
    Transcript { source: TranscriptSource::Platform, messages }
}

/// Newest first, page by page; what was read stays when a later page fails.
async fn read_history(
    histories: &Arc<dyn Histories>,
    user: &Arc<User>,
    most: usize,
    messages: &mut Vec<HistoryMessage>,
) -> Result<(), crate::asking::AskError> {
    for _ in 0..MOST_PAGES {
        let query = HistoryQuery {
            source: HistorySource::Rtm,
            limit: most - messages.len(),
            from: HistoryPosition::Offset(messages.len()),
        };
        let page = histories.page(Arc::clone(user), query).await?;
        let is_last = page.messages.is_empty() || !page.more_available;
        messages.extend(page.messages);
        if is_last || messages.len() >= most {
            break;
        }
    }
    Ok(())
}

/// What the bridge has kept of what was said, oldest first. The chunks of a streamed answer are one message.
fn kept(shared: &Shared, user: &User, most: usize) -> Vec<HistoryMessage> {
    let events = shared.store.events_between(user.number, 0, u64::MAX).rev().take(MOST_KEPT);
    let mut messages: Vec<HistoryMessage> = Vec::new();
    for (part, message) in events.filter_map(|event| said(&event.ok()?)) {
        let is_same = |later: &HistoryMessage| later.id.is_some() && later.id == message.id;
        let later = if part == Part::Whole { None } else { messages.iter().position(is_same) };
        match later {
            // Backwards: each chunk goes before those that came after it.
            Some(later) => {
                let rest = messages[later].text.take();
                messages[later].text =
                    [message.text, rest].into_iter().flatten().reduce(|one, two| one + &two);
            }
            None if messages.len() == most => break,
            None => messages.push(message),
        }
    }
    messages.reverse();
    messages
}

/// What an event says, if it is something said; and whether that is a part of something.
fn said(event: &StoredEvent) -> Option<(Part, HistoryMessage)> {
    let (direction, from) = match event.speaker {
        Speaker::User => (HistoryDirection::Incoming, HistoryAuthor::User),
        Speaker::Bot => (HistoryDirection::Outgoing, HistoryAuthor::Bot),
        Speaker::Agent => (HistoryDirection::Outgoing, HistoryAuthor::Agent),
        Speaker::Platform => return None,
    };
    // What was assembled is there as its chunks.
    if matches!(event.source, Source::Bridge | Source::Assembled) {
        return None;
    }
    let head = FrameHead::parse(&event.frame).ok()?;
    if !head.is("bot_response") && !head.is("user_message") {
        return None;
    }
    let text = if head.part == Part::Whole { plain_text(&event.frame) } else { delta(&event.frame) };
    let message = HistoryMessage {
        id: head.identity().map(str::to_owned),
        direction: Some(direction),
        from: Some(from),
        text,
        created_on: Some(event.received_at),
        raw: serde_json::from_slice(&event.frame).ok()?,
    };
    Some((head.part, message))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        events::EventId,
        names::{BotName, UserName},
    };

    fn message(n: u64) -> HistoryMessage {
        HistoryMessage {
            id: Some(format!("ms-{n}")),
            direction: Some(HistoryDirection::Outgoing),
            from: Some(HistoryAuthor::Bot),
            text: Some(format!("text {n}")),
            created_on: Some(Timestamp::from_millis(n)),
            raw: serde_json::from_str("{\"n\":1.50}").unwrap(),
        }
    }

    fn event(frame: Vec<u8>) -> Event {
        Event {
            id: EventId { store: 1, number: 1 },
            user: UserName::new("alice").unwrap(),
            bot: BotName::new("support").unwrap(),
            kind: AGENT_SESSION.into(),
            received_at: Timestamp::from_millis(1),
            in_reply_to: None,
            source: Source::Bridge,
            speaker: Speaker::Platform,
            frame: frame.into(),
        }
    }

    fn seen(event: &Event, webhook: Option<u32>) -> Value {
        serde_json::from_slice(&seen_by(event, webhook.map(WebhookNumber)).frame).unwrap()
    }

    #[test]
    fn each_webhook_sees_its_share() {
        let turn = Turn { state: TurnState::Started, at: Timestamp::from_millis(7), agent: None };
        let messages = (1..=3).map(message).collect();
        let transcript = Transcript { source: TranscriptSource::Platform, messages };
        let shares = Shares::from([(3, 2), (4, 20)]);
        let event = event(data(&turn, Some((&transcript, &shares))));
        let ids = |seen: &Value| -> Vec<String> {
            seen["transcript"]
                .as_array()
                .unwrap()
                .iter()
                .map(|m| m["id"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(ids(&seen(&event, Some(3))), ["ms-2", "ms-3"]);
        assert_eq!(ids(&seen(&event, Some(4))), ["ms-1", "ms-2", "ms-3"]);
        assert_eq!(ids(&seen(&event, None)), ["ms-1", "ms-2", "ms-3"]);
        let bare = json!({"state": "started", "agent": null, "at": "1970-01-01T00:00:00.007Z"});
        assert_eq!(seen(&event, Some(5)), bare);
        let told = String::from_utf8(seen_by(&event, Some(WebhookNumber(3))).frame.to_vec()).unwrap();
        insta::assert_snapshot!(told, @r#"{"state":"started","agent":null,"at":"1970-01-01T00:00:00.007Z","transcriptSource":"platform","transcript":[{"id":"ms-2","direction":"outgoing","from":"bot","text":"text 2","createdOn":"1970-01-01T00:00:00.002Z","raw":{"n":1.50}},{"id":"ms-3","direction":"outgoing","from":"bot","text":"text 3","createdOn":"1970-01-01T00:00:00.003Z","raw":{"n":1.50}}]}"#);
    }

    #[test]
    fn what_has_no_transcript_is_seen_as_it_is() {
        let agent = Some(Agent { id: Some("a-1".into()), name: Some("Ann".into()) });
        let turn = Turn { state: TurnState::Ended, at: Timestamp::from_millis(7), agent };
        let event = event(data(&turn, None));
        assert!(matches!(seen_by(&event, Some(WebhookNumber(3))), Cow::Borrowed(_)));
        let expected = json!({"state": "ended", "agent": {"id": "a-1", "name": "Ann"}, "at": "1970-01-01T00:00:00.007Z"});
        assert_eq!(seen(&event, None), expected);
        let platforms = Event { source: Source::Live, ..event };
        assert!(matches!(seen_by(&platforms, None), Cow::Borrowed(_)));
    }
}
