//! `rtm-bridge send`: a message through a running bridge.

use std::{path::Path, time::Duration};

use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::{
    CommandError,
    client::{Bridge, Call, CallError, Target, user_name},
    output::{self, visible_json, visible_lines},
    process::{Threads, block_on},
};
use crate::{
    api::query::parse_duration,
    events::content,
    messages::{Certainty, ClientMessageId, FinalReason, MessageStatus},
    names::UserName,
};

/// The longest that the API waits.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

const AFTER_HELP: &str = "\
Prints the message's clientMessageId and its status, and with --wait reply the
bot's answer below. Without --wait the message is on the bridge's disk when
this returns, and is sent as soon as it can be.

Exit code 1: the bridge refused it, or it ended rejected or expired, or what
was waited for did not come in time (the message goes on then).
Where [clients] are configured, RTM_BRIDGE_TOKEN holds the token of one with
the scope send.

Examples:
  rtm-bridge send alice \"I'd like to order\"
  rtm-bridge send alice \"Hi\" --wait reply --timeout 10s
  rtm-bridge send alice --wait ack -- \"-5 degrees\"";

/// What it takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// The user, as bridge.toml names it
    #[arg(value_parser = user_name)]
    user: UserName,
    /// What the user says to the bot
    text: String,
    /// Wait for the platform's ack, or for the bot's reply
    #[arg(long, value_enum, value_name = "WHAT")]
    wait: Option<Wait>,
    /// How long to wait, such as 500ms, 10s or 2m; at most 120s
    #[arg(long, value_name = "TIME", default_value = "30s", requires = "wait", value_parser = wait_limit)]
    timeout: Duration,
    #[command(flatten)]
    target: Target,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wait {
    /// The platform took or refused it, or it expired
    Ack,
    /// The bot answered
    Reply,
}

/// A message's status, as the API tells it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    client_message_id: ClientMessageId,
    status: MessageStatus,
    reason: Option<FinalReason>,
    delivery: Option<Certainty>,
    /// Frames of the bot, or ids of events.
    #[serde(default)]
    replies: Vec<Box<RawValue>>,
}

/// Sends the message, waits if asked to, and prints what became of it.
pub(super) fn run(arguments: &Arguments, config: &Path) -> Result<(), CommandError> {
    let bridge = Bridge::find(&arguments.target, config)?;
    match block_on(Threads::One, async { Ok(send(&bridge, arguments).await) })? {
        Ok(message) => {
            output::line(message.shown(arguments.wait))?;
            message.failure().map_or(Ok(()), |why| Err(CommandError::Failed(format!("error: {why}"))))
        }
        Err(CallError::Problem(problem)) => {
            let message = problem.message.as_deref().and_then(|json| serde_json::from_str(json.get()).ok());
            if let Some(message) = message {
                output::line(Message::shown(&message, None))?;
            }
            Err(CallError::Problem(problem).into())
        }
        Err(error) => Err(error.into()),
    }
}

async fn send(bridge: &Bridge, arguments: &Arguments) -> Result<Message, CallError> {
    let path = ["users", arguments.user.as_str(), "messages"];
    let mut call = Call::post(&path).body(json!({ "text": arguments.text }).to_string());
    if let Some(wait) = arguments.wait {
        let wait = match wait {
            Wait::Ack => "ack",
            Wait::Reply => "reply",
        };
        let timeout = format!("{}ms", arguments.timeout.as_millis());
        call = call.query("wait", wait.into()).query("timeout", timeout).waits(arguments.timeout);
    }
    bridge.read(&bridge.call(call).await?)
}

fn wait_limit(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Some(limit) if limit <= LONGEST_WAIT => Ok(limit),
        Some(_) => Err("at most 120s".into()),
        None => Err("write a whole number and a unit, such as 500ms, 10s or 2m".into()),
    }
}

impl Message {
    /// The id and the status, and below the bot's answers, if they were waited for.
    fn shown(&self, wait: Option<Wait>) -> String {
        let mut lines = vec![format!("{}  {}", self.client_message_id, self.status_word())];
        if wait == Some(Wait::Reply) {
            lines.extend(self.replies.iter().map(|reply| reply_text(reply)));
        }
        lines.join("\n")
    }

