//! Why no answer came, in plain words.

use std::{error::Error, fmt, io, time::Duration};

use url::Url;

use super::{
    client::{ClientError, Unresolved},
    visible,
};
use crate::unreachable::{causes, io_kind};

/// Why an attempt got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind of it.
    pub kind: FailureKind,
    /// What happened, for people: one line, without credentials, without control characters.
    pub text: String,
}

/// The kinds of failures without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The host's name can't be resolved.
    Dns,
    /// No TCP connection.
    Connect,
    /// No TLS, or not with these certificates.
    Tls,
    /// Nothing in time.
    Timeout,
    /// The connection ended before an answer.
    Reset,
    /// What came is not HTTP.
    Protocol,
    /// Nothing was sent: the webhook's template makes no body of the event.
    Template,
}

impl FailureKind {
    /// The kind in one word, for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::Template => "template",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "its host name can't be resolved",
            Self::Connect => "no connection",
            Self::Tls => "no TLS connection",
            Self::Timeout => "no answer in time",
            Self::Reset => "the connection ended before an answer",
            Self::Protocol => "its answer is not HTTP",
            Self::Template => "its template makes no body of the event",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Failure {
    /// The whole attempt took too long.
    pub(super) fn timeout(limit: Duration) -> Self {
        Self { kind: FailureKind::Timeout, text: format!("no answer within {limit:?}") }
    }

    /// What an error of the HTTP client means. Of the URL, only host and port are told.
    pub(super) fn explain(error: &ClientError, url: &Url, connect_limit: Duration) -> Self {
        let kind = kind_of(error);
        let host = url.host_str().unwrap_or_default();
        let place = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
        let root = causes(error).last().map(ToString::to_string).unwrap_or_default();
        let refused = io_kind(error) == Some(io::ErrorKind::ConnectionRefused);
        let text = match kind {
            FailureKind::Dns => format!("the host name {host} can't be resolved: {root}"),
            FailureKind::Connect if refused => {
                format!("{place} refuses connections: is the receiver running?")
            }
            FailureKind::Connect => format!("can't connect to {place}: {root}"),
            FailureKind::Tls => format!("no TLS connection with {place}: {root}"),
            FailureKind::Timeout => format!("no connection with {place} within {connect_limit:?}"),
            FailureKind::Reset => format!("{place} closed the connection before it answered"),
            // A client knows nothing of templates.
            FailureKind::Protocol | FailureKind::Template => {
                format!("{place} sent something that is not HTTP: {root}")
            }
        };
        Self { kind, text: visible(&text) }
    }
}

fn kind_of(error: &ClientError) -> FailureKind {
    let is_timeout = io_kind(error) == Some(io::ErrorKind::TimedOut);
    match error {
        ClientError::NotInTime => FailureKind::Timeout,
        _ if is_timeout => FailureKind::Timeout,
        _ if causes(error).any(<dyn Error>::is::<Unresolved>) => FailureKind::Dns,
        _ if causes(error).any(<dyn Error>::is::<rustls::Error>) => FailureKind::Tls,
        ClientError::NotConnected(_) => FailureKind::Connect,
        ClientError::Broken(cause) if was_cut_off(cause, error) => FailureKind::Reset,
        ClientError::Broken(_) => FailureKind::Protocol,
    }
}

/// Whether the connection ended where an answer should have begun.
fn was_cut_off(cause: &hyper::Error, error: &ClientError) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    cause.is_incomplete_message()
        || cause.is_canceled()
        || cause.is_closed()
        || matches!(
            io_kind(error),
            Some(BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
        )
}
