//! `GET /counts`: how the bridge is, in numbers that name nobody. The status page shows them also before it
//! has a token, and asks for them often: nothing here looks into the store.

use axum::{
    Json,
    extract::{RawQuery, State},
    http::header,
    response::{IntoResponse as _, Response},
};
use serde::Serialize;

use super::{OpsState, Progress, Stage, StoreHealth};
use crate::{
    api::{ApiState, problem::Problem, query::Query},
    clock::Timestamp,
    events::{WebhookState, WebhookStatus},
    users::{ConnectionState, Users},
};

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    version: &'static str,
    /// Messages are counted from here on.
    started_at: Timestamp,
    /// The bridge's time, by which all times of the API are to be read.
    now: Timestamp,
    /// Whether `/v1` asks for a client's token.
    token_required: bool,
    ready: bool,
    stage: Stage,
    store: StoreHealth,
    progress: Progress,
    users: UserCounts,
    messages: MessageCounts,
    webhooks: WebhookCounts,
    /// Events that wait for their delivery, over all webhooks.
    backlog: u64,
    dead_letters: u64,
}

/// Users by the state of their connection.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct UserCounts {
    connecting: u64,
    connected: u64,
    backing_off: u64,
    unauthorized: u64,
}

/// Messages by status: `queued` now, the others since the start.
#[derive(Debug, Serialize)]
struct MessageCounts {
    accepted: u64,
    queued: usize,
    sent: u64,
    acked: u64,
    rejected: u64,
    expired: u64,
}

/// Webhooks by state.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct WebhookCounts {
    ok: u64,
    failing: u64,
    disabled: u64,
}

impl UserCounts {
    fn of(users: &Users) -> Self {
        let mut counts = Self::default();
        for user in users.all() {
            *match user.state() {
                ConnectionState::Connecting => &mut counts.connecting,
                ConnectionState::Connected => &mut counts.connected,
                ConnectionState::BackingOff => &mut counts.backing_off,
                ConnectionState::Unauthorized => &mut counts.unauthorized,
            } += 1;
        }
        counts
    }
}

impl MessageCounts {
    fn of(state: &OpsState) -> Self {
        let counters = state.messages.counters();
        let [(_, sent), (_, acked), (_, rejected), (_, expired)] = counters.final_by_status();
        let (accepted, queued) = (counters.accepted.get(), state.messages.queued_of_all());
        Self { accepted, queued, sent, acked, rejected, expired }
    }
}

impl WebhookCounts {
    fn of(webhooks: &[WebhookStatus]) -> Self {
        let in_state = |state| webhooks.iter().filter(|webhook| webhook.state == state).count() as u64;
        Self {
            ok: in_state(WebhookState::Ok),
            failing: in_state(WebhookState::Failing),
            disabled: in_state(WebhookState::Disabled),
        }
    }
}

/// `GET /counts`
pub(super) async fn show(
    State((state, api)): State<(OpsState, ApiState)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::read(query.as_deref(), &[])?;
    let webhooks: Vec<_> = state.events.webhooks().iter().map(|webhook| webhook.status()).collect();
    let counts = Counts {
        version: env!("CARGO_PKG_VERSION"),
        started_at: state.started_at,
        now: Timestamp::now(),
        token_required: api.asks_for_tokens(),
        ready: state.health.is_ready(),
        stage: state.health.stage(),
        store: state.health.store(),
        progress: state.health.progress(),
        users: UserCounts::of(&state.users),
        messages: MessageCounts::of(&state),
        webhooks: WebhookCounts::of(&webhooks),
        backlog: webhooks.iter().map(|webhook| webhook.backlog).sum(),
        dead_letters: state.letters.total(),
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(counts)).into_response())
}
