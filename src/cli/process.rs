//! Running a command's work, and ending it on request.

use std::{io, pin::Pin, time::Duration};

use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};

use super::CommandError;

/// How long a name lookup that still hangs may hold the exit.
const SHUTDOWN_LIMIT: Duration = Duration::from_millis(200);

/// How many threads share a command's work.
#[derive(Debug, Clone, Copy)]
pub(super) enum Threads {
    /// This one.
    One,
    /// One for each core.
    Many,
}

/// Runs a command's work to its end.
pub(super) fn block_on<T>(
    threads: Threads,
    work: impl Future<Output = Result<T, CommandError>>,
) -> Result<T, CommandError> {
    let mut builder = match threads {
        Threads::One => Builder::new_current_thread(),
        Threads::Many => Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build().map_err(|error| cannot_start(&error))?;
    // In a box: the runtime is in the program once for each type of work that it runs.
    let work: Pin<Box<dyn Future<Output = _>>> = Box::pin(work);
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(SHUTDOWN_LIMIT);
    outcome
}

/// Ctrl-C or SIGTERM.
#[derive(Debug)]
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// From now on, the signals don't end the process by themselves.
    pub(super) fn listen() -> Result<Self, CommandError> {
        let of_kind = |kind| signal(kind).map_err(|error| cannot_start(&error));
        Ok(Self {
            interrupt: of_kind(SignalKind::interrupt())?,
            terminate: of_kind(SignalKind::terminate())?,
        })
    }

    /// Waits for either.
    pub(super) async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn cannot_start(error: &io::Error) -> CommandError {
    CommandError::Failed(format!("error: can't start: {error}"))
}
