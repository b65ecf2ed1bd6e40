//! Who may in: apps, user assertions (JWT), access tokens, and the one-time ids of sockets.
//!
//! Nothing here reads a clock: the platform's time comes in as a value.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::ids;
use crate::clock::Timestamp;

/// Access tokens that are remembered; beyond it the oldest are forgotten.
const MAX_TOKENS: usize = 100_000;

/// A client app that the platform knows, with the bot that its users talk to.
#[derive(Clone, PartialEq, Eq)]
pub struct App {
    /// The app's id, `cs-...`: the `iss` of its users' assertions.
    pub client_id: String,
    /// What its assertions are signed with.
    pub client_secret: String,
    /// The bot's name, `botInfo.chatBot`. Letter case matters.
    pub bot_name: String,
    /// The bot's id, `botInfo.taskBotId`.
    pub bot_id: String,
}

/// The app that a sandbox knows unless told otherwise.
impl Default for App {
    fn default() -> Self {
        Self {
            client_id: "cs-00000000-0000-4000-8000-000000000001".into(),
            client_secret: "sandbox-secret-do-not-use-in-production".into(),
            bot_name: "Sandbox Bot".into(),
            bot_id: "st-00000000-0000-4000-8000-000000000001".into(),
        }
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("client_id", &self.client_id)
            .field("bot_name", &self.bot_name)
            .field("bot_id", &self.bot_id)
            .finish_non_exhaustive()
    }
}

/// A user of a bot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct UserKey {
    pub(super) bot_id: Arc<str>,
    pub(super) identity: Arc<str>,
}

/// Why a JWT is not accepted, in the platform's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum JwtError {
    #[error("error verifying the jwt: jwt malformed")]
    Malformed,
    #[error("error verifying the jwt: invalid algorithm")]
    Algorithm,
    #[error("error verifying the jwt: unknown issuer")]
    Issuer,
    #[error("error verifying the jwt: invalid signature")]
    Signature,
    #[error("error verifying the jwt: jwt expired")]
    Expired,
    #[error("error verifying the jwt: jwt not active")]
    NotYet,
    #[error("error verifying the jwt: \"exp\" is required")]
    NoExpiry,
    #[error("error verifying the jwt: \"sub\" is required")]
    NoSubject,
    #[error("error verifying the jwt: if \"jti\" claim \"exp\" must be <= 1 hour(s)")]
    JtiTooLong,
    #[error("error verifying the jwt: possibly a replay")]
    Replay,
}

/// A user's assertion whose signature and times are good.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Assertion {
    pub(super) client_id: String,
    pub(super) identity: String,
    /// `isAnonymous`.
    pub(super) anonymous: bool,
    jti: Option<String>,
    /// Seconds since the epoch, possibly fractional.
    expires: f64,
}

type Claims = Map<String, Value>;

/// A text claim by its name or its `kore_` twin, which spares it from identity providers that set
/// the plain one.
fn claim<'a>(claims: &'a Claims, name: &str) -> Option<&'a str> {
    let twin = format!("kore_{name}");
    claims.get(name).and_then(Value::as_str).or_else(|| claims.get(&twin).and_then(Value::as_str))
}

fn seconds(now: Timestamp) -> f64 {
    now.as_millis() as f64 / 1000.0
}

/// The claims of a JWT without any check, for saying whose request it is.
pub(super) fn unverified_subject(jwt: &str) -> Option<String> {
    let claims: Claims = jsonwebtoken::dangerous::insecure_decode_claims(jwt).ok()?;
    claim(&claims, "sub").map(str::to_owned)
}

/// The public keys that apps have given the platform, by client id: DER.
pub(super) type PublicKeys = HashMap<String, Vec<u8>>;

/// What an app's JWTs may be signed with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys<'a> {
    secret: &'a str,
    public: Option<&'a [u8]>,
}

/// The apps, as far as JWTs are concerned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Issuers<'a> {
    pub(super) apps: &'a [App],
    pub(super) public_keys: &'a PublicKeys,
}

impl<'a> Issuers<'a> {
    fn keys(self, client_id: &str) -> Option<Keys<'a>> {
        let app = self.apps.iter().find(|app| app.client_id == client_id)?;
        Some(Keys { secret: &app.client_secret, public: self.public_keys.get(client_id).map(Vec::as_slice) })
    }

    /// The same without the public keys: for APIs that take the secret's signature only.
    fn with_secret(self, client_id: &str) -> Option<Keys<'a>> {
        self.keys(client_id).map(|keys| Keys { public: None, ..keys })
    }
}

