//! An answer of the platform: read within limits, and what its status and its errors mean.

use std::time::Duration;

use reqwest::{
    StatusCode,
    header::{DATE, HeaderMap, RETRY_AFTER},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    clock::Timestamp,
    config::Secret,
    rtm::{
        failure::{Failure, FailureKind, Step},
        token::Skew,
    },
    unreachable::Unreachable,
};

/// More of an answer is not read, as a rule.
pub(super) const MOST_BODY: usize = 1024 * 1024;
/// A `Retry-After` beyond this is taken for this.
const MOST_WAIT: Duration = Duration::from_secs(86_400);

/// A whole answer.
pub(super) struct Answer {
    step: Step,
    status: StatusCode,
    body: Vec<u8>,
    retry_after: Option<Duration>,
    /// How far the platform's clock is ahead of ours, by its `Date`.
    pub(super) skew: Option<Skew>,
    /// When its head arrived.
    pub(super) arrived: Instant,
    /// What must not be shown, should the platform repeat it.
    secrets: Vec<Secret>,
}

/// One of the platform's `errors`.
#[derive(Debug, Deserialize)]
pub(super) struct ApiError {
    #[serde(default)]
    msg: Value,
    #[serde(default)]
    code: Value,
}

#[derive(Deserialize)]
struct ApiErrors {
    errors: Vec<ApiError>,
}

impl Answer {
    /// Makes the request and reads what comes, `most` bytes of it.
    pub(super) async fn to(
        step: Step,
        request: reqwest::RequestBuilder,
        secrets: &[&Secret],
        most: usize,
    ) -> Result<Self, Failure> {
        let failed = |error: reqwest::Error| {
            let kind = if error.is_timeout() { FailureKind::Timeout } else { FailureKind::Network };
            let unreachable = error.is_connect().then(|| match kind {
                FailureKind::Timeout => Unreachable::Silent,
                _ => Unreachable::of(&error),
            });
            Failure::new(step, kind, &words(&error.without_url())).unreachable(unreachable)
        };
        let mut response = request.send().await.map_err(failed)?;
        let (arrived, now) = (Instant::now(), Timestamp::now());
        let mut answer = Self {
            step,
            status: response.status(),
            body: Vec::new(),
            retry_after: retry_after(response.headers(), now),
            skew: date(response.headers()).map(|theirs| skew(theirs, now)),
            arrived,
            secrets: secrets.iter().map(|&secret| secret.clone()).collect(),
        };
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if answer.body.len() + chunk.len() > most {
                return Err(answer.malformed(&format!("it is longer than {} MiB", most >> 20)));
            }
            answer.body.extend_from_slice(&chunk);
        }
        Ok(answer)
    }

    /// The failure that the status means, if any; `special` knows of statuses and errors that mean
    /// more at this endpoint.
    pub(super) fn failure(
        &self,
        special: impl FnOnce(StatusCode, Option<&ApiError>) -> Option<FailureKind>,
    ) -> Option<Failure> {
        if self.status.is_success() {
            return None;
        }
        let errors: Option<ApiErrors> = serde_json::from_slice(&self.body).ok();
        let error = errors.as_ref().and_then(|body| body.errors.first());
        let status = self.status.as_u16();
        let kind = match status {
            429 => FailureKind::RateLimited,
            500.. => FailureKind::Server { status },
            _ => special(self.status, error).unwrap_or(FailureKind::Refused { status }),
        };
        let said = error.and_then(|error| error.msg.as_str()).unwrap_or_default();
        Some(Failure::new(self.step, kind, &self.without_secrets(said)).retry_after(self.retry_after))
    }

    /// The body of a success.
    pub(super) fn body<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        // The library's words may quote the body; where it stopped is all that is said.
        serde_json::from_slice(&self.body).map_err(|error| {
            let problem = format!(
                "it lacks what is expected (status {}, line {}, column {})",
                self.status.as_u16(),
                error.line(),
                error.column()
            );
            self.malformed(&problem)
        })
    }

    /// A failure because of what the answer says.
    pub(super) fn malformed(&self, problem: &str) -> Failure {
        Failure::new(self.step, FailureKind::Malformed, &self.without_secrets(problem))
    }

    fn without_secrets(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.expose(), "[secret]"))
    }
}

/// What a refusal of an access token means, whichever way it is said.
pub(super) fn token_refusal(status: StatusCode, error: Option<&ApiError>) -> Option<FailureKind> {
    let refused = status == StatusCode::UNAUTHORIZED || error.is_some_and(names_the_token);
    refused.then_some(FailureKind::TokenRefused)
}

/// Whether an error says that the access token is the problem, in the forms that the platform's own
/// clients know.
fn names_the_token(error: &ApiError) -> bool {
    const CODES: [&str; 5] =
        ["TOKEN_EXPIRED", "not_authed", "invalid_auth", "account_inactive", "token_expired"];
    let says = |value: &Value| {
        value.as_str().is_some_and(|text| {
            text.eq_ignore_ascii_case("token expired")
                || text == "401"
                || CODES.iter().any(|code| text.eq_ignore_ascii_case(code))
        })
    };
    error.code.as_u64() == Some(401) || says(&error.code) || says(&error.msg)
}

/// An error and what caused it, in one line.
pub(super) fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Wrappers often repeat what they wrap.
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        cause = error.source();
    }
    words
}

/// How long `Retry-After` says to wait: in seconds, or until a date by the platform's own clock.
pub(in crate::rtm) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => http_date(text)?.since(date(headers).unwrap_or(now)),
    };
    Some(wait.min(MOST_WAIT))
}

fn date(headers: &HeaderMap) -> Option<Timestamp> {
    http_date(headers.get(DATE)?.to_str().ok()?)
}

fn http_date(text: &str) -> Option<Timestamp> {
    let at = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(at.as_millis()).ok().map(Timestamp::from_millis)
}

/// `Date` counts in whole seconds: on average it is half a second later than it says.
fn skew(theirs: Timestamp, ours: Timestamp) -> Skew {
    let theirs = i64::try_from(theirs.as_millis()).unwrap_or(i64::MAX).saturating_add(500);
    Skew(theirs.saturating_sub(i64::try_from(ours.as_millis()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_platforms_clock() {
        let now = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
        let wait =
            |pairs: &[(&'static str, &str)]| retry_after(&headers(pairs), now).map(|wait| wait.as_secs());
        assert_eq!(wait(&[("retry-after", "120")]), Some(120));
        assert_eq!(wait(&[("retry-after", "Thu, 01 Jan 2026 00:01:00 GMT")]), Some(60));
        let skewed =
            [("retry-after", "Thu, 01 Jan 2026 00:01:00 GMT"), ("date", "Thu, 01 Jan 2026 00:00:30 GMT")];
        assert_eq!(wait(&skewed), Some(30));
        assert_eq!(wait(&[("retry-after", "99999999999")]), Some(86_400));
        assert_eq!(wait(&[("retry-after", "soon")]), None);
        assert_eq!(wait(&[]), None);
    }

    #[test]
    fn the_forms_of_a_token_that_is_over() {
        for (json, expected) in [
            (r#"{"msg":"x","code":"TOKEN_EXPIRED"}"#, true),
            (r#"{"msg":"token expired","code":4001}"#, true),
            (r#"{"msg":"x","code":401}"#, true),
            (r#"{"msg":"invalid_auth"}"#, true),
            (r#"{"msg":"bot not found","code":404}"#, false),
            (r#"{"msg":null,"code":null}"#, false),
            ("{}", false),
        ] {
            assert_eq!(names_the_token(&serde_json::from_str(json).unwrap()), expected, "{json}");
        }
    }
}
