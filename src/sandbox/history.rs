//! What was said, as the platform's history tells it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use serde::Serialize;
use serde_json::{Value, json};

use super::settings::PageOrder;
use crate::clock::Timestamp;

/// Which way an item of the history went, seen from the bot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the user to the bot.
    Incoming,
    /// From the bot, or an agent, to the user.
    Outgoing,
}

/// One item of a user's history.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryItem {
    /// `_id`: the `messageId` of the event, for outgoing items.
    pub id: String,
    /// Which way it went.
    pub direction: Direction,
    /// Its text.
    pub text: String,
    /// What the user saw in place of the text (`tags.altText`).
    pub alt_text: Option<String>,
    /// The client's id of an incoming item, verbatim JSON.
    pub user_msg_id: Option<Value>,
    /// When.
    pub created: Timestamp,
    /// In which session.
    pub session_id: String,
    /// The agent who wrote it: first and last name.
    pub author: Option<(String, String)>,
    #[serde(skip)]
    pub(super) part: Part,
}

/// Whether an item is all that was said, or a part of a streamed answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    Chunk,
}

/// What a client asks a history for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PageQuery {
    pub(super) limit: usize,
    /// Counts back from the newest (or from the cursor).
    pub(super) offset: usize,
    pub(super) cursor: Option<Cursor>,
    /// Whether the cursor's own item belongs to the page.
    pub(super) inclusive: bool,
}

/// A known item's id, and on which side of it to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cursor {
    OlderThan(String),
    NewerThan(String),
    /// Both ways.
    Around(String),
}

impl Cursor {
    fn id(&self) -> &str {
        let (Self::OlderThan(id) | Self::NewerThan(id) | Self::Around(id)) = self;
        id
    }
}

/// A page, oldest item first.
#[derive(Debug, PartialEq)]
pub(super) struct Page<'a> {
    pub(super) total: usize,
    pub(super) more_available: bool,
    pub(super) items: Vec<&'a HistoryItem>,
}

/// The history of one user with one bot, of bounded length.
#[derive(Debug)]
pub(super) struct History {
    items: VecDeque<Arc<HistoryItem>>,
    /// By id: the item's number, counted from the first there ever was.
    numbers: HashMap<String, u64>,
    /// The number of the oldest item kept.
    first: u64,
    kept: usize,
}

impl History {
    pub(super) fn new(kept: usize) -> Self {
        Self { items: VecDeque::new(), numbers: HashMap::new(), first: 0, kept }
    }

    /// Adds an item. The parts of a streamed answer make up one item; an id that is there already
    /// is no second one.
    pub(super) fn add(&mut self, item: HistoryItem) {
        if let Some(at) = self.find(&item.id) {
            if item.part == Part::Chunk {
                Arc::make_mut(&mut self.items[at]).text.push_str(&item.text);
            }
            return;
        }
        if self.items.len() >= self.kept
            && let Some(oldest) = self.items.pop_front()
        {
            self.numbers.remove(&oldest.id);
            self.first += 1;
        }
        self.numbers.insert(item.id.clone(), self.first + self.items.len() as u64);
        self.items.push_back(Arc::new(item));
    }

    fn find(&self, id: &str) -> Option<usize> {
        self.numbers.get(id).map(|number| (number - self.first) as usize)
    }

    pub(super) fn items(&self) -> impl Iterator<Item = &Arc<HistoryItem>> {
        self.items.iter()
    }

    pub(super) fn page(&self, query: &PageQuery) -> Page<'_> {
        let len = self.items.len();
        let found = query.cursor.as_ref().and_then(|cursor| self.find(cursor.id()));
        let own = usize::from(query.inclusive);
        // The half-open range of what may be shown, and whether its oldest or newest come first.
        let (start, end) = match &query.cursor {
            None => (0, len.saturating_sub(query.offset)),
            Some(Cursor::OlderThan(_)) => (0, found.map_or(0, |at| at + own).saturating_sub(query.offset)),
            Some(Cursor::NewerThan(_)) => {
                let start = found.map_or(len, |at| at + 1 - own);
                let end = len.min(start + query.limit);
                return self.slice(start, end, end < len);
            }
            Some(Cursor::Around(_)) => {
                let start = found.map_or(len, |at| at.saturating_sub(query.limit / 2));
                let end = len.min(start + query.limit);
                return self.slice(start, end, start > 0 || end < len);
            }
        };
        let from = end.saturating_sub(query.limit).max(start);
        self.slice(from, end, from > 0)
    }

    fn slice(&self, start: usize, end: usize, more_available: bool) -> Page<'_> {
        let items = self.items.range(start..end.max(start)).map(|item| &**item).collect();
        Page { total: self.items.len(), more_available, items }
    }
}