/// Reads a JWT that one of `keys_of(claims)` signed, whatever its times.
fn signed_claims<'a>(
    jwt: &str,
    keys_of: impl FnOnce(&Claims) -> Option<Keys<'a>>,
) -> Result<Claims, JwtError> {
    let header = jsonwebtoken::decode_header(jwt).map_err(|_| JwtError::Malformed)?;
    let claims: Claims =
        jsonwebtoken::dangerous::insecure_decode_claims(jwt).map_err(|_| JwtError::Malformed)?;
    let keys = keys_of(&claims).ok_or(JwtError::Issuer)?;
    let key = match (header.alg, keys.public) {
        (Algorithm::HS256 | Algorithm::HS512, _) => DecodingKey::from_secret(keys.secret.as_bytes()),
        (Algorithm::RS256 | Algorithm::RS512, Some(key)) => DecodingKey::from_rsa_der(key),
        _ => return Err(JwtError::Algorithm),
    };
    let mut validation = Validation::new(header.alg);
    // Times are checked by hand: this library reads them as whole seconds of its own clock.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    jsonwebtoken::decode::<Claims>(jwt, &key, &validation)
        .map(|data| data.claims)
        .map_err(|_| JwtError::Signature)
}

fn check_times(claims: &Claims, now: Timestamp) -> Result<Option<f64>, JwtError> {
    let expires = claims.get("exp").and_then(Value::as_f64);
    if expires.is_some_and(|expires| expires <= seconds(now)) {
        return Err(JwtError::Expired);
    }
    if claims.get("nbf").and_then(Value::as_f64).is_some_and(|from| from > seconds(now)) {
        return Err(JwtError::NotYet);
    }
    Ok(expires)
}

/// Checks the assertion of a jwtgrant. The audience is not checked: the documentation has two.
pub(super) fn verify_assertion(
    issuers: Issuers<'_>,
    jwt: &str,
    now: Timestamp,
) -> Result<Assertion, JwtError> {
    let claims = signed_claims(jwt, |claims| issuers.keys(claim(claims, "iss")?))?;
    let expires = check_times(&claims, now)?.ok_or(JwtError::NoExpiry)?;
    let identity = claim(&claims, "sub").filter(|sub| !sub.is_empty()).ok_or(JwtError::NoSubject)?;
    let jti = claim(&claims, "jti").map(str::to_owned);
    if jti.is_some() && expires > seconds(now) + 3600.0 {
        return Err(JwtError::JtiTooLong);
    }
    let client_id = claim(&claims, "iss").unwrap_or_default().to_owned();
    let anonymous = claims.get("isAnonymous").and_then(Value::as_bool).unwrap_or_default();
    Ok(Assertion { client_id, identity: identity.to_owned(), anonymous, jti, expires })
}

/// Checks an assertion that a socket's handshake repeats: it may have expired meanwhile, unless `now` says that
/// it must not.
pub(super) fn verify_repeated(
    issuers: Issuers<'_>,
    jwt: &str,
    identity: &str,
    now: Option<Timestamp>,
) -> Result<(), JwtError> {
    let claims = signed_claims(jwt, |claims| issuers.keys(claim(claims, "iss")?))?;
    if let Some(now) = now {
        check_times(&claims, now)?;
    }
    if claim(&claims, "sub") == Some(identity) { Ok(()) } else { Err(JwtError::NoSubject) }
}

/// Checks the `auth` header of the BotKit and public APIs and says whose app it is. Its `exp`, if any, may
/// be fractional.
pub(super) fn verify_app(issuers: Issuers<'_>, jwt: &str, now: Timestamp) -> Result<String, JwtError> {
    let app_id = |claims: &Claims| claims.get("appId").and_then(Value::as_str).map(str::to_owned);
    let claims = signed_claims(jwt, |claims| issuers.with_secret(&app_id(claims)?))?;
    check_times(&claims, now)?;
    app_id(&claims).ok_or(JwtError::Issuer)
}

/// Makes a user's assertion, good for five minutes and one jwtgrant: the customer's part of the
/// sign-in, for clients that can't play it themselves.
pub(super) fn mint(app: &App, identity: &str, anonymous: bool, now: Timestamp) -> String {
    let claims = json!({
        "iss": app.client_id,
        "sub": identity,
        "aud": "https://idproxy.kore.com/authorize",
        "iat": now.as_secs(),
        "exp": now.as_secs() + 300,
        "isAnonymous": anonymous,
    });
    jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &claims,
        &EncodingKey::from_secret(app.client_secret.as_bytes()),
    )
    .expect("claims made here can be signed")
}

