//! What was found, as tables and as a list of what to do. Eighty columns wide.

use std::{fmt::Write as _, time::Duration};

use anstyle::{AnsiColor, Style};

use super::{
    advice,
    online::{Findings, UserFinding, Way, WebhookFinding},
};
use crate::{
    cli::table::{Cell, Table},
    config::Config,
    rtm::probe::{End, Stage},
    webhook::{Leg, Outcome, visible},
};

const WIDTH: usize = 80;
/// A longer name is cut in the table; below it stands whole.
const LONGEST_NAME: usize = 26;
/// So many are named who have the same trouble.
const MOST_NAMED: usize = 6;

/// A failed step, with everybody whom it concerns.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    step: &'static str,
    who: Vec<String>,
    said: String,
    advice: String,
}

/// The findings in words, without any secret.
pub(super) fn report(config: &Config, findings: &Findings, post: bool) -> String {
    let mut shown = String::new();
    if !findings.users.is_empty() {
        let _ = write!(shown, "Signing in at {}\n\n{}\n\n", config.platform.url, users(findings));
    }
    if !findings.webhooks.is_empty() {
        let _ = write!(shown, "Webhooks\n\n{}\n\n", webhooks(findings, post));
    }
    let problems = problems(config, findings);
    if problems.is_empty() {
        shown.push_str(if findings.is_well() { "Everything works." } else { "Interrupted." });
        return shown;
    }
    let bold = Style::new().bold();
    let _ = write!(shown, "{bold}What to do{bold:#}");
    for Problem { step, who, said, advice } in &problems {
        let _ = write!(shown, "\n\n{}\n", wrapped(&format!("{step}: {}", named(who)), "", ""));
        if !said.is_empty() {
            let _ = writeln!(shown, "{}", wrapped(said, "  ", "  "));
        }
        shown.push_str(&wrapped(advice, "  -> ", "     "));
    }
    shown
}

fn users(findings: &Findings) -> Table<6> {
    let clock = match findings.clock_is_right() {
        None => Mark::Open,
        Some(true) => Mark::Well(String::new()),
        Some(false) => Mark::Failed,
    };
    let row = |user: &UserFinding| {
        let mark = |stage| stage_mark(user, stage).cell();
        [
            name(user.name.as_str()),
            clock.clone().cell(),
            mark(Stage::Jwt),
            mark(Stage::Grant),
            mark(Stage::Start),
            mark(Stage::Socket),
        ]
    };
    Table::new(["USER", "CLOCK", "JWT", "JWTGRANT", "RTM/START", "WEBSOCKET"], findings.users.iter().map(row))
}

fn stage_mark(user: &UserFinding, stage: Stage) -> Mark {
    let Some(walk) = &user.walk else { return Mark::Open };
    let took = walk.took.iter().find(|(done, _)| *done == stage);
    match (&walk.end, took) {
        (_, Some((_, took))) => Mark::Well(span(*took)),
        (End::Failed(failed, _), None) if *failed == stage => Mark::Failed,
        // Making the assertion takes no time of its own.
        (End::Well, None) => Mark::Well(String::new()),
        (End::Failed(failed, _), None) if *failed > stage => Mark::Well(String::new()),
        _ => Mark::Open,
    }
}

fn webhooks(findings: &Findings, post: bool) -> String {
    let row = |webhook: &WebhookFinding| {
        let leg = |leg| leg_mark(webhook, leg).cell();
        [name(webhook.name.as_str()), leg(Leg::Dns), leg(Leg::Tcp), leg(Leg::Tls), post_mark(webhook).cell()]
    };
    let rows = findings.webhooks.iter().map(row);
    if post {
        return Table::new(["WEBHOOK", "DNS", "TCP", "TLS", "POST"], rows).to_string();
    }
    let rows = rows.map(|[name, dns, tcp, tls, _]| [name, dns, tcp, tls]);
    Table::new(["WEBHOOK", "DNS", "TCP", "TLS"], rows).to_string()
}

fn leg_mark(webhook: &WebhookFinding, leg: Leg) -> Mark {
    let well = if leg == Leg::Tls && !webhook.is_encrypted { Mark::None } else { Mark::Well(String::new()) };
    match &webhook.way {
        Some(Way::Reached(_)) => well,
        Some(Way::Unreached(unreached)) if unreached.leg == leg => Mark::Failed,
        Some(Way::Unreached(unreached)) if unreached.leg > leg => well,
        _ => Mark::Open,
    }
}

