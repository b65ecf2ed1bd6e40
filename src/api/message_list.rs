//! `GET /v1/users/{user}/messages`: a user's messages, newest first.

use axum::{
    Extension, Json,
    extract::{Path, RawQuery, State, rejection::PathRejection},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;

use super::{
    Admitted, ApiState,
    auth::Scope,
    problem::Problem,
    query::{Query, bad_value},
};
use crate::messages::{MessageNumber, MessagePage, MessageStatus, MessageView, Selection};

const DEFAULT_LIMIT: usize = 100;
const MOST_LIMIT: usize = 1000;

/// `GET /v1/users/{user}/messages`
pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    name: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let user = state.user(&caller, &name?.0)?;
    let query = Query::read(query.as_deref(), &["status", "limit", "cursor"])?;
    let limit = query.limit(DEFAULT_LIMIT, MOST_LIMIT)?;
    let meant = Selection { user: user.number, status: status(&query)?, before: cursor(&query)? };
    let MessagePage { messages, next } = state.messages.list(meant, limit).await?;
    let messages = messages.iter().map(|(id, record)| MessageView::new(&user.name, *id, record)).collect();
    Ok(Json(MessageList { messages, next_cursor: next.map(cursor_text) }).into_response())
}

/// The answer. Not put together as a JSON value: acks are shown as they came.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(description = "Newest first."))]
#[serde(rename_all = "camelCase")]
struct MessageList<'a> {
    messages: Vec<MessageView<'a>>,
    /// The `cursor` of the next page, if there is one.
    next_cursor: Option<String>,
}

fn status(query: &Query) -> Result<Option<MessageStatus>, Problem> {
    let Some(text) = query.get("status") else { return Ok(None) };
    Ok(Some(match text {
        "queued" => MessageStatus::Queued,
        "sent" => MessageStatus::Sent,
        "acked" => MessageStatus::Acked,
        "rejected" => MessageStatus::Rejected,
        "expired" => MessageStatus::Expired,
        _ => return Err(bad_value("status", text, "queued, sent, acked, rejected or expired")),
    }))
}

/// A cursor is the place of the page's last message in the order of acceptance: it means the same
/// whatever comes and goes.
fn cursor_text(number: MessageNumber) -> String {
    format!("msg_{:016x}", number.0)
}

fn cursor(query: &Query) -> Result<Option<MessageNumber>, Problem> {
    let Some(text) = query.get("cursor") else { return Ok(None) };
    let number = text.strip_prefix("msg_").and_then(|digits| u64::from_str_radix(digits, 16).ok());
    // Only as it was given out.
    let number = number.map(MessageNumber).filter(|number| cursor_text(*number) == text);
    number.map(Some).ok_or_else(|| bad_value("cursor", text, "the nextCursor of an earlier answer"))
}

#[cfg(test)]
pub(super) mod described;

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T>(query: &str, what: impl Fn(&Query) -> Result<T, Problem>) -> Option<T> {
        what(&Query::read(Some(query), &["status", "cursor"]).unwrap()).ok()
    }

    proptest::proptest! {
        #[test]
        fn cursors_and_back(number: u64) {
            let query = format!("cursor={}", cursor_text(MessageNumber(number)));
            proptest::prop_assert_eq!(read(&query, cursor), Some(Some(MessageNumber(number))));
        }
    }

    #[test]
    fn what_is_no_cursor_or_no_status_is_refused() {
        for bad in
            ["", "1", "msg_", "msg_1", "msg_000000000000000G", "msg_000000000000000A", "evt_0000000000000001"]
        {
            assert_eq!(read(&format!("cursor={bad}"), cursor), None, "{bad}");
        }
        for bad in ["", "Acked", "final", "acked,sent"] {
            assert_eq!(read(&format!("status={bad}"), status), None, "{bad}");
        }
        for (word, meant) in [
            ("queued", MessageStatus::Queued),
            ("sent", MessageStatus::Sent),
            ("acked", MessageStatus::Acked),
            ("rejected", MessageStatus::Rejected),
            ("expired", MessageStatus::Expired),
        ] {
            assert_eq!(read(&format!("status={word}"), status), Some(Some(meant)));
            assert_eq!(serde_json::to_value(meant).unwrap(), word);
        }
    }
}
