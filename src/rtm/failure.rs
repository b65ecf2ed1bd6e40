//! What can go wrong between a session and the platform, in classes that decide what happens next.

use std::{fmt, time::Duration};

use crate::unreachable::Unreachable;

/// A step of connecting, or of recovering what was missed, that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which step.
    pub step: Step,
    /// Its class.
    pub kind: FailureKind,
    /// How long the platform said to wait (`Retry-After`), whatever the class.
    pub retry_after: Option<Duration>,
    /// Why no connection came about, if it was that.
    pub unreachable: Option<Unreachable>,
    /// What was said or observed, in one printable line; may be empty. No secrets.
    detail: String,
}

/// A step of connecting or recovering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Making the assertion (JWT) that `jwtgrant` takes.
    Jwt,
    /// `jwtgrant`: the user's assertion for an access token.
    SignIn,
    /// `rtm/start`: the access token for a socket's URL.
    Start,
    /// The WebSocket handshake.
    Open,
    /// `botmessages/rtm`: a page of the user's history.
    History,
    /// BotKit's `getMessages`: the same, with the app's own token.
    BotkitHistory,
    /// `attachment/file/token`: leave to upload one file.
    FileToken,
    /// `attachment/file`: a file, a chunk of one, or the word that all its chunks are there.
    Upload,
    /// `attachment/.../url`: where an uploaded file is served.
    FileUrl,
    /// The public Conversation History API: the same, with the app's own token.
    Conversations,
    /// The customer's own token service (STS): an assertion.
    TokenService,
}

/// The class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The platform refuses the app's or the user's credentials.
    Unauthorized,
    /// The platform doesn't take the access token (any more).
    TokenRefused,
    /// Too many requests.
    RateLimited,
    /// The platform refuses the request: another 4xx, or a redirect.
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// The platform is in trouble.
    Server {
        /// The HTTP status.
        status: u16,
    },
    /// The platform can't be reached (name, TCP, TLS), or the connection broke.
    Network,
    /// No answer in time.
    Timeout,
    /// An answer that makes no sense, or one that must not be followed.
    Malformed,
    /// It can't work with this configuration, however often it is tried.
    Impossible,
}

impl Step {
    /// What may be wrong when the credentials are refused.
    const fn what_to_check(self) -> &'static str {
        match self {
            Self::TokenService => "check bearer, headers and fields of the bot's sts",
            Self::Conversations => {
                "grant the app the API scope \"Chat History\", and check the bot's client_id, client_secret and id"
            }
            _ => {
                "check the bot's client_id, client_secret, private_key or sts, its name and id, and this machine's clock"
            }
        }
    }
}

impl Failure {
    /// A failure with the platform's or the system's own words, made printable and short.
    pub fn new(step: Step, kind: FailureKind, detail: &str) -> Self {
        Self { step, kind, retry_after: None, unreachable: None, detail: printable(detail) }
    }

    /// The same, with what `Retry-After` said.
    pub fn retry_after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }

    /// The same, with why no connection came about.
    pub fn unreachable(self, unreachable: Option<Unreachable>) -> Self {
        Self { unreachable, ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.step {
            Step::Jwt => "making the assertion (JWT): ",
            Step::SignIn => "sign-in (jwtgrant): ",
            Step::Start => "asking for a socket (rtm/start): ",
            Step::Open => "opening the socket: ",
            Step::History => "reading the history (botmessages/rtm): ",
            Step::BotkitHistory => "reading the history (BotKit getMessages): ",
            Step::FileToken => "asking for leave to upload a file (attachment/file/token): ",
            Step::Upload => "uploading a file (attachment/file): ",
            Step::FileUrl => "asking for an uploaded file's URL (attachment/v2/stream): ",
            Step::Conversations => "reading the history (Conversation History API): ",
            Step::TokenService => "asking the token service (sts) for a JWT: ",
        })?;
        let whom = if self.step == Step::TokenService { "the token service" } else { "the platform" };
        match self.kind {
            FailureKind::Unauthorized => {
                write!(f, "{whom} refused the credentials ({})", self.step.what_to_check())?;
            }
            FailureKind::TokenRefused => f.write_str("the platform refused the access token")?,
            FailureKind::RateLimited => f.write_str("too many requests (429)")?,
            FailureKind::Refused { status } => write!(f, "{whom} refused the request ({status})")?,
            FailureKind::Server { status } => write!(f, "{whom} is in trouble ({status})")?,
            FailureKind::Network => write!(f, "{whom} can't be reached")?,
            FailureKind::Timeout => f.write_str("no answer in time")?,
            FailureKind::Malformed => f.write_str("the answer can't be used")?,
            FailureKind::Impossible => f.write_str("not possible as configured")?,
        }
        if let Some(wait) = self.retry_after {
            write!(f, ", to be tried again in {} s", wait.as_secs())?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Outside text as one short line that a terminal can't be fooled with.
pub fn printable(text: &str) -> String {
    const MOST: usize = 300;
    let mut line = String::new();
    for c in text.trim().chars() {
        if line.len() >= MOST {
            line.push('…');
            break;
        }
        if c.is_control() || is_invisible(c) { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// Characters that change how their neighbours are shown: directions, joiners, byte order marks.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_text_stays_on_its_line_and_short() {
        let failure = Failure::new(
            Step::Start,
            FailureKind::Refused { status: 404 },
            "gone\x1b[2J\r\nERROR forged\u{202e}",
        );
        assert_eq!(
            failure.to_string(),
            "asking for a socket (rtm/start): the platform refused the request (404): gone\\u{1b}[2J\\r\\nERROR forged\\u{202e}"
        );
        assert!(printable(&"x".repeat(5000)).len() < 310);
    }
}
