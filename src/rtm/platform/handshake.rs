//! The secure RTM handshake: what rtm/start is asked with, and what the socket is opened with.
//!
//! A platform that knows it answers `x-rtm-v: 1` with a nonce; the socket's handshake repeats that, with an
//! assertion, as subprotocols, of which the platform chooses one.

use reqwest::header::HeaderValue;
use serde_json::Value;

use super::Platform;
use crate::{
    config::{Bot, Secret},
    rtm::{
        failure::{Failure, FailureKind, Step},
        session::SocketUrl,
        subject::Subject,
    },
};

/// The header that asks for it.
pub(super) const ASK: &str = "x-rtm-v";
/// Which version of it.
pub(super) const VERSION: &str = "1";

/// What a nonce may be: one subprotocol's text, in a list with commas.
fn is_nonce(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b',';
    (1..=1024).contains(&text.len()) && text.bytes().all(fits)
}

/// The nonce of an rtm/start's answer.
pub(super) fn read_nonce(nonce: &Value) -> Result<Secret, Failure> {
    let failed = |kind, words| Err(Failure::new(Step::Start, kind, words));
    match nonce {
        Value::String(nonce) if is_nonce(nonce) => Ok(Secret::new(nonce.as_str())),
        Value::Null => failed(
            FailureKind::Impossible,
            "the platform gave no nonce, so it does not know the secure handshake: set platform.secure_handshake = false, or upgrade the platform",
        ),
        _ => failed(FailureKind::Malformed, "its nonce can't be repeated in a handshake"),
    }
}

impl Platform {
    /// The subprotocols to open this socket with; none where rtm/start gave no nonce. The assertion in it is a
    /// new one: the platform may have seen the one that signed the user in, and it may have expired.
    pub async fn subprotocols(
        &self,
        url: &SocketUrl,
        bot: &Bot,
        subject: &Subject,
    ) -> Result<Option<HeaderValue>, Failure> {
        let Some(nonce) = &url.nonce else { return Ok(None) };
        let jwt = self.assertion(bot, subject).await?;
        let offer = format!("x-rtm-v|{VERSION}, jwt|{}, nonce|{}", jwt.expose(), nonce.expose());
        let mut offer = HeaderValue::try_from(offer).map_err(|_| {
            Failure::new(Step::Open, FailureKind::Malformed, "its JWT can't stand in a header")
        })?;
        offer.set_sensitive(true);
        Ok(Some(offer))
    }
}
