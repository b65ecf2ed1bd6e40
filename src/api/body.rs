//! Request bodies: which can be read, how long they may be, and how long they may take.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;

use super::problem::{Code, Problem};
use crate::{
    messages::{Draft, DraftAndId, DraftError},
    suggest::quoted,
};

/// How a body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFormat {
    /// `application/json`
    Json,
    /// `application/x-www-form-urlencoded`
    Form,
    /// `text/plain`
    Text,
}

impl BodyFormat {
    /// What the headers say the body is.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        check_encoding(headers)?;
        let mut values = headers.get_all(header::CONTENT_TYPE).iter();
        let content_type = match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().unwrap_or("?"),
            (None, _) => return Err(unsupported("the body has no content-type")),
            _ => return Err(unsupported("the body has several content-types")),
        };
        let mut parts = content_type.split(';');
        let essence = parts.next().unwrap_or_default().trim();
        let known = [
            ("application/json", Self::Json),
            ("application/x-www-form-urlencoded", Self::Form),
            ("text/plain", Self::Text),
        ];
        let Some((_, format)) = known.into_iter().find(|(name, _)| essence.eq_ignore_ascii_case(name)) else {
            return Err(unsupported(&format!("the content-type {} can't be read", quoted(content_type))));
        };
        parts.try_for_each(check_parameter)?;
        Ok(format)
    }

    /// Reads a body.
    pub fn read(self, body: &[u8]) -> Result<DraftAndId, DraftError> {
        match self {
            Self::Json => Draft::from_json(body),
            Self::Form => Draft::from_form(body),
            Self::Text => Draft::from_text(body),
        }
    }
}

fn unsupported(what: &str) -> Problem {
    let detail = format!(
        "{what}; send application/json, application/x-www-form-urlencoded, text/plain, or multipart/form-data with files"
    );
    Problem::new(Code::UnsupportedContentType, detail)
}

pub(super) fn check_parameter(parameter: &str) -> Result<(), Problem> {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    let value = value.trim().trim_matches('"');
    if name.trim().eq_ignore_ascii_case("charset")
        && !["utf-8", "utf8"].iter().any(|utf8| value.eq_ignore_ascii_case(utf8))
    {
        let detail = format!("the charset {} can't be read; send UTF-8", quoted(value));
        return Err(Problem::new(Code::UnsupportedCharset, detail));
    }
    Ok(())
}

pub(super) fn check_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let identity = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    match headers.get_all(header::CONTENT_ENCODING).iter().find(|value| !identity(value)) {
        None => Ok(()),
        Some(encoding) => {
            let encoding = quoted(&String::from_utf8_lossy(encoding.as_bytes()));
            let detail = format!("the content-encoding {encoding} can't be read; send the body as it is");
            Err(Problem::new(Code::UnsupportedContentEncoding, detail))
        }
    }
}

/// Reads a body of at most `max` bytes within `limit`.
pub async fn read(body: Body, max: usize, limit: Duration) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(Code::BodyTooLarge, format!("the body is larger than {max} bytes (messages.max_body)"))
    };
    if body.size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(limit, Limited::new(body, max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(Code::MalformedBody, "the body broke off or is badly chunked")),
        Err(_) => Err(Problem::new(
            Code::BodyTimeout,
            format!("the body did not arrive within {} ms", limit.as_millis()),
        )),
    }
}
