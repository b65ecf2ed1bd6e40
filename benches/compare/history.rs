//! What the platform remembers of what was said: whoever asks gets it, newest pages first. Only
//! `rtm-bridge` does.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Mutex, PoisonError},
};

use rtm_bridge::clock::Timestamp;

use crate::{
    feed::Mark,
    platform::{Asked, user_name},
};

/// A page has so many records at most.
const MOST: usize = 100;

/// Everything that was said.
#[derive(Debug, Default)]
pub struct History(Mutex<HashMap<String, Vec<Said>>>);

#[derive(Debug)]
struct Said {
    mark: Mark,
    at: Timestamp,
}

impl History {
    /// Remembers what was said just now.
    pub fn add(&self, mark: Mark) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(user_name(mark.user)).or_default().push(Said { mark, at: Timestamp::now() });
    }

    /// The answer to who asks for a page.
    pub fn page(&self, asked: &Asked<'_>) -> Option<String> {
        let (path, query) = asked.target.split_once('?')?;
        if !path.ends_with("/botmessages/rtm") {
            return None;
        }
        let number = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.into_iter().find(|(key, _)| *key == name)?.1.parse::<usize>().ok()
        };
        let (limit, offset) = (number("limit")?.min(MOST), number("offset").unwrap_or(0));
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let said = all.get(asked.token).map_or(&[][..], Vec::as_slice);
        let end = said.len().saturating_sub(offset);
        let start = end.saturating_sub(limit);
        let mut records = String::new();
        for said in &said[start..end] {
            let separator = if records.is_empty() { "" } else { "," };
            // Into memory: nothing that could fail.
            let _ = write!(records, "{separator}{}", said.record());
        }
        Some(format!(r#"{{"total":{},"moreAvailable":{},"messages":[{records}]}}"#, said.len(), start > 0))
    }
}

impl Said {
    /// The mark is the last thing, as it is in a frame.
    fn record(&self) -> String {
        let Self { mark, at } = self;
        let id = mark.message_id();
        format!(
            r#"{{"_id":"{id}","type":"outgoing","status":"pending","createdOn":"{at}","timestampValue":{},"components":[{{"cT":"text","data":{{"text":"Your parcel is on its way."}}}}],"mark":"{mark}"}}"#,
            at.as_millis(),
        )
    }
}
