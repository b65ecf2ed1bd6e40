//! `rtm-bridge dead-letters`: what webhooks did not get.

use std::{
    collections::HashMap,
    fmt::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use anstyle::{AnsiColor, Style};
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    CommandError,
    client::{Bridge, Call, CallError, Target, user_name, webhook_name},
    output,
    process::{Threads, block_on},
    progress::{Done, Progress},
    status::age,
    table::{Cell, Table},
};
use crate::{
    clock::Timestamp,
    names::{UserName, WebhookName},
    store::DeadLetterId,
    webhook::visible,
};

/// The API gives this many at most in one answer.
const PAGE: usize = 1000;
/// Marking or deleting a hundred thousand takes a while.
const BULK_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// How often a replay that is waited for is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LEFT_ALONE: &str = "left alone, as their webhooks are not configured";

const AFTER_HELP: &str = "\
A dead letter is an event that a webhook refused, or that nobody took in time.
It is kept until store.dead_letter_retention is over. Where [clients] are
configured, RTM_BRIDGE_TOKEN holds the token of one with the scope read, or
admin to replay and purge; only users that it may act for are concerned.

Examples:
  rtm-bridge dead-letters list --webhook crm
  rtm-bridge dead-letters show dl_000000002a000001
  rtm-bridge dead-letters replay --all --webhook crm
  rtm-bridge dead-letters purge dl_000000002a000001";

const AFTER_LIST: &str = "\
Examples:
  rtm-bridge dead-letters list
  rtm-bridge dead-letters list --user alice --limit 1000
  rtm-bridge dead-letters list --json | jq -r '.deadLetters[].id'";

const AFTER_SHOW: &str = "\
Examples:
  rtm-bridge dead-letters show dl_000000002a000001
  rtm-bridge dead-letters show dl_000000002a000001 --json | jq -r .body";

const AFTER_REPLAY: &str = "\
The event is delivered with the same webhook-id, body and sequence, retried as
any other, and goes from the list when its webhook took it. If it isn't taken
within the webhook's max_age from now, or is refused, it is a dead letter again.
With --wait, Ctrl-C ends the waiting; the replay goes on.

Examples:
  rtm-bridge dead-letters replay dl_000000002a000001
  rtm-bridge dead-letters replay --all --webhook crm --wait";

const AFTER_PURGE: &str = "\
What is purged is gone for good.

Examples:
  rtm-bridge dead-letters purge dl_000000002a000001
  rtm-bridge dead-letters purge --all --user alice";

/// What it takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List them, the newest event first
    List(ListArguments),
    /// Show one with its attempts, the last answer and its body
    Show(ShowArguments),
    /// Deliver one, or many, after all
    #[command(after_help = AFTER_REPLAY)]
    Replay(ReplayArguments),
    /// Delete one, or many
    #[command(after_help = AFTER_PURGE)]
    Purge(ManyArguments),
}

/// Which dead letters are meant.
#[derive(Debug, Args)]
struct Which {
    /// Only those of this webhook
    #[arg(long, value_name = "WEBHOOK", value_parser = webhook_name)]
    webhook: Option<WebhookName>,
    /// Only those of this user
    #[arg(long, value_name = "USER", value_parser = user_name)]
    user: Option<UserName>,
}

