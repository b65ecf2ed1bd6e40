//! `rtm-bridge run`: the daemon.

use std::{path::Path, time::Duration};

use futures_util::TryFutureExt as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    CommandError,
    logs::{self, Logs},
    repeats,
    service::{self, Notice},
    settings,
};
use crate::{
    config::{Config, ProcessEnvironment, Warning},
    daemon::{Daemon, Listeners},
};

/// How long after a first look the configuration is looked at again, where something is missing in it.
const REREAD_AFTER: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or Ctrl-C.
pub(super) fn run(file: &Path) -> Result<(), CommandError> {
    crate::allocator::bound_arenas();
    let (config, warnings) = settings::load(file)?;
    let listeners = service::listeners()?;
    let logs = logs::start(&config.log);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %file.display(), "starting");
    warn(&warnings);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    raise_descriptor_limit();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CommandError::failed)?;
    let outcome = runtime.block_on(serve(file, &config, listeners, &logs));
    // A lookup or a read that still hangs must not hold the exit.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve(file: &Path, config: &Config, listeners: Listeners, logs: &Logs) -> Result<(), CommandError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(CommandError::failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CommandError::failed)?;
    // From here on it no longer ends the process: one that comes during the start is seen to afterwards.
    let hangup = signal(SignalKind::hangup()).map_err(CommandError::failed)?;
    #[cfg(feature = "otlp")]
    crate::spans::start().map_err(|error| CommandError::refused(format!("error: {error}")))?;
    let daemon = match Daemon::start_on(listeners, config).await {
        Ok(daemon) => daemon,
        Err(error) if error.needs_a_person() => return Err(CommandError::refused(format!("error: {error}"))),
        Err(error) => return Err(CommandError::failed(format!("error: {error}"))),
    };
    let notice = Notice::default();
    service::ready(&daemon, &notice);
    let failure = tokio::select! {
        failure = daemon.failed() => Some(failure),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        () = service::report(&daemon, &notice) => None,
        () = reloads(hangup, file, &daemon, logs, &notice) => None,
        () = logs.repeats.keep_telling() => None,
    };
    if let Some(failure) = &failure {
        tracing::error!(%failure, "the daemon can't go on");
    }
    service::stopping(daemon.shutdown()).await;
    #[cfg(feature = "otlp")]
    let _ = tokio::task::spawn_blocking(crate::spans::finish).await;
    logs.repeats.tell(std::time::Instant::now() + repeats::WINDOW);
    failure.map_or(Ok(()), |failure| Err(CommandError::failed(format!("error: {failure}"))))
}

/// Reloads whenever it is asked for; what is asked for meanwhile comes next.
async fn reloads(mut hangup: Signal, file: &Path, daemon: &Daemon, logs: &Logs, notice: &Notice) {
    while hangup.recv().await.is_some() {
        service::reloading();
        notice.set(reload(file, daemon, logs).await.err());
        service::ready(daemon, notice);
    }
}

/// Reads the configuration again and applies it; else says why not, and in short what to tell on.
async fn reload(file: &Path, daemon: &Daemon, logs: &Logs) -> Result<(), String> {
    let load = || {
        let path = file.to_owned();
        let loading = tokio::task::spawn_blocking(move || Config::load(&path, &ProcessEnvironment));
        loading.map_err(|panic| panic.to_string())
    };
    let loaded =
        settled(load, |read| matches!(read, Ok(Ok((config, _))) if daemon.would_remove(config))).await;
    let (config, warnings) = match loaded {
        Ok(Ok(loaded)) => loaded,
        Ok(Err(errors)) => {
            for error in &errors {
                let line = error.position.map(|position| position.line);
                tracing::error!(file = %error.file.display(), line, key = error.key, "{}", error.to_string().trim_start_matches("error: "));
            }
            let count = errors.iter().count();
            tracing::error!(errors = count, "the configuration was not reloaded, and nothing changed");
            return Err("the configuration has errors and was not reloaded: see the log".to_owned());
        }
        Err(panic) => {
            tracing::error!(error = %panic, "the configuration was not reloaded, and nothing changed");
            return Err("the configuration could not be read: see the log".to_owned());
        }
    };
    warn(&warnings);
    match daemon.reload(&config).await {
        Ok(reloaded) => {
            logs.reload(&config.log);
            tracing::info!(reconnected = reloaded.reconnected, "reloaded: {reloaded}");
            Ok(())
        }
        Err(error) => {
            tracing::error!(%error, "the configuration was not reloaded, and nothing changed");
            Err("the configuration can't be applied and was not reloaded: see the log".to_owned())
        }
    }
}

/// Reads, and reads again what would take something away until it is the same twice: a file that is just being
/// written may be one with less in it for a moment.
async fn settled<T: PartialEq, F: Future<Output = T>>(
    mut read: impl FnMut() -> F,
    takes_away: impl Fn(&T) -> bool,
) -> T {
    let mut seen = read().await;
    while takes_away(&seen) {
        tokio::time::sleep(REREAD_AFTER).await;
        let again = read().await;
        if again == seen {
            break;
        }
        seen = again;
    }
    seen
}

fn warn(warnings: &[Warning]) {
    for warning in warnings {
        // The level says that it is a warning.
        tracing::warn!("{}", warning.to_string().trim_start_matches("warning: "));
    }
}

/// A connection costs a descriptor: takes all that the system allows.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit of open files could not be raised");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What came of reads that see these, one after the other, of which those below 10 lack something.
    async fn settled_on(seen: &[u32]) -> (u32, usize) {
        let mut reads = 0;
        let read = || {
            reads += 1;
            std::future::ready(seen[reads - 1])
        };
        (settled(read, |seen| *seen < 10).await, reads)
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_something_away_must_be_read_twice() {
        assert_eq!(settled_on(&[10]).await, (10, 1), "nothing is missing");
        assert_eq!(settled_on(&[1, 1]).await, (1, 2), "it is meant so");
        assert_eq!(settled_on(&[1, 2, 3, 3]).await, (3, 4), "it was being written");
        assert_eq!(settled_on(&[1, 10]).await, (10, 2), "it was being written, and lacks nothing");
    }
}
