//! What is lost when something breaks.

use std::{fmt, time::Duration};

use crate::{
    Outcome,
    costs::USERS,
    install::Tools,
    ledger::Fate,
    peer::Peer,
    receiver::Answer,
    stage::Stage,
    table::{Column, Metric},
};

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Amounts {
    /// Before, and after, the sockets drop.
    around_drop: usize,
    drop_pace: f64,
    /// How long the receiver is out of order, and how much is said meanwhile.
    outage: Duration,
    outage_pace: f64,
    /// Said at once, to be killed when a quarter was delivered.
    burst: usize,
}

impl Amounts {
    /// All of it, or what shows that it works.
    pub const fn new(quick: bool) -> Self {
        match quick {
            false => Self {
                around_drop: 1_000,
                drop_pace: 200.0,
                outage: Duration::from_secs(20),
                outage_pace: 100.0,
                burst: 10_000,
            },
            true => Self {
                around_drop: 300,
                drop_pace: 200.0,
                outage: Duration::from_secs(3),
                outage_pace: 100.0,
                burst: 2_000,
            },
        }
    }
}

/// Breaks everything that a peer depends on, and the peer.
pub async fn measure(
    tools: &Tools,
    amounts: crate::arguments::Amounts,
    column: &mut Column,
    say: &impl Fn(fmt::Arguments<'_>),
) {
    let (peer, amounts) = (column.peer(), amounts.losses);
    column.note_fate(Metric::Dropped, dropped(tools, peer, amounts).await, say);
    column.note_fate(Metric::Refused, refused(tools, peer, amounts).await, say);
    column.note_fate(Metric::Killed, killed(tools, peer, amounts).await, say);
}

/// Sockets end without a word; the platform goes on speaking, and takes new ones at once.
async fn dropped(tools: &Tools, peer: Peer, amounts: Amounts) -> Outcome<Fate> {
    let mut stage = warm(tools, peer).await?;
    stage.say_paced(amounts.around_drop, amounts.drop_pace).await?;
    stage.platform.drop_sockets();
    stage.say_paced(amounts.around_drop, amounts.drop_pace).await?;
    finished(stage).await
}

/// The receiver answers 503 for a while, in the middle of a steady stream.
async fn refused(tools: &Tools, peer: Peer, amounts: Amounts) -> Outcome<Fate> {
    let mut stage = warm(tools, peer).await?;
    let around = amounts.outage_pace as usize * 2;
    stage.say_paced(around, amounts.outage_pace).await?;
    stage.receiver.answer_with(Answer::Refuses);
    stage
        .say_paced((amounts.outage_pace * amounts.outage.as_secs_f64()) as usize, amounts.outage_pace)
        .await?;
    stage.receiver.answer_with(Answer::Takes);
    stage.say_paced(around, amounts.outage_pace).await?;
    finished(stage).await
}

/// A burst; the process is killed when a quarter of it was delivered, and started again. What had not
/// been said by then is said after that.
async fn killed(tools: &Tools, peer: Peer, amounts: Amounts) -> Outcome<Fate> {
    let mut stage = warm(tools, peer).await?;
    let quarter = stage.posts() + amounts.burst as u64 / 4;
    let said = stage.say_at_once(amounts.burst, |stage| stage.posts() >= quarter).await?;
    stage.receiver.received(quarter).await?;
    stage.kill().await?;
    stage.start_process().await?;
    stage.say_at_once(amounts.burst - said, |_| false).await?;
    finished(stage).await
}

/// A peer whose connections are open.
async fn warm(tools: &Tools, peer: Peer) -> Outcome<Stage<'_>> {
    let mut stage = Stage::start(peer, tools, USERS).await?;
    stage.say_at_once(USERS * 4, |_| false).await?;
    stage.receiver.received(USERS as u64 * 4).await?;
    stage.keep_books();
    Ok(stage)
}

async fn finished(mut stage: Stage<'_>) -> Outcome<Fate> {
    let fate = stage.settle().await?;
    stage.end().await?;
    Ok(fate)
}