/// Whose history it is: what every item repeats.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner<'a> {
    pub(super) user_id: &'a str,
    pub(super) bot_id: &'a str,
}

impl Page<'_> {
    /// The answer of `botmessages/rtm`.
    pub(super) fn to_rtm(&self, owner: Owner<'_>, order: PageOrder, user_msg_ids: bool) -> Value {
        let messages = self.records(owner, order, user_msg_ids);
        json!({"total": self.total, "moreAvailable": self.more_available, "icon": "", "messages": messages})
    }

    /// The answer of BotKit's `getMessages`, and of the public one.
    pub(super) fn to_botkit(&self, owner: Owner<'_>, order: PageOrder, user_msg_ids: bool) -> Value {
        let messages = self.records(owner, order, user_msg_ids);
        json!({"total": self.total, "moreAvailable": self.more_available, "messages": messages})
    }

    fn records(&self, owner: Owner<'_>, order: PageOrder, user_msg_ids: bool) -> Vec<Value> {
        let mut records: Vec<_> = self.items.iter().map(|item| item.to_record(owner, user_msg_ids)).collect();
        if order == PageOrder::NewestFirst {
            records.reverse();
        }
        records
    }
}

impl HistoryItem {
    fn to_record(&self, owner: Owner<'_>, user_msg_ids: bool) -> Value {
        let created = self.created.to_string();
        let (status, alt_text) = match (&self.direction, &self.alt_text) {
            (Direction::Outgoing, _) => ("pending", json!([])),
            (Direction::Incoming, None) => ("sent to cs", json!([])),
            (Direction::Incoming, Some(shown)) => {
                ("sent to cs", json!([{"name": "renderMsg", "value": shown}]))
            }
        };
        let mut record = json!({
            "_id": self.id,
            "type": self.direction,
            "status": status,
            "createdBy": owner.user_id,
            "lmodifiedBy": owner.user_id,
            "lmodifiedOn": created,
            "botId": owner.bot_id,
            "orgId": super::ORG_ID,
            "accountId": super::ACCOUNT_ID,
            "isBB": 0,
            "ms": 1,
            "chnl": "rtm",
            "channels": [{"type": "rtm"}],
            "components": [{
                "_id": self.id.replacen("ms-", "cp-", 1),
                "cT": "text",
                "data": {"text": self.text},
                "thumbnails": [],
            }],
            "createdOn": created,
            "timestampValue": self.created.as_millis(),
            "__v": 0,
            "lang": "en",
            "sessionId": self.session_id,
            "resourceid": "messagestore",
            "tags": {"altText": alt_text, "messageTags": [], "userTags": [], "sessionTags": []},
        });
        if let Some(id) = self.user_msg_id.as_ref().filter(|_| user_msg_ids) {
            record["userMsgId"] = id.clone();
        }
        if let Some((first, last)) = &self.author {
            record["author"] = json!({"firstName": first, "lastName": last});
        }
        record
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn history(n: usize) -> History {
        let mut history = History::new(1000);
        for i in 0..n {
            history.add(item(i));
        }
        history
    }

    fn item(i: usize) -> HistoryItem {
        HistoryItem {
            id: format!("ms-{i}"),
            direction: if i.is_multiple_of(2) { Direction::Incoming } else { Direction::Outgoing },
            text: format!("text {i}"),
            alt_text: None,
            user_msg_id: Some(json!(i)),
            created: Timestamp::from_millis(1_000 + i as u64),
            session_id: "s".into(),
            author: None,
            part: Part::Whole,
        }
    }

    fn ids(page: &Page<'_>) -> Vec<String> {
        page.items.iter().map(|item| item.id.clone()).collect()
    }

    #[test]
    fn the_offset_counts_back_from_the_newest() {
        let history = history(5);
        let page = history.page(&PageQuery { limit: 2, ..PageQuery::default() });
        assert_eq!(
            (ids(&page), page.more_available, page.total),
            (vec!["ms-3".into(), "ms-4".into()], true, 5)
        );
        let page = history.page(&PageQuery { limit: 2, offset: 4, ..PageQuery::default() });
        assert_eq!((ids(&page), page.more_available), (vec!["ms-0".into()], false));
        assert!(history.page(&PageQuery { limit: 2, offset: 9, ..PageQuery::default() }).items.is_empty());
    }

    #[test]
    fn a_cursor_goes_either_way() {
        let history = history(5);
        let at = |cursor: Cursor| PageQuery { limit: 2, cursor: Some(cursor), ..PageQuery::default() };
        let older = at(Cursor::OlderThan("ms-3".into()));
        assert_eq!(ids(&history.page(&older)), ["ms-1", "ms-2"]);
        let newer = PageQuery { offset: 10, ..at(Cursor::NewerThan("ms-1".into())) };
        let page = history.page(&newer);
        assert_eq!((ids(&page), page.more_available), (vec!["ms-2".into(), "ms-3".into()], true));
        assert_eq!(ids(&history.page(&at(Cursor::Around("ms-2".into())))), ["ms-1", "ms-2"]);
        for (cursor, expected) in [
            (Cursor::OlderThan("ms-3".into()), ["ms-2", "ms-3"]),
            (Cursor::NewerThan("ms-1".into()), ["ms-1", "ms-2"]),
        ] {
            assert_eq!(ids(&history.page(&PageQuery { inclusive: true, ..at(cursor) })), expected);
        }
        for unknown in [
            Cursor::NewerThan("ms-x".into()),
            Cursor::OlderThan("ms-x".into()),
            Cursor::Around("ms-x".into()),
        ] {
            assert!(history.page(&at(unknown)).items.is_empty());
        }
    }

    #[test]
    fn the_oldest_make_room() {
        let mut history = History::new(2);
        (0..3).for_each(|i| history.add(item(i)));
        assert_eq!(history.items().map(|item| item.id.clone()).collect::<Vec<_>>(), ["ms-1", "ms-2"]);
    }

    #[test]
    fn parts_make_up_one_item_and_a_repeat_none() {
        let mut history = History::new(3);
        for i in [0, 1, 2, 3, 0] {
            history.add(item(i));
        }
        history.add(item(3));
        let chunk = HistoryItem { id: "ms-0".into(), part: Part::Chunk, text: " and more".into(), ..item(9) };
        history.add(chunk);
        let texts: Vec<_> = history.items().map(|item| item.text.clone()).collect();
        assert_eq!(texts, ["text 2", "text 3", "text 0 and more"]);
    }

    #[test]
    fn records_have_the_documented_fields() {
        let documented: Value = serde_json::from_str(include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/vectors/documented/botmessages-rtm.response.json"
        )))
        .unwrap();
        let owner = Owner { user_id: "u-1", bot_id: "st-1" };
        let history = history(2);
        let answer = history.page(&PageQuery { limit: 2, ..PageQuery::default() }).to_rtm(
            owner,
            PageOrder::OldestFirst,
            true,
        );
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        for key in keys(&documented) {
            assert!(answer.get(&key).is_some(), "{key}");
        }
        // Of the dialog engine, which there isn't one of here.
        let internal = |key: &str| key.starts_with("tr") || ["nodeType", "tN"].contains(&key);
        for (theirs, ours) in [(0, 0), (1, 1)] {
            for key in keys(&documented["messages"][theirs]).iter().filter(|key| !internal(key)) {
                assert!(answer["messages"][ours].get(key).is_some(), "{key}");
            }
        }
    }

    #[test]
    fn orders_and_ids_are_as_set() {
        let (history, owner) = (history(3), Owner { user_id: "u-1", bot_id: "st-1" });
        let page = history.page(&PageQuery { limit: 2, ..PageQuery::default() });
        let answer = page.to_rtm(owner, PageOrder::NewestFirst, false);
        assert_eq!(answer["messages"][0]["_id"], "ms-2");
        assert!(answer["messages"][0].get("userMsgId").is_none());
        assert_eq!(page.to_botkit(owner, PageOrder::NewestFirst, true)["messages"][0]["userMsgId"], 2);
        assert_eq!(page.to_botkit(owner, PageOrder::OldestFirst, true)["messages"][0]["userMsgId"], 1);
    }

    proptest! {
        #[test]
        fn paging_through_shows_everything_once(n in 0_usize..40, limit in 1_usize..9) {
            let history = history(n);
            let (mut seen, mut offset) = (Vec::new(), 0);
            loop {
                let page = history.page(&PageQuery { limit, offset, ..PageQuery::default() });
                let mut part = ids(&page);
                part.append(&mut seen);
                seen = part;
                offset += page.items.len();
                if !page.more_available {
                    break;
                }
            }
            prop_assert_eq!(seen, (0..n).map(|i| format!("ms-{i}")).collect::<Vec<_>>());
        }
    }
}