    const fn status_word(&self) -> &'static str {
        match self.status {
            MessageStatus::Queued => "queued",
            MessageStatus::Sent => "sent",
            MessageStatus::Acked => "acked",
            MessageStatus::Rejected => "rejected",
            MessageStatus::Expired => "expired",
        }
    }

    /// Why it is over without success, in plain words.
    fn failure(&self) -> Option<String> {
        if !matches!(self.status, MessageStatus::Rejected | MessageStatus::Expired) {
            return None;
        }
        let why = match self.reason {
            Some(FinalReason::Ttl) => {
                "it could not be sent, or was not acked, before its time was over (messages.ttl)"
            }
            Some(FinalReason::NoAck) => "the platform did not ack it, however often it was sent",
            Some(FinalReason::RefusedByPlatform) => "the platform refused it",
            Some(FinalReason::TooLarge) => "it is too large for the platform",
            Some(FinalReason::Disconnected) => "the connection dropped first",
            Some(FinalReason::UserRemoved) => "its user is no longer configured",
            None => "the bridge doesn't say why",
        };
        let certainty = match self.delivery {
            Some(Certainty::None) => "; it never reached the bot, so it is safe to send it again",
            Some(Certainty::Unknown) => "; whether the bot got it, nobody knows",
            Some(Certainty::Confirmed) | None => "",
        };
        let (id, status) = (self.client_message_id, self.status_word());
        Some(format!("message {id} {status}: {why}{certainty}"))
    }
}

/// A reply's text; of a frame without text, the frame; of an event's id, the id.
fn reply_text(reply: &RawValue) -> String {
    if let Ok(id) = serde_json::from_str::<String>(reply.get()) {
        return visible_lines(&id);
    }
    match content(reply.get().as_bytes()).text {
        Some(text) => visible_lines(&text),
        None => visible_json(reply.get()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> Message {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_first_line_is_the_id_and_the_status() {
        let accepted = r#"{"user":"alice","clientMessageId":7,"status":"queued","createdAt":"2016-06-23T14:34:00.896Z"}"#;
        assert_eq!(message(accepted).shown(None), "7  queued");
        assert_eq!(message(accepted).failure(), None);
    }

    #[test]
    fn replies_are_shown_as_text_whatever_they_are() {
        let answered = message(
            r#"{"clientMessageId":7,"status":"acked","reason":null,"delivery":"confirmed","replies":[
                {"type":"bot_response","message":[{"cInfo":{"body":"Hi\nthere\u001b[2J"}}]},
                {"type":"bot_response","message":[{"x":"\u009b"}]},
                "evt_000000010000000000000002"]}"#,
        );
        insta::assert_snapshot!(answered.shown(Some(Wait::Reply)), @r#"
        7  acked
        Hi
        there\u{1b}[2J
        {"type":"bot_response","message":[{"x":"\u009b"}]}
        evt_000000010000000000000002
        "#);
        assert_eq!(answered.shown(Some(Wait::Ack)), "7  acked");
        assert_eq!(answered.failure(), None);
    }

    #[test]
    fn failures_say_why_and_whether_to_send_again() {
        let failed = |status: &str, reason: &str, delivery: &str| {
            let json = format!(
                r#"{{"clientMessageId":7,"status":"{status}","reason":"{reason}","delivery":"{delivery}"}}"#
            );
            message(&json).failure().unwrap()
        };
        let shown = [
            failed("expired", "ttl", "none"),
            failed("expired", "no_ack", "unknown"),
            failed("rejected", "refused_by_platform", "confirmed"),
            failed("rejected", "too_large", "unknown"),
        ];
        insta::assert_snapshot!(shown.join("\n"), @"
        message 7 expired: it could not be sent, or was not acked, before its time was over (messages.ttl); it never reached the bot, so it is safe to send it again
        message 7 expired: the platform did not ack it, however often it was sent; whether the bot got it, nobody knows
        message 7 rejected: the platform refused it
        message 7 rejected: it is too large for the platform; whether the bot got it, nobody knows
        ");
    }

    #[test]
    fn waits_are_bounded() {
        assert_eq!(wait_limit("2m"), Ok(LONGEST_WAIT));
        for bad in ["121s", "1h", "10", "", "-1s"] {
            assert!(wait_limit(bad).is_err(), "{bad}");
        }
    }
}
