//! What was said, as the platform remembers it.

use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{Platform, answer, bearer};
use crate::{
    clock::Timestamp,
    config::{Bot, Credentials, Secret},
    rtm::{
        failure::{Failure, FailureKind, Step},
        recovery::{More, Page, Record},
        token::sign_app_token,
    },
};

/// More of a page is not read.
const MOST_PAGE: usize = 8 * 1024 * 1024;

/// A page as the platform gives it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::rtm) struct RawPage {
    /// How many records there are in all, if it says so.
    #[serde(default)]
    pub(in crate::rtm) total: Value,
    /// Whether older ones follow; if it doesn't say so, they may.
    pub(in crate::rtm) more_available: Option<bool>,
    /// The records.
    pub(in crate::rtm) messages: Vec<Box<RawValue>>,
}

/// From where on a history is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rtm) enum From<'a> {
    /// The record that has so many newer ones.
    Offset(usize),
    /// The records older than the one of this id, newest first.
    Older(&'a str),
    /// The records newer than the one of this id, oldest first.
    Newer(&'a str),
}

impl RawPage {
    /// The records that can be placed; the others are told of. `bot` is for the log.
    pub(in crate::rtm) fn read(self, bot: &Bot) -> Page {
        let Self { messages, more_available, .. } = self;
        let more = if more_available == Some(false) { More::No } else { More::Perhaps };
        let returned = messages.len();
        let records: Vec<_> = messages.into_iter().filter_map(Record::parse).collect();
        if records.len() < returned {
            let skipped = returned - records.len();
            tracing::warn!(bot = bot.name, skipped, "skipped records of the history that can't be placed");
        }
        Page { records, returned, more }
    }
}

impl Platform {
    /// `GET /api/1.1/botmessages/rtm`: a page of the history of the user whose access token it is,
    /// with at most `limit` records, from the one with `offset` newer ones on. Wait for the bot's
    /// pace first.
    pub(in crate::rtm) async fn raw_history(
        &self,
        token: &Secret,
        bot: &Bot,
        offset: usize,
        limit: usize,
    ) -> Result<RawPage, Failure> {
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
        match answer.failure(answer::token_refusal) {
            Some(failure) => Err(failure),
            None => answer.body(),
        }
    }

    /// `GET /api/botsdk/stream/{bot}/getMessages`, BotKit's history of the user of this id, with the
    /// app's own token. Otherwise as [`Platform::raw_history`].
    pub(in crate::rtm) async fn botkit_history(
        &self,
        bot: &Bot,
        platform_user_id: &str,
        offset: usize,
        limit: usize,
    ) -> Result<RawPage, Failure> {
        let terms = self.terms();
        let mut url = terms.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "botsdk", "stream", &bot.id, "getMessages"]);
        }
        url.query_pairs_mut()
            .append_pair("userId", platform_user_id)
            .append_pair("skip", &offset.to_string())
            .append_pair("limit", &limit.to_string());
        self.as_app(Step::BotkitHistory, bot, platform_user_id, terms.http.get(url)).await
    }

    /// `POST /api/public/bot/{bot}/getMessages`, the public Conversation History API (its first version, which
    /// leaves no kind of message out), with at most 100 records. Otherwise as [`Platform::botkit_history`].
    pub(in crate::rtm) async fn conversations(
        &self,
        bot: &Bot,
        platform_user_id: &str,
        from: From<'_>,
        limit: usize,
    ) -> Result<RawPage, Failure> {
        let terms = self.terms();
        let mut url = terms.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "public", "bot", &bot.id, "getMessages"]);
        }
        let mut body = json!({"userId": platform_user_id, "limit": limit});
        match from {
            From::Offset(offset) => body["skip"] = offset.into(),
            From::Older(id) => (body["msgId"], body["direction"]) = (id.into(), (-1).into()),
            From::Newer(id) => (body["msgId"], body["direction"]) = (id.into(), 1.into()),
        }
        // Old to recent only where that is the way to go; else the page may be cut at its wrong end.
        body["forward"] = matches!(from, From::Newer(_)).into();
        self.as_app(Step::Conversations, bot, platform_user_id, terms.http.post(url).json(&body)).await
    }

    /// Makes a request with the app's own token.
    async fn as_app(
        &self,
        step: Step,
        bot: &Bot,
        subject: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<RawPage, Failure> {
        let now = self.skew().unwrap_or_default().to_platform(Timestamp::now());
        let token = sign_app_token(bot, subject, now)
            .map_err(|error| Failure::new(step, FailureKind::Impossible, &error.to_string()))?;
        let mut header = HeaderValue::try_from(token.expose())
            .map_err(|_| Failure::new(step, FailureKind::Malformed, "its token can't stand in a header"))?;
        header.set_sensitive(true);
        let mut secrets = vec![&token];
        if let Credentials::ClientSecret { secret, .. } = &bot.credentials {
            secrets.push(secret);
        }
        let answer = self.ask(step, request.header("auth", header), &secrets, MOST_PAGE).await?;
        let failure = answer.failure(|status, _| match status.as_u16() {
            401 | 403 => Some(FailureKind::Unauthorized),
            _ => None,
        });
        match failure {
            Some(failure) => Err(failure),
            None => answer.body(),
        }
    }
}