/// The user's id that the platform gives, the same for each identity of an app.
pub(super) fn user_id(client_id: &str, identity: &str) -> String {
    let text = format!("{client_id}/{identity}");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let bytes = digest.as_ref().first_chunk().expect("SHA-256 is 32 bytes long");
    format!("u-{}", ids::uuid_text(u128::from_be_bytes(*bytes)))
}

/// An access token as the platform remembers it.
#[derive(Debug, Clone)]
pub(super) struct AccessToken {
    pub(super) user: UserKey,
    pub(super) client_id: String,
    pub(super) expires: Timestamp,
    revoked: bool,
}

/// What a bearer token is worth.
#[derive(Debug)]
pub(super) enum Bearer {
    /// It is good.
    Good(AccessToken),
    /// It was given to this user, but has expired or was revoked.
    Stale(UserKey),
    /// Nobody knows it.
    Unknown,
}

/// What a socket's one-time id opens.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    pub(super) user: UserKey,
    pub(super) nonce: Option<String>,
    until: Instant,
}

/// Everything that was given out: access tokens, socket ids, and the JWT ids seen.
#[derive(Debug, Default)]
pub(super) struct Grants {
    tokens: HashMap<String, AccessToken>,
    token_order: VecDeque<String>,
    tickets: HashMap<String, Ticket>,
    ticket_order: VecDeque<String>,
    /// By app and `jti`: until when (in seconds) it would be a replay.
    jtis: HashMap<(String, String), f64>,
    sweep_jtis_at: usize,
}

impl Grants {
    /// Marks an assertion's `jti` as used; an error if it was before.
    pub(super) fn use_assertion(&mut self, assertion: &Assertion, now: Timestamp) -> Result<(), JwtError> {
        let Some(jti) = &assertion.jti else { return Ok(()) };
        if self.jtis.len() >= self.sweep_jtis_at {
            self.jtis.retain(|_, until| *until > seconds(now));
            self.sweep_jtis_at = (self.jtis.len() * 2).max(1024);
        }
        match self.jtis.insert((assertion.client_id.clone(), jti.clone()), assertion.expires) {
            Some(_) => Err(JwtError::Replay),
            None => Ok(()),
        }
    }

    /// A new access token.
    pub(super) fn grant_token(&mut self, user: UserKey, client_id: String, expires: Timestamp) -> String {
        if self.token_order.len() >= MAX_TOKENS
            && let Some(oldest) = self.token_order.pop_front()
        {
            self.tokens.remove(&oldest);
        }
        let token = ids::token(43);
        self.tokens.insert(token.clone(), AccessToken { user, client_id, expires, revoked: false });
        self.token_order.push_back(token.clone());
        token
    }

    /// What a token is worth.
    pub(super) fn check_token(&self, token: &str, now: Timestamp) -> Bearer {
        match self.tokens.get(token) {
            None => Bearer::Unknown,
            Some(known) if known.revoked || known.expires <= now => Bearer::Stale(known.user.clone()),
            Some(known) => Bearer::Good(known.clone()),
        }
    }

    /// Revokes a user's tokens; answers how many were good.
    pub(super) fn revoke(&mut self, user: &UserKey, now: Timestamp) -> usize {
        let good = self.tokens.values_mut().filter(|token| token.user == *user && !token.revoked);
        good.map(|token| {
            token.revoked = true;
            usize::from(token.expires > now)
        })
        .sum()
    }

    /// A new socket id, good once and until `until`.
    pub(super) fn grant_ticket(
        &mut self,
        user: UserKey,
        nonce: Option<String>,
        until: Instant,
        now: Instant,
    ) -> String {
        while let Some(oldest) = self.ticket_order.front() {
            if self.tickets.get(oldest).is_some_and(|ticket| ticket.until > now) {
                break;
            }
            self.tickets.remove(oldest);
            self.ticket_order.pop_front();
        }
        let sid = ids::token(32);
        self.tickets.insert(sid.clone(), Ticket { user, nonce, until });
        self.ticket_order.push_back(sid.clone());
        sid
    }

    /// Whose socket id this is, if it is good, without using it up.
    pub(super) fn peek_ticket(&self, sid: &str, now: Instant) -> Option<&Ticket> {
        self.tickets.get(sid).filter(|ticket| ticket.until > now)
    }

