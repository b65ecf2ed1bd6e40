//! Where log lines go.

use std::io::IsTerminal as _;

use tracing_subscriber::{Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{Log, LogFormat, log_filter};

/// Starts logging: to the journal under systemd, else lines to stderr. `RUST_LOG` overrides the level.
pub(super) fn start(log: &Log) {
    let asked = std::env::var("RUST_LOG").ok().filter(|text| !text.trim().is_empty());
    let from_environment = asked.as_deref().map(log_filter);
    let is_understood = from_environment != Some(None);
    let filter = from_environment.flatten().or_else(|| log_filter(&log.level)).unwrap_or_default();
    let layer = match log.format {
        LogFormat::Auto if is_journal() => journal().unwrap_or_else(terminal),
        LogFormat::Journald => journal().unwrap_or_else(terminal),
        LogFormat::Auto | LogFormat::Terminal => terminal(),
        LogFormat::Json => tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr).boxed(),
    };
    // A second start (a test in this process) keeps the first.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
    if !is_understood {
        tracing::warn!(
            "RUST_LOG is not understood, the configured level is used: give a level or `target=level`, several with commas between"
        );
    }
}

type Layer = Box<dyn tracing_subscriber::Layer<tracing_subscriber::Registry> + Send + Sync>;

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
