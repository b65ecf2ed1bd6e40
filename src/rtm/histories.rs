//! The platform's histories, for callers who ask for them.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::{
    callers::{Asking, Callers, PATIENCE, patiently},
    failure::FailureKind,
    platform::{HistoryFrom, RawPage},
    recovery::{Direction, Record},
};
use crate::{
    asking::AskError,
    history::{
        Answer, Histories, HistoryAuthor, HistoryDirection, HistoryMessage, HistoryPage, HistoryPosition,
        HistoryQuery, HistorySide, HistorySource,
    },
    users::User,
};

/// Asks the platform for histories.
#[derive(Debug)]
pub struct PlatformHistories(Arc<Callers>);

impl PlatformHistories {
    /// For these callers.
    pub fn new(callers: Arc<Callers>) -> Self {
        Self(callers)
    }

    async fn read(&self, user: &User, query: HistoryQuery) -> Result<HistoryPage, AskError> {
        let asking = self.0.asking(user, "history")?;
        let page = match query.source {
            HistorySource::Rtm => rtm(&asking, &query).await?,
            HistorySource::Botkit => botkit(&asking, &query).await?,
            HistorySource::Conversations => conversations(&asking, &query).await?,
        };
        Ok(shaped(page, &query))
    }
}

impl Histories for PlatformHistories {
    fn page(&self, user: Arc<User>, query: HistoryQuery) -> Answer<'_> {
        Box::pin(async move { self.read(&user, query).await })
    }
}

async fn rtm(asking: &Asking<'_>, query: &HistoryQuery) -> Result<RawPage, AskError> {
    let (offset, limit) = (offset(query)?, query.limit);
    let (platform, bot) = (&asking.callers.platform, &asking.person.bot);
    let page = |token| async move { platform.raw_history(&token, bot, offset, limit).await };
    asking.authorized(PATIENCE, page).await
}

async fn botkit(asking: &Asking<'_>, query: &HistoryQuery) -> Result<RawPage, AskError> {
    let (offset, limit) = (offset(query)?, query.limit);
    let id = asking.platform_user_id().await?;
    let _turn = asking.leave(PATIENCE).await?;
    let page = asking.callers.platform.botkit_history(&asking.person.bot, &id, offset, limit).await;
    page.map_err(|failure| asking.failed(failure))
}

async fn conversations(asking: &Asking<'_>, query: &HistoryQuery) -> Result<RawPage, AskError> {
    let from = match &query.from {
        HistoryPosition::Offset(offset) => HistoryFrom::Offset(*offset),
        HistoryPosition::Message { id, side: HistorySide::Older } => HistoryFrom::Older(id),
        HistoryPosition::Message { id, side: HistorySide::Newer } => HistoryFrom::Newer(id),
    };
    let user = asking.platform_user_id().await?;
    let pace = &asking.person.conversation_pace;
    let _leave = patiently(pace, PATIENCE).await?;
    let _turn = asking.leave(PATIENCE).await?;
    let page = asking.callers.platform.conversations(&asking.person.bot, &user, from, query.limit).await;
    page.map_err(|failure| match (failure.kind, failure.retry_after) {
        // That API's own limit: the bot's other requests may go on.
        (FailureKind::RateLimited, Some(told)) => {
            pace.hold(told);
            AskError::Failed { why: failure.to_string(), retry_after: Some(told) }
        }
        _ => asking.failed(failure),
    })
}

/// Where the page begins, for an API that knows no other places.
fn offset(query: &HistoryQuery) -> Result<usize, AskError> {
    match query.from {
        HistoryPosition::Offset(offset) => Ok(offset),
        HistoryPosition::Message { .. } => Err(AskError::Failed {
            why: "this history can't be read from a message on; use source=conversations".to_owned(),
            retry_after: None,
        }),
    }
}

/// The page in the one shape, newest message first.
fn shaped(page: RawPage, query: &HistoryQuery) -> HistoryPage {
    let RawPage { total, more_available, messages } = page;
    let total = total.as_u64().or_else(|| total.as_str()?.parse().ok());
    let more_available = more_available.unwrap_or_else(|| match (total, &query.from) {
        (Some(total), HistoryPosition::Offset(offset)) => ((offset + messages.len()) as u64) < total,
        _ => messages.len() >= query.limit,
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

    const QUERY: HistoryQuery =
        HistoryQuery { source: HistorySource::Rtm, limit: 2, from: HistoryPosition::Offset(0) };

    fn page(json: &Value) -> Value {
        let page: RawPage = serde_json::from_str(&json.to_string()).unwrap();
        serde_json::to_value(shaped(page, &QUERY)).unwrap()
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