#[derive(Debug, Args)]
#[command(after_help = AFTER_LIST)]
struct ListArguments {
    #[command(flatten)]
    which: Which,
    /// How many, at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Print JSON, as the API answers it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
#[command(after_help = AFTER_SHOW)]
struct ShowArguments {
    /// Which one, as list tells it
    #[arg(value_parser = letter_id)]
    id: DeadLetterId,
    /// Print JSON, as the API answers it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
struct ManyArguments {
    /// Which one, as list tells it
    #[arg(value_parser = letter_id, required_unless_present = "all", conflicts_with_all = ["all", "webhook", "user"])]
    id: Option<DeadLetterId>,
    /// All of them, or all of --webhook and --user
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
struct ReplayArguments {
    #[command(flatten)]
    many: ManyArguments,
    /// Wait until each of them is delivered, or a dead letter again; exit with 1 if any is
    #[arg(long, requires = "all")]
    wait: bool,
}

/// What the API says of a dead letter.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Letter {
    id: String,
    webhook: String,
    user: String,
    webhook_id: String,
    #[serde(rename = "type")]
    kind: String,
    reason: String,
    attempts: u64,
    created_at: Timestamp,
    dead_at: Timestamp,
    replaying_since: Option<Timestamp>,
}

/// What it says of one alone.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    #[serde(flatten)]
    letter: Letter,
    sequence: u64,
    content_type: String,
    body: String,
    last_answer: Option<String>,
    attempt_history: Vec<Attempt>,
}

#[derive(Debug, Deserialize)]
struct Attempt {
    number: u64,
    at: Timestamp,
    status: Option<u16>,
    error: Option<String>,
    detail: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<T> {
    dead_letters: Vec<T>,
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Replayed {
    replaying: u64,
    left_alone: u64,
}

/// Runs the action.
pub(super) fn run(arguments: &Arguments, config: &Path) -> Result<(), CommandError> {
    match &arguments.action {
        Action::List(list) => self::list(list, config),
        Action::Show(show) => self::show(show, config),
        Action::Replay(replay) => self::replay(replay, config),
        Action::Purge(purge) => self::purge(purge, config),
    }
}

fn list(arguments: &ListArguments, config: &Path) -> Result<(), CommandError> {
    let bridge = Bridge::find(&arguments.target, config)?;
    let wanted = arguments.limit as usize;
    let shown = block_on(Threads::One, async {
        if arguments.json {
            let Page { dead_letters, next_cursor } =
                pages::<Box<RawValue>>(&bridge, &arguments.which, wanted).await?;
            let letters: Vec<_> = dead_letters.iter().map(|letter| letter.get()).collect();
            let cursor = next_cursor.map_or_else(|| "null".to_owned(), |cursor| format!("{cursor:?}"));
            let json = format!("{{\"deadLetters\":[{}],\"nextCursor\":{cursor}}}", letters.join(","));
            return Ok(output::visible_json(&json));
        }
        let page = pages::<Letter>(&bridge, &arguments.which, wanted).await?;
        let mut shown = letter_table(&page.dead_letters, Timestamp::now());
        if page.next_cursor.is_some() {
            shown.push_str("\nThere are more: --limit shows them.");
        }
        Ok(shown)
    })?;
    output::line(shown)
}

/// Asks for as many pages as it takes.
async fn pages<T: serde::de::DeserializeOwned>(
    bridge: &Bridge,
    which: &Which,
    wanted: usize,
) -> Result<Page<T>, CallError> {
    let mut all = Page { dead_letters: Vec::new(), next_cursor: None };
    loop {
        let limit = (wanted - all.dead_letters.len()).min(PAGE);
        let mut call = with(Call::get(&["dead-letters"]), which).query("limit", limit.to_string());
        if let Some(cursor) = all.next_cursor.take() {
            call = call.query("cursor", cursor);
        }
        let page: Page<T> = bridge.read(&bridge.call(call).await?)?;
        all.dead_letters.extend(page.dead_letters);
        all.next_cursor = page.next_cursor;
        if all.next_cursor.is_none() || all.dead_letters.len() >= wanted {
            return Ok(all);
        }
    }
}

fn show(arguments: &ShowArguments, config: &Path) -> Result<(), CommandError> {
    let bridge = Bridge::find(&arguments.target, config)?;
    let id = arguments.id.to_string();
    let shown = block_on(Threads::One, async {
        let body = bridge.call(Call::get(&["dead-letters", &id])).await?;
        if arguments.json {
            let json: Box<RawValue> = bridge.read(&body)?;
            return Ok(output::visible_json(json.get()));
        }
        Ok(details(&bridge.read(&body)?, Timestamp::now()))
    })?;
    output::line(shown)
}

fn replay(arguments: &ReplayArguments, config: &Path) -> Result<(), CommandError> {
    let ReplayArguments { many: ManyArguments { id, which, target, .. }, wait } = arguments;
    let bridge = Bridge::find(target, config)?;
    let (said, failed) = block_on(Threads::One, async {
        if let Some(id) = id {
            let id = id.to_string();
            bridge.call(Call::post(&["dead-letters", &id, "replay"])).await?;
            let said = format!(
                "{id}: will be delivered after all; rtm-bridge dead-letters show {id} tells if it isn't"
            );
            return Ok((said, 0));
        }
        let before = if *wait { deaths(&bridge, which).await? } else { Deaths::default() };
        let call = bridge.call(many(Call::post(&["dead-letters", "replay"]), which));
        let marked: Replayed = bridge.read(&Progress::during("replaying", call).await?)?;
        if !wait {
            return Ok((replayed(&marked), 0));
        }
        let failed = until_replayed(&bridge, which, &before, marked.replaying).await?;
        Ok((outcome(&marked, failed), failed))
    })?;
    output::line(said)?;
    if failed > 0 {
        return Err(CommandError::failed(
            "error: not all were taken; rtm-bridge dead-letters list tells why".to_owned(),
        ));
    }
    Ok(())
}

/// When each letter died that is not being replayed, and how many are being replayed.
#[derive(Debug, Default)]
struct Deaths {
    at: HashMap<String, Timestamp>,
    replaying: u64,
}

impl Deaths {
    fn of(letters: Vec<Letter>) -> Self {
        let mut deaths = Self::default();
        for Letter { id, dead_at, replaying_since, .. } in letters {
            match replaying_since {
                Some(_) => deaths.replaying += 1,
                None => drop(deaths.at.insert(id, dead_at)),
            }
        }
        deaths
    }

    /// How many of those that were dead before have died once more since.
    fn again_since(&self, before: &Self) -> u64 {
        let died_again =
            |(id, at): &(&String, &Timestamp)| before.at.get(*id).is_some_and(|then| then != *at);
        self.at.iter().filter(died_again).count() as u64
    }
}

async fn deaths(bridge: &Bridge, which: &Which) -> Result<Deaths, CallError> {
    Ok(Deaths::of(pages::<Letter>(bridge, which, usize::MAX).await?.dead_letters))
}

/// Waits until none is being replayed, and gives how many are dead letters again.
async fn until_replayed(bridge: &Bridge, which: &Which, before: &Deaths, all: u64) -> Result<u64, CallError> {
    let mut progress = Progress::new("replaying", "dead letters");
    loop {
        let began = Instant::now();
        let now = deaths(bridge, which).await?;
        if now.replaying == 0 {
            return Ok(now.again_since(before));
        }
        progress.at(Done::of(all.saturating_sub(now.replaying), all));
        // Of a long list the bridge is asked less often.
        tokio::time::sleep(LOOK_EVERY.max(10 * began.elapsed())).await;
    }
}

fn purge(arguments: &ManyArguments, config: &Path) -> Result<(), CommandError> {
    let bridge = Bridge::find(&arguments.target, config)?;
    let said = block_on(Threads::One, async {
        if let Some(id) = arguments.id {
            let id = id.to_string();
            bridge.call(Call::delete(&["dead-letters", &id])).await?;
            return Ok(format!("{id}: deleted"));
        }
        let call = bridge.call(many(Call::delete(&["dead-letters"]), &arguments.which));
        Progress::during("deleting", call).await?;
        Ok("deleted".to_owned())
    })?;
    output::line(said)
}

/// With a filter in the query.
fn with<'a>(mut call: Call<'a>, which: &Which) -> Call<'a> {
    if let Some(webhook) = &which.webhook {
        call = call.query("webhook", webhook.to_string());
    }
    if let Some(user) = &which.user {
        call = call.query("user", user.to_string());
    }
    call
}

/// With a filter in the query, or all of them in words.
fn many<'a>(call: Call<'a>, which: &Which) -> Call<'a> {
    let call = with(call, which).waits(BULK_PATIENCE);
    if which.webhook.is_none() && which.user.is_none() { call.query("all", "true".to_owned()) } else { call }
}

