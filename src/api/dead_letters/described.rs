//! How `openapi.json` shows these routes.

use serde_json::{Value, json};

use super::{DEFAULT_LIMIT, DeadLetterList, LetterDetails, MOST, Replaying, ReplayingMany};
use crate::api::{
    auth::Scope,
    openapi::{Operation, limit_parameter},
    problem::Code,
};

const ID: &str = "dl_000000002a000001";

fn letter() -> Value {
    json!({ "id": ID, "webhook": "crm", "user": "alice", "webhookId": "evt_1a2b3c4d000000000000002a", "type": "bot_response",
        "reason": "the receiver refuses this event: it refuses this event (422)", "lastStatus": 422, "attempts": 1,
        "createdAt": "2026-01-01T00:00:00.000Z", "deadAt": "2026-01-01T00:00:01.000Z", "replayingSince": null })
}

fn details() -> Value {
    let more = json!({ "sequence": 42, "contentType": "application/json", "body": "{\"type\":\"bot_response\"}",
        "lastAnswer": "no such customer", "attemptHistory": [{ "number": 1, "at": "2026-01-01T00:00:01.000Z", "status": 422,
        "error": null, "detail": null, "answer": "no such customer" }] });
    let mut details = letter();
    details.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    details
}

fn operation(id: &'static str, scope: Scope, summary: &'static str) -> Operation {
    Operation::new(id, scope, summary).tag("Dead letters").fails(&[Code::StoreUnavailable])
}

/// On one dead letter.
fn one(id: &'static str, scope: Scope, summary: &'static str) -> Operation {
    let about = "The dead letter's id.";
    operation(id, scope, summary)
        .path("id", about, json!({ "type": "string" }), ID)
        .fails(&[Code::UnknownDeadLetter])
}

/// On those of a webhook, of a user, or both.
fn some(operation: Operation) -> Operation {
    operation
        .query("webhook", "Only this webhook's, also if it was removed.", json!({ "type": "string" }), "crm")
        .query("user", "Only this user's, also if it was removed.", json!({ "type": "string" }), "alice")
        .fails(&[Code::UserNotAllowed, Code::UnknownUser, Code::UnknownWebhook])
}

fn many(id: &'static str, summary: &'static str) -> Operation {
    some(operation(id, Scope::Admin, summary))
        .about("Give a filter, or `all=true` if all are meant. What comes while it is being answered is not concerned.")
        .query("all", "All of them are meant.", json!({ "type": "string", "const": "true" }), "true")
}

pub(in crate::api) fn list() -> Operation {
    some(operation("listDeadLetters", Scope::Read, "All dead letters"))
        .about("Newest event first; only those of users that the client may act for.")
        .query("limit", "How many at most.", limit_parameter(DEFAULT_LIMIT, MOST), 20)
        .query(
            "cursor",
            "The `nextCursor` of an earlier answer.",
            json!({ "type": "string", "pattern": "^dl_[0-9a-f]{16}$" }),
            ID,
        )
        .answers::<DeadLetterList>(
            200,
            "A page of them.",
            json!({ "deadLetters": [letter()], "nextCursor": ID }),
        )
}

pub(in crate::api) fn show() -> Operation {
    one("getDeadLetter", Scope::Read, "A dead letter with its body and its attempts")
        .answers::<LetterDetails>(200, "The dead letter.", details())
}

pub(in crate::api) fn replay() -> Operation {
    one("replayDeadLetter", Scope::Admin, "Deliver a dead letter after all")
        .about("With the same `webhook-id` and the same body. The entry goes on a 2xx.")
        .answers::<Replaying>(202, "It will be delivered, or be a dead letter again.", json!({ "id": ID }))
        .fails(&[Code::WebhookNotConfigured])
}

pub(in crate::api) fn replay_all() -> Operation {
    many("replayDeadLetters", "Deliver many dead letters after all")
        .answers::<ReplayingMany>(
            202,
            "They will be delivered, or be dead letters again.",
            json!({ "replaying": 12, "leftAlone": 3 }),
        )
        .fails(&[Code::WebhookNotConfigured])
}

pub(in crate::api) fn remove() -> Operation {
    one("deleteDeadLetter", Scope::Admin, "Delete a dead letter").answers_nothing(204, "It is gone for good.")
}

pub(in crate::api) fn remove_all() -> Operation {
    many("deleteDeadLetters", "Delete many dead letters").answers_nothing(204, "They are gone for good.")
}