fn post_mark(webhook: &WebhookFinding) -> Mark {
    match &webhook.way {
        Some(Way::Reached(Some(result))) => match (result.outcome, result.status) {
            (Outcome::Delivered, Some(status)) => Mark::Well(status.to_string()),
            _ => Mark::Failed,
        },
        _ => Mark::Open,
    }
}

/// What stands in a cell.
#[derive(Debug, Clone)]
enum Mark {
    Well(String),
    Failed,
    /// It was not tried.
    Open,
    /// There is no such step.
    None,
}

impl Mark {
    fn cell(self) -> Cell {
        match self {
            Self::Well(more) if more.is_empty() => Cell::text("ok").styled(AnsiColor::Green.on_default()),
            Self::Well(more) => Cell::text(&format!("ok {more}")).styled(AnsiColor::Green.on_default()),
            Self::Failed => Cell::text("FAILED").styled(AnsiColor::Red.on_default()),
            Self::Open => Cell::text("-"),
            Self::None => Cell::text("none"),
        }
    }
}

fn name(name: &str) -> Cell {
    if name.len() <= LONGEST_NAME {
        return Cell::text(name);
    }
    let start: String = name.chars().take(LONGEST_NAME - 1).collect();
    Cell::text(&format!("{start}…"))
}

/// `<1 ms`, `85 ms`, `1.2 s`, `12 s`.
fn span(span: Duration) -> String {
    match span.as_millis() {
        0 => "<1 ms".to_owned(),
        millis @ 1..1_000 => format!("{millis} ms"),
        millis @ 1_000..10_000 => format!("{}.{} s", millis / 1_000, millis / 100 % 10),
        millis => format!("{} s", millis / 1_000),
    }
}

/// Every failed step, those with the same cause and the same advice together.
fn problems(config: &Config, findings: &Findings) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    let mut add = |step, who: &str, said: String, advice: String| match problems
        .iter_mut()
        .find(|p| p.step == step && p.said == said && p.advice == advice)
    {
        Some(problem) => problem.who.push(who.to_owned()),
        None => problems.push(Problem { step, who: vec![who.to_owned()], said, advice }),
    };
    if let (Some(false), Some(skew)) = (findings.clock_is_right(), findings.skew) {
        let (said, advice) = advice::clock(skew);
        add("Clock", "this machine", said, advice);
    }
    for user in &findings.users {
        let Some(walk) = &user.walk else { continue };
        match &walk.end {
            End::Well => {}
            End::Failed(stage, trouble) => {
                let advice = advice::sign_in(config, &user.bot, trouble, findings.skew);
                add(stage_name(*stage), user.name.as_str(), trouble.to_string(), advice);
            }
            End::Spared(why) => {
                let (said, advice) = advice::spared(*why);
                add("Not tried", user.name.as_str(), said.to_owned(), advice.to_owned());
            }
        }
    }
    for webhook in &findings.webhooks {
        let name = webhook.name.as_str();
        match &webhook.way {
            None | Some(Way::Reached(None)) => {}
            Some(Way::Unusable(why)) => {
                add("Settings", name, why.clone(), advice::unusable(&webhook.name));
            }
            Some(Way::Unreached(unreached)) => {
                let advice = advice::webhook(config, &webhook.name, unreached);
                add(leg_name(unreached.leg), name, unreached.to_string(), advice);
            }
            Some(Way::Reached(Some(result))) => {
                if let Some(advice) = advice::post(config, &webhook.name, result) {
                    add("POST", name, result.summary(), advice);
                }
            }
        }
    }
    problems
}

const fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Jwt => "JWT",
        Stage::Grant => "jwtgrant",
        Stage::Start => "rtm/start",
        Stage::Socket => "WebSocket",
    }
}

const fn leg_name(leg: Leg) -> &'static str {
    match leg {
        Leg::Dns => "DNS",
        Leg::Tcp => "TCP",
        Leg::Tls => "TLS",
    }
}

fn named(who: &[String]) -> String {
    match who.len().checked_sub(MOST_NAMED) {
        None | Some(0) => who.join(", "),
        Some(more) => format!("{} and {more} more", who[..MOST_NAMED].join(", ")),
    }
}

/// Text in lines of [`WIDTH`] columns at most, unless a word is longer; what came from outside is shown
/// with its control characters escaped.
fn wrapped(text: &str, first: &str, next: &str) -> String {
    let mut lines = Vec::new();
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in visible(text).split(' ') {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::replace(&mut line, next.to_owned()));
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    lines.push(line);
    lines.join("\n")
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