fn letter_id(text: &str) -> Result<DeadLetterId, String> {
    text.parse().map_err(|invalid: crate::store::InvalidDeadLetterId| invalid.to_string())
}

fn replayed(replayed: &Replayed) -> String {
    let Replayed { replaying, left_alone } = replayed;
    let mut said = match replaying {
        0 => "there is nothing to deliver".to_owned(),
        1 => "1 dead letter will be delivered after all".to_owned(),
        many => format!("{many} dead letters will be delivered after all"),
    };
    if *left_alone > 0 {
        let _ = write!(said, "; {left_alone} {LEFT_ALONE}");
    }
    said
}

/// What came of a replay that was waited for.
fn outcome(marked: &Replayed, failed: u64) -> String {
    let Replayed { replaying, left_alone } = marked;
    let said = match (replaying, failed) {
        (0, _) => return replayed(marked),
        (all, 0) => format!("{all} delivered"),
        (all, failed) => {
            format!("{} delivered, {failed} dead again", all.saturating_sub(failed))
        }
    };
    if *left_alone > 0 { format!("{said}; {left_alone} {LEFT_ALONE}") } else { said }
}

fn letter_table(letters: &[Letter], now: Timestamp) -> String {
    if letters.is_empty() {
        return "No dead letters.".to_owned();
    }
    let row = |letter: &Letter| {
        let replay = letter.replaying_since.map(|since| format!("being replayed for {}", age(since, now)));
        let reason = match replay {
            Some(replay) => Cell::text(&replay).styled(AnsiColor::Yellow.on_default()),
            None => Cell::text(&letter.reason),
        };
        [
            Cell::text(&letter.id),
            Cell::text(&letter.webhook),
            Cell::text(&letter.user),
            Cell::text(&letter.kind),
            Cell::number(letter.attempts),
            Cell::text(&age(letter.dead_at, now)),
            reason,
        ]
    };
    let headings = ["ID", "WEBHOOK", "USER", "TYPE", "ATTEMPTS", "DEAD FOR", "REASON"];
    Table::new(headings, letters.iter().map(row)).to_string()
}

