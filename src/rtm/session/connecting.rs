//! From nothing to an open socket: an access token, a URL, a socket. A user's first socket comes about
//! in this way, and each that replaces one.

use std::time::Duration;

use tokio::time::Instant;

use super::{Action, End, Grant, Line, Link, NOTE_ALIVE_EVERY, Phase, Session, SocketUrl};
use crate::{
    clock::{Now, Timestamp},
    rtm::{
        failure::{Failure, FailureKind, Step},
        token::Skew,
    },
    store::{Access, ConnectHistory},
    users::ConnectionState,
};

/// A URL this old isn't opened any more; the platform takes it for 30 s.
const URL_GOOD_FOR: Duration = Duration::from_secs(25);
/// A token is not used for its last minute.
const TOKEN_MARGIN: Duration = Duration::from_secs(60);

/// How far a try to open a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Approach {
    /// A token was asked for.
    SigningIn,
    /// A URL was asked for.
    Starting { token: TokenAge, url: UrlTry },
    /// The socket is being opened.
    Opening,
}

/// Whether the token in use was granted for this very try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenAge {
    Fresh,
    Remembered,
}

/// Whether the URL that is awaited is the first of this try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UrlTry {
    First,
    /// The first was too old when it was to be used.
    Second,
}

impl Session {
    /// Begins a try.
    pub(super) fn connect(&mut self, now: Now, out: &mut Vec<Action>) {
        self.status.attempts = self.status.attempts.saturating_add(1);
        self.set_state(ConnectionState::Connecting, now, out);
        let access = self.usable_access(now.wall).cloned();
        self.phase = Phase::Connecting(approach(access.as_ref(), out));
    }

    pub(super) fn usable_access(&self, now: Timestamp) -> Option<&Access> {
        self.memory.access.as_ref().filter(|access| access.expires_at > now.plus(TOKEN_MARGIN))
    }

    /// The try that is under way: for a first socket, or for one beside it.
    fn approach_mut(&mut self) -> Option<&mut Approach> {
        match &mut self.phase {
            Phase::Connecting(approach) => Some(approach),
            Phase::Open(_) => self.renewal.approach_mut(),
            Phase::Idle | Phase::Waiting(_) | Phase::Stopped => None,
        }
    }

    /// Takes the try on, if it is where this is awaited.
    fn advance(&mut self, from: impl FnOnce(Approach) -> bool, to: Approach) -> bool {
        match self.approach_mut() {
            Some(approach) if from(*approach) => {
                *approach = to;
                true
            }
            _ => false,
        }
    }

    /// The try failed.
    fn failed(&mut self, failure: Failure, now: Now, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Open(_) => self.renewal_failed(&failure, now, out),
            _ => self.disconnect(End::Failed(failure), now, out),
        }
    }

    pub(super) fn granted(&mut self, grant: Grant, out: &mut Vec<Action>) {
        let starting = Approach::Starting { token: TokenAge::Fresh, url: UrlTry::First };
        if !self.advance(|approach| approach == Approach::SigningIn, starting) {
            return;
        }
        out.push(Action::Remember);
        // However soon it expires: it was granted a moment ago, so it is tried.
        out.push(Action::RequestUrl { token: grant.access.token.clone() });
        self.remember(grant);
    }

    pub(super) fn remember(&mut self, Grant { access, platform_user_id }: Grant) {
        self.memory.access = Some(access);
        self.memory.platform_user_id = platform_user_id.or(self.memory.platform_user_id.take());
    }

    pub(super) fn grant_failed(&mut self, failure: Failure, now: Now, out: &mut Vec<Action>) {
        if self.approach_mut().copied() == Some(Approach::SigningIn) {
            self.failed(failure, now, out);
        }
    }

    pub(super) fn start_failed(&mut self, failure: Failure, now: Now, out: &mut Vec<Action>) {
        let Some(Approach::Starting { token, .. }) = self.approach_mut().copied() else { return };
        if failure.kind == FailureKind::TokenRefused {
            self.memory.access = None;
            out.push(Action::Remember);
            if token == TokenAge::Remembered {
                self.advance(|_| true, approach(None, out));
                return;
            }
        }
        self.failed(failure, now, out);
    }

    pub(super) fn url_issued(&mut self, url: SocketUrl, at: Instant, now: Now, out: &mut Vec<Action>) {
        let Some(Approach::Starting { token, url: tried }) = self.approach_mut().copied() else { return };
        let by = at + URL_GOOD_FOR;
        if now.mono < by {
            let query = match self.memory.history {
                ConnectHistory::Never => None,
                ConnectHistory::Before => Some(self.settings.reconnect_query),
            };
            let line = if matches!(self.phase, Phase::Open(_)) { Line::Beside } else { Line::Main };
            out.push(Action::Open { line, url, query, by });
            self.advance(|_| true, Approach::Opening);
            return;
        }
        match (tried, &self.memory.access) {
            (UrlTry::First, Some(access)) => {
                out.push(Action::RequestUrl { token: access.token.clone() });
                self.advance(|_| true, Approach::Starting { token, url: UrlTry::Second });
            }
            _ => {
                let words = "the URL was too old before it could be used";
                self.failed(Failure::new(Step::Start, FailureKind::Timeout, words), now, out);
            }
        }
    }

    pub(super) fn open_failed(&mut self, failure: Failure, now: Now, out: &mut Vec<Action>) {
        if self.approach_mut().copied() == Some(Approach::Opening) {
            self.failed(failure, now, out);
        }
    }

    pub(super) fn opened(&mut self, skew: Skew, now: Now, out: &mut Vec<Action>) {
        if self.approach_mut().copied() != Some(Approach::Opening) {
            return;
        }
        self.skew = skew;
        if matches!(self.phase, Phase::Open(_)) {
            return self.successor_opened(now, out);
        }
        self.phase = Phase::Open(Link::new(now.mono));
        self.note_alive_at = Some(now.mono + NOTE_ALIVE_EVERY);
        self.plan_renewal(now);
        self.set_state(ConnectionState::Connected, now, out);
        if self.memory.seen.is_some() {
            self.recover(now, out);
        } else {
            self.memory.begin(skew.to_platform(now.wall));
            out.push(Action::Remember);
        }
        self.pump(now, out);
    }
}

/// The first step to a socket: with a token that may be used, if there is one.
pub(super) fn approach(access: Option<&Access>, out: &mut Vec<Action>) -> Approach {
    match access {
        Some(access) => {
            out.push(Action::RequestUrl { token: access.token.clone() });
            Approach::Starting { token: TokenAge::Remembered, url: UrlTry::First }
        }
        None => {
            out.push(Action::RequestToken);
            Approach::SigningIn
        }
    }
}
