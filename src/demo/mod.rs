//! The whole bridge in one process, telling a short story: a platform stand-in, the daemon, a
//! webhook receiver, and a conversation between them with every mishap that the bridge is made for.
//!
//! ```text
//! stage     the parts, as they are wired up        script    what happens, step by step
//! timeline  how it looks                           ledger    what was lost or came twice
//! live      before and after the script            scratch   a store that is gone afterwards
//! ```
//!
//! Nothing is staged but the faults: every line shows what a part really saw, and every step fails
//! when it is not what it must be.

mod ledger;
mod live;
mod scratch;
mod script;
mod stage;
mod timeline;

use std::{io, io::Write, time::Duration};

pub use ledger::{Ledger, Tally};
pub use script::{ScriptError, Step, play};
pub use stage::{Ports, Stage, StageError, StageOptions};
pub use timeline::Timeline;

use crate::daemon::Failure;

/// What comes after the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// Everything ends.
    End,
    /// Everything stays up, for curl, until it is interrupted.
    StayUp,
}

/// Why a demo ended badly.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A part didn't start.
    #[error("the demo can't start: {0}")]
    Stage(#[from] StageError),
    /// A step failed.
    #[error(transparent)]
    Script(ScriptError),
    /// The daemon ended by itself.
    #[error("the bridge can't go on: {0}")]
    Daemon(#[from] Failure),
    /// Somebody stopped it before the script was over.
    #[error("interrupted before the script was over")]
    Interrupted,
    /// Nobody reads.
    #[error("the timeline can't be written: {0}")]
    Output(#[from] io::Error),
}

impl From<ScriptError> for DemoError {
    fn from(error: ScriptError) -> Self {
        error.into_output_error().map_or_else(Self::Script, Self::Output)
    }
}

/// Plays the script, and perhaps stays up, until `interrupted` comes.
///
/// `pause` is waited between two steps, for readers.
pub async fn run<W: Write>(
    out: W,
    afterwards: Afterwards,
    pause: Duration,
    interrupted: impl Future<Output = ()>,
) -> Result<(), DemoError> {
    let mut stage = Stage::start(StageOptions::default()).await?;
    let mut timeline = Timeline::new(out, pause);
    live::introduce(&stage, &mut timeline)?;
    tokio::pin!(interrupted);
    let played = tokio::select! {
        played = play(&mut stage, &mut timeline) => played.map_err(DemoError::from),
        () = &mut interrupted => Err(DemoError::Interrupted),
    };
    let outcome = match played {
        Ok(_) => conclude(&stage, &mut timeline, afterwards, interrupted).await,
        Err(error) => Err(error),
    };
    stage.close().await;
    outcome
}

async fn conclude<W: Write>(
    stage: &Stage,
    timeline: &mut Timeline<W>,
    afterwards: Afterwards,
    interrupted: impl Future<Output = ()>,
) -> Result<(), DemoError> {
    live::summarize(timeline)?;
    match afterwards {
        Afterwards::End => Ok(live::what_next(timeline)?),
        Afterwards::StayUp => live::stay_up(stage, timeline, interrupted).await,
    }
}
