//! Where log lines go.

use std::io::IsTerminal as _;

use tracing_subscriber::{
    Layer as _, Registry,
    filter::{FilterExt as _, Targets},
    layer::SubscriberExt as _,
    reload,
    util::SubscriberInitExt as _,
};

use super::repeats::Repeats;
use crate::config::{Log, LogFormat, log_filter};

/// The running log.
#[derive(Debug)]
pub(super) struct Logs {
    filter: reload::Handle<Targets, Registry>,
    /// What is left out of the log, to be told.
    pub(super) repeats: &'static Repeats,
}

/// Starts logging: to the journal under systemd, else lines to stderr. `RUST_LOG` overrides the level.
pub(super) fn start(log: &Log) -> Logs {
    let layer = match log.format {
        LogFormat::Auto if is_journal() => journal().unwrap_or_else(terminal),
        LogFormat::Journald => journal().unwrap_or_else(terminal),
        LogFormat::Auto | LogFormat::Terminal => terminal(),
        LogFormat::Json => tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr).boxed(),
    };
    let (filter, handle) = reload::Layer::new(filter(log));
    // As long as the process, as the log itself.
    let repeats: &'static Repeats = Box::leak(Box::default());
    // A second start (a test in this process) keeps the first.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter.and(repeats))).try_init();
    if from_environment() == Some(None) {
        tracing::warn!(
            "RUST_LOG is not understood, the configured level is used: give a level or `target=level`, several with commas between"
        );
    }
    Logs { filter: handle, repeats }
}

impl Logs {
    /// Goes by another level from now on.
    pub(super) fn reload(&self, log: &Log) {
        if let Err(error) = self.filter.reload(filter(log)) {
            tracing::warn!(%error, "the log's level could not be changed");
        }
    }
}

fn filter(log: &Log) -> Targets {
    from_environment().flatten().or_else(|| log_filter(&log.level)).unwrap_or_default()
}

/// What `RUST_LOG` asks for, if it is set, and if it can be understood.
fn from_environment() -> Option<Option<Targets>> {
    let asked = std::env::var("RUST_LOG").ok().filter(|text| !text.trim().is_empty());
    asked.as_deref().map(log_filter)
}

type Layer = Box<dyn tracing_subscriber::Layer<Registry> + Send + Sync>;

/// systemd tells so when stderr is the journal.
fn is_journal() -> bool {
    std::env::var_os("JOURNAL_STREAM").is_some()
}

fn journal() -> Option<Layer> {
    tracing_journald::layer().ok().map(tracing_subscriber::Layer::boxed)
}

fn terminal() -> Layer {
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .boxed()
}
