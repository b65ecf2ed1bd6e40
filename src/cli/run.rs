//! `rtm-bridge run`: the daemon.

use std::{path::Path, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use super::{CommandError, logs, settings};
use crate::{config::Config, daemon::Daemon};

/// How often the service manager is told how things are.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or Ctrl-C.
pub(super) fn run(file: &Path) -> Result<(), CommandError> {
    let (config, warnings) = settings::load(file)?;
    logs::start(&config.log);
    for warning in &warnings {
        // The level says that it is a warning.
        tracing::warn!("{}", warning.to_string().trim_start_matches("warning: "));
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    raise_descriptor_limit();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CommandError::failed)?;
    let outcome = runtime.block_on(serve(&config));
    // A lookup or a read that still hangs must not hold the exit.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve(config: &Config) -> Result<(), CommandError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(CommandError::failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CommandError::failed)?;
    let daemon = match Daemon::start(config).await {
        Ok(daemon) => daemon,
        Err(error) if error.needs_a_person() => return Err(CommandError::refused(format!("error: {error}"))),
        Err(error) => return Err(CommandError::failed(format!("error: {error}"))),
    };
    notify(&[NotifyState::Ready]);
    let failure = tokio::select! {
        failure = daemon.failed() => Some(failure),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        () = report(&daemon) => None,
    };
    notify(&[NotifyState::Stopping]);
    if let Some(failure) = &failure {
        tracing::error!(%failure, "the daemon can't go on");
    }
    daemon.shutdown().await;
    failure.map_or(Ok(()), |failure| Err(CommandError::failed(format!("error: {failure}"))))
}

/// Tells the service manager how things are, for `systemctl status`.
async fn report(daemon: &Daemon) {
    let mut every = tokio::time::interval(STATUS_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        notify(&[NotifyState::Status(&daemon.summary().to_string())]);
    }
}

/// Outside of systemd this does nothing.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager could not be told");
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
