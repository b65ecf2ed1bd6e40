//! `rtm-bridge` connects Kore.ai bots to the HTTP world.
//!
//! Two flows, and every module stands on one of them:
//!
//! ```text
//! message   HTTP POST ──> api ──> store ──> session (one per user) ──> WebSocket ──> platform
//!                                   ^            │ ack, rejection
//!                                   └────────────┘
//!
//! event     platform ──> WebSocket ──> session ──> store ──> lane (one per webhook and user) ──> webhook POST
//!                                                    ^             │ 2xx, retry, dead letter
//!                                                    └─────────────┘
//! ```
//!
//! A *message* goes to the bot and is known by its `clientMessageId`
//! ([`messages::ClientMessageId`]). An *event* comes from the platform and is known by its
//! `webhook-id` ([`events::EventId`]). These two words mean nothing else in this crate.
//!
//! Arrows point one way: `cli -> daemon -> {api, ops, rtm, webhook} -> {letters, messages, events,
//! users} -> store`. [`rtm`] and [`webhook`] never see each other, [`api`] never sees a socket, only
//! [`store`] knows sled, and [`sandbox`] shares nothing with the daemon but [`rtm::frame`].

mod allocator;
pub mod api;
pub mod asking;
pub mod attachments;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod events;
pub mod history;
pub mod letters;
pub mod messages;
pub mod metrics;
pub mod names;
pub mod ops;
mod ordered;
mod prefetch;
pub mod rate;
pub mod receiver;
pub mod retry;
pub mod rtm;
pub mod sandbox;
#[cfg(test)]
mod schemas;
mod spans;
pub mod store;
pub mod suggest;
pub mod template;
pub mod trace;
pub mod unreachable;
pub mod users;
pub mod webhook;
