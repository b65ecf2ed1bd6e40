//! Assertions (JWTs) for signing in, and what an access token is good for.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use crate::{
    clock::Timestamp,
    config::{Bot, JwtAlgorithm, Secret},
    messages::Fingerprint,
};

/// How far `iat` is put back, for a platform whose clock is a little behind.
const BACKDATED: Duration = Duration::from_secs(5);
/// How long an app's own token is good for: one request.
const APP_TOKEN_LIFETIME: Duration = Duration::from_secs(60);
/// What a token without a usable `expiresDate` is trusted for; the platform refuses it when it is
/// over earlier, and that is handled.
const ASSUMED_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A JWT's claims, as the platform reads them; times in seconds.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
    jti: String,
}

/// The claims that don't come from the bot.
#[derive(Debug, Clone, Copy)]
pub struct Assertion<'a> {
    /// The user's identity.
    pub subject: &'a str,
    /// The configured audience.
    pub audience: &'a str,
    /// How long it is good for.
    pub lifetime: Duration,
    /// Now, by the platform's clock.
    pub now: Timestamp,
}

impl Assertion<'_> {
    /// Signs the assertion with the bot's secret. Every call gives another one (`jti`): the platform
    /// may take each only once.
    pub fn sign(&self, bot: &Bot) -> Result<Secret, CannotSign> {
        let claims = Claims {
            iss: &bot.client_id,
            sub: self.subject,
            aud: self.audience,
            iat: self.now.minus(BACKDATED).as_secs(),
            exp: self.now.plus(self.lifetime).as_secs(),
            jti: random_id()?,
        };
        sign(bot, &claims)
    }
}

/// The claims of an app's own token.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AppClaims<'a> {
    app_id: &'a str,
    sub: &'a str,
    iat: u64,
    exp: u64,
}

/// Signs the token with which an app asks the platform's BotKit API; `now` is the platform's time.
pub fn sign_app_token(bot: &Bot, subject: &str, now: Timestamp) -> Result<Secret, CannotSign> {
    let claims = AppClaims {
        app_id: &bot.client_id,
        sub: subject,
        iat: now.minus(BACKDATED).as_secs(),
        exp: now.plus(APP_TOKEN_LIFETIME).as_secs(),
    };
    sign(bot, &claims)
}

fn sign(bot: &Bot, claims: &impl Serialize) -> Result<Secret, CannotSign> {
    let algorithm = match bot.algorithm {
        JwtAlgorithm::Hs256 => Algorithm::HS256,
        JwtAlgorithm::Hs512 => Algorithm::HS512,
    };
    let key = EncodingKey::from_secret(bot.client_secret.expose().as_bytes());
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).map(Secret::new).map_err(|_| CannotSign)
}

/// The machine has no randomness, or the library refused.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the assertion (JWT) can't be signed on this machine")]
pub struct CannotSign;

fn random_id() -> Result<String, CannotSign> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| CannotSign)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// What an access token is granted for: a token is no good for other credentials, another user or
/// another platform.
pub fn credentials_fingerprint(platform: &url::Url, bot: &Bot, identity: &str) -> [u8; 16] {
    let parts = [platform.as_str(), &bot.name, &bot.id, &bot.client_id, bot.client_secret.expose(), identity];
    let mut bytes = Vec::new();
    for part in parts {
        // With lengths, so that no two lists of parts run together into the same bytes.
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part.as_bytes());
    }
    Fingerprint::of(&bytes).0
}

/// When a token ends by our clock: its `expiresDate`, with the platform's clock skew taken out.
pub fn expiry(expires_date: Option<&str>, skew: Skew, now: Timestamp) -> Timestamp {
    let told = expires_date.and_then(Timestamp::parse).map(|at| skew.to_ours(at));
    told.unwrap_or(now.plus(ASSUMED_LIFETIME))
}

/// How far the platform's clock is ahead of ours, in milliseconds; negative if it is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Skew(pub i64);

impl Skew {
    /// The platform's time of a moment of ours.
    pub fn to_platform(self, ours: Timestamp) -> Timestamp {
        Timestamp::from_millis(ours.as_millis().saturating_add_signed(self.0))
    }