fn details(details: &Details, now: Timestamp) -> String {
    let Details { letter, sequence, content_type, body, last_answer, attempt_history } = details;
    let bold = Style::new().bold();
    let mut facts = vec![
        ("id", letter.id.clone()),
        ("webhook", letter.webhook.clone()),
        ("user", letter.user.clone()),
        ("event", format!("{} ({}), number {sequence}", letter.webhook_id, letter.kind)),
        ("received", letter.created_at.to_string()),
        ("died", format!("{} ({} ago)", letter.dead_at, age(letter.dead_at, now))),
        ("reason", letter.reason.clone()),
        ("attempts", letter.attempts.to_string()),
    ];
    if let Some(since) = letter.replaying_since {
        facts.push(("replaying", format!("since {since}")));
    }
    let mut shown = String::new();
    for (name, fact) in facts {
        let _ = writeln!(shown, "{bold}{name:<10}{bold:#}{}", visible(&fact));
    }
    if !attempt_history.is_empty() {
        let _ = writeln!(shown, "\n{}", attempt_table(attempt_history));
    }
    if let Some(answer) = last_answer.as_deref().filter(|answer| !answer.is_empty()) {
        let _ = writeln!(shown, "\n{bold}last answer{bold:#}\n{}", output::visible_lines(answer));
    }
    let content_type = visible(content_type);
    let _ = write!(shown, "\n{bold}body ({content_type}){bold:#}\n{}", output::visible_lines(body));
    shown
}

