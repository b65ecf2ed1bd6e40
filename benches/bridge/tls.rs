//! TLS in front of the platform, with a certificate made for the run. What comes through is passed on as it is, over
//! a connection of its own, so that the platform knows nothing of it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};
use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::Outcome;

/// So much is passed on at once: there are thousands of connections, and little is said on them.
const PIECE: usize = 1024;

/// A running front. It stops listening with this value.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    authority: String,
    _listening: AbortOnDropHandle<()>,
}

impl Front {
    /// Starts one in front of this address.
    pub async fn before(behind: SocketAddr) -> Outcome<Self> {
        let made = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()])?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                // A connection that breaks is the daemon's end, or the row's.
                tokio::spawn(async move { pass_on(stream, &acceptor, behind).await.ok() });
            }
        });
        Ok(Self { address, authority: made.cert.pem(), _listening: AbortOnDropHandle::new(listening) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whom to trust: a file of certificates.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

async fn pass_on(stream: TcpStream, acceptor: &TlsAcceptor, behind: SocketAddr) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut outside = acceptor.accept(stream).await?;
    let mut inside = TcpStream::connect(behind).await?;
    inside.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut outside, &mut inside, PIECE, PIECE).await?;
    Ok(())
}
