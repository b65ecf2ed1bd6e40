//! `rtm-bridge status`: how the users and webhooks of a running bridge are.

use std::{io::IsTerminal as _, path::Path, time::Duration};

use anstyle::{AnsiColor, Style};
use bytes::Bytes;
use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    CommandError,
    client::{Bridge, Call, CallError, Target},
    output,
    process::{Threads, block_on},
    table::{Cell, Table},
};
use crate::clock::Timestamp;

const AFTER_HELP: &str = "\
Where [clients] are configured, RTM_BRIDGE_TOKEN holds the token of one with
the scope read; the users that it may act for are shown.

Examples:
  rtm-bridge status
  rtm-bridge status --watch
  rtm-bridge status --json | jq '.users[] | select(.state != \"connected\")'";

/// How often `--watch` looks.
const WATCH_EVERY: Duration = Duration::from_secs(2);

/// What it takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Print JSON, as the API answers it
    #[arg(long)]
    json: bool,
    /// Show it anew every two seconds, until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    #[command(flatten)]
    target: Target,
}

/// What the API says of a user.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    name: String,
    bot: String,
    state: String,
    since: Timestamp,
    last_error: Option<String>,
    queued: u64,
    undelivered: u64,
}

/// What the API says of a webhook.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Webhook {
    name: String,
    state: String,
    backlog: u64,
    #[serde(default)]
    dead_letters: u64,
    last_outcome: Option<Outcome>,
}

/// What came of a webhook's latest attempt.
#[derive(Debug, Deserialize)]
struct Outcome {
    summary: String,
    at: Timestamp,
}

#[derive(Deserialize)]
struct UserList<T> {
    users: T,
}

#[derive(Deserialize)]
struct WebhookList<T> {
    webhooks: T,
}

/// Asks the bridge and prints what it says.
pub(super) fn run(arguments: &Arguments, config: &Path) -> Result<(), CommandError> {
    let bridge = Bridge::find(&arguments.target, config)?;
    if arguments.watch {
        return block_on(Threads::One, watch(&bridge));
    }
    let shown = block_on(Threads::One, async {
        let users = bridge.call(Call::get(&["users"])).await?;
        let webhooks = webhooks(&bridge).await?;
        let shown = match arguments.json {
            true => json(&bridge, &users, webhooks.as_deref()),
            false => tables(&bridge, &users, webhooks.as_deref(), Timestamp::now()),
        };
        Ok(shown?)
    })?;
    output::line(shown)
}

