//! Before and after the script: who takes part, what to try, and events as they come.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use tokio::sync::broadcast::error::RecvError;

use super::{
    DemoError,
    script::Step,
    stage::{Stage, USER},
    timeline::{Party, Timeline},
};
use crate::{
    receiver::{ReceivedEvent, Verdict},
    sandbox::COMMANDS,
};

/// Who takes part, and where.
pub(super) fn introduce<W: Write>(stage: &Stage, timeline: &mut Timeline<W>) -> io::Result<()> {
    let at = |address: SocketAddr| format!("http://{address}");
    let parties = [
        (Party::You, "an HTTP client".to_owned(), "writes for the user alice"),
        (Party::Bridge, at(stage.api_address()), "the daemon, on a store of its own"),
        (Party::Platform, at(stage.platform_address()), "a stand-in for Kore.ai"),
        (Party::Crm, at(stage.receiver().address()), "a webhook receiver"),
    ];
    timeline.line("rtm-bridge demo: a short conversation, with mishaps\n")?;
    for (party, place, role) in parties {
        timeline.line(format_args!("    {party:<8}  {place:<22}  {role}"))?;
    }
    Ok(())
}

/// How it went.
pub(super) fn summarize<W: Write>(timeline: &mut Timeline<W>) -> io::Result<()> {
    let (steps, took) = (Step::ALL.len(), timeline.age().as_secs_f64());
    timeline.headline(format_args!("{steps} steps, all fine, in {took:.1} s. Nothing lost, nothing twice."))
}

/// How to go on from here.
pub(super) fn what_next<W: Write>(timeline: &mut Timeline<W>) -> io::Result<()> {
    timeline.headline("What next")?;
    timeline.line("    rtm-bridge demo     the same, and then it stays up for curl")?;
    timeline.line("    rtm-bridge check    is your own bridge.toml right?")?;
    timeline.line("    rtm-bridge          run it (README.md, \"Connect your bot\")")
}

/// Shows events as they come until it is interrupted.
pub(super) async fn stay_up<W: Write>(
    stage: &Stage,
    timeline: &mut Timeline<W>,
    interrupted: impl Future<Output = ()>,
) -> Result<(), DemoError> {
    let mut events = stage.receiver().subscribe();
    invite(stage, timeline)?;
    tokio::pin!(interrupted);
    loop {
        tokio::select! {
            () = &mut interrupted => break,
            failure = stage.bridge_failed() => return Err(failure.into()),
            event = events.recv() => match event {
                Ok(event) => timeline.hop(event.at, Party::Bridge, Party::Crm, words_of(&event))?,
                Err(RecvError::Lagged(missed)) => timeline.cross(format_args!("{missed} events not shown"))?,
                Err(RecvError::Closed) => break,
            },
        }
    }
    Ok(timeline.line("\nStopped; the demo's store is gone.")?)
}

fn invite<W: Write>(stage: &Stage, timeline: &mut Timeline<W>) -> io::Result<()> {
    let (api, ops, path) = (stage.api_address(), stage.ops_address(), Stage::messages_path());
    timeline.headline("Your turn, in another terminal")?;
    timeline.line(format_args!("    curl http://{api}{path} -d text=hello"))?;
    timeline.line(format_args!("    curl 'http://{api}{path}?wait=reply' -d text=twice"))?;
    timeline.line(format_args!("    curl http://{api}/v1/users/{USER}"))?;
    timeline.line(format_args!("    curl http://{ops}/readyz"))?;
    timeline.line(format_args!("\nIn a browser, the status page: http://{ops}/"))?;
    timeline.line("\nThe stand-in's bot echoes a text; some do more:")?;
    for (command, meaning) in COMMANDS {
        timeline.line(format_args!("    {command:<9} {meaning}"))?;
    }
    timeline.line("\nYour own bot: README.md, \"Connect your bot\". Ctrl-C ends this.\n\nEvents, as the crm gets them:\n")
}

/// What, whose words, whether it is genuine, and how it was answered if not with a 2xx.
fn words_of(event: &ReceivedEvent) -> String {
    let signature = match event.signature {
        Verdict::Verified => "✓".to_owned(),
        other => other.to_string(),
    };
    let answered = match event.answered {
        200..300 => String::new(),
        status => format!(" → {status}"),
    };
    let text = event.text.as_deref().unwrap_or_default();
    format!("{signature}{answered} {} \"{text}\"", event.event_type)
}
