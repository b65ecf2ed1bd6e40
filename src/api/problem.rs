//! Errors as callers see them: RFC 9457 `application/problem+json`.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use crate::{
    messages::{AcceptError, DraftError, DraftFault},
    store::StoreError,
};

/// What went wrong, for programs: a stable word in `code` and `type`, with its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// A query parameter is unknown, given twice, or has a bad value.
    MalformedQuery,
    /// The path is not percent-encoded UTF-8.
    MalformedPath,
    /// The body breaks its syntax.
    MalformedBody,
    /// The `Idempotency-Key` can't be used.
    BadIdempotencyKey,
    /// The `Last-Event-ID` is no event's id.
    BadLastEventId,
    /// No token, or none that is known.
    Unauthorized,
    /// The client may not act for this user.
    UserNotAllowed,
    /// The client may not do this.
    ScopeMissing,
    /// Without clients, only loopback names may be called.
    NotLoopback,
    /// Without clients, no web page of another origin may call.
    ForeignOrigin,
    /// There is nothing at this path.
    NotFound,
    /// There is no such user.
    UnknownUser,
    /// No webhook of this name is configured.
    UnknownWebhook,
    /// There is no such message, or no longer.
    UnknownMessage,
    /// There is no such dead letter, or no longer.
    UnknownDeadLetter,
    /// The path exists, for other methods.
    MethodNotAllowed,
    /// The body did not come in time.
    BodyTimeout,
    /// The `clientMessageId` belongs to another message.
    IdTaken,
    /// The dead letter's webhook is not configured.
    WebhookNotConfigured,
    /// What came after an event is not kept, or no longer all of it.
    EventGone,
    /// The body is larger than `messages.max_body`.
    BodyTooLarge,
    /// A file is larger than 25 MiB.
    FileTooLarge,
    /// The content type can't be read.
    UnsupportedContentType,
    /// The charset is not UTF-8.
    UnsupportedCharset,
    /// The body is encoded (compressed).
    UnsupportedContentEncoding,
    /// A key is unknown.
    UnknownKey,
    /// A value has the wrong type.
    WrongType,
    /// A value is missing, or none of those that can be.
    BadValue,
    /// The message has neither text nor attachments.
    EmptyMessage,
    /// There is no file to upload.
    NoFile,
    /// A file has no name that can be used.
    UnnamedFile,
    /// A file has no bytes.
    EmptyFile,
    /// There are more than ten files.
    TooManyFiles,
    /// The `clientMessageId` comes after a file.
    IdAfterFile,
    /// The body is nested too deep.
    TooDeep,
    /// A frame has a `type`.
    TypeRefused,
    /// A frame's `resourceid` can't be sent.
    UnknownResource,
    /// The `clientMessageId` is out of range or no integer.
    BadClientMessageId,
    /// The `Idempotency-Key` was used for another message.
    IdempotencyKeyReused,
    /// The user's queue is full.
    QueueFull,
    /// The client calls more often than its `rate`.
    RateLimited,
    /// The request's head is too large.
    HeadTooLarge,
    /// A fault of the bridge.
    InternalError,
    /// The store can't take it now.
    StoreUnavailable,
    /// The user is not connected, and the frame is of a kind that doesn't wait.
    NotConnected,
    /// The platform refuses the user's credentials.
    UserUnauthorized,
    /// Too many uploads are under way.
    UploadsBusy,
    /// The bot's share of requests to the platform is used up for the moment.
    PlatformBusy,
    /// The bridge is shutting down.
    ShuttingDown,
    /// The platform refused, could not be reached, or answered nonsense.
    PlatformFailed,
    /// The platform did not answer in time.
    PlatformSilent,
    /// What was waited for did not come in time.
    WaitTimeout,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 52] = [
        Self::MalformedQuery,
        Self::MalformedPath,
        Self::MalformedBody,
        Self::BadIdempotencyKey,
        Self::BadLastEventId,
        Self::Unauthorized,
        Self::UserNotAllowed,
        Self::ScopeMissing,
        Self::NotLoopback,
        Self::ForeignOrigin,
        Self::NotFound,
        Self::UnknownUser,
        Self::UnknownWebhook,
        Self::UnknownMessage,
        Self::UnknownDeadLetter,
        Self::MethodNotAllowed,
        Self::BodyTimeout,
        Self::IdTaken,
        Self::WebhookNotConfigured,
        Self::EventGone,
        Self::BodyTooLarge,
        Self::FileTooLarge,
        Self::UnsupportedContentType,
        Self::UnsupportedCharset,
        Self::UnsupportedContentEncoding,
        Self::UnknownKey,
        Self::WrongType,
        Self::BadValue,
        Self::EmptyMessage,
        Self::NoFile,
        Self::UnnamedFile,
        Self::EmptyFile,
        Self::TooManyFiles,
        Self::IdAfterFile,
        Self::TooDeep,
        Self::TypeRefused,
        Self::UnknownResource,
        Self::BadClientMessageId,
        Self::IdempotencyKeyReused,
        Self::QueueFull,
        Self::RateLimited,
        Self::HeadTooLarge,
        Self::InternalError,
        Self::StoreUnavailable,
        Self::NotConnected,
        Self::UserUnauthorized,
        Self::UploadsBusy,
        Self::PlatformBusy,
        Self::ShuttingDown,
        Self::PlatformFailed,
        Self::PlatformSilent,
        Self::WaitTimeout,
    ];

    /// Status, word and title.
    const fn entry(self) -> (StatusCode, &'static str, &'static str) {
        type S = StatusCode;
        match self {
            Self::MalformedQuery => (S::BAD_REQUEST, "malformed_query", "Malformed query"),
            Self::MalformedPath => (S::BAD_REQUEST, "malformed_path", "Malformed path"),
            Self::MalformedBody => (S::BAD_REQUEST, "malformed_body", "Malformed body"),
            Self::BadIdempotencyKey => (S::BAD_REQUEST, "bad_idempotency_key", "Bad Idempotency-Key"),
            Self::BadLastEventId => (S::BAD_REQUEST, "bad_last_event_id", "Bad Last-Event-ID"),
            Self::Unauthorized => (S::UNAUTHORIZED, "unauthorized", "Unauthorized"),
            Self::UserNotAllowed => (S::FORBIDDEN, "user_not_allowed", "User not allowed"),
            Self::ScopeMissing => (S::FORBIDDEN, "scope_missing", "Scope missing"),
            Self::NotLoopback => (S::FORBIDDEN, "not_loopback", "Only loopback may call"),
            Self::ForeignOrigin => (S::FORBIDDEN, "foreign_origin", "Foreign origin"),
            Self::NotFound => (S::NOT_FOUND, "not_found", "Not found"),
            Self::UnknownUser => (S::NOT_FOUND, "unknown_user", "Unknown user"),
            Self::UnknownWebhook => (S::NOT_FOUND, "unknown_webhook", "Unknown webhook"),
            Self::UnknownMessage => (S::NOT_FOUND, "unknown_message", "Unknown message"),
            Self::UnknownDeadLetter => (S::NOT_FOUND, "unknown_dead_letter", "Unknown dead letter"),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed"),
            Self::BodyTimeout => (S::REQUEST_TIMEOUT, "body_timeout", "Body too slow"),
            Self::IdTaken => (S::CONFLICT, "id_taken", "clientMessageId taken"),
            Self::WebhookNotConfigured => (S::CONFLICT, "webhook_not_configured", "Webhook not configured"),
            Self::EventGone => (S::GONE, "event_gone", "Event no longer kept"),
            Self::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "body_too_large", "Body too large"),
            Self::FileTooLarge => (S::PAYLOAD_TOO_LARGE, "file_too_large", "File too large"),
            Self::UnsupportedContentType => {
                (S::UNSUPPORTED_MEDIA_TYPE, "unsupported_content_type", "Unsupported content type")
            }
            Self::UnsupportedCharset => {
                (S::UNSUPPORTED_MEDIA_TYPE, "unsupported_charset", "Unsupported charset")
            }
            Self::UnsupportedContentEncoding => {
                (S::UNSUPPORTED_MEDIA_TYPE, "unsupported_content_encoding", "Unsupported content encoding")
            }
            Self::UnknownKey => (S::UNPROCESSABLE_ENTITY, "unknown_key", "Unknown key"),
            Self::WrongType => (S::UNPROCESSABLE_ENTITY, "wrong_type", "Value of the wrong type"),
            Self::BadValue => (S::UNPROCESSABLE_ENTITY, "bad_value", "Bad value"),
            Self::EmptyMessage => (S::UNPROCESSABLE_ENTITY, "empty_message", "Empty message"),
            Self::NoFile => (S::UNPROCESSABLE_ENTITY, "no_file", "No file"),
            Self::UnnamedFile => (S::UNPROCESSABLE_ENTITY, "unnamed_file", "File without a name"),
            Self::EmptyFile => (S::UNPROCESSABLE_ENTITY, "empty_file", "Empty file"),
            Self::TooManyFiles => (S::UNPROCESSABLE_ENTITY, "too_many_files", "Too many files"),
            Self::IdAfterFile => (S::UNPROCESSABLE_ENTITY, "id_after_file", "clientMessageId after a file"),
            Self::TooDeep => (S::UNPROCESSABLE_ENTITY, "too_deep", "Nested too deep"),
            Self::TypeRefused => (S::UNPROCESSABLE_ENTITY, "type_refused", "Frame with a type"),
            Self::UnknownResource => (S::UNPROCESSABLE_ENTITY, "unknown_resource", "Unknown resourceid"),
            Self::BadClientMessageId => {
                (S::UNPROCESSABLE_ENTITY, "bad_client_message_id", "Bad clientMessageId")
            }
            Self::IdempotencyKeyReused => {
                (S::UNPROCESSABLE_ENTITY, "idempotency_key_reused", "Idempotency-Key reused")
            }
            Self::QueueFull => (S::TOO_MANY_REQUESTS, "queue_full", "Queue full"),
            Self::RateLimited => (S::TOO_MANY_REQUESTS, "rate_limited", "Rate limited"),
            Self::HeadTooLarge => {
                (S::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", "Request head too large")
            }
            Self::InternalError => (S::INTERNAL_SERVER_ERROR, "internal_error", "Internal error"),
            Self::StoreUnavailable => (S::SERVICE_UNAVAILABLE, "store_unavailable", "Store unavailable"),
            Self::NotConnected => (S::SERVICE_UNAVAILABLE, "not_connected", "User not connected"),
            Self::UserUnauthorized => (S::SERVICE_UNAVAILABLE, "user_unauthorized", "User unauthorized"),
            Self::UploadsBusy => (S::SERVICE_UNAVAILABLE, "uploads_busy", "Uploads under way"),
            Self::PlatformBusy => (S::SERVICE_UNAVAILABLE, "platform_busy", "Platform's pace reached"),
            Self::ShuttingDown => (S::SERVICE_UNAVAILABLE, "shutting_down", "Shutting down"),
            Self::PlatformFailed => (S::BAD_GATEWAY, "platform_failed", "Platform failed"),
            Self::PlatformSilent => (S::GATEWAY_TIMEOUT, "platform_silent", "Platform silent"),
            Self::WaitTimeout => (S::GATEWAY_TIMEOUT, "wait_timeout", "Wait timed out"),
        }
    }

    /// The status it comes with.
    pub const fn status(self) -> StatusCode {
        self.entry().0
    }

    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        self.entry().1
    }

    /// Whether the connection is of no further use: the rest of the request was not read.
    const fn ends_connection(self) -> bool {
        matches!(self, Self::BodyTimeout | Self::BodyTooLarge | Self::FileTooLarge | Self::HeadTooLarge)
    }
}

