//! Certificates and keys: that the files are there and are what they should be.

use std::path::Path;

use rustls::{
    InconsistentKeys, RootCertStore,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use super::{
    KeyPair,
    load::read_limited,
    reader::{Item, TableReader, shown},
    secrets::warn_if_world_readable,
    values::Invalid,
};

/// No PEM file is larger; the authorities of the whole web fit.
const LARGEST_PEM: u64 = 4 << 20;

/// A file with the authorities to trust.
pub(super) fn authorities(item: Item<'_>) -> Option<std::path::PathBuf> {
    let path = item.path("\"/etc/ssl/certs/company.pem\"")?;
    item.checked(read_certificates(&path).and_then(|certificates| {
        let mut store = RootCertStore::empty();
        for certificate in certificates {
            store.add(certificate).map_err(|error| {
                Invalid::new(format!("{} holds a certificate that can't be used: {error}", shown(&path)))
            })?;
        }
        Ok(())
    }))?;
    Some(path)
}

/// `{ certificate = "PATH", key = "PATH" }`
pub(super) fn key_pair(item: Item<'_>, group: &'static str) -> Option<KeyPair> {
    const EXAMPLE: &str = "`{ certificate = \"cert.pem\", key = \"key.pem\" }`";
    let mut table = TableReader::inline(item, group, EXAMPLE)?;
    let certificate = table.required("certificate", "\"cert.pem\"", |item| {
        let path = item.path("\"cert.pem\"")?;
        let certificates = item.checked(read_certificates(&path))?;
        Some((path, certificates))
    });
    let key = table.required("key", "\"key.pem\"", |item| {
        let path = item.path("\"key.pem\"")?;
        warn_if_world_readable(item, &path);
        let key = item.checked(read_key(&path))?;
        Some((path, key))
    });
    table.finish();
    let ((certificate, chain), (key, private)) = (certificate?, key?);
    item.checked(match_up(chain, &private))?;
    Some(KeyPair { certificate, key })
}

/// Why a certificate and its key can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyPairError(String);

impl KeyPair {
    /// Reads and checks both files.
    pub fn read(&self) -> Result<CertifiedKey, KeyPairError> {
        let told = |Invalid { message, help }: Invalid| match help {
            Some(help) => format!("{message}; {help}"),
            None => message,
        };
        let chain = read_certificates(&self.certificate).map_err(|error| KeyPairError(told(error)))?;
        let key = read_key(&self.key).map_err(|error| KeyPairError(told(error)))?;
        match_up(chain, &key).map_err(|error| {
            let files = format!("{} and {}", shown(&self.certificate), shown(&self.key));
            KeyPairError(format!("{files}: {}", told(error)))
        })
    }
}

fn match_up(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
) -> Result<CertifiedKey, Invalid> {
    let key = any_supported_type(key).map_err(|_| {
        Invalid::new("the private key is of a kind that can't be used")
            .help("use an RSA, ECDSA or Ed25519 key")
    })?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(pair),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(Invalid::new("the key does not belong to the certificate")
                .help("the certificate file starts with the certificate that was made for this key"))
        }
        Err(error) => Err(Invalid::new(format!("the certificate can't be used: {error}"))),
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Invalid> {
    let pem = read_pem(path)?;
    let name = shown(path);
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| Invalid::new(format!("{name} is not valid PEM")))?;
    if certificates.is_empty() {
        return Err(Invalid::new(format!("{name} holds no certificate"))
            .help("it must be PEM: -----BEGIN CERTIFICATE-----"));
    }
    Ok(certificates)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Invalid> {
    let pem = read_pem(path)?;
    // The reader's own words could quote the file.
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        Invalid::new(format!("{} holds no private key", shown(path)))
            .help("it must be unencrypted PEM: -----BEGIN PRIVATE KEY-----")
    })
}

fn read_pem(path: &Path) -> Result<Vec<u8>, Invalid> {
    read_limited(path, LARGEST_PEM).map_err(|error| {
        Invalid::new(format!("can't read {}: {error}", shown(path)))
            .help("correct the path, or let the user that runs rtm-bridge read it")
    })
}
