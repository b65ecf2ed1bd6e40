//! How `openapi.json` shows these routes.

use serde_json::json;

use super::{Enabled, WebhookList};
use crate::api::{auth::Scope, openapi::Operation, problem::Code};

pub(in crate::api) fn list() -> Operation {
    let crm = json!({ "name": "crm", "state": "ok", "backlog": 0, "deadLetters": 0,
        "lastOutcome": { "summary": "delivered (204)", "at": "2026-01-01T00:00:00.000Z" } });
    Operation::new("listWebhooks", Scope::Read, "All webhooks").tag("Webhooks").answers::<WebhookList>(
        200,
        "How each webhook is.",
        json!({ "webhooks": [crm] }),
    )
}

pub(in crate::api) fn enable() -> Operation {
    Operation::new("enableWebhook", Scope::Admin, "Put a webhook back to work")
        .tag("Webhooks")
        .about("Lifts a disabling and a `Retry-After`: what waits goes out, in order.")
        .path("name", "The webhook's name in the configuration.", json!({ "type": "string" }), "crm")
        .answers::<Enabled>(202, "It is put back to work.", json!({ "webhook": "crm" }))
        .fails(&[Code::UnknownWebhook])
}
