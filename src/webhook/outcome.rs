//! What an answer means: the table of outcomes, without I/O.

use std::{fmt, time::Duration, time::UNIX_EPOCH};

use hyper::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};

use super::FailureKind;
use crate::clock::Timestamp;

/// No `Retry-After` holds a webhook for longer.
pub const LONGEST_HOLD: Duration = Duration::from_secs(24 * 60 * 60);

/// What became of one attempt to deliver an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Delivered: a 2xx.
    Delivered,
    /// To be tried again.
    Retry {
        /// Why.
        cause: RetryCause,
        /// The receiver asked that nothing at all be sent to it for this long.
        hold: Option<Duration>,
    },
    /// The receiver refuses this event (another 4xx): a dead letter at once, and the next one goes on.
    Refused,
    /// The receiver is gone (410): nothing more is sent until the webhook is enabled again.
    Gone,
    /// Nothing was sent: the webhook's template makes no body of this event. A dead letter at once, and the
    /// next event goes on.
    Unrendered,
}

/// Why an attempt is to be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryCause {
    /// No answer came.
    NoAnswer(FailureKind),
    /// 3xx: redirects are never followed.
    Redirected,
    /// 401 or 403: credentials may be put right.
    Denied,
    /// 404: the path may come to exist.
    NotFound,
    /// 408, 409 or 425: not now.
    NotNow,
    /// 429.
    Throttled,
    /// 5xx.
    ServerError,
    /// A status that HTTP has no meaning for.
    Unexpected,
}

impl fmt::Display for RetryCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAnswer(kind) => return kind.fmt(f),
            Self::Redirected => "it redirects, and redirects are not followed",
            Self::Denied => "it denies access",
            Self::NotFound => "nothing is found at its URL",
            Self::NotNow => "it can't take the event now",
            Self::Throttled => "it asks for fewer requests",
            Self::ServerError => "it failed",
            Self::Unexpected => "its status means nothing in HTTP",
        })
    }
}

/// The outcome of an answer with this status and these headers, received `now`.
pub fn classify(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Outcome {
    let retry = |cause| Outcome::Retry { cause, hold: None };
    match status.as_u16() {
        200..=299 => Outcome::Delivered,
        300..=399 => retry(RetryCause::Redirected),
        401 | 403 => retry(RetryCause::Denied),
        404 => retry(RetryCause::NotFound),
        408 | 409 | 425 => retry(RetryCause::NotNow),
        410 => Outcome::Gone,
        429 => Outcome::Retry { cause: RetryCause::Throttled, hold: hold(headers, now) },
        400..=499 => Outcome::Refused,
        503 => Outcome::Retry { cause: RetryCause::ServerError, hold: hold(headers, now) },
        500..=599 => retry(RetryCause::ServerError),
        _ => retry(RetryCause::Unexpected),
    }
}

/// How long `Retry-After` asks to wait, the longest if there are several; what can't be read counts
/// as absent.
fn hold(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let told = headers
        .get_all(RETRY_AFTER)
        .iter()
        .filter_map(|value| retry_after(value.to_str().ok()?, now))
        .max()?;
    (!told.is_zero()).then(|| told.min(LONGEST_HOLD))
}

/// Seconds, or a date by our own clock.
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // So many digits that they don't fit: for ever, which is cut to the longest hold.
        return Some(value.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    let date = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(date.saturating_sub(Duration::from_millis(now.as_millis())))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::parse("2026-01-01T00:00:00.250Z").unwrap()
    }

    fn of(status: u16, retry_after: &[&str]) -> Outcome {
        let mut headers = HeaderMap::new();
        for value in retry_after {
            headers.append(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
        }
        classify(StatusCode::from_u16(status).unwrap(), &headers, now())
    }

    #[test]
    fn every_status_has_its_outcome() {
        use RetryCause::*;
        for status in 200..=599u16 {
            let retry = |cause| Outcome::Retry { cause, hold: None };
            let expected = if status < 300 {
                Outcome::Delivered
            } else if status < 400 {
                retry(Redirected)
            } else if status >= 500 {
                retry(ServerError)
            } else {
                match status {
                    401 | 403 => retry(Denied),
                    404 => retry(NotFound),
                    408 | 409 | 425 => retry(NotNow),
                    429 => retry(Throttled),
                    410 => Outcome::Gone,
                    _ => Outcome::Refused,
                }
            };
            assert_eq!(of(status, &[]), expected, "{status}");
        }
        for status in [101, 600, 999] {
            assert_eq!(of(status, &["5"]), Outcome::Retry { cause: Unexpected, hold: None }, "{status}");
        }
    }

    #[test]
    fn only_429_and_503_hold_the_webhook() {
        for status in 200..=599u16 {
            let held = matches!(of(status, &["7"]), Outcome::Retry { hold: Some(_), .. });
            assert_eq!(held, status == 429 || status == 503, "{status}");
        }
    }

    #[test]
    fn retry_after_is_read_in_all_its_forms() {
        let secs = Duration::from_secs;
        let cases: [(&[&str], Option<Duration>); 15] = [
            (&[], None),
            (&["0"], None),
            (&["1"], Some(secs(1))),
            (&[" 120 "], Some(secs(120))),
            (&["86400"], Some(LONGEST_HOLD)),
            (&["86401"], Some(LONGEST_HOLD)),
            (&["99999999999999999999999999"], Some(LONGEST_HOLD)),
            (&["Thu, 01 Jan 2026 00:00:10 GMT"], Some(Duration::from_millis(9750))),
            (&["Thursday, 01-Jan-26 00:00:10 GMT"], Some(Duration::from_millis(9750))),
            (&["Thu, 01 Jan 2026 00:00:00 GMT"], None),
            (&["Fri, 01 Jan 2100 00:00:00 GMT"], Some(LONGEST_HOLD)),
            (&["-5"], None),
            (&["1.5"], None),
            (&["soon"], None),
            (&["3", "soon", "9", "1"], Some(secs(9))),
        ];
        for (values, hold) in cases {
            for (status, cause) in [(429, RetryCause::Throttled), (503, RetryCause::ServerError)] {
                assert_eq!(of(status, values), Outcome::Retry { cause, hold }, "{status} {values:?}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn a_hold_is_never_shorter_than_told_but_for_a_day(secs: u32, date: bool) {
            let told = Duration::from_secs(secs.into());
            let text = if date {
                httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(now().as_millis()) + told)
            } else {
                secs.to_string()
            };
            let Outcome::Retry { hold, .. } = of(503, &[&text]) else { panic!("503 is retried") };
            // A date has whole seconds only: what the receiver told is what it wrote.
            let least = if date { told.saturating_sub(Duration::from_millis(250)) } else { told };
            proptest::prop_assert!(hold.unwrap_or_default() >= least.min(LONGEST_HOLD));
            proptest::prop_assert!(hold.unwrap_or_default() <= LONGEST_HOLD);
        }

        #[test]
        fn no_retry_after_panics(value: String) {
            let _ = retry_after(&value, now());
        }
    }
}
