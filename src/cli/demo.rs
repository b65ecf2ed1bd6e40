//! `rtm-bridge demo`: the whole bridge in one process, telling a short story.

use std::{io::IsTerminal as _, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{CommandError, logs};
use crate::{
    config::{Log, LogFormat},
    demo::{self, Afterwards},
};

/// What a reader gets between two steps.
const PAUSE: Duration = Duration::from_millis(250);

/// Plays the script; stays up for curl unless it is to be played once only.
pub(super) fn demo(afterwards: Afterwards) -> Result<(), CommandError> {
    // The timeline is what there is to see. RUST_LOG brings the logs back.
    logs::start(&Log { level: "off".to_owned(), format: LogFormat::Terminal });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CommandError::failed)?;
    let pause = if std::io::stdout().is_terminal() { PAUSE } else { Duration::ZERO };
    let outcome = runtime.block_on(async {
        let interrupt = signal(SignalKind::interrupt()).map_err(CommandError::failed)?;
        let terminate = signal(SignalKind::terminate()).map_err(CommandError::failed)?;
        let played = demo::run(anstream::stdout(), afterwards, pause, either(interrupt, terminate)).await;
        played.map_err(|error| CommandError::failed(format_args!("error: {error}")))
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn either(mut one: Signal, mut other: Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
