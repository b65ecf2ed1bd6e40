//! The service manager: what it is told, and what it gives.
//!
//! Without one (no `NOTIFY_SOCKET`, no `LISTEN_FDS`), all of this does nothing.

use std::{
    env,
    net::TcpListener,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use listenfd::ListenFd;
use sd_notify::NotifyState;

use super::CommandError;
use crate::{
    daemon::{Daemon, Listeners},
    ops::Progress,
};

/// How often the service manager is told how things are.
const STATUS_EVERY: Duration = Duration::from_secs(10);
/// How often it is asked for more time, and for how much.
const EXTEND_EVERY: Duration = Duration::from_secs(5);
const EXTEND_BY: Duration = Duration::from_secs(15);

/// What is to be said beside the daemon's numbers.
#[derive(Debug, Default)]
pub(super) struct Notice(Mutex<Option<String>>);

impl Notice {
    /// Says this from now on, or nothing more.
    pub(super) fn set(&self, notice: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = notice;
    }

    fn status(&self, daemon: &Daemon) -> String {
        let summary = daemon.summary();
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(notice) => format!("{summary} ({notice})"),
            None => summary.to_string(),
        }
    }
}

/// The sockets that it opened: `api` and `ops`, by the names that their units give them.
pub(super) fn listeners() -> Result<Listeners, CommandError> {
    // Taking up the sockets takes the variables out of the environment.
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut fds = ListenFd::from_env();
    let names: Vec<_> = names.split(':').collect();
    let mut listeners = Listeners::default();
    for index in 0..fds.len() {
        let name = names.get(index).copied().unwrap_or_default();
        let unusable = |why: &str| {
            CommandError::refused(format!(
                "error: the service manager passes a socket {name:?}, {why}; see FileDescriptorName= and ListenStream= in its socket unit"
            ))
        };
        let place = match name {
            "api" => &mut listeners.api,
            "ops" => &mut listeners.ops,
            _ => return Err(unusable("but only `api` and `ops` are known")),
        };
        let socket: Option<TcpListener> = fds
            .take_tcp_listener(index)
            .map_err(|error| unusable(&format!("which is no TCP listener: {error}")))?;
        if place.is_some() {
            return Err(unusable("and another one of this name"));
        }
        *place = socket;
    }
    Ok(listeners)
}

/// The daemon is up.
pub(super) fn ready(daemon: &Daemon, notice: &Notice) {
    notify(&[NotifyState::Ready, NotifyState::Status(&notice.status(daemon))]);
}

/// A reload began; [`ready`] says that it is over.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "there is no monotonic clock to tell"),
    }
}

/// Says how things are, for `systemctl status`, and serves the watchdog while there is progress.
pub(super) async fn report(daemon: &Daemon, notice: &Notice) {
    // Twice in the time that the service manager waits, at least.
    let watchdog = sd_notify::watchdog_enabled();
    let mut every = tokio::time::interval(watchdog.map_or(STATUS_EVERY, |limit| STATUS_EVERY.min(limit / 3)));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let status = notice.status(daemon);
        let mut states = vec![NotifyState::Status(&status)];
        if watchdog.is_some() && daemon.progress() == Progress::Moving {
            states.push(NotifyState::Watchdog);
        }
        notify(&states);
    }
}

/// Tells of the end, and asks for time while `ending` needs it.
pub(super) async fn stopping(ending: impl Future<Output = ()>) {
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping: finishing what is under way")]);
    let extend = || {
        notify(&[NotifyState::ExtendTimeoutUsec(EXTEND_BY.as_micros() as u32), NotifyState::Watchdog]);
    };
    asking_for_time(extend, ending).await;
}

/// Asks before `ending` begins, however short that turns out to be, and again and again while it lasts.
async fn asking_for_time(mut ask: impl FnMut(), ending: impl Future<Output = ()>) {
    ask();
    let asking = async {
        loop {
            tokio::time::sleep(EXTEND_EVERY).await;
            ask();
        }
    };
    tokio::select! {
        () = ending => {}
        () = asking => {}
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often time is asked for by an end that takes so long.
    async fn asked_within(ending: Duration) -> u32 {
        let mut asked = 0;
        asking_for_time(|| asked += 1, tokio::time::sleep(ending)).await;
        asked
    }

    #[tokio::test(start_paused = true)]
    async fn time_is_asked_for_at_once_and_for_as_long_as_the_end_takes() {
        assert_eq!(asked_within(Duration::ZERO).await, 1);
        assert_eq!(asked_within(EXTEND_EVERY / 2).await, 1);
        assert_eq!(asked_within(EXTEND_EVERY * 5 / 2).await, 3);
    }
}
