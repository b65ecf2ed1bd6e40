//! Assertions (JWTs) for signing in, and what an access token is good for.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use serde_json::{Map, Value};

use super::subject::Subject;
use crate::{
    clock::Timestamp,
    config::{Bot, Credentials, HmacAlgorithm, PrivateKey, RsaAlgorithm, Secret},
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
    #[serde(rename = "isAnonymous", skip_serializing_if = "std::ops::Not::not")]
    is_anonymous: bool,
}

/// The claims that don't come from the bot.
#[derive(Debug, Clone, Copy)]
pub struct Assertion<'a> {
    /// Who signs in.
    pub subject: &'a Subject,
    /// The configured audience.
    pub audience: &'a str,
    /// How long it is good for.
    pub lifetime: Duration,
    /// Now, by the platform's clock.
    pub now: Timestamp,
}

impl Assertion<'_> {
    /// Signs the assertion with the bot's secret or key. Every call gives another one (`jti`): the
    /// platform may take each only once.
    pub fn sign(&self, bot: &Bot) -> Result<Secret, CannotSign> {
        let claims = Claims {
            iss: &bot.client_id,
            sub: &self.subject.name,
            aud: self.audience,
            iat: self.now.minus(BACKDATED).as_secs(),
            exp: self.now.plus(self.lifetime).as_secs(),
            jti: random_id()?,
            is_anonymous: self.subject.is_anonymous(),
        };
        match &bot.credentials {
            Credentials::ClientSecret { secret, algorithm } => sign_with_secret(secret, *algorithm, &claims),
            Credentials::PrivateKey { key, algorithm } => sign_with_key(key, *algorithm, &claims),
            Credentials::TokenService(_) => Err(CannotSign::Elsewhere),
        }
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

/// Signs the token with which an app asks the platform's BotKit and public APIs, which take nothing but the
/// client secret's signature; `now` is the platform's time.
pub fn sign_app_token(bot: &Bot, subject: &str, now: Timestamp) -> Result<Secret, CannotSign> {
    let Credentials::ClientSecret { secret, algorithm } = &bot.credentials else {
        return Err(CannotSign::NoClientSecret);
    };
    let claims = AppClaims {
        app_id: &bot.client_id,
        sub: subject,
        iat: now.minus(BACKDATED).as_secs(),
        exp: now.plus(APP_TOKEN_LIFETIME).as_secs(),
    };
    sign_with_secret(secret, *algorithm, &claims)
}

fn sign_with_secret(
    secret: &Secret,
    algorithm: HmacAlgorithm,
    claims: &impl Serialize,
) -> Result<Secret, CannotSign> {
    let algorithm = match algorithm {
        HmacAlgorithm::Hs256 => Algorithm::HS256,
        HmacAlgorithm::Hs512 => Algorithm::HS512,
    };
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key)
        .map(Secret::new)
        .map_err(|_| CannotSign::NotOnThisMachine)
}

/// The JWT library reads RSA keys anew for each signature, and most forms of them not at all. So what it does
/// around a signature is done here (RFC 7515, compact serialization).
fn sign_with_key(
    key: &PrivateKey,
    algorithm: RsaAlgorithm,
    claims: &impl Serialize,
) -> Result<Secret, CannotSign> {
    let header = match algorithm {
        RsaAlgorithm::Rs256 => r#"{"typ":"JWT","alg":"RS256"}"#,
        RsaAlgorithm::Rs512 => r#"{"typ":"JWT","alg":"RS512"}"#,
    };
    let claims = serde_json::to_vec(claims).map_err(|_| CannotSign::NotOnThisMachine)?;
    let mut jwt = URL_SAFE_NO_PAD.encode(header);
    jwt.push('.');
    URL_SAFE_NO_PAD.encode_string(claims, &mut jwt);
    let signature = key.sign(algorithm, jwt.as_bytes()).ok_or(CannotSign::NotOnThisMachine)?;
    jwt.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut jwt);
    Ok(Secret::new(jwt))
}

/// Why the bridge can't sign a JWT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotSign {
    /// The machine has no randomness, or the library refused.
    #[error("the JWT can't be signed on this machine")]
    NotOnThisMachine,
    /// A token service makes the bot's assertions.
    #[error("this bot's JWTs are made by its token service (sts)")]
    Elsewhere,
    /// The app's own APIs want the client secret.
    #[error(
        "this API takes JWTs that are signed with the app's client_secret, which this bot doesn't have; use source=rtm, or give the bot its client_secret"
    )]
    NoClientSecret,
}

fn random_id() -> Result<String, CannotSign> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| CannotSign::NotOnThisMachine)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Why an assertion that somebody else made can't be used. It shows nothing of it but what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnfitAssertion {
    /// It is none.
    #[error("it is not a JWT")]
    NoJwt,
    /// It is over.
    #[error(
        "the JWT had expired already when it came (exp); check the service's clock, and that it makes a new one each time"
    )]
    Expired,
    /// It is for another app.
    #[error("the JWT is not for the bot's client_id (iss)")]
    AnotherApp,
    /// It is somebody else's.
    #[error("the JWT is not for the user's identity (sub)")]
    AnotherUser,
}