/// An error for a caller.
#[derive(Debug)]
pub struct Problem {
    code: Code,
    detail: String,
    retry_after: Option<Duration>,
    extra: Map<String, Value>,
}

impl Problem {
    /// A problem; `detail` tells a person what happened and what to do.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after: None, extra: Map::new() }
    }

    /// Says when to try again, in whole seconds, rounded up.
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Adds a member beside the standard ones.
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(member.to_owned(), value.into());
        self
    }

    /// What went wrong, for programs.
    pub fn code(&self) -> Code {
        self.code
    }

    /// A fault of the bridge: logged in full here, told to the caller without detail.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed through a fault of the bridge");
        Self::new(Code::InternalError, "the bridge failed to answer this request; its log says why")
    }

    fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let retry_after = self.retry_after.map(|delay| {
            let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
            (header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
        });
        let fixed = match self.code {
            Code::Unauthorized => {
                Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"rtm-bridge\"")))
            }
            Code::UnsupportedContentEncoding => {
                Some((header::ACCEPT_ENCODING, HeaderValue::from_static("identity")))
            }
            code if code.ends_connection() => Some((header::CONNECTION, HeaderValue::from_static("close"))),
            _ => None,
        };
        retry_after.into_iter().chain(fixed)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, code, title) = self.code.entry();
        let mut body = json!({
            "type": format!("urn:rtm-bridge:problem:{code}"),
            "title": title,
            "status": status.as_u16(),
            "detail": self.detail,
            "code": code,
        });
        let headers: Vec<_> = self.headers().collect();
        if let Some(members) = body.as_object_mut() {
            members.extend(self.extra);
        }
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = status;
        let content_type = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response.headers_mut().extend(headers);
        response
    }
}

