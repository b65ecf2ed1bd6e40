//! Signatures of webhook requests: [Standard Webhooks] 1.0, symmetric (`v1`).
//!
//! What is signed is `{webhook-id}.{webhook-timestamp}.{body}`. The body is fed to the HMAC where it
//! lies, never copied.
//!
//! [Standard Webhooks]: https://www.standardwebhooks.com

use std::time::Duration;

use aws_lc_rs::{constant_time, hmac};
use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use bytes::BufMut;

use crate::{clock::Timestamp, config::SigningKey};

/// How far a signature's timestamp may be from the receiver's clock, either way.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

const SECRET_PREFIX: &str = "whsec_";
const SCHEME: &str = "v1,";
/// How long a signature is in base64.
const ENCODED_TAG: usize = 44;
/// [`SCHEME`] behind another signature.
const ANOTHER: &str = " v1,";

/// A text that is no webhook secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a webhook secret is whsec_ and then the base64 of 24 to 64 random bytes")]
pub struct InvalidSecret;

/// Reads a webhook secret, `whsec_` and base64, padded or not.
pub fn parse_secret(text: &str) -> Result<SigningKey, InvalidSecret> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let encoded = text.trim().strip_prefix(SECRET_PREFIX).ok_or(InvalidSecret)?;
    let key = LENIENT.decode(encoded).map_err(|_| InvalidSecret)?;
    if (24..=64).contains(&key.len()) { Ok(SigningKey(key)) } else { Err(InvalidSecret) }
}

/// The keys of one webhook, ready to sign and to verify. During a rotation there are several, and
/// each signs.
#[derive(Debug, Clone, Default)]
pub struct Signer {
    keys: Vec<hmac::Key>,
}

/// Why a request is not taken as the bridge's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// No signature, or not what it takes to check one.
    #[error("webhook-id, webhook-timestamp or webhook-signature is missing")]
    Missing,
    /// `webhook-timestamp` is not a number of seconds.
    #[error("webhook-timestamp is not a number of seconds")]
    BadTimestamp,
    /// Signed too long ago: perhaps a replay by someone else.
    #[error("signed more than five minutes ago")]
    TooOld,
    /// Signed in the future: one of the two clocks is wrong.
    #[error("signed more than five minutes in the future: check the clocks")]
    TooNew,
    /// None of the signatures is by one of the keys.
    #[error("no signature matches: another secret, or a body that was changed")]
    NoMatch,
}