fn attempt_table(attempts: &[Attempt]) -> String {
    let row = |attempt: &Attempt| {
        let outcome = match (attempt.status, &attempt.error, &attempt.detail) {
            (Some(status), ..) => status.to_string(),
            (None, Some(error), Some(detail)) => format!("{error}: {detail}"),
            (None, error, _) => error.clone().unwrap_or_default(),
        };
        [Cell::number(attempt.number), Cell::text(&attempt.at.to_string()), Cell::text(&outcome)]
    };
    Table::new(["ATTEMPT", "AT", "OUTCOME"], attempts.iter().map(row)).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn now() -> Timestamp {
        Timestamp::parse("2026-01-01T12:00:00Z").unwrap()
    }

    fn letter(id: &str, user: &str, reason: &str, replaying: Option<&str>) -> Value {
        json!({"id": id, "webhook": "crm", "user": user, "webhookId": "evt_1a2b3c4d000000000000002a",
               "type": "bot_response", "reason": reason, "lastStatus": 422, "attempts": 12,
               "createdAt": "2026-01-01T11:00:00Z", "deadAt": "2026-01-01T11:58:00Z", "replayingSince": replaying})
    }

    fn plain(styled: &str) -> String {
        anstream::adapter::strip_str(styled).to_string()
    }

    #[test]
    fn letters_are_aligned() {
        let letters = json!([
            letter("dl_000000002a000001", "alice", "the receiver refuses this\u{1b}[2J event (422)", None),
            letter("dl_0000000007000001", "bob@example.com", "late", Some("2026-01-01T11:59:30Z")),
        ]);
        let letters: Vec<Letter> = serde_json::from_value(letters).unwrap();
        insta::assert_snapshot!(plain(&letter_table(&letters, now())), @r#"
    ID                   WEBHOOK  USER             TYPE          ATTEMPTS  DEAD FOR  REASON
    dl_000000002a000001  crm      alice            bot_response        12  2 min     the receiver refuses this\u{1b}[2J event (422)
    dl_0000000007000001  crm      bob@example.com  bot_response        12  2 min     being replayed for 30 s
    "#);
        assert_eq!(letter_table(&[], now()), "No dead letters.");
    }

    #[test]
    fn one_is_shown_with_its_attempts_its_last_answer_and_its_body() {
        let mut one = letter("dl_000000002a000001", "alice", "late: it failed (503)", None);
        let more = json!({
            "sequence": 7, "contentType": "application/json", "body": "{\"text\":\"Hi\u{9b}2J\"}",
            "lastAnswer": "<h1>\u{1b}]0;no\u{7}</h1>\nsorry",
            "attemptHistory": [
                {"number": 1, "at": "2026-01-01T11:00:00Z", "status": null, "error": "timeout",
                 "detail": "no answer within 15s", "answer": ""},
                {"number": 12, "at": "2026-01-01T11:58:00Z", "status": 503, "error": null, "detail": null,
                 "answer": "..."},
            ],
        });
        one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let one: Details = serde_json::from_value(one).unwrap();
        insta::assert_snapshot!(plain(&details(&one, now())), @r#"
    id        dl_000000002a000001
    webhook   crm
    user      alice
    event     evt_1a2b3c4d000000000000002a (bot_response), number 7
    received  2026-01-01T11:00:00.000Z
    died      2026-01-01T11:58:00.000Z (2 min ago)
    reason    late: it failed (503)
    attempts  12

    ATTEMPT  AT                        OUTCOME
          1  2026-01-01T11:00:00.000Z  timeout: no answer within 15s
         12  2026-01-01T11:58:00.000Z  503

    last answer
    <h1>\u{1b}]0;no\u{7}</h1>
    sorry

    body (application/json)
    {"text":"Hi\u{9b}2J"}
    "#);
    }

    #[test]
    fn who_died_again_is_known_by_the_time_of_death() {
        let deaths = |letters: Value| Deaths::of(serde_json::from_value(letters).unwrap());
        let again = |mut letter: Value| {
            letter["deadAt"] = json!("2026-01-01T12:00:01Z");
            letter
        };
        let [one, two, three, new] =
            ["dl_1", "dl_2", "dl_3", "dl_4"].map(|id| letter(id, "alice", "late", None));
        let before = deaths(json!([one, two, three]));
        assert_eq!((before.replaying, before.again_since(&before)), (0, 0));
        let meanwhile = letter("dl_1", "alice", "late", Some("2026-01-01T12:00:00Z"));
        let after = deaths(json!([meanwhile, again(two), three, again(new)]));
        assert_eq!(
            (after.replaying, after.again_since(&before)),
            (1, 1),
            "the third was left alone, the fourth is new"
        );
    }

    #[test]
    fn what_came_of_a_replay_is_said_in_words() {
        let said = |replaying, left_alone, failed| outcome(&Replayed { replaying, left_alone }, failed);
        assert_eq!(said(0, 0, 0), "there is nothing to deliver");
        assert_eq!(said(3, 0, 0), "3 delivered");
        assert_eq!(
            said(3, 1, 2),
            "1 delivered, 2 dead again; 1 left alone, as their webhooks are not configured"
        );
    }

    #[test]
    fn what_is_replayed_is_said_in_words() {
        let said = |replaying, left_alone| replayed(&Replayed { replaying, left_alone });
        assert_eq!(said(0, 0), "there is nothing to deliver");
        assert_eq!(said(1, 0), "1 dead letter will be delivered after all");
        assert_eq!(
            said(2, 3),
            "2 dead letters will be delivered after all; 3 left alone, as their webhooks are not configured"
        );
    }
}