/// Looks whether an assertion that somebody else made can be the one that was asked for; `now` is the
/// platform's time. Its signature is the platform's to check, and an encrypted one (JWE) can't be read.
pub fn check_assertion(
    jwt: &str,
    bot: &Bot,
    subject: &Subject,
    now: Timestamp,
) -> Result<(), UnfitAssertion> {
    let is_plain =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let parts: Vec<_> = jwt.split('.').collect();
    if !parts.iter().all(|part| is_plain(part)) {
        return Err(UnfitAssertion::NoJwt);
    }
    let claims = match parts[..] {
        [_, claims, _] => claims,
        [_, _, _, _, _] => return Ok(()),
        _ => return Err(UnfitAssertion::NoJwt),
    };
    let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| UnfitAssertion::NoJwt)?;
    let theirs: Map<String, Value> = serde_json::from_slice(&claims).map_err(|_| UnfitAssertion::NoJwt)?;
    // The `kore_` twins are for identity providers that set the plain ones.
    let is_told = |names: [&str; 2], wanted: &str| {
        names.iter().any(|name| theirs.get(*name).and_then(Value::as_str) == Some(wanted))
    };
    if !is_told(["iss", "kore_iss"], &bot.client_id) {
        return Err(UnfitAssertion::AnotherApp);
    }
    if !is_told(["sub", "kore_sub"], &subject.name) {
        return Err(UnfitAssertion::AnotherUser);
    }
    match theirs.get("exp").and_then(Value::as_f64) {
        Some(expires) if expires * 1000.0 <= now.as_millis() as f64 => Err(UnfitAssertion::Expired),
        _ => Ok(()),
    }
}