impl Signer {
    /// Prepares these keys; without any, nothing is signed.
    pub fn new(keys: &[SigningKey]) -> Self {
        Self { keys: keys.iter().map(|key| hmac::Key::new(hmac::HMAC_SHA256, &key.0)).collect() }
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The `webhook-signature` header: a signature by each key, in their order; none without keys.
    pub fn sign(&self, id: &str, at_secs: u64, body: &[u8]) -> Option<String> {
        let mut header = Vec::with_capacity(self.header_size());
        let timestamp = at_secs.to_string();
        self.sign_into(&mut header, id.as_bytes(), timestamp.as_bytes(), body);
        String::from_utf8(header).ok().filter(|header| !header.is_empty())
    }

    /// Appends the `webhook-signature` header; nothing without keys.
    pub(super) fn sign_into(&self, header: &mut impl BufMut, id: &[u8], timestamp: &[u8], body: &[u8]) {
        for (number, key) in self.keys.iter().enumerate() {
            header.put_slice(if number == 0 { SCHEME } else { ANOTHER }.as_bytes());
            let mut encoded = [0; ENCODED_TAG];
            STANDARD
                .encode_slice(tag(key, id, timestamp, body), &mut encoded)
                .expect("32 bytes take 44 in base64");
            header.put_slice(&encoded);
        }
    }

    /// How many bytes the `webhook-signature` header takes.
    pub(super) fn header_size(&self) -> usize {
        self.keys.len() * (ANOTHER.len() + ENCODED_TAG)
    }

    /// Checks the headers of a received request against the keys and the clock. One good signature
    /// is enough; those of other schemes are skipped.
    pub fn verify(
        &self,
        headers: SignatureHeaders<'_>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), SignatureError> {
        let SignatureHeaders { id: Some(id), timestamp: Some(timestamp), signature: Some(signature) } =
            headers
        else {
            return Err(SignatureError::Missing);
        };
        let at_secs = seconds(timestamp).ok_or(SignatureError::BadTimestamp)?;
        let now_secs = now.as_secs();
        if at_secs.saturating_add(TOLERANCE.as_secs()) < now_secs {
            return Err(SignatureError::TooOld);
        }
        if now_secs.saturating_add(TOLERANCE.as_secs()) < at_secs {
            return Err(SignatureError::TooNew);
        }
        let tags: Vec<_> =
            self.keys.iter().map(|key| tag(key, id.as_bytes(), timestamp.as_bytes(), body)).collect();
        let matches = signature
            .split(' ')
            .filter_map(|one| STANDARD.decode(one.strip_prefix(SCHEME)?).ok())
            .any(|given| {
                tags.iter().any(|tag| constant_time::verify_slices_are_equal(tag.as_ref(), &given).is_ok())
            });
        if matches { Ok(()) } else { Err(SignatureError::NoMatch) }
    }
}

/// The headers that a signature is checked with, as far as they came.
#[derive(Debug, Clone, Copy)]
pub struct SignatureHeaders<'a> {
    /// `webhook-id`
    pub id: Option<&'a str>,
    /// `webhook-timestamp`
    pub timestamp: Option<&'a str>,
    /// `webhook-signature`
    pub signature: Option<&'a str>,
}

fn tag(key: &hmac::Key, id: &[u8], timestamp: &[u8], body: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    for part in [id, b".", timestamp, b".", body] {
        context.update(part);
    }
    context.sign()
}

