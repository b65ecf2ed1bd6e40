//! `GET /v1/users/{user}/history`: what was said, as the platform remembers it.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::{Path, RawQuery, State, rejection::PathRejection},
    response::{IntoResponse as _, Response},
};

use super::{
    Admitted, ApiState,
    auth::Scope,
    problem::{Code, Problem},
    query::{Query, bad_value},
};
use crate::history::{HistoryError, HistoryQuery, HistorySource};

const DEFAULT_LIMIT: usize = 20;
const MOST_LIMIT: usize = 100;

/// `GET /v1/users/{user}/history`
pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    name: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let user = state.user(&caller, &name?.0)?;
    let query = Query::read(query.as_deref(), &["source", "limit", "offset"])?;
    let source = match query.get("source") {
        None | Some("rtm") => HistorySource::Rtm,
        Some("botkit") => HistorySource::Botkit,
        Some(other) => return Err(bad_value("source", other, "rtm or botkit")),
    };
    let query =
        HistoryQuery { source, limit: query.limit(DEFAULT_LIMIT, MOST_LIMIT)?, offset: query.offset()? };
    tokio::select! {
        biased;
        page = state.histories.page(user, query) => Ok(Json(page?).into_response()),
        () = state.draining.cancelled() => {
            let detail = "the bridge is shutting down, and the platform has not answered yet; ask again";
            Err(Problem::new(Code::ShuttingDown, detail).retry_after(Duration::from_secs(5)))
        }
    }
}

impl From<HistoryError> for Problem {
    fn from(error: HistoryError) -> Self {
        let detail = error.to_string();
        match error {
            HistoryError::Failed { retry_after, .. } => {
                let problem = Self::new(Code::PlatformFailed, detail);
                match retry_after {
                    Some(delay) => problem.retry_after(delay),
                    None => problem,
                }
            }
            HistoryError::Silent(_) => Self::new(Code::PlatformSilent, detail),
            HistoryError::Busy { retry_after } => {
                Self::new(Code::PlatformBusy, detail).retry_after(retry_after)
            }
            HistoryError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
pub(super) mod described;

#[cfg(test)]
mod tests {
    use axum::http::header;

    use super::*;
    use crate::store::StoreError;

    #[test]
    fn the_platforms_failure_is_told_from_its_silence_and_from_our_own_restraint() {
        let (why, wait) = ("refused".to_owned(), Duration::from_secs(7));
        for (error, code, status, retry) in [
            (HistoryError::Failed { why: why.clone(), retry_after: None }, Code::PlatformFailed, 502, None),
            (
                HistoryError::Failed { why: why.clone(), retry_after: Some(wait) },
                Code::PlatformFailed,
                502,
                Some("7"),
            ),
            (HistoryError::Silent(why), Code::PlatformSilent, 504, None),
            (HistoryError::Busy { retry_after: wait }, Code::PlatformBusy, 503, Some("7")),
            (StoreError::Unreadable("x".into()).into(), Code::InternalError, 500, None),
        ] {
            let problem = Problem::from(error);
            assert_eq!((problem.code(), problem.code().status().as_u16()), (code, status));
            let response = problem.into_response();
            let told = response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap());
            assert_eq!(told, retry, "{code:?}");
        }
    }
}