    /// Whether the two are so far apart that an assertion may be refused by one and not by the
    /// other.
    pub fn differs_from(self, other: Self) -> bool {
        self.0.abs_diff(other.0) > 10_000
    }

    /// Our time of a moment of the platform's.
    pub fn to_ours(self, platforms: Timestamp) -> Timestamp {
        Timestamp::from_millis(platforms.as_millis().saturating_add_signed(self.0.saturating_neg()))
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, decode};
    use serde_json::Value;

    use super::*;
    use crate::rtm::testing::bot;

    fn claims_of(jwt: &Secret, algorithm: Algorithm) -> Value {
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&["https://idproxy.kore.com/authorize"]);
        validation.validate_exp = false;
        let key = DecodingKey::from_secret(bot().client_secret.expose().as_bytes());
        decode::<Value>(jwt.expose(), &key, &validation).unwrap().claims
    }

    fn assertion() -> Assertion<'static> {
        Assertion {
            subject: "alice@example.com",
            audience: "https://idproxy.kore.com/authorize",
            lifetime: Duration::from_secs(300),
            now: Timestamp::from_millis(1_800_000_000_999),
        }
    }

    #[test]
    fn says_who_for_whom_and_for_how_long() {
        for (choice, algorithm) in
            [(JwtAlgorithm::Hs256, Algorithm::HS256), (JwtAlgorithm::Hs512, Algorithm::HS512)]
        {
            let jwt = assertion().sign(&Bot { algorithm: choice, ..bot() }).unwrap();
            let claims = claims_of(&jwt, algorithm);
            assert_eq!(claims["iss"], "cs-1");
            assert_eq!(claims["sub"], "alice@example.com");
            assert_eq!(claims["iat"], 1_799_999_995);
            assert_eq!(claims["exp"], 1_800_000_300);
        }
    }

    #[test]
    fn an_apps_own_token_names_the_app() {
        let now = Timestamp::from_millis(1_800_000_000_999);
        let token = sign_app_token(&bot(), "u-7", now).unwrap();
        let mut validation = Validation::new(Algorithm::HS256);
        (validation.validate_exp, validation.validate_aud) = (false, false);
        let key = DecodingKey::from_secret(bot().client_secret.expose().as_bytes());
        let claims = decode::<Value>(token.expose(), &key, &validation).unwrap().claims;
        let expected =
            serde_json::json!({"appId": "cs-1", "sub": "u-7", "iat": 1_799_999_995, "exp": 1_800_000_060});
        assert_eq!(claims, expected);
    }

    #[test]
    fn no_two_are_the_same() {
        let jti = || claims_of(&assertion().sign(&bot()).unwrap(), Algorithm::HS256)["jti"].clone();
        let (first, second) = (jti(), jti());
        assert_eq!(first.as_str().unwrap().len(), 32);
        assert_ne!(first, second);
    }

    #[test]
    fn every_credential_counts() {
        let platform = url::Url::parse("https://bots.example").unwrap();
        let base = credentials_fingerprint(&platform, &bot(), "alice");
        assert_eq!(base, credentials_fingerprint(&platform, &bot(), "alice"));
        let other = url::Url::parse("https://other.example").unwrap();
        assert_ne!(base, credentials_fingerprint(&other, &bot(), "alice"));
        assert_ne!(base, credentials_fingerprint(&platform, &bot(), "bob"));
        for changed in [
            Bot { client_secret: Secret::new("other"), ..bot() },
            Bot { id: "st-2".into(), ..bot() },
            Bot { client_id: "cs-1x".into(), ..bot() },
        ] {
            assert_ne!(base, credentials_fingerprint(&platform, &changed, "alice"));
        }
    }

    #[test]
    fn expiry_is_told_by_our_clock() {
        let now = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
        let expiry = |date, skew| expiry(date, Skew(skew), now).to_string();
        assert_eq!(expiry(Some("2026-01-01T01:00:00.000Z"), 0), "2026-01-01T01:00:00.000Z");
        assert_eq!(expiry(Some("2026-01-01T01:00:00.000Z"), 60_000), "2026-01-01T00:59:00.000Z");
        assert_eq!(expiry(Some("soon"), 0), "2026-01-02T00:00:00.000Z");
        assert_eq!(expiry(None, 0), "2026-01-02T00:00:00.000Z");
    }
}
