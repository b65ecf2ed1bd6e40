//! The daemon against the stand-in platform and a webhook receiver, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that can't go on panics")]

mod agent_desk;
mod agents;
mod api;
mod attachments;
mod bad_input;
mod bad_uploads;
mod body_templates;
mod breaker;
mod conversation;
mod conversations;
mod dead_letters;
mod delivery;
mod events;
mod examples;
mod front;
mod history;
mod hostile;
mod inbox;
mod lists;
mod look_up;
mod messages;
mod metrics;
mod openapi;
mod platform;
mod recovery;
mod reload;
mod reload_sockets;
mod renewal;
mod reports;
mod shutdown;
mod signals;
mod streams;
mod support;
mod tail;
mod templates;
mod tls;
mod traces;
mod waiting;