impl From<DraftError> for Problem {
    fn from(error: DraftError) -> Self {
        let code = match &error {
            _ if error.fault() == DraftFault::Malformed => Code::MalformedBody,
            DraftError::UnknownKey { .. } => Code::UnknownKey,
            DraftError::Empty => Code::EmptyMessage,
            DraftError::TooDeep => Code::TooDeep,
            DraftError::TypeRefused => Code::TypeRefused,
            DraftError::UnknownResource(_) => Code::UnknownResource,
            DraftError::BadId => Code::BadClientMessageId,
            _ => Code::WrongType,
        };
        let problem = Self::new(code, error.to_string());
        match error.key() {
            Some(key) => problem.with("key", key.chars().take(128).collect::<String>()),
            None => problem,
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            // Spread, so that callers don't all come back at once.
            StoreError::Unavailable(_) => Self::new(Code::StoreUnavailable, error.to_string())
                .retry_after(Duration::from_secs(fastrand::u64(1..=5))),
            StoreError::Doubtful(_) | StoreError::Unreadable(_) => Self::internal(&error),
        }
    }
}

impl From<AcceptError> for Problem {
    fn from(error: AcceptError) -> Self {
        let detail = error.to_string();
        match error {
            AcceptError::IdTaken(id) => Self::new(Code::IdTaken, detail).with("clientMessageId", id.get()),
            AcceptError::KeyReused => Self::new(Code::IdempotencyKeyReused, detail),
            AcceptError::QueueFull { queued } => Self::new(Code::QueueFull, detail)
                .with("queued", queued)
                .retry_after(Duration::from_secs(fastrand::u64(1..=5))),
            AcceptError::NotConnected => {
                Self::new(Code::NotConnected, detail).retry_after(Duration::from_secs(5))
            }
            AcceptError::UserRemoved => Self::new(Code::UnknownUser, detail),
            AcceptError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_queue_refuses_has_its_own_code_and_hint() {
        let id = "7".parse().unwrap();
        let unavailable = || AcceptError::Store(StoreError::Unavailable("disk full".into()));
        let unreadable = StoreError::Unreadable("record 7 of tree x".into());
        for (error, code, retry) in [
            (AcceptError::IdTaken(id), Code::IdTaken, false),
            (AcceptError::KeyReused, Code::IdempotencyKeyReused, false),
            (AcceptError::QueueFull { queued: 9 }, Code::QueueFull, true),
            (AcceptError::NotConnected, Code::NotConnected, true),
            (unavailable(), Code::StoreUnavailable, true),
            (AcceptError::Store(unreadable), Code::InternalError, false),
        ] {
            let problem = Problem::from(error);
            assert_eq!(problem.code(), code);
            let response = problem.into_response();
            let after = response.headers().get(header::RETRY_AFTER);
            let seconds = after.map(|value| value.to_str().unwrap().parse::<u32>().unwrap());
            assert_eq!(seconds.is_some_and(|seconds| (1..=5).contains(&seconds)), retry, "{code:?}");
        }
    }

    #[test]
    fn an_inner_fault_is_not_told() {
        let problem = Problem::from(StoreError::Unreadable("record 7 of tree x".into()));
        assert!(!problem.detail.contains("tree"));
    }

    #[test]
    fn codes_are_words_of_their_own() {
        let mut words: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Code::ALL.len());
        assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }

    #[test]
    fn the_documentation_tells_every_code_with_its_status() {
        let docs = include_str!("../../docs/http-api.md");
        for code in Code::ALL {
            let row = format!("| {} | `{}` |", code.status().as_u16(), code.as_str());
            assert!(docs.contains(&row), "docs/http-api.md lacks the row {row}");
        }
    }
}