/// Shows it again and again, in place of what was shown before. A bridge that doesn't answer may come back.
async fn watch(bridge: &Bridge) -> Result<(), CommandError> {
    let mut every = tokio::time::interval(WATCH_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut frame = Frame::new(std::io::stdout().is_terminal());
    let mut seen = false;
    loop {
        every.tick().await;
        let now = Timestamp::now();
        let shown = async {
            let users = bridge.call(Call::get(&["users"])).await?;
            let webhooks = webhooks(bridge).await?;
            tables(bridge, &users, webhooks.as_deref(), now)
        };
        let shown = match shown.await {
            Ok(shown) => shown,
            // At the beginning it is a mistake, of the address or the token; later it is news.
            Err(error) if !seen => return Err(error.into()),
            Err(error) => match error.into() {
                CommandError::Failed(why) | CommandError::Refused(why) => why,
                silent @ (CommandError::Told | CommandError::NobodyReads) => return Err(silent),
            },
        };
        seen = true;
        output::line(frame.next(&format!("{now}\n\n{shown}")))?;
    }
}

/// What takes the place of what was shown before: on a terminal the screen is cleared, elsewhere an empty line
/// stands between.
struct Frame {
    is_terminal: bool,
    is_first: bool,
}

impl Frame {
    fn new(is_terminal: bool) -> Self {
        Self { is_terminal, is_first: true }
    }

    fn next(&mut self, text: &str) -> String {
        const CLEAR: &str = "\u{1b}[2J\u{1b}[3J\u{1b}[H";
        let before = match (self.is_terminal, self.is_first) {
            (true, _) => CLEAR,
            (false, true) => "",
            (false, false) => "\n",
        };
        self.is_first = false;
        format!("{before}{text}")
    }
}

/// A bridge that is older than this command doesn't tell of its webhooks.
async fn webhooks(bridge: &Bridge) -> Result<Option<Bytes>, CallError> {
    match bridge.call(Call::get(&["webhooks"])).await {
        Ok(webhooks) => Ok(Some(webhooks)),
        Err(CallError::Problem(problem)) if problem.code == "not_found" => Ok(None),
        Err(error) => Err(error),
    }
}

fn json(bridge: &Bridge, users: &[u8], webhooks: Option<&[u8]>) -> Result<String, CallError> {
    let users: UserList<Box<RawValue>> = bridge.read(users)?;
    let webhooks: Option<WebhookList<Box<RawValue>>> = webhooks.map(|body| bridge.read(body)).transpose()?;
    let webhooks = webhooks.map(|list| format!(",\"webhooks\":{}", list.webhooks)).unwrap_or_default();
    Ok(output::visible_json(&format!("{{\"users\":{}{webhooks}}}", users.users)))
}

fn tables(
    bridge: &Bridge,
    users: &[u8],
    webhooks: Option<&[u8]>,
    now: Timestamp,
) -> Result<String, CallError> {
    let users: UserList<Vec<User>> = bridge.read(users)?;
    let mut shown = user_table(&users.users, now);
    if let Some(webhooks) = webhooks {
        let webhooks: WebhookList<Vec<Webhook>> = bridge.read(webhooks)?;
        shown.push_str("\n\n");
        shown.push_str(&webhook_table(&webhooks.webhooks, now));
    }
    Ok(shown)
}

fn user_table(users: &[User], now: Timestamp) -> String {
    if users.is_empty() {
        return "No users: none is configured, or the client may see none.".to_owned();
    }
    let headings = ["USER", "BOT", "STATE", "SINCE", "QUEUED", "UNDELIVERED", "LAST ERROR"];
    let row = |user: &User| {
        [
            Cell::text(&user.name),
            Cell::text(&user.bot),
            Cell::text(&user.state.replace('_', " ")).styled(style_of(&user.state)),
            Cell::text(&age(user.since, now)),
            Cell::number(user.queued),
            Cell::number(user.undelivered),
            Cell::text(user.last_error.as_deref().unwrap_or_default()),
        ]
    };
    Table::new(headings, users.iter().map(row)).to_string()
}

fn webhook_table(webhooks: &[Webhook], now: Timestamp) -> String {
    if webhooks.is_empty() {
        return "No webhooks are configured.".to_owned();
    }
    let row = |webhook: &Webhook| {
        let outcome = webhook.last_outcome.as_ref();
        let outcome = outcome.map(|Outcome { summary, at }| format!("{summary}, {} ago", age(*at, now)));
        [
            Cell::text(&webhook.name),
            Cell::text(&webhook.state).styled(style_of(&webhook.state)),
            Cell::number(webhook.backlog),
            Cell::number(webhook.dead_letters),
            Cell::text(&outcome.unwrap_or_default()),
        ]
    };
    Table::new(["WEBHOOK", "STATE", "BACKLOG", "DEAD LETTERS", "LAST OUTCOME"], webhooks.iter().map(row))
        .to_string()
}

/// Green is well, yellow mends itself, red needs a person.
fn style_of(state: &str) -> Style {
    let colour = match state {
        "connected" | "ok" => AnsiColor::Green,
        "unauthorized" | "disabled" => AnsiColor::Red,
        _ => AnsiColor::Yellow,
    };
    colour.on_default()
}

/// How long ago: `12 s`, `3 min`, `5 h`, `12 days`.
pub(super) fn age(since: Timestamp, now: Timestamp) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match now.since(since).as_secs() {
        seconds if seconds < MINUTE => format!("{seconds} s"),
        seconds if seconds < HOUR => format!("{} min", seconds / MINUTE),
        seconds if seconds < 2 * DAY => format!("{} h", seconds / HOUR),
        seconds => format!("{} days", seconds / DAY),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::parse("2026-01-01T12:00:00Z").unwrap()
    }

    fn users() -> Vec<User> {
        let user = |name: &str, state: &str, since: &str, error: Option<&str>, queued: u64| {
            json!({"name": name, "bot": "support", "state": state, "since": since, "lastError": error,
                   "attempts": 0, "queued": queued, "undelivered": 0, "agentSession": false})
        };
        let users = json!([
            user("alice", "connected", "2026-01-01T11:56:30Z", None, 0),
            user(
                "bob@example.com",
                "backing_off",
                "2026-01-01T11:59:48Z",
                Some("connection \u{1b}[2Jrefused"),
                1200
            ),
            user("carol", "unauthorized", "2025-12-25T12:00:00Z", Some("the platform refused the JWT"), 3),
        ]);
        serde_json::from_value(users).unwrap()
    }

    fn webhooks() -> Vec<Webhook> {
        let webhooks = json!([
            {"name": "crm", "state": "ok", "backlog": 0, "lastOutcome": null},
            {"name": "analytics", "state": "failing", "backlog": 12345, "deadLetters": 17, "lastOutcome": {"summary": "503 Service\u{1b} Unavailable", "at": "2026-01-01T11:59:48Z"}},
            {"name": "old", "state": "disabled", "backlog": 7, "lastOutcome": {"summary": "410 Gone", "at": "2025-12-30T11:59:48Z"}},
        ]);
        serde_json::from_value(webhooks).unwrap()
    }

    fn plain(styled: &str) -> String {
        anstream::adapter::strip_str(styled).to_string()
    }

    #[test]
    fn users_are_aligned() {
        let table = user_table(&users(), now());
        insta::assert_snapshot!(plain(&table), @r#"
        USER             BOT      STATE         SINCE   QUEUED  UNDELIVERED  LAST ERROR
        alice            support  connected     3 min        0            0  -
        bob@example.com  support  backing off   12 s      1200            0  connection \u{1b}[2Jrefused
        carol            support  unauthorized  7 days       3            0  the platform refused the JWT
        "#);
    }

    #[test]
    fn webhooks_are_aligned() {
        insta::assert_snapshot!(plain(&webhook_table(&webhooks(), now())), @r#"
        WEBHOOK    STATE     BACKLOG  DEAD LETTERS  LAST OUTCOME
        crm        ok              0             0  -
        analytics  failing     12345            17  503 Service\u{1b} Unavailable, 12 s ago
        old        disabled        7             0  410 Gone, 2 days ago
        "#);
    }

    #[test]
    fn what_is_watched_takes_the_place_of_what_was() {
        let mut pipe = Frame::new(false);
        assert_eq!((pipe.next("one"), pipe.next("two")), ("one".to_owned(), "\ntwo".to_owned()));
        let mut terminal = Frame::new(true);
        assert!(terminal.next("one").ends_with("[Hone") && terminal.next("two").ends_with("[Htwo"));
    }

    #[test]
    fn states_have_colours() {
        let table = webhook_table(&webhooks(), now());
        for coloured in ["\u{1b}[32mok", "\u{1b}[33mfailing", "\u{1b}[31mdisabled"] {
            assert!(table.contains(coloured), "{table:?}");
        }
    }

    #[test]
    fn nothing_configured_is_said_in_words() {
        let now = now();
        assert!(user_table(&[], now).starts_with("No users"));
        assert!(webhook_table(&[], now).starts_with("No webhooks"));
    }

    #[test]
    fn ages_are_in_the_unit_that_fits() {
        let now = Timestamp::from_millis(1_000_000_000);
        let ages = [0, 59_999, 60_000, 3_599_999, 3_600_000, 172_799_999, 172_800_000];
        let ages = ages.map(|millis| age(now.minus(std::time::Duration::from_millis(millis)), now));
        assert_eq!(ages, ["0 s", "59 s", "1 min", "59 min", "1 h", "47 h", "2 days"]);
        // Clocks differ.
        assert_eq!(age(now, Timestamp::from_millis(0)), "0 s");
    }
}
