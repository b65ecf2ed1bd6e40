//! Why deliveries to a webhook can't even begin.

use std::{io, path::PathBuf};

use crate::names::WebhookName;

/// A webhook's settings don't make a client.
#[derive(Debug, thiserror::Error)]
#[error("webhook {webhook}: {problem}")]
pub struct SenderError {
    /// Which webhook.
    pub webhook: WebhookName,
    /// What is wrong.
    #[source]
    pub problem: SenderProblem,
}

/// What is wrong with a webhook's settings. Values of headers and credentials are never shown.
#[derive(Debug, thiserror::Error)]
pub enum SenderProblem {
    /// A file can't be read.
    #[error("{key}: can't read {}: {source}", path.display())]
    Unreadable {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file doesn't hold what it should.
    #[error("{key}: {} holds no {expected} in PEM form", path.display())]
    NotPem {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// A URL that can't be requested.
    #[error("url: HTTP can't express it")]
    Url,
    /// A header that can't be sent.
    #[error("headers: {0:?} can't be sent: its name or its value has characters that HTTP forbids")]
    InvalidHeader(String),
    /// A header that is the bridge's own.
    #[error("headers: {0:?} is always set by the bridge itself; leave it out")]
    ReservedHeader(String),
    /// Two values for `Authorization`.
    #[error("headers: authorization beside bearer or basic_auth; keep one of them")]
    TwoAuthorizations,
    /// A credential that can't be sent.
    #[error("bearer: the token has characters that HTTP forbids in a header")]
    InvalidToken,
    /// TLS can't be set up.
    #[error("TLS can't be set up: {0}")]
    Tls(String),
}
