//! What may happen to a session.

use proptest::prelude::*;

use crate::{
    messages::Expectation,
    rtm::{
        failure::FailureKind,
        session::{Line, NotSent, Reading},
    },
};

/// What may happen. Numbers stand for "one of those there are".
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// Answers what was asked, well.
    Succeed,
    /// Answers what was asked, badly.
    Fail(FailureKind, Option<u64>),
    /// An answer that nobody awaits, or that is late.
    OutOfTurn(u8),
    Post(Expectation, u64),
    Ack(Line, u64, Option<bool>),
    Frame(Line, usize),
    Heard(Line),
    Close(Line, u16),
    Stall(u64),
    NotSent(NotSent),
    /// The history is read: by bits, which of the messages that were looked for are found.
    History(Reading, u8),
    /// Time passes, and the session is told only if it is due.
    Wait(u64),
    /// Time passes up to the deadline.
    UntilDue,
    TellTheTime,
    WallJump(i64),
    Reconnect,
    /// The configuration changed, its credentials perhaps.
    Reconfigure(bool),
    /// A caller begins to wait for the answer to one of the latest messages, or of those to come.
    Await(u64),
    /// The callers of one of the messages that are waited for give up.
    GiveUp(usize),
}

pub(super) const FRAMES: [&str; 7] = [
    r#"{"type":"ack","ok":true}"#,
    r#"{"type":"pong","replyto":1001}"#,
    r#"{"type":"bot_response","messageId":"ms-1"}"#,
    r#"{"type":"agent_session_start"}"#,
    r#"{"type":"agent_session_end"}"#,
    r#"{"type":"user_message","id":1001}"#,
    "{}",
];

pub(super) fn event() -> impl Strategy<Value = Event> {
    let kind = prop_oneof![
        Just(FailureKind::Unauthorized),
        Just(FailureKind::TokenRefused),
        Just(FailureKind::RateLimited),
        Just(FailureKind::Server { status: 500 }),
        Just(FailureKind::Network),
    ];
    let expectation = prop_oneof![4 => Just(Expectation::Ack), 1 => Just(Expectation::Nothing)];
    let code = prop_oneof![6 => Just(1006u16), 1 => Just(1008), 1 => Just(1009), 1 => Just(1007), 1 => 1000..1016u16];
    let line = || prop_oneof![2 => Just(Line::Main), 1 => Just(Line::Beside)];
    prop_oneof![
        12 => Just(Event::Succeed),
        2 => (kind, proptest::option::of(0u64..200)).prop_map(|(kind, wait)| Event::Fail(kind, wait)),
        1 => any::<u8>().prop_map(Event::OutOfTurn),
        6 => (expectation, 0u64..1000).prop_map(|(expectation, ttl)| Event::Post(expectation, ttl)),
        6 => (line(), 0u64..40, proptest::option::weighted(0.9, any::<bool>())).prop_map(|(line, n, ok)| Event::Ack(line, n, ok)),
        3 => (line(), 0..FRAMES.len()).prop_map(|(line, which)| Event::Frame(line, which)),
        4 => line().prop_map(Event::Heard),
        2 => (line(), code).prop_map(|(line, code)| Event::Close(line, code)),
        1 => (0u64..100).prop_map(Event::Stall),
        1 => prop_oneof![Just(NotSent::Unreadable), Just(NotSent::TooLarge)].prop_map(Event::NotSent),
        4 => (prop_oneof![Just(Reading::Whole), Just(Reading::Limited), Just(Reading::Cut)], any::<u8>()).prop_map(|(how, found)| Event::History(how, found)),
        3 => (0u64..40_000).prop_map(Event::Wait),
        8 => Just(Event::UntilDue),
        1 => Just(Event::TellTheTime),
        1 => (-2_000_000i64..2_000_000).prop_map(Event::WallJump),
        1 => Just(Event::Reconnect),
        1 => any::<bool>().prop_map(Event::Reconfigure),
        3 => (0u64..4).prop_map(Event::Await),
        3 => (0usize..4).prop_map(Event::GiveUp),
        3 => line().prop_map(|line| Event::Frame(line, BOT_RESPONSE)),
    ]
}

/// Where the bot's answer is among the frames.
const BOT_RESPONSE: usize = 2;
