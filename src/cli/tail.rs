//! `rtm-bridge tail`: the events of a running bridge, as they come.

use std::{path::Path, time::Duration};

use anstyle::{AnsiColor, Style};
use clap::Args;
use reqwest::Response;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{sleep, timeout};

use super::{
    CommandError,
    client::{Bridge, Call, CallError, Target, user_name},
    output,
    process::{Stop, Threads, block_on},
    sse::{Dispatched, Parser},
};
use crate::{names::UserName, retry::Backoff, webhook::visible};

/// The bridge shows a sign of life every 15 s.
const SILENCE: Duration = Duration::from_secs(50);
/// How long to wait before connecting again, at first and at most.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(10);

const AFTER_HELP: &str = "\
Prints a line for each event from now on: time, user, type, who speaks, text;
where there is no text, the data. A connection that breaks is made anew, and
goes on behind the last event that was shown. Ctrl-C ends it.
Where [clients] are configured, RTM_BRIDGE_TOKEN holds the token of one with
the scope read; the events of the users that it may act for are shown.

Examples:
  rtm-bridge tail
  rtm-bridge tail alice
  rtm-bridge tail --json | jq 'select(.type == \"bot_response\") | .text'";

/// What it takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Only this user's events
    #[arg(value_parser = user_name)]
    user: Option<UserName>,
    /// Print each event as a line of JSON: its id, and the envelope that webhooks get
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// What is shown of an envelope.
#[derive(Debug, Deserialize)]
struct Envelope {
    timestamp: String,
    user: String,
    #[serde(rename = "type")]
    kind: String,
    from: String,
    source: String,
    text: Option<String>,
    data: Box<RawValue>,
}

/// Prints events until Ctrl-C or SIGTERM.
pub(super) fn run(arguments: &Arguments, config: &Path) -> Result<(), CommandError> {
    let bridge = Bridge::find(&arguments.target, config)?;
    block_on(Threads::One, async {
        let mut stop = Stop::listen()?;
        tokio::select! {
            biased;
            () = stop.requested() => Ok(()),
            ended = follow(&bridge, arguments) => ended,
        }
    })
}

/// Follows the bridge over broken connections. Ends with what no further try can mend.
async fn follow(bridge: &Bridge, arguments: &Arguments) -> Result<(), CommandError> {
    let mut parser = Parser::default();
    let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
    let mut contact = Contact::Never;
    loop {
        match open(bridge, arguments, &parser).await {
            Ok(mut response) => {
                backoff.reset();
                if contact == Contact::Lost {
                    anstream::eprintln!("connected again");
                }
                contact = Contact::There;
                show(&mut response, &mut parser, arguments).await?;
                parser.broken();
            }
            Err(CallError::Problem(problem)) if problem.code == "event_gone" => {
                anstream::eprintln!("some events are missing here: the bridge does not keep them any longer");
                parser.forget();
                continue;
            }
            Err(error) if contact == Contact::Never || !is_passing(&error) => return Err(error.into()),
            Err(_) => {}
        }
        if contact == Contact::There {
            anstream::eprintln!("the connection to the bridge broke; trying again until it is there");
            contact = Contact::Lost;
        }
        sleep(backoff.next(&mut fastrand::Rng::new())).await;
    }
}

/// How it stands with the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contact {
    Never,
    There,
    Lost,
}

/// Whether another try may help: a bridge that restarts, or is busy, comes back.
fn is_passing(error: &CallError) -> bool {
    match error {
        CallError::Unreachable { .. } | CallError::Silent { .. } | CallError::Broken { .. } => true,
        CallError::Problem(problem) => {
            matches!(problem.code.as_str(), "store_unavailable" | "shutting_down" | "rate_limited")
        }
        CallError::Untrusted { .. } | CallError::NotABridge { .. } => false,
    }
}

async fn open(bridge: &Bridge, arguments: &Arguments, parser: &Parser) -> Result<Response, CallError> {
    let mut call = Call::get(&["events"]);
    if let Some(user) = &arguments.user {
        call = call.query("user", user.to_string());
    }
    bridge.open(call, parser.last_id()).await
}

/// Prints what comes until the stream ends, breaks, or falls silent.
async fn show(
    response: &mut Response,
    parser: &mut Parser,
    arguments: &Arguments,
) -> Result<(), CommandError> {
    while let Ok(Ok(Some(bytes))) = timeout(SILENCE, response.chunk()).await {
        for event in parser.read(&bytes) {
            output::line(if arguments.json { json(&event) } else { line(&event) })?;
        }
    }
    Ok(())
}

/// The envelope with its id, as the inbox has it.
fn json(event: &Dispatched) -> String {
    let envelope = event.data.strip_prefix('{').unwrap_or(&event.data);
    output::visible_json(&format!("{{\"id\":{:?},{envelope}", visible(&event.id)))
}

fn line(event: &Dispatched) -> String {
    let Ok(envelope) = serde_json::from_str::<Envelope>(&event.data) else {
        return visible(&event.data);
    };
    let Envelope { timestamp, user, kind, from, source, text, data } = &envelope;
    let (dim, style) = (Style::new().dimmed(), style_of(kind, from));
    let said = match text {
        Some(text) => visible(text),
        None => visible(data.get()),
    };
    let late = if source == "history" { " (recovered)" } else { "" };
    let (timestamp, user, kind, from) = (visible(timestamp), visible(user), visible(kind), visible(from));
    let said = match text {
        Some(_) => said,
        None => format!("{dim}{said}{dim:#}"),
    };
    format!("{dim}{timestamp}{dim:#}  {user}  {style}{kind}{style:#}{late}  {from}  {said}")
}

/// Green is the bot, cyan a human, yellow the bridge itself.
fn style_of(kind: &str, from: &str) -> Style {
    match from {
        "bot" => AnsiColor::Green.on_default(),
        "agent" | "user" => AnsiColor::Cyan.on_default(),
        _ if kind.starts_with("bridge.") => AnsiColor::Yellow.on_default(),
        _ => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, source: &str, text: &str) -> Dispatched {
        let data = format!(
            r#"{{"type":"{kind}","timestamp":"2026-01-01T00:00:00.000Z","user":"alice","bot":"support","sequence":null,"inReplyTo":7,"source":"{source}","from":"bot","text":{text},"data":{{"n":1.50}}}}"#
        );
        Dispatched { id: "evt_00000001000000000000002a".into(), data }
    }

    #[test]
    fn an_event_is_a_line_that_moves_no_cursor() {
        let plain = |event: &Dispatched| anstream::adapter::strip_str(&line(event)).to_string();
        let shown = [
            plain(&event("bot_response", "live", r#""Hi\nthere\u001b[2J""#)),
            plain(&event("so odd\\r", "history", "null")),
            plain(&Dispatched { id: String::new(), data: "no\u{9b}json".into() }),
        ];
        insta::assert_snapshot!(shown.join("\n"), @r#"
        2026-01-01T00:00:00.000Z  alice  bot_response  bot  Hi\nthere\u{1b}[2J
        2026-01-01T00:00:00.000Z  alice  so odd\r (recovered)  bot  {"n":1.50}
        no\u{9b}json
        "#);
    }

    #[test]
    fn json_is_the_inboxs() {
        let json = json(&event("x", "live", "\"\u{9b}\""));
        assert!(json.starts_with(r#"{"id":"evt_00000001000000000000002a","type":"x","timestamp""#), "{json}");
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&parsed["text"], json.contains('\u{9b}')), (&"\u{9b}".into(), false));
    }
}
