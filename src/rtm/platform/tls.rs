//! Whom the platform's certificates are trusted from.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::PlatformError;

/// TLS settings that trust the authorities in `ca`, or the system's without it.
pub(super) fn client_config(ca: Option<&Path>) -> Result<ClientConfig, PlatformError> {
    let roots = match ca {
        Some(path) => configured_roots(path)?,
        None => system_roots(),
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| PlatformError::Client(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn configured_roots(path: &Path) -> Result<RootCertStore, PlatformError> {
    let unreadable = |reason: String| PlatformError::Authorities { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unreadable("it has no certificate".to_owned()));
    }
    Ok(roots)
}

/// The system's authorities. None at all is no error here: a platform without TLS needs none, and
/// with TLS the first connect says what is missing.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let errors = found.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        tracing::warn!(
            errors,
            "this machine has no certificate authorities: TLS to the platform will fail (install ca-certificates, or set platform.ca)"
        );
    }
    roots
}
