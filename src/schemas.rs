//! How what is serialised by hand looks as JSON, for `openapi.json`. Only tests need it: they write that file.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::{clock::Timestamp, events::EventId, messages::ClientMessageId, names::Name, store::DeadLetterId};

/// Gives a type a schema of its own under a name.
macro_rules! described {
    ($(($($generic:ident)?) $type:ty, $name:literal: $schema:tt)+) => {$(
        impl$(<$generic>)? JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )+};
}

/// A frame of the platform.
#[derive(Debug)]
pub struct Frame;

described! {
    () Timestamp, "Time": {
        "type": "string",
        "format": "date-time",
        "description": "RFC 3339 in UTC, with milliseconds.",
    }
    () EventId, "EventId": {
        "type": "string",
        "pattern": "^evt_[0-9a-f]{24}$",
        "description": "The `webhook-id` of an event: the same at every webhook, in every attempt, for ever.",
    }
    () DeadLetterId, "DeadLetterId": {
        "type": "string",
        "pattern": "^dl_[0-9a-f]{16}$",
        "description": "A dead letter's id.",
    }
    () ClientMessageId, "ClientMessageId": {
        "type": "integer",
        "minimum": 1,
        "maximum": ClientMessageId::MAX.get(),
        "description": "What a message is known by; unique per user for as long as the message is retained.",
    }
    (K) Name<K>, "Name": {
        "type": "string",
        "pattern": "^[A-Za-z0-9][A-Za-z0-9._@-]{0,127}$",
        "description": "A name of the configuration.",
    }
    () Frame, "Frame": {
        "type": "object",
        "description": "A frame of the platform, as it came.",
    }
}