    /// Uses a socket id up.
    pub(super) fn use_ticket(&mut self, sid: &str, now: Instant) -> Option<Ticket> {
        self.tickets.remove(sid).filter(|ticket| ticket.until > now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;
    use crate::config::{PrivateKey, RsaAlgorithm};

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_500);

    fn sign_as(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
        jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes()))
            .unwrap()
    }

    fn claims() -> Value {
        json!({"iss": App::default().client_id, "sub": "alice", "exp": 1_800_000_060, "aud": ""})
    }

    /// Calls a check with these apps and no public keys.
    fn by<T>(apps: &[App], check: impl FnOnce(Issuers<'_>) -> T) -> T {
        check(Issuers { apps, public_keys: &PublicKeys::new() })
    }

    fn verify(claims: &Value) -> Result<Assertion, JwtError> {
        by(&[App::default()], |issuers| {
            verify_assertion(issuers, &sign_as(Algorithm::HS256, &App::default().client_secret, claims), NOW)
        })
    }

    fn with(key: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[key] = value;
        claims
    }

    #[test]
    fn a_good_assertion_passes_in_both_algorithms_and_spellings() {
        assert_eq!(verify(&claims()).unwrap().identity, "alice");
        let app = App::default();
        let jwt = sign_as(
            Algorithm::HS512,
            &app.client_secret,
            &json!({"kore_iss": app.client_id, "kore_sub": "bob", "exp": 1_800_000_001.25}),
        );
        let assertion =
            by(std::slice::from_ref(&app), |issuers| verify_assertion(issuers, &jwt, NOW)).unwrap();
        assert_eq!((assertion.identity, assertion.client_id), ("bob".into(), app.client_id));
    }

    #[test]
    fn bad_assertions_are_told_apart() {
        for (claims, error) in [
            (with("exp", json!(1_800_000_000)), JwtError::Expired),
            (with("exp", json!(1_800_000_000.4)), JwtError::Expired),
            (with("exp", Value::Null), JwtError::NoExpiry),
            (with("nbf", json!(1_800_000_001)), JwtError::NotYet),
            (with("iss", json!("cs-other")), JwtError::Issuer),
            (with("sub", json!("")), JwtError::NoSubject),
        ] {
            assert_eq!(verify(&claims), Err(error), "{claims}");
        }
        let apps = [App::default()];
        let foreign = sign_as(Algorithm::HS256, "another secret", &claims());
        let verify = |jwt: &str| by(&apps, |issuers| verify_assertion(issuers, jwt, NOW));
        assert_eq!(verify(&foreign), Err(JwtError::Signature));
        let unusual = sign_as(Algorithm::HS384, &apps[0].client_secret, &claims());
        assert_eq!(verify(&unusual), Err(JwtError::Algorithm));
        assert_eq!(verify("a.b"), Err(JwtError::Malformed));
    }

    #[test]
    fn a_public_key_is_as_good_as_the_secret_for_assertions_and_no_good_for_the_apps_own_apis() {
        let key = PrivateKey::from_pem(include_str!("../config/fixtures/signing-pkcs8.pem")).unwrap();
        let (apps, app) = ([App::default()], App::default());
        let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let sign = |claims: Value| {
            let text = format!("{}.{}", part(json!({"alg": "RS512", "typ": "JWT"})), part(claims));
            let signature = key.sign(RsaAlgorithm::Rs512, text.as_bytes()).unwrap();
            format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
        };
        let jwt = sign(claims());
        assert_eq!(by(&apps, |issuers| verify_assertion(issuers, &jwt, NOW)), Err(JwtError::Algorithm));
        let public_keys = PublicKeys::from([(app.client_id.clone(), key.public_key().to_vec())]);
        let issuers = Issuers { apps: &apps, public_keys: &public_keys };
        assert_eq!(verify_assertion(issuers, &jwt, NOW).unwrap().identity, "alice");
        let (text, signature) = jwt.rsplit_once('.').unwrap();
        let forged = format!("{}.{signature}", text.replacen('.', ".e30", 1));
        assert!(verify_assertion(issuers, &forged, NOW).is_err());
        let apps_own = sign(json!({"appId": app.client_id}));
        assert_eq!(verify_app(issuers, &apps_own, NOW), Err(JwtError::Algorithm));
        // The public key is no secret to sign with.
        let confused = jsonwebtoken::encode(
            &Header::new(Algorithm::HS256),
            &claims(),
            &EncodingKey::from_secret(key.public_key()),
        );
        assert_eq!(verify_assertion(issuers, &confused.unwrap(), NOW), Err(JwtError::Signature));
    }

    #[test]
    fn a_jti_is_good_once_and_for_an_hour_at_most() {
        let mut long = with("jti", json!("j1"));
        long["exp"] = json!(1_800_003_700);
        assert_eq!(verify(&long), Err(JwtError::JtiTooLong));
        let assertion = verify(&with("jti", json!("j1"))).unwrap();
        let mut grants = Grants::default();
        assert_eq!(grants.use_assertion(&assertion, NOW), Ok(()));
        assert_eq!(grants.use_assertion(&assertion, NOW), Err(JwtError::Replay));
        let without = verify(&claims()).unwrap();
        assert_eq!(grants.use_assertion(&without, NOW), Ok(()));
        assert_eq!(grants.use_assertion(&without, NOW), Ok(()));
    }

    #[test]
    fn tokens_expire_and_are_revoked() {
        let user = UserKey { bot_id: "st-1".into(), identity: "alice".into() };
        let other = UserKey { bot_id: "st-1".into(), identity: "bob".into() };
        let mut grants = Grants::default();
        let later = NOW.plus(Duration::from_secs(10));
        let alices = grants.grant_token(user.clone(), "cs".into(), later);
        let bobs = grants.grant_token(other, "cs".into(), later);
        assert!(matches!(grants.check_token(&alices, NOW), Bearer::Good(_)));
        assert!(matches!(grants.check_token(&alices, later), Bearer::Stale(key) if key == user));
        assert_eq!(grants.revoke(&user, NOW), 1);
        assert!(matches!(grants.check_token(&alices, NOW), Bearer::Stale(_)));
        assert!(matches!(grants.check_token(&bobs, NOW), Bearer::Good(_)));
        assert!(matches!(grants.check_token("nonsense", NOW), Bearer::Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_id_is_good_once_and_for_a_while() {
        let user = UserKey { bot_id: "st-1".into(), identity: "alice".into() };
        let mut grants = Grants::default();
        let now = Instant::now();
        let until = now + Duration::from_secs(30);
        let sid = grants.grant_ticket(user.clone(), None, until, now);
        assert!(grants.peek_ticket(&sid, now).is_some());
        assert!(grants.use_ticket(&sid, now).is_some_and(|ticket| ticket.user == user));
        assert!(grants.use_ticket(&sid, now).is_none());
        let late = grants.grant_ticket(user, None, until, now);
        assert!(grants.use_ticket(&late, until).is_none());
    }

    #[test]
    fn the_botkit_header_takes_a_fractional_expiry_or_none() {
        let apps = [App::default()];
        let sign = |claims: &Value| sign_as(Algorithm::HS256, &apps[0].client_secret, claims);
        let app_id = &apps[0].client_id;
        let verify = |jwt: &str| by(&apps, |issuers| verify_app(issuers, jwt, NOW));
        for good in [json!({"appId": app_id, "exp": 1_800_000_060.123}), json!({"appId": app_id, "sub": "x"})]
        {
            assert_eq!(verify(&sign(&good)).as_deref(), Ok(&**app_id));
        }
        assert_eq!(verify(&sign(&json!({"appId": app_id, "exp": 1.5}))), Err(JwtError::Expired));
        assert_eq!(verify(&sign(&json!({"appid": app_id}))), Err(JwtError::Issuer));
    }

    #[test]
    fn what_is_minted_is_accepted_and_user_ids_are_stable() {
        let app = App::default();
        let jwt = mint(&app, "käthe@example.com", false, NOW);
        assert_eq!(unverified_subject(&jwt).as_deref(), Some("käthe@example.com"));
        let repeat = |identity: &str, now: Option<Timestamp>| {
            by(std::slice::from_ref(&app), |issuers| verify_repeated(issuers, &jwt, identity, now))
        };
        let later = NOW.plus(Duration::from_secs(300));
        assert_eq!(repeat("käthe@example.com", None), Ok(()));
        assert_eq!(repeat("käthe@example.com", Some(NOW)), Ok(()));
        assert_eq!(repeat("käthe@example.com", Some(later)), Err(JwtError::Expired));
        assert!(repeat("bob", None).is_err());
        assert_eq!(user_id("cs", "alice"), user_id("cs", "alice"));
        assert_ne!(user_id("cs", "alice"), user_id("cs", "bob"));
        assert!(user_id("cs", "alice").starts_with("u-"));
    }

    #[test]
    fn an_app_keeps_its_secret_from_logs() {
        assert!(!format!("{:?}", App::default()).contains("do-not-use"));
    }
}