/// Digits only: `parse` alone would take "+5".
fn seconds(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::{HeaderMap, HeaderValue};

    use super::*;

    const ID: &str = "evt_1a2b3c4d000000000000002a";

    fn headers<'a>(timestamp: &'a str, signature: &'a str) -> SignatureHeaders<'a> {
        SignatureHeaders { id: Some(ID), timestamp: Some(timestamp), signature: Some(signature) }
    }

    fn oracle(key: &[u8]) -> standardwebhooks::Webhook {
        standardwebhooks::Webhook::from_bytes(key.to_vec()).unwrap()
    }

    #[test]
    fn the_standards_own_example_comes_out() {
        let key = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = Signer::new(&[key]).sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn secrets_are_checked() {
        let encoded = STANDARD.encode([7; 25]);
        assert_eq!(parse_secret(&format!("whsec_{encoded}")).unwrap(), SigningKey(vec![7; 25]));
        let bare = encoded.trim_end_matches('=');
        assert_ne!(bare, encoded, "padding is put to the test");
        assert_eq!(parse_secret(&format!(" whsec_{bare}\n")).unwrap(), SigningKey(vec![7; 25]));
        let (short, long) = (STANDARD.encode([7; 23]), STANDARD.encode([7; 65]));
        for bad in ["", &encoded, "whsec_", "whsec_*", &format!("whsec_{short}"), &format!("whsec_{long}")] {
            assert_eq!(parse_secret(bad), Err(InvalidSecret), "{bad}");
        }
    }

    #[test]
    fn without_keys_nothing_is_signed_and_nothing_verifies() {
        let nobody = Signer::new(&[]);
        assert_eq!(nobody.sign(ID, 1, b"x"), None);
        let now = Timestamp::from_millis(1000);
        assert_eq!(nobody.verify(headers("1", "v1,AAAA"), b"x", now), Err(SignatureError::NoMatch));
    }

    #[test]
    fn a_rotation_signs_with_both_keys_and_either_verifies() {
        let (new, old) = (SigningKey(vec![1; 32]), SigningKey(vec![2; 32]));
        let signature = Signer::new(&[new.clone(), old.clone()]).sign(ID, 1000, b"body").unwrap();
        assert_eq!(signature.split(' ').count(), 2);
        let now = Timestamp::from_millis(1_000_000);
        for key in [new, old] {
            assert_eq!(Signer::new(&[key]).verify(headers("1000", &signature), b"body", now), Ok(()));
        }
        let foreign = format!("v1a,AAAA junk {signature}");
        let keys = Signer::new(&[SigningKey(vec![2; 32])]);
        assert_eq!(keys.verify(headers("1000", &foreign), b"body", now), Ok(()));
    }

    #[test]
    fn everything_that_is_wrong_has_its_name() {
        use SignatureError::{BadTimestamp, Missing, NoMatch, TooNew, TooOld};
        let keys = Signer::new(&[SigningKey(vec![1; 32])]);
        let good = keys.sign(ID, 1000, b"body").unwrap();
        let at = |secs: u64| Timestamp::from_millis(secs * 1000);
        let cases = [
            (headers("1000", &good), &b"body"[..], at(1300), Ok(())),
            (headers("1000", &good), b"body", at(1301), Err(TooOld)),
            (headers("1000", &good), b"body", at(700), Ok(())),
            (headers("1000", &good), b"body", at(699), Err(TooNew)),
            (headers("1000", &good), b"bodY", at(1000), Err(NoMatch)),
            (headers("1001", &good), b"body", at(1000), Err(NoMatch)),
            (headers("+1000", &good), b"body", at(1000), Err(BadTimestamp)),
            (headers("", &good), b"body", at(1000), Err(BadTimestamp)),
            (headers("1000", ""), b"body", at(1000), Err(NoMatch)),
            (SignatureHeaders { id: None, ..headers("1000", &good) }, b"body", at(1000), Err(Missing)),
            (
                SignatureHeaders { id: Some("evt_"), ..headers("1000", &good) },
                b"body",
                at(1000),
                Err(NoMatch),
            ),
        ];
        for (headers, body, now, expected) in cases {
            assert_eq!(keys.verify(headers, body, now), expected, "{headers:?} at {now}");
        }
    }

    proptest! {
        #[test]
        fn another_implementation_takes_our_signatures(
            key in prop::collection::vec(any::<u8>(), 24..64), body: String,
        ) {
            // The other implementation reads the machine's clock.
            let now = Timestamp::now().as_secs();
            let signature = Signer::new(&[SigningKey(key.clone())]).sign(ID, now, body.as_bytes()).unwrap();
            let mut map = HeaderMap::new();
            for (name, value) in [("webhook-id", ID), ("webhook-timestamp", &now.to_string()), ("webhook-signature", &signature)] {
                map.insert(name, HeaderValue::from_str(value).unwrap());
            }
            prop_assert!(oracle(&key).verify(body.as_bytes(), &map).is_ok());
        }

        #[test]
        fn we_take_another_implementations_signatures(
            key in prop::collection::vec(any::<u8>(), 24..64), body in ".{0,200}", secs in 0i64..4_000_000_000,
        ) {
            let signature = oracle(&key).sign(ID, secs, body.as_bytes()).unwrap();
            let now = Timestamp::from_millis(secs as u64 * 1000);
            let verdict = Signer::new(&[SigningKey(key)])
                .verify(headers(&secs.to_string(), &signature), body.as_bytes(), now);
            prop_assert_eq!(verdict, Ok(()));
        }

        #[test]
        fn no_header_panics(id: String, timestamp: String, signature: String) {
            let given = SignatureHeaders { id: Some(&id), timestamp: Some(&timestamp), signature: Some(&signature) };
            let verdict = Signer::new(&[SigningKey(vec![1; 32])]).verify(given, b"", Timestamp::from_millis(0));
            prop_assert!(verdict.is_err());
        }
    }
}
