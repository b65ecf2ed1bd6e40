//! Whom a webhook's certificate is trusted from, and the certificate that it is shown.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::{
    config::{KeyPair, Webhook},
    webhook::SenderProblem,
};

/// TLS as a webhook's settings want it. Reads their files.
pub(super) fn config(settings: &Webhook) -> Result<ClientConfig, SenderProblem> {
    let roots = match &settings.ca {
        Some(path) => Arc::new(authorities(path)?),
        None => system_authorities()?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots);
    let mut config = match &settings.client_certificate {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let (chain, key) = identity(pair)?;
            builder.with_client_auth_cert(chain, key).map_err(unusable)?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Reads the files of a webhook's settings, if they name any.
pub(super) fn read_files(settings: &Webhook) -> Result<(), SenderProblem> {
    settings.ca.as_deref().map(authorities).transpose()?;
    settings.client_certificate.as_ref().map(identity).transpose()?;
    Ok(())
}

/// The machine's own authorities; read once for all webhooks that need them.
fn system_authorities() -> Result<Arc<RootCertStore>, SenderProblem> {
    static IN_USE: Mutex<Weak<RootCertStore>> = Mutex::new(Weak::new());
    let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(roots) = in_use.upgrade() {
        return Ok(roots);
    }
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let problem = "this machine has no certificate authorities (install ca-certificates, or set ca)";
        return Err(SenderProblem::Tls(problem.to_owned()));
    }
    let roots = Arc::new(roots);
    *in_use = Arc::downgrade(&roots);
    Ok(roots)
}

fn authorities(path: &Path) -> Result<RootCertStore, SenderProblem> {
    const KEY: &str = "ca";
    let not_pem = || SenderProblem::NotPem { key: KEY, path: path.to_owned(), expected: "certificates" };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&file(KEY, path)?) {
        roots.add(certificate.map_err(|_| not_pem())?).map_err(unusable)?;
    }
    if roots.is_empty() { Err(not_pem()) } else { Ok(roots) }
}

fn identity(pair: &KeyPair) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), SenderProblem> {
    const KEY: &str = "client_certificate";
    let not_pem = |path: &Path, expected| SenderProblem::NotPem { key: KEY, path: path.to_owned(), expected };
    let (certificate, key) = (file(KEY, &pair.certificate)?, file(KEY, &pair.key)?);
    let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<Vec<_>, _>>();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| not_pem(&pair.certificate, "certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| not_pem(&pair.key, "private key"))?;
    Ok((chain, key))
}

fn file(key: &'static str, path: &Path) -> Result<Vec<u8>, SenderProblem> {
    std::fs::read(path).map_err(|source| SenderProblem::Unreadable { key, path: path.to_owned(), source })
}

fn unusable(error: rustls::Error) -> SenderProblem {
    SenderProblem::Tls(error.to_string())
}
