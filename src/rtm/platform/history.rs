//! What was said, as the platform remembers it.

use reqwest::header::AUTHORIZATION;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Platform, answer, bearer};
use crate::{
    config::{Bot, Secret},
    rtm::{
        failure::{Failure, FailureKind, Step},
        recovery::{More, Page, Record},
    },
};

/// More of a page is not read.
const MOST_PAGE: usize = 8 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageBody {
    messages: Vec<Box<RawValue>>,
    /// Absent: there may be more.
    more_available: Option<bool>,
}

impl Platform {
    /// `GET /api/1.1/botmessages/rtm`: a page of the history of the user whose access token it is,
    /// with at most `limit` records, from the one with `offset` newer ones on. Wait for the bot's
    /// pace first.
    pub async fn history(
        &self,
        token: &Secret,
        bot: &Bot,
        offset: usize,
        limit: usize,
    ) -> Result<Page, Failure> {
        let Some(bearer) = bearer(token) else {
            return Err(Failure::new(Step::History, FailureKind::TokenRefused, "it can't stand in a header"));
        };
        let terms = self.terms();
        let mut url = terms.endpoint("botmessages/rtm");
        url.query_pairs_mut()
            .append_pair("botId", &bot.id)
            .append_pair("limit", &limit.to_string())
            .append_pair("offset", &offset.to_string());
        let request = terms.http.get(url).header(AUTHORIZATION, bearer);
        let answer = self.ask(Step::History, request, &[token], MOST_PAGE).await?;
        if let Some(failure) = answer.failure(answer::token_refusal) {
            return Err(failure);
        }
        let PageBody { messages, more_available } = answer.body()?;
        let more = if more_available == Some(false) { More::No } else { More::Perhaps };
        let returned = messages.len();
        let records: Vec<_> = messages.into_iter().filter_map(Record::parse).collect();
        if records.len() < returned {
            let skipped = returned - records.len();
            tracing::warn!(bot = bot.name, skipped, "skipped records of the history that can't be placed");
        }
        Ok(Page { records, returned, more })
    }
}
