//! A private key that signs, and can't be printed.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaKeyPair},
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};

use super::RsaAlgorithm;

/// The smallest key, in bits: less is not taken by the library, nor by anyone who checks.
const LEAST_BITS: usize = 2048;

/// An RSA key pair. Its `Debug` shows nothing of it; two are equal if their public keys are.
#[derive(Clone)]
pub struct PrivateKey(Arc<RsaKeyPair>);

/// Why a text is not a private key that can be used. It says nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPrivateKey {
    /// There is no private key in it.
    #[error("it holds no private key in unencrypted PEM")]
    NotPem,
    /// It is a key of another kind.
    #[error("it is not an RSA key")]
    NotRsa,
    /// The library refuses it: too small, or broken.
    #[error("it is not an RSA key of at least {LEAST_BITS} bits, or it is damaged")]
    Refused,
}

impl PrivateKey {
    /// Reads PEM, `PRIVATE KEY` (PKCS#8) or `RSA PRIVATE KEY` (PKCS#1).
    pub fn from_pem(pem: &str) -> Result<Self, InvalidPrivateKey> {
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| InvalidPrivateKey::NotPem)?;
        let pair = match &der {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(InvalidPrivateKey::NotRsa),
        };
        pair.map(|pair| Self(Arc::new(pair))).map_err(|_| InvalidPrivateKey::Refused)
    }

    /// The signature of a text. None: the library failed.
    pub fn sign(&self, algorithm: RsaAlgorithm, text: &[u8]) -> Option<Vec<u8>> {
        let padding = match algorithm {
            RsaAlgorithm::Rs256 => &RSA_PKCS1_SHA256,
            RsaAlgorithm::Rs512 => &RSA_PKCS1_SHA512,
        };
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(padding, &SystemRandom::new(), text, &mut signature).ok()?;
        Some(signature)
    }

    /// Its public half: the DER of an `RSAPublicKey` (PKCS#1).
    pub fn public_key(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    /// How long it is, in bits.
    pub fn bits(&self) -> usize {
        self.0.public_modulus_len() * 8
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[private key]")
    }
}

impl PartialEq for PrivateKey {
    fn eq(&self, other: &Self) -> bool {
        self.public_key() == other.public_key()
    }
}
impl Eq for PrivateKey {}