/// What an access token is granted for: a token is no good for other credentials, another user or
/// another platform.
pub fn credentials_fingerprint(platform: &url::Url, bot: &Bot, subject: &Subject) -> [u8; 16] {
    let mut parts: Vec<&[u8]> = vec![
        platform.as_str().as_bytes(),
        bot.name.as_bytes(),
        bot.id.as_bytes(),
        bot.client_id.as_bytes(),
        match &bot.credentials {
            Credentials::ClientSecret { secret, .. } => secret.expose().as_bytes(),
            Credentials::PrivateKey { key, .. } => key.public_key(),
            // What it is asked with may change without making its users others.
            Credentials::TokenService(service) => service.url.as_str().as_bytes(),
        },
        subject.name.as_bytes(),
    ];
    // Only where it is so: tokens of earlier versions stay good.
    parts.extend(subject.is_anonymous().then_some(b"anonymous".as_slice()));
    let mut bytes = Vec::new();
    for part in parts {
        // With lengths, so that no two lists of parts run together into the same bytes.
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part);
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
    use serde_json::json;

    use super::*;
    use crate::{
        config::TokenService,
        rtm::{subject::Standing, testing::bot},
    };

    const AUDIENCE: &str = "https://idproxy.kore.com/authorize";
    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_999);

    fn claims_of(jwt: &Secret, algorithm: Algorithm, key: &DecodingKey) -> Value {
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&[AUDIENCE]);
        validation.validate_exp = false;
        decode::<Value>(jwt.expose(), key, &validation).unwrap().claims
    }

    fn secret_key() -> DecodingKey {
        DecodingKey::from_secret(b"top secret")
    }

    fn sign(bot: &Bot, subject: &Subject) -> Result<Secret, CannotSign> {
        let lifetime = Duration::from_secs(300);
        Assertion { subject, audience: AUDIENCE, lifetime, now: NOW }.sign(bot)
    }

    fn with(credentials: Credentials) -> Bot {
        Bot { credentials, ..bot() }
    }

    fn private_key() -> PrivateKey {
        PrivateKey::from_pem(include_str!("../config/fixtures/signing-pkcs8.pem")).unwrap()
    }

    fn service() -> Credentials {
        Credentials::TokenService(TokenService {
            url: "https://sts.example/jwt".parse().unwrap(),
            bearer: None,
            headers: Vec::new(),
            body: crate::config::TokenServiceBody::Json,
            fields: Vec::new(),
            jwt_field: "jwt".into(),
        })
    }

    #[test]
    fn says_who_for_whom_and_for_how_long() {
        let secret = |algorithm| Credentials::ClientSecret { secret: Secret::new("top secret"), algorithm };
        let key = |algorithm| Credentials::PrivateKey { key: private_key(), algorithm };
        let public_key = || DecodingKey::from_rsa_der(private_key().public_key());
        for (credentials, algorithm, decoding_key) in [
            (secret(HmacAlgorithm::Hs256), Algorithm::HS256, secret_key()),
            (secret(HmacAlgorithm::Hs512), Algorithm::HS512, secret_key()),
            (key(RsaAlgorithm::Rs256), Algorithm::RS256, public_key()),
            (key(RsaAlgorithm::Rs512), Algorithm::RS512, public_key()),
        ] {
            let jwt = sign(&with(credentials), &"alice@example.com".into()).unwrap();
            let claims = claims_of(&jwt, algorithm, &decoding_key);
            assert_eq!(claims["iss"], "cs-1");
            assert_eq!(claims["sub"], "alice@example.com");
            assert_eq!(claims["iat"], 1_799_999_995);
            assert_eq!(claims["exp"], 1_800_000_300);
            assert_eq!(claims.get("isAnonymous"), None);
            assert_eq!(check_assertion(jwt.expose(), &bot(), &"alice@example.com".into(), NOW), Ok(()));
        }
        assert_eq!(sign(&with(service()), &"alice".into()), Err(CannotSign::Elsewhere));
    }

    #[test]
    fn nobody_in_particular_is_said_to_be_so() {
        let visitor = Subject { standing: Standing::Anonymous, .."visitor".into() };
        let jwt = sign(&bot(), &visitor).unwrap();
        let claims = claims_of(&jwt, Algorithm::HS256, &secret_key());
        assert_eq!((&claims["sub"], &claims["isAnonymous"]), (&json!("visitor"), &json!(true)));
    }

    #[test]
    fn an_apps_own_token_names_the_app_and_is_signed_with_its_secret() {
        let token = sign_app_token(&bot(), "u-7", NOW).unwrap();
        let mut validation = Validation::new(Algorithm::HS256);
        (validation.validate_exp, validation.validate_aud) = (false, false);
        let claims = decode::<Value>(token.expose(), &secret_key(), &validation).unwrap().claims;
        let expected = json!({"appId": "cs-1", "sub": "u-7", "iat": 1_799_999_995, "exp": 1_800_000_060});
        assert_eq!(claims, expected);
        let key = Credentials::PrivateKey { key: private_key(), algorithm: RsaAlgorithm::Rs256 };
        for other in [service(), key] {
            assert_eq!(sign_app_token(&with(other), "u-7", NOW), Err(CannotSign::NoClientSecret));
        }
    }

    #[test]
    fn no_two_are_the_same() {
        let jti = || {
            let jwt = sign(&bot(), &"alice".into()).unwrap();
            claims_of(&jwt, Algorithm::HS256, &secret_key())["jti"].clone()
        };
        let (first, second) = (jti(), jti());
        assert_eq!(first.as_str().unwrap().len(), 32);
        assert_ne!(first, second);
    }

    #[test]
    fn an_assertion_of_others_is_looked_at_as_far_as_it_can_be() {
        let jwt = |claims: Value| {
            let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
            format!("{}.{}.{}", part("{}"), part(&claims.to_string()), part("signature"))
        };
        let good = json!({"iss": "cs-1", "sub": "alice", "exp": 1_800_000_060.5});
        let changed = |key: &str, value: Value| {
            let mut claims = good.clone();
            claims[key] = value;
            jwt(claims)
        };
        for (jwt, expected) in [
            (jwt(good.clone()), Ok(())),
            (jwt(json!({"kore_iss": "cs-1", "iss": "idp", "kore_sub": "alice"})), Ok(())),
            ("a.b.c.d.e".to_owned(), Ok(())),
            (changed("exp", json!(1_800_000_000)), Err(UnfitAssertion::Expired)),
            (changed("iss", json!("cs-2")), Err(UnfitAssertion::AnotherApp)),
            (changed("sub", json!("bob")), Err(UnfitAssertion::AnotherUser)),
            (changed("sub", json!(7)), Err(UnfitAssertion::AnotherUser)),
            ("a.b.c".to_owned(), Err(UnfitAssertion::NoJwt)),
            ("a, nonce|x.b.c.d.e".to_owned(), Err(UnfitAssertion::NoJwt)),
            (String::new(), Err(UnfitAssertion::NoJwt)),
        ] {
            assert_eq!(check_assertion(&jwt, &bot(), &"alice".into(), NOW), expected, "{jwt}");
        }
    }

    #[test]
    fn every_credential_counts() {
        let platform = url::Url::parse("https://bots.example").unwrap();
        let alice = Subject::from("alice");
        let base = credentials_fingerprint(&platform, &bot(), &alice);
        assert_eq!(base, credentials_fingerprint(&platform, &bot(), &alice));
        let other = url::Url::parse("https://other.example").unwrap();
        assert_ne!(base, credentials_fingerprint(&other, &bot(), &alice));
        assert_ne!(base, credentials_fingerprint(&platform, &bot(), &"bob".into()));
        let nobody = Subject { standing: Standing::Anonymous, ..alice.clone() };
        assert_ne!(base, credentials_fingerprint(&platform, &bot(), &nobody));
        for changed in [
            with(Credentials::client_secret("other")),
            with(Credentials::PrivateKey { key: private_key(), algorithm: RsaAlgorithm::Rs256 }),
            with(service()),
            Bot { id: "st-2".into(), ..bot() },
            Bot { client_id: "cs-1x".into(), ..bot() },
        ] {
            assert_ne!(base, credentials_fingerprint(&platform, &changed, &alice));
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
